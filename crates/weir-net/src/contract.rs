//! The contract between the engine and the protocols: completion style, bytes are lent.
//!
//! # Rules
//! 1. **No re-entrancy.** A method of [`Io`] never calls back into the protocol; what it causes is
//!    reported by a later callback (at the earliest after the current callback has returned).
//! 2. **Tokens.** A [`ConnId`] is valid from the callback or call that gave it until `close` or
//!    `on_reset`, whichever comes first; after that no callback mentions it, and methods given
//!    a stale one do nothing (and report so, where they return something).
//! 3. **Lent bytes.** The bytes of `on_data` live for the call only; the protocol uses or copies all of
//!    them. It stops the flow with `pause` (bytes then stay in the kernel, but for at most one read
//!    buffer that is already being delivered).
//! 4. **Order.** Per connection: `on_connected` or `on_accepted` first, then any of `on_data`,
//!    `on_drained`, `on_pumped`; `on_eof` (or `on_pumped` with [`PumpEnd::Eof`], never both) at most once
//!    and after all data; `on_reset` last.
//!    While paused, neither `on_data` nor `on_eof` is called; `on_reset` is.
//! 5. **Time.** [`Io::now`] is read once per wake-up; deadlines and timers never fire early and fire at
//!    most a few milliseconds late on an idle machine.
//! 6. **Writes.** `send` tries the kernel at once. What does not fit is kept by the engine and written as
//!    the peer reads; then `on_drained` is called. A protocol that goes on sending while bytes are stuck
//!    is served (they queue up), but is expected to pause its source: see [`Io::unsent`].
//! 7. **Messages.** Each message that a mailbox takes is delivered. When the loop has ended ([`Io::stop`]) the mailbox
//!    takes none any more, and the protocol is given those that are left: they may hold what belongs to others.

use std::net::SocketAddr;
use std::time::Duration;

use weir_core::{Address, Instant, WallTime};

/// A connection of this worker: slot and generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId {
    /// The slot. Small and reused: protocols keep their per-connection state in a `Vec` indexed by it.
    pub index: u32,
    /// Tells this use of the slot from earlier ones.
    pub generation: u32,
}

/// Which listener a connection came in by; chosen by whoever set the listener up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ListenerId(pub u32);

/// Options of an outgoing connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectOptions {
    /// The connect time-out: `on_connected(Err(IoFault::TimedOut))` after it.
    pub timeout: Duration,
}

/// Bytes to send.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Written now or copied.
    Lent(&'a [u8]),
    /// Written now or kept, without a copy.
    Owned(Vec<u8>),
}

/// What became of a `send`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// The kernel has all of it.
    All,
    /// Some of it is stuck; `on_drained` will come.
    Stuck,
    /// The connection is broken. `given` tells whether the kernel took any byte **of this call**. The
    /// connection stays valid (its read side may still hold a response) until the protocol closes it.
    Failed {
        /// What happened.
        fault: IoFault,
        /// Whether any byte of this call reached the kernel or may have.
        given: bool,
    },
}

/// A lingering connection whose peer takes none of the last bytes is given up after this many times its lingering time:
/// the kernel tells of room only when a third of its buffer is free, which takes a slow reader much longer than a FIN.
pub const FLUSH_FACTOR: u32 = 30;

/// How to close.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// Now. Stuck bytes are dropped; unread input makes the kernel send RST.
    Now,
    /// After the stuck bytes are written (as long as the peer takes some now and then, see [`FLUSH_FACTOR`]): half-close,
    /// then read and discard for at most this long, so that the peer sees the last response and not a reset (RFC 9112
    /// section 9.6).
    Linger(Duration),
    /// With RST at once.
    Reset,
}

/// What went wrong with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IoFault {
    /// Nobody listens there.
    Refused,
    /// The peer (or something between) reset the connection, or it broke while sending.
    Reset,
    /// No answer in time.
    TimedOut,
    /// No route, network down, permission, no such socket file.
    Unreachable,
    /// This machine ran out of something: descriptors, local ports, memory.
    Exhausted,
    /// Anything else (see the debug log).
    Other,
}

/// How a pump ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PumpEnd {
    /// The number of bytes asked for has been moved.
    Done,
    /// The source reached its end first.
    Eof,
    /// Reading failed; the source is gone (no further `on_reset` for it).
    SourceFault(IoFault),
    /// Writing failed; the sink is to be closed by the protocol.
    SinkFault(IoFault),
}

/// A connection taken out of a worker by [`Io::detach`], to be given to another one (or another
/// process). Dropping it closes the connection.
pub struct Detached {
    pub(crate) inner: Box<dyn std::any::Any + Send>,
}

impl std::fmt::Debug for Detached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Detached")
    }
}

/// What a protocol may ask of its worker's driver.
pub trait Io {
    /// The worker's clock, read once per wake-up.
    fn now(&self) -> Instant;

    /// The clock, read now (some 28 ns): for phase stamps only.
    fn clock(&self) -> Instant;

    /// Wall-clock time matching [`Io::now`].
    fn wall(&self) -> WallTime;

    /// Starts to connect; `on_connected` follows in every case (refusals included).
    fn connect(&mut self, to: &Address, options: &ConnectOptions) -> ConnId;

