//! How large a pool ought to be: a machine that proposes a size within bounds, once per interval.
//!
//! # What can be known
//! With `b` connections in use a database does `X(b)` uses a second, each of `H(b) = b / X(b)` (Little's law). `X` grows with
//! `b`, the more slowly the busier the database is, and may fall when it is busier still. The *knee* is the smallest size with
//! `X ≥ keep × max X` (97 %): below it work is left undone, above it callers wait inside the database instead of in line, where they
//! can be shed, counted and served in order. There are two situations:
//!
//! * **Nobody waits.** Then nothing says where the knee is, and Little's law says what is needed: `b = arrival rate × hold` on average,
//!   with the headroom that keeps waits rare when arrivals are random (square-root staffing):
//!   `needed = ⌈b + 2·√b⌉ + 1`. The pool shrinks to that slowly, and grows to it if callers begin to wait.
//! * **Callers wait and all connections are in use.** Then each window is a measurement of `X` at the pool's size, kept on a ladder
//!   of 15 % steps (`curve.rs`). The knee is estimated from all of them by a family of curves, with its spread (`family.rs`). First the
//!   size follows the estimate with long strides, at most twice or half of what was visited (down first: a saturated database is never
//!   given more connections without evidence); then the knee is compared with a smaller and a larger size, the farther apart the less
//!   is known, until its spread is 10 %. From then on the size stays, but for a window now and then on a neighbour, more and more
//!   rarely, so that a change of the database is noticed.
//!
//! # When it does not grow
//! * The database is slower than it was with as many connections (throughput 14 % less in three windows, more if it varies much; or, coming
//!   out of a calm time, uses 28 % longer without a throughput to show for it): it is saturated by something else. What was
//!   learnt is learnt anew from here, downwards only and at most to a half in a minute, until uses are as short as before or the earlier
//!   time is forgotten ([`SizerParams::memory`]: a half of the throughput in that time).
//! * No use ends, or connects fail.
//! * More connections have shown no more throughput.
//!
//! # Constants
//! A window lasts 0.5 s while strides are long, 1 s when neighbours are compared, 2 s at rest, and always until 40 uses have ended (or
//! 10 s are over); the time of one use (0.25 s at least, 5 s at most) is left out after each change, since connections are opened and
//! old uses end in it. A window of `u` uses weighs `0.02² / (0.5/u + 0.02²/s)` for `s` seconds: 1 is
//! a measurement to 2 %; where measurements vary more than that says, less. From either end of 2…50 the knee is found within 20 to 40 s
//! at some hundred uses a second, in 19 of 20 runs within a fifth. Cost: some tens of microseconds per window, nothing per use.
//!
//! # Sources
//! Schroeder, Harchol-Balter, Iyengar, Nahum, Wierman, "How to determine a good multi-programming level for external scheduling", ICDE
//! 2006 (take the lowest level that keeps the throughput; a controller with feedback finds it). Hellerstein, Morrison, Eilebrecht,
//! "Optimizing concurrency levels in the .NET thread pool", `FeBID` 2008 (compare neighbouring levels, cancel drift).
//! Netflix concurrency-limits, Vegas and Gradient2 (latency against a slowly forgotten baseline). Halfin and Whitt 1981 (square-root
//! staffing). Gradients of latency alone were not enough: what a use takes rises below the knee already.

mod curve;
mod family;
mod words;

use std::time::Duration;

use curve::{Curve, PRECISION};
pub use words::{Interval, Proposal, SizeReason, SizerParams};

