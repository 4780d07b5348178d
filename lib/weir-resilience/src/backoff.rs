//! Exponential back-off with full jitter.
//!
//! ```text
//! delay(n) = uniform in 0 ..= min(max, base × 2ⁿ)
//! ```
//!
//! Full jitter spreads callers that failed together over the whole interval; of the variants compared in
//! M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), it costs the fewest calls.

use std::time::Duration;

use weir_core::hash;

/// Exponential back-off with full jitter.
///
/// ```
/// use std::time::Duration;
/// use weir_resilience::Backoff;
///
/// let backoff = Backoff { base: Duration::from_millis(25), max: Duration::from_secs(1) };
/// assert!(backoff.delay(0, 7) <= Duration::from_millis(25));
/// assert!(backoff.delay(2, 7) <= Duration::from_millis(100));
/// assert!(backoff.delay(60, 7) <= Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// Upper bound of the first delay.
    pub base: Duration,
    /// Upper bound of every delay.
    pub max: Duration,
}

impl Backoff {
    /// The delay before retry `n` (0 = the first), drawn by `seed`: use another one each time.
    pub fn delay(&self, n: u32, seed: u64) -> Duration {
        let bound = self.bound(n);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(hash::reduce(hash::splitmix64(seed), nanos.saturating_add(1)))
    }

    /// The longest delay before retry `n`.
    pub fn bound(&self, n: u32) -> Duration {
        let factor = 1_u32.checked_shl(n).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_fill_their_interval() {
        let backoff = Backoff { base: Duration::from_millis(10), max: Duration::from_millis(70) };
        for (n, bound) in [(0, 10), (1, 20), (2, 40), (3, 70), (31, 70), (32, 70), (u32::MAX, 70)] {
            let bound = Duration::from_millis(bound);
            assert_eq!(backoff.bound(n), bound);
            let drawn: Vec<Duration> = (0..1_000).map(|seed| backoff.delay(n, seed)).collect();
            assert!(drawn.iter().all(|delay| *delay <= bound));
            assert!(drawn.iter().any(|delay| *delay < bound / 20), "from near zero");
            assert!(drawn.iter().any(|delay| *delay > bound * 19 / 20), "to near the bound");
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let backoff = Backoff { base: Duration::MAX, max: Duration::MAX };
        assert_eq!(backoff.bound(40), Duration::MAX);
        let _ = backoff.delay(40, 1);
        let none = Backoff { base: Duration::ZERO, max: Duration::MAX };
        assert_eq!(none.delay(9, 3), Duration::ZERO);
    }
}
