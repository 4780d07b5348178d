//! What a pool could use: the mean, of late, of the connections that are busy and of those that would serve its line.
//!
//! ```text
//! wanted = busy + waiting × min(1, hold / DRAIN)
//! demand = mean of wanted over the last 10 s; over the last 2 s, if the two differ by more than chance
//! ```
//!
//! A caller in line needs a connection for as long as it holds one, so a line of 60 with uses of 20 ms is served within
//! [`DRAIN`] by 1.2 connections more (Little's law); where uses are longer than that, each caller counts as one. With every caller
//! counted as a connection, a short burst in one pool would take all headroom from the others.
//!
//! By chance the mean of 2 s swings by less than half the root of what it is about; a difference of more than 0.6 roots (and one
//! connection) is a change of the load, and what was before is forgotten: also of the last 2 s what differs from the newer slices by
//! more than a root.
//!
//! While a line stands (at every look of half a second somebody waited) the demand is at least the mean of that half second: a pool
//! that is full sees little more than it has, and has to be able to grow quickly.
//!
//! Why the mean and not a peak: demands of all pools are added up, and peaks do not come at the same time. What a pool
//! needs above its mean is headroom, which is parted when all demands are met.

use std::time::Duration;

use weir_core::Instant;

use super::Amount;

/// The callers in line are to be served within this.
pub const DRAIN: Duration = Duration::from_secs(1);
/// Looks are averaged over slices of this.
pub const DEMAND_SLICE: Duration = Duration::from_millis(500);
/// So many full slices count, and the one that fills up.
pub const DEMAND_SLICES: usize = 20;
/// So many are looked at for a change of the load.
const RECENT: usize = 4;
/// Parts of a connection that are counted.
const PARTS: u64 = 1_000;

/// What was seen in a slice.
#[derive(Clone, Copy, Default, Debug)]
struct Slice {
    /// In [`PARTS`] of a connection.
    sum: u64,
    looks: u64,
    /// Looks at which nobody waited.
    free: u64,
}

/// See the module.
#[derive(Clone, Default, Debug)]
pub struct Demand {
    turn: Instant,
    current: Slice,
    /// A ring; the latest before `at`.
    full: [Slice; DEMAND_SLICES],
    at: usize,
    /// So many of the latest count.
    valid: usize,
    /// The load may have changed in the latest: it counts until the next is full.
    mixed: bool,
}

impl Demand {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many connections are busy now, and so many callers wait; a connection is held for `hold` on average (zero: unknown). To be
    /// called several times in a slice.
    pub fn record(&mut self, busy: u32, waiting: u32, hold: Duration, now: Instant) {
        if now >= self.turn {
            self.roll(now);
        }
        let part = if hold.is_zero() || hold >= DRAIN {
            PARTS
        } else {
            u64::try_from(hold.as_nanos() * u128::from(PARTS) / DRAIN.as_nanos()).unwrap_or(PARTS).max(1)
        };
        self.current.sum += u64::from(busy) * PARTS + u64::from(waiting) * part;
        self.current.looks += 1;
        self.current.free += u64::from(waiting == 0);
    }

    fn roll(&mut self, now: Instant) {
        let late = (now.since(self.turn).as_nanos() / DEMAND_SLICE.as_nanos()).min(DEMAND_SLICES as u128);
        for _ in 0..=late {
            // A slice without a look says nothing.
            let slice = std::mem::take(&mut self.current);
            if let Some(place) = self.full.get_mut(self.at) {
                *place = slice;
            }
            self.at = (self.at + 1) % DEMAND_SLICES;
            self.valid = (self.valid + 1).min(DEMAND_SLICES);
        }
        if std::mem::take(&mut self.mixed) {
            self.valid = 1;
        }
        self.turn = now + DEMAND_SLICE;
        let (recent, all) = (mean(self.latest(RECENT)), mean(self.latest(self.valid)));
        let chance = (all * PARTS).isqrt() * 6 / 10;
        if recent.abs_diff(all) > chance.max(PARTS) {
            let alike = self.alike();
            self.mixed = alike == 1;
            self.valid = usize::max(alike - 1, 1);
        }
    }

    /// How many of the recent slices are alike, from the newest on. In the oldest of them the load may have changed.
    fn alike(&self) -> usize {
        (1..RECENT.min(self.valid))
            .find(|&newer| {
                let mean_newer = mean(self.latest(newer));
                let Some(slice) = self.latest(newer + 1).last().filter(|slice| slice.looks > 0) else { return false };
                (slice.sum / slice.looks).abs_diff(mean_newer) > (mean_newer * PARTS).isqrt().max(PARTS)
            })
            .unwrap_or(RECENT.min(self.valid))
            .max(1)
    }

