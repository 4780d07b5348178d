//! What a pool could use: the load that comes to it, as a number of connections, and what clears a line that stands.
//!
//! ```text
//! load(T) = mean of the connections in use over T + (growth of the line in T) × min(1, hold / T)
//! demand  = load(T) over the longest T that no shorter one contradicts + line × min(1, hold / DRAIN)
//! ```
//!
//! **The load.** What is asked for in a time is what is served in it and what has been put off: a caller who joins the line brings
//! as much work as one who is served, `hold` on average. So the load of a pool that is full is seen as it is, within a tenth
//! of a second, and not one more connection at a time.
//!
//! **Over which time.** Long, because chance averages out; short, because a load that has changed must not be averaged with what was
//! before. Over `T` the load swings by `√(load × min(1, 2 hold / T))` by chance (arrivals at random, uses whose times vary as much as
//! their mean). Windows double from one slice to [`DEMAND_SLICES`]; the longest counts whose mean differs from that of no
//! shorter one by more than [`SWINGS_TENTHS`] tenths of what chance explains. A load that triples is known after one slice, a tenth more
//! after some ten seconds, and a load that stays is averaged over the whole.
//!
//! **The line.** What stands in line for as long as a slice (the least there was) is to be served within [`DRAIN`]. A caller counts as
//! one connection at most, however long uses are. A line that has not been empty for two seconds calls for one connection more
//! than were in use meanwhile at least.
//!
//! **It holds still.** The load that is said changes when the estimate is further from it than chance explains; otherwise every swing
//! would move a connection from one pool to another.
//!
//! Why the mean and not a peak: demands of all pools are added up, and peaks do not come at the same time. What a pool
//! needs above its mean is headroom, which is parted when all demands are met.

use std::time::Duration;

use weir_core::Instant;

use super::Amount;

/// The callers in line are to be served within this.
pub const DRAIN: Duration = Duration::from_millis(500);
/// The shortest time over which a load is known.
pub const DEMAND_SLICE: Duration = Duration::from_millis(100);
/// The longest, in slices. A power of two.
pub const DEMAND_SLICES: usize = 256;
/// Windows that are looked at.
const WINDOWS: usize = DEMAND_SLICES.ilog2() as usize + 1;
/// Two windows agree if they differ by no more than so many tenths of what chance explains.
const SWINGS_TENTHS: u64 = 35;
/// The load that is said holds still within so many tenths of a swing of the window.
const STILL_TENTHS: u64 = 15;
/// A line that has not been empty for so many slices calls for [`MORE`]: callers who come back
/// as soon as they are served are not seen as a load that grows.
const STANDS: usize = 20;
/// One connection, in [`PARTS`].
const MORE: u64 = 1_000;
/// Parts of a connection that are counted.
const PARTS: u64 = 1_000;

/// What was seen in a slice.
#[derive(Clone, Copy, Default, Debug)]
struct Slice {
    /// How long it took, and how long connections were in use in it, added up.
    span: u64,
    busy: u64,
    /// Who waited at its end.
    waiting: u32,
    /// The least that waited at a look.
    line: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The last look; `None` before the first.
    looked: Option<Instant>,
    busy_nanos: u64,
    waiting: u32,
    hold: Duration,
    current: Slice,
    /// A ring; the latest before `at`.
    full: Box<[Slice]>,
    at: usize,
    /// So many of the latest are known.
    known: usize,
    /// The load that is said, in [`PARTS`].
    said: u64,
}

impl Default for Demand {
    fn default() -> Self {
        Self::new()
    }
}

impl Demand {
    /// Nothing is known.
    pub fn new() -> Self {
        Self {
            looked: None,
            busy_nanos: 0,
            waiting: 0,
            hold: Duration::ZERO,
            current: Slice::default(),
            full: vec![Slice::default(); DEMAND_SLICES].into(),
            at: 0,
            known: 0,
            said: 0,
        }
    }

    /// A look at the pool. `busy_nanos`: for how long connections have been in use until now, all of them added up, uses in progress
    /// included. So many callers wait; a connection is held for `hold` on average (zero: unknown). To be called once or
    /// several times in a slice.
    pub fn record(&mut self, busy_nanos: u64, waiting: u32, hold: Duration, now: Instant) {
        let Some(looked) = self.looked.replace(now) else {
            (self.busy_nanos, self.waiting) = (busy_nanos, waiting);
            self.current.line = waiting;
            return;
        };
        let span = u64::try_from(now.since(looked).as_nanos()).unwrap_or(u64::MAX);
        let busy = busy_nanos.saturating_sub(self.busy_nanos);
        (self.busy_nanos, self.waiting, self.hold) = (busy_nanos, waiting, hold);
        self.current.span = self.current.span.saturating_add(span);
        self.current.busy = self.current.busy.saturating_add(busy);
        self.current.waiting = waiting;
        self.current.line = self.current.line.min(waiting);
        if u128::from(self.current.span) >= DEMAND_SLICE.as_nanos() {
            let slice = std::mem::replace(&mut self.current, Slice { line: waiting, ..Slice::default() });
            if let Some(place) = self.full.get_mut(self.at) {
                *place = slice;
            }
            self.at = (self.at + 1) % DEMAND_SLICES;
            self.known = (self.known + 1).min(DEMAND_SLICES);
            self.say();
        }
    }

