//! What a worker's kernel and engine hold besides its connections: tokens, listeners, timers, and what
//! is ready to be served.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use weir_core::{Address, Instant};

use super::pair::EndKey;
use crate::{ConnId, ListenerId};

/// A worker of the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u32);

/// Whether a node runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeState {
    /// It runs.
    Running,
    /// It is stopped as by SIGSTOP: its kernel goes on (accepts into the backlog, receives), its
    /// protocol does not.
    Stalled,
    /// It was killed, or has stopped by itself.
    Dead,
}

/// Something that waits for the worker's next wake-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ready {
    End(EndKey),
    /// A position in `listeners`.
    Accept(usize),
    /// A timer and which arming of it.
    Timer(u32, u64),
    Mail,
}

/// A listening socket.
pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) address: Address,
    pub(super) open: bool,
    pub(super) accepting: bool,
    pub(super) backlog: VecDeque<EndKey>,
    pub(super) is_queued: bool,
}

pub(super) struct Node {
    pub(super) ip: IpAddr,
    pub(super) state: NodeState,
    /// Counts the lives of the node: what was scheduled for an earlier one is void.
    pub(super) epoch: u32,
    /// Read at the wake-up.
    pub(super) now: Instant,
    /// At or a little ahead of `now`.
    pub(super) clock: Cell<Instant>,
    pub(super) slots: Vec<(u32, Option<EndKey>)>,
    pub(super) free: Vec<u32>,
    pub(super) lingering: BTreeSet<EndKey>,
    pub(super) listeners: Vec<Listener>,
    pub(super) timers: BTreeMap<u32, (Instant, u64)>,
    pub(super) ready: VecDeque<Ready>,
    pub(super) mail_queued: bool,
    pub(super) wake_scheduled: bool,
    pub(super) in_batch: bool,
    pub(super) stop_wanted: bool,
    /// Counts `set_timer`, so that an earlier arming is known as such.
    pub(super) armings: u64,
    next_port: u16,
}

/// The range that Linux takes local ports from.
const PORT_FIRST: u16 = 32_768;
const PORT_LAST: u16 = 60_999;

impl Node {
    pub(super) fn new(id: NodeId) -> Self {
        let [_, high, mid, low] = (id.0 + 1).to_be_bytes();
        Self {
            ip: IpAddr::V4(Ipv4Addr::new(10, high, mid, low)),
            state: NodeState::Running,
            epoch: 0,
            now: Instant::ZERO,
            clock: Cell::new(Instant::ZERO),
            slots: Vec::new(),
            free: Vec::new(),
            lingering: BTreeSet::new(),
            listeners: Vec::new(),
            timers: BTreeMap::new(),
            ready: VecDeque::new(),
            mail_queued: false,
            wake_scheduled: false,
            in_batch: false,
            stop_wanted: false,
            armings: 0,
            next_port: PORT_FIRST,
        }
    }

    /// Reads the clock as a wake-up does.
    pub(super) fn read_clock(&mut self, world: Instant) {
        self.now = world.max(self.clock.get());
        self.clock.set(self.now);
    }

    /// A new token for `key`.
    pub(super) fn open_slot(&mut self, key: EndKey) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(key);
        ConnId { index, generation: slot.0 }
    }

    /// Makes the token stale.
    pub(super) fn close_slot(&mut self, conn: ConnId) {
        let slot = &mut self.slots[conn.index as usize];
        debug_assert!(slot.0 == conn.generation && slot.1.is_some(), "a token is closed once");
        *slot = (slot.0.wrapping_add(1), None);
        self.free.push(conn.index);
    }

    /// The end behind a token; `None` if the token is stale.
    pub(super) fn find(&self, conn: ConnId) -> Option<EndKey> {
        match self.slots.get(conn.index as usize) {
            Some((generation, key)) if *generation == conn.generation => *key,
            _ => None,
        }
    }

    /// Open connections.
    pub(super) fn connections(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The next local port. Ports of this world never run out: they only name a connection.
    pub(super) fn take_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = if port == PORT_LAST { PORT_FIRST } else { port + 1 };
        port
    }
}
