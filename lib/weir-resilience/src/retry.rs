//! Whether to retry.
#![allow(unused_variables, clippy::unimplemented)]
use crate::RetryParams;
use weir_core::Fault;

/// What is known of a failed attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Which attempt failed: 1 = the first.
    pub number: u32,
    /// How it failed.
    pub fault: Fault,
    /// Whether the method is idempotent (RFC 9110 section 9.2.2).
    pub idempotent: bool,
    /// Whether the body can be sent again.
    pub body: BodyState,
    /// Whether the client has been given any byte of a response.
    pub response_begun: bool,
}

/// Whether a request body can be sent again from its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyState {
    /// The request has no body.
    Absent,
    /// Every byte taken from the client so far is still held (or none was taken yet).
    Whole,
    /// Bytes were relayed and not kept.
    Gone,
}

/// Whether the request may be given to another endpoint. The budget is asked afterwards.
pub fn retry_decision(attempt: &Attempt, params: &RetryParams) -> bool {
    unimplemented!()
}
