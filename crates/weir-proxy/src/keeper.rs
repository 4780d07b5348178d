//! The keeper: the one owner of the cluster machines. It runs on an engine loop of its own, so that probes
//! use the same sockets, time-outs and (in simulation) faults as traffic.
//!
//! It is told of endpoints (from the configuration and from DNS), of refused connections and of failures in a row; it
//! sends the probes that the machines ask for, and publishes a new snapshot whenever who gets traffic changes.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_cluster::{Cluster, Output};
use weir_core::hash::Rng;
use weir_core::{ClusterId, Endpoint, EndpointId, Health, Instant};
use weir_health::{BODY_PREFIX_MAX_BYTES, HttpProbe, ProbeFailure, ProbeId, ProbeKind, evaluate_http};
use weir_http::{BodyEvent, BodyReader, Limits, RequestMethodFacts, Slots, parse_response, write};
use weir_net::{Close, ConnId, ConnectOptions, Io, IoFault, ListenerId, Piece, Protocol, Sent};
use weir_telemetry::{EndpointStats, event};

use crate::runtime::{Config, Shared, Snapshot};

/// The timer of the machines' next time-out.
const TIMER: u32 = 0;
/// A probe's response head may be so long.
const PROBE_HEAD_BYTES: usize = 32 * 1024;

/// What others tell the keeper.
#[derive(Debug)]
pub enum Message {
    /// The endpoints of a cluster are now these.
    Endpoints(ClusterId, Vec<Endpoint>),
    /// A connection of the data path was refused.
    Refused {
        /// In which cluster.
        cluster: ClusterId,
        /// By which endpoint.
        endpoint: EndpointId,
    },
    /// So many requests in a row have failed.
    Failures {
        /// In which cluster.
        cluster: ClusterId,
        /// At which endpoint.
        endpoint: EndpointId,
        /// How many.
        count: u32,
    },
    /// End the loop.
    Stop,
}

/// A probe under way.
#[derive(Debug)]
struct Probe {
    cluster: usize,
    id: ProbeId,
    /// `None`: a connection is enough.
    http: Option<Arc<HttpProbe>>,
    bytes: Vec<u8>,
    connected: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    config: Arc<Config>,
    clusters: Vec<Cluster<Arc<EndpointStats>>>,
    probes_http: Vec<Option<Arc<HttpProbe>>>,
    shared: Arc<Shared>,
    rng: Rng,
    /// Indexed by the connection's slot.
    probes: Vec<Option<(ConnId, Probe)>>,
    initial: Vec<(ClusterId, Vec<Endpoint>)>,
    published: bool,
}

impl Keeper {
    /// Builds the machines of a configuration and the first snapshot (no endpoints yet: they are entered when
    /// the loop starts, by `initial`).
    pub fn machines(
        config: &Arc<Config>,
        max_connections: u32,
        workers: usize,
    ) -> (Vec<Cluster<Arc<EndpointStats>>>, Snapshot) {
        let clusters: Vec<_> = config
            .clusters
            .iter()
            .map(|cluster| {
                let plan = &cluster.plan;
                Cluster::new(weir_cluster::Settings {
                    balance: plan.balance.clone(),
                    health: plan.health.clone(),
                    outlier: plan.outlier.clone(),
                    limit: plan.limit.clone(),
                    max_connections: plan.pool.max_connections.unwrap_or(max_connections),
                    workers,
                    panic_threshold: plan.panic_threshold,
                    attach: Box::new(move |_| EndpointStats::new(workers)),
                })
            })
            .collect();
        let snapshot =
            Snapshot { config: Arc::clone(config), clusters: clusters.iter().map(Cluster::snapshot).collect() };
        (clusters, snapshot)
    }

    /// The keeper of machines made by [`Keeper::machines`].
    pub fn new(
        clusters: Vec<Cluster<Arc<EndpointStats>>>,
        config: Arc<Config>,
        shared: Arc<Shared>,
        initial: Vec<(ClusterId, Vec<Endpoint>)>,
        seed: u64,
    ) -> Self {
        let probes_http =
            config.clusters.iter().map(|cluster| cluster.plan.health.http.clone().map(Arc::new)).collect();
        Self {
            config,
            clusters,
            probes_http,
            shared,
            rng: Rng::new(seed),
            probes: Vec::new(),
            initial,
            published: false,
        }
    }

