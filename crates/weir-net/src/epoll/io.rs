//! What the protocol may ask of the epoll driver.

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, getsockname, recv, shutdown,
    socket_with, sockopt,
};
use weir_core::{Address, Instant, WallTime};

use super::accept::Listeners;
use super::clock::{Clock, Wall};
use super::fault::fault_of;
use super::pump::{Pipes, Pump};
use super::slab::{Flags, Peer, Slab, Slot};
use super::timers::Timers;
use super::wheel::Wheel;
use super::write::{Buffers, empty, len_of, write_pieces};
use crate::contract::{Close, ConnId, ConnectOptions, Detached, FLUSH_FACTOR, Io, IoFault, ListenerId, Piece, Sent};

/// Slot numbers that no connection has: events of the mailbox and of listening sockets.
pub(super) const WAKE_INDEX: u32 = u32::MAX;
pub(super) const LISTENER_INDEX: u32 = u32::MAX - 1;
/// How soon a Unix socket whose backlog is full is tried again.
pub(super) const UNIX_RETRY: std::time::Duration = std::time::Duration::from_millis(5);

/// The part of an epoll worker that protocols see. See [`Io`].
pub struct EpollIo {
    pub(super) epoll: OwnedFd,
    pub(super) slab: Slab,
    pub(super) wheel: Wheel,
    pub(super) timers: Timers,
    /// Work that needs no event: bounded by the number of connections (`Flags::LISTED`).
    pub(super) work: Vec<ConnId>,
    pub(super) buffers: Buffers,
    pub(super) pipes: Pipes,
    pub(super) listeners: Listeners,
    pub(super) clock: Clock,
    pub(super) now: Instant,
    /// The last reading of the clock.
    pub(super) latest: Cell<Instant>,
    pub(super) wall: Wall,
    pub(super) stopping: bool,
    pub(super) connections_max: usize,
}

/// A detached connection of this driver.
struct Parcel {
    fd: OwnedFd,
    peer: Peer,
    flags: Flags,
}

/// How the kernel answered a connect.
pub(super) enum Dialled {
    Connected(OwnedFd),
    Pending(OwnedFd),
    /// The backlog of a Unix socket is full (no event will tell when it is not).
    Later(OwnedFd),
}

impl EpollIo {
    /// Adds a listening socket (non-blocking) to this worker; accepted connections are reported with
    /// `id`. TCP or Unix is found out from the socket.
    ///
    /// # Errors
    /// If the descriptor is not a socket or cannot be registered.
    pub fn add_listener(&mut self, id: ListenerId, fd: OwnedFd) -> std::io::Result<()> {
        let family = getsockname(&fd)?.address_family();
        let tcp = family == AddressFamily::INET || family == AddressFamily::INET6;
        if tcp {
            // Accepted sockets inherit it: one system call less per connection.
            sockopt::set_tcp_nodelay(&fd, true)?;
        }
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(self.listeners.add(&self.epoll, id, fd, tcp)?)
    }

    /// Connections in use, lingering ones included.
    pub fn connections(&self) -> usize {
        self.slab.len()
    }

