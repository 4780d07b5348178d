//! Waits, counted in buckets about 1.6 % wide.
//!
//! Many threads record into one histogram without a lock: a bucket is an atomic counter. It is read while it is being written
//! to: the counts of a window are those at its end less those at its beginning, so that the loop that is measured
//! need not know whether the clock runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets per doubling.
const SUB: u64 = 64;
const SUB_BITS: u32 = SUB.trailing_zeros();
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUB as usize;

/// Counters by size of the value.
#[derive(Debug)]
pub struct Histogram {
    buckets: Vec<AtomicU64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

/// The bucket of a value.
#[inline]
fn index(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let exponent = value.ilog2();
    let shift = exponent - SUB_BITS;
    (u64::from(shift + 1) * SUB + ((value >> shift) - SUB)) as usize
}

/// The middle of a bucket.
fn middle(index: usize) -> u64 {
    let index = index as u64;
    if index < SUB {
        return index;
    }
    let shift = index / SUB - 1;
    let low = (SUB + index % SUB) << shift;
    low + ((1_u64 << shift) >> 1)
}

impl Histogram {
    /// Counts a value.
    #[inline]
    pub fn record(&self, value: u64) {
        if let Some(bucket) = self.buckets.get(index(value)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All counts, by bucket; add them up over several histograms with [`add`].
    pub fn counts(&self) -> Vec<u64> {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect()
    }
}

/// Adds counts to others.
pub fn add(sum: &mut Vec<u64>, counts: &[u64]) {
    sum.resize(sum.len().max(counts.len()), 0);
    for (sum, count) in sum.iter_mut().zip(counts) {
        *sum += count;
    }
}

/// What was counted between two readings: values (the middle of their bucket, made longer by `scale`) and how many.
pub fn between(before: &[u64], after: &[u64], scale: impl Fn(u64) -> u64) -> Vec<(u64, u64)> {
    let counts = after.iter().enumerate().map(|(at, count)| (at, count - before.get(at).copied().unwrap_or(0)));
    counts.filter(|(_, count)| *count > 0).map(|(at, count)| (scale(middle(at)), count)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_is_near_the_middle_of_its_bucket(value in prop_oneof![0_u64..1_000, any::<u64>()]) {
            let seen = middle(index(value));
            prop_assert!(index(value) < BUCKETS);
            prop_assert!(seen.abs_diff(value) <= value / 100, "{value} is counted as {seen}");
        }

        #[test]
        fn greater_values_have_greater_buckets(a in any::<u64>(), b in any::<u64>()) {
            prop_assert!((a <= b) == (index(a) <= index(b)) || index(a) == index(b));
        }
    }

    #[test]
    fn a_window_is_the_difference_of_two_readings() {
        let (one, two) = (Histogram::default(), Histogram::default());
        one.record(7);
        let before = one.counts();
        one.record(7);
        two.record(7);
        two.record(50);
        let mut after = one.counts();
        add(&mut after, &two.counts());
        assert_eq!(between(&before, &after, |value| value * 10), [(70, 2), (500, 1)]);
    }
}