    /// The latest full slices.
    fn latest(&self, count: usize) -> impl Iterator<Item = &Slice> {
        let newest_first = (1..=count.min(self.valid)).map(|back| (self.at + DEMAND_SLICES - back) % DEMAND_SLICES);
        newest_first.filter_map(|at| self.full.get(at))
    }

    /// The demand as of the last look.
    pub fn get(&self) -> Amount {
        let standing = mean(self.latest(1).filter(|slice| slice.free == 0));
        let mean = standing.max(mean(self.latest(self.valid).chain([&self.current])));
        Amount::milli(u32::try_from(mean).unwrap_or(u32::MAX))
    }
}

fn mean<'a>(slices: impl Iterator<Item = &'a Slice>) -> u64 {
    let (sum, looks) = slices.fold((0, 0), |(sum, looks), slice| (sum + slice.sum, looks + slice.looks));
    sum / u64::max(looks, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_millis(20);

    /// Looks every 50 ms.
    fn look(demand: &mut Demand, millis: std::ops::Range<u64>, busy: u32, waiting: u32) {
        for at in millis.step_by(50) {
            demand.record(busy, waiting, HOLD, Instant::from_millis(at));
        }
    }

    #[test]
    fn a_change_is_seen_after_two_seconds_and_chance_is_averaged() {
        let mut demand = Demand::new();
        assert_eq!(demand.get().ceil(), 0);
        look(&mut demand, 0..20_000, 4, 0);
        assert_eq!(demand.get().ceil(), 4);
        look(&mut demand, 20_000..22_100, 20, 0);
        assert!((15..=20).contains(&demand.get().ceil()), "{}", demand.get().ceil());
        look(&mut demand, 22_100..40_000, 20, 0);
        assert_eq!(demand.get().ceil(), 20);
        look(&mut demand, 40_000..42_600, 4, 0);
        assert!(demand.get().ceil() <= 8, "{}", demand.get().ceil());
        look(&mut demand, 42_600..60_000, 4, 0);
        assert_eq!(demand.get().ceil(), 4);
        // A second with a little more is chance.
        look(&mut demand, 60_000..61_000, 6, 0);
        assert_eq!(demand.get().as_milli().div_ceil(100), 42, "{:?}", demand.get());
    }

    /// Whenever in a slice the load changes, and in whichever direction.
    #[test]
    fn what_was_before_a_change_is_forgotten() {
        for at in (20_000..20_500).step_by(50) {
            for (before, after) in [(30, 10), (10, 30), (4, 12)] {
                let mut demand = Demand::new();
                look(&mut demand, 0..at, before, 0);
                look(&mut demand, at..at + 3_000, after, 0);
                assert!(demand.get().ceil().abs_diff(after) <= 1, "{at}: {before} to {after}: {:?}", demand.get());
                look(&mut demand, at + 3_000..at + 4_000, after, 0);
                assert_eq!(demand.get().ceil(), after, "{at}: {before} to {after}: {:?}", demand.get());
            }
        }
    }

    #[test]
    fn who_waits_counts_by_how_long_it_will_hold_a_connection() {
        let mut demand = Demand::new();
        look(&mut demand, 0..5_000, 10, 700);
        assert_eq!(demand.get().ceil(), 24);
        for (hold, expected) in [(Duration::ZERO, 15), (Duration::from_secs(3), 15), (Duration::from_millis(1), 11)] {
            let mut demand = Demand::new();
            demand.record(10, 5, hold, Instant::ZERO);
            assert_eq!(demand.get().ceil(), expected, "{hold:?}");
        }
    }

    #[test]
    fn a_line_that_stands_is_seen_at_once() {
        let mut demand = Demand::new();
        look(&mut demand, 0..20_000, 4, 0);
        look(&mut demand, 20_000..21_050, 4, 50);
        assert_eq!(demand.get().ceil(), 5);
        look(&mut demand, 21_050..22_050, 5, 50);
        assert_eq!(demand.get().ceil(), 6);
    }

    #[test]
    fn slices_without_a_look_say_nothing() {
        let mut demand = Demand::new();
        look(&mut demand, 0..5_000, 4, 0);
        look(&mut demand, 60_000..60_050, 9, 0);
        assert_eq!(demand.get().ceil(), 9);
    }
}
