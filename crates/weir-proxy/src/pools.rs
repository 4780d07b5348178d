//! This worker's connections to the endpoints: parking, closing, warming, and the exchange of idle connections
//! between workers when an endpoint's connection maximum is reached.
//!
//! The maximum counts connections of all workers, idle ones too. A worker whose exchange has a place but
//! finds the maximum reached asks the others (`Yield`); who has an idle connection gives it (`Adopt`), and who
//! has none owes one: the next that it would park or close is given, or makes room (`Room`). Since places are
//! never more than connections, one comes.

use weir_core::{ClusterId, EndpointId, Instant};
use weir_net::{Close, ConnId, Detached, Io};
use weir_pool_core::{CloseReason, ConnMeta, Quota, Released, SlotId};

use crate::conns::{Role, Upstream};
use crate::exchange::{ExchangeId, State};
use crate::tcp::micros;
use crate::view::LocalEndpoint;
use crate::worker::{Message, Worker};

/// Connections opened ahead of demand per endpoint and housekeeping, so that warming never storms an endpoint.
const WARM_BURST: u32 = 16;

impl Worker {
    /// The use of a connection is over and it is sound: it is parked, or given to whoever waits.
    pub(crate) fn park<I: Io>(&mut self, io: &mut I, conn: ConnId, local: LocalEndpoint, slot: SlotId) {
        let now = io.now();
        let Some(endpoint) = self.endpoints.get_mut(local) else { return };
        match endpoint.pool.release(slot, now) {
            Released::Kept => {
                io.resume(conn);
                self.serve_waiting(io, local);
                self.serve_owed(io, local);
            }
            Released::Close(reason) => self.discard_upstream(io, conn, reason),
        }
    }

    /// Closes a connection to an endpoint.
    pub(crate) fn discard_upstream<I: Io>(&mut self, io: &mut I, conn: ConnId, reason: CloseReason) {
        self.forget_upstream(conn, reason);
        io.close(conn, Close::Now);
    }

    /// Takes a connection that is closed (or about to be) out of the books.
    pub(crate) fn forget_upstream(&mut self, conn: ConnId, reason: CloseReason) {
        let Some(Role::Upstream(upstream)) = self.conns.take(conn) else { return };
        self.buffers.give(upstream.stash);
        let local = upstream.endpoint;
        if let Some(endpoint) = self.endpoints.get_mut(local) {
            endpoint.pool.remove(upstream.slot, &endpoint.state.connections, reason);
            if let Some(reason) = reason_for_stats(reason) {
                self.stats.pool_closed(reason);
            }
        }
        self.room_made(local);
        self.endpoints.unref(local);
    }

    /// A place for a connection became free: a waiting exchange here opens one, or a worker that asked is told.
    pub(crate) fn room_made(&mut self, local: LocalEndpoint) {
        let Some(endpoint) = self.endpoints.get_mut(local) else { return };
        let (cluster, id) = (endpoint.cluster, endpoint.state.id);
        if !endpoint.waiting.is_empty() {
            // Not from within whatever closed the connection: as an event of its own.
            self.shared.tell_worker(self.id, Message::Room { cluster, endpoint: id });
        } else if let Some(worker) = endpoint.owed.pop_front() {
            self.shared.tell_worker(worker, Message::Room { cluster, endpoint: id });
        }
    }

