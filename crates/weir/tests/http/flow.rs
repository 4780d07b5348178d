//! Back-pressure: a body is never in memory as a whole, however large it is and however slow its reader.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use weir_test::Weir;

use crate::setup::{Setup, resident_kib};

const MIB: usize = 1 << 20;
/// Size of a body.
const BODY: usize = 1024 * MIB;
/// What Weir may grow by while it relays one, in KiB. A copy of even 2 % of the body would show.
const GROWTH_KIB: u64 = 16 * 1024;
/// The slow phase: the reader takes a little now and then for so long, while the writer pushes.
const SLOW: Duration = Duration::from_secs(2);
/// A chunk: the line, the data, the line end.
const CHUNK: usize = 64 * 1024;

fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

/// Writes [`BODY`] bytes in chunks or plain, with the end of it.
fn write_body(stream: &mut TcpStream, chunked: bool) -> std::io::Result<()> {
    let mut piece = if chunked { format!("{CHUNK:x}\r\n").into_bytes() } else { Vec::new() };
    piece.resize(piece.len() + CHUNK, b'x');
    if chunked {
        piece.extend_from_slice(b"\r\n");
    }
    for _ in 0..BODY / CHUNK {
        stream.write_all(&piece)?;
    }
    stream.write_all(if chunked { b"0\r\n\r\n" } else { b"" })
}

/// Reads until `BODY` bytes of payload must have come: slowly first, measuring; then as fast as it goes. Returns the
/// largest resident size seen.
fn read_slowly(stream: &mut TcpStream, weir: &mut Weir, total: usize) -> u64 {
    let mut buffer = vec![0; 256 * 1024];
    let mut read = 0;
    let mut largest = 0;
    let slow_until = Instant::now() + SLOW;
    while Instant::now() < slow_until {
        // A few KiB every few milliseconds: far below what the writer could do.
        read += stream.read(&mut buffer[..8 * 1024]).unwrap();
        largest = largest.max(resident_kib(weir));
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let mut next_look = 0;
    while read < total {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "ended after {read} of {total} bytes");
        read += n;
        if read >= next_look {
            largest = largest.max(resident_kib(weir));
            next_look = read + 32 * MIB;
        }
    }
    largest
}

fn framing(chunked: bool) -> String {
    if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {BODY}") }
}

/// At least so many bytes are on the wire for a body.
fn wire_bytes(chunked: bool) -> usize {
    // Chunks may be cut anew, so that only the payload is certain.
    if chunked { BODY + 5 } else { BODY }
}

#[track_caller]
fn download(chunked: bool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut weir = Setup::port(listener.local_addr().unwrap().port()).run();
    let writer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", framing(chunked)).as_bytes()).unwrap();
        write_body(&mut stream, chunked).unwrap();
    });
    let before = resident_kib(&mut weir);
    let mut client = weir.client().stream().try_clone().unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    read_head(&mut client);
    let largest = read_slowly(&mut client, &mut weir, wire_bytes(chunked));
    writer.join().unwrap();
    assert!(largest < before + GROWTH_KIB, "resident: {before} KiB before, up to {largest} KiB");
}

#[track_caller]
fn upload(chunked: bool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut weir = Setup::port(listener.local_addr().unwrap().port()).run();
    let before = resident_kib(&mut weir);
    let mut client = weir.client().stream().try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        client.write_all(format!("PUT / HTTP/1.1\r\nHost: h\r\n{}\r\n\r\n", framing(chunked)).as_bytes()).unwrap();
        write_body(&mut client, chunked).unwrap();
        client
    });
    let (mut stream, _) = listener.accept().unwrap();
    read_head(&mut stream);
    let largest = read_slowly(&mut stream, &mut weir, wire_bytes(chunked));
    let mut client = writer.join().unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
    read_head(&mut client);
    let mut done = [0; 4];
    client.read_exact(&mut done).unwrap();
    assert_eq!(&done, b"done");
    assert!(largest < before + GROWTH_KIB, "resident: {before} KiB before, up to {largest} KiB");
}

#[test]
fn heavy_a_gibibyte_of_chunks_to_a_slow_reader_is_not_buffered() {
    download(true);
}

#[test]
fn heavy_a_gibibyte_by_length_to_a_slow_reader_is_not_buffered() {
    download(false);
}

#[test]
fn heavy_a_gibibyte_of_chunks_to_a_slow_endpoint_is_not_buffered() {
    upload(true);
}

#[test]
fn heavy_a_gibibyte_by_length_to_a_slow_endpoint_is_not_buffered() {
    upload(false);
}

/// A client that stops reading is cut after the idle time-out, and the endpoint's connection with it.
#[test]
fn a_client_that_takes_nothing_is_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let weir = Setup::port(port).listener("[listener.timeouts]\nidle = \"300ms\"").run();
    let writer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n").as_bytes()).unwrap();
        write_body(&mut stream, false)
    });
    let mut client = weir.client();
    client.send_raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    client.read_head().unwrap();
    // Reads nothing: the endpoint's writer is freed by the cut alone.
    assert!(writer.join().unwrap().is_err());
}
