//! Plain TCP listeners: a connection is a session with one endpoint, chosen as for a request; the bytes are moved
//! by the kernel, both ways, until both sides have ended.
//!
//! An endpoint that cannot be connected to is avoided and another one tried: until then no byte of the client has been
//! read.

use std::net::SocketAddr;
use std::rc::Rc;

use weir_balance::{Ask, Avoid};
use weir_core::{EndCode, Instant, Origin, Phase, PhaseTimes, Reason};
use weir_net::{Close, ConnId, Io, IoFault, PumpEnd};
use weir_telemetry::{Protocol, Record};

use crate::conns::Role;
use crate::runtime::ListenerKind;
use crate::view::LocalEndpoint;
use crate::worker::Worker;

/// Endpoints without a free place that a session passes by before it is refused.
const FULL_ENDPOINTS_TRIED: usize = 8;

/// Position of a session in its worker's slab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SessionId(pub(crate) u32);

/// One TCP session.
#[derive(Debug)]
pub(crate) struct Session {
    listener: u32,
    cluster: u32,
    peer: Option<SocketAddr>,
    client: ConnId,
    upstream: Option<ConnId>,
    endpoint: Option<LocalEndpoint>,
    permit: bool,
    attempts: u32,
    avoid: Avoid,
    key: Option<u64>,
    times: PhaseTimes,
    connecting_since: Instant,
    /// Which directions have ended: client's, endpoint's.
    ends: (bool, bool),
    bytes_in: u64,
    bytes_out: u64,
    mark: u64,
}

impl Worker {
    /// A client on a TCP listener.
    pub(crate) fn accept_session<I: Io>(&mut self, io: &mut I, conn: ConnId, listener: u32, peer: Option<SocketAddr>) {
        let view = Rc::clone(&self.view);
        let Some(config) = view.snapshot.config.listeners.get(listener as usize) else { return };
        let ListenerKind::Tcp(cluster) = config.kind else { return };
        // Bytes wait in the kernel until there is somebody to give them to.
        io.pause(conn);
        // A TCP session has nothing but its address to hash.
        let balance = view.snapshot.config.clusters.get(cluster.0 as usize).map(|cluster| &cluster.plan.balance);
        let key = balance.zip(peer).map(|(balance, peer)| balance.hash_ip(peer.ip().to_canonical()));
        let session = Session {
            listener,
            cluster: cluster.0,
            peer,
            client: conn,
            upstream: None,
            endpoint: None,
            permit: false,
            attempts: 0,
            avoid: Avoid::NONE,
            key,
            times: PhaseTimes::starting(io.now()),
            connecting_since: io.now(),
            ends: (false, false),
            bytes_in: 0,
            bytes_out: 0,
            mark: 0,
        };
        let id = SessionId(self.sessions.insert(session));
        self.conns.put(conn, Role::Tcp { session: id, client_side: true });
        self.stats.tcp_open.inc();
        self.connect_session(io, id, Reason::NoEndpoint);
    }

    /// One attempt: pick an endpoint and connect. `reason` is what is reported if there is none.
    fn connect_session<I: Io>(&mut self, io: &mut I, id: SessionId, reason: Reason) {
        let view = Rc::clone(&self.view);
        let seed = self.rng.next();
        // As many as `Avoid` can hold: then every endpoint seen was full.
        for _ in 0..FULL_ENDPOINTS_TRIED {
            let Some(session) = self.sessions.get_mut(id.0) else { return };
            let ask = Ask { now: io.now(), worker: self.id, key: session.key, seed, avoid: session.avoid };
            let cluster = session.cluster;
            let local = view.snapshot.clusters[cluster as usize].pick(&ask).and_then(|at| view.member(cluster, at));
            let Some(local) = local else {
                self.end_session(io, id, Some((Origin::Weir, Phase::Pick, reason)));
                return;
            };
            session.times.stamp(Phase::Pick, io.clock());
            let Some(endpoint) = self.endpoints.get_mut(local) else { return };
            if !endpoint.state.permits.try_acquire() {
                // A session has no use for a place much later: another endpoint is better, or a clear refusal.
                session.avoid.add(endpoint.state.id);
                continue;
            }
            session.attempts += 1;
            session.permit = true;
            session.endpoint = Some(local);
            session.connecting_since = io.now();
            endpoint.refs += 1;
            endpoint.state.load.begin();
            let conn = io.connect(&endpoint.state.endpoint.address, &endpoint.connect);
            session.upstream = Some(conn);
            self.conns.put(conn, Role::Tcp { session: id, client_side: false });
            return;
        }
        self.end_session(io, id, Some((Origin::Weir, Phase::Acquire, Reason::PoolQueueFull)));
    }

