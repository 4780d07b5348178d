//! When to open connections for those who wait, and how many.
//!
//! Opening is the dearest thing a pool asks of a server, and who waits for a connection in use often has it sooner than a
//! new one. So a pool that opens one per waiter opens 45 where none is needed, and a pool that opens one at a
//! time takes seconds where all are. What is known decides:
//!
//! ```text
//! live     connections that are idle or in use         waiting  those in line
//! T        how long a connect takes: mean of the recent ones, each new one counts a quarter
//! H        how long one is held: mean of the uses that ended of late
//! n, t     uses that ended while the line stood, and for how long it has (at most some 200 ms back)
//! drain    the time in which the last in line is served if nothing is opened:
//!          waiting × max(H / live, t / (n + 1))
//!
//! stood    for how long there was a line since the last connect was begun; of that, T is forgotten per second without one
//!
//! drain ≤ T  nothing, until stood ≥ T: then one per T (a load that one more would serve)
//! drain > T  as many as are left unserved within T: waiting × (1 − T / drain), at least one
//! ```
//!
//! Lines that are short and come again and again count together: callers have waited for as long as a connect takes, and will
//! again (the rule for renting skis: buy when as much has been paid in rent). One that is gone and does not come again within a second or so
//! opens nothing.
//!
//! The second term of the maximum is what makes long uses known while they last: a line that does not move tells so after
//! `T / waiting`.
//!
//! Four brakes:
//! 1. **Ramp.** The connects in flight at most double per step (T/8, within [`STEP_MIN`] and [`STEP_MAX`]). Those that were
//!    not begun when the line is gone are never begun.
//! 2. **Pace after a failure.** One at a time, begun `backoff × 2ⁿ × (0.5 … 1.0)` apart, up to the cap.
//! 3. **Patience.** A connect that takes four times as long as usual is counted as failed although it goes on, and another
//!    may be tried beside it: a server that is back is found although older connects hang.
//! 4. **Pace after useless ones.** A connection that opens well and then cannot be made ready for its user (a check, a reset or
//!    the user's own hook fails on it) is closed, and one that replaces it may fare no better. From the second one on that was
//!    opened after such a failure, connects are begun one at a time and as far apart as after failed ones, until one gets through or
//!    that is long past. Nobody is refused for it: whether the server is down is a matter of connects.

use std::time::Duration;

use weir_core::{Instant, hash};

/// The shortest step of the ramp.
pub const STEP_MIN: Duration = Duration::from_millis(5);
/// The longest step of the ramp.
pub const STEP_MAX: Duration = Duration::from_millis(50);
/// A connect is hung after this many times the usual …
pub const PATIENCE_FACTOR: u32 = 4;
/// … but not before this.
pub const PATIENCE_MIN: Duration = Duration::from_millis(250);
/// Patience before any connect has succeeded.
pub const PATIENCE_UNKNOWN: Duration = Duration::from_millis(500);

/// How connections are opened.
#[derive(Clone, PartialEq, Debug)]
pub struct OpenParams {
    /// Most connects in flight, at least one.
    pub parallel_max: u32,
    /// A connect is given up after this.
    pub connect_timeout: Duration,
    /// Between two attempts after the first failure.
    pub backoff: Duration,
    /// Between two attempts after many.
    pub backoff_max: Duration,
    /// With no live connection and connects failing for this long, new callers are refused at once.
    pub down_after: Duration,
}

impl Default for OpenParams {
    fn default() -> Self {
        Self {
            parallel_max: 32,
            connect_timeout: Duration::from_secs(3),
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            down_after: Duration::from_secs(5),
        }
    }
}

/// What there is and what is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Demand {
    /// Those in line.
    pub waiting: u32,
    /// Idle connections missing to the minimum.
    pub missing: u32,
    /// Connections idle or in use.
    pub live: u32,
    /// Connects in flight.
    pub opening: u32,
    /// Those of `opening` that are hung.
    pub hung: u32,
    /// Places left below the maximum.
    pub room: u32,
    /// H: the mean time a connection was held; zero if unknown.
    pub hold: Duration,
    /// n: uses that ended within `over`.
    pub ended: u32,
    /// t: for how long the line has stood, or a part of that.
    pub over: Duration,
    /// For how long there was a line, since the start.
    pub lines: Duration,
}

