//! One test per promise of the contract. The checks that hold for every callback are in `Checked`, which
//! surrounds each actor.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_core::Instant;
use weir_net::{Close, ConnectOptions, IoFault, Piece, PumpEnd, Sent};

use crate::actor::Event;
use crate::stage::{LISTENER, SOON, Stage, WHILE};

/// Calls the macro with the names of all rules.
macro_rules! for_each_rule {
    ($then:ident) => {
        $then! {
            a_refusal_is_reported_later_and_ends_the_token
            stale_tokens_do_nothing
            nothing_is_called_after_close
            pause_holds_data_and_the_end
            pause_does_not_hold_a_reset
            bytes_arrive_once_and_in_order_before_the_end
            deadlines_and_timers_are_never_early
            a_deadline_moves_and_is_cleared
            stuck_bytes_are_written_in_order_and_drained_once
            the_end_follows_stuck_bytes
            sending_to_a_closed_peer_fails_in_the_end
            a_connection_is_quiet_until_something_is_there_to_read
            half_close_works_both_ways
            closing_with_unread_input_resets
            lingering_lets_the_peer_read_the_last_bytes
            lingering_gives_a_slow_reader_more_time_than_a_fin
            closing_with_reset_resets
            a_pump_moves_exactly_its_limit
            a_pump_ends_with_its_source
            a_pump_writes_behind_stuck_bytes
            a_pump_tells_of_a_broken_source
            a_pump_tells_of_a_broken_sink
            pumps_work_in_both_directions_at_once
            a_pump_is_refused_where_it_cannot_be
            what_is_sent_before_the_connection_is_made_follows_it
            a_lingering_connection_is_counted_until_it_is_over
            a_detached_connection_goes_on_elsewhere
            a_dropped_detached_connection_is_closed
            a_busy_connection_is_not_detached
            accepting_can_wait
            a_closed_listener_refuses
            addresses_agree
            messages_are_delivered_after_the_end_and_then_refused
        }
    };
}
pub(crate) use for_each_rule;

/// Bytes that show when one is missing, doubled or misplaced.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

// === rules 1 and 2: later, and by token ===

pub(crate) fn a_refusal_is_reported_later_and_ends_the_token(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    stage.ask(&server, |io| io.stop_listening(LISTENER));
    let conn = stage.start_connect(&client, &server.address);
    stage.wait_for(&client, &Event::Connected(conn, Err(IoFault::Refused)));
    let sent = stage.send(&client, conn, b"x");
    assert!(matches!(sent, Sent::Failed { given: false, .. }), "{sent:?}");
}

pub(crate) fn stale_tokens_do_nothing(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let (old, _) = stage.connect(&client, &server);
    stage.ask(&client, move |io| {
        io.close(old, Close::Now);
        let sent = io.send(old, &mut [Piece::Lent(b"x")]);
        assert!(matches!(sent, Sent::Failed { given: false, .. }), "{sent:?}");
        assert_eq!(io.unsent(old), 0);
        assert_eq!(io.pumped(old), 0);
        assert!(!io.is_quiet(old));
        assert!(!io.pump(old, old, None));
        assert!(io.detach(old).is_none());
        assert_eq!(io.local(old), None);
        assert_eq!(io.peer(old), None);
    });
    // The next connection may well get the same slot: the old token must not reach it.
    let (new, other) = stage.connect(&client, &server);
    assert_ne!(old, new);
    stage.ask(&client, move |io| {
        io.set_deadline(old, Some(io.now()));
        io.pause(old);
        io.shutdown_write(old);
        io.close(old, Close::Reset);
    });
    stage.send(&server, other, b"still here");
    assert_eq!(stage.wait_bytes(&client, new, 10), b"still here");
    stage.send(&client, new, b"indeed");
    assert_eq!(stage.wait_bytes(&server, other, 6), b"indeed");
    assert_eq!(client.count(&Event::Deadline(old)), 0);
    assert_eq!(client.count(&Event::Deadline(new)), 0);
}

