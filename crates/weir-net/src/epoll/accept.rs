//! The worker's listening sockets: level-triggered, bounded batches, and what to do when descriptors run
//! out.
//!
//! Each socket is registered with EPOLLEXCLUSIVE, so that a socket shared by several workers wakes one.
//! When the process has no descriptor left, accepting pauses for [`PAUSE`] instead of spinning on a
//! socket that stays readable. If that lasts, one waiting client per pause is accepted with a descriptor
//! held in reserve and closed at once, so that clients see an end instead of silence.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use weir_core::Instant;

use super::fault::is_exhaustion;
use super::io::LISTENER_INDEX;
use crate::contract::ListenerId;

/// Connections accepted from one socket before other events get their turn, at most.
const BATCH: usize = 64;
/// How long accepting rests after descriptors ran out.
const PAUSE: Duration = Duration::from_millis(20);
/// Pauses in a row after which waiting clients are turned away one by one.
const PATIENCE: u32 = 25;
/// At most one warning per this time.
const WARN_EVERY: Duration = Duration::from_secs(10);

struct Socket {
    id: ListenerId,
    fd: OwnedFd,
    tcp: bool,
    wanted: bool,
    registered: bool,
    batch: Batch,
}

/// How many connections to accept at an event. Asking until there is nothing left costs a system call per event, which
/// under a steady load is one per connection. The socket is level-triggered: what is left makes another event.
#[derive(Clone, Copy)]
struct Batch {
    size: usize,
    /// Events in a row that had at least as many.
    full: u32,
}

impl Batch {
    /// Full events in a row after which twice as many are accepted.
    const GROWS_AFTER: u32 = 4;

    const fn new() -> Self {
        Self { size: 1, full: 0 }
    }

    /// An event had `taken` connections.
    fn note(&mut self, taken: usize) {
        if taken < self.size {
            *self = Self { size: taken.max(1), full: 0 };
        } else {
            self.full += 1;
            if self.full >= Self::GROWS_AFTER {
                *self = Self { size: (self.size * 2).min(BATCH), full: 0 };
            }
        }
    }
}

/// What an accept gave.
pub(super) enum Accepted {
    One {
        fd: OwnedFd,
        peer: Option<SocketAddr>,
        listener: ListenerId,
        tcp: bool,
    },
    /// This one failed; the next may not.
    Skip,
    /// Nothing more now.
    Nothing,
}

/// The listening sockets of one worker.
pub(super) struct Listeners {
    sockets: Vec<Option<Socket>>,
    reserve: Option<OwnedFd>,
    pauses: u32,
    retry_at: Instant,
    warned_at: Instant,
}

impl Listeners {
    pub(super) fn new() -> Self {
        Self {
            sockets: Vec::new(),
            reserve: spare_descriptor(),
            pauses: 0,
            retry_at: Instant::FAR,
            warned_at: Instant::ZERO,
        }
    }

    /// Adds a listening socket and starts to accept.
    pub(super) fn add(&mut self, poll: &OwnedFd, id: ListenerId, fd: OwnedFd, tcp: bool) -> Result<(), Errno> {
        let position = self.sockets.iter().position(Option::is_none).unwrap_or(self.sockets.len());
        let mut socket = Socket { id, fd, tcp, wanted: true, registered: false, batch: Batch::new() };
        register(poll, &mut socket, position)?;
        if position == self.sockets.len() {
            self.sockets.push(Some(socket));
        } else {
            self.sockets[position] = Some(socket);
        }
        Ok(())
    }

    pub(super) fn set_accepting(&mut self, poll: &OwnedFd, id: ListenerId, on: bool) {
        for (position, socket) in self.sockets.iter_mut().enumerate() {
            let Some(socket) = socket.as_mut().filter(|socket| socket.id == id) else {
                continue;
            };
            socket.wanted = on;
            if !on {
                unregister(poll, socket);
            } else if self.retry_at == Instant::FAR
                && let Err(errno) = register(poll, socket, position)
            {
                tracing::error!(listener = id.0, error = %errno, "cannot go on accepting");
            }
        }
    }

    pub(super) fn close(&mut self, poll: &OwnedFd, id: ListenerId) {
        for place in &mut self.sockets {
            if let Some(socket) = place.as_mut().filter(|socket| socket.id == id) {
                // Closing alone would not do for a socket that other workers hold too.
                unregister(poll, socket);
                *place = None;
            }
        }
    }

    /// How many connections to accept from the socket at this event.
    pub(super) fn batch(&self, position: usize) -> usize {
        self.sockets.get(position).and_then(Option::as_ref).map_or(0, |socket| socket.batch.size)
    }

    /// So many were accepted at this event, out of [`Listeners::batch`].
    pub(super) fn accepted(&mut self, position: usize, taken: usize) {
        if let Some(Some(socket)) = self.sockets.get_mut(position) {
            socket.batch.note(taken);
        }
    }