    fn set_endpoints<I: Io>(&mut self, io: &mut I, cluster: ClusterId, endpoints: Vec<Endpoint>) {
        let seed = self.rng.next();
        if let Some(machine) = self.clusters.get_mut(cluster.0 as usize) {
            machine.set_endpoints(endpoints, io.now(), seed);
        }
        self.carry_out(io);
    }

    /// Does what the machines ask for.
    fn carry_out<I: Io>(&mut self, io: &mut I) {
        let mut publish = false;
        for index in 0..self.clusters.len() {
            while let Some(output) = self.clusters[index].poll_output() {
                match output {
                    Output::StartProbe(id, kind) => self.start_probe(io, index, id, kind),
                    Output::AbandonProbe(id) => self.abandon_probe(io, index, id),
                    Output::Changed { endpoint, from, to, failure } => {
                        self.tell_change(index, endpoint, from, to, failure);
                    }
                    Output::Panic(on) => self.tell_panic(index, on),
                    Output::Publish => publish = true,
                }
            }
        }
        // The first time in any case: the workers wait for it.
        if publish || !self.published {
            self.published = true;
            let clusters = self.clusters.iter().map(Cluster::snapshot).collect();
            self.shared.publish(Snapshot { config: Arc::clone(&self.config), clusters });
        }
        let next = self.clusters.iter().filter_map(Cluster::poll_timeout).min();
        io.set_timer(TIMER, next);
    }

    fn tell_change(
        &self,
        cluster: usize,
        endpoint: EndpointId,
        from: Health,
        to: Health,
        failure: Option<ProbeFailure>,
    ) {
        let name = &self.config.clusters[cluster].plan.name;
        let Some(state) = self.clusters[cluster].endpoint(endpoint) else { return };
        let endpoint = &*state.endpoint.name;
        match (from, to) {
            (Health::Ejected, Health::Up | Health::Unknown) => {
                event::EndpointRestored { cluster: name, endpoint }.emit();
            }
            (_, Health::Up) => event::EndpointUp { cluster: name, endpoint }.emit(),
            (_, Health::Ejected) => {
                let period = self.config.clusters[cluster].plan.outlier.base_ejection;
                event::EndpointEjected { cluster: name, endpoint, cause: "consecutive failures", period }.emit();
            }
            (_, Health::Down) => {
                let error = failure.map_or_else(|| "connection refused".to_owned(), describe);
                event::EndpointDown { cluster: name, endpoint, error: &error }.emit();
            }
            _ => {}
        }
    }

    fn tell_panic(&self, cluster: usize, on: bool) {
        let name = &self.config.clusters[cluster].plan.name;
        let snapshot = self.clusters[cluster].snapshot();
        let usable = snapshot.endpoints.iter().filter(|state| state.health().0 == Health::Up).count() as u32;
        let total = snapshot.endpoints.len() as u32;
        if on {
            event::PanicEntered { cluster: name, usable, total }.emit();
        } else {
            event::PanicLeft { cluster: name, usable, total }.emit();
        }
    }

    fn start_probe<I: Io>(&mut self, io: &mut I, cluster: usize, id: ProbeId, kind: ProbeKind) {
        let Some(state) = self.clusters[cluster].endpoint(id.endpoint) else { return };
        let timeout = self.config.clusters[cluster].plan.health.timeout;
        let conn = io.connect(&state.endpoint.address, &ConnectOptions { timeout });
        let http = match kind {
            ProbeKind::Tcp => None,
            ProbeKind::Http => self.probes_http[cluster].clone(),
        };
        let probe = Probe { cluster, id, http, bytes: Vec::new(), connected: false };
        let index = conn.index as usize;
        if index >= self.probes.len() {
            self.probes.resize_with(index + 1, || None);
        }
        self.probes[index] = Some((conn, probe));
    }

    fn abandon_probe<I: Io>(&mut self, io: &mut I, cluster: usize, id: ProbeId) {
        let found = self
            .probes
            .iter_mut()
            .find(|entry| entry.as_ref().is_some_and(|(_, probe)| probe.cluster == cluster && probe.id == id));
        if let Some((conn, _)) = found.and_then(Option::take) {
            io.close(conn, Close::Now);
        }
    }