pub(crate) fn nothing_is_called_after_close(stage: &mut Stage) {
    let client = stage.host();
    let server = stage.reacting(|io, event| {
        if let Event::Data(conn) = event {
            io.set_deadline(*conn, Some(io.now()));
            io.close(*conn, Close::Now);
        }
    });
    let (conn, other) = stage.connect(&client, &server);
    stage.send(&client, conn, &pattern(300_000));
    stage.wait(&client, |events| events.iter().any(|e| ends(e, conn)).then_some(()));
    stage.pass(WHILE);
    let after = server.events().iter().filter(|event| matches!(event, Event::Data(..))).count();
    assert_eq!(after, 1, "one on_data, then nothing");
    assert_eq!(server.count(&Event::Deadline(other)), 0);
}

fn ends(event: &Event, conn: weir_net::ConnId) -> bool {
    matches!(event, Event::Reset(id, _) | Event::Eof(id) if *id == conn)
}

// === rules 3 and 4: flow and order ===

pub(crate) fn pause_holds_data_and_the_end(stage: &mut Stage) {
    let client = stage.host();
    let server = stage.reacting(|io, event| {
        if let Event::Accepted(conn, _) = event {
            io.pause(*conn);
        }
    });
    let (conn, other) = stage.connect(&client, &server);
    stage.ask(&client, move |io| {
        io.send(conn, &mut [Piece::Lent(b"held")]);
        io.shutdown_write(conn);
    });
    stage.pass(WHILE);
    assert_eq!(server.events().len(), 1, "only on_accepted");
    stage.ask(&server, move |io| io.resume(other));
    stage.wait_for(&server, &Event::Eof(other));
    assert_eq!(server.received(other), b"held");
    assert_eq!(server.count(&Event::Eof(other)), 1);
}

pub(crate) fn pause_does_not_hold_a_reset(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    stage.ask(&server, move |io| io.pause(other));
    stage.ask(&client, move |io| {
        io.send(conn, &mut [Piece::Lent(b"lost")]);
        io.close(conn, Close::Reset);
    });
    stage.wait_for(&server, &Event::Reset(other, IoFault::Reset));
    assert!(server.received(other).is_empty());
}

pub(crate) fn bytes_arrive_once_and_in_order_before_the_end(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    let bytes = pattern(200_000);
    let sent = bytes.clone();
    stage.ask(&client, move |io| {
        let (front, back) = sent.split_at(70_001);
        let mut pieces = [Piece::Lent(&front[..1]), Piece::Owned(front[1..].to_vec()), Piece::Lent(b"")];
        io.send(conn, &mut pieces);
        io.send(conn, &mut [Piece::Lent(back)]);
        io.shutdown_write(conn);
    });
    stage.wait_for(&server, &Event::Eof(other));
    assert!(server.received(other) == bytes, "got {} bytes", server.received_len(other));
    let last = server.events().pop();
    assert_eq!(last, Some(Event::Eof(other)), "the end comes after all data");
}

// === rule 5: time ===

pub(crate) fn deadlines_and_timers_are_never_early(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let (conn, _) = stage.connect(&client, &server);
    let span = Duration::from_millis;
    let start: Instant = stage.ask(&client, move |io| {
        let now = io.now();
        io.set_deadline(conn, Some(now + span(25)));
        io.set_timer(3, Some(now + span(5)));
        io.set_timer(4, Some(now + span(40)));
        now
    });
    for (event, after) in [(Event::Timer(3), 5), (Event::Deadline(conn), 25), (Event::Timer(4), 40)] {
        stage.wait_for(&client, &event);
        let log = &client.log.lock().unwrap().events;
        let at = log.iter().find(|(_, other)| *other == event).map(|(at, _)| *at).unwrap();
        assert!(at >= start + span(after), "{event:?} was early, at {at:?}");
        assert!(at <= start + span(after) + stage.late_max(), "{event:?} was late, at {at:?}");
    }
    stage.pass(WHILE);
    assert_eq!(client.count(&Event::Deadline(conn)), 1);
    assert_eq!(client.count(&Event::Timer(3)), 1);
}

