//! The rules of the contract, kept by the epoll driver on real sockets of the loopback interface.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use common::{Event, PATIENCE, Running, pattern, read_exactly};
use rustix::net::sockopt;
use weir_core::Address;
use weir_net::{Close, ConnectOptions, Io, IoFault, ListenerId, Piece, Sent};

/// Closing with this makes the kernel send RST.
fn reset(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[test]
fn connect_send_receive_half_close_both_ways() {
    let server = Running::start();
    let client = Running::start();
    let addr = server.listen();
    let out = client.connect(addr);
    client.connected(out);
    let Event::Accepted(inward, ListenerId(7), Some(peer)) = server.next() else { panic!("not accepted") };
    assert_eq!(client.ask(move |io| io.local(out)), Some(peer));
    assert_eq!(client.ask(move |io| io.peer(out)), Some(addr));

    assert_eq!(client.send(out, b"ping"), Sent::All);
    assert_eq!(server.data(inward, 4), b"ping");
    client.ask(move |io| io.shutdown_write(out));
    assert_eq!(server.next(), Event::Eof(inward));
    // The other direction still works.
    assert_eq!(server.send(inward, b"pong"), Sent::All);
    assert_eq!(client.data(out, 4), b"pong");
    assert!(matches!(client.send(out, b"late"), Sent::Failed { given: false, .. }));
    server.ask(move |io| io.close(inward, Close::Now));
    assert_eq!(client.next(), Event::Eof(out));
    client.ask(move |io| io.close(out, Close::Now));
    server.nothing();
    client.nothing();
    assert_eq!((server.ask(|io| io.connections()), client.ask(|io| io.connections())), (0, 0));
}

#[test]
fn stale_tokens_do_nothing() {
    let worker = Running::start();
    let (conn, mut stream) = worker.pair();
    worker.ask(move |io| io.close(conn, Close::Now));
    let (other, _kept) = worker.pair();
    assert_eq!(other.index, conn.index, "the slot is reused");
    let answers = worker.ask(move |io| {
        io.pause(conn);
        io.resume(conn);
        io.shutdown_write(conn);
        io.set_deadline(conn, Some(io.now()));
        io.close(conn, Close::Reset);
        let sent = io.send(conn, &mut [Piece::Lent(b"x")]);
        (sent, io.unsent(conn), io.is_quiet(conn), io.detach(conn).is_none(), io.peer(conn), io.pump(conn, other, None), io.pump(other, conn, None))
    });
    assert!(matches!(answers.0, Sent::Failed { given: false, .. }));
    assert_eq!((answers.1, answers.2, answers.3, answers.4, answers.5, answers.6), (0, false, true, None, false, false));
    worker.nothing();
    assert!(worker.ask(move |io| io.is_quiet(other)));
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn no_callback_after_close_within_a_callback() {
    // Closes in the first on_data; more data and the end are in the same batch.
    let worker = Running::with_hook(|io, event| {
        if let Event::Data(conn, _) = event {
            io.close(*conn, Close::Now);
        }
    });
    let addr = worker.listen();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(&pattern(300_000)[..]).or_else(|_| Ok::<_, std::io::Error>(())).unwrap();
        drop(stream);
        let conn = worker.accepted();
        assert!(matches!(worker.next(), Event::Data(from, _) if from == conn));
    }
    worker.nothing();
}

#[test]
fn pause_holds_data_and_eof_but_not_reset() {
    let worker = Running::with_hook(|io, event| {
        if let Event::Accepted(conn, ..) = event {
            io.pause(*conn);
        }
    });
    let (conn, mut stream) = worker.pair();
    stream.write_all(b"held").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    worker.nothing();
    worker.ask(move |io| io.resume(conn));
    assert_eq!(worker.data(conn, 4), b"held");
    assert_eq!(worker.next(), Event::Eof(conn));
    // A reset after the end is told, too.
    reset(stream);
    assert_eq!(worker.next(), Event::Reset(conn, IoFault::Reset));

    let (conn, mut stream) = worker.pair();
    stream.write_all(b"lost").unwrap();
    worker.nothing();
    reset(stream);
    assert_eq!(worker.next(), Event::Reset(conn, IoFault::Reset));
    assert_eq!(worker.ask(|io| io.connections()), 0);
}

#[test]
fn reset_comes_after_the_data_that_preceded_it() {
    let worker = Running::start();
    for _ in 0..20 {
        let (conn, mut stream) = worker.pair();
        stream.write_all(b"last words").unwrap();
        reset(stream);
        assert_eq!(worker.data(conn, 10), b"last words");
        assert_eq!(worker.next(), Event::Reset(conn, IoFault::Reset));
    }
}

#[test]
fn connect_refused_unreachable_and_no_such_file() {
    let worker = Running::start();
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let conn = worker.connect(addr);
    assert_eq!(worker.next(), Event::Connected(conn, Err(IoFault::Refused)));
    let conn = worker.connect_to(Address::parse("unix:/nowhere/at/all.sock").unwrap(), PATIENCE);
    assert_eq!(worker.next(), Event::Connected(conn, Err(IoFault::Unreachable)));
    // Not reported from within connect, and the token can be given back before the report.
    let (conn, fresh) = worker.ask(|io| {
        let to = Address::parse("unix:/nowhere/at/all.sock").unwrap();
        let options = ConnectOptions { timeout: PATIENCE };
        let conn = io.connect(&to, &options);
        io.close(conn, Close::Now);
        (conn, io.connect(&to, &options))
    });
    assert_ne!(conn, fresh);
    assert_eq!(worker.next(), Event::Connected(fresh, Err(IoFault::Unreachable)));
    worker.nothing();
    assert_eq!(worker.ask(|io| io.connections()), 0);
}

#[test]
fn deadlines_fire_once_never_early_and_can_be_moved_both_ways() {
    let worker = Running::start();
    let (conn, _stream) = worker.pair();
    for millis in [0, 1, 7, 30, 120] {
        let at = worker.ask(move |io| {
            let at = io.clock() + Duration::from_millis(millis);
            io.set_deadline(conn, Some(at));
            at
        });
        let Event::Deadline(_, fired) = worker.next() else { panic!("no deadline") };
        assert!(fired >= at, "early by {:?}", at - fired);
        assert!(fired - at < Duration::from_millis(500), "late by {:?}", fired - at);
    }
    // Later, then earlier, then cleared.
    let (start, at) = worker.ask(move |io| {
        io.set_deadline(conn, Some(io.now() + Duration::from_millis(5)));
        io.set_deadline(conn, Some(io.now() + Duration::from_secs(3_600)));
        io.set_deadline(conn, Some(io.now() + Duration::from_millis(40)));
        (io.now(), io.now() + Duration::from_millis(40))
    });
    let Event::Deadline(_, fired) = worker.next() else { panic!("no deadline") };
    assert!(fired >= at && at > start);
    worker.ask(move |io| {
        io.set_deadline(conn, Some(io.now() + Duration::from_millis(5)));
        io.set_deadline(conn, None);
        io.set_timer(1, Some(io.now() + Duration::from_millis(30)));
        io.set_timer(2, Some(io.now() + Duration::from_millis(10)));
        io.set_timer(3, Some(io.now() + Duration::from_millis(1)));
        io.set_timer(3, None);
    });
    assert!(matches!(worker.next(), Event::Timer(2, _)));
    assert!(matches!(worker.next(), Event::Timer(1, _)));
    worker.nothing();
}

#[test]
fn stuck_bytes_drain_in_order_then_the_half_close() {
    let worker = Running::start();
    let (conn, mut stream) = worker.pair();
    let bytes = pattern(8 << 20);
    let parts: Vec<Vec<u8>> = bytes.chunks(700_001).map(<[u8]>::to_vec).collect();
    let (results, unsent) = worker.ask(move |io| {
        let results: Vec<Sent> = parts
            .into_iter()
            .enumerate()
            .map(|(n, part)| {
                let (head, tail) = part.split_at(part.len() / 5);
                let mut pieces = [Piece::Lent(head), if n % 2 == 0 { Piece::Lent(tail) } else { Piece::Owned(tail.to_vec()) }];
                let sent = io.send(conn, &mut pieces);
                assert!(pieces.iter().all(|piece| matches!(piece, Piece::Lent(rest) if rest.is_empty())));
                sent
            })
            .collect();
        io.shutdown_write(conn);
        (results, io.unsent(conn))
    });
    assert_eq!(results.last(), Some(&Sent::Stuck));
    assert!(unsent > 0);
    worker.nothing();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == bytes);
    assert_eq!(worker.next(), Event::Drained(conn));
    assert_eq!(worker.ask(move |io| io.unsent(conn)), 0);
    worker.nothing();
}

