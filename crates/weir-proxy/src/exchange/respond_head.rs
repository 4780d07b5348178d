//! Awaiting the response head, and relaying it.

use weir_core::{Origin, Phase, Reason, Retry};
use weir_http::{BodyReader, RequestMethodFacts, ResponseFraming, ResponseHead, Slots, Version, parse_response};
use weir_net::{ConnId, Io, IoFault, Piece, Sent};
use weir_pool_core::CloseReason;

use super::begin::http_listener;
use super::forward::{self, ResponseParts};
use super::{BodyOut, ExchangeId, State};
use crate::worker::Worker;

/// Interim responses of one exchange that are relayed; more are a fault of the endpoint. A server that says 102 (Processing)
/// every few seconds is far below it.
const INTERIM_RESPONSES: u16 = 1_000;

/// What a response head leads to.
enum Next {
    /// More bytes are needed.
    Partial,
    /// An interim response was relayed: the next head follows.
    Interim(usize),
    /// The final head was written into the scratch: the body follows.
    Final(usize),
    /// A 101: a tunnel follows.
    Upgrade(usize),
    /// The exchange has ended.
    Ended,
}

impl Worker {
    /// Bytes from an endpoint.
    pub(crate) fn upstream_data<I: Io>(&mut self, io: &mut I, conn: ConnId, data: &[u8]) {
        let Some(upstream) = self.conns.upstream(conn) else { return };
        let Some(id) = upstream.exchange else {
            // Nothing was asked: a 408 before closing, or a broken server. Either way it is of no use any more.
            self.note_idle_close(conn, io.now());
            self.discard_upstream(io, conn, CloseReason::PeerClosed);
            return;
        };
        if upstream.stash.is_empty() {
            let used = self.response_bytes(io, id, data);
            if used < data.len()
                && let Some(upstream) = self.conns.upstream(conn)
                && upstream.exchange == Some(id)
            {
                upstream.stash = self.buffers.take();
                upstream.stash.extend_from_slice(&data[used..]);
            }
            return;
        }
        let mut joined = std::mem::take(&mut upstream.stash);
        joined.extend_from_slice(data);
        let used = self.response_bytes(io, id, &joined);
        joined.drain(..used.min(joined.len()));
        match self.conns.upstream(conn) {
            Some(upstream) if upstream.exchange == Some(id) && !joined.is_empty() => upstream.stash = joined,
            _ => self.buffers.give(joined),
        }
    }

    /// Returns how many bytes were used; what is left needs more behind it.
    fn response_bytes<I: Io>(&mut self, io: &mut I, id: ExchangeId, data: &[u8]) -> usize {
        let mut used = 0;
        // Each pass but the last uses up an interim response, and `interim_head` bounds those.
        loop {
            match self.exchanges.get_mut(id.0).map(|exchange| &exchange.state) {
                Some(State::Awaiting) => {}
                Some(State::Relaying) => return used + self.relay_response(io, id, &data[used..], false),
                _ => return data.len(),
            }
            match self.response_head(io, id, &data[used..]) {
                Next::Partial => return used,
                Next::Interim(n) => used += n,
                Next::Final(n) => return used + n + self.relay_response(io, id, &data[used + n..], true),
                Next::Upgrade(n) => {
                    self.start_tunnel(io, id, &data[used + n..]);
                    return data.len();
                }
                Next::Ended => return data.len(),
            }
            if used == data.len() {
                return used;
            }
        }
    }

