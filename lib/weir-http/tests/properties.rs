//! What holds for all inputs: splits do not matter, nothing panics, what is written is read back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use weir_core::Reason;
use weir_http::{
    BodyEvent, BodyReader, FieldKind, Framing, Limits, Method, RequestMethodFacts, ResponseFraming, Slots,
    is_valid_name, is_valid_value, parse_request, parse_response, write,
};

const GET: RequestMethodFacts = RequestMethodFacts { head: false, connect: false };

/// Text that is made of the pieces that heads are made of, so that a good part of it is nearly valid.
fn head_like(start_lines: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => Just("Host: a\r\n"), 2 => Just("Content-Length: 5\r\n"), 2 => Just("Transfer-Encoding: chunked\r\n"),
        1 => Just("Connection: close, x\r\n"), 1 => Just("Connection: upgrade\r\nUpgrade: websocket\r\n"),
        1 => Just("X: y\r\n"), 1 => Just("Expect: 100-continue\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just(" "), 1 => Just(":"),
        1 => Just(","), 1 => Just("\0"), 1 => Just("5"), 1 => Just("\t"), 1 => Just("é"),
    ];
    let start = prop::sample::select(start_lines);
    (start, vec(piece, 0..8), prop_oneof![9 => Just("\r\n"), 1 => Just("")], vec(any::<u8>(), 0..4)).prop_map(
        |(start, pieces, end, body)| [start.as_bytes(), pieces.concat().as_bytes(), end.as_bytes(), &body].concat(),
    )
}

fn requests() -> impl Strategy<Value = Vec<u8>> {
    head_like(&[
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.1\r\n",
        "GET http://b/ HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "\r\nGET / HTTP/1.1\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n",
        "GET /",
    ])
}

fn responses() -> impl Strategy<Value = Vec<u8>> {
    head_like(&[
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 404\r\n",
        "HTTP/1.1 204 \r\n",
        "HTTP/1.1 100 Continue\r\n",
        "HTTP/1.1 3",
    ])
}

/// The first outcome that is not "incomplete" when the bytes arrive one by one.
fn request_by_bytes(input: &[u8], limits: &Limits) -> Option<Result<String, Reason>> {
    (0..=input.len()).find_map(|end| request(&input[..end], limits))
}

fn request(input: &[u8], limits: &Limits) -> Option<Result<String, Reason>> {
    let mut slots = Slots::new();
    match parse_request(input, &mut slots, limits) {
        Ok(None) => None,
        Ok(Some(head)) => Some(Ok(format!("{head:?}"))),
        Err(reject) => Some(Err(reject.reason)),
    }
}

