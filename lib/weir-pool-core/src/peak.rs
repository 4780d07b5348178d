//! The highest value within a sliding window, in constant space.
//!
//! The window is cut into [`BUCKETS`] equal buckets; each keeps the highest value seen in it, and the
//! one that fills up stands beside them. So a value counts for at least the window and at most
//! 1 + 1/[`BUCKETS`] of it. Recording costs two comparisons; only the turn of a bucket costs more.

use std::time::Duration;

use weir_core::Instant;

/// Full buckets that cover one window.
const BUCKETS: usize = 8;

#[derive(Clone, Debug)]
pub(crate) struct Peak {
    bucket: Duration,
    /// When the current bucket is full.
    turn: Instant,
    current: u32,
    /// The highest of each full bucket; a ring.
    full: [u32; BUCKETS],
    at: usize,
}

impl Peak {
    pub(crate) fn new(window: Duration) -> Self {
        Self { bucket: bucket_of(window), turn: Instant::ZERO, current: 0, full: [0; BUCKETS], at: 0 }
    }

    /// Changes the window; what was recorded stays, in buckets of the new length.
    pub(crate) fn set_window(&mut self, window: Duration) {
        self.bucket = bucket_of(window);
    }

    /// `value` holds at `now`, and has held since the last call until now if it fell (a fall is recorded
    /// before it happens).
    pub(crate) fn record(&mut self, value: u32, now: Instant) {
        if now >= self.turn {
            self.roll(value, now);
        }
        self.current = self.current.max(value);
    }

    /// The highest value within the window as of the last `record`.
    pub(crate) fn get(&self) -> u32 {
        self.full.iter().fold(self.current, |max, value| max.max(*value))
    }

    #[cold]
    fn roll(&mut self, value: u32, now: Instant) {
        let late = u32::try_from(now.since(self.turn).as_nanos() / self.bucket.as_nanos()).unwrap_or(u32::MAX);
        // Buckets that passed without a record held what holds now: falls are recorded first.
        let passed = (late as usize).min(BUCKETS);
        self.push(self.current);
        for _ in 0..passed {
            self.push(value);
        }
        self.current = value;
        // On the grid of the buckets, so that rare records do not stretch the window.
        self.turn = self.turn + self.bucket.saturating_mul(late) + self.bucket;
    }

    fn push(&mut self, value: u32) {
        if let Some(bucket) = self.full.get_mut(self.at) {
            *bucket = value;
        }
        self.at = (self.at + 1) % BUCKETS;
    }
}

fn bucket_of(window: Duration) -> Duration {
    (window / BUCKETS as u32).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_for_the_window_and_not_much_longer() {
        let at = Instant::from_millis;
        let mut peak = Peak::new(Duration::from_secs(8));
        peak.record(5, at(0));
        peak.record(50, at(500));
        peak.record(50, at(600)); // about to fall
        peak.record(3, at(600));
        for second in 1..8 {
            peak.record(3, at(second * 1_000));
            assert_eq!(peak.get(), 50, "after {second} s");
        }
        peak.record(3, at(8_500));
        assert_eq!(peak.get(), 50);
        peak.record(3, at(9_700));
        assert_eq!(peak.get(), 3);
    }

    #[test]
    fn a_long_silence_leaves_what_holds_now() {
        let mut peak = Peak::new(Duration::from_secs(8));
        peak.record(40, Instant::from_millis(10));
        peak.record(2, Instant::from_millis(60_000));
        assert_eq!(peak.get(), 2);
    }
}
