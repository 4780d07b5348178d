//! A histogram of durations: log-linear buckets of a fixed number, single writer, no lock.
//!
//! # Two resolutions
//! * *Fine*, for quantiles: four buckets per power of two over all of `u32` microseconds (1 µs to 71 min),
//!   124 buckets. A bucket reaches from `a` to at most `1.25 a`; the value reported for it is the one whose
//!   relative error is the same at both ends, `2ab/(a+b)`, so no quantile is off by more than 11.2 %. This is
//!   the layout of `HdrHistogram` (Gil Tene) with two significant bits.
//! * *Coarse*, for Prometheus: one counter per boundary of [`LE_MICROS`], exact. No fine bucket holds two
//!   boundaries, so the coarse bucket follows from the fine one by a table and one comparison.
//!
//! One observation is about 25 instructions; a histogram is 1,128 bytes.

use crate::Counter;

/// Upper boundaries (inclusive) of the Prometheus buckets in microseconds; `+Inf` follows.
pub const LE_MICROS: [u32; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// Fine buckets per power of two, as a power of two.
const SUB_BITS: u32 = 2;
const SUB: usize = 1 << SUB_BITS;
/// Values below `SUB` have a bucket each; each of the powers of two above has `SUB`.
const FINE: usize = SUB + (32 - SUB_BITS as usize) * SUB;
const COARSE: usize = LE_MICROS.len() + 1;

/// The first boundary that is not below the fine bucket's lowest value.
const COARSE_OF_FINE: [u8; FINE] = coarse_of_fine();

/// Durations observed by one worker.
#[derive(Debug)]
pub struct Histogram {
    fine: [Counter; FINE],
    coarse: [Counter; COARSE],
    sum_us: Counter,
}

impl Histogram {
    /// An empty histogram.
    pub const fn new() -> Self {
        Self {
            fine: [const { Counter::new() }; FINE],
            coarse: [const { Counter::new() }; COARSE],
            sum_us: Counter::new(),
        }
    }

    /// Counts one duration of `micros` microseconds.
    #[inline]
    pub fn observe(&self, micros: u32) {
        let fine = fine_of(micros);
        let mut coarse = usize::from(COARSE_OF_FINE[fine]);
        if coarse < LE_MICROS.len() && micros > LE_MICROS[coarse] {
            coarse += 1;
        }
        self.fine[fine].inc();
        self.coarse[coarse].inc();
        self.sum_us.add(u64::from(micros));
    }

    /// What has been observed so far. While the writer is at work the parts may differ by the
    /// observation under way; each part on its own never goes back.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            fine: std::array::from_fn(|i| self.fine[i].get()),
            coarse: std::array::from_fn(|i| self.coarse[i].get()),
            sum_us: self.sum_us.get(),
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// A copy of one histogram, or the sum of several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    fine: [u64; FINE],
    coarse: [u64; COARSE],
    sum_us: u64,
}

impl Snapshot {
    /// Nothing observed.
    pub const EMPTY: Self = Self { fine: [0; FINE], coarse: [0; COARSE], sum_us: 0 };

    /// Adds what `histogram` holds.
    pub fn merge(&mut self, histogram: &Histogram) {
        self.merge_snapshot(&histogram.snapshot());
    }

    /// Adds another snapshot.
    pub fn merge_snapshot(&mut self, other: &Self) {
        for (mine, theirs) in self.fine.iter_mut().zip(&other.fine) {
            *mine = mine.wrapping_add(*theirs);
        }
        for (mine, theirs) in self.coarse.iter_mut().zip(&other.coarse) {
            *mine = mine.wrapping_add(*theirs);
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }

    /// What was observed after `earlier`, an older snapshot of the same histograms.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            fine: std::array::from_fn(|i| self.fine[i].saturating_sub(earlier.fine[i])),
            coarse: std::array::from_fn(|i| self.coarse[i].saturating_sub(earlier.coarse[i])),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
        }
    }

    /// Observations.
    pub fn count(&self) -> u64 {
        self.coarse.iter().sum()
    }

    /// Sum of all observations in microseconds.
    pub const fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The duration in microseconds that a share `q` (0.0 to 1.0) of the observations does not exceed,
    /// within 11.2 % (exact below 8 µs); `None` without observations.
    pub fn quantile_us(&self, q: f64) -> Option<u32> {
        let count: u64 = self.fine.iter().sum();
        if count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        for (index, n) in self.fine.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return Some(representative(index));
            }
        }
        None
    }

    /// Observations per bucket of [`LE_MICROS`] (not cumulative), the last one above all boundaries.
    pub const fn le_counts(&self) -> &[u64; COARSE] {
        &self.coarse
    }
}

