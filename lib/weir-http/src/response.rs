//! The response head.

use crate::facts::{Facts, check_line_ends, offset_in};
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
    if let [b'\r' | b'\n', ..] = bytes {
        return Err(Reject::response("an empty line before the status line (RFC 9112 section 2.1)"));
    }
    let Slots { raw, fields } = slots;
    let raw = &mut raw[..limits.max_fields()];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let len = match config.parse_response_with_uninit_headers(&mut response, bytes, raw) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() > limits.head_bytes as usize => {
            return Err(HEAD_TOO_LARGE);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(reject(error)),
    };
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(Reject::response("a complete head without a status line"));
    };
    if len > limits.head_bytes as usize {
        return Err(HEAD_TOO_LARGE);
    }
    if !check_line_ends(bytes, len, response.headers) {
        return Err(Reject::response("a line ends in LF without CR (RFC 9112 section 2.2)"));
    }
    if status < 100 {
        return Err(Reject::response("a status below 100 (RFC 9110 section 15)"));
    }

    // The tokeniser gives no reason phrase that holds obs-text, so it is cut out here.
    let line_end = response.headers.first().map_or(len - 2, |first| offset_in(bytes, first.name)) - 2;
    let reason = bytes.get(REASON_OFFSET..line_end).unwrap_or_default();
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let facts = Facts::collect(response.headers, fields).map_err(Reject::response)?;
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

/// What an error of the tokeniser means.
#[cold]
fn reject(error: httparse::Error) -> Reject {
    use httparse::Error;
    Reject::response(match error {
        Error::TooManyHeaders => "too many fields",
        Error::Version => "not HTTP/1.0 or HTTP/1.1 (RFC 9112 section 4)",
        Error::HeaderName => {
            "an invalid field name, white space before the colon, or a folded line (RFC 9112 section 5)"
        }
        Error::HeaderValue => "a control character in a field value (RFC 9110 section 5.5)",
        Error::NewLine => "a bare CR (RFC 9112 section 2.2)",
        Error::Token | Error::Status => "a malformed status line (RFC 9112 section 4)",
    })
}

const HEAD_TOO_LARGE: Reject = Reject::response("the response head is larger than the limit");
/// Bytes of `HTTP/1.1 200 `.
const REASON_OFFSET: usize = 13;