/// The rule. See the module.
#[derive(Debug)]
pub struct Opener {
    params: OpenParams,
    /// T; `None` before the first connect has succeeded.
    connect_time: Option<Duration>,
    /// Connects in flight allowed by the ramp.
    ramp: u32,
    /// When the ramp may double.
    ramp_at: Instant,
    /// For how long there was a line, as far as it counts, at `looked`; at most twice T.
    stood: Duration,
    looked: Instant,
    /// [`Demand::lines`] then.
    lines: Duration,
    /// Failures since the last success.
    failures: u32,
    failing_since: Option<Instant>,
    /// When the last failure was counted.
    failed_at: Instant,
    not_before: Instant,
    /// Somebody was refused: one attempt, though nobody waits.
    probe: bool,
    /// When a connection was found useless last, while that matters.
    useless_at: Option<Instant>,
    /// How many in a row were, that were opened after another one was.
    useless: u32,
    /// No connect before this because of them.
    useless_until: Instant,
}

impl Opener {
    /// Nothing known yet.
    pub fn new(params: OpenParams) -> Self {
        Self {
            params,
            connect_time: None,
            ramp: 1,
            ramp_at: Instant::ZERO,
            stood: Duration::ZERO,
            looked: Instant::ZERO,
            lines: Duration::ZERO,
            failures: 0,
            failing_since: None,
            failed_at: Instant::ZERO,
            not_before: Instant::ZERO,
            probe: false,
            useless_at: None,
            useless: 0,
            useless_until: Instant::ZERO,
        }
    }

    /// Changes the settings; what was learnt stays.
    pub fn set_params(&mut self, params: OpenParams) {
        self.params = params;
    }

    /// The settings.
    pub fn params(&self) -> &OpenParams {
        &self.params
    }

    /// How many connects to begin now. The caller begins exactly as many, and asks again after every change and at
    /// [`Opener::poll_timeout`].
    pub fn want(&mut self, demand: &Demand, now: Instant) -> u32 {
        self.look(demand, now);
        let needed = self.needed(demand).min(demand.room);
        if needed == 0 {
            if demand.opening == 0 {
                self.ramp = 1;
            }
            return 0;
        }
        if now < self.not_before.max(self.useless_until) {
            return 0;
        }
        let in_flight = demand.opening - demand.hung.min(demand.opening);
        if self.failing_since.is_some() || self.is_useless(now) {
            // Beside those that hang, but the bound is the bound.
            let begin = u32::from(in_flight == 0 && demand.opening < self.params.parallel_max.max(1));
            self.probe &= begin == 0;
            return begin;
        }
        if now >= self.ramp_at && in_flight >= self.ramp {
            self.ramp = self.ramp.saturating_mul(2);
        }
        let allowed = self.ramp.min(self.params.parallel_max).max(1);
        let begin = needed.min(allowed.saturating_sub(demand.opening));
        if begin > 0 {
            self.ramp_at = now + self.step();
            self.stood = Duration::ZERO;
            self.probe = false;
        }
        begin
    }

    /// Adds up for how long there is a line.
    fn look(&mut self, demand: &Demand, now: Instant) {
        let passed = now.since(std::mem::replace(&mut self.looked, now));
        let stood = demand.lines.saturating_sub(std::mem::replace(&mut self.lines, demand.lines));
        let Some(connect_time) = self.connect_time else { return };
        let without = passed.saturating_sub(stood).as_secs_f64();
        // Twice T is forgotten in two seconds.
        let forgotten = connect_time.mul_f64(without.min(2.0));
        self.stood = self.stood.saturating_add(stood).min(connect_time.saturating_mul(2)).saturating_sub(forgotten);
    }

