//! What a pool was like in the last ten seconds, and in calmer times before: the difference of sums that the pool has anyway.
//!
//! The housekeeper notes the sums each second while the pool is in use, and each ten seconds while it is not; an acquire pays nothing for
//! it. At most [`SAMPLES`] are kept (about two kilobytes each).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use weir_core::Instant;
use weir_pool_core::explain::{Figures, Finding, Grantor, RefusedCounts};
use weir_pool_core::{Histogram, HumanTime};

use crate::manager::Manager;
use crate::shared::Shared;
use crate::sync::MutexGuard;

/// Between two samples while the pool is in use.
const TICK: Duration = Duration::from_secs(1);
/// And while it is not.
const SLOW_TICK: Duration = Duration::from_secs(10);
/// What is spoken of.
const WINDOW: Duration = Duration::from_millis(10_500);
/// Samples kept.
const SAMPLES: usize = 12;
/// Calmer times are looked for in this time, and the one before.
const CALM: Duration = Duration::from_mins(5);
/// So many uses make a mean worth comparing.
const USES_MIN: u64 = 30;

/// Sums since the pool began.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    at: Instant,
    /// Asked for, those in line included.
    asked: u64,
    uses: u64,
    used: Duration,
    refused: RefusedCounts,
    waits: Histogram,
    /// Somebody uses it at this moment.
    busy: bool,
}

/// A window with its mean hold and its uses per second.
#[derive(Clone, Copy, Debug)]
struct Calm {
    hold: Duration,
    served: f64,
}

/// The samples. See the module.
#[derive(Debug)]
pub(crate) struct History {
    samples: VecDeque<Sample>,
    due: Instant,
    /// The calmest window of this time and of the one before, and when this time began.
    calm: [Option<Calm>; 2],
    since: Instant,
}

/// The load of a pool in the last ten seconds, by Little's law: connections in use on average = acquires per second × how long one is held.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct Load {
    /// The time that this speaks of: up to some ten seconds.
    pub over: Duration,
    /// Acquires asked for per second.
    pub rate: f64,
    /// Uses ended per second.
    pub served: f64,
    /// How long a connection was held on average, of the uses that ended; `None` if none did.
    pub hold: Option<Duration>,
    /// `rate` × `hold`: connections that would be in use on average if all were served at once.
    pub needs: Option<f64>,
    /// What the pool may have.
    pub size: u32,
    /// Half of the callers waited no longer; those whose time ended are among them.
    pub wait_p50: Duration,
    /// 99 of 100 callers waited no longer.
    pub wait_p99: Duration,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "last {:.1} s: {:.1} acquires/s", self.over.as_secs_f64(), self.rate)?;
        match self.hold.zip(self.needs) {
            Some((hold, needs)) => {
                write!(f, " x {} held = {needs:.1} connections needed, size {}", HumanTime(hold), self.size)?;
            }
            None => write!(f, ", no use ended, size {}", self.size)?,
        }
        write!(f, "; waits p50 {}, p99 {}", HumanTime(self.wait_p50), HumanTime(self.wait_p99))
    }
}

/// What limits a pool now, and the load that it is about. `Display` is some lines of text: findings, remedies, and the numbers.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    findings: weir_pool_core::explain::Explanation,
    load: Load,
}

impl Explanation {
    /// What limits the pool, the heaviest first; never empty.
    pub fn findings(&self) -> &[Finding] {
        self.findings.findings()
    }

    /// Whether nothing limits it.
    pub fn is_healthy(&self) -> bool {
        self.findings.is_healthy()
    }

    /// Rates and times of the last ten seconds.
    pub fn load(&self) -> &Load {
        &self.load
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.findings, self.load)
    }
}

impl History {
    pub(crate) const fn new() -> Self {
        Self { samples: VecDeque::new(), due: Instant::ZERO, calm: [None; 2], since: Instant::ZERO }
    }

    /// When the next sample is due.
    pub(crate) const fn due(&self) -> Instant {
        self.due
    }

