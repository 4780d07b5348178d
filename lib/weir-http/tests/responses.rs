//! What a response head must and must not be, and where its body ends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use weir_core::Reason;
use weir_http::{FieldKind, Limits, RequestMethodFacts, ResponseFraming, ResponseHead, Slots, Version, parse_response};

const GET: RequestMethodFacts = RequestMethodFacts { head: false, connect: false };
const HEAD: RequestMethodFacts = RequestMethodFacts { head: true, connect: false };
const CONNECT: RequestMethodFacts = RequestMethodFacts { head: false, connect: true };

#[track_caller]
fn accepted<T>(input: impl AsRef<[u8]>, request: RequestMethodFacts, see: impl FnOnce(ResponseHead<'_, '_>) -> T) -> T {
    let input = input.as_ref();
    let mut slots = Slots::new();
    match parse_response(input, &mut slots, &Limits::default(), request) {
        Ok(Some(head)) => see(head),
        other => panic!("{:?} gives {other:?}", String::from_utf8_lossy(input)),
    }
}

#[track_caller]
fn rejected(input: impl AsRef<[u8]>) {
    let input = input.as_ref();
    for request in [GET, HEAD, CONNECT] {
        let mut slots = Slots::new();
        match parse_response(input, &mut slots, &Limits::default(), request) {
            Err(reject) => assert_eq!(reject.reason, Reason::BadResponse, "{reject}"),
            other => panic!("{:?} gives {other:?}", String::from_utf8_lossy(input)),
        }
    }
}

fn response(status: u16, fields: &str) -> String {
    format!("HTTP/1.1 {status} Reason\r\n{fields}\r\n")
}

#[track_caller]
fn framing(status: u16, fields: &str, request: RequestMethodFacts) -> ResponseFraming {
    accepted(response(status, fields), request, |head| head.framing)
}

#[test]
fn a_typical_response() {
    let input = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 4\r\nSet-Cookie: a=b\r\n\r\nbody";
    accepted(input, GET, |head| {
        assert_eq!((head.status, head.reason, head.version), (200, &b"OK"[..], Version::Http11));
        assert_eq!(head.framing, ResponseFraming::Length(4));
        assert_eq!((head.content_length, head.keep_alive, head.upgrade), (Some(4), true, None));
        assert_eq!(head.len, input.len() - 4);
        let kinds: Vec<_> = head.fields.iter().map(|f| f.kind).collect();
        assert_eq!(kinds, [FieldKind::Server, FieldKind::ContentLength, FieldKind::SetCookie]);
    });
}

#[test]
fn rfc9112_4_the_status_line() {
    for (line, status, reason) in [
        (&b"HTTP/1.1 200 OK"[..], 200, &b"OK"[..]),
        (b"HTTP/1.1 200 ", 200, b""),
        (b"HTTP/1.1 200", 200, b""),
        (b"HTTP/1.0 404 Not  Found\t!", 404, b"Not  Found\t!"),
        (b"HTTP/1.1 299 caf\xe9", 299, b"caf\xe9"),
        (b"HTTP/1.1 999 x", 999, b"x"),
    ] {
        for fields in [&b"\r\n\r\n"[..], b"\r\nX: y\r\n\r\n"] {
            accepted([line, fields].concat(), GET, |head| {
                assert_eq!((head.status, head.reason), (status, reason));
            });
        }
    }
    for line in [
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/0.9 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 099 x",
        "HTTP/1.1 000 x",
        "HTTP/1.1 +20 x",
        "HTTP/1.1 2x0 x",
        "HTTP/1.1 200 a\0b",
        "HTTP/1.1 200 a\u{7f}b",
        "HTTP/1.1 200 a\rb",
        " HTTP/1.1 200 OK",
        "HTTP/1.1",
        "\r\nHTTP/1.1 200 OK",
        "\nHTTP/1.1 200 OK",
        "HTTP/1.1 ",
    ] {
        rejected(format!("{line}\r\nContent-Length: 0\r\n\r\n"));
    }
}

#[test]
fn rfc9112_2_2_bare_lf_is_rejected() {
    for input in [
        "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n",
        "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 x\n\n",
        "HTTP/1.1 204 x\r\n\n",
        "HTTP/1.1 204 x\n\r\n",
    ] {
        rejected(input);
    }
}

#[test]
fn rfc9112_5_field_lines() {
    for line in ["X : b", " X: b", "X: a\r\n b", ": b", "X", "X(: b", "X: a\0b", "X: a\rb", "X: a\u{1}"] {
        rejected(response(200, &format!("Content-Length: 0\r\n{line}\r\n")));
    }
}