#[inline]
const fn fine_of(micros: u32) -> usize {
    if micros < SUB as u32 {
        return micros as usize;
    }
    let power = micros.ilog2();
    let sub = (micros >> (power - SUB_BITS)) as usize & (SUB - 1);
    ((power - SUB_BITS + 1) as usize) * SUB + sub
}

/// The lowest value of a fine bucket; for `FINE` itself, 2^32.
const fn lowest(index: usize) -> u64 {
    if index < SUB {
        return index as u64;
    }
    let shift = index / SUB - 1;
    ((SUB + index % SUB) as u64) << shift
}

fn representative(index: usize) -> u32 {
    let low = lowest(index);
    let high = lowest(index + 1) - 1;
    if low == high {
        return low as u32;
    }
    let balanced = (2.0 * low as f64 * high as f64 / (low + high) as f64).round() as u64;
    balanced.clamp(low, high) as u32
}

const fn coarse_of_fine() -> [u8; FINE] {
    let mut table = [0; FINE];
    let mut fine = 0;
    while fine < FINE {
        let mut le = 0;
        while le < LE_MICROS.len() && (LE_MICROS[le] as u64) < lowest(fine) {
            le += 1;
        }
        table[fine] = le as u8;
        fine += 1;
    }
    table
}

const _: () = assert!(size_of::<Histogram>() <= 1_536);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spread() -> impl Strategy<Value = u32> {
        (0u32..32, any::<u32>()).prop_map(|(shift, bits)| bits >> shift)
    }

    fn of(values: &[u32]) -> Snapshot {
        let histogram = Histogram::new();
        for value in values {
            histogram.observe(*value);
        }
        histogram.snapshot()
    }

    #[test]
    fn buckets_tile_the_whole_range() {
        assert_eq!(lowest(FINE), 1 << 32);
        for index in 0..FINE {
            assert!(lowest(index) < lowest(index + 1));
            assert_eq!(fine_of(lowest(index) as u32), index);
            assert_eq!(fine_of((lowest(index + 1) - 1) as u32), index);
            let inside = LE_MICROS.iter().filter(|le| fine_of(**le) == index).count();
            assert!(inside <= 1, "bucket {index} holds {inside} boundaries");
        }
        assert_eq!(fine_of(u32::MAX), FINE - 1);
    }

    #[test]
    fn boundaries_are_inclusive() {
        for (n, le) in LE_MICROS.iter().enumerate() {
            assert_eq!(of(&[*le]).le_counts()[n], 1, "{le}");
            assert_eq!(of(&[*le + 1]).le_counts()[n + 1], 1, "{le} + 1");
        }
    }

    #[test]
    fn empty_has_no_quantile() {
        assert_eq!(Snapshot::EMPTY.quantile_us(0.5), None);
        assert_eq!(Histogram::new().snapshot(), Snapshot::EMPTY);
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_bound(
            mut values in prop::collection::vec(spread(), 1..200),
            q in 0.0f64..=1.0,
        ) {
            let snapshot = of(&values);
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = f64::from(values[rank - 1]);
            let got = f64::from(snapshot.quantile_us(q).unwrap());
            prop_assert!((got - exact).abs() <= exact * 0.125, "{got} for {exact}");
            prop_assert_eq!(snapshot.count(), values.len() as u64);
            prop_assert_eq!(snapshot.sum_us(), values.iter().map(|v| u64::from(*v)).sum::<u64>());
        }

        #[test]
        fn coarse_counts_are_exact(values in prop::collection::vec(spread(), 0..200)) {
            let snapshot = of(&values);
            let mut cumulative = 0;
            for (n, le) in LE_MICROS.iter().enumerate() {
                cumulative += snapshot.le_counts()[n];
                prop_assert_eq!(cumulative, values.iter().filter(|v| *v <= le).count() as u64);
            }
        }

        #[test]
        fn what_came_since_is_the_difference(
            a in prop::collection::vec(spread(), 0..50),
            b in prop::collection::vec(spread(), 0..50),
        ) {
            let mut merged = of(&a);
            merged.merge_snapshot(&of(&b));
            prop_assert_eq!(merged.since(&of(&a)), of(&b));
        }

        #[test]
        fn merging_is_observing_both(
            a in prop::collection::vec(spread(), 0..50),
            b in prop::collection::vec(spread(), 0..50),
        ) {
            let mut merged = of(&a);
            merged.merge_snapshot(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }
    }
}