    /// Registers a socket for everything, once, edge-triggered.
    pub(super) fn register(&self, conn: ConnId, fd: &OwnedFd) -> Result<(), Errno> {
        const INTEREST: epoll::EventFlags = epoll::EventFlags::IN
            .union(epoll::EventFlags::OUT)
            .union(epoll::EventFlags::RDHUP)
            .union(epoll::EventFlags::PRI)
            .union(epoll::EventFlags::ET);
        let data = u64::from(conn.generation) << 32 | u64::from(conn.index);
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(data), INTEREST)
    }

    /// Puts an accepted or attached socket into a slot.
    pub(super) fn adopt(&mut self, fd: OwnedFd, peer: Peer, flags: Flags) -> Result<ConnId, Errno> {
        let conn = self.slab.insert(None, peer, flags);
        if let Err(errno) = self.register(conn, &fd) {
            self.slab.remove(conn);
            return Err(errno);
        }
        if let Some(slot) = self.slab.get_mut(conn) {
            slot.fd = Some(fd);
        }
        Ok(conn)
    }

    /// Lists `conn` for a look before the loop sleeps.
    pub(super) fn list(&mut self, conn: ConnId) {
        if let Some(slot) = self.slab.get_mut(conn)
            && !slot.flags.has(Flags::LISTED)
        {
            slot.flags.set(Flags::LISTED);
            self.work.push(conn);
        }
    }

    /// Makes sure that the wheel looks at the connection in time.
    pub(super) fn cover(&mut self, conn: ConnId) {
        let Some(at) = self.slab.get_mut(conn).map(|slot| slot.wake_at()) else {
            return;
        };
        if at != Instant::FAR && !self.wheel.covers(conn.index, at) {
            self.wheel.arm(conn.index, at);
        }
    }

    /// Takes a connection out of everything; the caller decides how the socket ends.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Slot> {
        self.slab.get_mut(conn)?;
        self.unpump(conn);
        self.wheel.disarm(conn.index);
        let mut slot = self.slab.remove(conn)?;
        if let Some(cold) = &mut slot.cold {
            cold.stuck.clear(&mut self.buffers);
        }
        Some(slot)
    }

    /// Ends the pumps that read or feed `conn`: silently for the one that reads it, with a report for
    /// the one that feeds it.
    fn unpump(&mut self, conn: ConnId) {
        let Some(slot) = self.slab.get_mut(conn) else {
            return;
        };
        let Some(cold) = &mut slot.cold else { return };
        let (own, feeder) = (cold.pump.take(), cold.fed_by.take());
        slot.flags.clear(Flags::PUMPED);
        if let Some(pump) = own {
            let sink = pump.to;
            pump.discard(&mut self.buffers);
            if let Some(sink) = self.slab.get_mut(sink) {
                sink.cold().fed_by = None;
                sink.trim();
            }
        }
        if let Some(feeder) = feeder {
            if let Some(pump) =
                self.slab.get_mut(feeder).and_then(|slot| slot.cold.as_mut()).and_then(|cold| cold.pump.as_mut())
            {
                pump.sink_fault = Some(IoFault::Reset);
            }
            self.list(feeder);
        }
    }

    /// A `connect` has failed already; that is reported later (rule 1).
    fn fail_later(&mut self, conn: ConnId, fault: IoFault) {
        if let Some(slot) = self.slab.get_mut(conn) {
            slot.flags.set(Flags::REFUSED);
            slot.fault = Some(fault);
        }
        self.list(conn);
    }

    /// Writing on `conn` failed with `errno`.
    pub(super) fn broke(&mut self, conn: ConnId, errno: Errno, bytes_lost: bool) {
        let Some(slot) = self.slab.get_mut(conn) else {
            return;
        };
        slot.flags.set(Flags::BROKEN);
        // The write has consumed the socket's error: a later end of input would look orderly.
        if bytes_lost || errno != Errno::PIPE {
            slot.flags.set(Flags::RESET_AT_END);
            slot.fault = Some(fault_of(errno));
        }
        // What the peer sent before may be a response; the edge that announced it may be over.
        slot.flags.set(Flags::READABLE.with(Flags::TO_THE_END));
        if let Some(cold) = &mut slot.cold {
            cold.stuck.clear(&mut self.buffers);
            slot.trim();
        }
        self.list(conn);
    }

    fn half_close(slot: &mut Slot) {
        slot.flags.clear(Flags::SHUT_WANTED);
        slot.flags.set(Flags::SHUT);
        if let Some(fd) = slot.fd()
            && let Err(errno) = shutdown(fd, Shutdown::Write)
        {
            // The peer is gone already; the read side reports it.
            tracing::trace!(error = %errno, "shutdown of a connection that is not connected");
        }
    }

    /// Sends FIN if it was asked for and nothing is stuck.
    pub(super) fn finish_output(&mut self, conn: ConnId) {
        if let Some(slot) = self.slab.get_mut(conn)
            && slot.flags.has(Flags::SHUT_WANTED)
            && !slot.flags.has(Flags::CONNECTING)
            && slot.unsent() == 0
        {
            Self::half_close(slot);
        }
    }

    fn linger(&mut self, conn: ConnId, time: std::time::Duration) {
        self.unpump(conn);
        let now = self.now;
        let Some(slot) = self.slab.get_mut(conn) else {
            return;
        };
        let nothing_to_write = slot.unsent() == 0;
        let over = slot.flags.has(Flags::BROKEN) || nothing_to_write && (slot.flags.has(Flags::EOF) || time.is_zero());
        if over {
            self.remove(conn);
            return;
        }
        if nothing_to_write && !slot.flags.has(Flags::SHUT) {
            Self::half_close(slot);
        }
        slot.flags.set(Flags::LINGERING);
        if !nothing_to_write {
            slot.flags.set(Flags::SHUT_WANTED);
        }
        slot.cold().linger = Some(time);
        slot.deadline = now + if nothing_to_write { time } else { time.saturating_mul(FLUSH_FACTOR) };
        let readable = slot.flags.has(Flags::READABLE);
        self.cover(conn);
        if readable {
            self.list(conn);
        }
    }
}