pub(crate) fn a_deadline_moves_and_is_cleared(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let (conn, _) = stage.connect(&client, &server);
    let (cleared, _) = stage.connect(&client, &server);
    let (sooner, _) = stage.connect(&client, &server);
    let span = Duration::from_millis;
    let start = stage.ask(&client, move |io| {
        let now = io.now();
        io.set_deadline(conn, Some(now + span(5)));
        io.set_deadline(conn, Some(now + span(30)));
        io.set_deadline(cleared, Some(now + span(5)));
        io.set_deadline(cleared, None);
        io.set_deadline(sooner, Some(now + span(3_600_000)));
        io.set_deadline(sooner, Some(now + span(10)));
        io.set_timer(1, Some(now + span(5)));
        io.set_timer(1, None);
        now
    });
    stage.wait_for(&client, &Event::Deadline(conn));
    stage.wait_for(&client, &Event::Deadline(sooner));
    stage.pass(WHILE);
    let log = &client.log.lock().unwrap().events;
    let at = |wanted: Event| log.iter().filter(|(_, event)| *event == wanted).map(|(at, _)| *at).collect();
    let moved: Vec<Instant> = at(Event::Deadline(conn));
    assert_eq!(moved.len(), 1);
    assert!(moved[0] >= start + span(30));
    let none: Vec<Instant> = at(Event::Deadline(cleared));
    assert!(none.is_empty());
    let none: Vec<Instant> = at(Event::Timer(1));
    assert!(none.is_empty());
}

// === rule 6: writes ===

pub(crate) fn stuck_bytes_are_written_in_order_and_drained_once(stage: &mut Stage) {
    let much = stage.much();
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    stage.ask(&server, move |io| io.pause(other));
    let bytes = pattern(much);
    let sent = bytes.clone();
    stage.ask(&client, move |io| {
        assert_eq!(io.send(conn, &mut [Piece::Lent(&sent[..much - 5])]), Sent::Stuck);
        let unsent = io.unsent(conn);
        assert!(unsent > 0);
        assert_eq!(io.send(conn, &mut [Piece::Lent(&sent[much - 5..])]), Sent::Stuck);
        assert_eq!(io.unsent(conn), unsent + 5, "queued behind what is stuck");
    });
    stage.pass(WHILE);
    assert_eq!(client.count(&Event::Drained(conn)), 0);
    stage.ask(&server, move |io| io.resume(other));
    stage.wait_for(&client, &Event::Drained(conn));
    assert!(stage.wait_bytes(&server, other, much) == bytes, "every byte once, in order");
    stage.pass(WHILE);
    assert_eq!(client.count(&Event::Drained(conn)), 1);
    assert_eq!(stage.ask(&client, move |io| io.unsent(conn)), 0);
}

pub(crate) fn the_end_follows_stuck_bytes(stage: &mut Stage) {
    let much = stage.much();
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    stage.ask(&server, move |io| io.pause(other));
    let bytes = pattern(much);
    stage.ask(&client, move |io| {
        assert_eq!(io.send(conn, &mut [Piece::Owned(bytes)]), Sent::Stuck);
        io.shutdown_write(conn);
        let sent = io.send(conn, &mut [Piece::Lent(b"late")]);
        assert!(matches!(sent, Sent::Failed { given: false, .. }), "nothing follows a half-close: {sent:?}");
    });
    stage.ask(&server, move |io| io.resume(other));
    stage.wait_for(&server, &Event::Eof(other));
    assert_eq!(server.received_len(other), much);
}

pub(crate) fn sending_to_a_closed_peer_fails_in_the_end(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    stage.ask(&server, move |io| io.close(other, Close::Now));
    stage.wait_for(&client, &Event::Eof(conn));
    for _ in 0..1_000 {
        let failed = matches!(stage.send(&client, conn, b"x"), Sent::Failed { given: false, .. });
        if failed || client.is_reset(conn) {
            return;
        }
        stage.pass(Duration::from_millis(1));
    }
    panic!("neither send nor on_reset told");
}

// === is_quiet, half-close, close ===

pub(crate) fn a_connection_is_quiet_until_something_is_there_to_read(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let noises: [fn(&mut dyn weir_net::Io, weir_net::ConnId); 3] = [
        |io, conn| {
            io.send(conn, &mut [Piece::Lent(b"x")]);
        },
        |io, conn| io.close(conn, Close::Now),
        |io, conn| io.close(conn, Close::Reset),
    ];
    for noise in noises {
        let (conn, other) = stage.connect(&client, &server);
        // Paused, as a pool's idle connection may be: the question is about the kernel.
        stage.ask(&client, move |io| io.pause(conn));
        assert!(stage.ask(&client, move |io| io.is_quiet(conn)));
        stage.ask(&server, move |io| noise(io, other));
        stage.ask_until(&client, &false, move |io| io.is_quiet(conn));
    }
}

