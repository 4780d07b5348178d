//! What limits a pool right now, in words, with the numbers that show it.
//!
//! A caller that gets no connection in time says nothing about why: the same time-out stands for a database that is slow, one that is
//! away, a pool that is too small, a leak, and a burst. The remedies contradict each other (a larger pool helps against
//! two of them and makes one worse), so the causes are told apart by figures that the pool has anyway:
//!
//! | finding | evidence |
//! |---|---|
//! | [`Suspended`](Finding::Suspended) | the pool says so |
//! | [`ConnectsFail`](Finding::ConnectsFail) | failing for some time, and nothing idle |
//! | [`ConnectsHang`](Finding::ConnectsHang) | connects in flight beyond their patience, and nothing idle |
//! | [`LeakSuspected`](Finding::LeakSuspected) | in use for longer than the pool's threshold, or [`LEAK_FACTOR`] times the usual hold |
//! | [`LongUse`](Finding::LongUse) | all in use, and for [`LONG_FACTOR`] times longer than the usual hold: uses that ended do not show it |
//! | [`Saturated`](Finding::Saturated) | all in use, hold [`SLOWER_FACTOR`] times its baseline, and no more served than then |
//! | [`LineFull`](Finding::LineFull) | the line is at its bound |
//! | [`Limited`](Finding::Limited) | all that a quota or a budget grants is in use, below the maximum |
//! | [`BeyondSize`](Finding::BeyondSize) | rate × hold (Little) at [`BUSY_SHARE`] of the size or above it, and callers wait |
//! | [`ConnectsSlow`](Finding::ConnectsSlow) | callers wait, there is room, and a connect takes much longer than a use |
//! | [`Burst`](Finding::Burst) | callers wait though rate × hold is well below the size |
//! | [`Healthy`](Finding::Healthy) | none of these |
//!
//! **Invariant:** there is always at least one finding, `Healthy` stands alone, and a pool in which the database is saturated
//! or uses are long is never told to grow.
//!
//! Pure: figures in, findings out. Whoever has the figures calls [`Figures::explain`]; it is cheap enough for every scrape, and
//! not meant for every acquire.

mod words;

use std::time::Duration;

use crate::sizing::{Load, P99};

/// A connection in use for this many times the usual hold may be a leak …
pub const LEAK_FACTOR: u32 = 100;
/// … if that is at least this long.
pub const LEAK_MIN: Duration = Duration::from_secs(10);
/// Those in use have been held for long if their mean age is this many times the usual hold …
pub const LONG_FACTOR: u32 = 5;
/// … and at least this.
pub const LONG_MIN: Duration = Duration::from_millis(20);
/// Long use if no use has ended yet, so that none is usual.
pub const LONG_UNKNOWN: Duration = Duration::from_secs(1);
/// The database is slower if the hold is this many times its baseline …
pub const SLOWER_FACTOR: f64 = 1.5;
/// … and does not carry more if what is served is below this many times the baseline's.
pub const MORE_SERVED_FACTOR: f64 = 1.15;
/// From this share of the size on, the load itself explains the line.
pub const BUSY_SHARE: f64 = 0.8;
/// Opening is slow if a connect takes this many times the usual hold …
pub const SLOW_CONNECT_FACTOR: u32 = 10;
/// … and at least this.
pub const SLOW_CONNECT_MIN: Duration = Duration::from_millis(50);

/// What keeps a pool from using its maximum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grantor {
    /// A quota shared with other pools of the process.
    Quota,
    /// A budget shared with other processes.
    Budget,
}

/// Callers that got nothing within the last window, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RefusedCounts {
    /// Their time was over.
    pub timed_out: u64,
    /// No connection was open and connects had been failing for long.
    pub down: u64,
    /// The line was full.
    pub line_full: u64,
    /// Shed early, by admission control.
    pub shed: u64,
}

impl RefusedCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.timed_out.saturating_add(self.down).saturating_add(self.line_full).saturating_add(self.shed)
    }
}