    fn response_head<I: Io>(&mut self, io: &mut I, id: ExchangeId, data: &[u8]) -> Next {
        let limits = self.limits_of(id);
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return Next::Ended };
        let facts = RequestMethodFacts { head: exchange.is_head, connect: false };
        let mut slots = Slots::new();
        match parse_response(data, &mut slots, &limits, facts) {
            Ok(None) => Next::Partial,
            Err(reject) => {
                tracing::debug!(detail = reject.detail, "response refused");
                self.upstream_failed(io, id, Origin::Upstream, Phase::Await, Reason::BadResponse, Retry::IfIdempotent);
                Next::Ended
            }
            Ok(Some(head)) if head.status == 101 => self.upgrade_head(io, id, &head),
            Ok(Some(head)) if head.status < 200 => self.interim_head(io, id, &head),
            Ok(Some(head)) => {
                self.final_head(io, id, &head);
                Next::Final(head.len)
            }
        }
    }

    /// RFC 9110 section 15.2: a proxy forwards 1xx responses, but not to an HTTP/1.0 client.
    fn interim_head<I: Io>(&mut self, io: &mut I, id: ExchangeId, head: &ResponseHead<'_, '_>) -> Next {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return Next::Ended };
        if exchange.interim_responses == INTERIM_RESPONSES {
            self.upstream_failed(io, id, Origin::Upstream, Phase::Await, Reason::BadResponse, Retry::Never);
            return Next::Ended;
        }
        exchange.interim_responses += 1;
        if exchange.version == Version::Http10 {
            return Next::Interim(head.len);
        }
        exchange.response_begun = true;
        let client = exchange.client;
        self.scratch.clear();
        forward::write_interim_head(&mut self.scratch, head);
        let upstream = exchange.upstream;
        exchange.bytes_out += self.scratch.len() as u64;
        match (io.send(client, &mut [Piece::Lent(&self.scratch)]), upstream) {
            (Sent::Failed { .. }, _) => {
                self.client_write_failed(io, id);
                return Next::Ended;
            }
            // Whoever does not read its interim responses gets no more of them (`client_drained`).
            (Sent::Stuck, Some(upstream)) => io.pause(upstream),
            _ => {}
        }
        Next::Interim(head.len)
    }

    /// Only an answer to a request for an upgrade may switch protocols (RFC 9110 section 15.2.2).
    fn upgrade_head<I: Io>(&mut self, io: &mut I, id: ExchangeId, head: &ResponseHead<'_, '_>) -> Next {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return Next::Ended };
        let agreed = match (head.upgrade, &exchange.offered) {
            (Some(answer), Some(offered)) => forward::was_offered(answer, offered),
            _ => false,
        };
        if !agreed || !exchange.request_done {
            self.upstream_failed(io, id, Origin::Upstream, Phase::Await, Reason::BadResponse, Retry::Never);
            return Next::Ended;
        }
        exchange.times.stamp(Phase::Await, io.clock());
        exchange.status = 101;
        exchange.response_begun = true;
        let view = exchange.view.take();
        let http = view.as_ref().and_then(|view| http_listener(view, exchange.listener));
        let edits = http.map(|http| &http.router.rule(exchange.rule).response_headers);
        self.scratch.clear();
        forward::write_upgrade_head(&mut self.scratch, head, edits);
        exchange.bytes_out += self.scratch.len() as u64;
        let client = exchange.client;
        if let Sent::Failed { .. } = io.send(client, &mut [Piece::Lent(&self.scratch)]) {
            self.client_write_failed(io, id);
            return Next::Ended;
        }
        Next::Upgrade(head.len)
    }

    /// Writes the final head into the scratch; it leaves together with the first bytes of the body.
    fn final_head<I: Io>(&mut self, io: &mut I, id: ExchangeId, head: &ResponseHead<'_, '_>) {
        let now = io.clock();
        let date = self.date.text(io.wall());
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        exchange.times.stamp(Phase::Await, now);
        exchange.status = head.status;
        exchange.keep_upstream = head.keep_alive && !exchange.request_broken;
        exchange.response_body = BodyReader::new(head.framing);
        exchange.state = State::Relaying;
        exchange.response_begun = true;
        let endless = matches!(head.framing, ResponseFraming::Chunked | ResponseFraming::UntilClose);
        exchange.body_out = match exchange.version {
            Version::Http11 if endless => BodyOut::Chunked,
            _ => BodyOut::Identity,
        };
        if exchange.version == Version::Http10 && endless {
            // RFC 9112 section 6.1: no transfer coding towards HTTP/1.0; the end is the close.
            exchange.keep_client = false;
        }
        // A request whose body is still on its way would leave the connection in an unknown state.
        exchange.keep_client &= !self.draining && exchange.request_done;
        let view = exchange.view.take();
        let http = view.as_ref().and_then(|view| http_listener(view, exchange.listener));
        let edits =
            http.map(|http| &http.router.rule(exchange.rule).response_headers).filter(|edits| !edits.is_empty());
        self.scratch.clear();
        let parts = ResponseParts {
            edits,
            version: exchange.version,
            keep_client: exchange.keep_client,
            chunked: exchange.body_out == BodyOut::Chunked,
            is_head: exchange.is_head,
            date,
        };
        forward::write_response_head(&mut self.scratch, head, parts);
        // The outbox is not needed any more: a response has begun.
        if exchange.request_done {
            let outbox = std::mem::take(&mut exchange.outbox);
            self.buffers.give(outbox);
        }
        exchange.replayable = false;
        if let (false, Some(local)) = (exchange.reused, exchange.endpoint) {
            self.note_keep_alive(local, head);
        }
    }

    /// The endpoint half-closed.
    pub(crate) fn upstream_eof<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let Some(upstream) = self.conns.upstream(conn) else { return };
        let Some(id) = upstream.exchange else {
            self.note_idle_close(conn, io.now());
            self.discard_upstream(io, conn, CloseReason::PeerClosed);
            return;
        };
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        match exchange.state {
            State::Tunnel => {
                let client = exchange.client;
                io.shutdown_write(client);
                self.tunnel_side_done(io, id, false);
            }
            State::Relaying => {
                exchange.keep_upstream = false;
                match exchange.response_body.on_eof() {
                    Ok(()) => self.response_done(io, id, true),
                    Err(reject) => self.response_broken(io, id, Origin::Upstream, reject.reason),
                }
            }
            _ => self.upstream_lost(io, id, Reason::UpstreamClosed),
        }
    }

    /// The endpoint's connection broke.
    pub(crate) fn upstream_reset<I: Io>(&mut self, io: &mut I, conn: ConnId, _fault: IoFault) {
        let Some(upstream) = self.conns.upstream(conn) else { return };
        let exchange = upstream.exchange;
        if exchange.is_none() {
            self.note_idle_close(conn, io.now());
        }
        self.forget_upstream(conn, CloseReason::PeerClosed);
        let Some(id) = exchange else { return };
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        exchange.upstream = None;
        exchange.slot = None;
        match exchange.state {
            State::Tunnel => self.end_tunnel(io, id, Origin::Upstream),
            State::Relaying => self.response_broken(io, id, Origin::Upstream, Reason::UpstreamReset),
            _ => self.upstream_lost(io, id, Reason::UpstreamReset),
        }
    }

    /// The endpoint's connection ended before a response.
    fn upstream_lost<I: Io>(&mut self, io: &mut I, id: ExchangeId, reason: Reason) {
        let never_sent = self.exchanges.get(id.0).is_some_and(|exchange| exchange.never_sent);
        let (phase, reason, retry) = if never_sent {
            (Phase::Send, Reason::UpstreamReset, Retry::NeverSent)
        } else {
            (Phase::Await, reason, Retry::IfIdempotent)
        };
        self.upstream_failed(io, id, Origin::Upstream, phase, reason, retry);
    }
}