    pub(crate) fn session_connected<I: Io>(
        &mut self,
        io: &mut I,
        id: SessionId,
        conn: ConnId,
        result: Result<(), IoFault>,
    ) {
        let config = Rc::clone(&self.view);
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        let Some(local) = session.endpoint else { return };
        match result {
            Ok(()) => {
                session.times.stamp(Phase::Connect, io.clock());
                let (client, since) = (session.client, session.connecting_since);
                if let Some(endpoint) = self.endpoints.get(local) {
                    let shard = endpoint.state.ext.shard(self.id);
                    shard.connected(micros(io.now().since(since)));
                    endpoint.state.failures.record_success();
                }
                io.resume(client);
                if !(io.pump(client, conn, None) && io.pump(conn, client, None)) {
                    self.end_session(io, id, Some((Origin::Downstream, Phase::Connect, Reason::ClientGone)));
                    return;
                }
                self.session_waits(io, id);
            }
            Err(fault) => {
                session.upstream = None;
                let reason = match fault {
                    IoFault::Refused => Reason::ConnectRefused,
                    IoFault::TimedOut => Reason::ConnectTimeout,
                    _ => Reason::ConnectFailed,
                };
                let attempts = session.attempts;
                self.conns.take(conn);
                if let Some(endpoint) = self.endpoints.get(local) {
                    endpoint.state.ext.shard(self.id).failed(reason);
                    if let Some(session) = self.sessions.get_mut(id.0) {
                        session.avoid.add(endpoint.state.id);
                    }
                }
                self.evidence_of_connect(local, fault);
                self.release_session_endpoint(id);
                let cluster = &config.snapshot.config.clusters;
                let retry = self
                    .sessions
                    .get(id.0)
                    .and_then(|session| cluster.get(session.cluster as usize))
                    .is_some_and(|cluster| attempts < cluster.plan.retry.attempts);
                if retry {
                    self.connect_session(io, id, reason);
                } else {
                    self.end_session(io, id, Some((Origin::Upstream, Phase::Connect, reason)));
                }
            }
        }
    }

    /// A pump of a session ended.
    pub(crate) fn session_pumped<I: Io>(
        &mut self,
        io: &mut I,
        id: SessionId,
        client_side: bool,
        moved: u64,
        end: PumpEnd,
    ) {
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        if client_side {
            session.bytes_in += moved;
        } else {
            session.bytes_out += moved;
        }
        let (source, sink) =
            if client_side { (Origin::Downstream, Origin::Upstream) } else { (Origin::Upstream, Origin::Downstream) };
        match end {
            PumpEnd::Eof | PumpEnd::Done => self.session_side_done(io, id, client_side),
            PumpEnd::SourceFault(_) => {
                let conn = if client_side { Some(session.client) } else { session.upstream.take() };
                if let Some(conn) = conn {
                    self.conns.take(conn);
                }
                let reason = if client_side { Reason::ClientGone } else { Reason::UpstreamReset };
                self.end_session(io, id, Some((source, Phase::Relay, reason)));
            }
            PumpEnd::SinkFault(_) => {
                let reason = if client_side { Reason::UpstreamReset } else { Reason::ClientGone };
                self.end_session(io, id, Some((sink, Phase::Relay, reason)));
            }
        }
    }

    fn session_side_done<I: Io>(&mut self, io: &mut I, id: SessionId, client_side: bool) {
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        let to = if client_side { session.upstream } else { Some(session.client) };
        if let Some(to) = to {
            io.shutdown_write(to);
        }
        if client_side {
            session.ends.0 = true;
        } else {
            session.ends.1 = true;
        }
        if session.ends == (true, true) {
            self.end_session(io, id, None);
        } else {
            self.session_waits(io, id);
        }
    }

