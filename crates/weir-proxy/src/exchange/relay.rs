//! The response body on its way to the client: as it comes, with back-pressure, never buffered whole.
//!
//! Small pieces are copied behind the head into one send; large ones are written from where they are; a long rest of
//! known length is moved by the kernel.

use weir_core::{EndCode, Origin, Phase, Reason};
use weir_http::{BodyEvent, write};
use weir_net::{Close, ConnId, Io, Piece, PumpEnd, Sent};

use super::{BodyOut, ExchangeId, State};
use crate::worker::Worker;

/// Body bytes up to this are copied behind the head (or chunk line), so that one plain send does.
const COPY_BYTES: usize = 8 * 1024;
/// A response body of known length is moved by the kernel when this much of it is still to come.
const PUMP_BYTES: u64 = 64 * 1024;

impl Worker {
    /// Relays body bytes. With `head`, the scratch holds the response head, which leaves first. Returns the bytes used.
    pub(crate) fn relay_response<I: Io>(&mut self, io: &mut I, id: ExchangeId, data: &[u8], head: bool) -> usize {
        let limits = self.limits_of(id);
        let mut out = std::mem::take(&mut self.scratch);
        if !head {
            out.clear();
        }
        let mut used = 0;
        let mut sent = Sent::All;
        let mut broken = None;
        let mut ended = false;
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return data.len() };
        let client = exchange.client;
        while !ended && broken.is_none() {
            if exchange.body_out == BodyOut::Identity && exchange.response_body.is_done() {
                ended = true;
                break;
            }
            let (n, event) = match exchange.response_body.feed(&data[used..], &limits) {
                Ok(step) => step,
                Err(reject) => {
                    broken = Some(reject.reason);
                    break;
                }
            };
            used += n;
            match event {
                BodyEvent::Data(body) => {
                    let chunked = exchange.body_out == BodyOut::Chunked;
                    if chunked {
                        let (line, len) = write::chunk_head(body.len());
                        out.extend_from_slice(&line[..len]);
                    }
                    if body.len() <= COPY_BYTES {
                        out.extend_from_slice(body);
                        if chunked {
                            out.extend_from_slice(write::CRLF);
                        }
                    } else {
                        let end: &[u8] = if chunked { write::CRLF } else { b"" };
                        exchange.bytes_out += (out.len() + body.len() + end.len()) as u64;
                        sent = io.send(client, &mut [Piece::Lent(&out), Piece::Lent(body), Piece::Lent(end)]);
                        out.clear();
                        if matches!(sent, Sent::Failed { .. }) {
                            break;
                        }
                    }
                }
                BodyEvent::Trailers(block) => {
                    if exchange.body_out == BodyOut::Chunked {
                        out.extend_from_slice(write::LAST_CHUNK_BEFORE_TRAILERS);
                        for field in block.fields() {
                            write::field(&mut out, field.name, field.value);
                        }
                        out.extend_from_slice(write::CRLF);
                        exchange.response_trailers = true;
                    }
                }
                BodyEvent::End => ended = true,
                BodyEvent::NeedMore => break,
            }
        }
        if ended && exchange.body_out == BodyOut::Chunked && !exchange.response_trailers {
            out.extend_from_slice(write::LAST_CHUNK);
        }
        if !out.is_empty() && !matches!(sent, Sent::Failed { .. }) {
            exchange.bytes_out += out.len() as u64;
            sent = io.send(client, &mut [Piece::Lent(&out)]);
        }
        self.scratch = out;
        match (sent, broken) {
            (Sent::Failed { .. }, _) => {
                self.client_write_failed(io, id);
                return data.len();
            }
            (_, Some(reason)) => {
                self.response_broken(io, id, Origin::Upstream, reason);
                return data.len();
            }
            _ => {}
        }
        if ended {
            // Bytes behind the end of the response belong to nothing: the connection is not used again.
            if used < data.len()
                && let Some(exchange) = self.exchanges.get_mut(id.0)
            {
                exchange.keep_upstream = false;
            }
            self.response_done(io, id, false);
            return data.len();
        }
        self.after_relay(io, id, sent);
        used
    }

    /// Between two reads of the body: pause, pump or just wait on.
    fn after_relay<I: Io>(&mut self, io: &mut I, id: ExchangeId, sent: Sent) {
        self.await_progress(io, id);
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let Some(upstream) = exchange.upstream else { return };
        let client = exchange.client;
        let remaining = exchange.response_body.remaining().unwrap_or(0);
        if exchange.body_out == BodyOut::Identity
            && remaining >= PUMP_BYTES
            && io.pump(upstream, client, Some(remaining))
        {
            exchange.response_pumped = true;
            exchange.pump_mark = 0;
            return;
        }
        if sent == Sent::Stuck {
            io.pause(upstream);
        }
    }

    /// The client took what was stuck.
    pub(crate) fn client_drained<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let Some(client) = self.conns.client(conn) else { return };
        let Some(id) = client.exchange else {
            // It has read its answers: what it sent ahead is served, and reading goes on.
            client.paused = false;
            io.resume(conn);
            self.schedule(conn);
            return;
        };
        match self.exchanges.get(id.0).map(|exchange| &exchange.state) {
            Some(State::Relaying) => self.await_progress(io, id),
            Some(State::Tunnel) => self.tunnel_waits(io, id),
            // The rest of an earlier answer, or interim responses: this request's own deadline stands.
            _ => {}
        }
        if let Some(upstream) = self.exchanges.get_mut(id.0).and_then(|exchange| exchange.upstream) {
            io.resume(upstream);
        }
    }

    /// The kernel has moved (part of) the response body.
    pub(crate) fn upstream_pumped<I: Io>(&mut self, io: &mut I, conn: ConnId, moved: u64, end: PumpEnd) {
        let Some(id) = self.conns.upstream(conn).and_then(|upstream| upstream.exchange) else { return };
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        if matches!(exchange.state, State::Tunnel) {
            self.tunnel_pumped(io, id, false, moved, end);
            return;
        }
        exchange.response_pumped = false;
        exchange.bytes_out += moved;
        exchange.response_body.skip(moved);
        match end {
            PumpEnd::Done => self.response_done(io, id, false),
            PumpEnd::Eof => self.upstream_eof(io, conn),
            PumpEnd::SourceFault(_) => {
                exchange.keep_upstream = false;
                self.response_broken(io, id, Origin::Upstream, Reason::UpstreamReset);
            }
            PumpEnd::SinkFault(_) => self.client_write_failed(io, id),
        }
    }

    /// The response is complete. `by_close`: it ended with the endpoint's FIN.
    pub(crate) fn response_done<I: Io>(&mut self, io: &mut I, id: ExchangeId, by_close: bool) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        if by_close {
            exchange.keep_upstream = false;
            if exchange.body_out == BodyOut::Chunked {
                let client = exchange.client;
                exchange.bytes_out += write::LAST_CHUNK.len() as u64;
                if let Sent::Failed { .. } = io.send(client, &mut [Piece::Lent(write::LAST_CHUNK)]) {
                    self.client_write_failed(io, id);
                    return;
                }
            }
        }
        self.finish(io, id);
    }

    /// The response cannot be completed: the client must see that it is not whole (RFC 9112 section 8).
    pub(crate) fn response_broken<I: Io>(&mut self, io: &mut I, id: ExchangeId, origin: Origin, reason: Reason) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        if origin == Origin::Upstream
            && let Some(local) = exchange.endpoint
        {
            if let Some(endpoint) = self.endpoints.get(local) {
                endpoint.state.ext.shard(self.id).failed(reason);
            }
            self.evidence_of_failure(local);
        }
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        exchange.end = EndCode::by(origin, Phase::Relay);
        exchange.reason = Some(reason);
        exchange.keep_client = false;
        exchange.keep_upstream = false;
        // Without a length or a last chunk only a reset tells the client that something is missing.
        exchange.cut = exchange.body_out == BodyOut::Identity && exchange.response_body.remaining().is_none();
        self.finish(io, id);
    }

    /// The client's connection does not take bytes any more.
    pub(crate) fn client_write_failed<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        let Some(client) = self.exchanges.get_mut(id.0).map(|exchange| exchange.client) else { return };
        self.forget_client(client);
        io.close(client, Close::Now);
        self.client_gone(io, id);
    }

    /// The client has left; its connection is forgotten already.
    pub(crate) fn client_gone<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let phase = exchange.phase();
        exchange.end = EndCode::by(Origin::Downstream, phase);
        exchange.reason = Some(Reason::ClientGone);
        exchange.keep_client = false;
        // A response that nobody reads would have to be drained: closing is cheaper and tells the endpoint.
        exchange.keep_upstream = false;
        self.finish(io, id);
    }
}
