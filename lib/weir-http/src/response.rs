//! The response head.

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
    let _ = (bytes, slots, limits, request);
    Ok(None)
}