#[test]
fn a_peer_that_resets_while_bytes_are_stuck() {
    let worker = Running::start();
    let (conn, mut stream) = worker.pair();
    stream.write_all(b"response").unwrap();
    assert_eq!(worker.data(conn, 8), b"response");
    assert_eq!(worker.send(conn, &pattern(8 << 20)), Sent::Stuck);
    reset(stream);
    assert_eq!(worker.next(), Event::Reset(conn, IoFault::Reset));
    worker.nothing();
    assert_eq!(worker.ask(|io| io.connections()), 0);
}

#[test]
fn a_failed_send_leaves_the_response_readable() {
    // The peer answers, closes and resets on further input: the answer is in our receive buffer.
    let worker = Running::with_hook(|io, event| {
        if let Event::Accepted(conn, ..) = event {
            io.pause(*conn);
        }
    });
    let (conn, mut stream) = worker.pair();
    stream.write_all(b"413 too large").unwrap();
    worker.send(conn, b"body");
    read_exactly(&mut stream, 1);
    drop(stream); // three unread bytes: RST
    assert_eq!(worker.next(), Event::Reset(conn, IoFault::Reset));

    let worker = Running::start();
    let (conn, mut stream) = worker.pair();
    stream.write_all(b"early answer").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(worker.data(conn, 12), b"early answer");
    assert_eq!(worker.next(), Event::Eof(conn));
    reset(stream);
    assert_eq!(worker.next(), Event::Reset(conn, IoFault::Reset));
    assert!(matches!(worker.send(conn, b"x"), Sent::Failed { given: false, .. }));
}
