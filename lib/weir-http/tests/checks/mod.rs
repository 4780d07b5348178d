//! What holds for every input, valid or not: shared by the replay of the corpora and the fuzz
//! targets, which include this file.

use weir_http::{
    BodyEvent, BodyReader, FieldKind, Framing, Limits, RequestMethodFacts, Slots, is_valid_name, is_valid_value,
    parse_request, parse_response, write,
};

/// Small enough for a fuzzer to reach.
pub(crate) const LIMITS: Limits =
    Limits { head_bytes: 600, fields: 20, target_bytes: 200, chunk_line_bytes: 40, trailer_bytes: 120 };

/// Any bytes as the head of a request.
pub(crate) fn request_head(input: &[u8]) {
    let mut slots = Slots::new();
    let head = match parse_request(input, &mut slots, &LIMITS) {
        Ok(Some(head)) => head,
        other => {
            let mut raw = [httparse::EMPTY_HEADER; 64];
            let lax = httparse::Request::new(&mut raw).parse(input);
            assert!(other.is_err() || !matches!(lax, Ok(httparse::Status::Complete(_))), "waits for a complete head");
            return incomplete_stays_so(input);
        }
    };
    assert!(head.len <= input.len() && head.len <= LIMITS.head_bytes as usize);
    assert!(head.fields.len() <= usize::from(LIMITS.fields));
    assert!(head.target.path.iter().all(u8::is_ascii_graphic));
    assert!(head.target.query.is_none_or(|query| query.iter().all(u8::is_ascii_graphic)));
    let leading = usize::from(input.starts_with(b"\r\n"));
    clean_lines(&input[..head.len], head.fields.len() + 2 + leading);
    let count = |kind| head.fields.iter().filter(|field| field.kind == kind).count();
    assert!(count(FieldKind::Host) <= 1);
    assert!(count(FieldKind::ContentLength) + count(FieldKind::TransferEncoding) <= 1);
    assert!(weir_http::is_valid_authority(head.host) || (head.host.is_empty() && count(FieldKind::Host) == 0));
    for field in head.fields {
        clean_field(field.name, field.value);
    }
    // The head is complete with its last byte and not before.
    let mut slots = Slots::new();
    assert_eq!(parse_request(&input[..head.len - 1], &mut slots, &LIMITS), Ok(None));
    let mut slots = Slots::new();
    assert_eq!(parse_request(&input[..head.len], &mut slots, &LIMITS), Ok(Some(head)));
    // Another reader, which is laxer, sees the same fields.
    let mut raw = [httparse::EMPTY_HEADER; 64];
    let mut lax = httparse::Request::new(&mut raw);
    assert!(lax.parse(input).is_ok_and(|status| status == httparse::Status::Complete(head.len)));
    assert!(lax.headers.iter().map(|h| (h.name.as_bytes(), h.value)).eq(head.fields.iter().map(|f| (f.name, f.value))));

    // Written anew as a proxy would, it reads as the same request.
    if head.target.path.is_empty() || head.host.is_empty() {
        return;
    }
    let mut out = Vec::new();
    write::request_line(&mut out, head.method.as_str(), head.target.path, head.target.query);
    write::field(&mut out, "Host", head.host);
    for field in head.fields.iter().filter(|field| !field.hop_by_hop) {
        if !matches!(field.kind, FieldKind::Host | FieldKind::ContentLength) {
            write::field(&mut out, field.name, field.value);
        }
    }
    match head.framing {
        Framing::None => {}
        Framing::Length(n) => write::content_length(&mut out, n),
        Framing::Chunked => write::transfer_encoding_chunked(&mut out),
    }
    write::end_head(&mut out);
    let limits = Limits { head_bytes: 10_000, fields: 40, ..LIMITS };
    let mut slots = Slots::new();
    let again = parse_request(&out, &mut slots, &limits).expect("what is written is valid").expect("and complete");
    assert_eq!(
        (again.method, again.target.path, again.target.query, again.host, again.framing, again.len),
        (head.method, head.target.path, head.target.query, head.host, head.framing, out.len())
    );
}

/// A rejected or incomplete head is not accepted because more of it, or less, has arrived.
fn incomplete_stays_so(input: &[u8]) {
    for end in 0..input.len() {
        let mut slots = Slots::new();
        let part = parse_request(&input[..end], &mut slots, &LIMITS);
        assert!(!matches!(part, Ok(Some(_))), "a part is accepted and the whole is not");
    }
}

