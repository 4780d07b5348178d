//! Asserts the contract's rules around any protocol, on any driver.
//!
//! [`Checked`] stands between the driver and a protocol, follows every call in both directions in a
//! small model of its own, and panics at the first callback that the contract forbids: one for a stale
//! token, data while paused or after the end, a deadline too early, a drain that nothing was stuck for.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::net::SocketAddr;

use weir_core::{Address, Instant, WallTime};

use crate::{Close, ConnId, ConnectOptions, Detached, Io, IoFault, ListenerId, Piece, Protocol, PumpEnd, Sent};

/// A protocol with the contract's rules asserted around it.
///
/// The inner protocol must be written for any `Io` (it is given a [`CheckedIo`]). `M` is its message
/// type.
///
/// # Panics
/// In a callback that breaks a rule, naming it.
#[derive(Debug)]
pub struct Checked<P, M> {
    inner: P,
    model: Model,
    message: PhantomData<fn() -> M>,
}

/// The `Io` that a checked protocol sees: the driver's, with every call noted.
pub struct CheckedIo<'a> {
    io: &'a mut dyn Io,
    model: &'a mut Model,
}

/// What the contract allows at the moment.
#[derive(Debug, Default)]
struct Model {
    conns: BTreeMap<ConnId, State>,
    /// The last generation seen per slot.
    generations: BTreeMap<u32, u32>,
    timers: BTreeMap<u32, Instant>,
    /// Slots in use: two tokens never share one.
    slots: BTreeSet<u32>,
    now: Instant,
    is_started: bool,
}

/// How much the pump that reads a connection may move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Limit {
    Bytes(u64),
    None,
}

#[derive(Debug)]
struct State {
    is_open: bool,
    is_paused: bool,
    had_eof: bool,
    is_stuck: bool,
    pump: Option<Limit>,
    deadline: Option<Instant>,
}

// === impl Checked ===

impl<P, M> Checked<P, M> {
    /// Wraps `inner`.
    pub fn new(inner: P) -> Self {
        Self { inner, model: Model::default(), message: PhantomData }
    }

    /// The wrapped protocol.
    pub fn inner(&self) -> &P {
        &self.inner
    }

    /// The wrapped protocol. To let it use the driver, see [`with`](Self::with).
    pub fn inner_mut(&mut self) -> &mut P {
        &mut self.inner
    }

