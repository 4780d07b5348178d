//! From a routed request to a connection: pick an endpoint, get a place there, get a connection.

use std::rc::Rc;
use std::sync::Arc;

use weir_balance::Ask;
use weir_cluster::Waiter;
use weir_core::{ClusterId, Origin, Phase, Reason, Retry};
use weir_limit::Enqueued;
use weir_net::{ConnId, Io, IoFault};
use weir_pool_core::{Acquire, CloseReason};

use super::{ExchangeId, State};
use crate::conns::{Role, Upstream};
use crate::tcp::micros;
use crate::view::{EndpointRecord, LocalEndpoint};
use crate::worker::{Message, Worker};

impl Worker {
    /// The first attempt of a request.
    pub(crate) fn admit<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let config = Rc::clone(&self.view);
        if let Some(cluster) = config.snapshot.config.clusters.get(exchange.cluster as usize) {
            cluster.budget.deposit(self.id, io.now());
        }
        self.attempt(io, id);
    }

    /// One attempt: pick, then go for a place.
    fn attempt<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        match self.pick(io, id) {
            Some(local) => self.attempt_at(io, id, local),
            None => self.fail(io, id, Origin::Weir, Phase::Pick, Reason::NoEndpoint),
        }
    }

    /// The endpoint for the next attempt; `None` if there is none that it has not been at.
    pub(crate) fn pick<I: Io>(&mut self, io: &I, id: ExchangeId) -> Option<LocalEndpoint> {
        let seed = self.rng.next();
        let exchange = self.exchanges.get(id.0)?;
        let ask = Ask { now: io.now(), worker: self.id, key: exchange.key, seed, avoid: exchange.avoid };
        // A retry picks from the newest snapshot: the failure may just have changed it.
        let snapshot = self.view.snapshot.clusters.get(exchange.cluster as usize)?;
        let local = self.view.member(exchange.cluster, snapshot.pick(&ask)?)?;
        if snapshot.panic {
            self.stats.panic_picks.inc();
        }
        Some(local)
    }

    /// An attempt at an endpoint: go for a place there.
    pub(crate) fn attempt_at<I: Io>(&mut self, io: &mut I, id: ExchangeId, local: LocalEndpoint) {
        let view = Rc::clone(&self.view);
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let cluster = exchange.cluster;
        exchange.attempts = exchange.attempts.saturating_add(1);
        exchange.state = State::Starting;
        // One look at the clock for what takes a microsecond together; a wait below has its own.
        let stamp = io.clock();
        if exchange.attempts == 1 {
            exchange.times.stamp(Phase::Route, stamp);
            exchange.times.stamp(Phase::Admit, stamp);
        }
        exchange.times.stamp(Phase::Pick, stamp);
        exchange.sent_at = stamp;
        exchange.endpoint = Some(local);
        let Some(endpoint) = self.endpoints.get_mut(local) else { return };
        endpoint.refs += 1;
        endpoint.state.load.begin();
        if endpoint.state.permits.try_acquire() {
            exchange.permit = true;
            self.connection_for(io, id, local);
            return;
        }
        let waiter = Waiter {
            worker: self.id,
            conn: (exchange.client.index, exchange.client.generation),
            serial: exchange.serial,
        };
        match endpoint.state.permits.enqueue(waiter) {
            Enqueued::Acquired(_) => {
                exchange.permit = true;
                self.connection_for(io, id, local);
            }
            Enqueued::Waiting(ticket) => {
                exchange.state = State::Queued(ticket);
                let limit = &view.snapshot.config.clusters[cluster as usize].plan.limit;
                exchange.wait_deadline = (io.now() + limit.queue_timeout).min(exchange.hard_deadline);
                io.set_deadline(exchange.client, Some(exchange.wait_deadline));
                self.stats.pool_waits.inc();
            }
            Enqueued::Full(_) => self.fail(io, id, Origin::Weir, Phase::Acquire, Reason::PoolQueueFull),
        }
    }

    /// A release elsewhere handed a place to one of our exchanges.
    pub(crate) fn granted<I: Io>(&mut self, io: &mut I, cluster: ClusterId, endpoint: &EndpointRecord, waiter: Waiter) {
        let conn = ConnId { index: waiter.conn.0, generation: waiter.conn.1 };
        let id = self.conns.client(conn).and_then(|client| client.exchange);
        let waiting = id.and_then(|id| self.exchanges.get_mut(id.0).map(|exchange| (id, exchange)));
        if let Some((id, exchange)) = waiting
            && exchange.serial == waiter.serial
            && matches!(exchange.state, State::Queued(_))
            && let Some(local) = exchange.endpoint
        {
            exchange.permit = true;
            exchange.state = State::Starting;
            let stamp = io.clock();
            self.stats.pool_wait_time.observe(micros(stamp.since(exchange.sent_at)));
            exchange.sent_at = stamp;
            self.connection_for(io, id, local);
            return;
        }
        // The exchange ended while the grant was on its way, and could not take its place out of the line any more: the
        // place goes on to the next.
        self.release_place(cluster, endpoint);
    }

    /// Gives a place back; the head of the line gets it.
    pub(crate) fn release_permit(&mut self, local: LocalEndpoint) {
        let Some(endpoint) = self.endpoints.get(local) else { return };
        self.release_place(endpoint.cluster, &endpoint.state);
    }

    pub(crate) fn release_place(&self, cluster: ClusterId, endpoint: &EndpointRecord) {
        while let Some(waiter) = endpoint.permits.release() {
            let message = Message::Granted { cluster, endpoint: Arc::clone(endpoint), waiter };
            if self.shared.tell_worker(waiter.worker, message) {
                return;
            }
            // That worker is gone or drowned in messages: its exchange runs into its time-out, the place goes on.
        }
    }

    /// An exchange with a place gets a connection: an idle one, a new one, or it waits for one.
    pub(crate) fn connection_for<I: Io>(&mut self, io: &mut I, id: ExchangeId, local: LocalEndpoint) {
        let now = io.now();
        loop {
            let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
            let Some(endpoint) = self.endpoints.get_mut(local) else { return };
            let near_close = exchange.unrepeatable && endpoint.pool.is_near_close(now);
            // The idle connections of a pool tend to go stale together, and this request has met one already; or it must
            // not meet one.
            if exchange.fresh_only || near_close {
                match endpoint.pool.acquire_new(now, &endpoint.state.connections) {
                    Some(slot) => return self.open(io, id, local, slot),
                    None => exchange.fresh_only = false,
                }
            }
            match endpoint.pool.acquire(now, &endpoint.state.connections) {
                Acquire::Reuse(slot, conn) => {
                    // RFC 9112 section 9.3.1: a request that cannot be repeated must not meet a closing connection. One
                    // more system call, for those only.
                    if exchange.unrepeatable && !io.is_quiet(conn) {
                        endpoint.pool.peer_closed(slot, now);
                        self.discard_upstream(io, conn, CloseReason::PeerClosed);
                        continue;
                    }
                    if near_close {
                        // There was no place for a new one: this one makes room.
                        self.discard_upstream(io, conn, CloseReason::IdleTimeout);
                        continue;
                    }
                    exchange.upstream = Some(conn);
                    exchange.slot = Some(slot);
                    exchange.reused = true;
                    if let Some(upstream) = self.conns.upstream(conn) {
                        upstream.exchange = Some(id);
                    }
                    exchange.times.stamp(Phase::Acquire, exchange.sent_at);
                    // Nothing was opened, and what an earlier attempt took for that is over.
                    exchange.times.stamp(Phase::Connect, exchange.sent_at);
                    self.stats.pool_reused.inc();
                    self.send_request(io, id);
                    return;
                }
                Acquire::Connect(slot) => return self.open(io, id, local, slot),
                Acquire::Full if endpoint.pool.poll_timeout().is_some_and(|due| due <= now) => {
                    // Connections too old to be used still count until they are closed.
                    self.sweep_pool(io, local, now);
                }
                Acquire::Full => return self.wait_for_connection(io, id, local),
            }
        }
    }

    fn open<I: Io>(&mut self, io: &mut I, id: ExchangeId, local: LocalEndpoint, slot: weir_pool_core::SlotId) {
        let now = io.now();
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let Some(endpoint) = self.endpoints.get_mut(local) else { return };
        exchange.times.stamp(Phase::Acquire, io.clock());
        let conn = io.connect(&endpoint.state.endpoint.address, &endpoint.connect);
        endpoint.refs += 1;
        exchange.upstream = Some(conn);
        exchange.slot = Some(slot);
        exchange.reused = false;
        exchange.state = State::Connecting;
        let hard = exchange.hard_deadline;
        let client = exchange.client;
        let upstream = Upstream {
            endpoint: local,
            slot,
            exchange: Some(id),
            warm: false,
            stash: Vec::new(),
            connecting_since: now,
        };
        self.conns.put(conn, Role::Upstream(upstream));
        // The engine ends the connect in time; the client only has the whole request's deadline meanwhile.
        io.set_deadline(client, (hard < weir_core::Instant::FAR).then_some(hard));
    }

    /// The connect ended.
    pub(crate) fn upstream_connected<I: Io>(&mut self, io: &mut I, conn: ConnId, result: Result<(), IoFault>) {
        let now = io.now();
        let seed = self.rng.next();
        let Some(upstream) = self.conns.upstream(conn) else { return };
        let (local, slot, exchange, since, warm) =
            (upstream.endpoint, upstream.slot, upstream.exchange, upstream.connecting_since, upstream.warm);
        let Some(endpoint) = self.endpoints.get_mut(local) else { return };
        let shard = endpoint.state.ext.shard(self.id);
        if let Err(fault) = result {
            endpoint.pool.connect_failed(slot, &endpoint.state.connections);
            self.conns.take(conn);
            self.endpoints.unref(local);
            self.room_made(local);
            let reason = match fault {
                IoFault::Refused => Reason::ConnectRefused,
                IoFault::TimedOut => Reason::ConnectTimeout,
                _ => Reason::ConnectFailed,
            };
            self.evidence_of_connect(local, fault);
            if let Some(id) = exchange {
                if let Some(exchange) = self.exchanges.get_mut(id.0) {
                    exchange.upstream = None;
                    exchange.slot = None;
                }
                self.upstream_failed(io, id, Origin::Upstream, Phase::Connect, reason, Retry::NeverSent);
            }
            return;
        }
        shard.connected(micros(now.since(since)));
        self.stats.pool_opened.inc();
        endpoint.pool.connected(slot, conn, now, seed);
        match exchange {
            Some(id) => {
                if let Some(exchange) = self.exchanges.get_mut(id.0) {
                    exchange.sent_at = io.clock();
                    exchange.times.stamp(Phase::Connect, exchange.sent_at);
                    self.send_request(io, id);
                }
            }
            // Opened ahead of demand: it is idle in the pool now.
            None if warm => {
                self.serve_waiting(io, local);
                self.serve_owed(io, local);
            }
            // Its exchange has left meanwhile: somebody else will use it.
            None => self.park(io, conn, local, slot),
        }
    }
}
