//! Counters and gauges with a single writer.
//!
//! Why not `fetch_add`: a locked read-modify-write costs about twenty cycles even without contention. Each
//! of these belongs to one worker, so a relaxed load and a relaxed store are enough; readers (the scrape)
//! see a value that was true a moment ago. Two threads writing the same counter would lose increments, but
//! nothing worse.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use weir_core::Reason;

/// A number that only grows. Single writer, any number of readers. Wraps at 2^64.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one.
    #[inline(always)]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. Single writer, any number of readers.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// A gauge at zero.
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Adds one.
    #[inline(always)]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes one away.
    #[inline(always)]
    pub fn dec(&self) {
        self.add(-1);
    }

    /// Adds `n`, which may be negative.
    #[inline(always)]
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets the value.
    #[inline(always)]
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The labels of [`ByStatus`], in order. `none`: no response head was sent (the client left first).
pub const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// One counter per class of HTTP status.
#[derive(Debug, Default)]
pub struct ByStatus([Counter; STATUS_CLASSES.len()]);

impl ByStatus {
    /// Counts one response with `status`; 0 means that none was sent. Above 599 counts as 5xx.
    #[inline]
    pub fn inc(&self, status: u16) {
        self.0[usize::from(status / 100).min(STATUS_CLASSES.len() - 1)].inc();
    }

    /// The counts in the order of [`STATUS_CLASSES`].
    pub fn get(&self) -> [u64; STATUS_CLASSES.len()] {
        std::array::from_fn(|class| self.0[class].get())
    }

    /// The sum of all classes.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// One counter per [`Reason`].
#[derive(Debug)]
pub struct ByReason([Counter; Reason::ALL.len()]);

impl ByReason {
    /// Counts one end for `reason`.
    #[inline]
    pub fn inc(&self, reason: Reason) {
        self.0[reason as usize].inc();
    }

    /// The count of `reason`.
    pub fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize].get()
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

impl Default for ByReason {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_class() {
        let by = ByStatus::default();
        for status in [0, 100, 199, 204, 304, 404, 499, 500, 599, 600, u16::MAX] {
            by.inc(status);
        }
        assert_eq!(by.get(), [1, 2, 1, 1, 2, 4]);
        assert_eq!(by.total(), 11);
    }

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let by = ByReason::default();
        for (n, reason) in Reason::ALL.iter().enumerate() {
            for _ in 0..=n {
                by.inc(*reason);
            }
        }
        for (n, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(by.get(*reason), n as u64 + 1, "{reason}");
        }
    }

    #[test]
    fn a_gauge_goes_both_ways() {
        let gauge = Gauge::new();
        gauge.inc();
        gauge.dec();
        gauge.dec();
        assert_eq!(gauge.get(), -1);
        gauge.set(7);
        assert_eq!(gauge.get(), 7);
    }
}
