//! The rules of the contract, kept by the epoll driver on real sockets of the loopback interface.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Event, PATIENCE, Running, pattern, read_exactly};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket, sockopt};
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
        (
            sent,
            io.unsent(conn),
            io.is_quiet(conn),
            io.detach(conn).is_none(),
            io.peer(conn),
            io.pump(conn, other, None),
            io.pump(other, conn, None),
        )
    });
    assert!(matches!(answers.0, Sent::Failed { given: false, .. }));
    assert_eq!(
        (answers.1, answers.2, answers.3, answers.4, answers.5, answers.6),
        (0, false, true, None, false, false)
    );
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
        // May fail: the worker closes after the first bytes.
        drop(stream.write_all(&pattern(300_000)));
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
        io.set_deadline(conn, Some(io.now() + Duration::from_hours(1)));
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
                let mut pieces =
                    [Piece::Lent(head), if n % 2 == 0 { Piece::Lent(tail) } else { Piece::Owned(tail.to_vec()) }];
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

#[test]
fn a_connect_that_nobody_answers_times_out() {
    // The kernel drops the SYN when the queue of the listening socket is full.
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
    listen(&fd, 0).unwrap();
    let listener = TcpListener::from(fd);
    let addr = listener.local_addr().unwrap();
    let worker = Running::start();
    let mut connected = Vec::new();
    for _ in 0..5 {
        let asked = worker.ask(|io| io.clock());
        let conn = worker.connect_to(Address::Inet(addr), Duration::from_millis(60));
        match worker.next() {
            Event::Connected(other, Ok(())) if other == conn => connected.push(conn),
            Event::Connected(other, Err(IoFault::TimedOut)) if other == conn => {
                assert!(worker.ask(|io| io.clock()).since(asked) >= Duration::from_millis(60));
                // The protocol's own deadline works while connecting, beside the time-out; and bytes sent
                // before wait for the connection.
                let conn = worker.connect_to(Address::Inet(addr), Duration::from_millis(300));
                worker.ask(move |io| {
                    io.set_deadline(conn, Some(io.now() + Duration::from_millis(20)));
                    assert_eq!(io.send(conn, &mut [Piece::Lent(b"early")]), Sent::Stuck);
                    assert_eq!((io.unsent(conn), io.is_quiet(conn)), (5, false));
                });
                assert!(matches!(worker.next(), Event::Deadline(other, _) if other == conn));
                assert_eq!(worker.next(), Event::Connected(conn, Err(IoFault::TimedOut)));
                worker.nothing();
                assert_eq!(worker.ask(|io| io.connections()), connected.len());
                return;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    panic!("the queue never filled");
}

#[test]
fn what_is_asked_while_connecting_happens_afterwards() {
    let worker = Running::start();
    let addr = worker.listen();
    let conn = worker.ask(move |io| {
        let conn = io.connect(&Address::Inet(addr), &ConnectOptions { timeout: PATIENCE });
        assert_eq!(io.send(conn, &mut [Piece::Lent(b"head"), Piece::Owned(b"+body".to_vec())]), Sent::Stuck);
        io.shutdown_write(conn);
        io.set_deadline(conn, Some(io.now() + Duration::from_millis(40)));
        conn
    });
    let mut events: Vec<Event> = (0..6).map(|_| worker.next()).collect();
    let inward =
        events.iter().find_map(|event| if let Event::Accepted(conn, ..) = event { Some(*conn) } else { None }).unwrap();
    let late = events.pop().unwrap();
    assert!(matches!(late, Event::Deadline(other, _) if other == conn));
    let own: Vec<&Event> = events.iter().filter(|event| event.conn() == Some(conn)).collect();
    assert_eq!(own, [&Event::Connected(conn, Ok(())), &Event::Drained(conn)]);
    assert!(events.contains(&Event::Data(inward, b"head+body".to_vec())));
    assert_eq!(events.last(), Some(&Event::Eof(inward)));
}

#[test]
fn unix_sockets_listen_connect_and_wait_for_a_full_backlog() {
    let folder = std::env::temp_dir().join(format!("weir-rules-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let unix = |name: &str| Address::Unix(Arc::from(folder.join(name)));

    let options = weir_net::ListenOptions { backlog: None, ipv6_only: true, unix_mode: 0o600 };
    let bound = weir_net::bind_listener(&unix("a"), 2, &options).unwrap();
    let workers = [Running::start(), Running::start()];
    for (worker, fd) in workers.iter().zip(bound.sockets) {
        worker.ask(move |io| io.add_listener(ListenerId(1), fd).unwrap());
    }
    // The socket is shared: when one worker stops listening, the other gets everything.
    workers[0].ask(|io| io.stop_listening(ListenerId(1)));
    let out = workers[0].connect_to(unix("a"), PATIENCE);
    workers[0].connected(out);
    assert!(matches!(workers[1].next(), Event::Accepted(_, ListenerId(1), None)));
    workers[1].ask(|io| io.stop_listening(ListenerId(1)));
    let refused = workers[0].connect_to(unix("a"), PATIENCE);
    assert_eq!(workers[0].next(), Event::Connected(refused, Err(IoFault::Refused)));
    workers[0].nothing();

    let fd = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddrUnix::new(folder.join("full")).unwrap()).unwrap();
    listen(&fd, 0).unwrap();
    let full = UnixListener::from(fd);
    let _first = UnixStream::connect(folder.join("full")).unwrap();
    let worker = &workers[1];
    let late = worker.connect_to(unix("full"), Duration::from_millis(40));
    assert_eq!(worker.next(), Event::Connected(late, Err(IoFault::TimedOut)));
    let waiting = worker.connect_to(unix("full"), PATIENCE);
    worker.nothing();
    full.accept().unwrap();
    worker.connected(waiting);
    let (mut other, _) = full.accept().unwrap();
    other.write_all(b"hello").unwrap();
    assert_eq!(worker.data(waiting, 5), b"hello");
    drop(other);
    assert_eq!(worker.next(), Event::Eof(waiting));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_lingering_close_delivers_the_response_to_a_peer_that_is_still_sending() {
    let worker = Running::with_hook(|io, event| {
        if let Event::Data(conn, _) = event {
            io.send(*conn, &mut [Piece::Owned(pattern(2 << 20))]);
            io.close(*conn, Close::Linger(PATIENCE));
        }
    });
    let (conn, mut stream) = worker.pair();
    let writing = {
        let mut stream = stream.try_clone().unwrap();
        std::thread::spawn(move || stream.write_all(&pattern(4 << 20)).map(|()| stream.shutdown(Shutdown::Write)))
    };
    assert!(matches!(worker.next(), Event::Data(other, _) if other == conn));
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == pattern(2 << 20));
    writing.join().unwrap().unwrap().unwrap();
    worker.nothing();
    while worker.ask(|io| io.connections()) > 0 {
        worker.round();
    }
}

#[test]
fn lingering_ends_after_its_time_and_a_reset_close_is_a_reset() {
    let worker = Running::start();
    let (conn, mut stream) = worker.pair();
    worker.ask(move |io| {
        io.send(conn, &mut [Piece::Lent(b"bye")]);
        io.close(conn, Close::Linger(Duration::from_millis(50)));
        assert!(matches!(io.send(conn, &mut [Piece::Lent(b"x")]), Sent::Failed { given: false, .. }));
        assert_eq!(io.connections(), 1);
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"bye");
    while worker.ask(|io| io.connections()) > 0 {
        worker.round();
    }
    // One that reads nothing is dropped, too, although bytes are stuck.
    let (conn, _stream) = worker.pair();
    worker.ask(move |io| {
        assert_eq!(io.send(conn, &mut [Piece::Owned(pattern(8 << 20))]), Sent::Stuck);
        io.close(conn, Close::Linger(Duration::from_millis(50)));
    });
    while worker.ask(|io| io.connections()) > 0 {
        worker.round();
    }
    let (conn, mut stream) = worker.pair();
    worker.ask(move |io| io.close(conn, Close::Reset));
    assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    worker.nothing();
}

#[test]
fn a_fast_sender_gets_a_bounded_turn() {
    let worker = Running::with_hook(|io, event| {
        if let Event::Accepted(conn, ..) = event {
            io.pause(*conn);
        }
    });
    let (fast, stream) = worker.pair();
    let (slow, mut small) = worker.pair();
    let flood = common::write_all_later(&stream, pattern(32 << 20));
    small.write_all(b"me too").unwrap();
    // Both are waiting in the kernel.
    while worker.ask(move |io| io.is_quiet(fast) || io.is_quiet(slow)) {}
    worker.ask(move |io| {
        io.resume(fast);
        io.resume(slow);
    });
    let (mut flooded, mut before) = (0, None);
    loop {
        match worker.next() {
            Event::Data(conn, bytes) if conn == fast => flooded += bytes.len(),
            Event::Data(conn, bytes) => {
                assert_eq!((conn, &bytes[..]), (slow, &b"me too"[..]));
                before = Some(flooded);
            }
            Event::Eof(conn) if conn == fast => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    flood.join().unwrap();
    assert_eq!(flooded, 32 << 20);
    assert!(before.is_some_and(|before| before <= 512 * 1024), "{before:?}");
}

#[test]
fn accepting_can_rest_and_go_on() {
    let worker = Running::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    worker.ask(move |io| {
        io.add_listener(ListenerId(3), OwnedFd::from(listener)).unwrap();
        io.set_accepting(ListenerId(3), false);
    });
    let _stream = TcpStream::connect(addr).unwrap();
    worker.nothing();
    worker.ask(|io| io.set_accepting(ListenerId(3), true));
    let conn = worker.accepted();
    assert!(worker.ask(move |io| io.is_quiet(conn)));
    worker.ask(|io| io.stop_listening(ListenerId(3)));
    assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn messages_of_each_thread_arrive_in_order() {
    const EACH: usize = 20_000;
    let worker = Running::start();
    let seen = Arc::new(Mutex::new(vec![Vec::new(); 3]));
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let (orders, seen) = (worker.orders.clone(), Arc::clone(&seen));
            std::thread::spawn(move || {
                for n in 0..EACH {
                    let seen = Arc::clone(&seen);
                    assert!(orders.post(Box::new(move |_| seen.lock().unwrap()[thread].push(n))).is_ok());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    worker.round();
    for numbers in seen.lock().unwrap().iter() {
        assert!(numbers.iter().copied().eq(0..EACH));
    }
}

#[test]
fn a_send_that_fails_says_so_and_what_was_received_is_still_delivered() {
    let worker = Running::start();
    for lost in [false, true] {
        let (conn, mut stream) = worker.pair();
        let sent = worker.ask(move |io| {
            // All of this happens between two looks of the loop at the kernel.
            stream.write_all(b"early answer").unwrap();
            reset(stream);
            let first = io.send(conn, &mut [Piece::Lent(b"request")]);
            if lost {
                io.pause(conn);
            }
            (first, io.send(conn, &mut [Piece::Lent(b"more")]))
        });
        let failed = Sent::Failed { fault: IoFault::Reset, given: false };
        assert_eq!(sent, (failed, failed));
        if !lost {
            assert_eq!(worker.data(conn, 12), b"early answer");
        }
        assert_eq!(worker.next(), Event::Reset(conn, IoFault::Reset));
        worker.nothing();
    }
}

#[test]
fn the_limit_of_connections_makes_new_ones_wait() {
    let worker = Running::bounded(2, |_, _| {});
    let addr = worker.listen();
    let streams: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let first = worker.accepted();
    worker.accepted();
    worker.nothing();
    worker.ask(move |io| io.close(first, Close::Now));
    let third = worker.accepted();
    assert_eq!(worker.ask(move |io| io.peer(third)), Some(streams[2].local_addr().unwrap()));
}