    pub(super) fn accept(&mut self, poll: &OwnedFd, position: usize, now: Instant) -> Accepted {
        let Some(Some(socket)) = self.sockets.get(position) else {
            return Accepted::Nothing;
        };
        if !socket.wanted || !socket.registered {
            return Accepted::Nothing;
        }
        match acceptfrom_with(&socket.fd, SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC)) {
            Ok((fd, peer)) => {
                self.pauses = 0;
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                Accepted::One { fd, peer, listener: socket.id, tcp: socket.tcp }
            }
            Err(Errno::AGAIN) => Accepted::Nothing,
            Err(errno) if is_exhaustion(errno) => {
                self.exhausted(poll, position, now, errno);
                Accepted::Nothing
            }
            Err(errno @ (Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT | Errno::OPNOTSUPP)) => {
                let id = socket.id;
                tracing::error!(listener = id.0, error = %errno, "not a listening socket any more: accepting on it ends");
                self.close(poll, id);
                Accepted::Nothing
            }
            // Errors of that one connection, which Linux reports here (accept(2), "Error handling").
            Err(errno) => {
                tracing::debug!(error = %errno, "a connection failed before it was accepted");
                Accepted::Skip
            }
        }
    }

    /// Rests because of a limit of the worker's own.
    pub(super) fn pause_full(&mut self, poll: &OwnedFd, now: Instant, connections: usize) {
        if self.may_warn(now) {
            tracing::warn!(connections, "the worker's limit of connections is reached: new ones wait in the backlog");
        }
        self.pause(poll, now);
    }

    /// When accepting goes on after a rest.
    pub(super) fn retry_at(&self) -> Instant {
        self.retry_at
    }

    /// Goes on accepting if the rest is over.
    pub(super) fn handle_timeout(&mut self, poll: &OwnedFd, now: Instant) {
        if now < self.retry_at {
            return;
        }
        self.retry_at = Instant::FAR;
        if self.reserve.is_none() {
            self.reserve = spare_descriptor();
        }
        for (position, socket) in self.sockets.iter_mut().enumerate() {
            let Some(socket) = socket.as_mut().filter(|socket| socket.wanted) else {
                continue;
            };
            if register(poll, socket, position).is_err() {
                self.retry_at = now + PAUSE;
            }
        }
    }

    fn exhausted(&mut self, poll: &OwnedFd, position: usize, now: Instant, errno: Errno) {
        self.pauses += 1;
        if self.pauses > PATIENCE
            && let Some(Some(socket)) = self.sockets.get(position)
            && self.reserve.take().is_some()
        {
            drop(acceptfrom_with(&socket.fd, SocketFlags::CLOEXEC));
            self.reserve = spare_descriptor();
        }
        if self.may_warn(now) {
            tracing::warn!(error = %errno, "out of descriptors or memory: new connections wait; raise the limit of open files");
        }
        self.pause(poll, now);
    }

    fn pause(&mut self, poll: &OwnedFd, now: Instant) {
        self.sockets.iter_mut().flatten().for_each(|socket| unregister(poll, socket));
        self.retry_at = now + PAUSE;
    }

    fn may_warn(&mut self, now: Instant) -> bool {
        let may = self.warned_at == Instant::ZERO || now.since(self.warned_at) >= WARN_EVERY;
        if may {
            self.warned_at = now;
        }
        may
    }
}

fn register(poll: &OwnedFd, socket: &mut Socket, position: usize) -> Result<(), Errno> {
    if !socket.registered {
        let data = epoll::EventData::new_u64((position as u64) << 32 | u64::from(LISTENER_INDEX));
        epoll::add(poll, &socket.fd, data, epoll::EventFlags::IN.union(epoll::EventFlags::EXCLUSIVE))?;
        socket.registered = true;
    }
    Ok(())
}

fn unregister(poll: &OwnedFd, socket: &mut Socket) {
    if socket.registered {
        socket.registered = false;
        if let Err(errno) = epoll::delete(poll, &socket.fd) {
            tracing::debug!(error = %errno, "a listening socket was not registered");
        }
    }
}

/// Any descriptor does; an eventfd is the cheapest to hold.
fn spare_descriptor() -> Option<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_follows_what_arrives() {
        let mut batch = Batch::new();
        // One at a time: hardly ever asked in vain.
        let in_vain = (0..100)
            .filter(|_| {
                let asked_for_more = batch.size > 1;
                batch.note(1);
                asked_for_more
            })
            .count();
        assert!(in_vain <= 20, "{in_vain}");
        // A full backlog: soon as many as allowed, and never more.
        for _ in 0..6 * Batch::GROWS_AFTER {
            batch.note(batch.size);
        }
        assert_eq!(batch.size, BATCH);
        batch.note(0);
        assert_eq!(batch.size, 1);
    }
}