pub(crate) fn half_close_works_both_ways(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    stage.ask(&client, move |io| {
        io.send(conn, &mut [Piece::Lent(b"question")]);
        io.shutdown_write(conn);
    });
    stage.wait_for(&server, &Event::Eof(other));
    assert_eq!(server.received(other), b"question");
    let answer = pattern(100_000);
    stage.send(&server, other, &answer);
    assert!(stage.wait_bytes(&client, conn, answer.len()) == answer);
    stage.ask(&server, move |io| io.shutdown_write(other));
    stage.wait_for(&client, &Event::Eof(conn));
    stage.ask(&client, move |io| io.close(conn, Close::Now));
    stage.ask(&server, move |io| io.close(other, Close::Now));
    stage.pass(WHILE);
    assert!(!client.is_reset(conn));
    assert!(!server.is_reset(other));
}

pub(crate) fn closing_with_unread_input_resets(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    stage.ask(&server, move |io| io.pause(other));
    stage.send(&client, conn, b"unread");
    stage.ask_until(&server, &false, move |io| io.is_quiet(other));
    stage.ask(&server, move |io| io.close(other, Close::Now));
    stage.wait_for(&client, &Event::Reset(conn, IoFault::Reset));
}

pub(crate) fn lingering_lets_the_peer_read_the_last_bytes(stage: &mut Stage) {
    let much = stage.much();
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    stage.ask(&server, move |io| io.pause(other));
    stage.send(&client, conn, b"unread");
    stage.ask_until(&server, &false, move |io| io.is_quiet(other));
    let last = pattern(much);
    stage.ask(&server, move |io| {
        io.send(other, &mut [Piece::Owned(last)]);
        io.close(other, Close::Linger(SOON));
    });
    stage.send(&client, conn, b"more of it");
    stage.wait_for(&client, &Event::Eof(conn));
    assert!(client.received(conn) == pattern(much));
    assert!(!client.is_reset(conn));
}

/// Guards against giving up stuck bytes after the time that is for the peer's end: at first, and after some were taken.
pub(crate) fn lingering_gives_a_slow_reader_more_time_than_a_fin(stage: &mut Stage) {
    const LINGER: Duration = Duration::from_millis(400);
    let much = stage.much();
    // Some is read then, so that there is room for some of what is stuck.
    let enough = much / 200_000;
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let client = stage.reacting(move |io, event| {
        if let Event::Data(conn) = *event
            && counter.fetch_add(1, Ordering::Relaxed) + 1 == enough
        {
            io.pause(conn);
        }
    });
    let server = stage.host();
    let (conn, other) = stage.connect(&client, &server);
    stage.ask(&client, move |io| io.pause(conn));
    stage.ask(&server, move |io| {
        assert_eq!(io.send(other, &mut [Piece::Owned(pattern(much))]), Sent::Stuck);
        io.close(other, Close::Linger(LINGER));
    });
    stage.pass(2 * LINGER);
    stage.ask(&client, move |io| io.resume(conn));
    stage.wait(&client, |_| (seen.load(Ordering::Relaxed) >= enough).then_some(()));
    stage.pass(2 * LINGER);
    stage.ask(&client, move |io| io.resume(conn));
    stage.wait_for(&client, &Event::Eof(conn));
    assert!(client.received(conn) == pattern(much));
    // And no longer than that for the end.
    stage.ask_until(&server, &0, |io| io.lingering());
}

pub(crate) fn closing_with_reset_resets(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    stage.ask(&server, move |io| io.close(other, Close::Reset));
    stage.wait_for(&client, &Event::Reset(conn, IoFault::Reset));
    assert_eq!(client.count(&Event::Eof(conn)), 0);
}

// === pumps ===

/// A source, a middle and a sink: the tokens of source, middle (two) and sink.
struct Chain {
    source: crate::stage::Host,
    middle: crate::stage::Host,
    sink: crate::stage::Host,
    first: weir_net::ConnId,
    from: weir_net::ConnId,
    to: weir_net::ConnId,
    last: weir_net::ConnId,
}

fn chain(stage: &mut Stage) -> Chain {
    let (source, middle, sink) = (stage.host(), stage.host(), stage.host());
    let (first, from) = stage.connect(&source, &middle);
    let (to, last) = stage.connect(&middle, &sink);
    Chain { source, middle, sink, first, from, to, last }
}

