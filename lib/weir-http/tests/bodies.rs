//! Bodies: every framing, the strictness of the chunked coding, and its limits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use weir_core::Reason;
use weir_http::{BodyEvent, BodyReader, FieldKind, Framing, Limits, Reject, ResponseFraming};

/// What a body came to: its bytes, its trailer fields, whether it ended, and the bytes left over.
#[derive(PartialEq, Eq, Debug, Default)]
struct Seen {
    data: String,
    trailers: Vec<(String, String)>,
    done: bool,
    left: usize,
}

fn read(reader: &mut BodyReader, input: &[u8], limits: &Limits) -> Result<Seen, Reject> {
    let mut seen = Seen { left: input.len(), ..Seen::default() };
    loop {
        let (consumed, event) = reader.feed(&input[input.len() - seen.left..], limits)?;
        seen.left -= consumed;
        match event {
            BodyEvent::Data(data) => seen.data.push_str(std::str::from_utf8(data).unwrap()),
            BodyEvent::Trailers(block) => {
                for field in block {
                    seen.trailers.push((
                        String::from_utf8_lossy(field.name).into(),
                        String::from_utf8_lossy(field.value).into(),
                    ));
                }
            }
            BodyEvent::End => {
                assert!(reader.is_done());
                seen.done = true;
                return Ok(seen);
            }
            BodyEvent::NeedMore => {
                assert!(!reader.is_done());
                return Ok(seen);
            }
        }
    }
}

#[track_caller]
fn chunked(input: &str) -> Seen {
    read(&mut BodyReader::new(Framing::Chunked), input.as_bytes(), &Limits::default()).unwrap()
}

#[track_caller]
fn rejected(input: &str) {
    for (reader, reason) in [
        (BodyReader::new(Framing::Chunked), Reason::BadRequestBody),
        (BodyReader::new(ResponseFraming::Chunked), Reason::BadResponseBody),
    ] {
        let mut reader = reader;
        let outcome = read(&mut reader, input.as_bytes(), &Limits::default());
        assert_eq!(outcome.as_ref().map_err(|reject| reject.reason), Err(reason), "{input:?} {outcome:?}");
    }
}

fn complete(data: &str) -> Seen {
    Seen { data: data.into(), done: true, ..Seen::default() }
}

#[test]
fn a_body_by_length() {
    let mut reader = BodyReader::new(Framing::Length(5));
    assert_eq!((reader.remaining(), reader.is_done()), (Some(5), false));
    assert_eq!(reader.feed(b"", &Limits::default()), Ok((0, BodyEvent::NeedMore)));
    assert_eq!(reader.feed(b"abc", &Limits::default()), Ok((3, BodyEvent::Data(b"abc"))));
    assert_eq!(reader.remaining(), Some(2));
    assert_eq!(reader.feed(b"deGET", &Limits::default()), Ok((2, BodyEvent::Data(b"de"))));
    assert_eq!((reader.remaining(), reader.is_done()), (Some(0), true));
    assert_eq!(reader.feed(b"GET", &Limits::default()), Ok((0, BodyEvent::End)));
    assert_eq!(reader.on_eof(), Ok(()));
}

#[test]
fn bodies_that_are_not_there() {
    for mut reader in [
        BodyReader::new(Framing::None),
        BodyReader::new(Framing::Length(0)),
        BodyReader::new(ResponseFraming::None),
        BodyReader::new(ResponseFraming::Length(0)),
    ] {
        assert!(reader.is_done());
        assert_eq!(reader.feed(b"GET", &Limits::default()), Ok((0, BodyEvent::End)));
    }
}

#[test]
fn a_body_until_close() {
    let mut reader = BodyReader::new(ResponseFraming::UntilClose);
    assert_eq!(reader.feed(b"abc", &Limits::default()), Ok((3, BodyEvent::Data(b"abc"))));
    assert_eq!(reader.feed(b"", &Limits::default()), Ok((0, BodyEvent::NeedMore)));
    reader.skip(1_000);
    assert_eq!((reader.remaining(), reader.is_done()), (None, false));
    assert_eq!(reader.on_eof(), Ok(()));
    assert!(reader.is_done());
    assert_eq!(reader.feed(b"", &Limits::default()), Ok((0, BodyEvent::End)));
}

#[test]
fn rfc9112_8_an_early_end_is_truncation() {
    for framing in [Framing::Length(5), Framing::Chunked] {
        assert_eq!(BodyReader::new(framing).on_eof().unwrap_err().reason, Reason::ClientGone);
    }
    for framing in [ResponseFraming::Length(5), ResponseFraming::Chunked] {
        assert_eq!(BodyReader::new(framing).on_eof().unwrap_err().reason, Reason::UpstreamTruncated);
    }
    for part in ["5\r\nabcde\r\n0\r\n", "5\r\nabcde\r\n0\r\n\r", "5\r\nabcde\r\n", "5"] {
        let mut reader = BodyReader::new(ResponseFraming::Chunked);
        assert!(!read(&mut reader, part.as_bytes(), &Limits::default()).unwrap().done);
        assert_eq!(reader.on_eof().unwrap_err().reason, Reason::UpstreamTruncated);
    }
}

#[test]
fn bytes_moved_past_the_reader_count() {
    let mut reader = BodyReader::new(Framing::Length(10));
    reader.skip(4);
    assert_eq!(reader.remaining(), Some(6));
    assert_eq!(reader.feed(b"abc", &Limits::default()), Ok((3, BodyEvent::Data(b"abc"))));
    reader.skip(3);
    assert!(reader.is_done());
    reader.skip(0);
    assert_eq!(reader.feed(b"GET", &Limits::default()), Ok((0, BodyEvent::End)));
}

