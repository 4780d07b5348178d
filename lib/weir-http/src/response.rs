//! The response head.

use crate::facts::{Facts, Malformed, line_end};
use crate::scan::value_len;
use crate::{Field, Limits, Reject, RequestMethodFacts, ResponseFraming, Slots, Version};

/// The head of a response, borrowed from the bytes and the slots it was parsed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponseHead<'b, 's> {
    /// Status, 100 to 999.
    pub status: u16,
    /// Reason phrase, possibly empty.
    pub reason: &'b [u8],
    /// Version of the endpoint.
    pub version: Version,
    /// All fields in the order received, framing included. What is forwarded is chosen by
    /// [`Field::kind`] and [`Field::hop_by_hop`]; `Content-Length` is to be written anew from
    /// [`ResponseHead::content_length`].
    pub fields: &'s [Field<'b>],
    /// How the end of the body is found.
    pub framing: ResponseFraming,
    /// The value of `Content-Length`, also where there is no body (HEAD, 304): it is then metadata
    /// to be forwarded. `None` for 1xx and 204, which must not have it (RFC 9110 section 8.6).
    pub content_length: Option<u64>,
    /// Whether the connection can be used again after this response: by version and `Connection`,
    /// and never when the body ends by closing, or after a 1xx or 204 that announces a body.
    pub keep_alive: bool,
    /// The protocol of `Upgrade`, when `Connection` has the option `upgrade`, the version is 1.1 and
    /// there is exactly one `Upgrade` line. Of weight in a 101.
    pub upgrade: Option<&'b [u8]>,
    /// The status line as it came, with its line end. The space before an empty reason may be missing.
    pub line: &'b [u8],
    /// Bytes of the head, with the empty line at its end.
    pub len: usize,
    /// The bytes that the fields are slices of, for [`crate::write::FieldCopier`].
    pub bytes: &'b [u8],
}

/// Reads the head of a response to a request of the given method from the start of `bytes`.
/// `None` = incomplete: call again with the same bytes and more behind them.
///
/// Interim responses (1xx) are heads like any other: call again for the next one.
///
/// # Errors
/// The head is malformed, ambiguous or larger than `limits`: always [`weir_core::Reason::BadResponse`].
pub fn parse_response<'b, 's>(
    bytes: &'b [u8],
    slots: &'s mut Slots<'b>,
    limits: &Limits,
    request: RequestMethodFacts,
) -> Result<Option<ResponseHead<'b, 's>>, Reject> {
    let line = match status_line(bytes) {
        Ok(Some(line)) => line,
        Ok(None) => return incomplete(bytes, limits),
        Err(detail) => return Err(Reject::response(detail)),
    };
    let Slots { fields } = slots;
    let mut facts = Facts::default();
    let len = match facts.read(line.behind, limits.max_fields(), fields) {
        Ok(Some(behind)) => bytes.len() - behind.len(),
        Ok(None) => return incomplete(bytes, limits),
        Err(Malformed::TooMany) => return Err(Reject::response("too many fields")),
        Err(Malformed::Detail(detail)) => return Err(Reject::response(detail)),
    };
    if len > limits.head_bytes as usize {
        return Err(HEAD_TOO_LARGE);
    }
    let StatusLine { status, reason, version, text, .. } = line;
    let body = body(&facts, version, status, request)?;

    Ok(Some(ResponseHead {
        status,
        reason,
        version,
        fields: fields.as_slice(),
        framing: body.framing,
        content_length: body.content_length,
        keep_alive: body.reusable && facts.keep_alive(version),
        upgrade: facts.upgrade(version),
        line: text,
        len,
        bytes: &bytes[..len],
    }))
}

struct Body {
    framing: ResponseFraming,
    content_length: Option<u64>,
    /// The end of the response is where this side believes it is, and the peer surely agrees.
    reusable: bool,
}

