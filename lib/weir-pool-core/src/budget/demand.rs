//! What a pool could use: the highest mean of busy connections and waiting callers of late.
//!
//! Looks at the pool are averaged over slices of [`DEMAND_SLICE`]; the highest of the last [`DEMAND_SLICES`] and of the slice that
//! fills up is the demand. Why the mean of slices and not the peak: the demands of all pools are added up, and peaks do not come at
//! the same time; why the highest of several: what was needed a second ago is given up too quickly otherwise. A fall of the load is
//! seen after 3 s.

use std::time::Duration;

use weir_core::Instant;

/// Looks are averaged over this.
pub const DEMAND_SLICE: Duration = Duration::from_millis(500);
/// So many full slices count.
pub const DEMAND_SLICES: usize = 5;
/// The slice that fills up counts from so many looks on.
const LOOKS_MIN: u64 = 4;

/// See the module.
#[derive(Clone, Debug)]
pub struct Demand {
    turn: Instant,
    sum: u64,
    looks: u64,
    /// Means in 256ths, rounded up; a ring.
    full: [u64; DEMAND_SLICES],
    at: usize,
}

impl Default for Demand {
    fn default() -> Self {
        Self { turn: Instant::ZERO, sum: 0, looks: 0, full: [0; DEMAND_SLICES], at: 0 }
    }
}

impl Demand {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many connections are busy, and callers waiting, now. To be called several times in a slice.
    pub fn record(&mut self, value: u32, now: Instant) {
        if now >= self.turn {
            self.roll(now);
        }
        self.sum += u64::from(value);
        self.looks += 1;
    }

    fn roll(&mut self, now: Instant) {
        let mean = self.mean();
        // A slice without a look says nothing: the one before stands for it.
        let late = (now.since(self.turn).as_nanos() / DEMAND_SLICE.as_nanos()).min(DEMAND_SLICES as u128);
        for _ in 0..=late {
            if let Some(slice) = self.full.get_mut(self.at) {
                *slice = mean;
            }
            self.at = (self.at + 1) % DEMAND_SLICES;
        }
        (self.sum, self.looks) = (0, 0);
        self.turn = now + DEMAND_SLICE;
    }

    fn mean(&self) -> u64 {
        (self.sum << 8).div_ceil(self.looks.max(1))
    }

    /// The demand as of the last look, rounded up.
    pub fn get(&self) -> u32 {
        let current = if self.looks < LOOKS_MIN { 0 } else { self.mean() };
        let highest = self.full.iter().fold(current, |max, slice| max.max(*slice));
        u32::try_from(highest.div_ceil(256)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 50 ms.
    fn look(demand: &mut Demand, millis: std::ops::Range<u64>, value: impl Fn(u64) -> u32) {
        for at in millis.step_by(50) {
            demand.record(value(at), Instant::from_millis(at));
        }
    }

    #[test]
    fn a_rise_is_seen_at_once_and_a_fall_after_three_seconds() {
        let mut demand = Demand::new();
        look(&mut demand, 0..5_000, |_| 4);
        assert_eq!(demand.get(), 4);
        look(&mut demand, 5_000..5_600, |_| 20);
        assert_eq!(demand.get(), 20);
        look(&mut demand, 5_600..6_500, |_| 4);
        assert_eq!(demand.get(), 20);
        look(&mut demand, 6_500..9_200, |_| 4);
        assert_eq!(demand.get(), 4);
    }

    #[test]
    fn swings_are_averaged() {
        let mut demand = Demand::new();
        for from in (0..5_000).step_by(50) {
            look(&mut demand, from..from + 50, |at| if at % 100 == 0 { 10 } else { 0 });
            assert!(demand.get() <= 7, "at {from}: {}", demand.get());
        }
        assert!(demand.get() >= 5);
    }
}
