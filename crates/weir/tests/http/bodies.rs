//! Bodies in both directions: lengths, chunks, trailers, until close, early ends.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;

use weir_test::{Client, ClientError, Hostile, Origin, PATIENCE, Reply, Step, TempDir, Weir, eventually};

use crate::setup::{Setup, answering, ask, assert_closed, front, front_of, pairs};

/// Answers with the request's body.
fn echo() -> Origin {
    Origin::start(|request| {
        let mut reply = Reply::text("");
        reply.body.clone_from(&request.body);
        reply
    })
}

/// Bytes that differ everywhere: a piece lost, doubled or swapped shows.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// The bytes of a chunked body in chunks of `size`.
fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Sends while reading: a body larger than the socket buffers comes back while it is sent.
fn send_and_read(client: &mut Client, bytes: Vec<u8>) -> weir_test::Response {
    let mut writer = client.stream().try_clone().unwrap();
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes));
    let response = client.read_response().unwrap();
    sender.join().unwrap().unwrap();
    response
}

#[test]
fn rfc9112_6_bodies_of_every_size_go_both_ways_unharmed() {
    let origin = echo();
    let weir = front_of(&origin);
    let mut client = weir.client();
    // Around the limits that decide between copying, lending and moving in the kernel.
    for len in [0, 1, 8191, 8192, 8193, 16_384, 65_535, 65_536, 65_537, 262_144, 262_145, 3_000_000] {
        let body = noise(len);
        let mut by_length = format!("PUT /l HTTP/1.1\r\nHost: h\r\nContent-Length: {len}\r\n\r\n").into_bytes();
        by_length.extend_from_slice(&body);
        let response = send_and_read(&mut client, by_length);
        assert!(response.body == body, "{len} bytes by length");
        let mut chunked = b"PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        chunked.extend_from_slice(&chunks(&body, 10_007));
        let response = send_and_read(&mut client, chunked);
        assert!(response.body == body, "{len} bytes in chunks");
    }
    assert_eq!(client.get("/after").unwrap().status, 200, "the connection is in step");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn rfc9112_6_chunked_responses_of_every_size_arrive_unharmed() {
    for len in [0, 1, 8_192, 70_000, 1_000_000] {
        let body = noise(len);
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        bytes.extend_from_slice(&chunks(&body, 9_973));
        let server = Hostile::always(vec![Step::ReadHead, Step::Send(bytes), Step::Repeat]);
        let weir = front(&server);
        let mut client = weir.client();
        for _ in 0..2 {
            let response = client.get("/").unwrap();
            assert_eq!(response.field("transfer-encoding"), Some("chunked"));
            assert!(response.body == body, "{len} bytes");
        }
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn rfc9112_7_1_a_chunked_body_that_comes_byte_by_byte_is_whole() {
    let origin = echo();
    let weir = front_of(&origin);
    let mut client = weir.client();
    let bytes = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4;a=\"b\"\r\nabcd\r\n0000A\r\n0123456789\r\n0\r\nX: 1\r\n\r\n";
    for byte in bytes {
        client.send_raw([*byte]).unwrap();
    }
    assert_eq!(client.read_response().unwrap().text(), "abcd0123456789");
    let request = &origin.requests()[0];
    assert_eq!(pairs(&request.trailers), [("X", "1")]);
    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;a=\"b\"\r\nabcd\r\n0000A\r\n0123456789\r\n0\r\nX: 1\r\n\r\n";
    let every = std::time::Duration::from_micros(200);
    let server = Hostile::always(vec![Step::ReadHead, Step::Dribble { bytes: bytes.to_vec(), size: 1, every }]);
    let response = ask(&front(&server), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((response.text().as_str(), pairs(&response.trailers)), ("abcd0123456789", vec![("X", "1")]));
}

#[test]
fn rfc9112_7_1_1_chunk_extensions_are_not_passed_on() {
    let server = Hostile::always(vec![Step::ReadHead, Step::ReadBytes(13), Step::ok("a"), Step::Repeat]);
    let weir = front(&server);
    let head = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    // 13 bytes are `3 CRLF abc CRLF 0 CRLF CRLF`: with the extension there would be more.
    let mut client = weir.client();
    for _ in 0..2 {
        client.send_raw(format!("{head}3;secret=1\r\nabc\r\n0\r\n\r\n")).unwrap();
        assert_eq!(client.read_response().unwrap().text(), "a");
    }
    assert_eq!((server.connections(), server.heads().len()), (1, 2));
}

#[test]
fn rfc9110_6_5_trailers_go_both_ways() {
    let origin = echo();
    let weir = front_of(&origin);
    let head = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Two\r\n\r\n";
    assert_eq!(ask(&weir, format!("{head}1\r\na\r\n0\r\nX-Sum: 7\r\nx-tWo: b\r\nX-Sum: 8\r\n\r\n")).status, 200);
    let request = &origin.requests()[0];
    assert_eq!(pairs(&request.trailers), [("X-Sum", "7"), ("x-tWo", "b"), ("X-Sum", "8")]);
    assert_eq!(request.field("trailer"), Some("X-Sum, X-Two"));
    assert_eq!(request.head.all("x-sum"), [""; 0], "not merged into the head");

    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
    let server = answering(&format!("{head}1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n"));
    let response = ask(&front(&server), "GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n");
    assert_eq!(pairs(&response.trailers), [("X-Sum", "7")]);
    assert_eq!((response.field("trailer"), response.field("x-sum")), (Some("X-Sum"), None));
}

#[test]
fn rfc9110_6_5_1_trailers_that_frame_or_authorise_are_dropped() {
    let origin = echo();
    let weir = front_of(&origin);
    let head = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n";
    let bad = "Content-Length: 5\r\nTransfer-Encoding: gzip\r\nHost: evil\r\nAuthorization: x\r\nX-Forwarded-For: 1.2.3.4\r\n";
    assert_eq!(ask(&weir, format!("{head}{bad}X-Good: 1\r\n\r\n")).status, 200);
    assert_eq!(pairs(&origin.requests()[0].trailers), [("X-Good", "1")]);
}

#[test]
fn rfc9112_6_3_a_body_until_close_becomes_chunks() {
    let server = Hostile::always(vec![Step::ReadHead, Step::send("HTTP/1.1 200 OK\r\n\r\nsome bytes")]);
    let weir = front(&server);
    let mut client = weir.client();
    for _ in 0..2 {
        let response = client.get("/").unwrap();
        assert_eq!((response.text().as_str(), response.field("transfer-encoding")), ("some bytes", Some("chunked")));
    }
}

#[test]
fn rfc9112_8_a_cut_response_is_not_taken_for_a_whole_one() {
    for (head, piece) in [
        ("Content-Length: 10", "abc"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
        ("Transfer-Encoding: chunked", "a\r\nabc"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\nX: 1\r\n"),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{piece}");
        let server = Hostile::always(vec![Step::ReadHead, Step::send(bytes)]);
        let weir = front(&server);
        let mut client = weir.client();
        let result = client.get("/");
        assert!(matches!(result, Err(ClientError::Truncated(_) | ClientError::Reset(_))), "{head}: {result:?}");
    }
    // A reset is no end of a body either, where the end is the close.
    let server = Hostile::always(vec![Step::ReadHead, Step::send("HTTP/1.1 200 OK\r\n\r\nabc"), Step::Reset]);
    let result = front(&server).client().get("/");
    assert!(matches!(result, Err(ClientError::Truncated(_) | ClientError::Reset(_))), "{result:?}");
}

#[test]
fn rfc9112_8_a_cut_request_is_not_completed() {
    for (head, piece) in [
        ("Content-Length: 10", "abc"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n"),
    ] {
        let origin = echo();
        let weir = front_of(&origin);
        let mut client = weir.client();
        client.send_raw(format!("PUT / HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n{piece}")).unwrap();
        eventually(PATIENCE, "the head is with the origin", || origin.open_connections() == 1);
        client.half_close();
        assert_closed(&mut client);
        eventually(PATIENCE, "the origin's connection is closed", || origin.open_connections() == 0);
        assert_eq!(origin.answered(), 0, "{head}");
    }
}

#[test]
fn rfc9112_9_5_an_early_response_ends_the_upload() {
    let too_large = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge";
    for framing in ["Content-Length: 50000000", "Transfer-Encoding: chunked"] {
        let server = Hostile::always(vec![Step::ReadHead, Step::send(too_large)]);
        let weir = front(&server);
        let mut client = weir.client();
        client.send_raw(format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n")).unwrap();
        if framing.starts_with('T') {
            client.send_raw("4\r\nabcd\r\n").unwrap();
        }
        let response = client.read_response().unwrap();
        assert_eq!((response.status, response.text().as_str()), (413, "large"), "{framing}");
        assert_eq!(response.field("connection"), Some("close"), "{framing}");
        assert_closed(&mut client);
    }
}

#[test]
fn rfc9112_9_6_an_answer_survives_the_body_that_is_still_coming() {
    // Weir answers at once; the client writes 4 MiB before it reads. Without a lingering close the kernel would answer
    // with a reset, and the client would lose the response.
    let origin = echo();
    let route = "[[route]]\npath = \"/fixed\"\nrespond = { status = 403, body = \"no\" }";
    let weir = Setup::port(origin.port()).rest(route).run();
    let mut client = weir.client();
    client.send_raw("PUT /fixed HTTP/1.1\r\nHost: h\r\nContent-Length: 4194304\r\n\r\n").unwrap();
    client.send_raw(vec![b'x'; 4 << 20]).unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.status, response.text().as_str(), response.field("connection")), (403, "no", Some("close")));
}

#[test]
fn rfc9112_6_2_a_body_shorter_or_longer_than_its_length_harms_nobody_else() {
    // The endpoint sends more than it said: the rest must not become the response to the next request.
    let server =
        answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    let weir = front(&server);
    for _ in 0..3 {
        assert_eq!(ask(&weir, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").text(), "ok");
    }
    assert_eq!(server.connections(), 3);
}

/// An endpoint on a Unix socket that reads the head of a request and then takes no more of it. What it does next, `then`
/// decides; it is given the connection once the client has sent its body.
struct StopsReading {
    dir: TempDir,
    heads: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
}

impl StopsReading {
    fn start(then: impl Fn(UnixStream) + Send + 'static) -> Self {
        let dir = TempDir::new("stops-reading");
        let listener = UnixListener::bind(dir.path().join("app.sock")).unwrap();
        let (head, heads) = mpsc::channel();
        let (go_on, body_sent) = mpsc::channel();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut got = Vec::new();
                while !got.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).is_ok_and(|n| n == 0) {
                        return;
                    }
                    got.push(byte[0]);
                }
                stream.shutdown(std::net::Shutdown::Read).unwrap();
                if head.send(()).is_err() || body_sent.recv().is_err() {
                    return;
                }
                then(stream);
            }
        });
        Self { dir, heads, go_on }
    }

    fn address(&self) -> String {
        format!("unix:{}", self.dir.path().join("app.sock").display())
    }

    /// Sends a head, and the body once the endpoint has stopped reading.
    fn put(&self, weir: &Weir, length: usize, body: &[u8]) -> Client {
        let mut client = weir.client();
        client.send_raw(format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n")).unwrap();
        self.heads.recv_timeout(PATIENCE).unwrap();
        client.send_raw(body).unwrap();
        client
    }
}

#[test]
fn rfc9112_9_5_an_endpoint_that_stops_reading_may_still_answer() {
    let server = StopsReading::start(|mut stream| {
        stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge").unwrap();
    });
    let weir = Setup::of(server.address()).run();
    let mut client = server.put(&weir, 50_000_000, &vec![b'x'; 100_000]);
    server.go_on.send(()).unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.status, response.text().as_str()), (413, "large"));
    assert_eq!(response.field("connection"), Some("close"), "the body was not read to its end");
    assert_closed(&mut client);
}

#[test]
fn an_endpoint_that_stops_reading_has_the_time_of_a_response_head() {
    let server = StopsReading::start(drop);
    let timeouts = "response_head = \"200ms\"\nidle = \"1s\"";
    let weir = Setup::of(server.address()).table("timeouts", timeouts).run();
    let mut client = server.put(&weir, 50_000, b"abc");
    let response = client.read_response().unwrap();
    assert_eq!((response.status, response.field("weir-reason")), (504, Some("response_head_timeout")));
}

#[test]
fn an_endpoint_that_stops_reading_and_closes_is_replaced_while_the_body_is_held() {
    let server = StopsReading::start(drop);
    let other = echo();
    let endpoints = format!("{}\", \"127.0.0.1:{}", server.address(), other.port());
    let weir = Setup::of(endpoints).table("retry", "attempts = 2").run();
    let mut client = server.put(&weir, 5, b"ab");
    server.go_on.send(()).unwrap();
    eventually(PATIENCE, "the head is with the other endpoint", || other.open_connections() == 1);
    client.send_raw("cde").unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "abcde"));
}
