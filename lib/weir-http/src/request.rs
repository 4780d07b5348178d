//! The request head.

use crate::{Field, Framing, Limits, Reject, Slots, Target, Version};

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
    let _ = (bytes, slots, limits);
    Ok(None)
}

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