    /// The connection maximum is reached: the exchange waits for a connection of this or another worker.
    pub(crate) fn wait_for_connection<I: Io>(&mut self, io: &mut I, id: ExchangeId, local: LocalEndpoint) {
        let config = &self.view.snapshot.config;
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let Some(endpoint) = self.endpoints.get_mut(local) else { return };
        exchange.state = State::WaitingForConnection;
        self.stats.pool_waits.inc();
        endpoint.waiting.push_back((id, exchange.client));
        let (cluster, endpoint_id) = (endpoint.cluster, endpoint.state.id);
        if let Some(plan) = config.clusters.get(exchange.cluster as usize) {
            let deadline = (io.now() + plan.plan.limit.queue_timeout).min(exchange.hard_deadline);
            io.set_deadline(exchange.client, Some(deadline));
        }
        for worker in (0..self.shared.workers()).filter(|&worker| worker != self.id) {
            let message = Message::Yield { cluster, endpoint: endpoint_id, worker: self.id };
            self.shared.tell_worker(worker, message);
        }
        // It may have become free before the others were asked.
        self.shared.tell_worker(self.id, Message::Room { cluster, endpoint: endpoint_id });
    }

    /// Lets exchanges that wait for a connection try again.
    pub(crate) fn serve_waiting<I: Io>(&mut self, io: &mut I, local: LocalEndpoint) {
        let Some(endpoint) = self.endpoints.get_mut(local) else { return };
        let free =
            endpoint.pool.stats().idle > 0 || endpoint.state.connections.granted() < endpoint.state.connections.0.max();
        if !free {
            return;
        }
        let Some((id, client)) = endpoint.waiting.pop_front() else { return };
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        if exchange.client == client && matches!(exchange.state, State::WaitingForConnection) {
            exchange.state = State::Starting;
            let stamp = io.clock();
            self.stats.pool_wait_time.observe(micros(stamp.since(exchange.sent_at)));
            exchange.sent_at = stamp;
            self.connection_for(io, id, local);
        }
    }

    /// Another worker needs a connection.
    pub(crate) fn yield_connection<I: Io>(
        &mut self,
        io: &mut I,
        cluster: ClusterId,
        endpoint: EndpointId,
        worker: usize,
    ) {
        let Some(local) = self.endpoints.find(cluster, endpoint) else { return };
        let Some(entry) = self.endpoints.get_mut(local) else { return };
        if entry.owed.len() < self.shared.workers() && !entry.owed.contains(&worker) {
            entry.owed.push_back(worker);
        }
        self.serve_owed(io, local);
    }

    /// Gives an idle connection to a worker that asked for one.
    fn serve_owed<I: Io>(&mut self, io: &mut I, local: LocalEndpoint) {
        let now = io.now();
        loop {
            let Some(endpoint) = self.endpoints.get_mut(local) else { return };
            if endpoint.owed.is_empty() || !endpoint.waiting.is_empty() {
                return;
            }
            let Some((_, conn, meta)) = endpoint.pool.take_idle(now) else { return };
            let worker = endpoint.owed.pop_front();
            let (cluster, id) = (endpoint.cluster, endpoint.state.id);
            self.conns.take(conn);
            let detached = io.detach(conn);
            let Some(worker) = worker else { return };
            let sent = match detached {
                Some(conn) => self.shared.tell_worker(worker, Message::Adopt { cluster, endpoint: id, conn, meta }),
                None => false,
            };
            if !sent {
                // The connection is closed with the message; its place goes back.
                if let Some(endpoint) = self.endpoints.get(local) {
                    endpoint.state.connections.give_back();
                }
                self.shared.tell_worker(worker, Message::Room { cluster, endpoint: id });
            }
            self.endpoints.unref(local);
        }
    }

    /// A connection from another worker.
    pub(crate) fn adopt_connection<I: Io>(
        &mut self,
        io: &mut I,
        cluster: ClusterId,
        endpoint: EndpointId,
        conn: Detached,
        meta: ConnMeta,
    ) {
        let now = io.now();
        let Some(local) = self.endpoints.find(cluster, endpoint) else { return };
        let Some(entry) = self.endpoints.get_mut(local) else { return };
        let Some(conn) = io.attach(conn) else {
            entry.state.connections.give_back();
            self.serve_waiting(io, local);
            return;
        };
        let slot = entry.pool.adopt(conn, meta, now);
        entry.refs += 1;
        let upstream =
            Upstream { endpoint: local, slot, exchange: None, warm: false, stash: Vec::new(), connecting_since: now };
        self.conns.put(conn, Role::Upstream(upstream));
        self.park(io, conn, local, slot);
    }