#[test]
fn rfc9112_7_1_chunks() {
    assert_eq!(chunked("0\r\n\r\n"), complete(""));
    assert_eq!(chunked("5\r\nhello\r\n0\r\n\r\n"), complete("hello"));
    assert_eq!(chunked("A\r\n0123456789\r\n1\r\nx\r\n000\r\n\r\n"), complete("0123456789x"));
    assert_eq!(chunked("a\r\n0123456789\r\n0\r\n\r\n"), complete("0123456789"));
    assert_eq!(chunked("1\r\na\r\n0\r\n\r\nGET /"), Seen { left: 5, ..complete("a") });
    assert_eq!(chunked("5\r\nhe"), Seen { data: "he".into(), ..Seen::default() });
    assert_eq!(chunked("5\r"), Seen { left: 2, ..Seen::default() });
    assert_eq!(chunked("1\r\na\r"), Seen { data: "a".into(), left: 1, ..Seen::default() });
}

#[test]
fn rfc9112_7_1_chunk_sizes_are_strict() {
    for input in [
        "\r\n",
        "x\r\n",
        "+5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\t\r\nhello\r\n",
        "5,\r\n",
        "5 5\r\n",
        "5_\r\n",
        ";a\r\n",
        "５\r\n",
        "g",
        "5g",
        "5\0",
        "5.",
        "\u{b}5\r\n",
        "8000000000000000\r\n",
        "ffffffffffffffff\r\n",
        "10000000000000000\r\n",
        "00000000000000005\r\n",
    ] {
        rejected(input);
    }
    let largest = chunked("7fffffffffffffff\r\na");
    assert_eq!((largest.data.as_str(), largest.done), ("a", false));
}

#[test]
fn rfc9112_7_1_line_ends_are_strict() {
    for input in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhellox\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\n\r\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\nA: b\r\n\n",
    ] {
        rejected(input);
    }
}

#[test]
fn rfc9112_7_1_1_extensions_are_dropped_and_limited() {
    for line in ["5;a", "5;a=b", "5 ; a = \"b c\"", "5\t;a;b", "5;", "5; caf\u{e9}"] {
        assert_eq!(chunked(&format!("{line}\r\nhello\r\n0;x\r\n\r\n")), complete("hello"), "{line}");
    }
    for line in ["5;a\0", "5;a\u{7f}", "5;\u{1}"] {
        rejected(&format!("{line}\r\nhello\r\n0\r\n\r\n"));
    }
    let line = |len: usize| format!("{:a<1$}\r\n", "5;", len - 2);
    assert_eq!(chunked(&format!("{}hello\r\n0\r\n\r\n", line(256))), complete("hello"));
    rejected(&format!("{}hello\r\n0\r\n\r\n", line(257)));
    assert!(!chunked(&line(300)[..254]).done);
    rejected(&line(300)[..256]);
}

#[test]
fn rfc9112_7_1_2_trailers() {
    let seen = chunked("0\r\nGrpc-Status: 0\r\nX-Sum:\tabc \r\nempty:\r\n\r\nrest");
    let expected = [("Grpc-Status", "0"), ("X-Sum", "abc"), ("empty", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(seen.trailers, expected);
    assert_eq!((seen.done, seen.left), (true, 4));
    for field in ["X : y", ": y", "X", " X: y", "X: y\r\n z", "X: a\0", "X(: y", "X: a\rb", "é: y"] {
        rejected(&format!("0\r\n{field}\r\n\r\n"));
    }
}

#[test]
fn rfc9110_6_5_1_forbidden_trailers_are_left_out() {
    for name in [
        "Transfer-Encoding",
        "content-length",
        "Host",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Cookie",
        "Set-Cookie",
        "X-Forwarded-For",
        "Forwarded",
        "X-Real-IP",
        "X-Request-ID",
        "Authorization",
        "Proxy-Authorization",
        "WWW-Authenticate",
        "Content-Type",
        "Content-Encoding",
        "Content-Range",
        "Cache-Control",
        "If-Match",
        "Range",
        "Max-Forwards",
        "Location",
        "Retry-After",
        "Proxy-Connection",
        "AUTHORIZATION",
    ] {
        let seen = chunked(&format!("0\r\nA: 1\r\n{name}: 5\r\nB: 2\r\n\r\n"));
        let names: Vec<_> = seen.trailers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["A", "B"], "{name}");
    }
    let mut reader = BodyReader::new(Framing::Chunked);
    let (_, event) = reader.feed(b"0\r\nVia: 1.1 x\r\n\r\n", &Limits::default()).unwrap();
    let BodyEvent::Trailers(block) = event else { panic!("{event:?}") };
    assert_eq!(block.fields().map(|field| field.kind).collect::<Vec<_>>(), [FieldKind::Via]);
}

#[test]
fn trailers_are_limited() {
    let limits = Limits { trailer_bytes: 40, fields: 3, ..Limits::default() };
    let read = |input: &str| {
        let mut reader = BodyReader::new(Framing::Chunked);
        read(&mut reader, input.as_bytes(), &limits).map(|seen| seen.done).map_err(|reject| reject.reason)
    };
    let section = |len: usize| format!("0\r\n{:a<1$}\r\n\r\n", "X: ", len - 4);
    assert_eq!(read(&(section(40) + &"b".repeat(100))), Ok(true));
    assert_eq!(read(&section(41)), Err(Reason::BadRequestBody));
    assert_eq!(read(&section(99)[..43]), Ok(false));
    assert_eq!(read(&section(99)[..44]), Err(Reason::BadRequestBody));
    assert_eq!(read("0\r\nA: b\r\nA: b\r\nA: b\r\n\r\n"), Ok(true));
    assert_eq!(read("0\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n"), Err(Reason::BadRequestBody));
}
