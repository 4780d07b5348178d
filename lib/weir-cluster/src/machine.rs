//! The cluster machine: who exists, who is healthy, who is ejected, hence who gets traffic.
//!
//! ```text
//! set_endpoints ─┐
//! probe results ─┤→ Checker ─┐
//! refused ───────┘           ├→ usable? → priority tier → panic? → members → Balancer → snapshot
//! failures in a row → Detector ┘
//! ```
//!
//! A member is usable if its weight is above 0, its health check says so and it is not ejected. Of the usable
//! ones, the lowest priority tier that has any gets all traffic. If there is none, newcomers that no probe has
//! answered for yet are tried: a name whose addresses have all been replaced must not be an outage until the first probe. If the usable share of the cluster is below the panic
//! threshold, health is ignored within the lowest tier: better a slow answer from a doubtful endpoint than the
//! last healthy one drowned (Envoy's panic threshold). Ejected and draining ones are then included too.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_balance::Member;
use weir_core::{Endpoint, EndpointId, Health, Instant, Revision};
use weir_health::{Checker, ProbeFailure, ProbeId, ProbeKind};
use weir_limit::{Permits, SharedCap};
use weir_resilience::outlier::{self, Detector};

use crate::{ClusterSnapshot, EndpointState};

/// Settings of a cluster, and how records of new endpoints are completed.
pub struct Settings<E> {
    /// Algorithm.
    pub balance: weir_balance::Params,
    /// Active checks.
    pub health: weir_health::Params,
    /// Passive ejection.
    pub outlier: weir_resilience::OutlierParams,
    /// Places per endpoint.
    pub limit: weir_limit::Params,
    /// Connections per endpoint over all workers.
    pub max_connections: u32,
    /// Workers that pick from the snapshots.
    pub workers: usize,
    /// Usable share (0.0 to 1.0) below which health is ignored; 0.0 = never.
    pub panic_threshold: f64,
    /// Makes what the owner attaches to a new endpoint.
    pub attach: Box<dyn Fn(&Endpoint) -> E + Send>,
}

/// What the owner must do, or may tell.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Send a probe and answer with [`Cluster::handle_probe_result`].
    StartProbe(ProbeId, ProbeKind),
    /// Stop a probe.
    AbandonProbe(ProbeId),
    /// An endpoint's health changed.
    Changed {
        /// Which.
        endpoint: EndpointId,
        /// Before.
        from: Health,
        /// After.
        to: Health,
        /// Why the last probe failed, if that is the cause.
        failure: Option<ProbeFailure>,
    },
    /// Panic began or ended.
    Panic(bool),
    /// [`Cluster::snapshot`] is a new one: publish it.
    Publish,
}

/// See the module.
pub struct Cluster<E> {
    settings: Settings<E>,
    endpoints: Vec<Arc<EndpointState<E>>>,
    next_id: u32,
    checker: Checker,
    detector: Detector,
    snapshot: Arc<ClusterSnapshot<E>>,
    outputs: VecDeque<Output>,
    dirty: bool,
}

impl<E> Cluster<E> {
    /// A cluster without endpoints.
    pub fn new(settings: Settings<E>) -> Self {
        let balancer = weir_balance::build(&settings.balance, Vec::new(), None);
        let snapshot = Arc::new(ClusterSnapshot {
            revision: Revision(0),
            endpoints: Vec::new(),
            members: Vec::new(),
            usable: 0,
            balancer,
            panic: false,
            comeback: Arc::default(),
        });
        Self {
            checker: Checker::new(settings.health.clone()),
            detector: Detector::new(settings.outlier.clone()),
            settings,
            endpoints: Vec::new(),
            next_id: 0,
            snapshot,
            outputs: VecDeque::new(),
            dirty: true,
        }
    }