    /// So many full slices back, from 1 on.
    fn back(&self, back: usize) -> Slice {
        self.full.get((self.at + DEMAND_SLICES - back) % DEMAND_SLICES).copied().unwrap_or_default()
    }

    /// Looks for the longest window that no shorter one contradicts, and says its load if that is news.
    fn say(&mut self) {
        let now = self.back(1);
        let (mut span, mut busy, mut known) = (0_u64, 0_u64, 0);
        let mut shorter: Vec<(u64, u64)> = Vec::with_capacity(WINDOWS);
        let mut best = None;
        let windows = std::iter::successors(Some(1), |slices| Some(slices * 2));
        for slices in windows.take(WINDOWS).take_while(|slices| *slices <= self.known) {
            while known < slices {
                known += 1;
                let slice = self.back(known);
                span = span.saturating_add(slice.span);
                busy = busy.saturating_add(slice.busy);
            }
            // Before the oldest that is known, the line was as long as now, for all that is known.
            let before = if slices < self.known { self.back(slices + 1).waiting } else { now.waiting };
            let load = self.load(span, busy, before, now.waiting);
            let agrees = |(other, part): &(u64, u64)| {
                other.abs_diff(load) <= SWINGS_TENTHS * apart(load, self.hold, *part, span) / 10
            };
            if !shorter.iter().all(agrees) {
                break;
            }
            shorter.push((load, span));
            best = Some((load, swing(load, self.hold, span)));
        }
        if let Some((load, swing)) = best
            && load.abs_diff(self.said) > swing * STILL_TENTHS / 10
        {
            self.said = load;
        }
    }

    /// In [`PARTS`].
    fn load(&self, span: u64, busy: u64, before: u32, after: u32) -> u64 {
        let mean = u64::try_from(u128::from(busy) * u128::from(PARTS) / u128::from(span.max(1))).unwrap_or(u64::MAX);
        let part = part(self.hold, Duration::from_nanos(span));
        if after >= before {
            mean.saturating_add(u64::from(after - before) * part)
        } else {
            mean.saturating_sub(u64::from(before - after) * part)
        }
    }

    /// The demand as of the last look.
    pub fn get(&self) -> Amount {
        let line = if self.known == 0 { self.current.line } else { self.current.line.min(self.back(1).line) };
        let mut demand = self.said.saturating_add(u64::from(line) * part(self.hold, DRAIN));
        if line > 0 && self.known >= STANDS && (1..=STANDS).all(|back| self.back(back).line > 0) {
            // More than it has, and not than what holds still of it.
            let slices = || (1..=STANDS).map(|back| self.back(back));
            let (span, busy) = (slices().map(|slice| slice.span).sum(), slices().map(|slice| slice.busy).sum());
            demand = demand.max(self.said.max(self.load(span, busy, 0, 0)).saturating_add(MORE));
        }
        Amount::milli(u32::try_from(demand).unwrap_or(u32::MAX))
    }
}

/// What a caller in line counts that is to be served within `time`, in [`PARTS`] of a connection.
fn part(hold: Duration, time: Duration) -> u64 {
    if hold.is_zero() || hold >= time {
        return PARTS;
    }
    u64::try_from(hold.as_nanos() * u128::from(PARTS) / time.as_nanos()).unwrap_or(PARTS).max(1)
}

/// By how much the load over `span` and over the latest `part` of it differ by chance: what is in both is no difference.
fn apart(load: u64, hold: Duration, part: u64, span: u64) -> u64 {
    let swing = u128::from(swing(load, hold, part));
    let rest = u128::from(span.saturating_sub(part));
    u64::try_from((swing * swing * rest / u128::from(span.max(1))).isqrt()).unwrap_or(u64::MAX)
}

/// By how much the load swings over `span` by chance, in [`PARTS`].
fn swing(load: u64, hold: Duration, span: u64) -> u64 {
    let part = part(hold * 2, Duration::from_nanos(span));
    (load.max(PARTS) * part).isqrt()
}

#[cfg(test)]
mod tests;
