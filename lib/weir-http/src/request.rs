//! The request head.

use memchr::memchr;
use weir_core::Reason;

use crate::facts::{Facts, check_line_ends};
use crate::{Field, Framing, Limits, Reject, Slots, Target, Version, is_valid_authority};

/// The head of a request, borrowed from the bytes and the slots it was parsed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHead<'b, 's> {
    /// Method.
    pub method: Method<'b>,
    /// Target.
    pub target: Target<'b>,
    /// Version of the client.
    pub version: Version,
    /// All fields in the order received, framing and host included. What is forwarded is chosen by
    /// [`Field::kind`] and [`Field::hop_by_hop`]; `Host` and `Content-Length` are to be written
    /// anew from [`RequestHead::host`] and [`RequestHead::framing`].
    pub fields: &'s [Field<'b>],
    /// The host this request is for, with its port if it had one, checked: the authority of the
    /// target if there is one (RFC 9112 section 3.2.2: it overrides `Host`), else the `Host` field.
    /// Empty only for HTTP/1.0 without `Host`.
    pub host: &'b [u8],
    /// How the end of the body is found.
    pub framing: Framing,
    /// Whether the client wants the connection to persist: HTTP/1.1 without `Connection: close`, or
    /// HTTP/1.0 with `Connection: keep-alive`.
    pub keep_alive: bool,
    /// The protocols of `Upgrade`, when `Connection` has the option `upgrade`, the version is 1.1
    /// and there is exactly one `Upgrade` line. An upgrade may always be ignored (RFC 9110 section 7.8).
    pub upgrade: Option<&'b [u8]>,
    /// The client waits for 100 (Continue) before it sends its body. False for HTTP/1.0 (RFC 9110
    /// section 10.1.1) and when there is no body to wait for.
    pub expect_continue: bool,
    /// Bytes of the head, with the empty line at its end and a skipped empty line before it.
    pub len: usize,
    /// The bytes that the fields are slices of, for [`crate::write::FieldCopier`].
    pub bytes: &'b [u8],
}

/// A request method. Compared with case (RFC 9110 section 9.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Method<'b> {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `TRACE`
    Trace,
    /// `CONNECT`
    Connect,
    /// Any other token.
    Other(&'b str),
}

/// Reads the head of a request from the start of `bytes`. `None` = incomplete: call again with the
/// same bytes and more behind them.
///
/// One empty line before the request line is skipped (RFC 9112 section 2.2).
///
/// # Errors
/// The head is malformed, ambiguous, larger than `limits`, or asks for something that Weir does not
/// do. The connection cannot be used for another request.
pub fn parse_request<'b, 's>(
    bytes: &'b [u8],
    slots: &'s mut Slots<'b>,
    limits: &Limits,
) -> Result<Option<RequestHead<'b, 's>>, Reject> {
    let Some(skipped) = leading_empty_line(bytes)? else {
        return Ok(None);
    };
    let Slots { raw, fields } = slots;
    let raw = &mut raw[..limits.max_fields()];
    let mut request = httparse::Request::new(&mut []);
    let line_and_fields = &bytes[skipped..];
    let len = match request.parse_with_uninit_headers(line_and_fields, raw) {
        Ok(httparse::Status::Complete(len)) => skipped + len,
        Ok(httparse::Status::Partial) => return incomplete(bytes, skipped, limits),
        Err(error) => return Err(reject(error, line_and_fields)),
    };
    // A complete head has all three; the tokeniser says so by position, not by type.
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Reject::new(Reason::Internal, "a complete head without a request line"));
    };
    if target.len() > limits.target_bytes as usize {
        return Err(TARGET_TOO_LONG);
    }
    if len > limits.head_bytes as usize {
        return Err(HEAD_TOO_LARGE);
    }
    if !check_line_ends(bytes, len, request.headers) {
        return Err(Reject::request("a line ends in LF without CR (RFC 9112 section 2.2)"));
    }

    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let method = Method::of(method);
    let facts = Facts::collect(request.headers, fields).map_err(Reject::request)?;
    let target = Target::parse(target.as_bytes(), method).map_err(Reject::request)?;
    let framing = framing(&facts, version)?;
    let host = effective_host(&facts, version, &target)?;
    if facts.other_expectation {
        return Err(Reject::new(
            Reason::ExpectationFailed,
            "an expectation other than 100-continue (RFC 9110 section 10.1.1)",
        ));
    }

    Ok(Some(RequestHead {
        method,
        target,
        version,
        fields: fields.as_slice(),
        host,
        framing,
        keep_alive: facts.keep_alive(version),
        upgrade: facts.upgrade(version),
        expect_continue: facts.expect_continue && version == Version::Http11 && !framing.is_empty(),
        len,
        bytes: &bytes[..len],
    }))
}

/// How many bytes of empty line come before the request line: 0 or 2, `None` = not yet known. A
/// client may end a body with a CRLF that it does not count (RFC 9112 section 2.2); more than one
/// is no client's mistake.
fn leading_empty_line(bytes: &[u8]) -> Result<Option<usize>, Reject> {
    match bytes {
        [] | [b'\r'] | [b'\r', b'\n'] => Ok(None),
        [b'\r', b'\n', b'\r' | b'\n', ..] | [b'\n', ..] => Err(EMPTY_LINES),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\r', ..] => Err(Reject::request("a bare CR before the request line (RFC 9112 section 2.2)")),
        _ => Ok(Some(0)),
    }
}

