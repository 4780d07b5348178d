//! Whether a failed request may be given to another endpoint.
//!
//! RFC 9110 section 9.2.2: "A proxy MUST NOT automatically retry non-idempotent requests." So a request of
//! which any byte was given to the kernel must be idempotent, and must still be whole. One of which no
//! byte was given has not been made yet: trying it elsewhere is its first try, whatever its method.

use weir_core::{Fault, Retry};

use crate::RetryParams;

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

/// Whether the request may be given to another endpoint. Ask the
/// [`RetryBudget`](crate::RetryBudget) afterwards, so that it counts only retries that happen.
pub const fn retry_decision(attempt: &Attempt, params: &RetryParams) -> bool {
    if attempt.number >= params.attempts || attempt.response_begun {
        return false;
    }
    let whole = !matches!(attempt.body, BodyState::Gone);
    match attempt.fault.retry {
        Retry::NeverSent => whole,
        Retry::IfIdempotent => whole && attempt.idempotent,
        Retry::Never => false,
    }
}

#[cfg(test)]
mod tests {
    use weir_core::{Origin, Phase, Reason};

    use super::*;

    fn attempt(retry: Retry, idempotent: bool, body: BodyState) -> Attempt {
        let fault = Fault { origin: Origin::Upstream, phase: Phase::Await, reason: Reason::UpstreamReset, retry };
        Attempt { number: 1, fault, idempotent, body, response_begun: false }
    }

    #[test]
    fn every_combination() {
        use BodyState::{Absent, Gone, Whole};
        use Retry::{IfIdempotent, Never, NeverSent};
        let params = RetryParams::default();
        for (retry, idempotent, body, expected) in [
            (NeverSent, false, Absent, true),
            (NeverSent, false, Whole, true),
            (NeverSent, true, Gone, false),
            (IfIdempotent, true, Absent, true),
            (IfIdempotent, true, Whole, true),
            (IfIdempotent, true, Gone, false),
            (IfIdempotent, false, Absent, false),
            (IfIdempotent, false, Whole, false),
            (Never, true, Absent, false),
            (Never, false, Whole, false),
        ] {
            let attempt = attempt(retry, idempotent, body);
            assert_eq!(retry_decision(&attempt, &params), expected, "{attempt:?}");
            let begun = Attempt { response_begun: true, ..attempt };
            assert!(!retry_decision(&begun, &params), "the client has response bytes");
        }
    }

    #[test]
    fn attempts_are_bounded() {
        let mut failed = attempt(Retry::NeverSent, true, BodyState::Absent);
        let mut tried = |number, attempts| {
            failed.number = number;
            retry_decision(&failed, &RetryParams { attempts, ..RetryParams::default() })
        };
        assert!(tried(1, 3) && tried(2, 3) && !tried(3, 3) && !tried(u32::MAX, 3));
        assert!(!tried(1, 1) && !tried(1, 0));
    }
}