    pub(crate) fn push(&mut self, sample: Sample) {
        let now = sample.at;
        if let Some(before) = self.before(now) {
            let window = Window { before, now: &sample };
            if let Some(calm) = window.calm() {
                let best = &mut self.calm[0];
                *best = Some(best.filter(|best| best.hold <= calm.hold).unwrap_or(calm));
            }
        }
        if now.since(self.since) >= CALM {
            self.calm = [None, self.calm[0]];
            self.since = now;
        }
        let still = self.samples.back().is_some_and(|last| last.asked == sample.asked) && !sample.busy;
        self.due = now + if still { SLOW_TICK } else { TICK };
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The sample at which the window that ends now begins: the oldest that is not too old, else the newest.
    fn before(&self, now: Instant) -> Option<&Sample> {
        self.samples.iter().find(|sample| now.since(sample.at) <= WINDOW).or_else(|| self.samples.back())
    }

    fn calmest(&self) -> Option<Calm> {
        self.calm.iter().flatten().copied().min_by_key(|calm| calm.hold)
    }
}

/// What happened between two samples.
struct Window<'a> {
    before: &'a Sample,
    now: &'a Sample,
}

impl Window<'_> {
    fn over(&self) -> Duration {
        self.now.at.since(self.before.at)
    }

    fn rate(&self, number: u64) -> f64 {
        // A moment after the start nothing has a rate.
        number as f64 / self.over().max(Duration::from_millis(100)).as_secs_f64()
    }

    fn uses(&self) -> u64 {
        self.now.uses.saturating_sub(self.before.uses)
    }

    fn hold(&self) -> Option<Duration> {
        let nanos = self.now.used.saturating_sub(self.before.used).as_nanos() as u64;
        nanos.checked_div(self.uses()).map(Duration::from_nanos)
    }

    fn refused(&self) -> RefusedCounts {
        let (now, before) = (&self.now.refused, &self.before.refused);
        RefusedCounts {
            timed_out: now.timed_out.saturating_sub(before.timed_out),
            down: now.down.saturating_sub(before.down),
            line_full: now.line_full.saturating_sub(before.line_full),
            shed: now.shed.saturating_sub(before.shed),
        }
    }

    /// Those that ended in vain waited for `timeout`, more or less.
    fn waits(&self, timeout: Duration) -> Histogram {
        let mut waits = self.now.waits.since(&self.before.waits);
        waits.record_many(timeout, self.refused().timed_out);
        waits
    }

    fn calm(&self) -> Option<Calm> {
        let hold = self.hold().filter(|_| self.uses() >= USES_MIN && self.over() >= TICK)?;
        Some(Calm { hold, served: self.rate(self.uses()) })
    }
}