/// The end of the body of a response (RFC 9112 section 6.3).
fn body(facts: &Facts<'_>, version: Version, status: u16, request: RequestMethodFacts) -> Result<Body, Reject> {
    if facts.has_transfer_encoding() {
        if version == Version::Http10 {
            return Err(Reject::response("Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1)"));
        }
        // The RFC lets Transfer-Encoding win. Whoever sent both may have meant the other one.
        if facts.content_length.is_some() {
            return Err(Reject::response("Transfer-Encoding and Content-Length (RFC 9112 section 6.3, item 3)"));
        }
        facts.check_final_chunked().map_err(Reject::response)?;
        if facts.unknown_coding {
            return Err(Reject::response("a transfer coding other than chunked (RFC 9112 section 6.1)"));
        }
    }
    let content_length = facts.content_length;
    // Neither may announce a body (RFC 9110 section 8.6, RFC 9112 section 6.1). An endpoint that
    // does may also send it, and its bytes would pass for the next response.
    if matches!(status, 100..200 | 204) {
        let announces_body = facts.has_transfer_encoding() || content_length.is_some_and(|n| n > 0);
        return Ok(Body { framing: ResponseFraming::None, content_length: None, reusable: !announces_body });
    }
    let tunnel = request.connect && (200..300).contains(&status);
    if request.head || status == 304 || tunnel {
        return Ok(Body { framing: ResponseFraming::None, content_length, reusable: true });
    }
    let framing = match content_length {
        _ if facts.has_transfer_encoding() => ResponseFraming::Chunked,
        Some(n) => ResponseFraming::Length(n),
        None => ResponseFraming::UntilClose,
    };
    Ok(Body { framing, content_length, reusable: framing != ResponseFraming::UntilClose })
}

/// What the first line says, the line, and what follows it.
struct StatusLine<'b> {
    version: Version,
    status: u16,
    reason: &'b [u8],
    text: &'b [u8],
    behind: &'b [u8],
}

/// `status-line = HTTP-version SP status-code SP [ reason-phrase ]` (RFC 9112 section 4), also without the second
/// space. `None` = incomplete.
#[inline]
fn status_line(bytes: &[u8]) -> Result<Option<StatusLine<'_>>, &'static str> {
    let (version, code, rest) = match bytes {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), b' ', a, b, c, rest @ ..] => {
            (if *minor == b'0' { Version::Http10 } else { Version::Http11 }, [*a, *b, *c], rest)
        }
        _ => return partial_status_line(bytes),
    };
    if !code.iter().all(u8::is_ascii_digit) {
        return Err(BAD_STATUS_LINE);
    }
    let status = code.into_iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    if status < 100 {
        return Err("a status below 100 (RFC 9110 section 15)");
    }
    let phrase = match rest {
        [] => return Ok(None),
        [b' ', phrase @ ..] => phrase,
        [b'\r' | b'\n', ..] => rest,
        _ => return Err(BAD_STATUS_LINE),
    };
    let len = value_len(phrase);
    let (reason, behind) = match phrase.split_at_checked(len) {
        Some((reason, [b'\r', b'\n', behind @ ..])) => (reason, behind),
        _ => match line_end(phrase, len)? {
            Some(ends) => ends,
            None => return Ok(None),
        },
    };
    let text = bytes.get(..bytes.len() - behind.len()).unwrap_or_default();
    Ok(Some(StatusLine { version, status, reason, text, behind }))
}

/// A status line that is short, or wrong.
#[cold]
fn partial_status_line(bytes: &[u8]) -> Result<Option<StatusLine<'_>>, &'static str> {
    if let [b'\r' | b'\n', ..] = bytes {
        return Err("an empty line before the status line (RFC 9112 section 2.1)");
    }
    let matched = |pattern: &[u8]| bytes.iter().zip(pattern).take_while(|(byte, want)| byte == want).count();
    // Of `HTTP/1.x `, as far as it is there, then of up to three digits.
    let version = matched(b"HTTP/1.0 ").max(matched(b"HTTP/1.1 "));
    if version < bytes.len().min(9) {
        return Err(if version < 5 { BAD_STATUS_LINE } else { "not HTTP/1.0 or HTTP/1.1 (RFC 9112 section 4)" });
    }
    let code = bytes.get(9..).unwrap_or_default();
    if code.iter().take(3).all(u8::is_ascii_digit) { Ok(None) } else { Err(BAD_STATUS_LINE) }
}

/// The limit holds while the head is still incomplete.
#[cold]
fn incomplete<'b, 's>(bytes: &[u8], limits: &Limits) -> Result<Option<ResponseHead<'b, 's>>, Reject> {
    if bytes.len() > limits.head_bytes as usize { Err(HEAD_TOO_LARGE) } else { Ok(None) }
}

const HEAD_TOO_LARGE: Reject = Reject::response("the response head is larger than the limit");
const BAD_STATUS_LINE: &str = "a malformed status line (RFC 9112 section 4)";
