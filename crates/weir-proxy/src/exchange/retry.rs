//! When an attempt fails: try elsewhere, or tell the client.

use std::rc::Rc;

use weir_core::{Fault, Instant, Origin, Phase, Reason, Retry};
use weir_net::{Close, Io, IoFault};
use weir_resilience::outlier::ConsecutiveFailures;
use weir_resilience::{Attempt, BodyState, retry_decision};

use super::begin::http_listener;
use super::{ExchangeId, State};
use crate::keeper;
use crate::view::LocalEndpoint;
use crate::worker::{LINGER, Worker};

impl Worker {
    /// An attempt failed before a final response head. Another endpoint gets the request if that is safe and within
    /// the budget; else the client is told.
    pub(crate) fn upstream_failed<I: Io>(
        &mut self,
        io: &mut I,
        id: ExchangeId,
        origin: Origin,
        phase: Phase,
        reason: Reason,
        retry: Retry,
    ) {
        let view = Rc::clone(&self.view);
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let Some(cluster) = view.snapshot.config.clusters.get(exchange.cluster as usize) else { return };
        // A connection that the endpoint closed while it was idle says nothing about the endpoint.
        let stale = exchange.reused && matches!(reason, Reason::UpstreamClosed | Reason::UpstreamReset);
        let local = exchange.endpoint;
        let attempt = Attempt {
            number: u32::from(exchange.attempts),
            fault: Fault { origin, phase, reason, retry },
            idempotent: exchange.idempotent,
            body: match (exchange.request_framing.is_empty(), exchange.replayable) {
                (true, _) => BodyState::Absent,
                (false, true) => BodyState::Whole,
                (false, false) => BodyState::Gone,
            },
            response_begun: exchange.response_begun,
        };
        let client_can_wait = io.now() < exchange.hard_deadline;
        let wanted = retry_decision(&attempt, &cluster.plan.retry) && client_can_wait && !exchange.request_pumped;
        exchange.reason = Some(reason);
        if let Some(local) = local {
            if let Some(endpoint) = self.endpoints.get(local) {
                endpoint.state.ext.shard(self.id).failed(reason);
            }
            if !stale && phase != Phase::Connect {
                self.evidence_of_failure(local);
            }
        }
        if let Some(exchange) = self.exchanges.get_mut(id.0) {
            if stale {
                exchange.fresh_only = true;
                exchange.avoid.note_retry();
            } else if let Some(endpoint) = local.and_then(|local| self.endpoints.get(local)) {
                exchange.avoid.add(endpoint.state.id);
            }
        }
        // Without another endpoint this attempt was the last one, and the client is told how it ended.
        let Some(next) = (if wanted { self.pick(io, id) } else { None }) else {
            self.fail(io, id, origin, phase, reason);
            return;
        };
        if !cluster.budget.try_withdraw(io.now()) {
            self.stats.retries_denied.inc();
            self.fail(io, id, origin, phase, reason);
            return;
        }
        self.stats.retries.inc();
        let Some(mut exchange) = self.exchanges.remove(id.0) else { return };
        exchange.keep_upstream = false;
        self.let_go_of_endpoint(io, &mut exchange);
        exchange.state = State::Starting;
        exchange.reused = false;
        exchange.request_broken = false;
        exchange.never_sent = false;
        exchange.wait_deadline = Instant::FAR;
        // A grant for the attempt before, still on its way, must not be taken for one of the next.
        self.serial = self.serial.wrapping_add(1);
        exchange.serial = self.serial;
        let client = exchange.client;
        if !exchange.request_done {
            // What is in the outbox goes out first.
            io.pause(client);
        }
        let renewed = ExchangeId(self.exchanges.insert(exchange));
        if let Some(client) = self.conns.client(client) {
            client.exchange = Some(renewed);
        }
        self.attempt_at(io, renewed, next);
        if let Some(endpoint) = self.exchange(renewed).and_then(|exchange| exchange.endpoint)
            && let Some(endpoint) = self.endpoints.get(endpoint)
        {
            endpoint.state.ext.shard(self.id).retries_to.inc();
        }
    }

    /// The exchange cannot be served: the client gets Weir's own answer, where that is still possible.
    pub(crate) fn fail<I: Io>(&mut self, io: &mut I, id: ExchangeId, origin: Origin, phase: Phase, reason: Reason) {
        let view = Rc::clone(&self.view);
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        exchange.ended(origin, phase, reason);
        exchange.keep_upstream = false;
        if matches!(exchange.state, State::Relaying | State::Tunnel) {
            self.response_broken(io, id, origin, reason);
            return;
        }
        // An interim response may have gone out; a final one may still follow it.
        let (client, version, is_head) = (exchange.client, exchange.version, exchange.is_head);
        // A client that is still sending its body may never read an answer on a connection that goes on.
        let keep = exchange.keep_client && exchange.request_done && !self.draining;
        exchange.keep_client = keep;
        exchange.status = reason.status();
        let (listener, cluster) = (exchange.listener, exchange.cluster);
        if let Some(http) = http_listener(&view, listener) {
            let retry_after = self.retry_after(cluster, io.now());
            let sent = self.write_error(io, client, http, reason, retry_after, version, keep, is_head);
            if let Some(exchange) = self.exchanges.get_mut(id.0) {
                exchange.bytes_out += sent;
            }
        }
        self.finish(io, id);
    }

    /// A connect failed. Refusals are evidence at once; other failures count towards ejection.
    pub(crate) fn evidence_of_connect(&mut self, local: LocalEndpoint, fault: IoFault) {
        if fault == IoFault::Exhausted {
            // Our own lack of descriptors or ports is no fault of the endpoint.
            return;
        }
        let Some(endpoint) = self.endpoints.get(local) else { return };
        if fault == IoFault::Refused {
            let message = keeper::Message::Refused { cluster: endpoint.cluster, endpoint: endpoint.state.id };
            self.shared.tell_keeper(message);
        }
        self.evidence_of_failure(local);
    }

    /// A request failed at an endpoint.
    pub(crate) fn evidence_of_failure(&mut self, local: LocalEndpoint) {
        let config = &self.view.snapshot.config;
        let Some(endpoint) = self.endpoints.get(local) else { return };
        let count = endpoint.state.failures.record_failure();
        let Some(cluster) = config.clusters.get(endpoint.cluster.0 as usize) else { return };
        let threshold = cluster.plan.outlier.consecutive_failures;
        if cluster.plan.outlier.enabled && ConsecutiveFailures::should_report(count, threshold) {
            self.shared.tell_keeper(keeper::Message::Failures {
                cluster: endpoint.cluster,
                endpoint: endpoint.state.id,
                count,
            });
        }
    }

    /// Refuses a connection beyond the limit.
    pub(crate) fn refuse<I: Io>(&mut self, io: &mut I, conn: weir_net::ConnId, is_http: bool) {
        if is_http {
            self.write_too_many(io, conn);
            io.close(conn, Close::Linger(LINGER));
        } else {
            io.close(conn, Close::Reset);
        }
    }
}