    fn probe(&mut self, conn: ConnId) -> Option<&mut Probe> {
        match self.probes.get_mut(conn.index as usize)? {
            Some((id, probe)) if *id == conn => Some(probe),
            _ => None,
        }
    }

    /// The answer is in.
    fn conclude<I: Io>(&mut self, io: &mut I, conn: ConnId, close: bool, result: Result<(), ProbeFailure>) {
        let Some(entry) = self.probes.get_mut(conn.index as usize) else { return };
        let Some((_, probe)) = entry.take_if(|(id, _)| *id == conn) else { return };
        if close {
            io.close(conn, Close::Now);
        }
        self.clusters[probe.cluster].handle_probe_result(probe.id, result, io.now());
        self.carry_out(io);
    }

    /// The probe could not be made.
    fn lose<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let Some(entry) = self.probes.get_mut(conn.index as usize) else { return };
        let Some((_, probe)) = entry.take_if(|(id, _)| *id == conn) else { return };
        self.clusters[probe.cluster].handle_probe_lost(probe.id, io.now());
        self.carry_out(io);
    }

    fn send_probe<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let Some(probe) = self.probe(conn) else { return };
        probe.connected = true;
        let Some(http) = probe.http.clone() else {
            self.conclude(io, conn, true, Ok(()));
            return;
        };
        let (cluster, endpoint) = (probe.cluster, probe.id.endpoint);
        let Some(state) = self.clusters[cluster].endpoint(endpoint) else { return };
        let address = state.endpoint.address.to_string();
        let host = http.host.as_deref().unwrap_or(if address.starts_with("unix:") { "localhost" } else { &address });
        let mut out = Vec::with_capacity(256);
        write::request_line(&mut out, &http.method, http.path.as_bytes(), None);
        write::field(&mut out, "Host", host.as_bytes());
        write::field(&mut out, "User-Agent", b"weir-probe");
        for (name, value) in &http.headers {
            write::field(&mut out, name.as_bytes(), value.as_bytes());
        }
        write::field(&mut out, "Connection", b"close");
        write::end_head(&mut out);
        if let Sent::Failed { .. } = io.send(conn, &mut [Piece::Lent(&out)]) {
            self.conclude(io, conn, true, Err(ProbeFailure::Closed));
        }
    }

    /// Judges what has come so far; `None` = not yet.
    fn judge(probe: &Probe, ended: bool) -> Option<Result<(), ProbeFailure>> {
        let http = probe.http.as_ref()?;
        let mut at = 0;
        loop {
            let mut slots = Slots::new();
            let facts = RequestMethodFacts { head: &*http.method == "HEAD", connect: false };
            let head = match parse_response(&probe.bytes[at..], &mut slots, &Limits::default(), facts) {
                Err(_) => return Some(Err(ProbeFailure::Malformed)),
                Ok(None) if probe.bytes.len() > PROBE_HEAD_BYTES => return Some(Err(ProbeFailure::Malformed)),
                Ok(None) => return ended.then_some(Err(ProbeFailure::Closed)),
                Ok(Some(head)) => head,
            };
            at += head.len;
            if head.status < 200 {
                continue;
            }
            let mut body = Vec::new();
            let mut complete = http.body_contains.is_none();
            if !complete {
                let mut reader = BodyReader::new(head.framing);
                loop {
                    match reader.feed(&probe.bytes[at..], &Limits::default()) {
                        Ok((n, BodyEvent::Data(data))) => {
                            at += n;
                            body.extend_from_slice(data);
                        }
                        Ok((n, BodyEvent::Trailers(_))) => at += n,
                        Ok((_, BodyEvent::End)) => {
                            complete = true;
                            break;
                        }
                        Ok((_, BodyEvent::NeedMore)) => break,
                        Err(_) => return Some(Err(ProbeFailure::Malformed)),
                    }
                }
            }
            let fields = head.fields.iter().map(|field| (field.name, field.value));
            let verdict = evaluate_http(http, head.status, fields, &body);
            let enough = complete || ended || body.len() >= BODY_PREFIX_MAX_BYTES;
            return match verdict {
                Err(ProbeFailure::Body) if !enough => None,
                verdict => Some(verdict),
            };
        }
    }
}