pub(crate) fn a_pump_moves_exactly_its_limit(stage: &mut Stage) {
    let Chain { source, middle, sink, first, from, to, last } = chain(stage);
    assert!(stage.ask(&middle, move |io| io.pump(from, to, Some(100_000))));
    let mut bytes = pattern(100_000);
    bytes.extend_from_slice(b"tail");
    stage.send(&source, first, &bytes[..60_000]);
    stage.wait_bytes(&sink, last, 60_000);
    stage.ask_until(&middle, &60_000, move |io| io.pumped(from));
    assert_eq!(middle.received_len(from), 0, "the pump reads, not the protocol");
    stage.send(&source, first, &bytes[60_000..]);
    stage.wait_for(&middle, &Event::Pumped(from, 100_000, PumpEnd::Done));
    assert_eq!(stage.wait_bytes(&middle, from, 4), b"tail");
    assert!(stage.wait_bytes(&sink, last, 100_000) == bytes[..100_000]);
    stage.pass(WHILE);
    assert_eq!(sink.received_len(last), 100_000);
    assert_eq!(stage.ask(&middle, move |io| io.pumped(from)), 0);
}

pub(crate) fn a_pump_ends_with_its_source(stage: &mut Stage) {
    let much = stage.much();
    let Chain { source, middle, sink, first, from, to, last } = chain(stage);
    assert!(stage.ask(&middle, move |io| io.pump(from, to, None)));
    let bytes = pattern(much);
    let sent = bytes.clone();
    stage.ask(&source, move |io| {
        io.send(first, &mut [Piece::Owned(sent)]);
        io.shutdown_write(first);
    });
    stage.wait_for(&middle, &Event::Pumped(from, much as u64, PumpEnd::Eof));
    stage.ask(&middle, move |io| io.shutdown_write(to));
    stage.wait_for(&sink, &Event::Eof(last));
    assert!(sink.received(last) == bytes);
    stage.pass(WHILE);
    assert_eq!(middle.count(&Event::Eof(from)), 0, "on_pumped has told of the end");
}

pub(crate) fn a_pump_writes_behind_stuck_bytes(stage: &mut Stage) {
    let much = stage.much();
    let Chain { source, middle, sink, first, from, to, last } = chain(stage);
    stage.ask(&sink, move |io| io.pause(last));
    stage.ask(&middle, move |io| {
        assert_eq!(io.send(to, &mut [Piece::Owned(pattern(much))]), Sent::Stuck);
        assert!(io.pump(from, to, Some(5)));
    });
    stage.send(&source, first, b"after");
    stage.pass(WHILE);
    stage.ask(&sink, move |io| io.resume(last));
    stage.wait_for(&middle, &Event::Pumped(from, 5, PumpEnd::Done));
    assert_eq!(middle.count(&Event::Drained(to)), 1);
    let got = stage.wait_bytes(&sink, last, much + 5);
    assert!(got[..much] == pattern(much));
    assert_eq!(&got[much..], b"after");
}

pub(crate) fn a_pump_tells_of_a_broken_source(stage: &mut Stage) {
    let Chain { source, middle, first, from, to, .. } = chain(stage);
    assert!(stage.ask(&middle, move |io| io.pump(from, to, None)));
    stage.ask(&source, move |io| io.close(first, Close::Reset));
    stage.wait_for(&middle, &Event::Pumped(from, 0, PumpEnd::SourceFault(IoFault::Reset)));
    assert!(!stage.ask(&middle, move |io| io.is_quiet(from)), "the token is stale");
    stage.pass(WHILE);
    assert!(!middle.is_reset(from), "on_pumped has told");
    assert!(stage.ask(&middle, move |io| io.is_quiet(to)), "the sink is as it was");
}