    /// The connection maximum may have room again.
    pub(crate) fn room_for_connection<I: Io>(&mut self, io: &mut I, cluster: ClusterId, endpoint: EndpointId) {
        if let Some(local) = self.endpoints.find(cluster, endpoint) {
            self.serve_waiting(io, local);
        }
    }

    /// Closes every idle connection of an endpoint; busy ones are closed at their return.
    pub(crate) fn empty_pool<I: Io>(&mut self, io: &mut I, local: LocalEndpoint) {
        if let Some(endpoint) = self.endpoints.get_mut(local) {
            endpoint.pool.drain();
        }
        self.sweep_pool(io, local, io.now());
    }

    /// Housekeeping of all pools.
    pub(crate) fn sweep_pools<I: Io>(&mut self, io: &mut I, now: Instant) {
        for local in self.endpoints.places() {
            self.sweep_pool(io, local, now);
            if let Some(endpoint) = self.endpoints.get(local) {
                let stats = endpoint.pool.stats();
                let shard = endpoint.state.ext.shard(self.id);
                shard.connections_idle.set(i64::from(stats.idle));
                shard.connections_open.set(i64::from(stats.idle + stats.busy + stats.connecting));
            }
        }
    }

    pub(crate) fn sweep_pool<I: Io>(&mut self, io: &mut I, local: LocalEndpoint, now: Instant) {
        let config = &self.view.snapshot.config;
        let workers = self.shared.workers().max(1);
        let Some(endpoint) = self.endpoints.get_mut(local) else { return };
        let max_idle = config.clusters.get(endpoint.cluster.0 as usize).map_or(0, |cluster| cluster.plan.pool.max_idle);
        let share = (max_idle as usize).div_ceil(workers);
        let mut closing = Vec::new();
        endpoint.pool.sweep(now, share, &mut |_, conn, reason| closing.push((conn, reason)));
        for (conn, reason) in closing {
            self.discard_upstream(io, conn, reason);
        }
    }

    /// Opens connections ahead of demand where a minimum is configured.
    pub(crate) fn warm_pools<I: Io>(&mut self, io: &mut I) {
        if self.draining {
            return;
        }
        let now = io.now();
        for local in self.endpoints.places() {
            for _ in 0..WARM_BURST {
                let Some(endpoint) = self.endpoints.get_mut(local) else { break };
                if !endpoint.listed || endpoint.state.is_down() || endpoint.pool.want_warm(now) == 0 {
                    break;
                }
                let Some(slot) = endpoint.pool.warm(&endpoint.state.connections) else { break };
                let conn = io.connect(&endpoint.state.endpoint.address, &endpoint.connect);
                endpoint.refs += 1;
                let upstream = Upstream {
                    endpoint: local,
                    slot,
                    exchange: None,
                    warm: true,
                    stash: Vec::new(),
                    connecting_since: now,
                };
                self.conns.put(conn, Role::Upstream(upstream));
            }
        }
    }
}

fn reason_for_stats(reason: CloseReason) -> Option<weir_telemetry::CloseReason> {
    use weir_telemetry::CloseReason as Counted;
    Some(match reason {
        CloseReason::PeerClosed => Counted::Peer,
        CloseReason::Failed => Counted::Error,
        CloseReason::IdleTimeout => Counted::IdleTimeout,
        CloseReason::Lifetime => Counted::Lifetime,
        CloseReason::MaxUses => Counted::Uses,
        CloseReason::Trimmed => Counted::Surplus,
        CloseReason::Drained => Counted::EndpointGone,
        CloseReason::Shutdown => Counted::Shutdown,
        // Still open, on another worker.
        CloseReason::Moved => return None,
    })
}