fn response(input: &[u8], limits: &Limits) -> Option<Result<String, Reason>> {
    let mut slots = Slots::new();
    match parse_response(input, &mut slots, limits, GET) {
        Ok(None) => None,
        Ok(Some(head)) => Some(Ok(format!("{head:?}"))),
        Err(reject) => Some(Err(reject.reason)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_is_the_same_however_it_arrives(input in requests()) {
        let whole = request(&input, &Limits::default());
        prop_assert_eq!(request_by_bytes(&input, &Limits::default()), whole);
    }

    #[test]
    fn small_limits_reject_or_do_not_matter(input in requests(), head_bytes in 10_u32..80, target_bytes in 1_u32..10, fields in 0_u16..5) {
        let limits = Limits { head_bytes, target_bytes, fields, ..Limits::default() };
        let whole = request(&input, &Limits::default());
        match request_by_bytes(&input, &limits) {
            Some(Ok(head)) => prop_assert_eq!(whole, Some(Ok(head))),
            Some(Err(_)) => {}
            None => prop_assert_eq!(whole, None),
        }
    }

    #[test]
    fn a_response_is_the_same_however_it_arrives(input in responses()) {
        let by_bytes = (0..=input.len()).find_map(|end| response(&input[..end], &Limits::default()));
        prop_assert_eq!(by_bytes, response(&input, &Limits::default()));
    }

    #[test]
    fn accepted_heads_are_clean(input in requests()) {
        let mut slots = Slots::new();
        let Ok(Some(head)) = parse_request(&input, &mut slots, &Limits::default()) else { return Ok(()) };
        prop_assert!(input[..head.len].ends_with(b"\r\n\r\n"));
        prop_assert!(head.target.path.iter().all(u8::is_ascii_graphic));
        for field in head.fields {
            prop_assert!(is_valid_name(field.name));
            prop_assert!(is_valid_value(field.value));
            prop_assert_eq!(FieldKind::of(field.name), field.kind);
        }
        let count = |kind| head.fields.iter().filter(|field| field.kind == kind).count();
        prop_assert!(count(FieldKind::Host) <= 1);
        prop_assert!(count(FieldKind::ContentLength) + count(FieldKind::TransferEncoding) <= 1);
        // As many line ends as lines: neither a bare CR nor a bare LF passes for a part of one.
        let lines = 2 + head.fields.len() + usize::from(input.starts_with(b"\r\n"));
        for byte in [b'\r', b'\n'] {
            prop_assert_eq!(memchr::memchr_iter(byte, &input[..head.len]).count(), lines);
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        method in "[A-Z]{1,9}",
        path in "/[!-\"$->@-~]{0,40}",
        query in prop::option::of("[!-\"$-~]{0,40}"),
        fields in vec(("x-[a-zA-Z0-9!#$%&'*+.^_`|~-]{0,20}", "([!-~]([\\t -~]{0,60}[!-~])?)?"), 0..20),
        length in prop::option::of(0..i64::MAX as u64),
    ) {
        prop_assume!(method != "CONNECT");
        let mut out = Vec::new();
        write::request_line(&mut out, &method, path.as_bytes(), query.as_deref().map(str::as_bytes));
        write::field(&mut out, "Host", b"a.b:80");
        for (name, value) in &fields {
            write::field(&mut out, name, value.as_bytes());
        }
        if let Some(length) = length {
            write::content_length(&mut out, length);
        }
        write::end_head(&mut out);

        let mut slots = Slots::new();
        let head = parse_request(&out, &mut slots, &Limits::default()).unwrap().unwrap();
        prop_assert_eq!(head.method, Method::of(&method));
        prop_assert_eq!(head.target.path, path.as_bytes());
        prop_assert_eq!(head.target.query, query.as_deref().map(str::as_bytes));
        prop_assert_eq!(head.host, &b"a.b:80"[..]);
        prop_assert_eq!(head.framing, length.map_or(Framing::None, Framing::Length));
        prop_assert_eq!(head.len, out.len());
        let read: Vec<_> = head.fields[1..=fields.len()].iter().map(|f| (f.name, f.value)).collect();
        let written: Vec<_> = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn a_written_response_is_read_back(status in 200_u16..600, reason in "([!-~]([ -~]{0,20}[!-~])?)?", length in 0..i64::MAX as u64) {
        prop_assume!(status != 204 && status != 304);
        let mut out = Vec::new();
        write::status_line(&mut out, status, reason.as_bytes());
        write::content_length(&mut out, length);
        write::end_head(&mut out);
        let mut slots = Slots::new();
        let head = parse_response(&out, &mut slots, &Limits::default(), GET).unwrap().unwrap();
        prop_assert_eq!((head.status, head.reason), (status, reason.as_bytes()));
        prop_assert_eq!(head.framing, ResponseFraming::Length(length));
    }

    #[test]
    fn written_chunks_are_read_back_over_any_split(
        chunks in vec(vec(any::<u8>(), 1..40), 0..6),
        trailer in prop::option::of("[!-~]{1,20}"),
        splits in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            let (line, len) = write::chunk_head(chunk.len());
            wire.extend_from_slice(&line[..len]);
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(write::CRLF);
        }
        match &trailer {
            None => wire.extend_from_slice(write::LAST_CHUNK),
            Some(value) => {
                wire.extend_from_slice(write::LAST_CHUNK_BEFORE_TRAILERS);
                write::field(&mut wire, "x-trailer", value.as_bytes());
                write::end_head(&mut wire);
            }
        }
        let end = wire.len();
        wire.extend_from_slice(b"next");

        let mut ends: Vec<usize> = splits.iter().map(|split| split.index(wire.len())).collect();
        ends.push(wire.len());
        ends.sort_unstable();
        let mut reader = BodyReader::new(Framing::Chunked);
        let (mut at, mut data, mut trailers) = (0, Vec::new(), Vec::new());
        'arrivals: for arrived in ends {
            while at <= arrived {
                let (consumed, event) = reader.feed(&wire[at..arrived], &Limits::default()).unwrap();
                at += consumed;
                match event {
                    BodyEvent::Data(bytes) => data.extend_from_slice(bytes),
                    BodyEvent::Trailers(block) => trailers.extend(block.fields().map(|f| f.value.to_vec())),
                    BodyEvent::End => break 'arrivals,
                    BodyEvent::NeedMore => break,
                }
            }
        }
        prop_assert!(reader.is_done());
        prop_assert_eq!(at, end);
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!(trailers, trailer.map(String::into_bytes).into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_chunked_body_is_the_same_however_it_arrives(input in "([0-9a-f]{1,2}|\r\n|\n|\r|;|[ \t]|x:y|0\r\n\r\n|5\r\nhello\r\n){0,12}") {
        let limits = Limits { chunk_line_bytes: 20, trailer_bytes: 30, ..Limits::default() };
        let outcome = |ends: &mut dyn Iterator<Item = usize>| {
            let mut reader = BodyReader::new(Framing::Chunked);
            let (mut at, mut data) = (0, Vec::new());
            for end in ends {
                loop {
                    match reader.feed(&input.as_bytes()[at..end], &limits) {
                        Err(reject) => return (data, Err(reject.reason)),
                        Ok((consumed, event)) => {
                            at += consumed;
                            match event {
                                BodyEvent::Data(bytes) => data.extend_from_slice(bytes),
                                BodyEvent::Trailers(_) => {}
                                BodyEvent::End => return (data, Ok(Some(at))),
                                BodyEvent::NeedMore => break,
                            }
                        }
                    }
                }
            }
            (data, Ok(None))
        };
        let whole = outcome(&mut std::iter::once(input.len()));
        let by_bytes = outcome(&mut (0..=input.len()));
        prop_assert_eq!(by_bytes, whole);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(input in vec(any::<u8>(), 0..200)) {
        let _ = request(&input, &Limits::default());
        let _ = response(&input, &Limits::default());
        for framing in [ResponseFraming::Chunked, ResponseFraming::Length(7), ResponseFraming::UntilClose] {
            let mut reader = BodyReader::new(framing);
            let mut at = 0;
            while let Ok((consumed, BodyEvent::Data(_) | BodyEvent::Trailers(_))) = reader.feed(&input[at..], &Limits::default()) {
                prop_assert!(consumed > 0);
                at += consumed;
            }
        }
    }
}
