//! A worker's own view of the published snapshot: endpoints by small local numbers.
//!
//! The published [`Snapshot`] is shared by all workers; exchanges hold the worker's [`View`] of it by
//! `Rc`, so no counter that another worker touches moves per request.

use std::collections::VecDeque;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_cluster::EndpointState;
use weir_core::{ClusterId, EndpointId};
use weir_net::{ConnId, ConnectOptions};
use weir_pool_core::Pool;
use weir_telemetry::EndpointStats;

use crate::exchange::ExchangeId;
use crate::runtime::Snapshot;
use crate::slab::Slab;

/// Position of an endpoint in its worker's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct LocalEndpoint(pub(crate) u32);

/// See the module.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) generation: u64,
    /// Per cluster: the local endpoint of each member of the cluster's balancer.
    members: Vec<Vec<LocalEndpoint>>,
}

impl View {
    /// The local endpoint at `position` of the balancer of `cluster`.
    pub(crate) fn member(&self, cluster: u32, position: usize) -> Option<LocalEndpoint> {
        self.members.get(cluster as usize)?.get(position).copied()
    }
}

/// An endpoint's record, shared by all workers and the keeper.
pub type EndpointRecord = Arc<EndpointState<Arc<EndpointStats>>>;

/// One endpoint on this worker: the shared record and this worker's connections to it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) cluster: ClusterId,
    pub(crate) state: EndpointRecord,
    pub(crate) pool: Pool<ConnId>,
    pub(crate) connect: ConnectOptions,
    /// Exchanges with a place that wait for a connection of this worker.
    pub(crate) waiting: VecDeque<(ExchangeId, ConnId)>,
    /// Workers that asked for a connection when none was idle.
    pub(crate) owed: VecDeque<usize>,
    /// Exchanges, sessions and connections that refer to this entry.
    pub(crate) refs: u32,
    /// Still in the published snapshot.
    pub(crate) listed: bool,
}

/// The worker's table of endpoints.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// The worker whose table this is, and how many there are: some settings are divided among them.
    worker: (usize, usize),
    slab: Slab<Endpoint>,
    by_id: BTreeMap<(ClusterId, EndpointId), LocalEndpoint>,
}

impl Endpoints {
    /// Of worker number `worker` of `workers`.
    pub(crate) const fn new(worker: usize, workers: usize) -> Self {
        Self { worker: (worker, workers), slab: Slab::new(), by_id: BTreeMap::new() }
    }

    /// Builds the view of a snapshot: new endpoints are entered, missing ones are marked and returned, so that the
    /// caller can empty their pools.
    pub(crate) fn adopt(&mut self, snapshot: Arc<Snapshot>, generation: u64) -> (View, Vec<LocalEndpoint>) {
        let mut seen = BTreeSet::new();
        let mut members = Vec::with_capacity(snapshot.clusters.len());
        for (index, cluster) in snapshot.clusters.iter().enumerate() {
            let id = ClusterId(index as u32);
            for state in &cluster.endpoints {
                seen.insert(self.enter(id, state, &snapshot));
            }
            let of = |state: &EndpointRecord| self.by_id.get(&(id, state.id)).copied();
            members.push(cluster.members.iter().filter_map(of).collect());
        }
        let mut gone = Vec::new();
        for (index, endpoint) in self.slab.iter_mut() {
            let local = LocalEndpoint(index);
            if endpoint.listed && !seen.contains(&local) {
                // It can still be found, for messages of others about what goes on at it.
                endpoint.listed = false;
                gone.push(local);
            }
        }
        (View { snapshot, generation, members }, gone)
    }

    fn enter(&mut self, cluster: ClusterId, state: &EndpointRecord, snapshot: &Snapshot) -> LocalEndpoint {
        if let Some(&local) = self.by_id.get(&(cluster, state.id)) {
            return local;
        }
        let config = &snapshot.config.clusters[cluster.0 as usize].plan;
        let (worker, workers) = self.worker;
        let min_idle = weir_pool_core::share(config.pool.min_idle, workers as u32, worker as u32);
        let local = LocalEndpoint(self.slab.insert(Endpoint {
            cluster,
            state: Arc::clone(state),
            pool: Pool::new(weir_pool_core::Params { min_idle, ..config.pool.clone() }),
            connect: ConnectOptions { timeout: config.timeouts.connect },
            waiting: VecDeque::new(),
            owed: VecDeque::new(),
            refs: 0,
            listed: true,
        }));
        self.by_id.insert((cluster, state.id), local);
        local
    }

    pub(crate) fn get(&self, local: LocalEndpoint) -> Option<&Endpoint> {
        self.slab.get(local.0)
    }

    pub(crate) fn get_mut(&mut self, local: LocalEndpoint) -> Option<&mut Endpoint> {
        self.slab.get_mut(local.0)
    }

    pub(crate) fn find(&self, cluster: ClusterId, id: EndpointId) -> Option<LocalEndpoint> {
        self.by_id.get(&(cluster, id)).copied()
    }

    /// Where entries may be: every one of these that [`Endpoints::get`] has. For loops that need the worker meanwhile.
    pub(crate) fn places(&self) -> impl Iterator<Item = LocalEndpoint> + use<> {
        (0..self.slab.slots()).map(LocalEndpoint)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (LocalEndpoint, &mut Endpoint)> {
        self.slab.iter_mut().map(|(index, endpoint)| (LocalEndpoint(index), endpoint))
    }

    /// Drops a reference; an entry that nobody needs any more is removed.
    pub(crate) fn unref(&mut self, local: LocalEndpoint) {
        if let Some(endpoint) = self.slab.get_mut(local.0) {
            endpoint.refs = endpoint.refs.saturating_sub(1);
        }
        self.reap(local);
    }

    /// Removes an unlisted entry without references.
    pub(crate) fn reap(&mut self, local: LocalEndpoint) {
        if self.slab.get(local.0).is_some_and(|endpoint| !endpoint.listed && endpoint.refs == 0)
            && let Some(endpoint) = self.slab.remove(local.0)
        {
            self.by_id.remove(&(endpoint.cluster, endpoint.state.id));
        }
    }
}
