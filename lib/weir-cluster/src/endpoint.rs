//! The live record of one endpoint, shared by all workers and all snapshots.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use weir_balance::Load;
use weir_core::{Endpoint, EndpointId, Health, Instant};
use weir_health::ProbeFailure;
use weir_limit::{Permits, SharedCap};
use weir_pool_core::Quota;
use weir_resilience::outlier::ConsecutiveFailures;

/// Who waits for a place at an endpoint: enough for the worker to find its exchange again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// The worker.
    pub worker: usize,
    /// The client's connection on that worker: slot and generation.
    pub conn: (u32, u32),
    /// The exchange on that connection.
    pub serial: u32,
}

/// The connections of one endpoint over all workers, as the pools' quota.
#[derive(Debug)]
pub struct Connections(pub SharedCap);

impl Quota for Connections {
    fn try_take(&self) -> bool {
        self.0.try_take()
    }

    fn give_back(&self) {
        self.0.give_back();
    }

    fn granted(&self) -> u32 {
        self.0.granted()
    }
}

/// One endpoint at run time. `E` is what the owner attaches (statistics).
#[derive(Debug)]
pub struct EndpointState<E> {
    /// Identity within its cluster.
    pub id: EndpointId,
    /// As configured or discovered.
    pub endpoint: Endpoint,
    /// Requests in flight, queued ones included.
    pub load: Arc<Load>,
    /// Places for requests, and the line before them.
    pub permits: Permits<Waiter>,
    /// Places for connections.
    pub connections: Connections,
    /// Failures in a row, counted by the data path.
    pub failures: ConsecutiveFailures,
    /// What the owner attached.
    pub ext: E,
    health: AtomicU8,
    since: AtomicU64,
    ejections: AtomicU64,
    /// Per worker: exchanges with a place that wait for a connection.
    connection_waits: Box<[AtomicU32]>,
    last_failure: Mutex<Option<ProbeFailure>>,
}

impl<E> EndpointState<E> {
    pub(crate) fn new(
        id: EndpointId,
        endpoint: Endpoint,
        permits: Permits<Waiter>,
        connections: SharedCap,
        ext: E,
        workers: usize,
        now: Instant,
    ) -> Self {
        Self {
            id,
            endpoint,
            load: Arc::new(Load::new()),
            permits,
            connections: Connections(connections),
            failures: ConsecutiveFailures::new(),
            ext,
            health: AtomicU8::new(Health::Unknown as u8),
            since: AtomicU64::new(now.as_nanos()),
            ejections: AtomicU64::new(0),
            connection_waits: (0..workers).map(|_| AtomicU32::new(0)).collect(),
            last_failure: Mutex::new(None),
        }
    }

    /// What is known of its fitness, and since when. For display and housekeeping; who gets traffic is
    /// decided by the snapshot.
    pub fn health(&self) -> (Health, Instant) {
        let health = match self.health.load(Ordering::Relaxed) {
            h if h == Health::Up as u8 => Health::Up,
            h if h == Health::Down as u8 => Health::Down,
            h if h == Health::Ejected as u8 => Health::Ejected,
            h if h == Health::Draining as u8 => Health::Draining,
            _ => Health::Unknown,
        };
        (health, Instant::from_nanos(self.since.load(Ordering::Relaxed)))
    }

    /// Whether its pooled connections are to be closed.
    pub fn is_down(&self) -> bool {
        matches!(self.health().0, Health::Down | Health::Draining)
    }

    /// An exchange of `worker` begins to wait for a connection.
    pub fn begin_connection_wait(&self, worker: usize) {
        if let Some(count) = self.connection_waits.get(worker) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An exchange of `worker` waits no more.
    pub fn end_connection_wait(&self, worker: usize) {
        if let Some(count) = self.connection_waits.get(worker) {
            let before = count.fetch_sub(1, Ordering::Relaxed);
            debug_assert!(before > 0, "an end without a begin");
        }
    }

    /// Whether an exchange of `worker` waits for a connection.
    pub fn waits_for_connection(&self, worker: usize) -> bool {
        self.connection_waits.get(worker).is_some_and(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// How often it was ejected.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Why its last probe failed; `None` if that succeeded. For display: takes a (cold) lock.
    pub fn last_failure(&self) -> Option<ProbeFailure> {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count_ejection(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_last_failure(&self, failure: Option<ProbeFailure>) {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    pub(crate) fn set_health(&self, health: Health, now: Instant) {
        self.health.store(health as u8, Ordering::Relaxed);
        self.since.store(now.as_nanos(), Ordering::Relaxed);
    }
}
