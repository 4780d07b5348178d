//! A size that follows the load and the database: the shell of [`weir_pool_core::Sizer`].
//!
//! A task looks at the pool's counters four times a second and asks the machine; with [`Adaptive::set`] it then resizes the pool. It
//! takes nothing from those who acquire and release: what it reads is counted anyway. It ends with the pool.

use std::ops::RangeInclusive;
use std::sync::PoisonError;

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use weir_core::Instant;
use weir_pool_core::{Interval, Sizer, SizerParams};

use crate::manager::Manager;
use crate::settings::{SIZE_MAX, SettingsError};
use crate::shared::Shared;
use crate::sync::{Counted, spawn};

/// How often the machine is asked.
const EVERY: Duration = Duration::from_millis(250);

/// A size within bounds that the pool finds itself, from arrival rate × usage time and from the throughput of the sizes that it has
/// tried: the smallest that gets nearly all done. It does not grow into a database that is saturated already. How that works, and what it
/// cannot know, is in the documentation of [`Sizer`].
///
/// `max_size` is where it begins and must be within the bounds.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Adaptive {
    bounds: RangeInclusive<u32>,
    sets: bool,
}

impl Adaptive {
    /// Only says what size it would try, with the reason ([`Pool::proposal`](crate::Pool::proposal)). As long as the pool keeps the same
    /// size under load, a proposal is the next size to try, not the end of a search.
    pub fn propose(bounds: RangeInclusive<u32>) -> Self {
        Self { bounds, sets: false }
    }

    /// Sets the size. A neighbouring size is tried for some seconds now and then.
    pub fn set(bounds: RangeInclusive<u32>) -> Self {
        Self { bounds, sets: true }
    }

    /// The bounds.
    pub fn bounds(&self) -> &RangeInclusive<u32> {
        &self.bounds
    }

    /// Whether the size is set, not only proposed.
    pub fn sets(&self) -> bool {
        self.sets
    }

    pub(crate) fn check(&self, max_size: u32) -> Result<(), SettingsError> {
        let (min, max) = (*self.bounds.start(), *self.bounds.end());
        let problem = if min == 0 || max > SIZE_MAX {
            format!("{min} to {max} is not within 1 and {SIZE_MAX}")
        } else if min > max {
            format!("{min} to {max} is empty")
        } else if self.sets && !self.bounds.contains(&max_size) {
            format!("max_size ({max_size}), where it begins, is not within {min} and {max}")
        } else {
            return Ok(());
        };
        Err(SettingsError::new("adaptive", problem))
    }
}

/// Sums at a moment.
#[derive(Clone, Copy)]
struct Sums {
    at: Instant,
    arrivals: u64,
    uses: u64,
    held: Duration,
    waited: Duration,
    timeouts: u64,
    connect_failures: u64,
    busy_nanos: u64,
    line: u32,
    size: u32,
    max_size: u32,
}

/// Runs until the pool is closed; the last handle that goes closes it.
async fn adapt<M: Manager>(shared: Counted<Shared<M>>, adaptive: Adaptive) {
    let Some(mut before) = shared.sums() else { return };
    let params = SizerParams::new(*adaptive.bounds.start(), *adaptive.bounds.end());
    let mut sizer = Sizer::new(params, before.size);
    let mut ticks = interval(EVERY);
    // A machine that paused has no more to tell afterwards.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(now) = shared.sums() else { return };
        if now.at <= before.at {
            continue;
        }
        // An interval in which somebody resized the pool is neither of one size nor of the other.
        let whole = now.size == before.size;
        let proposal = if whole { sizer.handle_interval(&now.since(&before)) } else { sizer.proposal() };
        before = now;
        if adaptive.sets && proposal.size != now.max_size {
            shared.set_max(proposal.size);
            before = shared.sums().unwrap_or(before);
        }
        *shared.proposal.lock().unwrap_or_else(PoisonError::into_inner) = Some(proposal);
    }
}

impl Sums {
    fn since(&self, before: &Self) -> Interval {
        let lasted = self.at.since(before.at);
        let nanos = self.busy_nanos.saturating_sub(before.busy_nanos);
        Interval {
            lasted,
            arrivals: self.arrivals.wrapping_sub(before.arrivals),
            uses: self.uses.wrapping_sub(before.uses),
            held: self.held.saturating_sub(before.held),
            waited: self.waited.saturating_sub(before.waited),
            timeouts: self.timeouts.wrapping_sub(before.timeouts),
            connect_failures: self.connect_failures.wrapping_sub(before.connect_failures),
            busy: nanos as f64 / lasted.as_nanos().max(1) as f64,
            line: self.line,
            size: self.size,
        }
    }
}

impl<M: Manager> Shared<M> {
    /// `None` when the pool is closed.
    fn sums(&self) -> Option<Sums> {
        let now = self.clock.now();
        let state = self.lock();
        if state.broker.is_shut() {
            return None;
        }
        let stats = state.broker.stats(now);
        let waits = state.broker.waits();
        let acquired = waits.count() + stats.unwaited;
        let late = u32::try_from(stats.timed_out).unwrap_or(u32::MAX);
        Some(Sums {
            at: now,
            arrivals: acquired + stats.timed_out + stats.refused + u64::from(stats.waiting),
            uses: stats.uses,
            held: state.broker.holds().sum(),
            waited: waits.sum().saturating_add(state.acquire_timeout.saturating_mul(late)),
            timeouts: stats.timed_out,
            connect_failures: stats.pool.connect_failed,
            busy_nanos: stats.busy_nanos,
            line: stats.waiting,
            // With a budget, its share if that is less.
            size: state.broker.quota().max(),
            max_size: state.settings.max_size,
        })
    }
}

/// Starts the task, if there is to be one.
pub(crate) fn start<M: Manager>(shared: &Counted<Shared<M>>) {
    let adaptive = shared.lock().settings.adaptive.clone();
    if let Some(adaptive) = adaptive {
        spawn(adapt(Counted::clone(shared), adaptive));
    }
}