/// A probe's failure in words.
pub fn describe(failure: ProbeFailure) -> String {
    match failure {
        ProbeFailure::Refused => "connection refused".to_owned(),
        ProbeFailure::ConnectFailed => "the connection could not be opened".to_owned(),
        ProbeFailure::Timeout => "no complete answer in time".to_owned(),
        ProbeFailure::Closed => "closed before a complete answer".to_owned(),
        ProbeFailure::Malformed => "the answer is not valid HTTP".to_owned(),
        ProbeFailure::Status(status) => format!("status {status} is not an expected one"),
        ProbeFailure::Header { .. } => "an expected response field is missing or different".to_owned(),
        ProbeFailure::Body => "the expected text is not in the body".to_owned(),
    }
}

impl<I: Io> Protocol<I> for Keeper {
    type Message = Message;

    fn on_start(&mut self, io: &mut I) {
        for (cluster, endpoints) in std::mem::take(&mut self.initial) {
            let seed = self.rng.next();
            if let Some(machine) = self.clusters.get_mut(cluster.0 as usize) {
                machine.set_endpoints(endpoints, io.now(), seed);
            }
        }
        self.carry_out(io);
    }

    fn on_accepted(&mut self, io: &mut I, conn: ConnId, _listener: ListenerId, _peer: Option<SocketAddr>) {
        io.close(conn, Close::Reset);
    }

    fn on_connected(&mut self, io: &mut I, conn: ConnId, result: Result<(), IoFault>) {
        match result {
            Ok(()) => self.send_probe(io, conn),
            Err(IoFault::Exhausted) => self.lose(io, conn),
            Err(fault) => {
                let failure = match fault {
                    IoFault::Refused => ProbeFailure::Refused,
                    IoFault::TimedOut => ProbeFailure::Timeout,
                    _ => ProbeFailure::ConnectFailed,
                };
                self.conclude(io, conn, false, Err(failure));
            }
        }
    }

    fn on_data(&mut self, io: &mut I, conn: ConnId, data: &[u8]) {
        let Some(probe) = self.probe(conn) else { return };
        if probe.bytes.len() + data.len() > BODY_PREFIX_MAX_BYTES + PROBE_HEAD_BYTES + 64 * 1024 {
            self.conclude(io, conn, true, Err(ProbeFailure::Malformed));
            return;
        }
        probe.bytes.extend_from_slice(data);
        if let Some(result) = Self::judge(probe, false) {
            self.conclude(io, conn, true, result);
        }
    }

    fn on_eof(&mut self, io: &mut I, conn: ConnId) {
        let Some(probe) = self.probe(conn) else { return };
        let result = Self::judge(probe, true).unwrap_or(Err(ProbeFailure::Closed));
        self.conclude(io, conn, true, result);
    }

    fn on_reset(&mut self, io: &mut I, conn: ConnId, _fault: IoFault) {
        self.conclude(io, conn, false, Err(ProbeFailure::Closed));
    }

    fn on_deadline(&mut self, _io: &mut I, _conn: ConnId) {
        // Probes are timed by the machine.
    }

    fn on_timer(&mut self, io: &mut I, key: u32) {
        if key == TIMER {
            let now: Instant = io.now();
            for cluster in &mut self.clusters {
                cluster.handle_timeout(now);
            }
            self.carry_out(io);
        }
    }

    fn on_message(&mut self, io: &mut I, message: Message) {
        let now = io.now();
        match message {
            Message::Endpoints(cluster, endpoints) => self.set_endpoints(io, cluster, endpoints),
            Message::Refused { cluster, endpoint } => {
                if let Some(machine) = self.clusters.get_mut(cluster.0 as usize) {
                    machine.handle_refused(endpoint, now);
                }
                self.carry_out(io);
            }
            Message::Failures { cluster, endpoint, count } => {
                if let Some(machine) = self.clusters.get_mut(cluster.0 as usize) {
                    machine.handle_consecutive(endpoint, count, now);
                }
                self.carry_out(io);
            }
            Message::Stop => io.stop(),
        }
    }
}