/// Uses a window has at least, unless it lasts [`WINDOW_MAX`].
const USES_MIN: u64 = 40;
/// With fewer uses than this a window says nothing.
const USES_NONE: u64 = 8;
/// How long a window lasts at most.
const WINDOW_MAX: Duration = Duration::from_secs(10);
/// How long windows last with long strides, between neighbours, and at rest.
const WINDOWS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// What is left out after a change: the time of a use, within these.
const SETTLING: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];
/// The knee and its neighbours are compared until each has this weight.
const WEIGHT_KNOWN: f64 = 1.5;
/// At rest the size follows a knee that is this far off (in `ln` of the size).
const HYSTERESIS: f64 = 0.1;
/// The best size is compared with sizes this much smaller and larger: at least, and at most.
const ASIDE: f64 = 1.2;
const ASIDE_MAX: f64 = 1.6;
/// The knee is known if its spread (in `ln` of the size) is this; or as well as it gets after this many windows.
const SURE: f64 = 0.1;
const COMPARED_MAX: u32 = 30;
/// Rather a little too large than too small.
const UPWARDS: f64 = 1.07;
/// The best size is taken for known roughly if one this near (in `ln` of the size) was visited.
const NEAR: f64 = 0.3;
/// Windows at rest between looks at a neighbour: at first, and at most.
const REST: [u32; 2] = [4, 24];
/// The database has changed if this many windows in a row are far off.
const SHIFT: u32 = 3;
/// A use this much longer than in calm times (in `ln H`), with less than this share of it gained in throughput, is saturation.
const STRETCH: (f64, f64) = (0.25, 0.3);
/// Callers wait if that takes this share of the time of a use, on average.
const WAITS: f64 = 0.03;
/// The database is slower if its level is this much (in `ln X`) below what it was.
const SLOWER: f64 = 0.15;
/// How quickly a better level becomes the usual one.
const LEVEL_RISE: f64 = 0.2;
/// What was seen in calm times weighs this as a point of the curve.
const WEIGHT_CALM: f64 = 0.2;
/// What was usual in calm times is remembered for this long after they ended.
const CALM_KEPT: Duration = Duration::from_secs(10);
/// A database that is this much faster (in `ln X`) than when the knee was found may have another one.
const FASTER: f64 = 0.12;
/// A saturated database has recovered when uses have been as short as before for about this long.
const SOUND_AFTER: Duration = Duration::from_secs(5);
/// A saturated database costs the pool a half of its size in this time at most.
const HALVES_IN: Duration = Duration::from_mins(1);
/// Strides: long and short ones.
const STRIDES: [f64; 2] = [2.0, 1.32];
/// In calm times the pool shrinks by a tenth after this long.
const SHRINK_EVERY: Duration = Duration::from_secs(5);

/// The machine. See the module.
///
/// ```
/// use std::time::Duration;
/// use weir_pool_core::{Interval, Sizer, SizerParams};
///
/// let mut sizer = Sizer::new(SizerParams::new(2, 50), 10);
/// // 400 uses a second of 20 ms keep 8 connections busy: 8 + 2·√8 + 1 are enough.
/// let second = Interval {
///     lasted: Duration::from_secs(1),
///     arrivals: 400,
///     uses: 400,
///     held: Duration::from_secs(8),
///     waited: Duration::from_secs(1),
///     busy: 8.0,
///     size: 10,
///     ..Interval::default()
/// };
/// let mut proposal = sizer.proposal();
/// for _ in 0..3 {
///     proposal = sizer.handle_interval(&second);
/// }
/// assert_eq!(proposal.size, 15);
/// ```
#[derive(Debug)]
pub struct Sizer {
    params: SizerParams,
    curve: Curve,
    window: Window,
    /// Left out of the window: the rest of the time after a change.
    settling: Duration,
    size: u32,
    settled: u32,
    /// The best rung known.
    base: usize,
    /// The knee, once it has been compared with its neighbours.
    knee: Option<u32>,
    phase: Phase,
    /// Windows in which sizes were compared since all was learnt anew.
    compared: u32,
    /// Windows since the last look at a neighbour, and how many there are to be.
    rested: u32,
    rest: u32,
    /// Whether the next look is upwards.
    looks_up: bool,
    /// Windows in a row that were off in the same direction.
    shifts: i32,
    /// The best level of the curve of late, slowly forgotten.
    usual_level: Option<f64>,
    /// `ln` of how long a use took at this size when the level was the usual one.
    usual_hold: f64,
    /// The quickest uses of calm times, and the throughput then.
    calm: Option<Usual>,
    /// For how long callers have been waiting since.
    calm_for: Duration,
    /// Uses take longer than in calm times, without a throughput to show for it.
    stretched: bool,
    /// The level when the knee was found.
    knee_level: f64,
    saturated: bool,
    /// `ln` of how long a use takes while the database is saturated, over some seconds.
    present_hold: f64,
    /// The pool is not made smaller than this while the database is saturated; for how long that has held.
    floor: u32,
    floor_for: Duration,
    /// Strides are short: sizes are known roughly.
    gentle: bool,
    shrinks_in: Duration,
    /// The most that was needed since the last shrinking.
    shrinks_to: u32,
    reason: SizeReason,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Stride,
    Compare,
    Rest,
}

