//! One worker: the protocol that the engine drives. It dispatches events to the step of the exchange that
//! waits for them; what a step does is in `exchange/`.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use weir_cluster::Waiter;
use weir_core::hash::Rng;
use weir_core::{ClusterId, EndpointId};
use weir_net::{Close, ConnId, Detached, Io, IoFault, ListenerId, Protocol, PumpEnd};
use weir_pool_core::{CloseReason, ConnMeta};
use weir_telemetry::{AccessLogWriter, WorkerStats};

use crate::buffers::Buffers;
use crate::conns::{Conns, Role};
use crate::date::DateCache;
use crate::exchange::{Exchange, ExchangeId};
use crate::log::LogFields;
use crate::runtime::{ListenerKind, Shared};
use crate::slab::Slab;
use crate::tcp::Session;
pub use crate::view::EndpointRecord;
use crate::view::{Endpoints, LocalEndpoint, View};

/// How often a worker trims pools and buffers and looks after what has no deadline of its own.
pub(crate) const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How long a connection that Weir closes is read on, so that the client gets the last response.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

const TIMER_HOUSEKEEPING: u32 = 0;
/// Looks whether the last responses of a drain have left.
const TIMER_DRAIN: u32 = 1;
/// How often it does.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// What other threads tell a worker.
#[derive(Debug)]
pub enum Message {
    /// The published snapshot has changed.
    Refresh,
    /// A place at an endpoint was handed to one of this worker's exchanges.
    Granted {
        /// Whose place it is.
        cluster: ClusterId,
        /// Whose place it is: the record itself, since the endpoint may have left the configuration meanwhile.
        endpoint: EndpointRecord,
        /// Who waited.
        waiter: Waiter,
    },
    /// Another worker needs a connection to an endpoint whose connection maximum is reached.
    Yield {
        /// To which endpoint.
        cluster: ClusterId,
        /// To which endpoint: the record itself, since the endpoint may have left the configuration meanwhile.
        endpoint: EndpointRecord,
        /// The worker that asks.
        worker: usize,
    },
    /// Here is one.
    Adopt {
        /// To which endpoint.
        cluster: ClusterId,
        /// To which endpoint: the record itself, since the endpoint may have left the configuration meanwhile.
        endpoint: EndpointRecord,
        /// The connection.
        conn: Detached,
        /// Its age and uses.
        meta: ConnMeta,
    },
    /// A connection was closed that another worker had been asked for: the maximum has room.
    Room {
        /// At which endpoint.
        cluster: ClusterId,
        /// At which endpoint.
        endpoint: EndpointId,
    },
    /// A graceful stop begins.
    Drain,
    /// End the loop.
    Stop,
}

/// See the module.
#[derive(Debug)]
pub struct Worker {
    pub(crate) id: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) view: Rc<View>,
    pub(crate) endpoints: Endpoints,
    pub(crate) conns: Conns,
    pub(crate) exchanges: Slab<Exchange>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) buffers: Buffers,
    /// Heads and small bodies on their way out.
    pub(crate) scratch: Vec<u8>,
    /// Paths that were not in normal form.
    pub(crate) path_scratch: Vec<u8>,
    /// Clients that go on with what they sent ahead.
    pub(crate) ready: Vec<ConnId>,
    pub(crate) rng: Rng,
    pub(crate) serial: u32,
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) access_log: Option<AccessLogWriter>,
    pub(crate) draining: bool,
    /// The loop ends with this batch.
    stopped: bool,
    /// Listeners are open: not before the first snapshot with endpoints.
    accepting: bool,
    /// `Date` of the current second.
    pub(crate) date: DateCache,
    /// HTTP clients connected.
    pub(crate) open_clients: usize,
    /// Events of the batch under way.
    pub(crate) events: u32,
    /// Buffers of the access log's fields, reused.
    #[allow(clippy::vec_box, reason = "the boxes are what is reused: an exchange holds one only while the log is on")]
    pub(crate) log_fields: Vec<Box<LogFields>>,
}

impl Worker {
    /// Worker number `id`. `seed` decides its random choices.
    pub fn new(id: usize, shared: Arc<Shared>, seed: u64, access_log: Option<AccessLogWriter>) -> Self {
        let mut endpoints = Endpoints::new(id, shared.workers());
        let generation = shared.generation();
        let (view, _) = endpoints.adopt(shared.snapshot(), generation);
        let stats = Arc::clone(&shared.stats[id]);
        Self {
            id,
            view: Rc::new(view),
            endpoints,
            conns: Conns::default(),
            exchanges: Slab::new(),
            sessions: Slab::new(),
            buffers: Buffers::default(),
            scratch: Vec::with_capacity(16 * 1024),
            path_scratch: Vec::new(),
            ready: Vec::new(),
            rng: Rng::new(seed ^ (id as u64).wrapping_mul(0xA076_1D64_78BD_642F)),
            serial: 0,
            stats,
            access_log,
            draining: false,
            stopped: false,
            accepting: true,
            date: DateCache::default(),
            open_clients: 0,
            events: 0,
            log_fields: Vec::new(),
            shared,
        }
    }

