//! What request and response heads have in common: storage, framing words, rejects.

use arrayvec::ArrayVec;
use weir_core::Reason;

use crate::{Field, Limits, Method};

/// Storage for the fields of one head, on the caller's stack (about 5 KiB, left uninitialised, so
/// that [`Slots::new`] costs nothing). Good for one head: make a new one for each parse.
pub struct Slots<'b> {
    pub(crate) fields: ArrayVec<Field<'b>, { Limits::MAX_FIELDS }>,
}

/// A message that is not taken: why, and what exactly is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reject {
    /// The stable reason; [`Reason::status`] gives the status to answer with.
    pub reason: Reason,
    /// What is wrong, with the section of the RFC. For logs, not for the peer.
    pub detail: &'static str,
}

/// The version of a message. Others are rejected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
}

/// How the end of a request body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Framing {
    /// Neither `Content-Length` nor `Transfer-Encoding`: no body.
    None,
    /// `Content-Length`, 0 included.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// How the end of a response body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ResponseFraming {
    /// No body whatever the fields say: 1xx, 204, 304, the response to HEAD, 2xx to CONNECT.
    None,
    /// `Content-Length`, 0 included.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the peer closes.
    UntilClose,
}

/// What must be known of a request to find the end of its response.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RequestMethodFacts {
    /// The request was HEAD: the response has no body.
    pub head: bool,
    /// The request was CONNECT: a 2xx response turns the connection into a tunnel.
    pub connect: bool,
}

// === impl Slots ===

impl Slots<'_> {
    /// Empty storage.
    #[inline]
    pub const fn new() -> Self {
        Self { fields: ArrayVec::new_const() }
    }
}

impl Default for Slots<'_> {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Reject ===

impl Reject {
    pub(crate) const fn new(reason: Reason, detail: &'static str) -> Self {
        Self { reason, detail }
    }

    pub(crate) const fn request(detail: &'static str) -> Self {
        Self::new(Reason::BadRequest, detail)
    }

    pub(crate) const fn response(detail: &'static str) -> Self {
        Self::new(Reason::BadResponse, detail)
    }
}

impl std::fmt::Display for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for Reject {}

// === impl Framing ===

impl Framing {
    /// Whether the message surely has no body: no framing, or a length of 0.
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

impl ResponseFraming {
    /// Whether the message surely has no body: no framing, or a length of 0.
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

// === impl RequestMethodFacts ===

impl From<Method<'_>> for RequestMethodFacts {
    fn from(method: Method<'_>) -> Self {
        Self { head: method == Method::Head, connect: method == Method::Connect }
    }
}