    /// Calls into the wrapped protocol with an `Io` that is followed as in a callback.
    pub fn with<R>(&mut self, io: &mut impl Io, call: impl FnOnce(&mut P, &mut CheckedIo<'_>) -> R) -> R {
        self.model.look_at_clock(io);
        call(&mut self.inner, &mut CheckedIo { io, model: &mut self.model })
    }

    /// How many connections the protocol holds.
    pub fn connections(&self) -> usize {
        self.model.conns.len()
    }

    /// The connections that the protocol holds.
    pub fn tokens(&self) -> impl Iterator<Item = ConnId> {
        self.model.conns.keys().copied()
    }
}

impl<I, P, M> Protocol<I> for Checked<P, M>
where
    I: Io,
    M: Send + 'static,
    P: for<'a> Protocol<CheckedIo<'a>, Message = M>,
{
    type Message = M;

    fn on_start(&mut self, io: &mut I) {
        assert!(!self.model.is_started, "on_start comes once, before anything else");
        self.with(io, |inner, io| inner.on_start(io));
        self.model.is_started = true;
    }

    fn on_accepted(&mut self, io: &mut I, conn: ConnId, listener: ListenerId, peer: Option<SocketAddr>) {
        self.model.open(conn, true);
        self.with(io, |inner, io| inner.on_accepted(io, conn, listener, peer));
    }

    fn on_connected(&mut self, io: &mut I, conn: ConnId, result: Result<(), IoFault>) {
        let state = self.model.expect(conn, "on_connected");
        assert!(!state.is_open, "{conn:?}: on_connected comes once");
        state.is_open = true;
        if result.is_err() {
            self.model.forget(conn);
        }
        self.with(io, |inner, io| inner.on_connected(io, conn, result));
    }

    fn on_data(&mut self, io: &mut I, conn: ConnId, data: &[u8]) {
        self.model.expect_reading(conn, "on_data");
        assert!(!data.is_empty(), "{conn:?}: on_data is never empty");
        self.with(io, |inner, io| {
            // With a stale token too, as the hint may have.
            inner.upcoming(io, &[conn, ConnId { index: u32::MAX, generation: 0 }]);
            inner.on_data(io, conn, data);
        });
    }

    fn on_eof(&mut self, io: &mut I, conn: ConnId) {
        self.model.expect_reading(conn, "on_eof").had_eof = true;
        self.with(io, |inner, io| inner.on_eof(io, conn));
    }

    fn on_drained(&mut self, io: &mut I, conn: ConnId) {
        let state = self.model.expect_open(conn, "on_drained");
        assert!(state.is_stuck, "{conn:?}: on_drained although nothing was stuck");
        state.is_stuck = false;
        assert_eq!(io.unsent(conn), 0, "{conn:?}: on_drained with bytes unsent");
        self.with(io, |inner, io| inner.on_drained(io, conn));
    }

    fn on_pumped(&mut self, io: &mut I, from: ConnId, moved: u64, end: PumpEnd) {
        let state = self.model.expect_open(from, "on_pumped");
        let pump = state.pump.take();
        assert!(pump.is_some(), "{from:?}: on_pumped without a pump");
        if let Some(Limit::Bytes(limit)) = pump {
            assert!(moved <= limit, "{from:?}: a pump moved {moved} of at most {limit} bytes");
        }
        match end {
            PumpEnd::Done => assert_eq!(pump, Some(Limit::Bytes(moved)), "{from:?}: done means the limit"),
            PumpEnd::Eof => state.had_eof = true,
            PumpEnd::SourceFault(_) => self.model.forget(from),
            PumpEnd::SinkFault(_) => {}
        }
        self.with(io, |inner, io| inner.on_pumped(io, from, moved, end));
    }

    fn on_reset(&mut self, io: &mut I, conn: ConnId, fault: IoFault) {
        let state = self.model.expect_open(conn, "on_reset");
        assert!(state.pump.is_none(), "{conn:?}: a pumped source breaks by on_pumped");
        self.model.forget(conn);
        self.with(io, |inner, io| inner.on_reset(io, conn, fault));
    }

    fn on_deadline(&mut self, io: &mut I, conn: ConnId) {
        let deadline = self.model.expect(conn, "on_deadline").deadline.take();
        assert!(deadline.is_some(), "{conn:?}: on_deadline without a deadline");
        assert!(deadline <= Some(io.now()), "{conn:?}: deadline {deadline:?} fired early, at {:?}", io.now());
        self.with(io, |inner, io| inner.on_deadline(io, conn));
    }

    fn on_timer(&mut self, io: &mut I, key: u32) {
        let at = self.model.timers.remove(&key);
        assert!(at.is_some(), "timer {key} fired but is not armed");
        assert!(at <= Some(io.now()), "timer {key} of {at:?} fired early, at {:?}", io.now());
        self.with(io, |inner, io| inner.on_timer(io, key));
    }

    fn on_message(&mut self, io: &mut I, message: M) {
        self.with(io, |inner, io| inner.on_message(io, message));
    }

    fn on_batch(&mut self, io: &mut I) {
        self.with(io, |inner, io| inner.on_batch(io));
    }
}

// === impl Model ===

impl Model {
    fn look_at_clock(&mut self, io: &dyn Io) {
        let now = io.now();
        assert!(now >= self.now, "now went back from {:?} to {now:?}", self.now);
        assert!(io.clock() >= now, "the clock is behind now");
        self.now = now;
    }

    fn open(&mut self, conn: ConnId, is_open: bool) {
        let last = self.generations.insert(conn.index, conn.generation);
        assert_ne!(last, Some(conn.generation), "{conn:?} was given before");
        assert!(self.slots.insert(conn.index), "{conn:?}: the slot is in use");
        let state = State { is_open, is_paused: false, had_eof: false, is_stuck: false, pump: None, deadline: None };
        self.conns.insert(conn, state);
    }