#[test]
fn rfc9112_6_3_the_end_of_the_body() {
    use ResponseFraming::{Chunked, Length, None, UntilClose};
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (status, fields, request, expected) in [
        (200, "", GET, UntilClose),
        (200, "Content-Length: 0\r\n", GET, Length(0)),
        (200, "Content-Length: 7\r\n", GET, Length(7)),
        (200, chunked, GET, Chunked),
        (404, chunked, GET, Chunked),
        (200, "", HEAD, None),
        (200, "Content-Length: 7\r\n", HEAD, None),
        (200, chunked, HEAD, None),
        (304, "Content-Length: 7\r\n", GET, None),
        (304, chunked, GET, None),
        (204, "", GET, None),
        (204, "Content-Length: 7\r\n", GET, None),
        (100, "", GET, None),
        (101, "", GET, None),
        (103, chunked, GET, None),
        (200, "", CONNECT, None),
        (299, "Content-Length: 7\r\n", CONNECT, None),
        (200, chunked, CONNECT, None),
        (407, "Content-Length: 7\r\n", CONNECT, Length(7)),
        (301, "", CONNECT, UntilClose),
    ] {
        assert_eq!(framing(status, fields, request), expected, "{status} {fields} {request:?}");
    }
}

#[test]
fn rfc9112_6_3_te_and_cl_is_rejected() {
    rejected(response(200, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"));
    rejected(response(200, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"));
    rejected(response(304, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"));
}

#[test]
fn rfc9112_6_1_te_must_be_exactly_chunked() {
    for value in [
        "",
        "gzip",
        "gzip, chunked",
        "identity",
        "chunked, gzip",
        "chunked, chunked",
        "chunked;a",
        "xchunked",
        "chunked,",
    ] {
        rejected(response(200, &format!("Transfer-Encoding: {value}\r\n")));
    }
    rejected(response(200, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"));
    rejected("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
}

#[test]
fn rfc9112_6_3_identical_lengths_are_one() {
    accepted(response(200, "Content-Length: 5\r\nContent-Length: 5\r\n"), GET, |head| {
        assert_eq!((head.framing, head.content_length), (ResponseFraming::Length(5), Some(5)));
    });
    rejected(response(200, "Content-Length: 5\r\nContent-Length: 6\r\n"));
    for value in ["5, 5", "5,5", "", "+5", "-1", "5 ,", "18446744073709551616", "9223372036854775808", "0x1"] {
        rejected(response(200, &format!("Content-Length: {value}\r\n")));
    }
}

#[test]
fn rfc9110_8_6_length_as_metadata() {
    for (status, request, expected) in [(200, HEAD, Some(7)), (304, GET, Some(7)), (204, GET, None), (103, GET, None)] {
        accepted(response(status, "Content-Length: 7\r\n"), request, |head| {
            assert_eq!(head.content_length, expected, "{status}");
        });
    }
}

#[test]
fn rfc9112_9_3_persistence() {
    for (version, status, fields, keep_alive) in [
        ("1.1", 200, "Content-Length: 0\r\n", true),
        ("1.1", 200, "", false),
        ("1.1", 200, "Content-Length: 0\r\nConnection: x, Close\r\n", false),
        ("1.1", 304, "", true),
        ("1.1", 204, "", true),
        ("1.1", 204, "Content-Length: 0\r\n", true),
        ("1.1", 204, "Content-Length: 1\r\n", false),
        ("1.1", 204, "Transfer-Encoding: chunked\r\n", false),
        ("1.0", 200, "Content-Length: 0\r\n", false),
        ("1.0", 200, "Content-Length: 0\r\nConnection: keep-alive\r\n", true),
        ("1.0", 200, "Connection: keep-alive\r\n", false),
    ] {
        accepted(format!("HTTP/{version} {status} x\r\n{fields}\r\n"), GET, |head| {
            assert_eq!(head.keep_alive, keep_alive, "{version} {status} {fields}");
        });
    }
}

#[test]
fn rfc9110_7_6_1_nominated_fields_are_flagged() {
    accepted(
        response(200, "Connection: x-a, content-length\r\nX-A: 1\r\nContent-Length: 0\r\nX-B: 2\r\n"),
        GET,
        |head| {
            let hop: Vec<_> = head.fields.iter().map(|f| f.hop_by_hop).collect();
            assert_eq!(hop, [true, true, false, false]);
        },
    );
}

#[test]
fn rfc9110_15_2_2_switching_protocols() {
    accepted(response(101, "Connection: Upgrade\r\nUpgrade: websocket\r\n"), GET, |head| {
        assert_eq!((head.upgrade, head.framing), (Some(&b"websocket"[..]), ResponseFraming::None));
    });
}

#[test]
fn limits_hold_also_while_incomplete() {
    let limits = Limits { head_bytes: 60, fields: 2, ..Limits::default() };
    let parse = |input: &str| {
        let mut slots = Slots::new();
        parse_response(input.as_bytes(), &mut slots, &limits, GET).map(|head| head.is_some()).map_err(|r| r.reason)
    };
    let head = |len: usize| format!("{:a<1$}\r\n\r\n", "HTTP/1.1 200 OK\r\nX: ", len - 4);
    assert_eq!(parse(&(head(60) + &"b".repeat(100))), Ok(true));
    assert_eq!(parse(&head(61)), Err(Reason::BadResponse));
    assert_eq!(parse(&head(90)[..60]), Ok(false));
    assert_eq!(parse(&head(90)[..61]), Err(Reason::BadResponse));
    assert_eq!(parse("HTTP/1.1 200 OK\r\nA: b\r\nA: b\r\n\r\n"), Ok(true));
    assert_eq!(parse("HTTP/1.1 200 OK\r\nA: b\r\nA: b\r\nA: b\r\n\r\n"), Err(Reason::BadResponse));
}