/// Slowly forgotten: `ln` of the throughput and of the time of a use.
#[derive(Clone, Copy, Debug)]
struct Usual {
    rate: f64,
    hold: f64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Window {
    sum: Interval,
    /// Connections × seconds.
    busy: f64,
    secs: f64,
}

/// A window that says something.
#[derive(Clone, Copy, Debug)]
struct Measured {
    secs: f64,
    rate: f64,
    hold: f64,
    busy: f64,
    /// Of the time of a use.
    wait: f64,
    weight: f64,
    in_line: bool,
    connects_fail: bool,
}

impl Sizer {
    /// A machine for a pool of `size` connections.
    pub fn new(params: SizerParams, size: u32) -> Self {
        let params = SizerParams { min: params.min.max(1), max: params.max.max(params.min).max(1), ..params };
        let curve = Curve::new(params.min, params.max);
        let size = size.clamp(params.min, params.max);
        Self {
            base: curve.nearest(f64::from(size)),
            curve,
            params,
            window: Window::default(),
            settling: SETTLING[0],
            size,
            settled: size,
            knee: None,
            phase: Phase::Stride,
            compared: 0,
            rested: 0,
            rest: REST[0],
            looks_up: true,
            shifts: 0,
            usual_level: None,
            usual_hold: 0.0,
            calm: None,
            calm_for: Duration::ZERO,
            stretched: false,
            knee_level: 0.0,
            saturated: false,
            present_hold: 0.0,
            floor: 0,
            floor_for: Duration::ZERO,
            gentle: false,
            shrinks_in: SHRINK_EVERY,
            shrinks_to: 0,
            reason: SizeReason::Learning,
        }
    }

    /// The present proposal.
    pub fn proposal(&self) -> Proposal {
        Proposal { size: self.size, settled: self.settled, reason: self.reason }
    }

    /// Takes in what happened. Intervals of 0.25 to 1 s are best.
    pub fn handle_interval(&mut self, interval: &Interval) -> Proposal {
        if self.settling > Duration::ZERO {
            self.settling = self.settling.saturating_sub(interval.lasted);
            return self.proposal();
        }
        self.window.add(interval);
        if self.window.is_whole(WINDOWS[self.phase as usize]) {
            let before = self.size;
            let window = std::mem::take(&mut self.window);
            match window.measured() {
                Some(measured) => self.judge(&measured, interval.size),
                None => self.idle(&window, interval.size),
            }
            if self.size != before {
                let hold = window.hold().unwrap_or_default();
                self.settling = hold.clamp(SETTLING[0], SETTLING[1]);
            }
        }
        self.check_invariants();
        self.proposal()
    }

    fn judge(&mut self, seen: &Measured, size: u32) {
        let full = seen.busy >= 0.9 * f64::from(size);
        if seen.in_line && full {
            self.search(seen);
        } else {
            self.follow(seen, size);
        }
    }

    // === nobody waits ===

    fn follow(&mut self, seen: &Measured, size: u32) {
        self.phase = Phase::Stride;
        self.curve.fade((-seen.secs / (10.0 * self.params.memory.as_secs_f64())).exp());
        let now = Usual { rate: seen.rate.ln(), hold: seen.hold.ln() };
        let forgets = self.forgets(seen.secs);
        self.calm_for = Duration::ZERO;
        let calm = self.calm.get_or_insert(now);
        self.saturated = calm.is_stretched(&now);
        calm.approach(&now, forgets);
        let needed = needed(seen.busy);
        let cap = self.knee.unwrap_or(self.params.max);
        self.reason = SizeReason::Demand { rate: seen.rate, hold: Duration::from_secs_f64(seen.hold), needed };
        if needed <= self.size.min(size) || seen.wait <= WAITS {
            self.shrink(needed, seen.secs);
        } else if seen.connects_fail {
            self.reason = SizeReason::ConnectsFail;
        } else if self.saturated {
            self.reason = self.saturation(seen);
        } else if self.size >= cap {
            self.reason = SizeReason::Capped { needed, knee: cap };
        } else {
            self.set(needed.min(2 * self.size).min(cap));
        }
        self.settle_here();
    }

    fn settle_here(&mut self) {
        self.base = self.curve.nearest(f64::from(self.size));
        self.settled = self.size;
    }

    fn shrink(&mut self, needed: u32, secs: f64) {
        self.shrinks_to = self.shrinks_to.max(needed);
        self.shrinks_in = self.shrinks_in.saturating_sub(Duration::from_secs_f64(secs));
        if self.shrinks_in == Duration::ZERO {
            let target = self.size - (self.size / 10).max(1).min(self.size);
            self.set(target.max(self.shrinks_to).min(self.size));
            (self.shrinks_in, self.shrinks_to) = (SHRINK_EVERY, 0);
        }
    }

