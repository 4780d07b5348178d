//! The machine: the connections of one endpoint on one worker.
//!
//! # Rules
//! 1. **LIFO.** The most recently used idle connection is taken first, so that surplus ones age and can be
//!    closed; the list is intrusive and doubly linked, so one that the peer closes leaves it in O(1).
//! 2. **One way out.** A connection leaves by [`Pool::remove`] (or `connect_failed`, or `take_idle`) and
//!    only there its place in the quota is given back; `release` and `sweep` merely say what to close.
//! 3. **Nothing is closed at return for being too many.** At return a connection is closed only if it is
//!    used up, too old or drained. The housekeeper trims, against the recent peak.
//! 4. **Trimming.** In use = busy + being opened for a request. Peak = the highest number in use
//!    within the last `peak_window` (up to 1/8 longer). Kept in total, idle ones included:
//!
//!    ```text
//!    keep    = max(share of max_idle, peak)
//!    surplus = min(total − keep, idle − min_idle), not below 0
//!    closed  = ⌈surplus / 4⌉ per sweep, oldest first, at most once a second
//!    ```
//!
//!    so a surplus of 100 is below 10 after 8 s, and a load that swings within the window costs no
//!    connects.
//! 5. **`min_idle` connections are exempt from the idle time-out,** the most recently used ones: they would only be
//!    closed and opened again, for ever. (`HikariCP` does so too: `idleTimeout`.) Lifetimes and uses end them like any other.
//! 6. **Lifetimes** are drawn at connect from `max_lifetime × (1 − jitter … 1)`, so that connections opened
//!    together do not end together.
//! 7. **The peer's own time-out** is learned ([`Pool::peer_closed`], [`Pool::peer_announced`]): [`Pool::is_near_close`]
//!    warns requests that cannot be repeated.
//! 8. No allocation in `acquire` and `release`, but for the growth of the slot table.
//!
//! Callers that wait stand in line around it: [`Broker`](crate::Broker) in an embeddable pool, the permits shared by all
//! workers in the data path of the proxy.

mod hand_over;
mod housekeeping;
mod invariants;
mod lists;

use std::time::Duration;

use weir_core::{Instant, hash};

use self::lists::{List, link_newest, unlink};
use crate::keep_alive::KeepAlive;
use crate::peak::Peak;
use crate::slot::{CloseReason, ConnMeta, Meta, NONE, Slot, SlotId, State};
use crate::{Params, Quota};

/// Most connections of one pool, whatever the quota says.
pub const SLOTS_MAX: usize = 1 << 20;
/// A sweep closes this part of the surplus.
pub const TRIM_DIVISOR: u32 = 4;
/// Between two trims.
pub const TRIM_INTERVAL: Duration = Duration::from_secs(1);
/// After a failed warm-up, the next one is this much later.
pub const WARM_RETRY: Duration = Duration::from_secs(1);

/// What became of [`Pool::acquire`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Acquire<C> {
    /// An idle connection, now busy.
    Reuse(SlotId, C),
    /// A place for a new one: open it, then call [`Pool::connected`] or [`Pool::connect_failed`].
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

/// Figures of one pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Idle now.
    pub idle: u32,
    /// Busy now.
    pub busy: u32,
    /// Being opened now.
    pub connecting: u32,
    /// Said to be closed, not yet removed.
    pub closing: u32,
    /// Taken aside by [`Pool::reserve`].
    pub reserved: u32,
    /// Highest number in use within the window.
    pub peak: u32,
    /// Opened since the start.
    pub opened: u64,
    /// Handed out again since the start.
    pub reused: u64,
    /// Adopted from other pools since the start.
    pub adopted: u64,
    /// Connects that failed since the start.
    pub connect_failed: u64,
}

