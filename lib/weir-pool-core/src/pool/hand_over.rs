//! What an owner with callers in line asks beyond acquire and release: the next use of a connection without an idle moment,
//! and a look at idle ones.

use weir_core::Instant;

use super::lists::{link_by_age, link_newest};
use super::{Pool, Released, idle_nanos_of, worn};
use crate::slot::{CloseReason, NONE, SlotId, State};

impl<C: Copy + Eq> Pool<C> {
    /// As [`Pool::acquire_idle`], for an owner who trims by a maximum and checks connections itself: neither the peak nor
    /// the peer's time-out is learnt.
    #[inline]
    pub fn take_newest(&mut self, now: Instant) -> Option<SlotId> {
        let index = self.idle.newest;
        let slot = self.slots.get_mut(index as usize)?;
        let meta = &mut slot.meta;
        if meta.epoch != self.epoch || now >= meta.expires || idle_nanos_of(meta, now) >= self.idle_nanos {
            return self.take_fit_newest(now);
        }
        let id = SlotId { index, generation: meta.generation };
        let older = meta.older;
        meta.older = NONE;
        meta.state = State::Busy;
        meta.uses = meta.uses.saturating_add(1);
        self.idle.newest = older;
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.meta.newer = NONE,
            None => self.idle.oldest = NONE,
        }
        self.idle_count -= 1;
        self.busy_count += 1;
        self.stats.reused += 1;
        self.check_invariants();
        Some(id)
    }

    #[cold]
    fn take_fit_newest(&mut self, now: Instant) -> Option<SlotId> {
        let (slot, _) = self.take_fit(|idle| idle.newest, now)?;
        if let Some(meta) = self.meta_mut(slot.index) {
            meta.state = State::Busy;
            meta.uses = meta.uses.saturating_add(1);
        }
        self.busy_count += 1;
        self.stats.reused += 1;
        self.check_invariants();
        Some(slot)
    }

    /// Undoes [`Pool::take_newest`], at once: the connection was not used, and has been idle since it was before.
    pub(crate) fn untake(&mut self, slot: SlotId) {
        let Some((index, entry)) = self.entry_mut(slot) else { return };
        if entry.meta.state != State::Busy {
            return;
        }
        entry.meta.state = State::Idle;
        entry.meta.uses = entry.meta.uses.saturating_sub(1);
        // As it was: nothing has become idle in between.
        link_newest(&mut self.slots, &mut self.idle, index);
        self.busy_count -= 1;
        self.idle_count += 1;
        self.stats.reused = self.stats.reused.saturating_sub(1);
        self.check_invariants();
    }

    /// As [`Pool::release`], the counterpart of [`Pool::take_newest`].
    #[inline]
    pub fn take_back(&mut self, slot: SlotId, now: Instant) -> Released {
        let (epoch, max_uses) = (self.epoch, self.params.max_uses);
        let Some((index, entry)) = self.entry_mut(slot) else { return Released::Close(CloseReason::Failed) };
        if entry.meta.state != State::Busy {
            return Released::Close(CloseReason::Failed);
        }
        let reason = worn(&entry.meta, epoch, now)
            .or_else(|| max_uses.filter(|max| entry.meta.uses >= *max).map(|_| CloseReason::MaxUses));
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

    /// The use is over and the next one begins at once: as [`Pool::take_back`] followed by [`Pool::take_newest`] of the same
    /// connection, for a direct hand-off. If it must not be used again, the reason to close it, as from `release`.
    pub fn renew(&mut self, slot: SlotId, now: Instant) -> Result<(), CloseReason> {
        let (epoch, max_uses) = (self.epoch, self.params.max_uses);
        let Some((index, entry)) = self.entry_mut(slot) else { return Err(CloseReason::Failed) };
        if entry.meta.state != State::Busy {
            return Err(CloseReason::Failed);
        }
        let reason = worn(&entry.meta, epoch, now)
            .or_else(|| max_uses.filter(|max| entry.meta.uses >= *max).map(|_| CloseReason::MaxUses));
        let renewed = match reason {
            None => {
                entry.meta.uses = entry.meta.uses.saturating_add(1);
                self.stats.reused += 1;
                Ok(())
            }
            Some(reason) => {
                self.busy_count -= 1;
                self.set_state(index, State::Closing);
                self.closing_count += 1;
                Err(reason)
            }
        };
        self.check_invariants();
        renewed
    }

    /// A use that is over ended the connection, or it is to be closed for another reason of the owner's: it is not in use any
    /// more, and holds its place until [`Pool::remove`]. A reserved one likewise. False for a stale id, and for a connection in
    /// any other state.
    pub fn retire(&mut self, slot: SlotId, now: Instant) -> bool {
        let in_use = self.in_use();
        let Some((index, entry)) = self.entry_mut(slot) else { return false };
        match entry.meta.state {
            State::Busy => {
                self.keep_alive.used(slot, false);
                self.peak.record(in_use, now);
                self.busy_count -= 1;
            }
            State::Reserved => self.reserved_count -= 1,
            _ => return false,
        }
        self.closing_count += 1;
        self.set_state(index, State::Closing);
        self.check_invariants();
        true
    }

    /// A busy connection had so many uses more than were told.
    pub(crate) fn count_uses(&mut self, slot: SlotId, uses: u64) {
        let Some((_, entry)) = self.entry_mut(slot) else { return };
        entry.meta.uses = entry.meta.uses.saturating_add(u32::try_from(uses).unwrap_or(u32::MAX));
        self.stats.reused += uses;
    }

    /// A busy connection was taken for what is no use.
    pub(crate) fn forget_use(&mut self, slot: SlotId) {
        let Some((_, entry)) = self.entry_mut(slot) else { return };
        entry.meta.uses = entry.meta.uses.saturating_sub(1);
        self.stats.reused = self.stats.reused.saturating_sub(1);
    }

    /// When the lifetime of a connection is over; at once for a stale id.
    pub(crate) fn expires(&self, slot: SlotId) -> Instant {
        self.entry(slot).map_or(Instant::ZERO, |entry| entry.meta.expires)
    }

    /// The idle connections, the one used least recently first, and since when each has been idle.
    pub fn idle_oldest_first(&self) -> impl Iterator<Item = (SlotId, C, Instant)> {
        let mut at = self.idle.oldest;
        std::iter::from_fn(move || {
            let (index, slot) = self.slot(at)?;
            at = slot.meta.newer;
            let id = SlotId { index, generation: slot.meta.generation };
            slot.conn.map(|conn| (id, conn, slot.meta.idle_since))
        })
    }

    /// Takes an idle connection aside, to look whether it is alive. It counts as open, but as neither idle nor in use, until
    /// [`Pool::unreserve`] or [`Pool::remove`]. `None` if it is not idle.
    #[must_use]
    pub fn reserve(&mut self, slot: SlotId) -> Option<C> {
        let (index, entry) = self.entry_mut(slot)?;
        if entry.meta.state != State::Idle {
            return None;
        }
        let conn = entry.conn;
        self.unlink_idle(index);
        self.set_state(index, State::Reserved);
        self.reserved_count += 1;
        self.check_invariants();
        conn
    }

    /// Ends [`Pool::reserve`]: the connection is alive. It is idle again, for as long as before. Drained ones are set aside for
    /// the next sweep.
    pub fn unreserve(&mut self, slot: SlotId) {
        let epoch = self.epoch;
        let Some((index, entry)) = self.entry_mut(slot) else { return };
        if entry.meta.state != State::Reserved {
            return;
        }
        let drained = entry.meta.epoch != epoch;
        let expires = entry.meta.expires;
        self.reserved_count -= 1;
        if drained {
            self.doom(index, CloseReason::Drained);
        } else {
            self.set_state(index, State::Idle);
            self.next_expiry = self.next_expiry.min(expires);
            link_by_age(&mut self.slots, &mut self.idle, index);
            self.idle_count += 1;
        }
        self.check_invariants();
    }

    /// The connections in use. Looks at every slot.
    pub fn busy(&self) -> impl Iterator<Item = SlotId> {
        let busy = self.slots.iter().enumerate().filter(|(_, slot)| slot.meta.state == State::Busy);
        busy.map(|(index, slot)| SlotId { index: index as u32, generation: slot.meta.generation })
    }
}
