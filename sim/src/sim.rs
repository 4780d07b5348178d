//! One run: a world with services, Weir and clients.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use weir_core::hash::splitmix64;
use weir_core::{Address, ClusterId, Endpoint, Instant, Weight};
use weir_net::mem::{Fault, Guard, Link, NetConfig, NodeId, NodeState, Rule, Scope, World};

use crate::client::{Client, Habits};
use crate::host::{Hosted, host};
use crate::ledger::{Book, Ledger};
use crate::origin::{ECHO, HTTP, Manners, Origin};
use crate::tunnel::{TunnelClient, TunnelEnd, Tunnels};
use crate::weir::Weir;

/// Where clients find Weir, whatever the listener's port.
const WEIR_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// How often the invariants are looked at.
const LOOK: Duration = Duration::from_millis(10);

pub(crate) type OriginNode = Hosted<Origin, ()>;
pub(crate) type ClientNode = Hosted<Client, ()>;
type TunnelNode = Hosted<TunnelClient, ()>;

/// A service: some replicas of one kind of origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Service(usize);

pub(crate) struct Replica {
    pub(crate) service: usize,
    pub(crate) node: NodeId,
    pub(crate) address: SocketAddr,
    manners: Manners,
}

/// See the module.
pub struct Sim {
    pub(crate) world: World<()>,
    seed: u64,
    pub(crate) net: NetConfig,
    pub(crate) book: Book,
    names: Vec<String>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) clients: Vec<NodeId>,
    tunnels: Vec<NodeId>,
    pub(crate) weir: Option<Weir>,
    pub(crate) tolerated: Tolerated,
}

/// What a test does on purpose, so that its consequences are no failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tolerated {
    pub(crate) broken_network: bool,
    pub(crate) impatient_clients: bool,
    pub(crate) drain: bool,
}

// === impl Sim: building ===

impl Sim {
    /// A world with a network that does everything a real one may do.
    pub fn rough(seed: u64) -> Self {
        Self::new(seed, NetConfig::rough(seed))
    }

    /// A world with this network.
    pub fn new(seed: u64, net: NetConfig) -> Self {
        Self {
            world: World::new(seed, net.clone()),
            seed,
            net,
            book: Book::default(),
            names: Vec::new(),
            replicas: Vec::new(),
            clients: Vec::new(),
            tunnels: Vec::new(),
            weir: None,
            tolerated: Tolerated::default(),
        }
    }

    /// A new service with `count` replicas.
    pub fn service(&mut self, name: &str, count: usize, manners: &Manners) -> Service {
        let service = self.names.len();
        self.names.push(name.to_owned());
        for position in 0..count {
            let index = self.replicas.len();
            let origin = Origin::new(index, self.book.clone(), manners.clone(), self.seed);
            let (node, _) = host(&mut self.world, origin);
            let ip = Ipv4Addr::new(10, 1, service as u8, position as u8 + 1);
            let address = SocketAddr::from((ip, 80));
            self.replicas.push(Replica { service, node, address, manners: manners.clone() });
            self.open_replica(index);
        }
        Service(service)
    }

    fn open_replica(&mut self, index: usize) {
        let Replica { node, address, .. } = self.replicas[index];
        self.world.set_ip(node, address.ip());
        self.world.listen(node, HTTP, address);
        self.world.listen(node, ECHO, SocketAddr::new(address.ip(), 81));
    }

    /// The endpoints of a service as the configuration writes them.
    pub fn endpoints(&self, service: Service) -> String {
        self.endpoints_at(service, 80)
    }

    /// The beginning of a configuration: a listener before a cluster `orders`, whose further keys may follow.
    pub fn front_of(&self, service: Service) -> String {
        let endpoints = self.endpoints(service);
        format!(
            "[[listener]]\nbind = \"192.0.2.1:80\"\ncluster = \"orders\"\n[cluster.orders]\nendpoints = {endpoints}"
        )
    }

    /// The side of a service that sends back whatever bytes it gets.
    pub fn echo_endpoints(&self, service: Service) -> String {
        self.endpoints_at(service, 81)
    }

    fn endpoints_at(&self, service: Service, port: u16) -> String {
        let of = self.replicas.iter().filter(|replica| replica.service == service.0);
        let list: Vec<String> = of.map(|replica| format!("\"{}:{port}\"", replica.address.ip())).collect();
        format!("[{}]", list.join(", "))
    }

    /// Starts Weir with so many workers from the text of a configuration. Listeners bind to `192.0.2.1`.
    pub fn weir(&mut self, workers: usize, text: &str) {
        self.weir = Some(Weir::start(&mut self.world, text, workers, splitmix64(self.seed)));
    }

