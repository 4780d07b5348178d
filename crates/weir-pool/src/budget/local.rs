//! The pools of one process. Whoever's turn it is looks at all of them and parts the connections anew; nothing has to be
//! leased, because nothing is hidden.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant as TokioInstant, sleep};
use weir_core::Instant;
use weir_pool_core::budget::{CONNECTIONS_MAX, Demand, Parted, Want, part};

use super::{Governed, LOOK, LOOK_SOON};
use crate::settings::SettingsError;

pub(super) struct Local {
    total: u32,
    start: TokioInstant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    members: Vec<LocalMember>,
    looked: Instant,
    /// Connections are on their way from one pool to another.
    moving: bool,
}

struct LocalMember {
    pool: Weak<dyn Governed>,
    demand: Demand,
    share: u32,
}

impl Local {
    pub(super) fn new(total: u32) -> Result<Self, SettingsError> {
        if !(1..=CONNECTIONS_MAX).contains(&total) {
            return Err(SettingsError::new("budget", format!("{total} is not within 1 and {CONNECTIONS_MAX}")));
        }
        Ok(Self { total, start: TokioInstant::now(), state: Mutex::new(State::default()) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    /// Takes a pool in, and parts anew.
    pub(super) fn join(&self, pool: Weak<dyn Governed>) {
        let now = self.now();
        let mut state = self.lock();
        state.members.push(LocalMember { pool, demand: Demand::new(), share: 0 });
        state.part(self.total, now);
    }

    /// Looks at all pools if it is time, and parts anew. Returns when to look again.
    fn look(&self) -> Duration {
        let now = self.now();
        let mut state = self.lock();
        // Each pool has a task that comes here.
        if now.since(state.looked) >= state.pause() / 2 {
            state.part(self.total, now);
        }
        state.pause()
    }
}

impl State {
    fn pause(&self) -> Duration {
        if self.moving { LOOK_SOON } else { LOOK }
    }

    /// Looks at the pools and parts the connections among them.
    fn part(&mut self, total: u32, now: Instant) {
        self.looked = now;
        let mut alive: Vec<Arc<dyn Governed>> = Vec::with_capacity(self.members.len());
        let mut parted = Vec::with_capacity(self.members.len());
        // A pool that is gone has no connections: they keep it alive.
        self.members.retain_mut(|member| {
            let Some(pool) = member.pool.upgrade() else { return false };
            let load = pool.load();
            member.demand.record(load.busy_nanos, load.waiting, load.hold, now);
            let want = Want {
                floor: load.part.floor,
                weight: load.part.weight,
                demand: member.demand.get().max(load.least()),
                max: load.max,
                share: member.share,
            };
            if !load.over {
                parted.push(Parted { want, open: load.open });
                alive.push(pool);
            }
            !load.over
        });
        let settled = part(total, &mut parted, |index, share| alive.get(index).map_or(0, |pool| pool.limit(share)));
        self.moving = !settled;
        for (member, parted) in self.members.iter_mut().zip(&parted) {
            member.share = parted.want.share;
        }
    }
}

/// Looks after the budget as long as the pool lives.
pub(super) async fn keep(local: Arc<Local>, pool: Weak<dyn Governed>) {
    let mut pause = LOOK;
    loop {
        sleep(pause).await;
        pause = local.look();
        if pool.upgrade().is_none_or(|pool| pool.load().over) {
            return;
        }
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<u32> = self.lock().members.iter().map(|member| member.share).collect();
        f.debug_struct("LocalBudget").field("connections", &self.total).field("shares", &shares).finish_non_exhaustive()
    }
}
