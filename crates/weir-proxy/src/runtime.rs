//! What all workers share: the configuration as compiled for the data path, the published snapshot, and
//! the ways to reach the workers and the keeper.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use weir_cluster::ClusterSnapshot;
use weir_config::plan;
use weir_core::ClusterId;
use weir_limit::SharedCap;
use weir_net::Sender;
use weir_resilience::RetryBudget;
use weir_route::Router;
use weir_telemetry::{EndpointStats, WorkerStats};

use crate::{keeper, worker};

/// The listeners and clusters, compiled. Changes only with the configuration.
#[derive(Debug)]
pub struct Config {
    /// In the order of the plan; a [`weir_net::ListenerId`] is the position in this list.
    pub listeners: Vec<Listener>,
    /// In the order of the plan; a [`ClusterId`] is the position in this list.
    pub clusters: Vec<ClusterConfig>,
}

/// One cluster's settings and its retry budget, which is shared by all workers.
#[derive(Debug)]
pub struct ClusterConfig {
    /// As planned.
    pub plan: plan::Cluster,
    /// Retries of all workers draw on it.
    pub budget: RetryBudget,
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    /// Name in logs and metrics.
    pub name: Arc<str>,
    /// What is spoken.
    pub kind: ListenerKind,
    /// Client connections over all workers.
    pub connections: SharedCap,
}

/// What a listener speaks.
#[derive(Debug)]
pub enum ListenerKind {
    /// HTTP/1.1.
    Http(Box<HttpListener>),
    /// Bytes, to this cluster.
    Tcp(ClusterId),
}

/// An HTTP listener.
#[derive(Debug)]
pub struct HttpListener {
    /// As planned.
    pub plan: plan::Http,
    /// Its routes.
    pub router: Router,
}

impl Config {
    /// Compiles a plan. `default_connections` bounds each listener that has no maximum of its own.
    pub fn compile(plan: &plan::Plan, default_connections: u32, workers: usize) -> Self {
        let listeners = plan
            .listeners
            .iter()
            .map(|listener| {
                let (kind, max) = match &listener.protocol {
                    plan::Protocol::Http(http) => {
                        let router = Router::new(http.routes.clone());
                        let max = http.max_connections;
                        (ListenerKind::Http(Box::new(HttpListener { plan: (**http).clone(), router })), max)
                    }
                    plan::Protocol::Tcp(tcp) => (ListenerKind::Tcp(tcp.cluster), tcp.max_connections),
                };
                let connections = SharedCap::new(max.unwrap_or(default_connections));
                Listener { name: Arc::clone(&listener.name), kind, connections }
            })
            .collect();
        let clusters = plan
            .clusters
            .iter()
            .map(|cluster| ClusterConfig { plan: cluster.clone(), budget: RetryBudget::new(&cluster.retry, workers) })
            .collect();
        Self { listeners, clusters }
    }
}

/// What the workers route by at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub config: Arc<Config>,
    /// The clusters' endpoints and balancers.
    pub clusters: Vec<Arc<ClusterSnapshot<Arc<EndpointStats>>>>,
}

/// See the module.
#[derive(Debug)]
pub struct Shared {
    snapshot: ArcSwap<Snapshot>,
    generation: AtomicU64,
    draining: AtomicBool,
    workers: OnceLock<Vec<Sender<worker::Message>>>,
    keeper: OnceLock<Sender<keeper::Message>>,
    /// One block of counters per worker.
    pub stats: Vec<Arc<WorkerStats>>,
}

impl Shared {
    /// The generation before the keeper's first snapshot.
    pub(crate) const UNPUBLISHED: u64 = 1;

    /// For `workers` workers, starting from `snapshot`.
    pub fn new(snapshot: Snapshot, workers: usize) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            generation: AtomicU64::new(Self::UNPUBLISHED),
            draining: AtomicBool::new(false),
            workers: OnceLock::new(),
            keeper: OnceLock::new(),
            stats: (0..workers).map(|_| WorkerStats::new()).collect(),
        }
    }

    /// Tells everybody how to reach the others. Once, before the loops run; later calls do nothing.
    pub fn connect(&self, workers: Vec<Sender<worker::Message>>, keeper: Sender<keeper::Message>) {
        let _ = self.workers.set(workers);
        let _ = self.keeper.set(keeper);
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.stats.len()
    }

    /// What is published now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Grows with every [`Shared::publish`].
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Publishes a snapshot and wakes every worker.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.generation.fetch_add(1, Ordering::Release);
        for sender in self.workers.get().into_iter().flatten() {
            // A full mailbox means that the worker is awake and will look at the generation anyway.
            let _ = sender.post(worker::Message::Refresh);
        }
    }

    /// Whether a graceful stop has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Begins a graceful stop: workers close idle clients, finish what is in flight and stop by themselves.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        for sender in self.workers.get().into_iter().flatten() {
            let _ = sender.post(worker::Message::Drain);
        }
    }

    /// Ends the workers' and the keeper's loops, whatever is in flight.
    pub fn stop(&self) {
        for sender in self.workers.get().into_iter().flatten() {
            let _ = sender.post(worker::Message::Stop);
        }
        self.tell_keeper(keeper::Message::Stop);
    }

    /// Posts to worker `index`; `false` if that is not possible.
    pub(crate) fn tell_worker(&self, index: usize, message: worker::Message) -> bool {
        self.workers.get().and_then(|all| all.get(index)).is_some_and(|sender| sender.post(message).is_ok())
    }

    /// Posts to the keeper. Evidence that does not fit into a full mailbox is dropped: more follows.
    pub fn tell_keeper(&self, message: keeper::Message) {
        if let Some(keeper) = self.keeper.get() {
            let _ = keeper.post(message);
        }
    }
}