/// A pool at one moment, and over the last window (some ten seconds). The default is an idle pool of no size.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Figures {
    /// Connections at most.
    pub max_size: u32,
    /// What a quota or budget grants, where that is less than `max_size`, and who grants it.
    pub granted: Option<(u32, Grantor)>,
    /// In use.
    pub busy: u32,
    /// Idle.
    pub idle: u32,
    /// Being opened.
    pub opening: u32,
    /// Those of `opening` that take much longer than usual.
    pub hung: u32,
    /// Callers in line.
    pub waiting: u32,
    /// Callers that the line takes at most; 0 if unknown.
    pub waiting_max: u32,
    /// How long the first in line has waited.
    pub oldest_wait: Duration,
    /// How long a connection was held on average, of the uses that ended in the window; `None` if none did.
    pub hold: Option<Duration>,
    /// The lowest such mean of the windows before: what the database does when it is not pressed.
    pub hold_baseline: Option<Duration>,
    /// How long those in use have been, on average.
    pub use_age: Duration,
    /// How long the one has been that has been longest.
    pub oldest_use: Duration,
    /// p99 of the waits that ended in the window, those included that ended in vain.
    pub wait_p99: Duration,
    /// Acquires asked for per second, in the window.
    pub arrival_rate: f64,
    /// Uses ended per second, in the window.
    pub served_rate: f64,
    /// The `served_rate` of the window that gave `hold_baseline`.
    pub served_baseline: Option<f64>,
    /// How long a connect takes; `None` before one has succeeded.
    pub connect_time: Option<Duration>,
    /// For how long connects have been failing.
    pub failing_for: Option<Duration>,
    /// The last failure, in words.
    pub last_error: Option<String>,
    /// Until the next attempt to open, while they fail.
    pub next_attempt: Option<Duration>,
    /// Callers refused in the window.
    pub refused: RefusedCounts,
    /// Connections in use for longer than the leak threshold of the pool's settings.
    pub leak_suspects: u32,
    /// Callers wait although connections may be idle.
    pub suspended: bool,
}

/// One thing that limits the pool, with its evidence. `Display` is a sentence or two, [`Finding::remedy`] what to do.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Finding {
    /// Nobody is given a connection until the pool is resumed.
    Suspended {
        /// Callers in line.
        waiting: u32,
    },
    /// Connects fail.
    ConnectsFail {
        /// For how long.
        since: Duration,
        /// Connections that are left, idle or in use.
        live: u32,
        /// Callers in line.
        waiting: u32,
        /// Callers refused in the window.
        refused: u64,
        /// The last failure.
        error: Option<String>,
        /// Until the next attempt.
        next_attempt: Option<Duration>,
    },
    /// Connects get no answer.
    ConnectsHang {
        /// Without an answer for much longer than usual.
        hung: u32,
        /// In flight.
        opening: u32,
        /// What is usual.
        connect_time: Option<Duration>,
        /// Callers in line.
        waiting: u32,
    },
    /// Connections that nobody seems to give back.
    LeakSuspected {
        /// How many, at least.
        suspects: u32,
        /// The longest use.
        oldest: Duration,
        /// The usual hold.
        hold: Option<Duration>,
        /// In use in all.
        busy: u32,
        /// The size.
        size: u32,
    },
    /// All are in use, for much longer than uses that ended.
    LongUse {
        /// In use.
        busy: u32,
        /// How long on average, suspected leaks left out.
        age: Duration,
        /// The longest.
        oldest: Duration,
        /// The usual hold.
        hold: Option<Duration>,
        /// Callers in line.
        waiting: u32,
    },
    /// The database takes longer and does not do more.
    Saturated {
        /// The hold now.
        hold: Duration,
        /// The hold when it was not pressed.
        baseline: Duration,
        /// Uses per second now.
        served: f64,
        /// Uses per second then.
        served_baseline: f64,
    },
    /// No place in the line is left.
    LineFull {
        /// Callers in line.
        waiting: u32,
        /// Callers that the line takes.
        waiting_max: u32,
        /// Callers that found it full in the window.
        refused: u64,
    },
    /// All that is granted is in use, below the maximum.
    Limited {
        /// What is granted.
        granted: u32,
        /// The maximum.
        max_size: u32,
        /// Who grants.
        grantor: Grantor,
        /// Busy on average, by rate × hold, if known.
        needs: Option<f64>,
        /// Callers in line.
        waiting: u32,
    },
    /// The load is more than the size carries, or carries without waiting.
    BeyondSize {
        /// Acquires per second.
        rate: f64,
        /// The mean hold.
        hold: Duration,
        /// rate × hold: connections busy on average, if all were served.
        needs: f64,
        /// The size.
        size: u32,
        /// Callers in line.
        waiting: u32,
        /// p99 of the waits.
        wait_p99: Duration,
        /// The size at which the p99 of the waits is at most the hold, if there is one.
        proposed: Option<u32>,
    },
    /// There is room, and opening takes long.
    ConnectsSlow {
        /// How long a connect takes.
        connect_time: Duration,
        /// How long a connection is held.
        hold: Option<Duration>,
        /// In flight.
        opening: u32,
        /// Callers in line.
        waiting: u32,
    },
    /// A line although the size is enough on average.
    Burst {
        /// Callers in line.
        waiting: u32,
        /// rate × hold, if known.
        needs: Option<f64>,
        /// The size.
        size: u32,
        /// When the line is served: waiting × hold / size.
        over_in: Option<Duration>,
        /// p99 of the waits.
        wait_p99: Duration,
        /// Callers refused in the window.
        refused: u64,
    },
    /// Nothing limits the pool.
    Healthy {
        /// In use.
        busy: u32,
        /// The size.
        size: u32,
        /// rate × hold, if known.
        needs: Option<f64>,
        /// p99 of the waits.
        wait_p99: Duration,
    },
}

