//! Requests that two readers would cut in different places: what arrives at the endpoint is exactly what was meant,
//! or nothing, and after a framing error the client's connection is closed.
//!
//! The endpoint's view is what counts. Each row sends its bytes on a fresh connection, with a request behind them that a
//! confused intermediary would cut elsewhere, and compares the targets that arrived.

use std::fmt::Write as _;

use weir_test::{Client, ClientError, Origin, Reply, Weir};

use crate::setup::{Setup, answering, front};

/// What is expected of a row.
enum Expect {
    /// Refused with this status (0: any of 400, 501, 505) as a whole: nothing arrives, the connection ends.
    Refused(u16),
    /// These requests arrive, `METHOD target body`, then the connection goes on with the request behind.
    Arrive(&'static [&'static str]),
    /// These arrive, then the connection ends with this status.
    ArriveThenRefused(&'static [&'static str], u16),
}
use Expect::{Arrive, ArriveThenRefused, Refused};

/// Sent behind each row.
const BEHIND: &str = "GET /behind HTTP/1.1\r\nHost: h\r\n\r\n";
/// What a smuggler wants to arrive; never expected.
const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: h\r\n\r\n";

/// A request with a field section, ready for a body.
fn post(lines: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n")
}

fn with_evil(lines: &str, body: &str) -> Vec<u8> {
    format!("{}{body}{EVIL}", post(lines)).into_bytes()
}