/// Makes a socket and starts to connect it.
pub(super) fn dial(to: &Address) -> Result<Dialled, Errno> {
    let flags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
    let (fd, result) = match to {
        Address::Inet(addr) => {
            let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let fd = socket_with(family, SocketType::STREAM, flags, None)?;
            sockopt::set_tcp_nodelay(&fd, true)?;
            let result = connect(&fd, addr);
            (fd, result)
        }
        Address::Unix(path) => {
            let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            let result = connect(&fd, &SocketAddrUnix::new(&**path)?);
            if result == Err(Errno::AGAIN) {
                return Ok(Dialled::Later(fd));
            }
            (fd, result)
        }
    };
    match result {
        Ok(()) => Ok(Dialled::Connected(fd)),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(Dialled::Pending(fd)),
        Err(errno) => Err(errno),
    }
}

impl Io for EpollIo {
    fn now(&self) -> Instant {
        self.now
    }

    fn clock(&self) -> Instant {
        let now = self.clock.now();
        self.latest.set(now);
        now
    }

    fn wall(&self) -> WallTime {
        self.wall.matching(self.now)
    }

    fn connect(&mut self, to: &Address, options: &ConnectOptions) -> ConnId {
        let tcp = if to.inet().is_some() { Flags::TCP } else { Flags::default() };
        let conn = self.slab.insert(None, Peer::from(to.inet()), Flags::CONNECTING.with(tcp));
        let until = self.now + options.timeout;
        let dialled = dial(to).and_then(|dialled| {
            let (Dialled::Connected(fd) | Dialled::Pending(fd) | Dialled::Later(fd)) = &dialled;
            // A socket that is tried again later has no events before it is connected.
            if !matches!(dialled, Dialled::Later(_)) {
                self.register(conn, fd)?;
            }
            Ok(dialled)
        });
        let (fd, retry) = match dialled {
            // A socket that is connected at once is writable: its first event says so.
            Ok(Dialled::Pending(fd) | Dialled::Connected(fd)) => (fd, None),
            Ok(Dialled::Later(fd)) => (fd, Some((to.clone(), self.now + UNIX_RETRY))),
            Err(errno) => {
                self.fail_later(conn, fault_of(errno));
                return conn;
            }
        };
        if let Some(slot) = self.slab.get_mut(conn) {
            slot.fd = Some(fd);
            slot.deadline = until;
            if retry.is_some() {
                slot.cold().retry = retry;
            }
        }
        self.cover(conn);
        conn
    }