pub(crate) fn a_pump_tells_of_a_broken_sink(stage: &mut Stage) {
    let Chain { source, middle, sink, first, from, to, last } = chain(stage);
    assert!(stage.ask(&middle, move |io| io.pump(from, to, None)));
    stage.ask(&sink, move |io| io.close(last, Close::Reset));
    let mut end = None;
    for _ in 0..1_000 {
        // A driver may find out only by writing.
        stage.send(&source, first, b"more");
        stage.pass(Duration::from_millis(2));
        end = middle.events().into_iter().find_map(|event| match event {
            Event::Pumped(conn, _, end) if conn == from => Some(end),
            _ => None,
        });
        if end.is_some() {
            break;
        }
    }
    assert!(matches!(end, Some(PumpEnd::SinkFault(_))), "{end:?}");
    // The source is read by callbacks again.
    let before = middle.received_len(from);
    stage.send(&source, first, b"again");
    stage.wait_bytes(&middle, from, before + 5);
}

pub(crate) fn pumps_work_in_both_directions_at_once(stage: &mut Stage) {
    let Chain { source, middle, sink, first, from, to, last } = chain(stage);
    assert!(stage.ask(&middle, move |io| io.pump(from, to, None) && io.pump(to, from, None)));
    let (there, back) = (pattern(700_000), pattern(300_000));
    stage.send(&source, first, &there);
    stage.send(&sink, last, &back);
    assert!(stage.wait_bytes(&sink, last, there.len()) == there);
    assert!(stage.wait_bytes(&source, first, back.len()) == back);
    stage.ask(&source, move |io| io.shutdown_write(first));
    stage.wait_for(&middle, &Event::Pumped(from, 700_000, PumpEnd::Eof));
    stage.ask(&middle, move |io| io.shutdown_write(to));
    stage.wait_for(&sink, &Event::Eof(last));
    // The other direction is unaffected.
    stage.send(&sink, last, b"bye");
    stage.wait_bytes(&source, first, back.len() + 3);
    stage.ask(&sink, move |io| io.close(last, Close::Now));
    stage.wait_for(&middle, &Event::Pumped(to, 300_003, PumpEnd::Eof));
}

pub(crate) fn a_pump_is_refused_where_it_cannot_be(stage: &mut Stage) {
    let Chain { middle, from, to, .. } = chain(stage);
    stage.ask(&middle, move |io| {
        assert!(io.pump(from, to, None));
        assert!(!io.pump(from, to, None), "it is being pumped");
        assert!(!io.pump(to, to, None), "another pump writes to the sink");
        io.close(from, Close::Now);
        assert!(!io.pump(from, to, None), "stale");
        assert!(!io.pump(to, from, None), "stale");
    });
}

pub(crate) fn what_is_sent_before_the_connection_is_made_follows_it(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let to = server.address.clone();
    let conn = stage.ask(&client, move |io| {
        let conn = io.connect(&to, &ConnectOptions { timeout: SOON });
        assert_eq!(io.send(conn, &mut [Piece::Lent(b"early ")]), Sent::Stuck);
        assert_eq!(io.send(conn, &mut [Piece::Owned(b"bird".to_vec())]), Sent::Stuck);
        conn
    });
    stage.wait_for(&client, &Event::Connected(conn, Ok(())));
    stage.wait_for(&client, &Event::Drained(conn));
    let other = stage.wait(&server, |events| {
        events.iter().find_map(|event| match event {
            Event::Accepted(conn, _) => Some(*conn),
            _ => None,
        })
    });
    assert_eq!(stage.wait_bytes(&server, other, 10), b"early bird");
}

pub(crate) fn a_lingering_connection_is_counted_until_it_is_over(stage: &mut Stage) {
    let much = stage.much();
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    stage.ask(&client, move |io| io.pause(conn));
    let lingering = stage.ask(&server, move |io| {
        io.send(other, &mut [Piece::Owned(pattern(much))]);
        assert_eq!(io.lingering(), 0);
        io.close(other, Close::Linger(SOON));
        io.lingering()
    });
    assert_eq!(lingering, 1);
    stage.ask(&client, move |io| io.resume(conn));
    stage.wait_for(&client, &Event::Eof(conn));
    stage.ask(&client, move |io| io.close(conn, Close::Now));
    stage.ask_until(&server, &0, |io| io.lingering());
}

// === moving, listening, addresses ===