    fn forget(&mut self, conn: ConnId) {
        if self.conns.remove(&conn).is_some() {
            self.slots.remove(&conn.index);
        }
    }

    fn expect(&mut self, conn: ConnId, what: &str) -> &mut State {
        match self.conns.get_mut(&conn) {
            Some(state) => state,
            None => panic!("{what} for the stale {conn:?}"),
        }
    }

    fn expect_open(&mut self, conn: ConnId, what: &str) -> &mut State {
        let state = self.expect(conn, what);
        assert!(state.is_open, "{conn:?}: {what} before on_connected");
        state
    }

    fn expect_reading(&mut self, conn: ConnId, what: &str) -> &mut State {
        let state = self.expect_open(conn, what);
        assert!(!state.is_paused, "{conn:?}: {what} while paused");
        assert!(!state.had_eof, "{conn:?}: {what} after the end of data");
        assert!(state.pump.is_none(), "{conn:?}: {what} while a pump reads");
        state
    }
}

// === impl CheckedIo ===

impl CheckedIo<'_> {
    fn change(&mut self, conn: ConnId, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.model.conns.get_mut(&conn) {
            change(state);
        }
    }
}

impl Io for CheckedIo<'_> {
    fn now(&self) -> Instant {
        self.io.now()
    }

    fn clock(&self) -> Instant {
        self.io.clock()
    }

    fn wall(&self) -> WallTime {
        self.io.wall()
    }

    fn connect(&mut self, to: &Address, options: &ConnectOptions) -> ConnId {
        let conn = self.io.connect(to, options);
        self.model.open(conn, false);
        conn
    }

    fn send(&mut self, conn: ConnId, pieces: &mut [Piece<'_>]) -> Sent {
        let sent = self.io.send(conn, pieces);
        for piece in pieces.iter() {
            let left = match piece {
                Piece::Lent(bytes) => bytes.len(),
                Piece::Owned(bytes) => bytes.len(),
            };
            assert_eq!(left, 0, "{conn:?}: send leaves its pieces empty");
        }
        let unsent = self.io.unsent(conn);
        match self.model.conns.get_mut(&conn) {
            None => {
                assert!(matches!(sent, Sent::Failed { given: false, .. }), "the stale {conn:?} was sent to: {sent:?}");
            }
            Some(state) => match sent {
                Sent::All => assert_eq!(unsent, 0, "{conn:?}: all sent, but bytes are unsent"),
                Sent::Stuck => {
                    assert!(unsent > 0, "{conn:?}: stuck, but nothing is unsent");
                    state.is_stuck = true;
                }
                Sent::Failed { .. } => {}
            },
        }
        sent
    }

    fn unsent(&self, conn: ConnId) -> usize {
        self.io.unsent(conn)
    }

    fn pause(&mut self, conn: ConnId) {
        self.io.pause(conn);
        self.change(conn, |state| state.is_paused = true);
    }

    fn resume(&mut self, conn: ConnId) {
        self.io.resume(conn);
        self.change(conn, |state| state.is_paused = false);
    }

    fn shutdown_write(&mut self, conn: ConnId) {
        self.io.shutdown_write(conn);
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        self.io.close(conn, how);
        self.model.forget(conn);
    }

    fn pump(&mut self, from: ConnId, to: ConnId, limit: Option<u64>) -> bool {
        let started = self.io.pump(from, to, limit);
        let may =
            self.model.conns.contains_key(&to) && self.model.conns.get(&from).is_some_and(|state| state.pump.is_none());
        assert!(!started || may, "a pump was started from {from:?} to {to:?}, one of them stale or pumped already");
        if started {
            self.change(from, |state| {
                state.pump = Some(limit.map_or(Limit::None, Limit::Bytes));
            });
        }
        started
    }

    fn pumped(&self, from: ConnId) -> u64 {
        let moved = self.io.pumped(from);
        if self.model.conns.get(&from).is_none_or(|state| state.pump.is_none()) {
            assert_eq!(moved, 0, "{from:?} has no pump");
        }
        moved
    }

    fn set_deadline(&mut self, conn: ConnId, at: Option<Instant>) {
        self.io.set_deadline(conn, at);
        self.change(conn, |state| state.deadline = at);
    }

    fn set_timer(&mut self, key: u32, at: Option<Instant>) {
        self.io.set_timer(key, at);
        match at {
            Some(at) => self.model.timers.insert(key, at),
            None => self.model.timers.remove(&key),
        };
    }

    fn is_quiet(&mut self, conn: ConnId) -> bool {
        let quiet = self.io.is_quiet(conn);
        assert!(!quiet || self.model.conns.contains_key(&conn), "the stale {conn:?} is quiet");
        quiet
    }

    fn detach(&mut self, conn: ConnId) -> Option<Detached> {
        let detached = self.io.detach(conn);
        if detached.is_some() {
            let state = self.model.expect_open(conn, "detach");
            assert!(state.pump.is_none(), "{conn:?}: detached with a pump");
            self.model.forget(conn);
        }
        detached
    }

    fn attach(&mut self, conn: Detached) -> Option<ConnId> {
        let conn = self.io.attach(conn)?;
        self.model.open(conn, true);
        Some(conn)
    }

    fn peer(&self, conn: ConnId) -> Option<SocketAddr> {
        self.io.peer(conn)
    }

    fn local(&self, conn: ConnId) -> Option<SocketAddr> {
        self.io.local(conn)
    }

    fn set_accepting(&mut self, listener: ListenerId, on: bool) {
        self.io.set_accepting(listener, on);
    }

    fn stop_listening(&mut self, listener: ListenerId) {
        self.io.stop_listening(listener);
    }

    fn lingering(&self) -> usize {
        self.io.lingering()
    }

    fn stop(&mut self) {
        self.io.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::peer::{Peer, Script};
    use crate::mem::{MemIo, NetConfig, World};
    use std::time::Duration;

    type Node = Checked<Peer<()>, ()>;

    /// Makes a connection and then calls the protocol as a broken driver would.
    fn misbehave(call: impl FnOnce(&mut Node, &mut MemIo, ConnId)) {
        let mut world = World::<()>::new(0, NetConfig::calm());
        let server = world.add_node(Node::new(Peer::server([Script::silent()])));
        let to = SocketAddr::new(world.ip(server), 80);
        let to = world.listen(server, ListenerId(0), to);
        let client = world.add_node(Node::new(Peer::client()));
        world.with_node(client, |node: &mut Node, io| {
            node.with(io, |peer, io| peer.connect(io, &to, Duration::from_secs(1), Script::silent()));
        });
        world.run_for(Duration::from_secs(1));
        world.with_node(client, |node: &mut Node, io| {
            let conn = node.inner().records()[0].conn;
            call(node, io, conn);
        });
    }

    #[test]
    #[should_panic(expected = "on_data while paused")]
    fn data_while_paused_is_caught() {
        misbehave(|node, io, conn| {
            node.with(io, |_, io| io.pause(conn));
            node.on_data(io, conn, b"x");
        });
    }

    #[test]
    #[should_panic(expected = "on_eof for the stale")]
    fn a_callback_after_close_is_caught() {
        misbehave(|node, io, conn| {
            node.with(io, |_, io| io.close(conn, Close::Now));
            node.on_eof(io, conn);
        });
    }

    #[test]
    #[should_panic(expected = "on_data after the end of data")]
    fn data_after_the_end_is_caught() {
        misbehave(|node, io, conn| {
            node.on_eof(io, conn);
            node.on_data(io, conn, b"x");
        });
    }

    #[test]
    #[should_panic(expected = "fired early")]
    fn an_early_deadline_is_caught() {
        misbehave(|node, io, conn| {
            let later = io.now() + Duration::from_nanos(1);
            node.with(io, |_, io| io.set_deadline(conn, Some(later)));
            node.on_deadline(io, conn);
        });
    }

    #[test]
    #[should_panic(expected = "on_drained although nothing was stuck")]
    fn a_drain_of_nothing_is_caught() {
        misbehave(Protocol::on_drained);
    }

    #[test]
    #[should_panic(expected = "on_pumped without a pump")]
    fn the_end_of_no_pump_is_caught() {
        misbehave(|node, io, conn| node.on_pumped(io, conn, 0, PumpEnd::Eof));
    }
}
