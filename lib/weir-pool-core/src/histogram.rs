//! Counts of durations in buckets of constant relative width, in constant space.
//!
//! Unit: 256 ns. Each octave is cut into [`SUB`] buckets of equal width, so that a bucket is at most an eighth wider than its lower
//! bound; what is shorter than eight units has buckets of one unit, what is longer than 68 s shares the last one. Recording is a few
//! instructions and touches two cache lines. (The layout is that of `HdrHistogram`, with fixed figures.)

use std::time::Duration;

/// Buckets per octave.
pub const SUB: usize = 8;
/// The unit, as a power of two of nanoseconds.
const UNIT_SHIFT: u32 = 8;
const OCTAVES: usize = 26;
/// Number of buckets.
pub const BUCKETS: usize = (OCTAVES + 1) * SUB;

/// The counts. See the module.
///
/// ```
/// use std::time::Duration;
/// use weir_pool_core::Histogram;
///
/// let mut waits = Histogram::new();
/// for millis in 1..=100 {
///     waits.record(Duration::from_millis(millis));
/// }
/// let p99 = waits.quantile(0.99);
/// assert!(p99 >= Duration::from_millis(99) && p99 <= Duration::from_millis(112), "{p99:?}");
/// assert_eq!((waits.count(), waits.mean()), (100, Duration::from_micros(50_500)));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram {
    sum_nanos: u64,
    max_nanos: u64,
    counts: [u64; BUCKETS],
}

impl Histogram {
    /// Nothing counted.
    pub const fn new() -> Self {
        Self { sum_nanos: 0, max_nanos: 0, counts: [0; BUCKETS] }
    }

    /// Counts one.
    #[inline]
    pub fn record(&mut self, duration: Duration) {
        self.record_nanos(duration.as_nanos() as u64);
    }

    /// Counts one, in nanoseconds.
    #[inline]
    pub fn record_nanos(&mut self, nanos: u64) {
        self.sum_nanos = self.sum_nanos.wrapping_add(nanos);
        self.max_nanos = self.max_nanos.max(nanos);
        if let Some(count) = self.counts.get_mut(bucket(nanos)) {
            *count += 1;
        }
    }

    /// Counts `n` of one duration.
    pub fn record_many(&mut self, duration: Duration, n: u64) {
        let nanos = duration.as_nanos() as u64;
        self.sum_nanos = self.sum_nanos.wrapping_add(nanos.wrapping_mul(n));
        if n > 0 {
            self.max_nanos = self.max_nanos.max(nanos);
        }
        if let Some(count) = self.counts.get_mut(bucket(nanos)) {
            *count += n;
        }
    }

    /// Counts `n` that took no time.
    #[inline]
    pub fn record_zeros(&mut self, n: u64) {
        self.counts[0] += n;
    }

    /// Adds `n` to a bucket ([`Histogram::bucket`]), for an owner who has counted them elsewhere; their sum and the longest of them
    /// are added by [`Histogram::add_total`]. A bucket that does not exist is ignored.
    pub fn add(&mut self, bucket: usize, n: u64) {
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += n;
        }
    }

    /// See [`Histogram::add`].
    pub fn add_total(&mut self, sum_nanos: u64, max_nanos: u64) {
        self.sum_nanos = self.sum_nanos.wrapping_add(sum_nanos);
        self.max_nanos = self.max_nanos.max(max_nanos);
    }

    /// The bucket of a duration; below [`BUCKETS`].
    #[inline]
    pub const fn bucket(nanos: u64) -> usize {
        bucket(nanos)
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together (modulo 2⁶⁴ ns, which is 584 years).
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos)
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// Their mean; zero if there is none.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos.checked_div(self.count()).unwrap_or(0))
    }

    /// The duration that this part (0.0 to 1.0) of them does not exceed: the upper bound of its bucket, and at most the longest. Zero
    /// if there is none.
    pub fn quantile(&self, part: f64) -> Duration {
        let count = self.count();
        if count == 0 {
            return Duration::ZERO;
        }
        let rank = ((part.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        for (index, n) in self.counts.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return Duration::from_nanos(upper_bound(index).min(self.max_nanos));
            }
        }
        self.max()
    }

    /// How many were shorter than `2^shift` nanoseconds; exact for `shift` of 8 to 36.
    pub fn below_power(&self, shift: u32) -> u64 {
        let end = if shift >= 64 { BUCKETS } else { bucket(1 << shift) };
        self.counts.iter().take(end).sum()
    }

    /// The buckets that hold something: upper bound and count.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let held = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        held.map(|(index, count)| (Duration::from_nanos(upper_bound(index)), *count))
    }

    /// What was counted since `before`, an earlier copy of this one. The longest is that of all.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        since.sum_nanos = self.sum_nanos.wrapping_sub(before.sum_nanos);
        for (count, earlier) in since.counts.iter_mut().zip(before.counts) {
            *count = count.saturating_sub(earlier);
        }
        since
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        self.sum_nanos = self.sum_nanos.wrapping_add(other.sum_nanos);
        self.max_nanos = self.max_nanos.max(other.max_nanos);
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
const fn bucket(nanos: u64) -> usize {
    let units = nanos >> UNIT_SHIFT;
    if units < SUB as u64 {
        return units as usize;
    }
    let exponent = units.ilog2() as usize;
    let within = (units >> (exponent - 3)) as usize & (SUB - 1);
    let index = ((exponent - 2) << 3) + within;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// In nanoseconds; exclusive.
const fn upper_bound(index: usize) -> u64 {
    if index + 1 >= BUCKETS {
        return u64::MAX;
    }
    let next = index + 1;
    if next < SUB {
        return (next as u64) << UNIT_SHIFT;
    }
    let exponent = (next >> 3) + 2;
    let units = ((SUB + (next & (SUB - 1))) as u64) << (exponent - 3);
    units << UNIT_SHIFT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_and_buckets_agree() {
        for index in 0..BUCKETS - 1 {
            let bound = upper_bound(index);
            assert_eq!((bucket(bound - 1), bucket(bound)), (index, index + 1), "at {bound} ns");
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
        assert!(upper_bound(BUCKETS - 2) > 60_000_000_000);
    }

    #[test]
    fn powers_of_two_are_bounds() {
        let mut histogram = Histogram::new();
        for shift in 8..=36 {
            histogram.record_nanos((1 << shift) - 1);
            histogram.record_nanos(1 << shift);
        }
        for shift in 8..=36 {
            assert_eq!(histogram.below_power(shift), (u64::from(shift) - 8) * 2 + 1);
        }
        assert_eq!(histogram.below_power(64), histogram.count());
    }

    proptest! {
        /// Against sorted values: never below, and at most an eighth (or a unit) above.
        #[test]
        fn quantiles_are_near(
            mut values in prop::collection::vec(0_u64..60_000_000_000, 1..200),
            part in 0.0_f64..=1.0,
        ) {
            let mut histogram = Histogram::new();
            for nanos in &values {
                histogram.record_nanos(*nanos);
            }
            values.sort_unstable();
            let rank = ((part * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let (exact, found) = (values[rank - 1], histogram.quantile(part).as_nanos() as u64);
            prop_assert!(found >= exact && found <= exact + exact / 8 + 256, "{found} for {exact}");
            prop_assert_eq!(histogram.count(), values.len() as u64);
            let mut twice = histogram.clone();
            twice.merge(&histogram);
            prop_assert_eq!(&twice.since(&histogram), &histogram);
            let mut many = Histogram::new();
            for nanos in &values {
                many.record_many(Duration::from_nanos(*nanos), 2);
            }
            prop_assert_eq!(many, twice);
        }
    }
}