/// The connections of one endpoint on one worker. `C` is the owner's token of a connection.
///
/// ```
/// use weir_core::Instant;
/// use weir_pool_core::{Acquire, CloseReason, LocalQuota, Params, Pool, Quota, Released};
///
/// let now = Instant::ZERO;
/// let quota = LocalQuota::new(1);
/// let mut pool: Pool<&str> = Pool::new(Params::default());
///
/// let Acquire::Connect(slot) = pool.acquire(now, &quota) else { unreachable!() };
/// pool.connected(slot, "socket 3", now, 42);
/// assert_eq!(pool.acquire(now, &quota), Acquire::Full); // the quota is one
///
/// assert_eq!(pool.release(slot, now), Released::Kept);
/// assert_eq!(pool.acquire(now, &quota), Acquire::Reuse(slot, "socket 3"));
///
/// pool.remove(slot, &quota, CloseReason::Failed);
/// assert_eq!(quota.granted(), 0);
/// ```
#[derive(Debug)]
pub struct Pool<C> {
    params: Params,
    /// `params.idle_timeout`, as compared in `is_timed_out`.
    idle_nanos: u64,
    slots: Vec<Slot<C>>,
    free: u32,
    /// Newest first; `idle_since` never rises towards the older end.
    idle: List,
    doomed: List,
    idle_count: u32,
    busy_count: u32,
    connecting_count: u32,
    warming_count: u32,
    closing_count: u32,
    reserved_count: u32,
    peak: Peak,
    keep_alive: KeepAlive,
    epoch: u32,
    /// Not later than the earliest end of a lifetime among the idle ones.
    next_expiry: Instant,
    next_trim: Instant,
    /// The share of `max_idle` at the last sweep.
    share: u32,
    warm_failed: bool,
    warm_not_before: Instant,
    stats: Stats,
    closed: [u64; CloseReason::ALL.len()],
}

impl<C: Copy + Eq> Pool<C> {
    /// An empty pool. `params.min_idle` is this pool's own: an owner of several pools divides it
    /// (see [`share`](crate::share())).
    pub fn new(params: Params) -> Self {
        Self {
            peak: Peak::new(params.peak_window),
            share: params.max_idle,
            idle_nanos: nanos(params.idle_timeout),
            params,
            slots: Vec::new(),
            free: NONE,
            idle: List::EMPTY,
            doomed: List::EMPTY,
            idle_count: 0,
            busy_count: 0,
            connecting_count: 0,
            warming_count: 0,
            closing_count: 0,
            reserved_count: 0,
            keep_alive: KeepAlive::new(),
            epoch: 0,
            next_expiry: Instant::FAR,
            next_trim: Instant::ZERO,
            warm_failed: false,
            warm_not_before: Instant::ZERO,
            stats: Stats::default(),
            closed: [0; CloseReason::ALL.len()],
        }
    }

    /// Changes the settings. Connections keep the lifetimes that they have drawn; all else holds from
    /// the next call on.
    pub fn set_params(&mut self, params: Params) {
        self.peak.set_window(params.peak_window);
        self.idle_nanos = nanos(params.idle_timeout);
        self.params = params;
    }

    /// Takes the most recently used idle connection, or a place for a new one.
    ///
    /// Idle ones that turn out to be too old are set aside for the next sweep, which is then due at once.
    /// They hold their places until they are removed: on [`Acquire::Full`], an owner whose sweep is
    /// due can sweep and try again.
    pub fn acquire(&mut self, now: Instant, quota: &impl Quota) -> Acquire<C> {
        if let Some((slot, conn)) = self.acquire_idle(now) {
            return Acquire::Reuse(slot, conn);
        }
        let acquired = match self.start_connect(false, quota) {
            Some(slot) => Acquire::Connect(slot),
            None => Acquire::Full,
        };
        self.peak.record(self.in_use(), now);
        self.check_invariants();
        acquired
    }

    /// Takes the most recently used idle connection, if there is one; as [`Pool::acquire`] otherwise.
    pub fn acquire_idle(&mut self, now: Instant) -> Option<(SlotId, C)> {
        let (slot, conn) = self.take_fit(|idle| idle.newest, now)?;
        let idle = self.entry(slot).map_or(0, |slot| idle_nanos_of(&slot.meta, now));
        self.keep_alive.reused(slot, idle);
        self.make_busy(slot.index, now);
        self.stats.reused += 1;
        self.check_invariants();
        Some((slot, conn))
    }