    /// The endpoints are now these. One that was there before under the same name and address keeps its record, its
    /// connections and what is known of its health. `seed` spreads the probes in time.
    pub fn set_endpoints(&mut self, wanted: Vec<Endpoint>, now: Instant, seed: u64) {
        let mut kept = Vec::with_capacity(wanted.len());
        for endpoint in wanted {
            let same = |state: &&Arc<EndpointState<E>>| state.endpoint == endpoint;
            let state = self.endpoints.iter().find(same).cloned();
            kept.push(state.unwrap_or_else(|| self.new_endpoint(endpoint, now)));
        }
        for old in &self.endpoints {
            if !kept.iter().any(|state| state.id == old.id) {
                old.set_health(Health::Draining, now);
            }
        }
        self.endpoints = kept;
        let ids: Vec<EndpointId> = self.endpoints.iter().map(|state| state.id).collect();
        self.checker.set_endpoints(&ids, now, seed);
        self.detector.set_endpoints(&ids, now);
        self.dirty = true;
        self.settle(now);
    }

    /// A probe was answered.
    pub fn handle_probe_result(&mut self, probe: ProbeId, result: Result<(), ProbeFailure>, now: Instant) {
        self.checker.handle_probe_result(probe, now, result);
        self.note_failures();
        self.settle(now);
    }

    /// A probe could not be made for want of something on this machine: it says nothing about the endpoint.
    pub fn handle_probe_lost(&mut self, probe: ProbeId, now: Instant) {
        self.checker.handle_probe_lost(probe, now);
        self.settle(now);
    }

    /// A connection of the data path was refused: evidence at once.
    pub fn handle_refused(&mut self, endpoint: EndpointId, now: Instant) {
        self.checker.handle_refused(endpoint, now);
        self.note_failures();
        self.settle(now);
    }

    /// So many requests in a row have failed at an endpoint.
    pub fn handle_consecutive(&mut self, endpoint: EndpointId, count: u32, now: Instant) {
        self.detector.handle_consecutive(endpoint, count, now);
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.checker.handle_timeout(now);
        self.note_failures();
        self.detector.handle_timeout(now);
        self.settle(now);
    }

    /// When to call [`Cluster::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.checker.poll_timeout(), self.detector.poll_timeout()].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What the data path should pick from now.
    pub fn snapshot(&self) -> Arc<ClusterSnapshot<E>> {
        Arc::clone(&self.snapshot)
    }

    /// The record of an endpoint.
    pub fn endpoint(&self, id: EndpointId) -> Option<&Arc<EndpointState<E>>> {
        self.endpoints.iter().find(|state| state.id == id)
    }

    /// Why the last probe of an endpoint failed.
    pub fn last_failure(&self, id: EndpointId) -> Option<ProbeFailure> {
        self.checker.last_failure(id)
    }

    /// Makes what the last probes said visible to observers; probes end by an answer, by their time-out and by a
    /// refused connection of the data path.
    fn note_failures(&self) {
        for state in &self.endpoints {
            state.set_last_failure(self.checker.last_failure(state.id));
        }
    }

    fn new_endpoint(&mut self, endpoint: Endpoint, now: Instant) -> Arc<EndpointState<E>> {
        let id = EndpointId(self.next_id);
        self.next_id += 1;
        let max_connections = self.settings.max_connections.max(1);
        // HTTP/1.1 carries one request per connection: more requests than connections could never run. With the smaller
        // of the two as the cap, a request that has a place can always get a connection (see weir-proxy, `pools`).
        let max_requests = self.settings.limit.max_requests.unwrap_or(max_connections).min(max_connections);
        let permits = Permits::new(Some(max_requests), self.settings.limit.queue);
        let ext = (self.settings.attach)(&endpoint);
        Arc::new(EndpointState::new(
            id,
            endpoint,
            permits,
            SharedCap::new(max_connections),
            ext,
            self.settings.workers,
            now,
        ))
    }

    /// Carries the machines' outputs over and makes a new snapshot if who gets traffic has changed.
    fn settle(&mut self, now: Instant) {
        while let Some(output) = self.checker.poll_output() {
            match output {
                weir_health::Output::StartProbe(id, kind) => self.outputs.push_back(Output::StartProbe(id, kind)),
                weir_health::Output::AbandonProbe(id) => self.outputs.push_back(Output::AbandonProbe(id)),
                weir_health::Output::Changed(..) | weir_health::Output::Settled => self.dirty = true,
            }
        }
        self.drain_detector();
        if self.dirty {
            self.renew_snapshot(now);
        }
        if self.snapshot.members.is_empty() {
            self.snapshot.comeback.set(self.comeback());
        }
    }