    /// Data between two pumps: there is none, since both directions are pumped from the start.
    pub(crate) fn session_data<I: Io>(&mut self, io: &mut I, id: SessionId, _client_side: bool, _data: &[u8]) {
        self.end_session(io, id, Some((Origin::Weir, Phase::Relay, Reason::Internal)));
    }

    pub(crate) fn session_eof<I: Io>(&mut self, io: &mut I, id: SessionId, client_side: bool) {
        self.session_side_done(io, id, client_side);
    }

    pub(crate) fn session_reset<I: Io>(&mut self, io: &mut I, id: SessionId, client_side: bool) {
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        let (origin, reason) = if client_side {
            (Origin::Downstream, Reason::ClientGone)
        } else {
            (Origin::Upstream, Reason::UpstreamReset)
        };
        let conn = if client_side { Some(session.client) } else { session.upstream.take() };
        if let Some(conn) = conn {
            self.conns.take(conn);
        }
        self.end_session(io, id, Some((origin, Phase::Relay, reason)));
    }

    pub(crate) fn session_deadline<I: Io>(&mut self, io: &mut I, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        let upstream = session.upstream.map_or(0, |upstream| io.pumped(upstream));
        let mark = io.pumped(session.client).wrapping_add(upstream);
        if mark == session.mark {
            self.end_session(io, id, Some((Origin::Weir, Phase::Relay, Reason::TunnelIdle)));
        } else {
            session.mark = mark;
            self.session_waits(io, id);
        }
    }

    fn session_waits<I: Io>(&mut self, io: &mut I, id: SessionId) {
        let config = &self.view.snapshot.config;
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        if let Some(cluster) = config.clusters.get(session.cluster as usize) {
            io.set_deadline(session.client, Some(io.now() + cluster.plan.timeouts.tunnel_idle));
        }
    }

    fn release_session_endpoint(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        let Some(local) = session.endpoint.take() else { return };
        let permit = std::mem::take(&mut session.permit);
        if let Some(endpoint) = self.endpoints.get(local) {
            endpoint.state.load.end();
        }
        if permit {
            self.release_permit(local);
        }
        self.endpoints.unref(local);
    }

    fn end_session<I: Io>(&mut self, io: &mut I, id: SessionId, fault: Option<(Origin, Phase, Reason)>) {
        let endpoint = self.sessions.get(id.0).and_then(|session| session.endpoint);
        let name =
            endpoint.and_then(|local| self.endpoints.get(local)).map(|e| std::sync::Arc::clone(&e.state.endpoint.name));
        self.release_session_endpoint(id);
        let Some(mut session) = self.sessions.remove(id.0) else { return };
        let how = if fault.is_some() { Close::Reset } else { Close::Now };
        for conn in [Some(session.client), session.upstream].into_iter().flatten() {
            if self.conns.take(conn).is_some() {
                io.close(conn, how);
            }
        }
        let config = &self.view.snapshot.config;
        if let Some(listener) = config.listeners.get(session.listener as usize) {
            listener.connections.give_back();
        }
        self.stats.open.dec();
        self.stats.tcp_open.dec();
        session.times.stamp(Phase::Relay, io.clock());
        let record = Record {
            start: io.wall(),
            times: &session.times,
            peer: session.peer,
            client: session.peer.map(|peer| peer.ip()),
            listener: config.listeners.get(session.listener as usize).map_or("", |listener| &listener.name),
            method: b"",
            target: b"",
            host: b"",
            protocol: Protocol::Tcp,
            status: 0,
            bytes_in: session.bytes_in,
            bytes_out: session.bytes_out,
            route: None,
            cluster: config.clusters.get(session.cluster as usize).map(|cluster| &*cluster.plan.name),
            endpoint: name.as_deref(),
            attempts: session.attempts,
            end: fault.map_or(EndCode::COMPLETE, |(origin, phase, _)| EndCode::by(origin, phase)),
            reason: fault.map(|(_, _, reason)| reason),
            request_id: b"",
            user_agent: b"",
            referer: b"",
        };
        self.stats.record_tcp(&record);
        if let Some(log) = &mut self.access_log {
            log.log(&record);
        }
        self.finish_drain(io);
    }
}

/// Whole microseconds, saturating.
pub(crate) fn micros(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