    fn send(&mut self, conn: ConnId, pieces: &mut [Piece<'_>]) -> Sent {
        let Some(slot) = self.slab.live_mut(conn) else {
            empty(pieces);
            return Sent::Failed { fault: IoFault::Other, given: false };
        };
        if slot.flags.has(Flags::BROKEN.with(Flags::SHUT).with(Flags::SHUT_WANTED)) {
            empty(pieces);
            return Sent::Failed { fault: slot.fault.unwrap_or(IoFault::Reset), given: false };
        }
        let must_queue = slot.flags.has(Flags::CONNECTING) || slot.unsent() > 0;
        let (written, error) = match slot.fd() {
            Some(fd) if !must_queue => write_pieces(fd, pieces),
            _ if pieces.iter().all(|piece| len_of(piece) == 0) => (0, None),
            _ => (0, Some(Errno::AGAIN)),
        };
        match error {
            None => {
                empty(pieces);
                Sent::All
            }
            Some(Errno::AGAIN) => {
                let buffers = &mut self.buffers;
                slot.cold().stuck.push(pieces, written, buffers);
                Sent::Stuck
            }
            Some(errno) => {
                empty(pieces);
                self.broke(conn, errno, false);
                Sent::Failed { fault: fault_of(errno), given: written > 0 }
            }
        }
    }

    fn unsent(&self, conn: ConnId) -> usize {
        self.slab.live(conn).map_or(0, Slot::unsent)
    }

    fn pause(&mut self, conn: ConnId) {
        if let Some(slot) = self.slab.live_mut(conn) {
            slot.flags.set(Flags::PAUSED);
        }
    }

    fn resume(&mut self, conn: ConnId) {
        let Some(slot) = self.slab.live_mut(conn) else {
            return;
        };
        slot.flags.clear(Flags::PAUSED);
        if slot.may_read() {
            self.list(conn);
        }
    }

    fn shutdown_write(&mut self, conn: ConnId) {
        let Some(slot) = self.slab.live_mut(conn) else {
            return;
        };
        if !slot.flags.has(Flags::SHUT) {
            slot.flags.set(Flags::SHUT_WANTED);
            self.finish_output(conn);
        }
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        let Some(slot) = self.slab.live_mut(conn) else {
            return;
        };
        let connecting = slot.flags.has(Flags::CONNECTING);
        match how {
            Close::Linger(time) if !connecting => self.linger(conn, time),
            Close::Now | Close::Linger(_) => drop(self.remove(conn)),
            Close::Reset => {
                if let Some(fd) = slot.fd()
                    && let Err(errno) = sockopt::set_socket_linger(fd, Some(std::time::Duration::ZERO))
                {
                    tracing::debug!(error = %errno, "cannot reset a connection; it is closed instead");
                }
                self.remove(conn);
            }
        }
    }

    fn pump(&mut self, from: ConnId, to: ConnId, limit: Option<u64>) -> bool {
        if self.slab.live(from).is_none_or(|slot| slot.flags.has(Flags::PUMPED)) {
            return false;
        }
        let Some(sink) = self.slab.live_mut(to) else {
            return false;
        };
        // Two pumps into one connection would mix their bytes.
        if sink.cold.as_ref().is_some_and(|cold| cold.fed_by.is_some()) {
            return false;
        }
        sink.cold().fed_by = Some(from);
        if let Some(source) = self.slab.live_mut(from) {
            source.cold().pump = Some(Pump::new(to, limit));
            source.flags.set(Flags::PUMPED);
        }
        self.list(from);
        true
    }

    fn pumped(&self, from: ConnId) -> u64 {
        let cold = self.slab.live(from).and_then(|slot| slot.cold.as_ref());
        cold.and_then(|cold| cold.pump.as_ref()).map_or(0, |pump| pump.moved)
    }

    fn set_deadline(&mut self, conn: ConnId, at: Option<Instant>) {
        let Some(slot) = self.slab.live_mut(conn) else {
            return;
        };
        if slot.flags.has(Flags::CONNECTING) {
            slot.cold().user_deadline = at;
            slot.trim();
            self.cover(conn);
        } else {
            let at = at.unwrap_or(Instant::FAR);
            slot.deadline = at;
            if at != Instant::FAR && !self.wheel.covers(conn.index, at) {
                self.wheel.arm(conn.index, at);
            }
        }
    }

    fn set_timer(&mut self, key: u32, at: Option<Instant>) {
        self.timers.set(key, at);
    }

    fn is_quiet(&mut self, conn: ConnId) -> bool {
        const BUSY: Flags = Flags::EOF
            .with(Flags::BROKEN)
            .with(Flags::CONNECTING)
            .with(Flags::PUMPED)
            .with(Flags::SHUT)
            .with(Flags::SHUT_WANTED);
        let Some(slot) = self.slab.live(conn) else {
            return false;
        };
        if slot.flags.has(BUSY) || slot.unsent() > 0 {
            return false;
        }
        let Some(fd) = slot.fd() else { return false };
        recv(fd, &mut [0_u8; 1], RecvFlags::PEEK.union(RecvFlags::DONTWAIT)).err() == Some(Errno::AGAIN)
    }

    fn detach(&mut self, conn: ConnId) -> Option<Detached> {
        const BUSY: Flags = Flags::CONNECTING.with(Flags::BROKEN).with(Flags::PUMPED).with(Flags::SHUT_WANTED);
        const KEPT: [Flags; 4] = [Flags::TCP, Flags::EOF, Flags::SHUT, Flags::TO_THE_END];
        let slot = self.slab.live(conn)?;
        let fed = slot.cold.as_ref().is_some_and(|cold| cold.fed_by.is_some());
        if slot.flags.has(BUSY) || slot.unsent() > 0 || fed {
            return None;
        }
        if let Err(errno) = epoll::delete(&self.epoll, slot.fd()?) {
            tracing::debug!(error = %errno, "a connection to detach was not registered");
            return None;
        }
        let slot = self.remove(conn)?;
        let kept = KEPT.into_iter().filter(|flag| slot.flags.has(*flag));
        let parcel = Parcel { fd: slot.fd?, peer: slot.peer, flags: kept.fold(Flags::default(), Flags::with) };
        Some(Detached { inner: Box::new(parcel) })
    }

    fn attach(&mut self, conn: Detached) -> Option<ConnId> {
        let Parcel { fd, peer, flags } = *conn.inner.downcast::<Parcel>().ok()?;
        // Registering reports the input that waits.
        self.adopt(fd, peer, flags)
            .inspect_err(|errno| tracing::warn!(error = %errno, "cannot adopt a connection"))
            .ok()
    }

    fn peer(&self, conn: ConnId) -> Option<SocketAddr> {
        self.slab.live(conn)?.peer.get()
    }

    fn local(&self, conn: ConnId) -> Option<SocketAddr> {
        let slot = self.slab.live(conn)?;
        SocketAddr::try_from(getsockname(slot.fd.as_ref()?.as_fd()).ok()?).ok()
    }

    fn set_accepting(&mut self, listener: ListenerId, on: bool) {
        self.listeners.set_accepting(&self.epoll, listener, on);
    }

    fn stop_listening(&mut self, listener: ListenerId) {
        self.listeners.close(&self.epoll, listener);
    }

    fn lingering(&self) -> usize {
        self.slab.lingering()
    }

    fn stop(&mut self) {
        self.stopping = true;
    }
}

impl std::fmt::Debug for EpollIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EpollIo")
            .field("connections", &self.connections())
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}
