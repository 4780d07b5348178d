//! What is left after many connections, and when descriptors run out. One test, since it counts and
//! limits the descriptors of the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;

use common::{Event, Running};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use weir_net::{Close, Io, IoFault};

const CYCLES: usize = 10_000;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn ten_thousand_connections_and_no_descriptors() {
    // Answers each byte with one byte, then closes in one of several ways.
    let mut n = 0;
    let server = Running::with_hook(move |io, event| match event {
        Event::Data(conn, bytes) => {
            n += 1;
            io.send(*conn, &mut [weir_net::Piece::Lent(bytes)]);
            match n % 3 {
                0 => io.close(*conn, Close::Now),
                1 => io.close(*conn, Close::Linger(common::PATIENCE)),
                _ => {}
            }
        }
        Event::Eof(conn) => io.close(*conn, Close::Now),
        _ => {}
    });
    let addr = server.listen();
    let cycle = || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut [0; 2]).unwrap(), 1);
    };
    let all_closed = || {
        while server.ask(|io| io.connections()) > 0 {
            server.round_among(drop);
        }
    };
    cycle();
    all_closed();
    let before = descriptors();
    for n in 0..CYCLES {
        cycle();
        if n % 100 == 0 {
            while server.events.try_recv().is_ok() {}
        }
    }
    all_closed();
    assert_eq!(descriptors(), before);

    // Descriptors run out: nothing spins or stops; when there are some again, the waiting client is served.
    while server.events.try_recv().is_ok() {}
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let full = 64 + descriptors() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(full), maximum }).unwrap();
    let mut stream = None;
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        if stream.is_none() && hoard.len() == 20 {
            stream = Some(file);
            continue;
        }
        hoard.push(file);
    }
    // One descriptor for the client, none for the server.
    drop(stream.take());
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"x").unwrap();
    let refused = server.connect(addr);
    assert_eq!(server.next(), Event::Connected(refused, Err(IoFault::Exhausted)));
    assert_eq!(server.ask(|io| io.connections()), 0, "nothing could be accepted");
    drop(hoard);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0; 2]).unwrap(), 1);
    drop(stream);
    all_closed();
    // The one held in reserve may have been given up and taken again: it counts as before.
    assert_eq!(descriptors(), before);
}
