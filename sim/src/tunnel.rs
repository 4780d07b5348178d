//! Clients of tunnels: after an upgrade, or on a TCP listener, they send bytes and expect the same back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use weir_core::Address;
use weir_core::hash::Rng;
use weir_net::{Close, ConnId, ConnectOptions, Io, IoFault, ListenerId, Piece, Protocol};

use crate::pattern;

/// Bytes sent at once.
const PIECE_MAX: u64 = 30_000;

/// How a tunnel's client behaves.
#[derive(Clone, Debug)]
pub struct Tunnels {
    /// By an HTTP upgrade, or bytes from the start.
    pub upgrade: bool,
    /// At a time.
    pub connections: usize,
    /// In all.
    pub count: u32,
    /// At most so much is sent through each.
    pub bytes_max: u64,
    /// Chance in 1,000 of a reset in the middle.
    pub abort_permille: u64,
}

/// How a tunnel ended for its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunnelEnd {
    /// Everything came back, then the end.
    Whole,
    /// The end came too early.
    Short,
    /// A reset.
    Broken,
    /// Refused: by an error response, or the connection was not made.
    Refused,
    /// The client gave up.
    Abandoned,
}

#[derive(Debug)]
struct Tunnel {
    id: u64,
    total: usize,
    sent: usize,
    got: usize,
    head: Vec<u8>,
    is_open: bool,
    shut: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct TunnelClient {
    to: Address,
    habits: Tunnels,
    rng: Rng,
    left: u32,
    conns: BTreeMap<ConnId, Tunnel>,
    pub(crate) ends: Vec<TunnelEnd>,
    pub(crate) violations: Vec<String>,
}

impl TunnelClient {
    pub(crate) fn new(to: Address, habits: Tunnels, seed: u64) -> Self {
        let left = habits.count;
        let (conns, ends, violations) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { to, habits, rng: Rng::new(seed), left, conns, ends, violations }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.conns.is_empty()
    }

    fn connect<I: Io>(&mut self, io: &mut I) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let conn = io.connect(&self.to, &ConnectOptions { timeout: Duration::from_secs(10) });
        let total = self.rng.below(self.habits.bytes_max + 1) as usize;
        let is_open = !self.habits.upgrade;
        let tunnel = Tunnel { id: self.rng.next(), total, sent: 0, got: 0, head: Vec::new(), is_open, shut: false };
        self.conns.insert(conn, tunnel);
    }

    fn end<I: Io>(&mut self, io: &mut I, conn: ConnId, end: TunnelEnd) {
        if self.conns.remove(&conn).is_some() {
            self.ends.push(end);
            self.connect(io);
        }
    }

    /// Sends as much as fits, then the end.
    fn send_on<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        while io.unsent(conn) == 0 {
            let Some(tunnel) = self.conns.get_mut(&conn) else { return };
            if tunnel.shut {
                return;
            }
            if tunnel.sent == tunnel.total {
                tunnel.shut = true;
                io.shutdown_write(conn);
                return;
            }
            if self.habits.abort_permille > 0 && self.rng.below(1_000) < self.habits.abort_permille {
                io.close(conn, Close::Reset);
                return self.end(io, conn, TunnelEnd::Abandoned);
            }
            let n = (1 + self.rng.below(PIECE_MAX) as usize).min(tunnel.total - tunnel.sent);
            let piece: Vec<u8> = (tunnel.sent..tunnel.sent + n).map(|at| pattern::byte(tunnel.id, at)).collect();
            tunnel.sent += n;
            let _ = io.send(conn, &mut [Piece::Owned(piece)]);
        }
    }
}

impl<I: Io> Protocol<I> for TunnelClient {
    type Message = ();

    fn on_start(&mut self, io: &mut I) {
        for _ in 0..self.habits.connections {
            self.connect(io);
        }
    }

    fn on_accepted(&mut self, io: &mut I, conn: ConnId, _: ListenerId, _: Option<SocketAddr>) {
        io.close(conn, Close::Reset);
    }

    fn on_connected(&mut self, io: &mut I, conn: ConnId, result: Result<(), IoFault>) {
        if result.is_err() {
            return self.end(io, conn, TunnelEnd::Refused);
        }
        if self.habits.upgrade {
            let ahead = self.rng.below(2) == 0;
            let Some(tunnel) = self.conns.get_mut(&conn) else { return };
            let mut head =
                b"GET /r/0 HTTP/1.1\r\nHost: shop.example\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n".to_vec();
            if ahead {
                tunnel.sent = tunnel.total.min(100);
                head.extend((0..tunnel.sent).map(|at| pattern::byte(tunnel.id, at)));
            }
            let _ = io.send(conn, &mut [Piece::Owned(head)]);
        } else {
            self.send_on(io, conn);
        }
    }

    fn on_data(&mut self, io: &mut I, conn: ConnId, data: &[u8]) {
        let Some(tunnel) = self.conns.get_mut(&conn) else { return };
        let mut fresh = data;
        let joined;
        let opened = !tunnel.is_open;
        if !tunnel.is_open {
            tunnel.head.extend_from_slice(data);
            let Some(at) = tunnel.head.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            if !tunnel.head.starts_with(b"HTTP/1.1 101 ") {
                io.close(conn, Close::Now);
                return self.end(io, conn, TunnelEnd::Refused);
            }
            joined = tunnel.head.split_off(at + 4);
            fresh = &joined;
            tunnel.is_open = true;
        }
        if !pattern::matches(tunnel.id, tunnel.got, fresh) {
            self.violations.push(format!("a tunnel gave back other bytes at {}", tunnel.got));
        }
        tunnel.got += fresh.len();
        if opened {
            self.send_on(io, conn);
        }
    }

    fn on_eof(&mut self, io: &mut I, conn: ConnId) {
        let Some(tunnel) = self.conns.get(&conn) else { return };
        let end = if !tunnel.is_open {
            TunnelEnd::Refused
        } else if tunnel.got == tunnel.total {
            TunnelEnd::Whole
        } else {
            TunnelEnd::Short
        };
        io.close(conn, Close::Now);
        self.end(io, conn, end);
    }

    fn on_drained(&mut self, io: &mut I, conn: ConnId) {
        if self.conns.get(&conn).is_some_and(|tunnel| tunnel.is_open) {
            self.send_on(io, conn);
        }
    }

    fn on_reset(&mut self, io: &mut I, conn: ConnId, _fault: IoFault) {
        self.end(io, conn, TunnelEnd::Broken);
    }

    fn on_deadline(&mut self, _io: &mut I, _conn: ConnId) {}
}
