//! The state of connections: two ends, and for each what its kernel and its engine would hold.
//!
//! ```text
//!  end.stuck ──write──▶ peer.in_flight ──arrives──▶ peer.received ──on_data──▶ protocol
//!  (engine)             └──────── at most peer.capacity bytes ────────┘
//! ```
//! A pair lives until both of its ends are gone, as a closed end still answers to what arrives.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_core::{Address, Instant};

use super::NodeId;
use crate::{ConnId, IoFault, ListenerId, PumpEnd};

/// One end of a connection, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct EndKey {
    pair: u32,
    generation: u32,
    side: u8,
}

/// Who holds an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// The server's end before the connection attempt got there.
    Nobody,
    /// Established, not accepted yet.
    Backlog(ListenerId),
    /// A protocol, under this token.
    Conn(ConnId),
    /// A `Detached`.
    Parcel,
    /// Closed with `Linger`; given up at the moment, extended by the patience on progress.
    Lingering(Instant, Duration),
    /// Closed.
    Gone,
}

/// How far an outgoing connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Connecting,
    /// The result is known, `on_connected` is due.
    Answered(Result<(), IoFault>),
    Open,
}

/// What travels.
#[derive(Debug)]
pub(super) enum Segment {
    Data(Vec<u8>),
    Fin,
    Rst,
}

/// A pump that reads the end which holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pump {
    pub(super) to: EndKey,
    pub(super) limit: Option<u64>,
    pub(super) moved: u64,
}

/// One end of a connection.
pub(super) struct End {
    pub(super) owner: Owner,
    pub(super) node: NodeId,
    pub(super) phase: Phase,
    /// This end's own address; `None` for Unix sockets.
    pub(super) local: Option<SocketAddr>,

    // What arrives.
    pub(super) in_flight: VecDeque<(Instant, Segment)>,
    pub(super) received: VecDeque<u8>,
    /// Bytes in flight and received.
    pub(super) used: usize,
    pub(super) capacity: usize,
    pub(super) last_arrival: Instant,
    pub(super) arrival_scheduled: bool,
    /// Since when a partition holds what is in flight.
    pub(super) held_since: Option<Instant>,
    pub(super) fin_received: bool,
    pub(super) broken: Option<IoFault>,

    // What is sent.
    pub(super) fin_sent: bool,
    /// A write did not fit; to be told when there is room.
    pub(super) write_blocked: bool,

    // The engine's part.
    pub(super) stuck: VecDeque<u8>,
    pub(super) fin_wanted: bool,
    pub(super) drain_due: bool,
    /// Room came up since the pumps that write here were last told.
    pub(super) has_news_for_pumps: bool,
    pub(super) paused: bool,
    pub(super) eof_told: bool,
    /// Writing has told of the break; reading then ends with the end of data.
    pub(super) write_dead: Option<IoFault>,
    pub(super) is_queued: bool,
    pub(super) pump: Option<Pump>,
    /// The ends whose pumps write to this one.
    pub(super) pumped_by: Vec<EndKey>,
    pub(super) deadline: Option<Instant>,
    /// When the next look at the deadline is scheduled.
    pub(super) deadline_check: Option<Instant>,
}

/// A connection.
pub(super) struct Pair {
    pub(super) ends: [End; 2],
    pub(super) address: Address,
    /// Bytes that may still arrive before the network breaks it.
    pub(super) bytes_left: Option<u64>,
}

/// A callback that is due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Accepted(ConnId, ListenerId, Option<SocketAddr>),
    Connected(ConnId, Result<(), IoFault>),
    /// The bytes are in the scratch buffer.
    Data(ConnId),
    Eof(ConnId),
    Drained(ConnId),
    Pumped(ConnId, u64, PumpEnd),
    Reset(ConnId, IoFault),
    Deadline(ConnId),
    Timer(u32),
    Messages,
}

/// All connections of a world.
#[derive(Default)]
pub(super) struct Pairs {
    slots: Vec<(u32, Option<Box<Pair>>)>,
    free: Vec<u32>,
}

impl EndKey {
    /// The other end.
    pub(super) fn peer(self) -> Self {
        Self { side: 1 - self.side, ..self }
    }

    /// Whether this end started the connection.
    pub(super) fn is_client(self) -> bool {
        self.side == 0
    }
}

impl End {
    pub(super) fn new(owner: Owner, node: NodeId, phase: Phase, capacity: usize) -> Self {
        Self {
            owner,
            node,
            phase,
            local: None,
            in_flight: VecDeque::new(),
            received: VecDeque::new(),
            used: 0,
            capacity,
            last_arrival: Instant::ZERO,
            arrival_scheduled: false,
            held_since: None,
            fin_received: false,
            broken: None,
            fin_sent: false,
            write_blocked: false,
            stuck: VecDeque::new(),
            fin_wanted: false,
            drain_due: false,
            has_news_for_pumps: false,
            paused: false,
            eof_told: false,
            write_dead: None,
            is_queued: false,
            pump: None,
            pumped_by: Vec::new(),
            deadline: None,
            deadline_check: None,
        }
    }

    /// Whether nobody will ask for this end any more.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.owner, Owner::Gone | Owner::Nobody)
    }

    /// Free room for what is sent to this end.
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.used)
    }
}

impl Pairs {
    /// A new pair; gives its client's end.
    pub(super) fn insert(&mut self, pair: Pair) -> EndKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(Box::new(pair));
        EndKey { pair: index, generation: slot.0, side: 0 }
    }

    pub(super) fn get(&self, key: EndKey) -> Option<&Pair> {
        match self.slots.get(key.pair as usize) {
            Some((generation, Some(pair))) if *generation == key.generation => Some(pair),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: EndKey) -> Option<&mut Pair> {
        match self.slots.get_mut(key.pair as usize) {
            Some((generation, Some(pair))) if *generation == key.generation => Some(pair),
            _ => None,
        }
    }

    pub(super) fn end(&self, key: EndKey) -> Option<&End> {
        self.get(key).map(|pair| &pair.ends[usize::from(key.side)])
    }

    pub(super) fn end_mut(&mut self, key: EndKey) -> Option<&mut End> {
        self.get_mut(key).map(|pair| &mut pair.ends[usize::from(key.side)])
    }

    /// Forgets the pair if both of its ends are gone.
    pub(super) fn tidy(&mut self, key: EndKey) {
        if self.get(key).is_some_and(|pair| pair.ends.iter().all(End::is_gone)) {
            let slot = &mut self.slots[key.pair as usize];
            *slot = (slot.0.wrapping_add(1), None);
            self.free.push(key.pair);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// Ends whose `Detached` was dropped: the world closes them when it looks next.
#[derive(Default)]
pub(super) struct Orphans {
    any: AtomicBool,
    list: Mutex<Vec<EndKey>>,
}

impl Orphans {
    fn add(&self, key: EndKey) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(key);
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn take(&self) -> Vec<EndKey> {
        if !self.any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a `Detached` of this driver holds.
pub(super) struct Parcel {
    key: Option<EndKey>,
    orphans: Arc<Orphans>,
}

impl Parcel {
    pub(super) fn new(key: EndKey, orphans: &Arc<Orphans>) -> Self {
        Self { key: Some(key), orphans: Arc::clone(orphans) }
    }

    /// Opens the parcel, if it is of the same world.
    pub(super) fn open(mut self, orphans: &Arc<Orphans>) -> Option<EndKey> {
        if Arc::ptr_eq(&self.orphans, orphans) { self.key.take() } else { None }
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.orphans.add(key);
        }
    }
}
