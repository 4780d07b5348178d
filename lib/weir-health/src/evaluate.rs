//! What an answer to an HTTP probe says.
#![allow(unused_variables, clippy::unimplemented)]
use crate::HttpProbe;

/// Why a probe failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProbeFailure {
    /// The connection was refused.
    Refused,
    /// The connection could not be opened otherwise.
    ConnectFailed,
    /// No complete answer within the time-out.
    Timeout,
    /// The connection was closed or reset before a complete answer.
    Closed,
    /// The answer is not HTTP.
    Malformed,
    /// Another status than expected.
    Status(u16),
    /// An expected response field is absent or lacks the text.
    Header,
    /// The body lacks the text.
    Body,
}

/// How much of the body is looked at.
pub const BODY_PREFIX_MAX_BYTES: usize = 64 * 1024;

/// Whether an answer is a success. `headers` are name and value.
pub fn evaluate_http<'h>(
    probe: &HttpProbe,
    status: u16,
    headers: impl Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
    body_prefix: &[u8],
) -> Result<(), ProbeFailure> {
    unimplemented!()
}