/// The end of the body of a request (RFC 9112 section 6.3). What the RFC lets a server repair
/// (both lengths, a length twice) is the stuff of smuggling and rejected.
fn framing(facts: &Facts<'_>, version: Version) -> Result<Framing, Reject> {
    if !facts.has_transfer_encoding() {
        if facts.repeated_length {
            return Err(Reject::request("Content-Length twice (RFC 9112 section 6.3, item 5)"));
        }
        return Ok(facts.content_length.map_or(Framing::None, Framing::Length));
    }
    if version == Version::Http10 {
        return Err(Reject::request("Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1)"));
    }
    if facts.content_length.is_some() {
        return Err(Reject::request("Transfer-Encoding and Content-Length (RFC 9112 section 6.1)"));
    }
    facts.check_final_chunked().map_err(Reject::request)?;
    if facts.unknown_coding {
        return Err(Reject::new(Reason::NotImplemented, "a transfer coding other than chunked (RFC 9112 section 6.1)"));
    }
    Ok(Framing::Chunked)
}

/// The host that the request is for (RFC 9112 section 3.2.2 and 3.2.3).
fn effective_host<'b>(facts: &Facts<'b>, version: Version, target: &Target<'b>) -> Result<&'b [u8], Reject> {
    if facts.repeated_host {
        return Err(Reject::request("Host twice (RFC 9112 section 3.2)"));
    }
    let field = match facts.host {
        Some(host) if is_valid_authority(host) => host,
        Some(_) => {
            return Err(Reject::request("Host is not a host with an optional port (RFC 9112 section 3.2)"));
        }
        None if version == Version::Http10 => b"",
        None => {
            return Err(Reject::request("no Host in HTTP/1.1 (RFC 9112 section 3.2)"));
        }
    };
    Ok(target.authority.unwrap_or(field))
}

/// The limits hold while the head is still incomplete, so that nobody fills the buffer without end.
#[cold]
fn incomplete<'b, 's>(bytes: &[u8], skipped: usize, limits: &Limits) -> Result<Option<RequestHead<'b, 's>>, Reject> {
    let line = &bytes[skipped..];
    let line = &line[..memchr(b'\n', line).unwrap_or(line.len())];
    if let Some(space) = memchr(b' ', line) {
        let target = &line[space + 1..];
        if memchr(b' ', target).unwrap_or(target.len()) > limits.target_bytes as usize {
            return Err(TARGET_TOO_LONG);
        }
    }
    if bytes.len() > limits.head_bytes as usize { Err(HEAD_TOO_LARGE) } else { Ok(None) }
}

/// What an error of the tokeniser means.
#[cold]
fn reject(error: httparse::Error, bytes: &[u8]) -> Reject {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => Reject::new(Reason::HeadTooLarge, "too many fields (RFC 6585 section 5)"),
        Error::Version if names_another_version(bytes) => Reject::new(
            Reason::VersionNotSupported,
            "a version other than HTTP/1.0 and HTTP/1.1 (RFC 9110 section 15.6.6)",
        ),
        Error::Version => Reject::request("no HTTP version in the request line (RFC 9112 section 3)"),
        Error::HeaderName => Reject::request(
            "an invalid field name, white space before the colon, or a folded line (RFC 9112 section 5)",
        ),
        Error::HeaderValue => Reject::request("a control character in a field value (RFC 9110 section 5.5)"),
        Error::NewLine => Reject::request("a bare CR or text after the version (RFC 9112 section 2.2)"),
        Error::Token | Error::Status => Reject::request("a malformed request line (RFC 9112 section 3)"),
    }
}

/// Whether the third word of the request line is an HTTP version, such as in the preface of HTTP/2
/// (RFC 9113 section 3.4).
fn names_another_version(bytes: &[u8]) -> bool {
    let word = bytes.splitn(3, |&byte| byte == b' ').nth(2);
    word.and_then(|word| word.strip_prefix(b"HTTP/")).is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_digit))
}

const HEAD_TOO_LARGE: Reject =
    Reject::new(Reason::HeadTooLarge, "the request head is larger than the limit (RFC 6585 section 5)");
const TARGET_TOO_LONG: Reject =
    Reject::new(Reason::TargetTooLong, "the request target is longer than the limit (RFC 9110 section 15.5.15)");
const EMPTY_LINES: Reject =
    Reject::request("more than one empty line, or a bare LF, before the request line (RFC 9112 section 2.2)");

// === impl Method ===

impl<'b> Method<'b> {
    /// The method of a token.
    pub fn of(token: &'b str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "TRACE" => Self::Trace,
            "CONNECT" => Self::Connect,
            other => Self::Other(other),
        }
    }

    /// The token.
    pub const fn as_str(self) -> &'b str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other(token) => token,
        }
    }

    /// Safe (RFC 9110 section 9.2.1): the client asks for no change of state. Unknown methods are not.
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Idempotent (RFC 9110 section 9.2.2): safe, PUT and DELETE. Unknown methods are not.
    pub const fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}
