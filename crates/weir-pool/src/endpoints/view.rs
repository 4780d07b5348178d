//! What callers pick from: an immutable list of members with their balancer.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use weir_balance::{Ask, Avoid, Balancer, Load};
use weir_core::{Endpoint, EndpointId, Instant, hash};

use crate::manager::Manager;
use crate::pool::Pool;
use crate::watch::Watch;

/// An endpoint with its pool. Made anew when the endpoint's description changes; pool, load and watch stay.
///
/// In this order in memory: the count of who holds it is just before `progress`, so that a use which ends well writes to no
/// further cache line.
#[repr(C)]
pub(super) struct Site<M: Manager> {
    /// Changes when a use ends well.
    progress: AtomicU32,
    pub(super) id: EndpointId,
    pub(super) endpoint: Endpoint,
    pub(super) pool: Pool<M>,
    pub(super) load: Arc<Load>,
    pub(super) watch: Arc<Watch>,
}

impl<M: Manager> Site<M> {
    pub(super) fn new(id: EndpointId, endpoint: Endpoint, pool: Pool<M>, load: Arc<Load>, watch: Arc<Watch>) -> Self {
        Self { progress: AtomicU32::new(0), id, endpoint, pool, load, watch }
    }

    /// The same with another description.
    pub(super) fn renamed(&self, endpoint: Endpoint) -> Self {
        Self::new(self.id, endpoint, self.pool.clone(), Arc::clone(&self.load), Arc::clone(&self.watch))
    }

    /// A number that changes when a use ends well.
    #[inline]
    pub(super) fn progress(&self) -> u32 {
        self.progress.load(Ordering::Relaxed)
    }

    /// A use has ended well.
    #[inline]
    pub(super) fn succeeded(&self) {
        // Of two at once one may be lost: the number has changed all the same.
        self.progress.store(self.progress().wrapping_add(1), Ordering::Relaxed);
        self.watch.succeeded();
    }
}

/// A caller that uses or awaits a connection of an endpoint.
pub(super) struct InFlight<M: Manager>(Arc<Site<M>>);

impl<M: Manager> InFlight<M> {
    #[inline]
    pub(super) fn begin(site: Arc<Site<M>>) -> Self {
        site.load.begin();
        Self(site)
    }
}

impl<M: Manager> Deref for InFlight<M> {
    type Target = Site<M>;

    fn deref(&self) -> &Site<M> {
        &self.0
    }
}

impl<M: Manager> Drop for InFlight<M> {
    #[inline]
    fn drop(&mut self) {
        self.0.load.end();
    }
}

pub(super) struct View<M: Manager> {
    pub(super) members: Vec<Arc<Site<M>>>,
    pub(super) balancer: Arc<dyn Balancer>,
    /// Nobody need wait.
    pub(super) down: bool,
    /// Ejections are ignored.
    pub(super) panic: bool,
    pub(super) closed: bool,
}

/// Where a caller goes.
pub(super) enum Pick<M: Manager> {
    Site(Arc<Site<M>>),
    /// Nowhere now.
    None,
    /// Nowhere now, and there is no hope of better soon.
    Down,
    Closed,
}

impl<M: Manager> View<M> {
    pub(super) fn pick(
        &self,
        key: Option<u64>,
        only: Option<&(dyn Fn(&Endpoint) -> bool + Sync)>,
        avoid: Avoid,
        now: Instant,
        seed: u64,
    ) -> Pick<M> {
        if self.closed {
            return Pick::Closed;
        }
        let at = match only {
            None => {
                // Without a key the keyed algorithms spread.
                let key = Some(key.unwrap_or_else(|| hash::splitmix64(seed)));
                self.balancer.pick(&Ask { now, worker: 0, key, seed, avoid })
            }
            Some(only) => self.lightest(only, &avoid, seed),
        };
        match at.and_then(|at| self.members.get(at)) {
            Some(site) => Pick::Site(Arc::clone(site)),
            None if self.down => Pick::Down,
            None => Pick::None,
        }
    }

    /// The least `(load + 1) / weight` among those for which `only` holds; ties go to the first from a place drawn by `seed`.
    fn lightest(&self, only: &dyn Fn(&Endpoint) -> bool, avoid: &Avoid, seed: u64) -> Option<usize> {
        let count = self.members.len();
        let start = hash::reduce(hash::splitmix64(seed), count as u64) as usize;
        let mut best: Option<(usize, u64, u64)> = None;
        for at in (start..count).chain(0..start) {
            let site = &self.members[at];
            if avoid.contains(site.id) || !only(&site.endpoint) {
                continue;
            }
            let (load, weight) = (u64::from(site.load.in_flight()) + 1, u64::from(site.endpoint.weight.get()));
            if best.is_none_or(|(_, best_load, best_weight)| load * best_weight < best_load * weight) {
                best = Some((at, load, weight));
            }
        }
        best.map(|(at, ..)| at)
    }
}