    /// A window in which next to nothing ended.
    fn idle(&mut self, window: &Window, size: u32) {
        let busy = window.busy / window.secs.max(1e-9);
        let full = busy >= 0.9 * f64::from(size);
        if full && window.sum.line > 0 {
            self.reason = if window.sum.connect_failures > 0 { SizeReason::ConnectsFail } else { SizeReason::Stalled };
            return;
        }
        if window.sum.connect_failures > 0 {
            self.reason = SizeReason::ConnectsFail;
            return;
        }
        self.reason = SizeReason::Learning;
        self.shrink(needed(busy), window.secs);
        self.settle_here();
    }

    // === callers wait ===

    fn search(&mut self, seen: &Measured) {
        let rung = self.curve.nearest(seen.busy);
        let now = Usual { rate: seen.rate.ln(), hold: seen.hold.ln() };
        self.curve.fade((-seen.secs / (2.0 * self.params.memory.as_secs_f64())).exp());
        if self.curve.is_empty() {
            (self.usual_level, self.compared) = (None, 0);
        }
        self.leave_calm(&now, seen.secs);
        let residual = self.curve.record(rung, now.rate, seen.weight);
        self.notice_shift(rung, &now, residual, seen.weight);
        self.notice_saturation(&now, rung, seen.secs);
        if seen.connects_fail {
            self.reason = SizeReason::ConnectsFail;
            return;
        }
        let suspicious = residual.is_some_and(|residual| residual < -self.curve.far_off());
        let next = self.next_rung(rung, !self.saturated && !suspicious).max(self.floor(seen.secs));
        self.settled = self.curve.size(self.base);
        self.reason = match self.phase {
            _ if self.saturated => self.saturation(seen),
            Phase::Rest => SizeReason::Knee { rate: seen.rate, hold: Duration::from_secs_f64(seen.hold) },
            Phase::Stride | Phase::Compare => {
                SizeReason::Searching { tried: self.curve.size(next), best: self.settled }
            }
        };
        self.set(self.curve.size(next));
    }

    /// Callers have begun to wait: because there is more to do, or because all takes longer?
    fn leave_calm(&mut self, now: &Usual, secs: f64) {
        let forgets = self.forgets(secs);
        self.stretched = false;
        let Some(calm) = &mut self.calm else { return };
        if calm.is_stretched(now) {
            calm.approach(now, forgets);
            self.stretched = true;
            return;
        }
        if self.curve.is_empty() && calm.busy() < 0.8 * now.busy() {
            // What was seen in calm times is a first point of the curve.
            let (busy, rate) = (calm.busy(), calm.rate);
            self.curve.record(self.curve.nearest(busy), rate, WEIGHT_CALM);
        }
        // What comes slowly is seen in the first seconds.
        self.calm_for += Duration::from_secs_f64(secs);
        if self.calm_for >= CALM_KEPT {
            self.calm = None;
        }
    }

    /// Learns anew if the database has become another one.
    fn notice_shift(&mut self, rung: usize, now: &Usual, residual: Option<f64>, weight: f64) {
        let far_off = self.curve.far_off();
        // Once it has begun, three quarters of that are enough.
        let far_off = if self.shifts == 0 { far_off } else { 0.75 * far_off };
        self.shifts = match residual {
            Some(residual) if residual > far_off => self.shifts.max(0) + 1,
            Some(residual) if residual < -far_off => self.shifts.min(0) - 1,
            _ => 0,
        };
        if self.shifts.unsigned_abs() >= SHIFT {
            self.shifts = 0;
            let moved = self.curve.restart(rung, now.rate, weight);
            self.usual_level = self.usual_level.map(|level| level + moved);
            (self.base, self.knee, self.rest, self.gentle) = (rung, None, REST[0], true);
            self.compared = 0;
        }
    }