    /// Takes up a newly published snapshot, if there is one.
    fn refresh<I: Io>(&mut self, io: &mut I) {
        let generation = self.shared.generation();
        if generation == self.view.generation {
            return;
        }
        let (view, gone) = self.endpoints.adopt(self.shared.snapshot(), generation);
        self.view = Rc::new(view);
        self.set_accepting(io, true);
        for local in gone {
            self.empty_pool(io, local);
            self.endpoints.reap(local);
        }
        let unhealthy: Vec<LocalEndpoint> = self
            .endpoints
            .iter_mut()
            .filter(|(_, e)| e.state.is_down() && e.pool.stats().idle > 0)
            .map(|(l, _)| l)
            .collect();
        for local in unhealthy {
            self.empty_pool(io, local);
        }
        self.warm_pools(io);
    }

    fn set_accepting<I: Io>(&mut self, io: &mut I, on: bool) {
        if self.accepting != on {
            self.accepting = on;
            for index in 0..self.view.snapshot.config.listeners.len() {
                io.set_accepting(ListenerId(index as u32), on);
            }
        }
    }

    fn housekeep<I: Io>(&mut self, io: &mut I) {
        let now = io.now();
        self.sweep_pools(io, now);
        self.warm_pools(io);
        self.buffers.housekeep();
        self.exchanges.shrink();
        self.scratch.shrink_to(16 * 1024);
        if let Some(log) = &mut self.access_log {
            log.flush();
        }
        self.finish_drain(io);
        io.set_timer(TIMER_HOUSEKEEPING, Some(now + HOUSEKEEPING));
    }

    /// A graceful stop: nobody new, idle clients go, requests in flight finish.
    fn drain<I: Io>(&mut self, io: &mut I) {
        if self.draining {
            return;
        }
        self.draining = true;
        for index in 0..self.view.snapshot.config.listeners.len() {
            io.stop_listening(ListenerId(index as u32));
        }
        let idle: Vec<ConnId> = self
            .conns
            .clients()
            .filter(|(_, client)| client.exchange.is_none() && client.stash.is_empty() && client.requests > 0)
            .map(|(id, _)| id)
            .collect();
        for id in idle {
            self.close_client(io, id, Close::Linger(LINGER));
        }
        self.finish_drain(io);
    }

    /// Stops the loop when a drain has nothing left to wait for: no client, no session, and no connection that
    /// still gives its last bytes to a client.
    pub(crate) fn finish_drain<I: Io>(&mut self, io: &mut I) {
        if !self.draining || self.open_clients != 0 || self.sessions.len() != 0 {
            return;
        }
        if io.lingering() > 0 {
            // Clients that have not read the end of their response yet would be cut.
            io.set_timer(TIMER_DRAIN, Some(io.now() + DRAIN_LOOK));
            return;
        }
        // Other workers may wait for these connections' places.
        let upstreams: Vec<ConnId> = self.conns.upstreams().collect();
        for conn in upstreams {
            self.discard_upstream(io, conn, CloseReason::Shutdown);
        }
        self.stop(io);
    }

    fn stop<I: Io>(&mut self, io: &mut I) {
        if let Some(log) = &mut self.access_log {
            log.flush();
        }
        self.stopped = true;
        io.stop();
    }

    /// A message that finds the worker stopped: what it brings or asks for is somebody else's.
    fn pass_on(&self, message: Message) {
        match message {
            Message::Granted { cluster, endpoint, .. } => self.release_place(cluster, &endpoint),
            Message::Adopt { cluster, endpoint, .. } => self.return_connection(cluster, &endpoint),
            Message::Yield { cluster, endpoint, worker } => {
                // Its connections are closed: there may be room.
                self.shared.tell_worker(worker, Message::Room { cluster, endpoint: endpoint.id });
            }
            Message::Refresh | Message::Room { .. } | Message::Drain | Message::Stop => {}
        }
    }

    pub(crate) fn exchange(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        self.exchanges.get_mut(id.0)
    }
}

impl<I: Io> Protocol<I> for Worker {
    type Message = Message;

    fn upcoming(&self, io: &I, conns: &[ConnId]) {
        self.look_ahead(io, conns);
    }

    fn on_start(&mut self, io: &mut I) {
        let now = io.now();
        io.set_timer(TIMER_HOUSEKEEPING, Some(now + HOUSEKEEPING));
        if self.view.generation == Shared::UNPUBLISHED {
            // The keeper has not entered the endpoints yet: clients wait a moment instead of being refused.
            self.set_accepting(io, false);
            self.refresh(io);
        }
        self.warm_pools(io);
    }