    /// Adds `count` nodes of clients of the listener on port 80.
    pub fn clients(&mut self, count: usize, habits: &Habits) {
        self.tolerated.impatient_clients |= habits.abort_permille > 0;
        let to = Address::from(SocketAddr::new(WEIR_IP, 80));
        for _ in 0..count {
            let seed = splitmix64(self.seed ^ (0xC11E_0000 + self.clients.len() as u64));
            let client = Client::new(to.clone(), habits.clone(), self.book.clone(), seed);
            self.clients.push(host(&mut self.world, client).0);
        }
    }

    /// Adds a node with clients that send bytes through tunnels: of the listener on port 80 after an upgrade, of the
    /// TCP listener on port 81 otherwise.
    pub fn tunnels(&mut self, habits: &Tunnels) {
        let to = Address::from(SocketAddr::new(WEIR_IP, if habits.upgrade { 80 } else { 81 }));
        let seed = splitmix64(self.seed ^ (0x7077_0000 + self.tunnels.len() as u64));
        let client = TunnelClient::new(to, habits.clone(), seed);
        self.tunnels.push(host(&mut self.world, client).0);
    }

    /// How the tunnels ended.
    ///
    /// # Panics
    /// If one gave back bytes that were not sent.
    pub fn tunnel_ends(&mut self) -> Vec<TunnelEnd> {
        let mut ends = Vec::new();
        for node in self.tunnels.clone() {
            self.world.with_node(node, |client: &mut TunnelNode, _| {
                assert!(client.inner.violations.is_empty(), "{:?}", client.inner.violations);
                ends.extend(&client.inner.ends);
            });
        }
        ends
    }

    /// The world, for whatever has no words here.
    pub fn world(&mut self) -> &mut World<()> {
        &mut self.world
    }
}

// === impl Sim: playing ===

impl Sim {
    /// Lets time pass; what must always hold is looked at meanwhile.
    pub fn play(&mut self, span: Duration) {
        let until = self.world.now() + span;
        while self.world.now() < until {
            let next = (self.world.now() + LOOK).min(until);
            self.world.run_until(next);
            self.look();
        }
    }

    /// Plays until every client is done.
    ///
    /// # Panics
    /// If that takes longer than `limit`.
    pub fn play_to_the_end(&mut self, limit: Duration) {
        let until = self.world.now() + limit;
        while !self.clients_are_done() {
            assert!(self.world.now() < until, "after {limit:?} these requests have no end: {:?}", self.unfinished());
            self.play(LOOK);
        }
    }

    fn clients_are_done(&mut self) -> bool {
        let clients = self.clients.clone();
        let tunnels = self.tunnels.clone();
        clients.iter().all(|node| self.world.with_node(*node, |client: &mut ClientNode, _| client.inner.is_done()))
            && tunnels
                .iter()
                .all(|node| self.world.with_node(*node, |client: &mut TunnelNode, _| client.inner.is_done()))
    }

    fn unfinished(&self) -> Vec<(usize, crate::ledger::Entry)> {
        let book = self.book.borrow();
        let open = book.entries.iter().enumerate().filter(|(_, entry)| entry.ended.is_none());
        open.map(|(id, entry)| (id, entry.clone())).take(5).collect()
    }

    /// Lets the clients ask for nothing more.
    pub fn retire_clients(&mut self) {
        for node in self.clients.clone() {
            self.world.with_node(node, |client: &mut ClientNode, _| client.inner.retire());
        }
    }

    /// Has the clients reset their connections, and ask for nothing more.
    pub fn hang_up(&mut self) {
        for node in self.clients.clone() {
            self.world.with_node(node, |client: &mut ClientNode, io| client.inner.hang_up(io));
        }
    }

    fn nth(&self, service: Service, position: usize) -> usize {
        let mut of = self.replicas.iter().enumerate().filter(|(_, replica)| replica.service == service.0);
        of.nth(position).map_or_else(|| panic!("no such replica"), |(index, _)| index)
    }

    /// Changes the manners of a replica from now on.
    pub fn change(&mut self, service: Service, position: usize, change: impl FnOnce(&mut Manners)) {
        let index = self.nth(service, position);
        change(&mut self.replicas[index].manners);
        let manners = self.replicas[index].manners.clone();
        let node = self.replicas[index].node;
        if self.world.state(node) != NodeState::Dead {
            self.world.with_node(node, |origin: &mut OriginNode, _| origin.inner.manners = manners);
        }
    }

