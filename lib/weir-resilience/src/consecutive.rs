//! Failures in a row of one endpoint, counted by all workers.

use std::sync::atomic::{AtomicU32, Ordering};

/// Failures in a row of one endpoint. Lives in the endpoint; the data path counts here and tells the
/// [`Detector`](crate::outlier::Detector) only when it [`should report`](Self::should_report).
///
/// Requests end in no particular order over the workers, so "in a row" is in the order in which the
/// workers say so. Nothing else depends on it: relaxed ordering is enough.
#[derive(Debug, Default)]
pub struct ConsecutiveFailures(AtomicU32);

impl ConsecutiveFailures {
    /// None yet.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// A request succeeded. One load while there are no failures.
    pub fn record_success(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// A request failed; returns how many have in a row, this one included.
    pub fn record_failure(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Starts from zero. To be called when the endpoint is restored: what ended meanwhile was sent before.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether the detector should be told of the `count`-th failure in a row: at the threshold, and at
    /// each multiple of it, because the detector may have refused the first time.
    pub const fn should_report(count: u32, threshold: u32) -> bool {
        threshold != 0 && count != 0 && count.is_multiple_of(threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_ends_the_row() {
        let failures = ConsecutiveFailures::new();
        assert_eq!((failures.record_failure(), failures.record_failure()), (1, 2));
        failures.record_success();
        assert_eq!(failures.record_failure(), 1);
        failures.reset();
        assert_eq!(failures.record_failure(), 1);
    }

    #[test]
    fn reports_at_multiples_of_the_threshold() {
        let reported: Vec<u32> = (0..12).filter(|n| ConsecutiveFailures::should_report(*n, 5)).collect();
        assert_eq!(reported, [5, 10]);
        assert!(!ConsecutiveFailures::should_report(3, 0));
    }
}
