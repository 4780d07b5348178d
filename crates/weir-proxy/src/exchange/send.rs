//! Giving the request to the endpoint: the head with what is there of the body, then the rest as it comes.

use weir_core::{Origin, Phase, Reason, Retry};
use weir_http::{BodyEvent, Framing, Limits, write};
use weir_net::{Close, ConnId, Io, Piece, PumpEnd, Sent};

use super::begin::http_listener;
use super::{ExchangeId, State};
use crate::worker::Worker;

/// A request body of known length is moved by the kernel when this much of it is still to come.
pub(crate) const PUMP_BYTES: u64 = 256 * 1024;

impl Worker {
    /// Sends what the outbox holds over the connection that the exchange has.
    pub(crate) fn send_request<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let Some(upstream) = exchange.upstream else { return };
        exchange.state = State::Awaiting;
        let sent = io.send(upstream, &mut [Piece::Lent(&exchange.outbox)]);
        match sent {
            // RFC 9112 section 9.2: with no request outstanding there is no response. What a connection holds that had gone
            // stale (a 408 at its idle time-out) is none, and the request goes elsewhere.
            Sent::Failed { given: false, .. } if exchange.reused => {
                let (reason, retry) = (Reason::UpstreamReset, Retry::NeverSent);
                self.upstream_failed(io, id, Origin::Upstream, Phase::Send, reason, retry);
            }
            Sent::Failed { given, .. } => {
                exchange.never_sent = !given;
                self.request_write_failed(io, id);
            }
            Sent::All => {
                exchange.times.stamp(Phase::Send, io.clock());
                self.after_send(io, id);
            }
            Sent::Stuck => {
                exchange.times.stamp(Phase::Send, io.clock());
                // The client stays paused until the endpoint has taken this.
                self.await_progress(io, id);
            }
        }
    }

    /// The endpoint has what was there: the client may send on, or the wait for the response begins.
    fn after_send<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        if exchange.request_done {
            self.await_response(io, id);
            return;
        }
        if exchange.outbox.len() - exchange.head_len > self.body_buffer_bytes(id) {
            self.forget_body(id);
        }
        self.await_progress(io, id);
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let (client, upstream) = (exchange.client, exchange.upstream);
        let remaining = exchange.request_body.remaining().unwrap_or(0);
        if let (Framing::Length(_), Some(upstream), false) = (exchange.request_framing, upstream, exchange.replayable)
            && remaining >= PUMP_BYTES
            && io.pump(client, upstream, Some(remaining))
        {
            exchange.request_pumped = true;
            exchange.pump_mark = 0;
        }
        io.resume(client);
    }

    /// Whether the request can be sent once more is lost; the memory comes back.
    fn forget_body(&mut self, id: ExchangeId) {
        if let Some(exchange) = self.exchanges.get_mut(id.0) {
            exchange.replayable = false;
            exchange.outbox.truncate(exchange.head_len);
            exchange.outbox.shrink_to(4 * 1024);
        }
    }

    fn body_buffer_bytes(&self, id: ExchangeId) -> usize {
        let cluster = self.exchanges.get(id.0).map_or(0, |exchange| exchange.cluster);
        let clusters = &self.view.snapshot.config.clusters;
        clusters.get(cluster as usize).map_or(0, |cluster| cluster.plan.retry.body_buffer as usize)
    }

    /// The request is complete and sent: the endpoint has so long for its response head.
    pub(crate) fn await_response<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        let view = &self.view.snapshot.config;
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        if !matches!(exchange.state, State::Awaiting) {
            return;
        }
        let Some(cluster) = view.clusters.get(exchange.cluster as usize) else { return };
        let deadline = (io.now() + cluster.plan.timeouts.response_head).min(exchange.hard_deadline);
        io.set_deadline(exchange.client, Some(deadline));
    }

    /// A body is moving: the next byte has so long.
    pub(crate) fn await_progress<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        let view = &self.view.snapshot.config;
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let Some(cluster) = view.clusters.get(exchange.cluster as usize) else { return };
        let mut idle = cluster.plan.timeouts.idle;
        if let Some(http) = http_listener(&self.view, exchange.listener) {
            idle = idle.min(http.plan.timeouts.idle);
        }
        let deadline = (io.now() + idle).min(exchange.hard_deadline);
        io.set_deadline(exchange.client, Some(deadline));
    }

    /// What came right behind the head, before the exchange has a connection: goes into the outbox. Returns the bytes
    /// used, or what is wrong with the body.
    pub(crate) fn first_body_bytes<I: Io>(&mut self, io: &mut I, id: ExchangeId, rest: &[u8]) -> Result<usize, Reason> {
        let limits = self.limits_of(id);
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return Ok(0) };
        let mut outbox = std::mem::take(&mut exchange.outbox);
        let used = self.encode_body(id, rest, &limits, &mut outbox);
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return Ok(rest.len()) };
        exchange.outbox = outbox;
        let used = used?;
        exchange.bytes_in += used as u64;
        if !exchange.request_done {
            // Resumed when the endpoint has taken this.
            io.pause(exchange.client);
        }
        Ok(used)
    }

    /// Bytes of the client while its exchange is running. Returns the bytes used; the rest is pipelined requests.
    pub(crate) fn request_bytes<I: Io>(&mut self, io: &mut I, id: ExchangeId, data: &[u8]) -> usize {
        let limits = self.limits_of(id);
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return 0 };
        if exchange.request_done {
            return 0;
        }
        let client = exchange.client;
        // A partial chunk line or trailer section waits in the stash.
        let held = self.conns.client(client).map(|client| std::mem::take(&mut client.stash)).unwrap_or_default();
        if held.is_empty() {
            self.conns.client(client).map(|client| std::mem::replace(&mut client.stash, held));
            return self.relay_request(io, id, data, &limits);
        }
        let mut joined = held;
        joined.extend_from_slice(data);
        let used = self.relay_request(io, id, &joined, &limits);
        joined.drain(..used.min(joined.len()));
        if let Some(client) = self.conns.client(client) {
            client.stash = joined;
        }
        data.len()
    }

    fn relay_request<I: Io>(&mut self, io: &mut I, id: ExchangeId, data: &[u8], limits: &Limits) -> usize {
        let buffer_bytes = self.body_buffer_bytes(id);
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let used = self.encode_body(id, data, limits, &mut out);
        let result = self.exchanges.get_mut(id.0).and_then(|exchange| {
            let used = match used {
                Ok(used) => used,
                Err(reason) => return Some(Err(reason)),
            };
            exchange.bytes_in += used as u64;
            let sending = matches!(exchange.state, State::Awaiting | State::Relaying);
            if exchange.replayable {
                exchange.outbox.extend_from_slice(&out);
                if sending && exchange.outbox.len() - exchange.head_len > buffer_bytes {
                    exchange.replayable = false;
                    exchange.outbox.truncate(exchange.head_len);
                }
            }
            // Not sending yet: what is in the outbox (one read at most, the client is paused) goes out with the head.
            let upstream = exchange.upstream.filter(|_| sending && !exchange.request_broken)?;
            let sent = if out.is_empty() { Sent::All } else { io.send(upstream, &mut [Piece::Lent(&out)]) };
            Some(Ok((used, sent)))
        });
        self.scratch = out;
        match result {
            None => data.len(),
            Some(Err(reason)) => {
                self.fail(io, id, Origin::Downstream, Phase::Send, reason);
                data.len()
            }
            Some(Ok((used, sent))) => {
                self.body_sent(io, id, sent);
                used
            }
        }
    }

    fn body_sent<I: Io>(&mut self, io: &mut I, id: ExchangeId, sent: Sent) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        match sent {
            Sent::All if exchange.request_done => self.await_response(io, id),
            Sent::All => {
                let (client, upstream) = (exchange.client, exchange.upstream);
                let remaining = exchange.request_body.remaining().unwrap_or(0);
                if let (Framing::Length(_), false, false, Some(upstream)) =
                    (exchange.request_framing, exchange.replayable, exchange.request_pumped, upstream)
                    && remaining >= PUMP_BYTES
                    && io.pump(client, upstream, Some(remaining))
                {
                    exchange.request_pumped = true;
                    exchange.pump_mark = 0;
                }
                self.await_progress(io, id);
            }
            Sent::Stuck => {
                io.pause(exchange.client);
                self.await_progress(io, id);
            }
            Sent::Failed { .. } => self.request_write_failed(io, id),
        }
    }

    /// The endpoint no longer takes the request. It may have answered early (a 4xx or 5xx); what it sent is still to be
    /// read, so only the sending ends here. Its close or reset follows as an event and decides: see `upstream_lost`.
    fn request_write_failed<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        exchange.keep_upstream = false;
        exchange.request_broken = true;
        io.pause(exchange.client);
        self.await_response(io, id);
    }

    /// Takes the request body apart and writes it as the endpoint gets it.
    fn encode_body(
        &mut self,
        id: ExchangeId,
        bytes: &[u8],
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<usize, Reason> {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return Ok(bytes.len()) };
        let chunked = exchange.request_framing == Framing::Chunked;
        let mut used = 0;
        while !exchange.request_done {
            if exchange.request_body.is_done() && !chunked {
                exchange.request_done = true;
                break;
            }
            let (n, event) = exchange.request_body.feed(&bytes[used..], limits).map_err(|reject| reject.reason)?;
            used += n;
            match event {
                BodyEvent::Data(data) if chunked => {
                    let (line, len) = write::chunk_head(data.len());
                    out.extend_from_slice(&line[..len]);
                    out.extend_from_slice(data);
                    out.extend_from_slice(write::CRLF);
                }
                BodyEvent::Data(data) => out.extend_from_slice(data),
                BodyEvent::Trailers(block) => {
                    out.extend_from_slice(write::LAST_CHUNK_BEFORE_TRAILERS);
                    for field in block.fields() {
                        write::field(out, field.name, field.value);
                    }
                    out.extend_from_slice(write::CRLF);
                    exchange.trailers_written = true;
                }
                BodyEvent::End => {
                    if chunked && !exchange.trailers_written {
                        out.extend_from_slice(write::LAST_CHUNK);
                    }
                    exchange.request_done = true;
                }
                BodyEvent::NeedMore => break,
            }
        }
        Ok(used)
    }

    /// The endpoint took what was stuck.
    pub(crate) fn upstream_drained<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let Some(id) = self.conns.upstream(conn).and_then(|upstream| upstream.exchange) else { return };
        self.after_send(io, id);
    }

    /// The kernel has moved (part of) the request body.
    pub(crate) fn client_pumped<I: Io>(&mut self, io: &mut I, conn: ConnId, moved: u64, end: PumpEnd) {
        let Some(id) = self.conns.client(conn).and_then(|client| client.exchange) else { return };
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        if matches!(exchange.state, State::Tunnel) {
            self.tunnel_pumped(io, id, true, moved, end);
            return;
        }
        exchange.request_pumped = false;
        exchange.bytes_in += moved;
        exchange.request_body.skip(moved);
        match end {
            PumpEnd::Done => {
                exchange.request_done = true;
                self.await_response(io, id);
            }
            PumpEnd::Eof => self.request_eof(io, id),
            PumpEnd::SourceFault(_) => {
                self.forget_client(conn);
                self.client_gone(io, id);
            }
            PumpEnd::SinkFault(_) => self.request_write_failed(io, id),
        }
    }

    /// The client half-closed while its request runs.
    pub(crate) fn request_eof<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        if matches!(exchange.state, State::Tunnel) {
            if let Some(upstream) = exchange.upstream {
                io.shutdown_write(upstream);
            }
            return;
        }
        let client = exchange.client;
        // What the client sent ahead is still served (RFC 9112 section 9.6); the last response ends the connection.
        if exchange.request_done && self.conns.client(client).is_some_and(|client| !client.stash.is_empty()) {
            return;
        }
        exchange.keep_client = false;
        if !exchange.request_done && !exchange.request_broken {
            // RFC 9112 section 8: an incomplete request; the endpoint must not take it for a whole one.
            self.forget_client(client);
            io.close(client, Close::Now);
            self.client_gone(io, id);
        }
    }

    pub(crate) fn limits_of(&self, id: ExchangeId) -> Limits {
        let listener = self.exchanges.get(id.0).map_or(0, |exchange| exchange.listener);
        http_listener(&self.view, listener).map_or_else(Limits::default, |http| http.plan.limits)
    }
}
