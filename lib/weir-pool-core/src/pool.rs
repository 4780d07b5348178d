//! The machine.
#![allow(unused_variables, clippy::unimplemented, dead_code, clippy::needless_pass_by_value)]

use crate::{Params, Quota};
use weir_core::Instant;

/// The connections of one endpoint on one worker.
pub struct Pool<C> {
    params: Params,
    slots: Vec<C>,
}

/// One use of a slot of a [`Pool`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId {
    index: u32,
    generation: u32,
}

/// What became of [`Pool::acquire`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Acquire<C> {
    /// An idle connection, now busy.
    Reuse(SlotId, C),
    /// Open a connection, then call `connected` or `connect_failed`.
    Connect(SlotId),
    /// No idle connection and no place in the quota.
    Full,
}

/// What became of [`Pool::release`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Released {
    /// It is idle now.
    Kept,
    /// It must not be used again: close it, then call [`Pool::remove`] with this reason.
    Close(CloseReason),
}

/// Why a connection left the pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum CloseReason {
    /// The peer closed it while it was idle.
    PeerClosed,
    /// An exchange on it failed, or left it in a state that allows no further use.
    Failed,
    /// It was idle for longer than the idle time-out.
    IdleTimeout,
    /// Its lifetime is over.
    Lifetime,
    /// It has been used as often as allowed.
    MaxUses,
    /// More were idle than the recent peak needs.
    Trimmed,
    /// The pool was drained.
    Drained,
    /// It was handed to another pool.
    Moved,
    /// The owner is stopping.
    Shutdown,
}

/// What travels with a connection from one pool to another, its place in the quota included.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the connection's place in the quota travels with this value: adopt it or give the place back"]
pub struct ConnMeta {
    opened: Instant,
    expires: Instant,
    uses: u32,
}

/// Figures of one pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Idle now.
    pub idle: u32,
    /// Busy now.
    pub busy: u32,
    /// Being opened now.
    pub connecting: u32,
    /// Given to the owner to close, not yet removed.
    pub closing: u32,
    /// Highest number of busy and connecting ones within the window.
    pub peak: u32,
    /// Opened since the start.
    pub opened: u64,
    /// Handed out again since the start.
    pub reused: u64,
    /// Connects that failed since the start.
    pub connect_failed: u64,
}

impl<C: Copy + Eq> Pool<C> {
    /// An empty pool.
    pub fn new(params: Params) -> Self {
        unimplemented!()
    }
    /// Takes the most recently used idle connection, or a place for a new one.
    pub fn acquire(&mut self, now: Instant, quota: &impl Quota) -> Acquire<C> {
        unimplemented!()
    }
    /// Takes a place for a connection opened ahead of demand; it becomes idle when connected.
    #[must_use]
    pub fn warm(&mut self, now: Instant, quota: &impl Quota) -> Option<SlotId> {
        unimplemented!()
    }
    /// The connect succeeded: busy if `acquire` asked for it, idle if `warm` did.
    pub fn connected(&mut self, slot: SlotId, conn: C, now: Instant, seed: u64) {
        unimplemented!()
    }
    /// The connect failed; the slot is gone.
    pub fn connect_failed(&mut self, slot: SlotId, quota: &impl Quota) {
        unimplemented!()
    }
    /// The use is over and the connection is sound.
    pub fn release(&mut self, slot: SlotId, now: Instant) -> Released {
        unimplemented!()
    }
    /// The connection is closed; the slot is gone. False if the id is stale.
    pub fn remove(&mut self, slot: SlotId, quota: &impl Quota, reason: CloseReason) -> bool {
        unimplemented!()
    }
    /// Housekeeping: hands out what to close. Close each, then call [`Pool::remove`] for it.
    pub fn sweep(
        &mut self,
        now: Instant,
        share: usize,
        out: &mut impl FnMut(SlotId, C, CloseReason),
    ) {
        unimplemented!()
    }
    /// When [`Pool::sweep`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        unimplemented!()
    }
    /// How many to open to reach `min_idle`.
    pub fn want_warm(&mut self, now: Instant) -> u32 {
        unimplemented!()
    }
    /// Evicts all: idle ones at the next sweep (due at once), busy ones at their return.
    pub fn drain(&mut self) {
        unimplemented!()
    }
    /// Takes an idle connection out to give it to another pool. Its place in the quota goes with it.
    pub fn take_idle(&mut self, now: Instant) -> Option<(SlotId, C, ConnMeta)> {
        unimplemented!()
    }
    /// Takes in a connection of another pool; it is busy (released when not needed).
    pub fn adopt(&mut self, conn: C, meta: ConnMeta, now: Instant) -> SlotId {
        unimplemented!()
    }
    /// The connection of a slot, if it has one.
    pub fn conn(&self, slot: SlotId) -> Option<C> {
        unimplemented!()
    }
    /// Figures.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }
    /// Closed since the start for `reason`.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        unimplemented!()
    }
    /// Whether nothing is open or being opened.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
    /// Changes the settings; they hold for connections from their next release or sweep on.
    pub fn set_params(&mut self, params: Params) {
        unimplemented!()
    }
}