    /// When [`Opener::want`] may say something else although nothing has happened; `None` if it will not.
    pub fn poll_timeout(&self, demand: &Demand, now: Instant) -> Option<Instant> {
        if (demand.waiting == 0 && demand.missing == 0 && !self.probe) || demand.room == 0 {
            return None;
        }
        let soonest = now + self.step();
        let paced = if self.failing_since.is_some() { self.not_before } else { Instant::ZERO };
        Some(soonest.max(paced).max(self.useless_until))
    }

    /// A connect succeeded after `took`.
    pub fn opened(&mut self, took: Duration) {
        self.connect_time = Some(match self.connect_time {
            None => took,
            Some(mean) => (mean * 3 + took) / 4,
        });
        self.failures = 0;
        self.failing_since = None;
        self.not_before = Instant::ZERO;
        self.probe = false;
    }

    /// A connect that began at `began` failed, or has just turned out to hang. `seed` draws the pause, which counts from
    /// `began`. Of those that were in flight together only the first to fail makes the pause longer.
    pub fn failed(&mut self, began: Instant, now: Instant, seed: u64) {
        if self.is_stale(now) {
            // Nobody has tried since: when connects began to fail again is not known.
            (self.failing_since, self.failures) = (None, 0);
        }
        self.failing_since.get_or_insert(now);
        self.ramp = 1;
        if began < self.failed_at {
            return;
        }
        self.failed_at = now;
        self.not_before = began + self.pause(self.failures, seed);
        self.failures = self.failures.saturating_add(1);
    }

    /// A connection that was opened at `opened` could not be made ready for its user. `seed` draws the pause, which counts from
    /// `opened`: who lives longer than the pause needs none. Those that were opened before the last such failure say nothing: they
    /// may be dead of old age, together.
    pub fn found_useless(&mut self, opened: Instant, now: Instant, seed: u64) {
        let known = self.useless_at.filter(|_| self.remembers_useless(now));
        let Some(before) = known else {
            (self.useless_at, self.useless) = (Some(now), 0);
            return;
        };
        if opened < before {
            return;
        }
        self.useless_at = Some(now);
        self.ramp = 1;
        self.useless_until = opened + self.pause(self.useless, seed);
        self.useless = self.useless.saturating_add(1);
    }

    /// A connection has got through what others could not.
    pub fn found_useful(&mut self) {
        (self.useless_at, self.useless, self.useless_until) = (None, 0, Instant::ZERO);
    }

    /// Whether the last useless connection is so recent that the next one counts as following it.
    fn remembers_useless(&self, now: Instant) -> bool {
        self.useless_at.is_some_and(|at| now.since(at) <= self.params.backoff_max.saturating_mul(2))
    }

    /// Whether new connections are useless.
    fn is_useless(&self, now: Instant) -> bool {
        self.useless > 0 && self.remembers_useless(now)
    }

    /// The pause after so many failures before.
    fn pause(&self, before: u32, seed: u64) -> Duration {
        let doubled = self.params.backoff.saturating_mul(1 << before.min(20));
        let pause = doubled.min(self.params.backoff_max);
        let half = u64::try_from((pause / 2).as_nanos()).unwrap_or(u64::MAX);
        let share = hash::reduce(hash::splitmix64(seed), half.saturating_add(1));
        Duration::from_nanos(half) + Duration::from_nanos(share)
    }

    /// Somebody was refused because the server is down: one attempt is due although nobody waits.
    pub fn refused(&mut self) {
        self.probe = true;
    }

    /// Whether connects have been failing for so long that, with no live connection, new callers are refused. Not if none was
    /// tried of late: one that failed long ago says nothing of now.
    pub fn is_down(&self, now: Instant) -> bool {
        self.failing_since.is_some_and(|since| now.since(since) >= self.params.down_after) && !self.is_stale(now)
    }

    /// Whether the last failure is so long ago that, had anybody wanted a connection since, there would have been another.
    fn is_stale(&self, now: Instant) -> bool {
        let OpenParams { backoff_max, connect_timeout, down_after, .. } = self.params;
        now.since(self.failed_at) > backoff_max.saturating_mul(2).saturating_add(connect_timeout).max(down_after)
    }