    /// Sends the pieces in order: one vectored write, then what is stuck is kept. With bytes stuck
    /// already, or before `on_connected`, everything is queued. Pieces are left empty.
    fn send(&mut self, conn: ConnId, pieces: &mut [Piece<'_>]) -> Sent;

    /// Bytes of earlier sends that the kernel has not taken yet.
    fn unsent(&self, conn: ConnId) -> usize;

    /// Stops `on_data` and `on_eof` (rule 4). Costs no system call.
    fn pause(&mut self, conn: ConnId);

    /// Undoes `pause`: reading goes on within this wake-up.
    fn resume(&mut self, conn: ConnId);

    /// Half-close: FIN after the stuck bytes.
    fn shutdown_write(&mut self, conn: ConnId);

    /// Ends the connection. No further callback for it.
    fn close(&mut self, conn: ConnId, how: Close);

    /// Moves `limit` bytes (all until the end, if `None`) from one connection to the other inside the
    /// kernel where it can (splice). Until `on_pumped(from, …)` the engine reads `from` itself: no
    /// `on_data`/`on_eof` for it. Bytes stuck on `to` go first. The other direction is unaffected.
    /// The end of `from` is told by `on_pumped` with [`PumpEnd::Eof`] in place of `on_eof`.
    /// Returns `false` if either token is stale, `from` is being pumped already, or another pump writes to `to`.
    fn pump(&mut self, from: ConnId, to: ConnId, limit: Option<u64>) -> bool;

    /// Bytes moved so far by the pump that reads `from`; 0 if there is none.
    fn pumped(&self, from: ConnId) -> u64;

    /// Sets, moves or clears the connection's one deadline; `on_deadline` fires once when it passes.
    /// Cheap: moving a deadline later costs a store.
    fn set_deadline(&mut self, conn: ConnId, at: Option<Instant>);

    /// Arms the worker's timer `key` (small numbers; one time each, arming again moves it).
    fn set_timer(&mut self, key: u32, at: Option<Instant>);

    /// Whether a kept-alive connection is still usable: nothing to read, not closed, not broken. One
    /// system call; used before a request that could not be repeated.
    fn is_quiet(&mut self, conn: ConnId) -> bool;

    /// Takes a connection with nothing unsent and no pump out of this worker. `None` if stale or busy.
    fn detach(&mut self, conn: ConnId) -> Option<Detached>;

    /// Adopts a connection from another worker's `detach`; input that waits is reported afterwards.
    fn attach(&mut self, conn: Detached) -> Option<ConnId>;

    /// The address of the other end; `None` for Unix sockets.
    fn peer(&self, conn: ConnId) -> Option<SocketAddr>;

    /// The local address (one system call); `None` for Unix sockets and stale tokens.
    fn local(&self, conn: ConnId) -> Option<SocketAddr>;

    /// Stops or goes on accepting on a listener (all of this worker's sockets of it). The sockets stay
    /// open; connections wait in the backlog.
    fn set_accepting(&mut self, listener: ListenerId, on: bool);

    /// Closes this worker's sockets of a listener: new connections are refused (or go to other workers).
    fn stop_listening(&mut self, listener: ListenerId);

    /// Connections closed with [`Close::Linger`] that are not finished: stopping now would cut them. Looks at
    /// every slot, so for the end of a drain only.
    fn lingering(&self) -> usize;

    /// Ends the loop after the current batch of events.
    fn stop(&mut self);
}

/// A state machine on a worker. See the module's rules.
pub trait Protocol<I: Io> {
    /// What other threads may send to it (see `Mailbox`).
    type Message: Send + 'static;

    /// A hint: events of these connections are about to be handled, in this order. A protocol with much state per
    /// connection may look at it now, for all of them in one go, so that its memory is fetched at the same time and not
    /// one connection after the other. Drivers may leave it out; tokens may be stale, and callbacks need not follow.
    fn upcoming(&self, io: &I, conns: &[ConnId]) {
        let _ = (io, conns);
    }

    /// Once, before anything else.
    fn on_start(&mut self, io: &mut I) {
        let _ = io;
    }

    /// A connection was accepted. It starts unpaused.
    fn on_accepted(&mut self, io: &mut I, conn: ConnId, listener: ListenerId, peer: Option<SocketAddr>);

    /// The result of `connect`. After an error the token is stale.
    fn on_connected(&mut self, io: &mut I, conn: ConnId, result: Result<(), IoFault>);

    /// Bytes arrived (never empty).
    fn on_data(&mut self, io: &mut I, conn: ConnId, data: &[u8]);

    /// The peer half-closed: no more data. The connection stays until closed.
    fn on_eof(&mut self, io: &mut I, conn: ConnId);

    /// All stuck bytes were written.
    fn on_drained(&mut self, io: &mut I, conn: ConnId) {
        let _ = (io, conn);
    }

    /// The pump that read `from` ended after moving `moved` bytes; `from` is read by callbacks again.
    fn on_pumped(&mut self, io: &mut I, from: ConnId, moved: u64, end: PumpEnd) {
        let _ = (io, from, moved, end);
    }

    /// The connection broke and is gone; the token is stale.
    fn on_reset(&mut self, io: &mut I, conn: ConnId, fault: IoFault);

    /// The connection's deadline passed.
    fn on_deadline(&mut self, io: &mut I, conn: ConnId);

    /// A timer fired.
    fn on_timer(&mut self, io: &mut I, key: u32) {
        let _ = (io, key);
    }

    /// A message from another thread (or from oneself).
    fn on_message(&mut self, io: &mut I, message: Self::Message) {
        let _ = (io, message);
    }

    /// After each batch of events, before the loop sleeps: the place for work that is cheaper once per
    /// batch than once per event.
    fn on_batch(&mut self, io: &mut I) {
        let _ = io;
    }
}
