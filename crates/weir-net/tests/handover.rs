//! An idle connection is moved between two workers and goes on working.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::sync::mpsc::channel;

use common::{Event, Running, read_exactly};
use weir_net::{Close, Detached, Io, Sent};

fn move_over(from: &Running, to: &Running, conn: weir_net::ConnId, meanwhile: impl FnOnce()) -> weir_net::ConnId {
    let (parcel, arrived) = channel::<Detached>();
    from.ask(move |io| parcel.send(io.detach(conn).expect("idle")).unwrap());
    meanwhile();
    let parcel = arrived.recv().unwrap();
    to.ask(move |io| io.attach(parcel).expect("attached"))
}

#[test]
fn a_moved_connection_keeps_its_bytes_and_its_end() {
    let (first, second) = (Running::start(), Running::start());
    let (here, mut stream) = first.pair();
    stream.write_all(b"one").unwrap();
    assert_eq!(first.data(here, 3), b"one");

    // Bytes that arrive while it belongs to nobody are reported by the new worker.
    let mut other = stream.try_clone().unwrap();
    let there = move_over(&first, &second, here, move || {
        other.write_all(b"two").unwrap();
    });
    assert_eq!(second.data(there, 3), b"two");
    assert_eq!(second.ask(move |io| io.peer(there)), Some(stream.local_addr().unwrap()));
    assert_eq!(second.send(there, b"three"), Sent::All);
    assert_eq!(read_exactly(&mut stream, 5), b"three");

    // And back, with the end on its way.
    let other = stream.try_clone().unwrap();
    let back = move_over(&second, &first, there, move || {
        other.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert_eq!(first.next(), Event::Eof(back));
    assert_eq!(first.send(back, b"four"), Sent::All);
    assert_eq!(read_exactly(&mut stream, 4), b"four");
    assert_eq!((first.ask(|io| io.connections()), second.ask(|io| io.connections())), (1, 0));
    first.nothing();
    second.nothing();
}

#[test]
fn a_busy_or_dropped_connection() {
    let worker = Running::start();
    let (conn, mut stream) = worker.pair();
    assert_eq!(worker.send(conn, &common::pattern(8 << 20)), Sent::Stuck);
    assert!(worker.ask(move |io| io.detach(conn).is_none()));
    read_exactly(&mut stream, 8 << 20);
    assert_eq!(worker.next(), Event::Drained(conn));
    // Dropping the parcel closes the connection.
    worker.ask(move |io| drop(io.detach(conn).unwrap()));
    assert_eq!(std::io::Read::read(&mut stream, &mut [0; 1]).unwrap(), 0);
    worker.ask(move |io| io.close(conn, Close::Now));
    worker.nothing();
    assert_eq!(worker.ask(|io| io.connections()), 0);
}
