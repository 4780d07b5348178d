//! The connections of a worker: a slab of small slots with generation tokens.
//!
//! A slot with its place in the deadline wheel takes [`SLOT_BYTES_MAX`] bytes; whatever only some
//! connections need for some time ([`Cold`]) is boxed and dropped when it is empty.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use weir_core::{Address, Instant};

use super::pump::Pump;
use super::write::Stuck;
use crate::contract::{ConnId, IoFault};

/// What an idle connection may take here (the wheel takes 16 bytes more).
pub(super) const SLOT_BYTES_MAX: usize = 48;

/// The states of a connection that can be true independently of each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Flags(u16);

impl Flags {
    /// The connect has not been answered.
    pub(super) const CONNECTING: Self = Self(1);
    /// The kernel may hold input (or an end, or an error) that has not been read.
    pub(super) const READABLE: Self = Self(1 << 1);
    /// A hang-up was seen: a short read does not mean "drained", the end follows.
    pub(super) const TO_THE_END: Self = Self(1 << 2);
    /// The protocol does not want input.
    pub(super) const PAUSED: Self = Self(1 << 3);
    /// The end of input was reported.
    pub(super) const EOF: Self = Self(1 << 4);
    /// Writing failed; nothing more is written.
    pub(super) const BROKEN: Self = Self(1 << 5);
    /// The next end of input is a reset: the error itself was consumed by a write.
    pub(super) const RESET_AT_END: Self = Self(1 << 6);
    /// In the list of local work.
    pub(super) const LISTED: Self = Self(1 << 7);
    /// A pump reads this connection.
    pub(super) const PUMPED: Self = Self(1 << 8);
    /// Closed by the protocol; the engine finishes it alone.
    pub(super) const LINGERING: Self = Self(1 << 9);
    /// The output ends after the stuck bytes.
    pub(super) const SHUT_WANTED: Self = Self(1 << 10);
    /// The output was shut down.
    pub(super) const SHUT: Self = Self(1 << 11);
    /// A TCP socket (short reads are reliable, the address has a port).
    pub(super) const TCP: Self = Self(1 << 12);
    /// The connect failed at once, which is to be reported; there is no socket.
    pub(super) const REFUSED: Self = Self(1 << 13);
    /// The slot is in use.
    pub(super) const OPEN: Self = Self(1 << 14);

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    pub(super) const fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) const fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

/// The address of the other end, small.
#[derive(Debug, Default)]
pub(super) enum Peer {
    #[default]
    None,
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl From<Option<SocketAddr>> for Peer {
    fn from(addr: Option<SocketAddr>) -> Self {
        match addr {
            None => Self::None,
            Some(SocketAddr::V4(addr)) => Self::V4(addr),
            Some(SocketAddr::V6(addr)) => Self::V6(Box::new(addr)),
        }
    }
}

impl Peer {
    pub(super) fn get(&self) -> Option<SocketAddr> {
        match self {
            Self::None => None,
            Self::V4(addr) => Some(SocketAddr::V4(*addr)),
            Self::V6(addr) => Some(SocketAddr::V6(**addr)),
        }
    }
}

/// What a connection needs only now and then.
#[derive(Default)]
pub(super) struct Cold {
    /// Bytes that wait for the peer to read.
    pub(super) stuck: Stuck,
    /// The pump that reads this connection.
    pub(super) pump: Option<Pump>,
    /// The connection whose pump writes to this one.
    pub(super) fed_by: Option<ConnId>,
    /// While connecting: the deadline of the protocol (the slot's own is the connect time-out).
    pub(super) user_deadline: Option<Instant>,
    /// While connecting to a Unix socket whose backlog is full: where to, and when to try again.
    pub(super) retry: Option<(Address, Instant)>,
    /// While lingering: how long to wait for the peer's next sign of life.
    pub(super) linger: Option<std::time::Duration>,
}

impl Cold {
    fn is_empty(&self) -> bool {
        self.stuck.is_empty()
            && self.pump.is_none()
            && self.fed_by.is_none()
            && self.user_deadline.is_none()
            && self.retry.is_none()
            && self.linger.is_none()
    }
}

/// One connection.
pub(super) struct Slot {
    /// `None` if free, or if no socket could be made for a connect.
    pub(super) fd: Option<OwnedFd>,
    pub(super) generation: u32,
    pub(super) flags: Flags,
    /// What is to be reported with `REFUSED` or `RESET_AT_END`.
    pub(super) fault: Option<IoFault>,
    pub(super) peer: Peer,
    /// [`Instant::FAR`] for none.
    pub(super) deadline: Instant,
    pub(super) cold: Option<Box<Cold>>,
}

const _: () = assert!(size_of::<Slot>() <= SLOT_BYTES_MAX);

impl Slot {
    /// The socket, if there is one.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// The boxed part, made if need be.
    pub(super) fn cold(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    /// Drops the boxed part if nothing is in it.
    pub(super) fn trim(&mut self) {
        if self.cold.as_ref().is_some_and(|cold| cold.is_empty()) {
            self.cold = None;
        }
    }

    /// Bytes that the kernel has not taken.
    pub(super) fn unsent(&self) -> usize {
        self.cold.as_ref().map_or(0, |cold| cold.stuck.len())
    }

    /// Whether input may be read and given to the protocol now.
    pub(super) fn may_read(&self) -> bool {
        const NOT: Flags =
            Flags::PAUSED.with(Flags::EOF).with(Flags::PUMPED).with(Flags::CONNECTING).with(Flags::LINGERING);
        self.flags.has(Flags::READABLE) && !self.flags.has(NOT)
    }

    /// When the wheel must look at this connection.
    pub(super) fn wake_at(&self) -> Instant {
        match &self.cold {
            None => self.deadline,
            Some(cold) => {
                let retry = cold.retry.as_ref().map_or(Instant::FAR, |retry| retry.1);
                self.deadline.min(retry).min(cold.user_deadline.unwrap_or(Instant::FAR))
            }
        }
    }
}

/// The slots. Free ones are reused in LIFO order, so that the tables of protocols stay warm and small.
#[derive(Default)]
pub(super) struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slab {
    /// Slots in use.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slots that the engine is finishing alone.
    pub(super) fn lingering(&self) -> usize {
        self.slots.iter().filter(|slot| slot.flags.has(Flags::LINGERING)).count()
    }

    /// Fills a slot.
    pub(super) fn insert(&mut self, fd: Option<OwnedFd>, peer: Peer, flags: Flags) -> ConnId {
        let flags = flags.with(Flags::OPEN);
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            (slot.fd, slot.peer, slot.flags) = (fd, peer, flags);
            return ConnId { index, generation: slot.generation };
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot { fd, generation: 1, flags, fault: None, peer, deadline: Instant::FAR, cold: None });
        ConnId { index, generation: 1 }
    }