    /// Takes a place for a new connection although idle ones may be there (they are suspected to be
    /// stale). As after [`Acquire::Connect`]: busy when connected. `None` without a place in the quota.
    #[must_use]
    pub fn acquire_new(&mut self, now: Instant, quota: &impl Quota) -> Option<SlotId> {
        let slot = self.start_connect(false, quota);
        self.peak.record(self.in_use(), now);
        self.check_invariants();
        slot
    }

    /// Takes a place for a connection opened ahead of demand; it becomes idle when connected.
    #[must_use]
    pub fn warm(&mut self, quota: &impl Quota) -> Option<SlotId> {
        let slot = self.start_connect(true, quota);
        self.check_invariants();
        slot
    }

    /// The connect succeeded: the connection is busy if [`Pool::acquire`] asked for it (and has its first
    /// use), idle if [`Pool::warm`] did. `seed` draws its lifetime. A stale id is ignored.
    pub fn connected(&mut self, slot: SlotId, conn: C, now: Instant, seed: u64) {
        let expires = draw_expiry(&self.params, now, seed);
        let epoch = self.epoch;
        let Some((index, entry)) = self.entry_mut(slot) else { return };
        let State::Connecting { warm } = entry.meta.state else { return };
        let drained = entry.meta.epoch != epoch;
        entry.conn = Some(conn);
        entry.meta.opened = now;
        entry.meta.expires = expires;
        entry.meta.uses = u32::from(!warm);
        self.connecting_count -= 1;
        self.stats.opened += 1;
        if warm {
            self.warming_count -= 1;
            if drained {
                self.doom(index, CloseReason::Drained);
            } else {
                self.link_idle(index, now);
            }
        } else {
            self.set_state(index, State::Busy);
            self.busy_count += 1;
        }
        self.check_invariants();
    }

    /// The connect failed, or was given up: the slot is gone and its place is given back.
    pub fn connect_failed(&mut self, slot: SlotId, quota: &impl Quota) {
        let Some((index, entry)) = self.entry_mut(slot) else { return };
        let State::Connecting { warm } = entry.meta.state else { return };
        self.connecting_count -= 1;
        self.warming_count -= u32::from(warm);
        self.warm_failed |= warm;
        self.stats.connect_failed += 1;
        self.free_slot(index);
        quota.give_back();
        self.check_invariants();
    }

    /// The use is over and the connection is sound (all of the response was read, the peer keeps it open).
    /// One that is not sound goes straight to [`Pool::remove`].
    pub fn release(&mut self, slot: SlotId, now: Instant) -> Released {
        let (epoch, max_uses) = (self.epoch, self.params.max_uses);
        let in_use = self.in_use();
        let Some((index, entry)) = self.entry_mut(slot) else {
            return Released::Close(CloseReason::Failed);
        };
        if entry.meta.state != State::Busy {
            return Released::Close(CloseReason::Failed);
        }
        let reason = worn(&entry.meta, epoch, now)
            .or_else(|| max_uses.filter(|max| entry.meta.uses >= *max).map(|_| CloseReason::MaxUses));
        self.keep_alive.used(slot, true);
        // In use until now: the peak must see it before the number falls.
        self.peak.record(in_use, now);
        self.busy_count -= 1;
        let released = if let Some(reason) = reason {
            self.set_state(index, State::Closing);
            self.closing_count += 1;
            Released::Close(reason)
        } else {
            self.link_idle(index, now);
            Released::Kept
        };
        self.check_invariants();
        released
    }

    /// The connection is closed (or is about to be, by the caller): the slot is gone and its place is
    /// given back. False for a stale id, which changes nothing.
    pub fn remove(&mut self, slot: SlotId, quota: &impl Quota, reason: CloseReason) -> bool {
        let Some((index, entry)) = self.entry_mut(slot) else { return false };
        match entry.meta.state {
            State::Free => return false,
            State::Connecting { .. } => {
                self.connect_failed(slot, quota);
                return true;
            }
            State::Idle => self.unlink_idle(index),
            State::Busy => self.busy_count -= 1,
            State::Reserved => self.reserved_count -= 1,
            State::Doomed(_) => {
                self.unlink_doomed(index);
                self.closing_count -= 1;
            }
            State::Closing => self.closing_count -= 1,
        }
        self.keep_alive.used(slot, false);
        self.count_closed(reason);
        self.free_slot(index);
        quota.give_back();
        self.check_invariants();
        true
    }

