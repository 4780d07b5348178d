//! After a 101 (WebSocket and the like): bytes both ways, moved by the kernel, until both sides have ended.

use weir_core::{EndCode, Origin, Phase, Reason};
use weir_net::{Io, Piece, PumpEnd, Sent};

use super::{ExchangeId, State};
use crate::worker::Worker;

impl Worker {
    /// Turns both connections into a tunnel. `early` is what the endpoint sent behind its 101.
    pub(super) fn start_tunnel<I: Io>(&mut self, io: &mut I, id: ExchangeId, early: &[u8]) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let Some(upstream) = exchange.upstream else { return };
        let client = exchange.client;
        exchange.state = State::Tunnel;
        exchange.keep_client = false;
        exchange.keep_upstream = false;
        exchange.pump_mark = 0;
        exchange.view = None;
        let outbox = std::mem::take(&mut exchange.outbox);
        self.buffers.give(outbox);
        self.stats.tunnels.inc();
        self.stats.tunnels_open.inc();
        // What the client sent ahead belongs to the new protocol.
        let ahead = self.conns.client(client).map(|client| std::mem::take(&mut client.stash)).unwrap_or_default();
        let to_client = if early.is_empty() { Sent::All } else { io.send(client, &mut [Piece::Lent(early)]) };
        let to_upstream = if ahead.is_empty() { Sent::All } else { io.send(upstream, &mut [Piece::Lent(&ahead)]) };
        self.buffers.give(ahead);
        if matches!(to_client, Sent::Failed { .. }) || matches!(to_upstream, Sent::Failed { .. }) {
            self.end_tunnel(io, id, Origin::Downstream);
            return;
        }
        // Reading may have been paused for the sake of what was sent ahead.
        if let Some(client) = self.conns.client(client) {
            client.paused = false;
        }
        io.resume(client);
        io.resume(upstream);
        let pumping = io.pump(client, upstream, None) && io.pump(upstream, client, None);
        if !pumping {
            self.end_tunnel(io, id, Origin::Weir);
            return;
        }
        self.tunnel_waits(io, id);
    }

    /// One direction of a tunnel ended.
    pub(crate) fn tunnel_pumped<I: Io>(
        &mut self,
        io: &mut I,
        id: ExchangeId,
        from_client: bool,
        moved: u64,
        end: PumpEnd,
    ) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        if from_client {
            exchange.bytes_in += moved;
        } else {
            exchange.bytes_out += moved;
        }
        match end {
            PumpEnd::Eof | PumpEnd::Done => {
                let to = if from_client { exchange.upstream } else { Some(exchange.client) };
                if let Some(to) = to {
                    io.shutdown_write(to);
                }
                self.tunnel_side_done(io, id, from_client);
            }
            PumpEnd::SourceFault(_) if from_client => {
                let client = exchange.client;
                self.forget_client(client);
                self.end_tunnel(io, id, Origin::Downstream);
            }
            PumpEnd::SourceFault(_) => self.end_tunnel(io, id, Origin::Upstream),
            PumpEnd::SinkFault(_) if from_client => self.end_tunnel(io, id, Origin::Upstream),
            PumpEnd::SinkFault(_) => self.end_tunnel(io, id, Origin::Downstream),
        }
    }

    /// With both directions ended the tunnel is complete.
    pub(super) fn tunnel_side_done<I: Io>(&mut self, io: &mut I, id: ExchangeId, from_client: bool) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        if from_client {
            exchange.tunnel_ends.0 = true;
        } else {
            exchange.tunnel_ends.1 = true;
        }
        if exchange.tunnel_ends == (true, true) {
            self.finish(io, id);
        } else {
            self.tunnel_waits(io, id);
        }
    }

    /// A tunnel broke. What the client has of the endpoint's bytes may not be all: it is told by a reset.
    pub(super) fn end_tunnel<I: Io>(&mut self, io: &mut I, id: ExchangeId, origin: Origin) {
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        exchange.end = EndCode::by(origin, Phase::Relay);
        exchange.reason = Some(match origin {
            Origin::Downstream => Reason::ClientGone,
            Origin::Upstream => Reason::UpstreamReset,
            Origin::Weir => Reason::Internal,
        });
        exchange.cut = !exchange.tunnel_ends.1;
        self.finish(io, id);
    }

    /// A tunnel in which nothing moves is closed after its idle time-out.
    pub(crate) fn tunnel_waits<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        let config = &self.view.snapshot.config;
        let Some(exchange) = self.exchanges.get_mut(id.0) else { return };
        let Some(cluster) = config.clusters.get(exchange.cluster as usize) else { return };
        io.set_deadline(exchange.client, Some(io.now() + cluster.plan.timeouts.tunnel_idle));
    }

    /// Nothing moved in a tunnel for its idle time-out.
    pub(crate) fn tunnel_idle<I: Io>(&mut self, io: &mut I, id: ExchangeId) {
        if let Some(exchange) = self.exchanges.get_mut(id.0) {
            exchange.ended(Origin::Weir, Phase::Relay, Reason::TunnelIdle);
        }
        self.finish(io, id);
    }
}