    /// The slot, also while the engine is finishing it alone.
    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Slot> {
        self.slots
            .get_mut(conn.index as usize)
            .filter(|slot| slot.generation == conn.generation && slot.flags.has(Flags::OPEN))
    }

    /// The slot, if the protocol may still name it.
    pub(super) fn live(&self, conn: ConnId) -> Option<&Slot> {
        self.slots.get(conn.index as usize).filter(|slot| {
            slot.generation == conn.generation && slot.flags.has(Flags::OPEN) && !slot.flags.has(Flags::LINGERING)
        })
    }

    /// The slot, if the protocol may still name it.
    pub(super) fn live_mut(&mut self, conn: ConnId) -> Option<&mut Slot> {
        self.get_mut(conn).filter(|slot| !slot.flags.has(Flags::LINGERING))
    }

    /// The connection that uses the slot `index` now.
    pub(super) fn current(&self, index: u32) -> Option<ConnId> {
        let slot = self.slots.get(index as usize).filter(|slot| slot.flags.has(Flags::OPEN))?;
        Some(ConnId { index, generation: slot.generation })
    }

    /// Empties a slot; the token is stale from here on.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Slot> {
        let slot = self.get_mut(conn)?;
        let next = Slot {
            fd: None,
            generation: slot.generation.wrapping_add(1),
            flags: Flags::default(),
            fault: None,
            peer: Peer::None,
            deadline: Instant::FAR,
            cold: None,
        };
        let old = std::mem::replace(slot, next);
        self.free.push(conn.index);
        Some(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_an_earlier_use_are_stale() {
        let mut slab = Slab::default();
        let first = slab.insert(None, Peer::None, Flags::default());
        let second = slab.insert(None, Peer::None, Flags::TCP);
        assert_eq!(slab.len(), 2);
        assert!(slab.remove(first).is_some() && slab.remove(first).is_none());
        let again = slab.insert(None, Peer::None, Flags::default());
        assert_eq!(again.index, first.index);
        assert_ne!(again.generation, first.generation);
        assert!(slab.live(first).is_none() && slab.live(again).is_some());
        assert!(slab.live(second).is_some_and(|slot| slot.flags.has(Flags::TCP)));
        assert_eq!(slab.current(first.index), Some(again));
    }

    #[test]
    fn a_lingering_connection_is_stale_for_the_protocol_only() {
        let mut slab = Slab::default();
        let conn = slab.insert(None, Peer::None, Flags::LINGERING);
        assert_eq!(slab.lingering(), 1);
        assert!(slab.live(conn).is_none() && slab.live_mut(conn).is_none());
        assert!(slab.get_mut(conn).is_some());
    }

    #[test]
    fn the_boxed_part_goes_when_it_is_empty() {
        let mut slab = Slab::default();
        let conn = slab.insert(None, Peer::None, Flags::default());
        let slot = slab.get_mut(conn).unwrap();
        slot.cold().user_deadline = Some(Instant::from_millis(3));
        slot.trim();
        assert_eq!(slot.wake_at(), Instant::from_millis(3));
        slot.cold().user_deadline = None;
        slot.trim();
        assert!(slot.cold.is_none());
        assert_eq!(slot.wake_at(), Instant::FAR);
    }
}