    /// Since when connects have been failing, as far as is known: until one succeeds.
    pub fn failing_since(&self) -> Option<Instant> {
        self.failing_since
    }

    /// As [`Opener::failing_since`], if one has failed of late.
    pub fn failing_still_since(&self, now: Instant) -> Option<Instant> {
        self.failing_since.filter(|_| !self.is_stale(now))
    }

    /// Forgets that connects have failed: what comes next is tried anew.
    pub fn forget_failures(&mut self) {
        (self.failing_since, self.failures, self.not_before) = (None, 0, Instant::ZERO);
    }

    /// T: how long a connect takes; `None` before one has succeeded.
    pub fn connect_time(&self) -> Option<Duration> {
        self.connect_time
    }

    /// After how long a connect in flight is taken to hang.
    pub fn patience(&self) -> Duration {
        let usual = match self.connect_time {
            Some(mean) => mean.saturating_mul(PATIENCE_FACTOR).max(PATIENCE_MIN),
            None => PATIENCE_UNKNOWN,
        };
        usual.min(self.params.connect_timeout)
    }

    /// How many the demand asks for, brakes aside.
    fn needed(&self, demand: &Demand) -> u32 {
        let for_idle = demand.missing.max(u32::from(self.probe)).saturating_sub(demand.opening);
        if demand.waiting == 0 {
            return for_idle;
        }
        // Each connect in flight that is not hung serves one of them.
        let coming = demand.opening - demand.hung.min(demand.opening);
        let unmet = demand.waiting.saturating_sub(coming);
        let Some(connect_time) = self.connect_time.filter(|_| demand.live > 0) else {
            return unmet.max(for_idle);
        };
        let waiting = f64::from(demand.waiting);
        let each = demand.hold.as_secs_f64() / f64::from(demand.live);
        let drain = waiting * each.max(demand.over.as_secs_f64() / f64::from(demand.ended.saturating_add(1)));
        let connect = connect_time.as_secs_f64();
        let for_line = if drain > connect {
            let left = (waiting * (1.0 - connect / drain)).ceil() as u32;
            left.max(1).saturating_sub(coming)
        } else {
            u32::from(self.stood >= connect_time && coming == 0)
        };
        for_line.min(unmet).max(for_idle)
    }