pub(crate) fn a_detached_connection_goes_on_elsewhere(stage: &mut Stage) {
    let (client, server, other_server) = (stage.host(), stage.host(), stage.host());
    let (conn, old) = stage.connect(&client, &server);
    stage.send(&client, conn, b"one ");
    stage.wait_bytes(&server, old, 4);
    stage.ask(&server, move |io| io.pause(old));
    stage.send(&client, conn, b"two ");
    let detached = stage.ask(&server, move |io| io.detach(old)).expect("not busy");
    assert!(!stage.ask(&server, move |io| io.is_quiet(old)), "the token is stale");
    stage.send(&client, conn, b"three");
    let new = stage.ask(&other_server, move |io| io.attach(detached)).expect("adopted");
    assert_eq!(stage.wait_bytes(&other_server, new, 9), b"two three");
    stage.send(&other_server, new, b"answer");
    assert_eq!(stage.wait_bytes(&client, conn, 6), b"answer");
    stage.ask(&client, move |io| io.shutdown_write(conn));
    stage.wait_for(&other_server, &Event::Eof(new));
    assert_eq!(server.received(old), b"one ");
}

pub(crate) fn a_dropped_detached_connection_is_closed(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    let detached = stage.ask(&server, move |io| io.detach(other)).expect("not busy");
    drop(detached);
    stage.wait_for(&client, &Event::Eof(conn));
}

pub(crate) fn a_busy_connection_is_not_detached(stage: &mut Stage) {
    let much = stage.much();
    let Chain { sink, middle, from, to, last, .. } = chain(stage);
    stage.ask(&sink, move |io| io.pause(last));
    stage.ask(&middle, move |io| {
        io.pump(from, to, None);
        assert!(io.detach(from).is_none(), "a pump reads it");
        assert!(io.detach(to).is_none(), "a pump writes to it");
        io.close(from, Close::Now);
        io.send(to, &mut [Piece::Owned(pattern(much))]);
        assert!(io.detach(to).is_none(), "bytes are unsent");
    });
}

pub(crate) fn accepting_can_wait(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    stage.ask(&server, |io| io.set_accepting(LISTENER, false));
    let conn = stage.start_connect(&client, &server.address);
    stage.pass(WHILE);
    assert!(server.accepted().is_empty());
    stage.ask(&server, |io| io.set_accepting(LISTENER, true));
    stage.wait_for(&client, &Event::Connected(conn, Ok(())));
    stage.wait(&server, |events| (!events.is_empty()).then_some(()));
}

pub(crate) fn a_closed_listener_refuses(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    stage.ask(&server, |io| io.stop_listening(LISTENER));
    let results = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&results);
    let late = stage.reacting(move |_, event| {
        if matches!(event, Event::Connected(_, Err(IoFault::Refused))) {
            *seen.lock().unwrap() += 1;
        }
    });
    let to = server.address.clone();
    stage.ask(&late, move |io| {
        for _ in 0..3 {
            io.connect(&to, &ConnectOptions { timeout: SOON });
        }
    });
    stage.wait(&late, |_| (*results.lock().unwrap() == 3).then_some(()));
    // What was accepted stays.
    stage.send(&server, other, b"here");
    assert_eq!(stage.wait_bytes(&client, conn, 4), b"here");
}

pub(crate) fn addresses_agree(stage: &mut Stage) {
    let (client, server) = (stage.host(), stage.host());
    let (conn, other) = stage.connect(&client, &server);
    let [local, peer] = stage.ask(&client, move |io| [io.local(conn), io.peer(conn)]);
    let [far_local, far_peer] = stage.ask(&server, move |io| [io.local(other), io.peer(other)]);
    assert_eq!(peer, server.address.inet());
    assert_eq!(far_local, peer);
    assert!(local.is_some());
    assert_eq!(far_peer, local);
    assert_eq!(server.events().first(), Some(&Event::Accepted(other, local)));
}

// === rule 7: messages ===

pub(crate) fn messages_are_delivered_after_the_end_and_then_refused(stage: &mut Stage) {
    let host = stage.host();
    let (delivered, sender) = (Arc::new(Mutex::new(0)), host.sender());
    let count = Arc::clone(&delivered);
    stage.ask(&host, move |io| {
        io.stop();
        // Into its own mailbox, which it has just been through.
        for _ in 0..3 {
            let count = Arc::clone(&count);
            sender.post(Box::new(move |_| *count.lock().unwrap() += 1)).unwrap_or_else(|_| panic!("it is open"));
        }
    });
    stage.wait_until("the messages are delivered", || *delivered.lock().unwrap() == 3);
    stage.wait_until("the mailbox is closed", || host.sender().post(Box::new(|_| {})).is_err());
}