/// The first byte chooses the method of the request, the rest is the head of a response.
pub(crate) fn response_head(input: &[u8]) {
    let Some((&facts, input)) = input.split_first() else {
        return;
    };
    let facts = RequestMethodFacts { head: facts & 1 == 1, connect: facts & 2 == 2 };
    let mut slots = Slots::new();
    let mut raw = [httparse::EMPTY_HEADER; 64];
    let mut lax = httparse::Response::new(&mut raw);
    let lax_len = lax.parse(input);
    let head = match parse_response(input, &mut slots, &LIMITS, facts) {
        Ok(Some(head)) => head,
        other => {
            assert!(
                other.is_err() || !matches!(lax_len, Ok(httparse::Status::Complete(_))),
                "waits for a complete head"
            );
            return;
        }
    };
    // Another reader, which is laxer, sees the same.
    assert_eq!(lax_len, Ok(httparse::Status::Complete(head.len)));
    assert_eq!(lax.code, Some(head.status));
    assert!(lax.headers.iter().map(|h| (h.name.as_bytes(), h.value)).eq(head.fields.iter().map(|f| (f.name, f.value))));
    assert!(head.len <= input.len() && head.len <= LIMITS.head_bytes as usize);
    assert!((100..1000).contains(&head.status));
    clean_lines(&input[..head.len], head.fields.len() + 2);
    for field in head.fields {
        clean_field(field.name, field.value);
    }
    let line = [b"HTTP/1.".as_slice(), &input[7..8], b" ", head.status.to_string().as_bytes()].concat();
    assert!(input.starts_with(&line), "the status line is where it is");
    assert!(head.reason.is_empty() || input[line.len() + 1..].starts_with(head.reason));
    let mut slots = Slots::new();
    assert_eq!(parse_response(&input[..head.len - 1], &mut slots, &LIMITS, facts), Ok(None));
    let mut slots = Slots::new();
    assert_eq!(parse_response(&input[..head.len], &mut slots, &LIMITS, facts), Ok(Some(head)));
    if facts.head {
        assert!(head.framing.is_empty());
    }
}

/// Any bytes as a chunked body.
pub(crate) fn chunked_body(input: &[u8]) {
    let whole = read(input, [input.len()]);
    assert_eq!(read(input, 0..=input.len()), whole, "the body depends on how it arrives");
    let (data, Ok(Some(end))) = whole else { return };
    assert!(end <= input.len());
    // Written anew in one chunk it reads as the same body.
    let mut out = Vec::new();
    if !data.is_empty() {
        let (line, len) = write::chunk_head(data.len());
        out.extend_from_slice(&line[..len]);
        out.extend_from_slice(&data);
        out.extend_from_slice(write::CRLF);
    }
    out.extend_from_slice(write::LAST_CHUNK);
    assert_eq!(read(&out, [out.len()]), (data, Ok(Some(out.len()))));
}

/// The bytes of the body, and where it ended: `None` = not yet.
type Read = (Vec<u8>, Result<Option<usize>, weir_core::Reason>);

fn read(input: &[u8], arrivals: impl IntoIterator<Item = usize>) -> Read {
    let mut reader = BodyReader::new(Framing::Chunked);
    let (mut at, mut data) = (0, Vec::new());
    for arrived in arrivals {
        loop {
            let (consumed, event) = match reader.feed(&input[at..arrived], &LIMITS) {
                Ok(fed) => fed,
                Err(reject) => return (data, Err(reject.reason)),
            };
            at += consumed;
            assert!(at <= arrived);
            match event {
                BodyEvent::Data(bytes) => {
                    assert!(!bytes.is_empty());
                    data.extend_from_slice(bytes);
                }
                BodyEvent::Trailers(block) => {
                    for field in block {
                        clean_field(field.name, field.value);
                        assert!(!field.kind.is_connection_specific() && field.kind != FieldKind::ContentLength);
                    }
                }
                BodyEvent::End => {
                    assert!(reader.is_done());
                    return (data, Ok(Some(at)));
                }
                BodyEvent::NeedMore => break,
            }
        }
        assert!(!reader.is_done());
    }
    (data, Ok(None))
}

/// As many CR and LF as there are lines, and no NUL.
fn clean_lines(head: &[u8], lines: usize) {
    assert!(head.ends_with(b"\r\n\r\n"));
    for (byte, count) in [(b'\r', lines), (b'\n', lines), (0, 0)] {
        assert_eq!(head.iter().filter(|found| **found == byte).count(), count);
    }
}

fn clean_field(name: &[u8], value: &[u8]) {
    assert!(is_valid_name(name) && is_valid_value(value), "{name:?}: {value:?}");
}
