//! This worker's connections to the endpoints: parking, closing, warming, and the exchange of idle connections
//! between workers when an endpoint's connection maximum is reached.
//!
//! The maximum counts connections of all workers, idle ones too. A worker whose exchange has a place but
//! finds the maximum reached asks the others (`Yield`); who has an idle connection gives it (`Adopt`), and who
//! has none owes one: the next that it would park or close is given, or makes room (`Room`). Since places are
//! never more than connections, one comes.

use std::sync::Arc;

use weir_core::{ClusterId, EndpointId, Instant};
use weir_net::{Close, ConnId, Detached, Io};
use weir_pool_core::{CloseReason, ConnMeta, Quota, Released, SlotId};

use crate::conns::{Role, Upstream};
use crate::exchange::{ExchangeId, State};
use crate::tcp::micros;
use crate::view::{Endpoint, EndpointRecord, LocalEndpoint};
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
        }
        if let Some(worker) = next_owed(endpoint) {
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
        endpoint.state.begin_connection_wait(self.id);
        let (cluster, record) = (endpoint.cluster, Arc::clone(&endpoint.state));
        if let Some(plan) = config.clusters.get(exchange.cluster as usize) {
            // One deadline over the wait for a place and this one, however often a connection slips away.
            if exchange.wait_deadline == Instant::FAR {
                exchange.wait_deadline = (io.now() + plan.plan.limit.queue_timeout).min(exchange.hard_deadline);
            }
            io.set_deadline(exchange.client, Some(exchange.wait_deadline));
        }
        self.ask_others(cluster, &record);
        // It may have become free before the others were asked.
        self.shared.tell_worker(self.id, Message::Room { cluster, endpoint: record.id });
    }

    /// Asks every other worker for a connection.
    fn ask_others(&self, cluster: ClusterId, endpoint: &EndpointRecord) {
        for worker in (0..self.shared.workers()).filter(|&worker| worker != self.id) {
            let message = Message::Yield { cluster, endpoint: Arc::clone(endpoint), worker: self.id };
            self.shared.tell_worker(worker, message);
        }
    }

    /// An answer came, and somebody still waits: the debts that it settled are owed again. (What was free may have been
    /// taken by a third worker in the meantime.)
    fn ask_again(&self, local: LocalEndpoint) {
        if let Some(endpoint) = self.endpoints.get(local)
            && !endpoint.waiting.is_empty()
        {
            self.ask_others(endpoint.cluster, &endpoint.state);
        }
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
        endpoint.state.end_connection_wait(self.id);
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
        endpoint: &EndpointRecord,
        worker: usize,
    ) {
        if let Some(local) = self.endpoints.find(cluster, endpoint.id)
            && let Some(entry) = self.endpoints.get_mut(local)
        {
            if !entry.owed.contains(&worker) {
                entry.owed.push_back(worker);
            }
            self.serve_owed(io, local);
        }
        // What this worker had may have been closed just before it was asked, and the entry with it if the endpoint has
        // left the configuration.
        if endpoint.connections.granted() < endpoint.connections.0.max() {
            self.shared.tell_worker(worker, Message::Room { cluster, endpoint: endpoint.id });
        }
    }

    /// Gives idle connections to workers that asked for one and still wait.
    pub(crate) fn serve_owed<I: Io>(&mut self, io: &mut I, local: LocalEndpoint) {
        let now = io.now();
        // As often as there are debts: each pass pays one.
        for _ in 0..self.shared.workers() {
            let Some(endpoint) = self.endpoints.get_mut(local) else { return };
            if !endpoint.waiting.is_empty() {
                return;
            }
            let Some(worker) = next_owed(endpoint) else { return };
            let Some((_, conn, meta)) = endpoint.pool.take_idle(now) else {
                // Those too old to be used hold their places until they are closed.
                return self.sweep_pool(io, local, now);
            };
            let (cluster, state) = (endpoint.cluster, Arc::clone(&endpoint.state));
            self.conns.take(conn);
            let sent = if let Some(conn) = io.detach(conn) {
                let message = Message::Adopt { cluster, endpoint: Arc::clone(&state), conn, meta };
                self.shared.tell_worker(worker, message)
            } else {
                // The rest of a request that was answered early is still stuck on it: it cannot move.
                io.close(conn, Close::Now);
                false
            };
            if !sent {
                // The connection is closed (with the message); its place goes back.
                state.connections.give_back();
                self.shared.tell_worker(worker, Message::Room { cluster, endpoint: state.id });
            }
            self.endpoints.unref(local);
        }
    }

    /// A connection from another worker.
    pub(crate) fn adopt_connection<I: Io>(
        &mut self,
        io: &mut I,
        cluster: ClusterId,
        endpoint: &EndpointRecord,
        conn: Detached,
        meta: ConnMeta,
    ) {
        let now = io.now();
        let found = self.endpoints.find(cluster, endpoint.id);
        let Some((local, entry)) = found.and_then(|local| Some((local, self.endpoints.get_mut(local)?))) else {
            // Nobody here has to do with that endpoint any more.
            return self.return_connection(cluster, endpoint);
        };
        let Some(conn) = io.attach(conn) else {
            endpoint.connections.give_back();
            self.serve_waiting(io, local);
            self.ask_again(local);
            return;
        };
        let slot = entry.pool.adopt(conn, meta, now);
        entry.refs += 1;
        let upstream =
            Upstream { endpoint: local, slot, exchange: None, warm: false, stash: Vec::new(), connecting_since: now };
        self.conns.put(conn, Role::Upstream(upstream));
        self.park(io, conn, local, slot);
        self.ask_again(local);
    }

    /// A connection came that is of no use here, and is closed: somebody elsewhere may wait for its place.
    pub(crate) fn return_connection(&self, cluster: ClusterId, endpoint: &EndpointRecord) {
        endpoint.connections.give_back();
        for worker in (0..self.shared.workers()).filter(|&worker| worker != self.id) {
            self.shared.tell_worker(worker, Message::Room { cluster, endpoint: endpoint.id });
        }
    }

    /// The connection maximum may have room again.
    pub(crate) fn room_for_connection<I: Io>(&mut self, io: &mut I, cluster: ClusterId, endpoint: EndpointId) {
        if let Some(local) = self.endpoints.find(cluster, endpoint) {
            self.serve_waiting(io, local);
            self.ask_again(local);
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

/// The next worker that asked for a connection and still waits; it goes to the end of the line, and stays in it until
/// it waits no more.
fn next_owed(endpoint: &mut Endpoint) -> Option<usize> {
    for _ in 0..endpoint.owed.len() {
        let worker = endpoint.owed.pop_front()?;
        if endpoint.state.waits_for_connection(worker) {
            endpoint.owed.push_back(worker);
            return Some(worker);
        }
    }
    None
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