/// What limits the pool, the heaviest first; never empty. `Display` is a line for each finding and one for its remedy.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    findings: Vec<Finding>,
}

impl Explanation {
    /// The findings, the heaviest first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether nothing limits the pool.
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|finding| matches!(finding, Finding::Healthy { .. }))
    }
}

impl Figures {
    /// What limits the pool now.
    pub fn explain(&self) -> Explanation {
        // In the order of their weight: what stops all callers, what holds connections, what the load does.
        let mut findings: Vec<Finding> = [
            self.suspended(),
            self.connects_fail(),
            self.connects_hang(),
            self.leak_suspected(),
            self.long_use(),
            self.saturated(),
            self.line_full(),
        ]
        .into_iter()
        .flatten()
        .collect();
        // A load that looks too large may only be the consequence of most of these; growing would be wrong advice. A leak
        // explains a line, but one connection that somebody keeps on purpose does not make a pool large enough.
        let explained = findings.iter().any(|f| !matches!(f, Finding::LineFull { .. } | Finding::LeakSuspected { .. }));
        if !explained && self.pressed() {
            let load = self.load();
            let too_small = matches!(load, Finding::BeyondSize { .. } | Finding::Limited { .. });
            if too_small || self.suspects() == 0 {
                findings.push(load);
            }
        }
        if findings.is_empty() {
            findings.push(self.healthy());
        }
        self.check_invariants(&findings);
        Explanation { findings }
    }

    /// What may be open now.
    fn size(&self) -> u32 {
        self.granted.map_or(self.max_size, |(granted, _)| granted.min(self.max_size))
    }

    fn all_busy(&self) -> bool {
        self.idle == 0 && self.busy > 0 && self.busy >= self.size()
    }

    /// Callers wait, waited for long, or went away without a connection.
    fn pressed(&self) -> bool {
        let late = self.hold.is_some_and(|hold| self.wait_p99 > hold);
        self.waiting > 0 || late || self.refused.total() > 0
    }

    /// Little: connections busy on average if all that arrive were served.
    fn needs(&self) -> Option<f64> {
        Some(self.arrival_rate * self.hold?.as_secs_f64())
    }

    fn suspended(&self) -> Option<Finding> {
        self.suspended.then_some(Finding::Suspended { waiting: self.waiting })
    }

    fn connects_fail(&self) -> Option<Finding> {
        let since = self.failing_for?;
        (self.idle == 0).then(|| Finding::ConnectsFail {
            since,
            live: self.busy,
            waiting: self.waiting,
            refused: self.refused.total(),
            error: self.last_error.clone(),
            next_attempt: self.next_attempt,
        })
    }

    fn connects_hang(&self) -> Option<Finding> {
        (self.hung > 0 && self.idle == 0).then_some(Finding::ConnectsHang {
            hung: self.hung,
            opening: self.opening,
            connect_time: self.connect_time,
            waiting: self.waiting,
        })
    }

    /// The hold of late, else the one of calmer times.
    fn usual_hold(&self) -> Option<Duration> {
        self.hold.or(self.hold_baseline)
    }

    /// Possible leaks: those that the pool's threshold found, else the oldest if it is far beyond what is usual.
    fn suspects(&self) -> u32 {
        let beyond = |hold: Duration| self.oldest_use >= LEAK_MIN.max(hold.saturating_mul(LEAK_FACTOR));
        self.leak_suspects.max(u32::from(self.busy > 0 && self.usual_hold().is_some_and(beyond)))
    }

    /// The mean age of those in use that are no suspects; `None` if all are.
    fn age_of_others(&self) -> Option<Duration> {
        let (suspects, all) = (self.suspects(), self.use_age.saturating_mul(self.busy));
        let others = self.busy.checked_sub(suspects).filter(|others| *others > 0)?;
        Some(all.saturating_sub(self.oldest_use.saturating_mul(suspects)) / others)
    }

