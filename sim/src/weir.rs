//! Weir as a set of nodes: N workers that share a listen address, and the keeper.

use std::sync::Arc;

use weir_cluster::EndpointState;
use weir_config::{NoFiles, Source, plan};
use weir_core::{Address, ClusterId, Endpoint, EndpointId, Instant};
use weir_net::mem::{Checked, NodeId, NodeState, World};
use weir_net::{ListenerId, Sender};
use weir_proxy::census::Census;
use weir_proxy::keeper::{self, Keeper};
use weir_proxy::runtime::{Config, Shared};
use weir_proxy::worker::{self, Worker};
use weir_telemetry::EndpointStats;

use crate::host::{Hosted, host};

/// Client connections per listener where the text sets no maximum.
const CLIENT_CONNECTIONS: u32 = 10_000;
/// Connections per endpoint where the text sets no maximum.
const ENDPOINT_CONNECTIONS: u32 = 1_000;

/// By then every worker has the first snapshot, on any network.
const START: std::time::Duration = std::time::Duration::from_millis(10);

type WorkerNode = Hosted<Checked<Worker, worker::Message>, worker::Message>;

/// Who got traffic from a moment on.
pub(crate) struct Publication {
    pub(crate) at: Instant,
    /// Per cluster: the addresses that may be picked.
    pub(crate) members: Vec<Vec<Address>>,
    pub(crate) panic: Vec<bool>,
}

/// See the module.
pub(crate) struct Weir {
    pub(crate) workers: Vec<NodeId>,
    pub(crate) keeper: NodeId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: Arc<Config>,
    keeper_sender: Sender<keeper::Message>,
    /// Every endpoint that there ever was.
    pub(crate) states: Vec<(ClusterId, Arc<EndpointState<Arc<EndpointStats>>>)>,
    pub(crate) publications: Vec<Publication>,
    generation: u64,
    pub(crate) is_draining: bool,
}

impl Weir {
    /// Starts Weir from the text of a configuration.
    pub(crate) fn start(world: &mut World<()>, text: &str, workers: usize, seed: u64) -> Self {
        let source = Source { name: "sim.toml".into(), text: text.into() };
        let outcome = weir_config::load(&source, &NoFiles);
        let problems: Vec<String> = outcome.diagnostics.iter().map(|problem| problem.render(&source, false)).collect();
        let Some(plan) = outcome.plan else { panic!("{}", problems.join("\n")) };
        let config = Arc::new(Config::compile(&plan, CLIENT_CONNECTIONS, workers));
        let (machines, snapshot) = Keeper::machines(&config, ENDPOINT_CONNECTIONS, workers);
        let shared = Arc::new(Shared::new(snapshot, workers));

        let mut nodes = Vec::new();
        let mut senders = Vec::new();
        for id in 0..workers {
            let worker = Worker::new(id, Arc::clone(&shared), seed, None);
            let (node, sender) = host(world, Checked::new(worker));
            if let Some(&first) = nodes.first() {
                let ip = world.ip(first);
                world.set_ip(node, ip);
            }
            nodes.push(node);
            senders.push(sender);
        }
        let initial = plan.clusters.iter().enumerate().map(|(index, cluster)| {
            let of = |spec: &plan::EndpointSpec| match spec {
                plan::EndpointSpec::Static(endpoint) => Some(endpoint.clone()),
                plan::EndpointSpec::Dns(_) => None,
            };
            (ClusterId(index as u32), cluster.endpoints.iter().filter_map(of).collect())
        });
        let keeper = Keeper::new(machines, Arc::clone(&config), Arc::clone(&shared), initial.collect(), seed);
        // The keeper enters the endpoints and publishes as soon as it starts: its messages must find the workers.
        let late = LateKeeper { keeper, shared: Arc::clone(&shared), workers: senders };
        let (keeper, keeper_sender) = late.host(world);
        // Real workers have their listeners before they start, and keep them closed until there are endpoints. Here a
        // node starts before it can listen.
        world.run_for(START);
        for (&node, (index, listener)) in
            nodes.iter().flat_map(|node| plan.listeners.iter().enumerate().map(move |of| (node, of)))
        {
            for bind in &listener.bind {
                world.listen(node, ListenerId(index as u32), bind.address.clone());
            }
        }
        let mut weir = Self {
            workers: nodes,
            keeper,
            shared,
            config,
            keeper_sender,
            states: Vec::new(),
            publications: Vec::new(),
            generation: 0,
            is_draining: false,
        };
        weir.look_at_snapshot(world.now());
        weir
    }

    /// Takes note of a new publication.
    pub(crate) fn look_at_snapshot(&mut self, now: Instant) {
        let generation = self.shared.generation();
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        let snapshot = self.shared.snapshot();
        let address = |state: &Arc<EndpointState<Arc<EndpointStats>>>| state.endpoint.address.clone();
        for (index, cluster) in snapshot.clusters.iter().enumerate() {
            for state in &cluster.endpoints {
                if !self.states.iter().any(|(_, known)| Arc::ptr_eq(known, state)) {
                    self.states.push((ClusterId(index as u32), Arc::clone(state)));
                }
            }
        }
        self.publications.push(Publication {
            at: now,
            members: snapshot.clusters.iter().map(|cluster| cluster.members.iter().map(address).collect()).collect(),
            panic: snapshot.clusters.iter().map(|cluster| cluster.panic).collect(),
        });
    }

    pub(crate) fn running(&self, world: &World<()>) -> Vec<NodeId> {
        self.workers.iter().copied().filter(|node| world.state(*node) == NodeState::Running).collect()
    }

    /// What a worker holds, and the most that is unsent on one of its connections.
    pub(crate) fn census(world: &mut World<()>, node: NodeId) -> (Census, usize) {
        world.with_node(node, |host: &mut WorkerNode, io| {
            let unsent = host.inner.tokens().map(|conn| weir_net::Io::unsent(io, conn)).max().unwrap_or(0);
            (host.inner.inner_mut().census(), unsent)
        })
    }

    pub(crate) fn set_endpoints(&self, cluster: ClusterId, endpoints: Vec<Endpoint>) {
        let sent = self.keeper_sender.post(keeper::Message::Endpoints(cluster, endpoints));
        assert!(sent.is_ok(), "the keeper takes messages");
    }

    /// The most connections that an endpoint may have.
    pub(crate) fn connections_max(&self, cluster: ClusterId) -> u32 {
        let plan = &self.config.clusters[cluster.0 as usize].plan;
        plan.pool.max_connections.unwrap_or(ENDPOINT_CONNECTIONS)
    }

    pub(crate) fn endpoint_name(&self, cluster: ClusterId, id: EndpointId) -> String {
        let found = self.states.iter().find(|(of, state)| *of == cluster && state.id == id);
        found.map_or_else(|| format!("{id:?}"), |(_, state)| state.endpoint.name.to_string())
    }
}

/// The keeper's node has to exist before anybody can be told how to reach it, and to be reachable before it starts.
struct LateKeeper {
    keeper: Keeper,
    shared: Arc<Shared>,
    workers: Vec<Sender<worker::Message>>,
}

impl LateKeeper {
    fn host(self, world: &mut World<()>) -> (NodeId, Sender<keeper::Message>) {
        let Self { keeper, shared, workers } = self;
        crate::host::host_with(world, keeper, |sender| shared.connect(workers, sender))
    }
}