    /// Housekeeping: hands out what to close. Close each, then call [`Pool::remove`] for it with the reason.
    /// `share` is this pool's share of `max_idle` (the owner divides it among the workers).
    ///
    /// Cheap when nothing is due. Walks the idle list only when a lifetime has ended.
    pub fn sweep(&mut self, now: Instant, share: usize, out: &mut impl FnMut(SlotId, C, CloseReason)) {
        self.share = u32::try_from(share).unwrap_or(u32::MAX);
        self.peak.record(self.in_use(), now);
        self.keep_alive.housekeep(now);
        self.doom_timed_out(now);
        self.doom_expired(now);
        self.doom_surplus(now);
        // Each pass takes one out of the doomed list.
        while let Some((index, slot)) = self.slot(self.doomed.oldest) {
            let State::Doomed(reason) = slot.meta.state else { break };
            let (conn, generation) = (slot.conn, slot.meta.generation);
            self.unlink_doomed(index);
            self.set_state(index, State::Closing);
            if let Some(conn) = conn {
                out(SlotId { index, generation }, conn, reason);
            }
        }
        self.check_invariants();
    }

    /// When [`Pool::sweep`] is due; `Instant::ZERO` = at once.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.doomed.oldest != NONE {
            return Some(Instant::ZERO);
        }
        let (_, oldest) = self.slot(self.idle.oldest)?;
        let mut next = self.next_expiry;
        if self.idle_count > self.params.min_idle {
            next = next.min(oldest.meta.idle_since + self.params.idle_timeout);
            if self.total() > self.share {
                next = next.min(self.next_trim);
            }
        }
        (next < Instant::FAR).then_some(next)
    }

    /// How many to open now with [`Pool::warm`], to have `min_idle` idle ones. None for a second after one of
    /// them failed. For an endpoint that may get traffic only; the owner knows.
    pub fn want_warm(&mut self, now: Instant) -> u32 {
        if self.warm_failed {
            self.warm_failed = false;
            self.warm_not_before = now + WARM_RETRY;
        }
        if now < self.warm_not_before {
            return 0;
        }
        self.params.min_idle.saturating_sub(self.idle_count + self.warming_count)
    }

    /// Evicts every connection that exists or is being opened: the idle ones are handed out by the next
    /// sweep, which is due at once; the busy ones at their return. Connections asked for later are not
    /// affected.
    pub fn drain(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.keep_alive = KeepAlive::new();
        while let Some((index, _)) = self.slot(self.idle.oldest) {
            self.unlink_idle(index);
            self.doom(index, CloseReason::Drained);
        }
        self.check_invariants();
    }

    /// Whether the peer may be about to close even the idle connection that [`Pool::acquire`] would take: a request that
    /// cannot be repeated is better off with a new one. False if none is idle, and as long as nothing is known of
    /// when the peer closes.
    pub fn is_near_close(&self, now: Instant) -> bool {
        self.slot(self.idle.newest).is_some_and(|(_, slot)| self.keep_alive.is_near(idle_nanos_of(&slot.meta, now)))
    }

    /// The peer has closed a connection that is idle, or was taken just now. To be told before [`Pool::remove`]. (One that
    /// came from another pool counts as used when it came.)
    pub fn peer_closed(&mut self, slot: SlotId, now: Instant) {
        if let Some(entry) = self.entry(slot)
            && matches!(entry.meta.state, State::Idle | State::Busy)
        {
            let idle = idle_nanos_of(&entry.meta, now);
            self.keep_alive.closed(idle, now);
        }
    }

    /// How long the peer says that it keeps idle connections; `None` if it says nothing.
    pub fn peer_announced(&mut self, timeout: Option<Duration>) {
        self.keep_alive.announce(timeout.map(nanos));
    }

    /// Takes out the idle connection that was used least recently, to give it to another pool of the same
    /// endpoint. Its place in the quota goes with it. The id returned is stale already: it names the
    /// slot for the owner's own tables.
    pub fn take_idle(&mut self, now: Instant) -> Option<(SlotId, C, ConnMeta)> {
        let taken = self.take_fit(|idle| idle.oldest, now);
        let moved = taken.and_then(|(id, conn)| {
            let Meta { opened, expires, uses, .. } = self.slot(id.index)?.1.meta;
            self.count_closed(CloseReason::Moved);
            self.free_slot(id.index);
            Some((id, conn, ConnMeta { opened, expires, uses }))
        });
        self.check_invariants();
        moved
    }

    /// Takes in a connection of another pool, with its age, its uses and its place in the quota. It is
    /// busy: somebody asked for it. If nobody needs it any more, release it.
    #[expect(clippy::needless_pass_by_value, reason = "the place in the quota passes over, once")]
    pub fn adopt(&mut self, conn: C, meta: ConnMeta, now: Instant) -> SlotId {
        let id = self.new_slot();
        if let Some(slot) = self.slots.get_mut(id.index as usize) {
            slot.conn = Some(conn);
            slot.meta.opened = meta.opened;
            slot.meta.expires = meta.expires;
            slot.meta.uses = meta.uses;
        }
        self.make_busy(id.index, now);
        self.stats.adopted += 1;
        self.check_invariants();
        id
    }

    /// The connection of a slot; `None` while it is being opened and for a stale id.
    pub fn conn(&self, slot: SlotId) -> Option<C> {
        self.entry(slot)?.conn
    }

    /// Whether the slot's connection is idle: what the peer sends now can only be its end.
    pub fn is_idle(&self, slot: SlotId) -> bool {
        self.entry(slot).is_some_and(|entry| entry.meta.state == State::Idle)
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        Stats {
            idle: self.idle_count,
            busy: self.busy_count,
            connecting: self.connecting_count,
            closing: self.closing_count,
            reserved: self.reserved_count,
            peak: self.peak.get(),
            ..self.stats
        }
    }

    /// How many were closed for `reason` since the start.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed.get(reason as usize).copied().unwrap_or(0)
    }

    /// Whether no connection is open or being opened.
    pub fn is_empty(&self) -> bool {
        self.total() + self.closing_count == 0
    }

    // === what there is ===

    /// What the requests need at this moment.
    fn in_use(&self) -> u32 {
        self.busy_count + self.connecting_count - self.warming_count
    }

    fn total(&self) -> u32 {
        self.idle_count + self.busy_count + self.connecting_count + self.reserved_count
    }

    fn slot(&self, index: u32) -> Option<(u32, &Slot<C>)> {
        self.slots.get(index as usize).map(|slot| (index, slot))
    }

    fn entry(&self, id: SlotId) -> Option<&Slot<C>> {
        let slot = self.slots.get(id.index as usize)?;
        (slot.meta.generation == id.generation).then_some(slot)
    }

    fn entry_mut(&mut self, id: SlotId) -> Option<(u32, &mut Slot<C>)> {
        let slot = self.slots.get_mut(id.index as usize)?;
        (slot.meta.generation == id.generation).then_some((id.index, slot))
    }

    fn meta_mut(&mut self, index: u32) -> Option<&mut Meta> {
        self.slots.get_mut(index as usize).map(|slot| &mut slot.meta)
    }

    // === transitions ===

    /// Takes the first connection that may be used from this end of the idle list out of it. Those on the way that may
    /// not are set aside for the next sweep.
    fn take_fit(&mut self, end: impl Fn(List) -> u32, now: Instant) -> Option<(SlotId, C)> {
        // Each pass takes one out of the idle list.
        while let Some((index, slot)) = self.slot(end(self.idle)) {
            let (conn, worn) = (slot.conn, worn(&slot.meta, self.epoch, now));
            let (generation, timed_out) = (slot.meta.generation, self.is_timed_out(&slot.meta, now));
            if worn.is_none() && timed_out {
                // Unless it is one of those that are kept however long they are idle.
                self.doom_timed_out(now);
                if end(self.idle) != index {
                    continue;
                }
            }
            self.unlink_idle(index);
            match (conn, worn) {
                (Some(conn), None) => return Some((SlotId { index, generation }, conn)),
                (_, worn) => self.doom(index, worn.unwrap_or(CloseReason::Failed)),
            }
        }
        None
    }

    fn start_connect(&mut self, warm: bool, quota: &impl Quota) -> Option<SlotId> {
        if self.free == NONE && self.slots.len() >= SLOTS_MAX {
            return None;
        }
        if !quota.try_take() {
            return None;
        }
        let id = self.new_slot();
        self.set_state(id.index, State::Connecting { warm });
        self.connecting_count += 1;
        self.warming_count += u32::from(warm);
        Some(id)
    }

    /// A slot out of the free list, or a new one. The caller sets its state.
    fn new_slot(&mut self) -> SlotId {
        if self.free == NONE {
            self.free = self.slots.len() as u32;
            self.slots.push(Slot { conn: None, meta: Meta::free(NONE) });
        }
        let (index, epoch) = (self.free, self.epoch);
        let mut generation = 0;
        let mut next = NONE;
        if let Some(meta) = self.meta_mut(index) {
            (generation, next) = (meta.generation, meta.older);
            *meta = Meta { generation, epoch, ..Meta::free(NONE) };
        }
        self.free = next;
        SlotId { index, generation }
    }

    fn free_slot(&mut self, index: u32) {
        let free = self.free;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.conn = None;
            slot.meta = Meta { generation: slot.meta.generation.wrapping_add(1), ..Meta::free(free) };
            self.free = index;
        }
    }

    fn set_state(&mut self, index: u32, state: State) {
        if let Some(meta) = self.meta_mut(index) {
            meta.state = state;
        }
    }

    /// From no list to busy, with one more use.
    fn make_busy(&mut self, index: u32, now: Instant) {
        if let Some(meta) = self.meta_mut(index) {
            meta.state = State::Busy;
            meta.uses = meta.uses.saturating_add(1);
        }
        self.busy_count += 1;
        self.peak.record(self.in_use(), now);
    }

    #[inline]
    fn link_idle(&mut self, index: u32, now: Instant) {
        // The order of the list must hold even if `now` stepped back.
        let newest = self.slot(self.idle.newest).map_or(Instant::ZERO, |(_, slot)| slot.meta.idle_since);
        if let Some(meta) = self.meta_mut(index) {
            meta.state = State::Idle;
            meta.idle_since = now.max(newest);
            let expires = meta.expires;
            self.next_expiry = self.next_expiry.min(expires);
        }
        link_newest(&mut self.slots, &mut self.idle, index);
        self.idle_count += 1;
    }

    fn unlink_idle(&mut self, index: u32) {
        unlink(&mut self.slots, &mut self.idle, index);
        self.idle_count -= 1;
    }

    fn unlink_doomed(&mut self, index: u32) {
        unlink(&mut self.slots, &mut self.doomed, index);
    }

    /// From no list to doomed.
    fn doom(&mut self, index: u32, reason: CloseReason) {
        self.set_state(index, State::Doomed(reason));
        link_newest(&mut self.slots, &mut self.doomed, index);
        self.closing_count += 1;
    }

    fn count_closed(&mut self, reason: CloseReason) {
        if let Some(count) = self.closed.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

/// Why a connection must not be used again, its uses aside: drained or at the end of its lifetime.
fn worn(meta: &Meta, epoch: u32, now: Instant) -> Option<CloseReason> {
    if meta.epoch != epoch {
        Some(CloseReason::Drained)
    } else if now >= meta.expires {
        Some(CloseReason::Lifetime)
    } else {
        None
    }
}

/// For how long it has been idle, or was until it was taken.
fn idle_nanos_of(meta: &Meta, now: Instant) -> u64 {
    now.as_nanos().saturating_sub(meta.idle_since.as_nanos())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn draw_expiry(params: &Params, now: Instant, seed: u64) -> Instant {
    let Some(lifetime) = params.max_lifetime else { return Instant::FAR };
    let nanos = nanos(lifetime);
    let spread = (nanos as f64 * params.lifetime_jitter.clamp(0.0, 1.0)) as u64;
    let early = hash::reduce(hash::splitmix64(seed), spread.saturating_add(1));
    now + Duration::from_nanos(nanos.saturating_sub(early))
}

#[cfg(test)]
mod tests;