impl<M: Manager> Shared<M> {
    /// Notes a sample if one is due; returns when the next one is.
    pub(crate) fn remember(&self) -> Instant {
        if cfg!(weir_loom) {
            // In the models no time passes.
            return Instant::FAR;
        }
        let due = self.history().due();
        let now = self.clock.now();
        if now < due {
            return due;
        }
        let sample = self.sample(now);
        let mut history = self.history();
        history.push(sample);
        history.due()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sample(&self, now: Instant) -> Sample {
        let state = self.lock();
        let stats = state.broker.stats(now);
        let mut waits = state.broker.waits().clone();
        drop(state);
        let refused = RefusedCounts {
            timed_out: stats.timed_out,
            down: stats.refused_down,
            line_full: stats.refused_full,
            shed: stats.refused_shed,
        };
        let served = waits.count() + stats.unwaited;
        waits.record_zeros(stats.unwaited);
        Sample {
            at: now,
            asked: served + stats.timed_out + stats.refused + u64::from(stats.waiting),
            uses: stats.uses,
            used: Duration::from_nanos(stats.used_nanos),
            refused,
            waits,
            busy: stats.pool.busy > 0 || stats.waiting > 0,
        }
    }

    /// What limits the pool now.
    pub(crate) fn explain(&self) -> Explanation {
        let now = self.clock.now();
        let sample = self.sample(now);
        let history = self.history();
        let (calm, before) = (history.calmest(), history.before(now).cloned());
        drop(history);
        let before = before.unwrap_or_else(|| sample.clone());
        let window = Window { before: &before, now: &sample };

        let state = self.lock();
        let stats = state.broker.stats(now);
        let settings = Arc::clone(&state.settings);
        let (leak_suspects, oldest_use) = state.borrowers.summary(now);
        let failure = state.last_failure.clone().filter(|_| stats.failing_since.is_some());
        let (share, suspended) = (state.share, state.broker.is_suspended());
        drop(state);

        let waits = window.waits(settings.acquire_timeout);
        let hold = window.hold();
        // In line and gone again, unserved: not known, so this is the least that was asked for.
        let rate = window.rate(sample.asked.saturating_sub(before.asked));
        let load = Load {
            over: window.over(),
            rate,
            served: window.rate(window.uses()),
            hold,
            needs: hold.map(|hold| rate * hold.as_secs_f64()),
            size: settings.size(share),
            wait_p50: waits.quantile(0.5),
            wait_p99: waits.quantile(0.99),
        };
        let figures = Figures {
            max_size: settings.max_size,
            granted: share.filter(|share| *share < settings.max_size).map(|share| (share, Grantor::Budget)),
            busy: stats.pool.busy,
            idle: stats.pool.idle + stats.pool.reserved,
            opening: stats.pool.connecting,
            hung: stats.hung,
            waiting: stats.waiting,
            waiting_max: settings.waiters_max,
            oldest_wait: stats.oldest_wait,
            hold,
            hold_baseline: calm.map(|calm| calm.hold),
            use_age: stats.age,
            // Where nobody notes who holds what, at least the mean is known.
            oldest_use: oldest_use.max(stats.age),
            wait_p99: load.wait_p99,
            arrival_rate: rate,
            served_rate: load.served,
            served_baseline: calm.map(|calm| calm.served),
            connect_time: stats.connect_time,
            failing_for: stats.failing_since.map(|since| now.since(since)),
            last_error: failure.map(|(failure, _)| failure.to_string()),
            next_attempt: stats.next_attempt.map(|at| at - now),
            refused: window.refused(),
            leak_suspects,
            suspended,
        };
        Explanation { findings: figures.explain(), load }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `uses` of 2 ms each, up to the second `at`.
    fn sample(at: u64, uses: u64, hold_ms: u64) -> Sample {
        Sample {
            at: Instant::ZERO + Duration::from_secs(at),
            asked: uses,
            uses,
            used: Duration::from_millis(uses * hold_ms),
            refused: RefusedCounts::default(),
            waits: Histogram::new(),
            busy: false,
        }
    }

    #[test]
    fn the_window_is_ten_seconds_and_the_memory_is_bounded() {
        let mut history = History::new();
        for second in 0..100 {
            assert!(history.due() <= Instant::ZERO + Duration::from_secs(second));
            history.push(sample(second, second * 50, 2));
            assert!(history.samples.len() <= SAMPLES);
        }
        let now = sample(100, 5_000, 2);
        let window = Window { before: history.before(now.at).unwrap(), now: &now };
        assert_eq!((window.over(), window.uses()), (Duration::from_secs(10), 500));
        assert_eq!(window.hold(), Some(Duration::from_millis(2)));
        assert!((window.rate(500) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn a_pool_at_rest_is_looked_at_rarely_and_its_window_stays_short() {
        let mut history = History::new();
        history.push(sample(0, 0, 0));
        history.push(sample(1, 0, 0));
        assert_eq!(history.due(), Instant::ZERO + Duration::from_secs(11));
        history.push(sample(11, 0, 0));
        let now = sample(20, 100, 2);
        let window = Window { before: history.before(now.at).unwrap(), now: &now };
        assert_eq!(window.over(), Duration::from_secs(9), "from the last look before it was used again");
        history.push(sample(21, 100, 2));
        assert_eq!(history.due(), Instant::ZERO + Duration::from_secs(22), "in use again");
    }

    #[test]
    fn the_calmest_window_is_remembered_for_some_minutes() {
        let mut history = History::new();
        let (mut uses, mut used) = (0, Duration::ZERO);
        let mut push = |second: u64, hold: u64| {
            uses += 100;
            used += Duration::from_millis(100 * hold);
            history.push(Sample { used, ..sample(second, uses, 0) });
            history.calmest().map(|calm| calm.hold.as_millis())
        };
        for second in 0..60 {
            push(second, 2);
        }
        for second in 60..300 {
            assert_eq!(push(second, 10), Some(2), "at {second}");
        }
        let forgotten = (300..1_000).find(|second| push(*second, 10) == Some(10));
        assert!(forgotten.is_some_and(|second| (500..=700).contains(&second)), "{forgotten:?}");
    }
}