    /// When an endpoint may be back. Ejections do not matter here: the detector ends them where nobody else serves.
    fn comeback(&self) -> Option<Instant> {
        let candidates = self.endpoints.iter().filter(|state| state.endpoint.weight.get() > 0);
        candidates.filter_map(|state| self.checker.earliest_up(state.id)).min()
    }

    fn renew_snapshot(&mut self, now: Instant) {
        self.dirty = false;
        for index in 0..self.endpoints.len() {
            let id = self.endpoints[index].id;
            self.detector.handle_usable(id, self.checker.is_usable(id, now), now);
        }
        self.drain_detector();
        self.dirty = false;
        self.tell_changes(now);
        self.publish(now);
    }

    fn drain_detector(&mut self) {
        while let Some(output) = self.detector.poll_output() {
            let (outlier::Output::Eject { endpoint, .. } | outlier::Output::Restore { endpoint, .. }) = output;
            if let Some(state) = self.endpoint(endpoint) {
                state.failures.reset();
                if matches!(output, outlier::Output::Eject { .. }) {
                    state.count_ejection();
                }
            }
            self.dirty = true;
        }
    }

    fn tell_changes(&mut self, now: Instant) {
        for state in &self.endpoints {
            let health = match self.checker.health(state.id) {
                Health::Up | Health::Unknown if self.detector.is_ejected(state.id) => Health::Ejected,
                health => health,
            };
            let (before, _) = state.health();
            if before != health {
                state.set_health(health, now);
                let failure = self.checker.last_failure(state.id);
                self.outputs.push_back(Output::Changed { endpoint: state.id, from: before, to: health, failure });
            }
        }
    }

    fn publish(&mut self, now: Instant) {
        let candidates: Vec<_> = self.endpoints.iter().filter(|state| state.endpoint.weight.get() > 0).collect();
        let usable: Vec<_> = candidates
            .iter()
            .filter(|state| self.checker.is_usable(state.id, now) && !self.detector.is_ejected(state.id))
            .copied()
            .collect();
        let share = usable.len() as f64 / candidates.len().max(1) as f64;
        let panic = !candidates.is_empty() && share < self.settings.panic_threshold;
        let newcomers: Vec<_> = if usable.is_empty() {
            let unknown = |state: &&Arc<EndpointState<E>>| {
                self.checker.health(state.id) == Health::Unknown && !self.detector.is_ejected(state.id)
            };
            candidates.iter().copied().filter(unknown).collect()
        } else {
            Vec::new()
        };
        let usable = first_tier(if usable.is_empty() { &newcomers } else { &usable });
        let members = if panic { first_tier(&candidates) } else { usable.clone() };

        let before = &self.snapshot;
        if before.panic != panic {
            self.outputs.push_back(Output::Panic(panic));
        }
        let same_members = before.members.len() == members.len()
            && before.members.iter().zip(&members).all(|(a, b)| Arc::ptr_eq(a, b));
        let balancer = if same_members && before.revision.0 > 0 {
            Arc::clone(&before.balancer)
        } else {
            let list = members
                .iter()
                .map(|state| Member {
                    id: state.id,
                    name: Arc::clone(&state.endpoint.name),
                    weight: state.endpoint.weight,
                    load: Arc::clone(&state.load),
                })
                .collect();
            weir_balance::build(&self.settings.balance, list, Some(&*before.balancer))
        };
        self.snapshot = Arc::new(ClusterSnapshot {
            revision: Revision(before.revision.0 + 1),
            endpoints: self.endpoints.clone(),
            members,
            usable: usable.len() as u32,
            balancer,
            panic,
            comeback: Arc::clone(&before.comeback),
        });
        self.outputs.push_back(Output::Publish);
    }
}

/// Those of the lowest priority that occurs.
fn first_tier<E>(endpoints: &[&Arc<EndpointState<E>>]) -> Vec<Arc<EndpointState<E>>> {
    let tier = endpoints.iter().map(|state| state.endpoint.priority).min();
    endpoints.iter().filter(|state| Some(state.endpoint.priority) == tier).map(|state| Arc::clone(state)).collect()
}

impl<E> std::fmt::Debug for Cluster<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("endpoints", &self.endpoints.len()).finish_non_exhaustive()
    }
}
