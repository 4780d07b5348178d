//! The interface between the algorithms and whoever picks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_utils::CachePadded;
use weir_core::{EndpointId, Instant, Weight};

/// The live load of one endpoint, shared by all workers and all snapshots that hold the endpoint.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: CachePadded<AtomicU32>,
}

impl Load {
    /// No load.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests (or TCP connections) given to the endpoint and not finished, queued ones included.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// One more in flight; returns the number before.
    pub fn begin(&self) -> u32 {
        self.in_flight.fetch_add(1, Ordering::Relaxed)
    }

    /// One fewer in flight.
    pub fn end(&self) {
        let before = self.in_flight.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "end() without begin()");
    }
}

/// One endpoint as the balancer sees it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Identity over snapshots.
    pub id: EndpointId,
    /// Stable name: what hash rings are keyed by.
    pub name: Arc<str>,
    /// Share. Never 0 here: such endpoints are filtered out above.
    pub weight: Weight,
    /// Its live load.
    pub load: Arc<Load>,
}

/// Endpoints that this request must not be given to again, and whether it was given to any before.
/// Holds the last eight; a retry chain is never longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Avoid {
    ids: [u32; 8],
    len: u8,
    is_retry: bool,
}

impl Avoid {
    /// Avoids nothing.
    pub const NONE: Self = Self { ids: [0; 8], len: 0, is_retry: false };

    /// Adds an endpoint. When eight are held already, the oldest is forgotten.
    pub fn add(&mut self, id: EndpointId) {
        if usize::from(self.len) == self.ids.len() {
            self.ids.rotate_left(1);
            self.len -= 1;
        }
        self.ids[usize::from(self.len)] = id.0;
        self.len += 1;
        self.is_retry = true;
    }

    /// Notes that the request was tried at an endpoint that it may be given to again.
    pub fn note_retry(&mut self) {
        self.is_retry = true;
    }

    /// Whether the request was tried before: it takes no turn of a rotation.
    pub const fn is_retry(&self) -> bool {
        self.is_retry
    }

    /// Whether `id` is to be avoided.
    pub fn contains(&self, id: EndpointId) -> bool {
        self.ids[..usize::from(self.len)].contains(&id.0)
    }

    /// Whether nothing is avoided (the common case, worth a fast path).
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// One question to the balancer.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The worker's clock.
    pub now: Instant,
    /// Which worker asks: selects per-worker rotation state. Any number is accepted.
    pub worker: usize,
    /// The pick key (a hash of header, cookie, …), for the hashing algorithms.
    pub key: Option<u64>,
    /// Fresh random bits for the randomised algorithms.
    pub seed: u64,
    /// Endpoints tried already.
    pub avoid: Avoid,
}

/// Chooses among the members it was built over.
///
/// All methods take `&self` and are called from all workers at once: state is atomic or per worker.
/// `pick` does not allocate.
pub trait Balancer: Send + Sync + std::fmt::Debug {
    /// The position of the chosen member in the list given at build time; `None` if there is no
    /// member, or all are avoided.
    fn pick(&self, ask: &Ask) -> Option<usize>;

    /// The number of members.
    fn len(&self) -> usize;

    /// Whether there is no member.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rotation state to hand to the next build over a changed member list, so that a change of
    /// health or a reload does not restart the rotation. `None` if the algorithm has none.
    fn rotation(&self) -> Option<Arc<dyn std::any::Any + Send + Sync>> {
        None
    }
}