    /// Compares the database with what it was.
    fn notice_saturation(&mut self, now: &Usual, rung: usize, secs: f64) {
        let level = self.curve.level();
        let forgets = self.forgets(secs);
        let usual = self.usual_level.get_or_insert(level);
        *usual = if level > *usual { *usual + LEVEL_RISE * (level - *usual) } else { (*usual - forgets).max(level) };
        let missing = *usual - level;
        let was = self.saturated;
        self.saturated = self.stretched || missing > if was { SLOWER / 2.0 } else { SLOWER };
        if !self.saturated {
            // A window that is out of line may be the first one of a saturation.
            if rung == self.base && self.shifts >= 0 {
                self.usual_hold += if self.usual_hold == 0.0 { now.hold } else { 0.2 * (now.hold - self.usual_hold) };
            }
        } else if !self.stretched {
            self.usual_hold += forgets;
            let part = if was { (secs / SOUND_AFTER.as_secs_f64()).min(1.0) } else { 1.0 };
            self.present_hold += part * (now.hold - self.present_hold);
            if was && self.present_hold < self.usual_hold {
                // As quick as before, at whatever size.
                (self.saturated, self.usual_level) = (false, Some(level));
            }
        }
        if self.saturated && !was {
            (self.floor, self.floor_for) = (self.curve.size(rung) / 2, Duration::ZERO);
        }
    }

    /// While the database is saturated the pool shrinks to a half at most in this time: what is measured then is not worth
    /// much.
    fn floor(&mut self, secs: f64) -> usize {
        if !self.saturated {
            return 0;
        }
        self.floor_for += Duration::from_secs_f64(secs);
        if self.floor_for >= HALVES_IN {
            (self.floor, self.floor_for) = (self.floor.min(self.size) / 2, Duration::ZERO);
        }
        self.curve.nearest(f64::from(self.floor.max(1)))
    }

    /// How much (in `ln`) of what was known is forgotten in this time.
    fn forgets(&self, secs: f64) -> f64 {
        2.0_f64.ln() * secs / self.params.memory.as_secs_f64().max(1.0)
    }

    fn next_rung(&mut self, at: usize, grows: bool) -> usize {
        if self.phase == Phase::Rest && self.curve.rises_at(self.base) {
            self.curve.forget_far(self.base);
            (self.compared, self.rest) = (0, REST[0]);
        }
        let seen: Vec<usize> = self.curve.seen().collect();
        let (Some(&lowest), Some(&highest), Some(found)) =
            (seen.first(), seen.last(), self.curve.estimate(self.params.keep))
        else {
            return self.base;
        };
        let long = if self.gentle { STRIDES[1] } else { STRIDES[0] };
        let size = |rung: usize| f64::from(self.curve.size(rung));
        if lowest == highest && self.curve.last() > 0 {
            // One size says nothing. Down first: a saturated database is given no more without evidence.
            self.phase = Phase::Stride;
            (self.base, self.knee) = (lowest, None);
            return match lowest.checked_sub(1) {
                Some(below) => self.curve.nearest(size(lowest) / long).min(below),
                None if grows => self.curve.nearest(size(lowest) * long).max(1),
                None => lowest,
            };
        }
        let most = if grows { size(highest) * long } else { size(self.base) };
        let knee = found.knee.exp().clamp(size(lowest) / long, most.max(size(lowest)));
        let off = (knee * UPWARDS / size(self.base)).ln().abs();
        if self.phase != Phase::Rest || off > HYSTERESIS {
            let base = self.curve.nearest(knee * UPWARDS);
            if base != self.base {
                (self.base, self.rested, self.rest) = (base, 0, REST[0]);
            }
        }
        let base = self.base;
        if !seen.iter().any(|rung| self.curve.ratio(base, *rung).ln().abs() < NEAR) {
            self.phase = Phase::Stride;
            return base;
        }
        self.gentle = false;
        // The less is known, the farther apart are the sizes that are compared.
        let unsure = found.spread > SURE && self.compared < COMPARED_MAX;
        let aside = if unsure { (1.5 * found.spread).exp().clamp(ASIDE, ASIDE_MAX) } else { ASIDE };
        let (below, above) = (self.below(aside), self.above(aside).filter(|_| grows));
        let known = if unsure { f64::INFINITY } else { WEIGHT_KNOWN };
        let least = [Some(base), below, above]
            .into_iter()
            .flatten()
            .map(|rung| (self.curve.weight_around(rung, base), rung))
            .filter(|(weight, _)| *weight < known)
            .min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, rung)) = least {
            self.compared += 1;
            self.phase = Phase::Compare;
            return rung;
        }
        if self.phase != Phase::Rest {
            self.knee_level = self.curve.level();
        } else if self.curve.level() > self.knee_level + FASTER {
            // Too gradual for a shift: what the other sizes did is worth less now.
            self.knee_level = self.curve.level();
            self.curve.fade(0.2);
            (self.compared, self.rest) = (0, REST[0]);
        }
        self.phase = Phase::Rest;
        self.knee = Some(self.curve.size(base));
        if found.spread > SURE {
            self.rest = REST[0];
        }
        self.look_around(at, below, above)
    }

    /// What the best one is compared with: this much below.
    fn below(&self, aside: f64) -> Option<usize> {
        let rung = self.curve.nearest(f64::from(self.curve.size(self.base)) / aside);
        Some(rung.min(self.base.checked_sub(1)?))
    }

    /// This much above.
    fn above(&self, aside: f64) -> Option<usize> {
        let rung = self.curve.nearest(f64::from(self.curve.size(self.base)) * aside);
        (self.base < self.curve.last()).then_some(rung.max(self.base + 1))
    }

    /// At rest: a neighbour now and then, in turns.
    fn look_around(&mut self, at: usize, below: Option<usize>, above: Option<usize>) -> usize {
        self.rested += u32::from(at == self.base);
        if self.rested < self.rest {
            return self.base;
        }
        self.rested = 0;
        self.rest = (self.rest + self.rest / 2).min(REST[1]);
        self.looks_up = !self.looks_up;
        let other = if self.looks_up { above } else { below };
        other.unwrap_or(self.base)
    }

    fn saturation(&self, seen: &Measured) -> SizeReason {
        let usual = self.calm.map_or(self.usual_hold, |calm| calm.hold).exp();
        SizeReason::Saturated { hold: Duration::from_secs_f64(seen.hold), usual: Duration::from_secs_f64(usual) }
    }

    fn set(&mut self, size: u32) {
        self.size = size.clamp(self.params.min, self.params.max);
    }

    fn check_invariants(&self) {
        debug_assert!((self.params.min..=self.params.max).contains(&self.size));
    }
}