    fn on_accepted(&mut self, io: &mut I, conn: ConnId, listener: ListenerId, peer: Option<SocketAddr>) {
        self.events += 1;
        self.stats.accepted.inc();
        let Some(config) = self.view.snapshot.config.listeners.get(listener.0 as usize) else {
            io.close(conn, Close::Reset);
            return;
        };
        let is_http = matches!(config.kind, ListenerKind::Http(_));
        if !config.connections.try_take() {
            self.stats.rejected.inc();
            self.refuse(io, conn, is_http);
            return;
        }
        self.stats.open.inc();
        if is_http {
            self.accept_client(io, conn, listener.0, peer);
        } else {
            self.accept_session(io, conn, listener.0, peer);
        }
    }

    fn on_connected(&mut self, io: &mut I, conn: ConnId, result: Result<(), IoFault>) {
        self.events += 1;
        match self.conns.role(conn) {
            Some(Role::Upstream(_)) => self.upstream_connected(io, conn, result),
            Some(&mut Role::Tcp { session, .. }) => self.session_connected(io, session, conn, result),
            _ => {}
        }
        self.go_on(io);
    }

    fn on_data(&mut self, io: &mut I, conn: ConnId, data: &[u8]) {
        self.events += 1;
        match self.conns.role(conn) {
            Some(Role::Client(_)) => self.client_data(io, conn, data),
            Some(Role::Upstream(_)) => self.upstream_data(io, conn, data),
            // Both sides of a session are pumped; data can only come between two pumps.
            Some(&mut Role::Tcp { session, client_side }) => self.session_data(io, session, client_side, data),
            _ => {}
        }
        self.go_on(io);
    }

    fn on_eof(&mut self, io: &mut I, conn: ConnId) {
        self.events += 1;
        match self.conns.role(conn) {
            Some(Role::Client(_)) => self.client_eof(io, conn),
            Some(Role::Upstream(_)) => self.upstream_eof(io, conn),
            Some(&mut Role::Tcp { session, client_side }) => self.session_eof(io, session, client_side),
            _ => {}
        }
        self.go_on(io);
    }

    fn on_drained(&mut self, io: &mut I, conn: ConnId) {
        self.events += 1;
        match self.conns.role(conn) {
            Some(Role::Client(_)) => self.client_drained(io, conn),
            Some(Role::Upstream(_)) => self.upstream_drained(io, conn),
            _ => {}
        }
        self.go_on(io);
    }

    fn on_pumped(&mut self, io: &mut I, from: ConnId, moved: u64, end: PumpEnd) {
        self.events += 1;
        match self.conns.role(from) {
            Some(Role::Client(_)) => self.client_pumped(io, from, moved, end),
            Some(Role::Upstream(_)) => self.upstream_pumped(io, from, moved, end),
            Some(&mut Role::Tcp { session, client_side }) => self.session_pumped(io, session, client_side, moved, end),
            _ => {}
        }
        self.go_on(io);
    }

    fn on_reset(&mut self, io: &mut I, conn: ConnId, fault: IoFault) {
        self.events += 1;
        match self.conns.role(conn) {
            Some(Role::Client(_)) => self.client_reset(io, conn),
            Some(Role::Upstream(_)) => self.upstream_reset(io, conn, fault),
            Some(&mut Role::Tcp { session, client_side }) => self.session_reset(io, session, client_side),
            _ => {}
        }
        self.go_on(io);
    }

    fn on_deadline(&mut self, io: &mut I, conn: ConnId) {
        self.events += 1;
        match self.conns.role(conn) {
            Some(Role::Client(_)) => self.client_deadline(io, conn),
            Some(&mut Role::Tcp { session, .. }) => self.session_deadline(io, session),
            _ => {}
        }
        self.go_on(io);
    }

    fn on_timer(&mut self, io: &mut I, key: u32) {
        match key {
            TIMER_HOUSEKEEPING => self.housekeep(io),
            TIMER_DRAIN => self.finish_drain(io),
            _ => {}
        }
    }

    fn on_message(&mut self, io: &mut I, message: Message) {
        self.stats.loop_messages.inc();
        if self.stopped {
            return self.pass_on(message);
        }
        match message {
            Message::Refresh => self.refresh(io),
            Message::Granted { cluster, endpoint, waiter } => self.granted(io, cluster, &endpoint, waiter),
            Message::Yield { cluster, endpoint, worker } => self.yield_connection(io, cluster, &endpoint, worker),
            Message::Adopt { cluster, endpoint, conn, meta } => {
                self.adopt_connection(io, cluster, &endpoint, conn, meta);
            }
            Message::Room { cluster, endpoint } => self.room_for_connection(io, cluster, endpoint),
            Message::Drain => self.drain(io),
            Message::Stop => self.stop(io),
        }
        self.go_on(io);
    }

    fn on_batch(&mut self, io: &mut I) {
        self.stats.loop_wakeups.inc();
        self.stats.loop_events.add(u64::from(std::mem::take(&mut self.events)));
        self.refresh(io);
        if self.shared.is_draining() && !self.draining {
            self.drain(io);
        }
        self.go_on(io);
        if !self.ready.is_empty() {
            // More than one burst: the others get their turn first.
            self.shared.tell_worker(self.id, Message::Refresh);
        }
    }
}
