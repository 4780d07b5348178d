//! The end of an exchange: report, release, and what becomes of both connections.

use std::rc::Rc;

use weir_core::{EndCode, Instant, Origin, Phase, Reason, WallTime};
use weir_http::Version;
use weir_net::{Close, Io};
use weir_pool_core::CloseReason;
use weir_telemetry::{Ended, Protocol, Record};

use super::begin::{STASH_BYTES, http_listener};
use super::{Exchange, ExchangeId, State};
use crate::view::LocalEndpoint;
use crate::worker::{LINGER, Worker};

impl Worker {
    /// Ends an exchange whose response is complete, cut or given up.
    pub(crate) fn finish<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        let Some(mut exchange) = self.exchanges.remove(id.0) else { return };
        self.stats.in_flight.dec();
        if matches!(exchange.state, State::Tunnel) {
            self.stats.tunnels_open.dec();
        }
        exchange.times.stamp(Phase::Relay, io.clock());
        self.report(io, &mut exchange);
        self.let_go_of_endpoint(io, &mut exchange);
        let outbox = std::mem::take(&mut exchange.outbox);
        self.buffers.give(outbox);
        if let Some(log) = exchange.log.take() {
            self.log_fields.push(log);
        }
        self.client_after(io, &exchange, id);
    }

    /// What the client's connection does next.
    fn client_after<I: Io>(&mut self, io: &mut I, exchange: &Exchange, id: ExchangeId) {
        let draining = self.draining;
        let Some(client) = self.conns.client(exchange.client) else { return };
        if client.exchange != Some(id) {
            return;
        }
        client.exchange = None;
        if exchange.cut {
            self.close_client(io, exchange.client, Close::Reset);
            return;
        }
        let done = exchange.request_done && !exchange.request_pumped;
        if !exchange.keep_client || !done || client.half_closed && client.stash.is_empty() || draining {
            // Reading on keeps what a client still sends from resetting the connection before it has the response.
            // Nothing comes from one that has said so, and it is spared the wait for its FIN.
            let silent = exchange.is_last && done && client.stash.is_empty() && io.unsent(exchange.client) == 0;
            let how = if silent { Close::Now } else { Close::Linger(LINGER) };
            self.close_client(io, exchange.client, how);
            return;
        }
        let (has_stash, listener, conn) = (!client.stash.is_empty(), client.listener, exchange.client);
        // A client that sends faster than it is served, or does not read its answers, is not read either.
        if client.stash.len() >= STASH_BYTES || io.unsent(conn) > 0 {
            client.paused = true;
            io.pause(conn);
        } else {
            client.paused = false;
            io.resume(conn);
        }
        if has_stash {
            self.schedule(conn);
        } else if let Some(stash) = self.conns.client(conn).map(|client| std::mem::take(&mut client.stash)) {
            self.buffers.give(stash);
        }
        if let Some(http) = http_listener(&self.view, listener) {
            io.set_deadline(conn, Some(io.now() + http.plan.timeouts.keep_alive));
        }
    }

    /// Gives back the place, the load and the connection of an attempt.
    pub(crate) fn let_go_of_endpoint<I: Io>(&mut self, io: &mut I, exchange: &mut Exchange) {
        let Some(local) = exchange.endpoint.take() else { return };
        if matches!(exchange.state, State::Queued(_))
            && let State::Queued(ticket) = std::mem::replace(&mut exchange.state, State::Starting)
            && let Some(endpoint) = self.endpoints.get(local)
        {
            // If it is already granted, the message is on its way, and `granted` passes the place on.
            let _ = endpoint.state.permits.cancel(ticket);
        }
        if matches!(exchange.state, State::WaitingForConnection)
            && let Some(endpoint) = self.endpoints.get_mut(local)
        {
            let client = exchange.client;
            let before = endpoint.waiting.len();
            endpoint.waiting.retain(|&(_, waiting)| waiting != client);
            if endpoint.waiting.len() < before {
                endpoint.state.end_connection_wait(self.id);
            }
        }
        if let Some(endpoint) = self.endpoints.get(local) {
            endpoint.state.load.end();
        }
        self.let_go_of_connection(io, exchange, local);
        if std::mem::take(&mut exchange.permit) {
            self.release_permit(local);
        }
        self.endpoints.unref(local);
    }

    fn let_go_of_connection<I: Io>(&mut self, io: &mut I, exchange: &mut Exchange, local: LocalEndpoint) {
        let (Some(conn), Some(slot)) = (exchange.upstream.take(), exchange.slot.take()) else { return };
        let Some(upstream) = self.conns.upstream(conn) else { return };
        upstream.exchange = None;
        if matches!(exchange.state, State::Connecting) {
            // The connect goes on; whoever comes next uses it.
            return;
        }
        let clean = upstream.stash.is_empty();
        // Request bytes that the endpoint has not taken would stand before the next request.
        let whole =
            exchange.request_done && !exchange.request_pumped && !exchange.response_pumped && io.unsent(conn) == 0;
        let relayed = matches!(exchange.state, State::Relaying);
        if clean && whole && relayed && exchange.keep_upstream {
            self.park(io, conn, local, slot);
        } else {
            let reason = if relayed && whole { CloseReason::PeerClosed } else { CloseReason::Failed };
            self.discard_upstream(io, conn, reason);
        }
    }

    /// Counters, histograms, access log.
    fn report<I: Io>(&mut self, io: &I, exchange: &mut Exchange) {
        let endpoint = exchange.endpoint.and_then(|local| self.endpoints.get(local));
        if let Some(endpoint) = endpoint {
            let shard = endpoint.state.ext.shard(self.id);
            if exchange.response_begun && exchange.status != 0 && exchange.end.is_complete() {
                shard.responded(exchange.status, &exchange.times);
                if !matches!(exchange.status, 502..=504) {
                    endpoint.state.failures.record_success();
                }
            }
            shard.bytes_sent.add(exchange.bytes_in);
            shard.bytes_received.add(exchange.bytes_out);
        }
        if matches!(exchange.status, 502..=504)
            && exchange.end.is_complete()
            && matches!(exchange.state, State::Relaying)
            && let Some(local) = exchange.endpoint
        {
            self.evidence_of_failure(local);
        }
        let reason = exchange.reason.filter(|_| !exchange.end.is_complete());
        self.stats.record(&Ended {
            times: &exchange.times,
            status: exchange.status,
            reason,
            bytes_in: exchange.bytes_in,
            bytes_out: exchange.bytes_out,
        });
        if self.access_log.is_some() {
            self.log_end(io, exchange, reason);
        }
    }

    /// The line of the access log.
    fn log_end<I: Io>(&mut self, io: &I, exchange: &Exchange, reason: Option<Reason>) {
        let view = Rc::clone(&self.view);
        let config = &view.snapshot.config;
        let endpoint = exchange.endpoint.and_then(|local| self.endpoints.get(local));
        let peer = self.conns.client(exchange.client).and_then(|client| client.peer);
        let listener = config.listeners.get(exchange.listener as usize);
        let route = http_listener(&view, exchange.listener).map(|http| &*http.router.rule(exchange.rule).name);
        let empty = crate::log::LogFields::default();
        let log = exchange.log.as_deref().unwrap_or(&empty);
        let record = Record {
            start: wall_start(io, exchange.times.start()),
            times: &exchange.times,
            peer,
            client: log.client(),
            listener: listener.map_or("", |listener| &listener.name),
            method: log.method(),
            target: log.target(),
            host: log.host(),
            protocol: match exchange.version {
                Version::Http10 => Protocol::Http10,
                Version::Http11 => Protocol::Http11,
            },
            status: exchange.status,
            bytes_in: exchange.bytes_in,
            bytes_out: exchange.bytes_out,
            route,
            cluster: config.clusters.get(exchange.cluster as usize).map(|cluster| &*cluster.plan.name),
            endpoint: endpoint.map(|endpoint| &*endpoint.state.endpoint.name),
            attempts: u32::from(exchange.attempts),
            end: exchange.end,
            reason,
            request_id: log.request_id(),
            user_agent: log.user_agent(),
            referer: log.referer(),
        };
        if let Some(log) = &mut self.access_log {
            log.log(&record);
        }
    }

    /// The deadline of an exchange passed: which one it was follows from its state.
    pub(crate) fn exchange_deadline<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        let now = io.now();
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let tunnel = matches!(exchange.state, State::Tunnel);
        // A tunnel has left HTTP behind: its route's deadline was for the request.
        if now >= exchange.hard_deadline && !tunnel {
            self.timed_out(io, id, Origin::Weir, Reason::Deadline);
            return;
        }
        if exchange.pump_progressed(io) {
            if tunnel {
                self.tunnel_waits(io, id);
            } else {
                self.await_progress(io, id);
            }
            return;
        }
        match exchange.state {
            State::Queued(_) | State::WaitingForConnection => {
                self.fail(io, id, Origin::Weir, Phase::Acquire, Reason::PoolWaitTimeout);
            }
            State::Awaiting if !exchange.request_done && !exchange.request_broken => {
                let stuck = exchange.upstream.is_some_and(|upstream| io.unsent(upstream) > 0);
                let (origin, reason) = if stuck {
                    (Origin::Upstream, Reason::ResponseHeadTimeout)
                } else {
                    (Origin::Downstream, Reason::RequestBodyTimeout)
                };
                self.timed_out(io, id, origin, reason);
            }
            State::Awaiting => {
                let retry = weir_core::Retry::IfIdempotent;
                self.upstream_failed(io, id, Origin::Upstream, Phase::Await, Reason::ResponseHeadTimeout, retry);
            }
            State::Relaying => {
                let stuck = io.unsent(exchange.client) > 0;
                let (origin, reason) = if stuck {
                    (Origin::Downstream, Reason::ClientStalled)
                } else if exchange.request_done {
                    (Origin::Upstream, Reason::ResponseBodyTimeout)
                } else {
                    (Origin::Downstream, Reason::RequestBodyTimeout)
                };
                self.response_broken(io, id, origin, reason);
            }
            State::Tunnel => self.tunnel_idle(io, id),
            State::Starting | State::Connecting => {}
        }
    }

    fn timed_out<I: Io>(&mut self, io: &mut I, id: ExchangeId, origin: Origin, reason: Reason) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let phase = exchange.phase();
        if exchange.response_begun && matches!(exchange.state, State::Relaying | State::Tunnel) {
            self.response_broken(io, id, origin, reason);
        } else {
            self.fail(io, id, origin, phase, reason);
        }
    }
}

impl Exchange {
    /// Whether a pump of this exchange has moved bytes since it was last asked.
    fn pump_progressed<I: Io>(&mut self, io: &I) -> bool {
        let from_client =
            if self.request_pumped || matches!(self.state, State::Tunnel) { io.pumped(self.client) } else { 0 };
        let from_upstream = match self.upstream {
            Some(upstream) if self.response_pumped || matches!(self.state, State::Tunnel) => io.pumped(upstream),
            _ => 0,
        };
        let mark = from_client.wrapping_add(from_upstream);
        let moved = mark != self.pump_mark;
        self.pump_mark = mark;
        moved
    }

    /// Marks the exchange as ended by somebody for a reason.
    pub(crate) fn ended(&mut self, origin: Origin, phase: Phase, reason: Reason) {
        self.end = EndCode::by(origin, phase);
        self.reason = Some(reason);
    }
}

/// The wall-clock time of a moment a little before now.
fn wall_start<I: Io>(io: &I, start: Instant) -> WallTime {
    let age = io.now().since(start).as_nanos();
    WallTime::from_nanos(io.wall().as_nanos().saturating_sub(u64::try_from(age).unwrap_or(0)))
}