    fn step(&self) -> Duration {
        self.connect_time.map_or(STEP_MIN, |mean| (mean / 8).clamp(STEP_MIN, STEP_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// One that knows that a connect takes 150 ms.
    fn experienced() -> Opener {
        let mut opener = Opener::new(OpenParams::default());
        opener.opened(ms(150));
        opener
    }

    /// Steps through time as an owner would: `demand` says what there is; returns when each connect was begun.
    fn play(opener: &mut Opener, until: u64, demand: impl Fn(u64, u32) -> Demand) -> Vec<u64> {
        let mut begun = Vec::new();
        for millis in 0..until {
            let n = opener.want(&demand(millis, begun.len() as u32), at(millis));
            begun.extend((0..n).map(|_| millis));
        }
        begun
    }

    #[test]
    fn a_short_line_before_quick_uses_opens_nothing() {
        // 50 at once on 5 warm connections, 2 ms each: the line is gone after 20 ms.
        let begun = play(&mut experienced(), 100, |millis, opening| Demand {
            waiting: 45_u32.saturating_sub(millis as u32 / 2 * 5),
            live: 5,
            opening,
            room: 45 - opening,
            hold: ms(millis.min(2)),
            ended: millis as u32 / 2 * 5,
            over: ms(millis),
            ..Demand::default()
        });
        assert_eq!(begun, []);
    }

    #[test]
    fn long_uses_open_one_for_each_who_waits() {
        // 2 s each: after a few steps it is clear that nobody comes back soon.
        let begun = play(&mut experienced(), 300, |millis, begun| Demand {
            // The first are open after 150 ms, and serve those in line.
            waiting: if millis < 160 { 45 } else { 45 - begun },
            live: if millis < 160 { 5 } else { 5 + begun },
            opening: if millis < 160 { begun } else { 0 },
            room: 45 - begun,
            over: ms(millis),
            ..Demand::default()
        });
        assert_eq!(begun.len(), 45);
        // Open 150 ms later: within three times the connect time.
        assert!(begun[44] <= 300, "{begun:?}");
        assert!(begun.windows(2).all(|pair| pair[0] <= pair[1]) && begun[5] > begun[0], "a ramp: {begun:?}");
    }

    #[test]
    fn a_line_that_stands_gets_one_more_per_connect_time() {
        let mut opener = experienced();
        let mut begun = Vec::new();
        let mut opening = Vec::new();
        let mut live = 5;
        for millis in 0..1_000 {
            opening.retain(|&since| {
                let open = millis - since < 150;
                live += u32::from(!open);
                open
            });
            let demand = Demand {
                waiting: 10,
                live,
                opening: opening.len() as u32,
                room: 20,
                hold: ms(10),
                ended: 10,
                over: ms(20),
                lines: ms(millis),
                ..Demand::default()
            };
            for _ in 0..opener.want(&demand, at(millis)) {
                begun.push(millis);
                opening.push(millis);
            }
        }
        assert!((5..=6).contains(&begun.len()), "{begun:?}");
        assert_eq!(begun[0], 150);
    }

    /// Lines of 20 ms, which are gone without a new connection, once in so many milliseconds: how many are opened in ten seconds.
    fn opened_by_lines_every(period: u64) -> usize {
        let begun = play(&mut experienced(), 10_000, |millis, _| Demand {
            waiting: u32::from(millis % period < 20),
            lines: ms(millis / period * 20 + (millis % period).min(20)),
            live: 5,
            room: 20,
            hold: ms(10),
            ended: 10,
            over: ms(20),
            ..Demand::default()
        });
        begun.len()
    }

    #[test]
    fn lines_shorter_than_a_step_count_for_what_they_are() {
        // Looked at only when each begins: a fifth of the time, and a fiftieth.
        let opened = |lasts: u64| {
            let mut opener = experienced();
            let looks = (0..10_000).step_by(20);
            let demand = |millis: u64| Demand {
                waiting: 1,
                live: 5,
                room: 20,
                hold: ms(10),
                ended: 10,
                over: ms(1),
                lines: ms(millis / 20 * lasts),
                ..Demand::default()
            };
            looks.map(|millis| opener.want(&demand(millis), at(millis))).sum::<u32>()
        };
        assert!((3..=13).contains(&opened(4)), "{}", opened(4));
        assert_eq!(opened(0), 0);
    }

    #[test]
    fn lines_that_come_again_and_again_get_one_more() {
        // A fifth of the time: 150 ms of waiting in 750, less what is forgotten.
        let often = opened_by_lines_every(100);
        assert!((3..=13).contains(&often), "{often}");
        assert_eq!(opened_by_lines_every(500), 0, "a 25th of the time is less than a connect per second");
    }

    #[test]
    fn failures_are_paced_and_a_success_ends_that() {
        let mut opener = Opener::new(OpenParams::default());
        let demand = Demand { waiting: 20, room: 10, ..Demand::default() };
        let mut attempts = Vec::new();
        for millis in 0..10_000 {
            // Refused at once.
            for _ in 0..opener.want(&demand, at(millis)) {
                attempts.push(millis);
                opener.failed(at(millis), at(millis), millis);
            }
        }
        assert!((10..=25).contains(&attempts.len()), "{attempts:?}");
        let gaps: Vec<u64> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| (25..=1_001).contains(gap)), "{gaps:?}");
        assert!(gaps[gaps.len() - 1] >= 500);
        assert!(opener.is_down(at(10_000)) && !opener.is_down(at(4_999)));
        opener.opened(ms(20));
        assert!(!opener.is_down(at(10_000)));
        assert_eq!(opener.want(&demand, at(10_000)), 1, "the ramp begins anew");
    }

    #[test]
    fn connects_that_hang_do_not_keep_the_next_from_being_tried() {
        let mut opener = experienced();
        assert_eq!(opener.patience(), ms(600));
        let demand = Demand { waiting: 3, opening: 1, hung: 1, room: 9, ..Demand::default() };
        opener.failed(at(580), at(600), 1);
        assert_eq!(opener.want(&demand, at(601)), 0, "paced");
        assert_eq!(opener.want(&demand, at(700)), 1);
        assert_eq!(opener.want(&Demand { opening: 2, ..demand }, at(701)), 0, "one at a time");
    }

    #[test]
    fn connections_that_are_useless_are_replaced_at_a_pace() {
        let mut opener = experienced();
        let demand = Demand { waiting: 20, room: 10, ..Demand::default() };
        let mut opened = Vec::new();
        for millis in 0..10_000 {
            // Open a millisecond later, and useless at once.
            if opened.last().is_some_and(|last| last + 1 == millis) {
                opener.opened(ms(1));
                opener.found_useless(at(millis), at(millis), millis);
            }
            assert!(!opener.is_down(at(millis)), "connects are well");
            opened.extend((0..opener.want(&demand, at(millis))).map(|_| millis));
        }
        assert!((10..=25).contains(&opened.len()), "{opened:?}");
        let gaps: Vec<u64> = opened.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // The first may be an accident.
        assert!(gaps[1..].iter().all(|gap| (25..=1_002).contains(gap)), "{gaps:?}");
        assert!(gaps[gaps.len() - 1] >= 500, "{gaps:?}");
        opener.found_useful();
        assert_eq!(opener.want(&demand, at(10_000)), 1, "the ramp begins anew");
        assert_eq!(opener.want(&Demand { opening: 1, ..demand }, at(10_050)), 1, "and goes on");
    }

    #[test]
    fn connections_that_died_together_cost_no_pause() {
        let mut opener = experienced();
        for millis in 0..20 {
            opener.found_useless(at(0), at(1_000 + millis), millis);
        }
        let demand = Demand { waiting: 20, room: 20, ..Demand::default() };
        assert_eq!(opener.want(&demand, at(1_020)), 1);
        assert_eq!(opener.want(&Demand { opening: 1, ..demand }, at(1_060)), 1, "not one at a time");
        // One of the new ones, after it has been used for a while.
        opener.found_useless(at(1_030), at(2_500), 1);
        assert_eq!(opener.want(&demand, at(2_501)), 1, "it has lived longer than a pause");
        // Long after the last one, it is the first again.
        opener.found_useless(at(2_600), at(9_000), 1);
        assert_eq!(opener.want(&demand, at(9_001)), 1);
        assert!(opener.want(&Demand { opening: 1, ..demand }, at(9_060)) >= 1);
    }

    #[test]
    fn a_failure_of_long_ago_does_not_make_it_down() {
        let mut opener = Opener::new(OpenParams::default());
        opener.failed(at(0), at(0), 1);
        assert!(!opener.is_down(at(60_000)), "nobody has tried since");
        // Now it is tried again, and fails: for how long is counted from here.
        for millis in (60_000..65_000).step_by(500) {
            opener.failed(at(millis), at(millis), millis);
            assert!(!opener.is_down(at(millis)), "{millis}");
        }
        opener.failed(at(65_000), at(65_000), 1);
        assert!(opener.is_down(at(65_000)) && opener.is_down(at(69_000)));
    }

    #[test]
    fn a_refusal_asks_for_one_attempt() {
        let mut opener = experienced();
        opener.failed(at(0), at(0), 1);
        let demand = Demand { room: 10, ..Demand::default() };
        assert_eq!(opener.want(&demand, at(1_000)), 0, "nobody asks");
        opener.refused();
        assert!(opener.poll_timeout(&demand, at(1_000)).is_some());
        assert_eq!(opener.want(&demand, at(1_000)), 1);
        assert_eq!(opener.want(&Demand { opening: 1, ..demand }, at(1_001)), 0);
    }
}
