//! Back-off with jitter.
#![allow(unused_variables, clippy::unimplemented)]
use std::time::Duration;

/// Exponential back-off with full jitter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// Upper bound of the first delay.
    pub base: Duration,
    /// Upper bound of every delay.
    pub max: Duration,
}

impl Backoff {
    /// The delay before retry `n` (0 = the first).
    pub fn delay(&self, n: u32, seed: u64) -> Duration {
        unimplemented!()
    }
}