/// What keeps `busy` connections busy on average needs this many.
fn needed(busy: f64) -> u32 {
    ((busy + 2.0 * busy.max(0.0).sqrt()).ceil() as u32).saturating_add(1)
}

// === impl Usual ===

impl Usual {
    /// Connections in use.
    fn busy(&self) -> f64 {
        (self.rate + self.hold).exp()
    }

    /// Whether uses take longer now without a throughput to show for it.
    fn is_stretched(&self, now: &Self) -> bool {
        let (longer, more) = (now.hold - self.hold, now.rate - self.rate);
        longer > STRETCH.0 && more < STRETCH.1 * (longer + more)
    }

    /// Follows what is quicker soon, what is slower by `forgets`.
    fn approach(&mut self, now: &Self, forgets: f64) {
        if now.hold <= self.hold + STRETCH.0 / 2.0 {
            self.rate += 0.25 * (now.rate - self.rate);
        }
        let faster = 0.1 * (now.hold - self.hold).min(0.0);
        self.hold = (self.hold + forgets).min(now.hold.max(self.hold)) + faster;
    }
}

// === impl Window ===

impl Window {
    fn add(&mut self, interval: &Interval) {
        let secs = interval.lasted.as_secs_f64();
        self.secs += secs;
        self.busy += interval.busy * secs;
        let sum = &mut self.sum;
        sum.lasted += interval.lasted;
        sum.arrivals += interval.arrivals;
        sum.uses += interval.uses;
        sum.held += interval.held;
        sum.waited += interval.waited;
        sum.timeouts += interval.timeouts;
        sum.connect_failures += interval.connect_failures;
        sum.line = interval.line;
        sum.size = interval.size;
    }

    fn is_whole(&self, lasts: Duration) -> bool {
        let is_long = self.sum.lasted >= lasts && self.sum.uses >= USES_MIN;
        is_long || self.sum.lasted >= WINDOW_MAX
    }

    fn hold(&self) -> Option<Duration> {
        let uses = u32::try_from(self.sum.uses).unwrap_or(u32::MAX);
        self.sum.held.checked_div(uses)
    }

    fn measured(&self) -> Option<Measured> {
        let sum = &self.sum;
        let hold = self.hold()?.as_secs_f64().max(1e-9);
        if sum.uses < USES_NONE {
            return None;
        }
        let (secs, uses) = (self.secs.max(1e-3), sum.uses as f64);
        let waited = sum.waited.as_secs_f64();
        Some(Measured {
            secs,
            rate: uses / secs,
            hold,
            busy: self.busy / secs,
            wait: waited / uses / hold,
            weight: PRECISION.powi(2) / (0.5 / uses + PRECISION.powi(2) / secs),
            in_line: sum.line > 0 || waited / secs > 0.25 || sum.timeouts > 0,
            connects_fail: sum.connect_failures > 0,
        })
    }
}

#[cfg(test)]
mod tests;
