//! What has happened in a pool since its start.

use std::time::Duration;

use weir_pool_core::{CloseReason, Histogram};

use crate::manager::Manager;
use crate::shared::Shared;

/// What has happened since the start: sums that only grow, so that the difference of two is what happened between them. The state of
/// a moment is in [`Snapshot`](crate::Snapshot).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// How old the pool is.
    pub at: Duration,
    /// Connections lent. One that turned out to be dead before its caller got it counts, and so does the one that took its place.
    pub acquired: u64,
    /// Those of `acquired` for which the caller did not have to wait.
    pub unwaited: u64,
    /// Callers whose time ended before they got a connection.
    pub timed_out: u64,
    /// Callers refused at once or in line: the pool was closed, the server down, the line full, or admission refused them.
    pub refused: u64,
    /// Those of `refused` who were refused early by admission ([`Builder::admission`](crate::Builder::admission)).
    pub shed: u64,
    /// Uses that have ended.
    pub uses: u64,
    /// The mean number of connections in use is the growth of this over the growth of `at`.
    pub busy: Duration,
    /// How long callers waited until a connection was kept for them; who did not have to wait counts as zero. Those who got none are
    /// in `timed_out` and `refused` only.
    pub waits: Histogram,
    /// How long connections were held.
    pub holds: Histogram,
    /// How long connects took that succeeded.
    pub connects: Histogram,
    /// Connects that failed or were given up.
    pub connects_failed: u64,
    /// Uses reported as possible leaks.
    pub leaks: u64,
    closed: [u64; CloseReason::ALL.len()],
}

impl Stats {
    /// Connections closed (or, for [`CloseReason::Moved`], detached) for this reason.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed.get(reason as usize).copied().unwrap_or(0)
    }

    /// Each reason that a pool has, and how many connections were closed for it.
    pub fn closed_by_reason(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        CloseReason::ALL.into_iter().map(|reason| (reason, self.closed(reason)))
    }
}

impl<M: Manager> Shared<M> {
    pub(crate) fn stats(&self) -> Stats {
        let now = self.clock.now();
        let mut state = self.lock();
        let stats = state.broker.stats(now);
        state.told_busy = state.told_busy.max(stats.busy_nanos);
        let busy = Duration::from_nanos(state.told_busy);
        let broker = &state.broker;
        let (mut waits, holds, connects) = (broker.waits().clone(), broker.holds().clone(), broker.connects().clone());
        let closed = CloseReason::ALL.map(|reason| broker.closed_for(reason));
        let leaks = state.leaks;
        drop(state);
        let acquired = waits.count() + stats.unwaited;
        waits.record_zeros(stats.unwaited);
        Stats {
            at: Duration::from_nanos(now.as_nanos()),
            acquired,
            unwaited: stats.unwaited,
            timed_out: stats.timed_out,
            refused: stats.refused,
            shed: stats.refused_shed,
            uses: stats.uses,
            busy,
            waits,
            holds,
            connects,
            connects_failed: stats.pool.connect_failed,
            leaks,
            closed,
        }
    }
}
