//! The pools of one process. Whoever's turn it is looks at all of them and parts the connections anew; nothing has to be
//! leased, because nothing is hidden.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant as TokioInstant, sleep};
use weir_core::Instant;
use weir_pool_core::budget::{CONNECTIONS_MAX, Demand, Want, allocate, damp};

use super::{Governed, LOOK, Load, Part};
use crate::settings::SettingsError;

/// Between two partings.
const PART_EVERY: Duration = Duration::from_millis(250);

pub(super) struct Local {
    total: u32,
    start: TokioInstant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    members: Vec<LocalMember>,
    looked: Instant,
    parted: Instant,
}

struct LocalMember {
    pool: Weak<dyn Governed>,
    part: Part,
    demand: Demand,
    share: u32,
    /// Since when it has this share.
    since: Instant,
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
    pub(super) fn join(&self, pool: Weak<dyn Governed>, part: Part) {
        let now = self.now();
        let mut state = self.lock();
        state.members.push(LocalMember { pool, part, demand: Demand::new(), share: 0, since: now });
        state.part(self.total, now);
    }

    /// Looks at all pools if it is time, and parts anew if it is time for that.
    fn look(&self) {
        let now = self.now();
        let mut state = self.lock();
        // Each pool has a task that comes here.
        if now.since(state.looked) < LOOK / 2 {
            return;
        }
        state.looked = now;
        let mut lacking = false;
        let before = state.members.len();
        state.members.retain_mut(|member| {
            let Some(pool) = member.pool.upgrade() else { return false };
            let load = pool.load();
            member.demand.record(load.busy, load.waiting, load.hold, now);
            lacking |= load.waiting > 0 && load.busy >= member.share && member.share < load.max;
            !load.over
        });
        if lacking || state.members.len() < before || now.since(state.parted) >= PART_EVERY {
            state.part(self.total, now);
        }
    }
}

impl State {
    /// Parts the connections among the pools: first takes what is to be taken, then gives what is free after that.
    fn part(&mut self, total: u32, now: Instant) {
        self.parted = now;
        // A pool that is gone has no connections: they keep it alive.
        let mut alive: Vec<(&mut LocalMember, Arc<dyn Governed>, Load)> = self
            .members
            .iter_mut()
            .filter_map(|member| member.pool.upgrade().map(|pool| (member, pool)))
            .map(|(member, pool)| {
                let load = pool.load();
                (member, pool, load)
            })
            .collect();
        let wants: Vec<Want> = alive
            .iter()
            .map(|(LocalMember { part, demand, .. }, _, load)| Want {
                floor: part.floor,
                weight: part.weight,
                demand: demand.get().max(load.least()),
                max: load.max,
            })
            .collect();
        let lacking = alive.iter().zip(&wants).any(|((member, ..), want)| want.lacks(member.share));
        let targets: Vec<u32> = allocate(total, &wants)
            .into_iter()
            .zip(&alive)
            .map(|(target, (member, ..))| damp(member.share, target, lacking, now.since(member.since)))
            .collect();
        let mut held = 0_u32;
        for ((member, pool, load), target) in alive.iter_mut().zip(&targets) {
            if *target < member.share {
                member.share = *target;
                member.since = now;
                load.open = pool.limit(*target);
            }
            held = held.saturating_add(member.share.max(load.open));
        }
        let mut free = total.saturating_sub(held);
        for ((member, pool, load), target) in alive.iter_mut().zip(&targets) {
            let mine = member.share.max(load.open);
            let share = (*target).min(mine.saturating_add(free));
            if share > member.share {
                free -= share.saturating_sub(mine);
                member.share = share;
                member.since = now;
                pool.limit(share);
            }
        }
    }
}

/// Looks after the budget as long as the pool lives.
pub(super) async fn keep(local: Arc<Local>, pool: Weak<dyn Governed>) {
    loop {
        sleep(LOOK).await;
        local.look();
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