    /// Kills a replica as SIGKILL does.
    pub fn kill(&mut self, service: Service, position: usize) {
        self.tolerated.broken_network = true;
        let index = self.nth(service, position);
        self.world.kill(self.replicas[index].node);
        if let Some(count) = self.book.borrow_mut().in_service.get_mut(index) {
            count.0 = 0;
        }
    }

    /// Starts a killed replica again.
    pub fn restart(&mut self, service: Service, position: usize) {
        let index = self.nth(service, position);
        let seed = self.seed ^ self.world.now().as_nanos();
        let origin = Origin::new(index, self.book.clone(), self.replicas[index].manners.clone(), seed);
        crate::host::restart(&mut self.world, self.replicas[index].node, origin);
        self.open_replica(index);
    }

    /// Stops a replica as SIGSTOP does, for a while.
    pub fn stall(&mut self, service: Service, position: usize, span: Duration) {
        let index = self.nth(service, position);
        self.world.stall_for(self.replicas[index].node, span);
    }

    /// Stops Weir as SIGSTOP does, for a while.
    pub fn stall_weir(&mut self, span: Duration) {
        for node in self.weir_nodes() {
            self.world.stall_for(node, span);
        }
    }

    /// Lets nothing pass between Weir and a replica while the guard lives.
    pub fn part(&mut self, service: Service, position: usize) -> Guard {
        self.tolerated.broken_network = true;
        let node = self.replicas[self.nth(service, position)].node;
        let weir = self.weir_nodes();
        self.world.partition(&weir, &[node])
    }

    /// Makes the network to a replica misbehave while the guard lives.
    pub fn break_network(&mut self, service: Service, position: usize, fault: Fault, permille: u16) -> Guard {
        self.tolerated.broken_network = true;
        let node = self.replicas[self.nth(service, position)].node;
        self.world.inject(Rule::new(Scope::Node(node), fault).chance(permille))
    }

    /// Makes connects to a replica fail while the guard lives. Nothing else is touched.
    pub fn break_connects(&mut self, service: Service, position: usize, fault: Fault, permille: u16) -> Guard {
        let address = self.replicas[self.nth(service, position)].address;
        self.world.inject(Rule::new(Scope::To(address.into()), fault).chance(permille))
    }

    /// Makes the way to a replica slow.
    pub fn slow(&mut self, service: Service, position: usize, latency: Duration, bytes_per_second: u64) {
        let node = self.replicas[self.nth(service, position)].node;
        for weir in self.weir_nodes() {
            let link = Link { latency: latency..=latency, bytes_per_second: Some(bytes_per_second) };
            self.world.set_link(weir, node, link);
        }
    }

    /// Gives a cluster other endpoints: these replicas of the service.
    pub fn reconfigure(&mut self, cluster: u32, service: Service, positions: &[usize]) {
        let endpoint = |position: &usize| {
            let address = self.replicas[self.nth(service, *position)].address;
            Endpoint {
                name: address.to_string().into(),
                address: address.into(),
                weight: Weight::ONE,
                zone: None,
                priority: 0,
                tags: std::collections::BTreeMap::new(),
            }
        };
        let endpoints = positions.iter().map(endpoint).collect();
        self.the_weir().set_endpoints(ClusterId(cluster), endpoints);
    }

    /// Begins a graceful stop of Weir.
    pub fn drain(&mut self) {
        self.tolerated.drain = true;
        if let Some(weir) = &mut self.weir {
            weir.is_draining = true;
            weir.shared.drain();
        }
    }

    /// How many workers have not stopped.
    pub fn workers_running(&self) -> usize {
        self.the_weir().running(&self.world).len()
    }

    pub(crate) fn the_weir(&self) -> &Weir {
        let Some(weir) = &self.weir else { panic!("Weir was not started") };
        weir
    }

    fn weir_nodes(&self) -> Vec<NodeId> {
        let weir = self.the_weir();
        weir.workers.iter().copied().chain([weir.keeper]).collect()
    }

    /// The book of requests.
    pub fn book(&self) -> std::cell::Ref<'_, Ledger> {
        self.book.borrow()
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.world.now()
    }

    /// A hash over everything that happened.
    pub fn trace_hash(&self) -> u64 {
        self.world.trace().hash()
    }

    /// Connections that a replica has open.
    pub fn connections_of(&mut self, service: Service, position: usize) -> usize {
        let node = self.replicas[self.nth(service, position)].node;
        self.world.with_node(node, |origin: &mut OriginNode, _| origin.inner.connections())
    }

    /// The sum of a counter over all workers.
    pub fn stat(&self, read: impl Fn(&weir_telemetry::WorkerStats) -> u64) -> u64 {
        self.the_weir().shared.stats.iter().map(|stats| read(stats)).sum()
    }
}
