//! What the data path picks from: an immutable list of members and their balancer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir_balance::{Ask, Balancer};
use weir_core::{Instant, Revision};

use crate::EndpointState;

/// One cluster at one moment.
#[derive(Debug)]
pub struct ClusterSnapshot<E> {
    /// Grows with each change.
    pub revision: Revision,
    /// Every endpoint, usable or not.
    pub endpoints: Vec<Arc<EndpointState<E>>>,
    /// Those that get traffic, in the order of the balancer's positions.
    pub members: Vec<Arc<EndpointState<E>>>,
    /// How many endpoints would get traffic if health were not ignored.
    pub usable: u32,
    /// Chooses among the members.
    pub balancer: Arc<dyn Balancer>,
    /// Too few endpoints are usable: health is ignored and all of them get traffic.
    pub panic: bool,
    /// While there is no member: when there may be one again. It moves with each probe, without a new snapshot.
    pub(crate) comeback: Arc<Comeback>,
}

/// The moment at which an endpoint may be back, in nanoseconds; 0 = nobody knows.
#[derive(Debug, Default)]
pub(crate) struct Comeback(AtomicU64);

impl Comeback {
    pub(crate) fn set(&self, at: Option<Instant>) {
        self.0.store(at.map_or(0, Instant::as_nanos), Ordering::Relaxed);
    }
}

impl<E> ClusterSnapshot<E> {
    /// The position (in [`ClusterSnapshot::members`]) of the endpoint for a request; `None` if there is none, or
    /// all are avoided.
    pub fn pick(&self, ask: &Ask) -> Option<usize> {
        self.balancer.pick(ask)
    }

    /// While there is nobody to pick: after how long there may be somebody again, at the earliest. `None` where that
    /// cannot be told.
    pub fn comeback_in(&self, now: Instant) -> Option<Duration> {
        let at = self.comeback.0.load(Ordering::Relaxed);
        (self.members.is_empty() && at > 0).then(|| Instant::from_nanos(at).since(now))
    }
}
