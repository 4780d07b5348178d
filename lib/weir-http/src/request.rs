//! The request head.

use memchr::memchr;
use weir_core::Reason;

use crate::facts::{BARE_LF, Facts, Malformed};
use crate::scan::{target_len, token_len};
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
    /// The request line as it came, with its line end: words separated by one space each.
    pub line: &'b [u8],
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
    let line = match request_line(&bytes[skipped..]) {
        Ok(Some(line)) => line,
        Ok(None) => return incomplete(bytes, skipped, limits),
        Err(reject) => return Err(reject),
    };
    if line.target.len() > limits.target_bytes as usize {
        return Err(TARGET_TOO_LONG);
    }
    let Slots { fields } = slots;
    let mut facts = Facts::default();
    let len = match facts.read(line.behind, limits.max_fields(), fields) {
        Ok(Some(behind)) => bytes.len() - behind.len(),
        Ok(None) => return incomplete(bytes, skipped, limits),
        Err(Malformed::TooMany) => {
            return Err(Reject::new(Reason::HeadTooLarge, "too many fields (RFC 6585 section 5)"));
        }
        Err(Malformed::Detail(detail)) => return Err(Reject::request(detail)),
    };
    if len > limits.head_bytes as usize {
        return Err(HEAD_TOO_LARGE);
    }
    let RequestLine { method, version, .. } = line;
    let target = Target::parse(line.target, method).map_err(Reject::request)?;
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
        line: line.text,
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

/// The words of the first line, the line, and what follows it.
struct RequestLine<'b> {
    method: Method<'b>,
    target: &'b [u8],
    version: Version,
    text: &'b [u8],
    behind: &'b [u8],
}

/// `request-line = method SP request-target SP HTTP-version` (RFC 9112 section 3). Of the target, only the bytes are
/// looked at. `None` = incomplete.
#[inline]
fn request_line(bytes: &[u8]) -> Result<Option<RequestLine<'_>>, Reject> {
    let (method, behind) = match bytes.split_at_checked(token_len(bytes)) {
        Some((method @ [_, ..], [b' ', behind @ ..])) => (method, behind),
        None | Some((_, [])) => return Ok(None),
        Some(_) => return Err(Reject::request(BAD_REQUEST_LINE)),
    };
    let (target, behind) = match behind.split_at_checked(target_len(behind)) {
        Some((target @ [_, ..], [b' ', behind @ ..])) => (target, behind),
        None | Some((_, [])) => return Ok(None),
        // A fragment is never sent (RFC 9110 section 4.2.5); recipients differ in what one ends.
        Some((_, [b'#' | 0x80.., ..])) => {
            return Err(Reject::request(
                "a fragment or a byte beyond ASCII in the request target (RFC 9112 section 3.2)",
            ));
        }
        Some(_) => return Err(Reject::request(BAD_REQUEST_LINE)),
    };
    let (version, behind) = match behind {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b'\r', b'\n', behind @ ..] => (Version::Http11, behind),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', b'\r', b'\n', behind @ ..] => (Version::Http10, behind),
        _ => return partial_version(behind),
    };
    let text = bytes.get(..bytes.len() - behind.len()).unwrap_or_default();
    Ok(Some(RequestLine { method: Method::of_token(method), target, version, text, behind }))
}

/// A version that is short, or wrong.
#[cold]
fn partial_version<'b>(rest: &[u8]) -> Result<Option<RequestLine<'b>>, Reject> {
    let matched = |pattern: &[u8]| rest.iter().zip(pattern).take_while(|(byte, want)| byte == want).count();
    let found = matched(b"HTTP/1.0\r\n").max(matched(b"HTTP/1.1\r\n"));
    if found == rest.len() {
        return Ok(None);
    }
    Err(match (found, rest.get(found)) {
        (8, Some(b'\n')) => Reject::request(BARE_LF),
        (8.., _) => Reject::request("a bare CR or text after the version (RFC 9112 section 2.2)"),
        _ if names_another_version(rest) => Reject::new(
            Reason::VersionNotSupported,
            "a version other than HTTP/1.0 and HTTP/1.1 (RFC 9110 section 15.6.6)",
        ),
        _ => Reject::request("no HTTP version in the request line (RFC 9112 section 3)"),
    })
}

/// Whether the third word of the request line is an HTTP version, such as in the preface of HTTP/2
/// (RFC 9113 section 3.4).
fn names_another_version(word: &[u8]) -> bool {
    word.strip_prefix(b"HTTP/").is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_digit))
}

const BAD_REQUEST_LINE: &str = "a malformed request line (RFC 9112 section 3)";
const HEAD_TOO_LARGE: Reject =
    Reject::new(Reason::HeadTooLarge, "the request head is larger than the limit (RFC 6585 section 5)");
const TARGET_TOO_LONG: Reject =
    Reject::new(Reason::TargetTooLong, "the request target is longer than the limit (RFC 9110 section 15.5.15)");
const EMPTY_LINES: Reject =
    Reject::request("more than one empty line, or a bare LF, before the request line (RFC 9112 section 2.2)");

// === impl Method ===

impl<'b> Method<'b> {
    /// The method of checked bytes.
    fn of_token(token: &'b [u8]) -> Self {
        // The usual ones without a look at what they are as text.
        match token {
            b"GET" => Self::Get,
            b"POST" => Self::Post,
            other => std::str::from_utf8(other).map_or(Self::Other(""), Self::of),
        }
    }

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