    fn leak_suspected(&self) -> Option<Finding> {
        let suspects = self.suspects();
        (suspects > 0).then_some(Finding::LeakSuspected {
            suspects,
            oldest: self.oldest_use,
            hold: self.usual_hold(),
            busy: self.busy,
            size: self.size(),
        })
    }

    fn long_use(&self) -> Option<Finding> {
        let usual = self.usual_hold();
        let age = self.age_of_others()?;
        let long = usual.map_or(LONG_UNKNOWN, |hold| LONG_MIN.max(hold.saturating_mul(LONG_FACTOR)));
        (self.all_busy() && self.pressed() && age >= long).then_some(Finding::LongUse {
            busy: self.busy,
            age,
            oldest: self.oldest_use,
            hold: usual,
            waiting: self.waiting,
        })
    }

    fn saturated(&self) -> Option<Finding> {
        let (hold, served_baseline) = (self.hold?, self.served_baseline?);
        // Zero is no hold to compare with.
        let baseline = self.hold_baseline.filter(|baseline| !baseline.is_zero())?;
        let slower = hold.as_secs_f64() >= SLOWER_FACTOR * baseline.as_secs_f64();
        let no_more = self.served_rate <= MORE_SERVED_FACTOR * served_baseline;
        (self.all_busy() && self.pressed() && slower && no_more).then_some(Finding::Saturated {
            hold,
            baseline,
            served: self.served_rate,
            served_baseline,
        })
    }

    fn line_full(&self) -> Option<Finding> {
        let full = self.waiting_max > 0 && self.waiting >= self.waiting_max;
        (full || self.refused.line_full > 0).then_some(Finding::LineFull {
            waiting: self.waiting,
            waiting_max: self.waiting_max,
            refused: self.refused.line_full,
        })
    }

    /// What explains waiting when nothing is wrong with connections.
    fn load(&self) -> Finding {
        let (size, needs) = (self.size(), self.needs());
        if let Some((granted, grantor)) = self.granted.filter(|(granted, _)| *granted < self.max_size)
            && self.all_busy()
        {
            let (max_size, waiting) = (self.max_size, self.waiting);
            return Finding::Limited { granted, max_size, grantor, needs, waiting };
        }
        if let (Some(needs), Some(hold)) = (needs, self.hold)
            && needs >= BUSY_SHARE * f64::from(size)
        {
            let load = Load::new(self.arrival_rate, hold);
            let smallest = load.and_then(|load| load.smallest(P99, hold)).ok().map(|forecast| forecast.size());
            return Finding::BeyondSize {
                rate: self.arrival_rate,
                hold,
                needs,
                size,
                waiting: self.waiting,
                wait_p99: self.wait_p99,
                proposed: smallest.filter(|proposed| *proposed > size),
            };
        }
        if let Some(connect_time) = self.connect_time.filter(|_| self.opening > 0 && self.waiting > 0)
            && connect_time >= SLOW_CONNECT_MIN.max(self.hold.unwrap_or_default().saturating_mul(SLOW_CONNECT_FACTOR))
        {
            let (hold, opening, waiting) = (self.hold, self.opening, self.waiting);
            return Finding::ConnectsSlow { connect_time, hold, opening, waiting };
        }
        let over_in = self.hold.filter(|_| size > 0).map(|hold| hold.saturating_mul(self.waiting) / size);
        let (waiting, wait_p99, refused) = (self.waiting, self.wait_p99, self.refused.total());
        Finding::Burst { waiting, needs, size, over_in, wait_p99, refused }
    }

    fn healthy(&self) -> Finding {
        Finding::Healthy { busy: self.busy, size: self.size(), needs: self.needs(), wait_p99: self.wait_p99 }
    }

    fn check_invariants(&self, findings: &[Finding]) {
        debug_assert!(!findings.is_empty(), "{self:?}");
        let healthy = findings.iter().any(|finding| matches!(finding, Finding::Healthy { .. }));
        debug_assert!(!healthy || findings.len() == 1, "{findings:?}");
        let database = findings.iter().any(|f| matches!(f, Finding::Saturated { .. } | Finding::LongUse { .. }));
        let grow = findings.iter().any(|f| matches!(f, Finding::BeyondSize { .. } | Finding::Limited { .. }));
        debug_assert!(!(database && grow), "{findings:?}");
    }
}

#[cfg(test)]
mod tests;
