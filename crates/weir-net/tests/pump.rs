//! Pumps: bulk bytes by splice, exact limits, half-closes both ways, and faults on either side.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use common::{Event, Running, pattern, read_exactly, write_all_later};
use weir_net::{Close, Io, PumpEnd};

const BULK: usize = 64 << 20;

fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
}

#[test]
fn bulk_both_ways_with_half_closes() {
    let worker = Running::with_hook(|io, event| {
        if let Event::Pumped(..) = event {
            assert_eq!(io.pumped(event.conn().unwrap()), 0);
        }
    });
    let (left, mut left_end) = worker.pair();
    let (right, mut right_end) = worker.pair();
    assert!(worker.ask(move |io| {
        // What was stuck before goes first.
        io.send(right, &mut [weir_net::Piece::Lent(b"head:")]);
        let refused = io.pump(left, right, None) && io.pump(right, left, None) && !io.pump(left, right, None);
        refused && !io.is_quiet(left) && io.detach(left).is_none()
    }));
    let bytes = pattern(BULK);
    let writing = write_all_later(&left_end, bytes.clone());
    assert_eq!(read_exactly(&mut right_end, 5), b"head:");
    assert!(read_exactly(&mut right_end, BULK) == bytes);
    assert_eq!(worker.next(), Event::Pumped(left, BULK as u64, PumpEnd::Eof));
    writing.join().unwrap();
    worker.ask(move |io| io.shutdown_write(right));
    assert_eq!(right_end.read(&mut [0; 1]).unwrap(), 0);
    // The other direction is still open.
    let writing = write_all_later(&right_end, bytes.clone());
    assert!(read_exactly(&mut left_end, BULK) == bytes);
    assert_eq!(worker.next(), Event::Pumped(right, BULK as u64, PumpEnd::Eof));
    writing.join().unwrap();
    worker.ask(move |io| io.close(left, Close::Linger(common::PATIENCE)));
    assert_eq!(left_end.read(&mut [0; 1]).unwrap(), 0);
    worker.ask(move |io| io.close(right, Close::Now));
    worker.nothing();
    assert_eq!(worker.ask(|io| io.connections()), 0);
}

#[test]
fn a_slow_sink_holds_the_source_back() {
    let worker = Running::start();
    let (from, from_end) = worker.pair();
    let (to, mut to_end) = worker.pair();
    worker.ask(move |io| assert!(io.pump(from, to, Some(BULK as u64))));
    let bytes = pattern(BULK);
    let writing = write_all_later(&from_end, bytes.clone());
    let mut got = Vec::new();
    let mut part = vec![0; 40_000];
    while got.len() < BULK {
        let n = to_end.read(&mut part).unwrap();
        assert!(n > 0);
        got.extend_from_slice(&part[..n]);
        if got.len() < 4_000_000 {
            worker.round_among(|event| panic!("nothing is due: {event:?}"));
        }
    }
    assert!(got == bytes);
    assert_eq!(worker.next(), Event::Pumped(from, BULK as u64, PumpEnd::Done));
    assert_eq!(worker.next(), Event::Eof(from));
    writing.join().unwrap();
}

#[test]
fn a_limit_stops_exactly_and_the_rest_comes_by_on_data() {
    let worker = Running::start();
    for limit in [0, 1, 1_000, 65_535, 65_536, 65_537, 200_000, 3_000_001] {
        let (from, mut from_end) = worker.pair();
        let (to, mut to_end) = worker.pair();
        worker.ask(move |io| io.pause(from));
        let bytes = pattern(limit + 777);
        let (head, tail) = (bytes[..limit].to_vec(), bytes[limit..].to_vec());
        let all = bytes.clone();
        let writing = std::thread::spawn(move || {
            from_end.write_all(&all).unwrap();
            from_end
        });
        worker.ask(move |io| {
            assert!(io.pump(from, to, Some(limit as u64)));
            io.resume(from);
        });
        assert!(read_exactly(&mut to_end, limit) == head, "{limit}");
        assert_eq!(worker.next(), Event::Pumped(from, limit as u64, PumpEnd::Done));
        assert_eq!(worker.data(from, 777), tail, "{limit}");
        let from_end = writing.join().unwrap();
        from_end.shutdown(Shutdown::Write).unwrap();
        assert_eq!(worker.next(), Event::Eof(from));
        // After the end there is nothing to pump.
        worker.ask(move |io| assert!(io.pump(from, to, None)));
        assert_eq!(worker.next(), Event::Pumped(from, 0, PumpEnd::Eof));
        worker.ask(move |io| {
            io.close(from, Close::Now);
            io.close(to, Close::Now);
        });
        assert_eq!(to_end.read(&mut [0; 1]).unwrap(), 0);
    }
    worker.nothing();
}

#[test]
fn the_source_breaks_after_its_bytes() {
    let worker = Running::start();
    let (from, mut from_end) = worker.pair();
    let (to, mut to_end) = worker.pair();
    worker.ask(move |io| io.pump(from, to, None));
    from_end.write_all(b"truncated").unwrap();
    assert_eq!(read_exactly(&mut to_end, 9), b"truncated");
    reset(from_end);
    assert_eq!(worker.next(), Event::Pumped(from, 9, PumpEnd::SourceFault(weir_net::IoFault::Reset)));
    worker.nothing();
    assert_eq!(worker.ask(|io| io.connections()), 1, "the source is gone, the sink is not");
    worker.ask(move |io| io.close(to, Close::Reset));
    assert!(to_end.read(&mut [0; 1]).is_err());
}

#[test]
fn the_sink_breaks_or_is_closed() {
    let worker = Running::start();
    let (from, mut from_end) = worker.pair();
    let (to, to_end) = worker.pair();
    worker.ask(move |io| io.pump(from, to, None));
    reset(to_end);
    let (mut pumped, mut broken) = (None, None);
    for _ in 0..2 {
        match worker.next() {
            Event::Pumped(conn, 0, end) if conn == from => pumped = Some(end),
            Event::Reset(conn, fault) if conn == to => broken = Some(fault),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(matches!(pumped, Some(PumpEnd::SinkFault(_))) && broken.is_some());
    from_end.write_all(b"still read").unwrap();
    assert_eq!(worker.data(from, 10), b"still read");

    let (to, _to_end) = worker.pair();
    worker.ask(move |io| {
        assert!(io.pump(from, to, None));
        io.close(to, Close::Now);
    });
    assert!(matches!(worker.next(), Event::Pumped(conn, 0, PumpEnd::SinkFault(_)) if conn == from));
    // Closing the source ends its pump without a word.
    let (to, _to_end) = worker.pair();
    worker.ask(move |io| {
        assert!(io.pump(from, to, None));
        io.close(from, Close::Now);
    });
    worker.nothing();
    assert!(worker.ask(move |io| io.is_quiet(to)));
}