/// Name, bytes, what is expected.
fn corpus() -> Vec<(String, Vec<u8>, Expect)> {
    let mut rows: Vec<(String, Vec<u8>, Expect)> = Vec::new();
    let mut row = |name: &str, bytes: Vec<u8>, expect: Expect| rows.push((name.to_owned(), bytes, expect));

    // CL.TE and TE.CL: both lengths.
    row("CL.TE", with_evil("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), Refused(400));
    row("TE.CL", with_evil("Transfer-Encoding: chunked\r\nContent-Length: 4", "5c\r\n"), Refused(400));
    row(
        "CL.TE with a length of 0",
        with_evil("Content-Length: 0\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        Refused(400),
    );
    row("CL.CL", with_evil("Content-Length: 0\r\nContent-Length: 35", ""), Refused(400));
    row("CL.CL identical", with_evil("Content-Length: 0\r\nContent-Length: 0", ""), Refused(400));
    row("CL as a list", with_evil("Content-Length: 0, 35", ""), Refused(400));
    row("CL as an identical list", with_evil("Content-Length: 0, 0", ""), Refused(400));

    // TE.TE: codings that one reader takes for chunked and another does not.
    for (name, lines, status) in [
        ("xchunked", "Transfer-Encoding: xchunked", 0),
        ("chunked twice", "Transfer-Encoding: chunked, chunked", 400),
        ("chunked on two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("chunked, identity", "Transfer-Encoding: chunked, identity", 400),
        ("identity, chunked", "Transfer-Encoding: identity, chunked", 501),
        ("identity", "Transfer-Encoding: identity", 501),
        ("cow on a second line", "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", 0),
        ("cow on a first line", "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked", 501),
        ("quoted", "Transfer-Encoding: \"chunked\"", 400),
        ("with a parameter", "Transfer-Encoding: chunked;q=1", 400),
        ("with a vertical tab", "Transfer-Encoding: \x0bchunked", 400),
        ("with a form feed behind", "Transfer-Encoding: chunked\x0c", 400),
        ("with a NUL", "Transfer-Encoding: chunked\0", 400),
        ("with an empty element", "Transfer-Encoding: ,chunked", 400),
        ("empty", "Transfer-Encoding:", 400),
        ("space before the colon", "Transfer-Encoding : chunked", 400),
        ("tab before the colon", "Transfer-Encoding\t: chunked", 400),
        ("space before the name", " Transfer-Encoding: chunked", 400),
        ("folded", "Transfer-Encoding:\r\n chunked", 400),
        ("folded behind", "X: 1\r\n Transfer-Encoding: chunked", 400),
        ("bare LF before it", "X: 1\nTransfer-Encoding: chunked", 400),
        ("bare CR before it", "X: 1\rTransfer-Encoding: chunked", 400),
        ("no colon", "Transfer-Encoding chunked", 400),
        ("a line of rubbish", "rubbish", 400),
    ] {
        row(&format!("TE {name}"), with_evil(lines, "0\r\n\r\n"), Refused(status));
        row(
            &format!("TE {name}, and a length"),
            with_evil(&format!("Content-Length: 5\r\n{lines}"), "0\r\n\r\n"),
            Refused(0),
        );
    }
    row("TE in capitals is chunked", with_evil_body("TRANSFER-ENCODING: CHUNKED", "0\r\n\r\n"), Arrive(&["POST /a "]));
    row(
        "TE in HTTP/1.0",
        format!("POST /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{EVIL}").into_bytes(),
        Refused(400),
    );
    // A field of another name is no framing.
    row(
        "Transfer_Encoding",
        with_evil_body("Transfer_Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"),
        Arrive(&["POST /a 0\r\n\r\n"]),
    );

    // 0.CL and CL.0: a length that an endpoint might not read.
    row(
        "GET with a body",
        format!("GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{EVIL}", EVIL.len()).into_bytes(),
        Arrive(&["GET /a GET /evil HTTP/1.1\r\nHost: h\r\n\r\n"]),
    );
    row("no length, no body", with_evil_body("X: 1", ""), Arrive(&["POST /a "]));
    for value in [
        "+5",
        "-5",
        "5 5",
        "0x5",
        "5_",
        "5.0",
        "\u{b2}",
        "18446744073709551616",
        "9223372036854775808",
        "5;",
        "'5'",
        "",
        "5\x0b",
    ] {
        row(&format!("CL {value:?}"), with_evil(&format!("Content-Length: {value}"), "12345"), Refused(400));
    }
    row("CL space before the colon", with_evil("Content-Length : 5", "12345"), Refused(400));
    row("CL folded", with_evil("Content-Length:\r\n 5", "12345"), Refused(400));
    row("CL with a NUL in its name", with_evil("Content-Length\0: 5", "12345"), Refused(400));

    // Chunk lines.
    for (name, line) in [
        ("size with 0x", "0x5"),
        ("negative size", "-5"),
        ("size with a plus", "+5"),
        ("size above 64 bits", "10000000000000005"),
        ("size of 2^64 - 1", "ffffffffffffffff"),
        ("size of 2^63", "8000000000000000"),
        ("many leading zeros", "00000000000000000005"),
        ("space before the size", " 5"),
        ("rubbish behind the size", "5 x"),
        ("no size", ""),
        ("only an extension", ";x"),
        ("a long extension", &format!("5;{}", "x".repeat(300))),
        ("a NUL in the extension", "5;x\0"),
        ("a bare CR in the extension", "5;x\ry"),
        ("an underscore", "5_0"),
    ] {
        row(
            &format!("chunk: {name}"),
            with_evil("Transfer-Encoding: chunked", &format!("{line}\r\n12345\r\n0\r\n\r\n")),
            Refused(400),
        );
    }
    row(
        "chunk: bare LF behind the size",
        with_evil("Transfer-Encoding: chunked", "5\n12345\r\n0\r\n\r\n"),
        Refused(400),
    );
    row(
        "chunk: bare LF in the extension",
        with_evil("Transfer-Encoding: chunked", "5;x\n12345\r\n0\r\n\r\n"),
        Refused(400),
    );
    row(
        "chunk: bare LF behind the data",
        with_evil("Transfer-Encoding: chunked", "5\r\n12345\n0\r\n\r\n"),
        Refused(400),
    );
    row(
        "chunk: no line end behind the data",
        with_evil("Transfer-Encoding: chunked", "5\r\n123450\r\n\r\n"),
        Refused(400),
    );
    row(
        "chunk: data longer than its size",
        with_evil("Transfer-Encoding: chunked", "3\r\n12345\r\n0\r\n\r\n"),
        Refused(400),
    );
    row("chunk: bare LF behind the last", with_evil("Transfer-Encoding: chunked", "0\n\r\n"), Refused(400));
    row("chunk: bare LF as the end", with_evil("Transfer-Encoding: chunked", "0\r\n\n"), Refused(400));
    row("chunk: a bad trailer", with_evil("Transfer-Encoding: chunked", "0\r\nX : 1\r\n\r\n"), Refused(400));
    row(
        "chunk: a request in the trailers",
        with_evil_body("Transfer-Encoding: chunked", "0\r\nGET /evil HTTP/1.1\r\n\r\n"),
        Refused(400),
    );
    row(
        "chunk: an honest extension",
        with_evil_body("Transfer-Encoding: chunked", "5;a=\"GET /evil\"\r\n12345\r\n0\r\n\r\n"),
        Arrive(&["POST /a 12345"]),
    );
    row(
        "chunk: a request as data",
        with_evil_body("Transfer-Encoding: chunked", &format!("{:x}\r\n{EVIL}\r\n0\r\n\r\n", EVIL.len())),
        Arrive(&["POST /a GET /evil HTTP/1.1\r\nHost: h\r\n\r\n"]),
    );

    // Connection nominations.
    row(
        "nominated Content-Length",
        with_evil_body("Content-Length: 5\r\nConnection: content-length", "12345"),
        Arrive(&["POST /a 12345"]),
    );
    row(
        "nominated Transfer-Encoding",
        with_evil_body("Transfer-Encoding: chunked\r\nConnection: transfer-encoding", "5\r\n12345\r\n0\r\n\r\n"),
        Arrive(&["POST /a 12345"]),
    );
    row("nominated Host", with_evil_body("Connection: Host\r\nContent-Length: 0", ""), Arrive(&["POST /a "]));
    row("a bad Connection", with_evil("Connection: a b", ""), Refused(400));

    // Heads.
    let raw = |text: String| text.into_bytes();
    row("obs-fold", raw(format!("GET /a HTTP/1.1\r\nHost: h\r\nX: 1\r\n 2\r\n\r\n{EVIL}")), Refused(400));
    row("white space before the first field", raw(format!("GET /a HTTP/1.1\r\n Host: h\r\n\r\n{EVIL}")), Refused(400));
    row("NUL in a value", raw(format!("GET /a HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n{EVIL}")), Refused(400));
    row("NUL in a name", raw(format!("GET /a HTTP/1.1\r\nHost: h\r\nX\0: a\r\n\r\n{EVIL}")), Refused(400));
    row("NUL in the target", raw(format!("GET /a\0 HTTP/1.1\r\nHost: h\r\n\r\n{EVIL}")), Refused(400));
    row("two spaces in the request line", raw(format!("GET  /a HTTP/1.1\r\nHost: h\r\n\r\n{EVIL}")), Refused(400));
    row("a tab in the request line", raw(format!("GET\t/a HTTP/1.1\r\nHost: h\r\n\r\n{EVIL}")), Refused(400));
    row("text behind the version", raw(format!("GET /a HTTP/1.1 x\r\nHost: h\r\n\r\n{EVIL}")), Refused(400));
    row("a space behind the version", raw(format!("GET /a HTTP/1.1 \r\nHost: h\r\n\r\n{EVIL}")), Refused(400));
    row("bare LF everywhere", raw("GET /a HTTP/1.1\nHost: h\n\n".to_owned()), Refused(400));
    row("bare LF at the end of the head", raw(format!("GET /a HTTP/1.1\r\nHost: h\r\n\n{EVIL}")), Refused(400));
    row("bare CR as line end", raw(format!("GET /a HTTP/1.1\rHost: h\r\r{EVIL}")), Refused(400));
    row("HTTP/0.9", raw("GET /a\r\n".to_owned()), Refused(400));
    row("HTTP/1.2", raw(format!("GET /a HTTP/1.2\r\nHost: h\r\n\r\n{EVIL}")), Refused(505));
    row("http/1.1", raw(format!("GET /a http/1.1\r\nHost: h\r\n\r\n{EVIL}")), Refused(400));
    row("HTTP/01.1", raw(format!("GET /a HTTP/01.1\r\nHost: h\r\n\r\n{EVIL}")), Refused(0));
    row("the preface of HTTP/2", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()), Refused(505));
    row("no Host", raw(format!("GET /a HTTP/1.1\r\n\r\n{EVIL}")), Refused(400));
    row("two Hosts", raw(format!("GET /a HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n{EVIL}")), Refused(400));
    row(
        "two Hosts, with an absolute target",
        raw(format!("GET http://h/a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n{EVIL}")),
        Refused(400),
    );
    for host in ["a b", "a/b", "a@b", "a,b", "a:b", "a\tb", "[::1", "a?b", "a#b", "a\\b"] {
        row(&format!("Host {host:?}"), raw(format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n{EVIL}")), Refused(400));
    }
    row(
        "user information in the target",
        raw(format!("GET http://u@h/a HTTP/1.1\r\nHost: h\r\n\r\n{EVIL}")),
        Refused(400),
    );
    row("a method with a control character", raw(format!("G\x01T /a HTTP/1.1\r\nHost: h\r\n\r\n{EVIL}")), Refused(400));
    row("a target in another scheme", raw(format!("GET ftp://h/a HTTP/1.1\r\nHost: h\r\n\r\n{EVIL}")), Refused(400));

    // Pipelines.
    row(
        "two honest requests",
        raw("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPUT /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab".to_owned()),
        Arrive(&["GET /1 ", "PUT /2 ab"]),
    );
    row(
        "one empty line between requests",
        raw("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned()),
        Arrive(&["GET /1 ", "GET /2 "]),
    );
    row(
        "three empty lines between requests",
        raw(format!("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n\r\n\r\n\r\n{EVIL}")),
        ArriveThenRefused(&["GET /1 "], 400),
    );
    row(
        "a bad second request",
        raw(format!("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost : h\r\n\r\n{EVIL}")),
        ArriveThenRefused(&["GET /1 "], 400),
    );
    row(
        "hidden behind Connection: close",
        raw(format!("GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n{EVIL}")),
        ArriveThenRefused(&["GET /1 "], 200),
    );
    row(
        "hidden behind HTTP/1.0",
        raw(format!("GET /1 HTTP/1.0\r\nHost: h\r\n\r\n{EVIL}")),
        ArriveThenRefused(&["GET /1 "], 200),
    );
    rows
}

/// The request alone, without anything evil behind it.
fn with_evil_body(lines: &str, body: &str) -> Vec<u8> {
    format!("{}{body}", post(lines)).into_bytes()
}

fn origin() -> Origin {
    Origin::start(|request| Reply::text(format!("{} {}", request.method(), request.target())))
}

/// Statuses of all responses until the peer closes or `count` have come.
fn statuses(client: &mut Client, count: usize) -> Vec<u16> {
    (0..count).map_while(|_| client.read_response().ok().map(|response| response.status)).collect()
}

fn closed(client: &mut Client) -> bool {
    matches!(client.read_to_end(), Ok(rest) | Err(ClientError::Reset(rest)) if rest.is_empty())
}

/// Sends a row's bytes in pieces of `size` and says what is wrong, if anything.
fn fault(weir: &Weir, origin: &Origin, bytes: &[u8], expect: &Expect, size: usize) -> Option<String> {
    let before = origin.requests().len();
    let mut client = weir.client();
    let goes_on = matches!(expect, Arrive(_));
    let mut all = bytes.to_vec();
    if goes_on {
        all.extend_from_slice(BEHIND.as_bytes());
    }
    for piece in all.chunks(size) {
        // A refusal may come before all is sent.
        if client.send_raw(piece).is_err() {
            break;
        }
    }
    if !goes_on {
        // Something that ends half-way is not to be waited for; what is refused is refused without it.
        client.half_close();
    }
    let (wanted, want_statuses): (Vec<String>, Vec<u16>) = match expect {
        Refused(status) => (Vec::new(), vec![*status]),
        Arrive(requests) => {
            let mut wanted: Vec<String> = requests.iter().map(|&request| request.to_owned()).collect();
            wanted.push("GET /behind ".to_owned());
            let statuses = vec![200; wanted.len()];
            (wanted, statuses)
        }
        ArriveThenRefused(requests, status) => {
            let mut statuses = vec![200; requests.len()];
            if *status != 200 {
                statuses.push(*status);
            }
            (requests.iter().map(|&request| request.to_owned()).collect(), statuses)
        }
    };
    let got = statuses(&mut client, want_statuses.len());
    let same = got.len() == want_statuses.len()
        && got
            .iter()
            .zip(&want_statuses)
            .all(|(got, want)| if *want == 0 { *got == 400 || *got == 501 || *got == 505 } else { got == want });
    let mut out = String::new();
    if !same {
        let _ = write!(out, "statuses {got:?} instead of {want_statuses:?}; ");
    }
    if !goes_on && !closed(&mut client) {
        let _ = write!(out, "the connection goes on; ");
    }
    let seen = |request: &weir_test::Request| {
        format!("{} {} {}", request.method(), request.target(), String::from_utf8_lossy(&request.body))
    };
    let arrived: Vec<String> = origin.requests()[before..].iter().map(seen).collect();
    if arrived != wanted {
        let _ = write!(out, "arrived: {arrived:?} instead of {wanted:?}");
    }
    (!out.is_empty()).then_some(out)
}

fn run_corpus(size: usize) {
    let origin = origin();
    // One worker, so that every row meets the connections that the rows before it left behind.
    let weir = Setup::port(origin.port()).rest("[process]\nworkers = 1").run();
    let mut faults = Vec::new();
    let rows = corpus();
    for (name, bytes, expect) in &rows {
        if let Some(fault) = fault(&weir, &origin, bytes, expect, size) {
            faults.push(format!("{name}: {fault}"));
        }
        // Whatever the row did, the next client gets its own response.
        let response = weir.get("/check");
        if response.text() != "GET /check" {
            faults.push(format!("{name}: the next client got {:?}", response.text()));
        }
    }
    assert!(faults.is_empty(), "{} of {} rows:\n{}", faults.len(), rows.len(), faults.join("\n"));
    assert!(rows.len() > 120, "{} rows", rows.len());
}

#[test]
fn rfc9112_11_2_requests_are_cut_in_one_place_only() {
    run_corpus(usize::MAX);
}

#[test]
fn rfc9112_11_2_requests_in_pieces_are_cut_in_one_place_only() {
    run_corpus(7);
}

#[test]
fn rfc9112_11_1_responses_are_cut_in_one_place_only() {
    // The second response is what a smuggler wants the next client to get.
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for (name, first) in [
        ("longer than its length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("204 with a body", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        ("204 in chunks", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let server = answering(&format!("{first}{evil}"));
        let weir = front(&server);
        for _ in 0..3 {
            let response = weir.get("/");
            assert_ne!(response.text(), "evil", "{name}");
        }
    }
}

#[test]
fn rfc9110_9_3_2_a_body_behind_the_answer_to_head_is_not_the_next_response() {
    let server = answering("HTTP/1.1 200 OK\r\nContent-Length: 38\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let weir = front(&server);
    for _ in 0..3 {
        let mut client = weir.client();
        client.send_raw("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(client.read_response_to("HEAD").unwrap().field("content-length"), Some("38"));
    }
    assert_eq!(server.connections(), 3, "such a connection is not used again");
}
