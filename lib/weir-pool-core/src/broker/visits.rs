//! What the housekeeper does when it comes, and when it is to come.

use weir_core::Instant;

use super::{Broker, CHECKS_MAX, Gift, Opening, Refusal, Todo};
use crate::Quota;
use crate::opener::Demand;
use crate::slot::{CloseReason, SlotId};

impl<C: Copy + Eq, W, Q: Quota> Broker<C, W, Q> {
    pub(super) fn call_housekeeper(&mut self, at: Instant) {
        if at < self.housekeeper_at {
            self.housekeeper_at = at;
            self.calls_housekeeper = true;
        }
    }

    /// A connection has become idle: its time runs.
    #[inline]
    pub(super) fn call_for_idle(&mut self, slot: SlotId) {
        let due = self.pool.poll_timeout().unwrap_or(Instant::FAR);
        let look = self.params.keepalive.map_or(Instant::FAR, |every| self.alive_at(slot) + every);
        self.call_housekeeper(due.min(look));
    }

    /// Something may be to be opened.
    pub(super) fn call_opener(&mut self) {
        self.call_housekeeper(self.open_at.unwrap_or(Instant::ZERO));
    }

    pub(super) fn next_visit(&self, now: Instant) -> Instant {
        let mut next = self.pool.poll_timeout().unwrap_or(Instant::FAR);
        next = next.min(self.open_at.unwrap_or(Instant::FAR));
        // Of one that has left already, maybe: then a visit is too early, which harms nothing.
        next = next.min(self.timed.front().map_or(Instant::FAR, |&(deadline, _)| deadline));
        if !self.line.is_empty()
            && let Some(first) = self.openings.iter().find(|opening| !opening.hung)
        {
            next = next.min(first.since + self.opener.patience());
        }
        if let Some(every) = self.params.keepalive.filter(|_| self.pool.stats().idle > 0) {
            let soonest = self
                .pool
                .idle_oldest_first()
                .map(|(slot, ..)| self.alive_at(slot) + every)
                .min()
                .unwrap_or(Instant::FAR);
            // While as many as allowed are being looked at, the end of one calls the housekeeper.
            if self.checking < CHECKS_MAX {
                next = next.min(soonest);
            }
        }
        if let Some(after) = self.params.leak_after.filter(|_| self.pool.stats().busy > 0) {
            // Not more often than a tenth of it: a leak is no matter of milliseconds.
            next = next.min(now + after / 10);
        }
        next
    }

    /// Ends the waiting of those whose time is over.
    pub(super) fn expire(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        self.forget_untimed();
        while let Some(&(deadline, ticket)) = self.timed.front()
            && deadline <= now
        {
            self.timed.pop_front();
            if let Ok(who) = self.line.serve(ticket, Gift::Refusal(Refusal::TimedOut)) {
                todo.wake.push(who);
            }
        }
    }

    /// Counts connects that take too long as failed, and gives up the oldest of them if they hold every place.
    pub(super) fn hang(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        let patience = self.opener.patience();
        let seed = self.draw();
        for opening in &mut self.openings {
            if !opening.hung && now.since(opening.since) >= patience {
                opening.hung = true;
                self.opener.failed(opening.since, now, seed);
            }
        }
        let full = self.quota.room() == 0 || self.openings.len() as u32 >= self.params.open.parallel_max;
        if self.line.is_empty() || !full || self.openings.iter().any(|opening| opening.abandoned) {
            return;
        }
        if self.openings.iter().all(|opening| opening.hung)
            && let Some(oldest) = self.openings.front_mut()
        {
            oldest.abandoned = true;
            todo.abandon.push(oldest.slot);
        }
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        let (pool, closing) = (&mut self.pool, &mut self.closing);
        pool.sweep(now, usize::MAX, &mut |slot, conn, reason| closing.push((slot, conn, reason)));
    }

    /// Gives idle connections to those in line.
    pub(super) fn serve(&mut self, now: Instant, wake: &mut Vec<W>) {
        while !self.line.is_empty()
            && !self.suspended
            && let Some((slot, conn)) = self.pool.acquire_idle(now)
        {
            let loan = self.lend(slot, conn, now);
            if let Ok(who) = self.line.serve_first(Gift::Loan(loan)) {
                wake.push(who);
            }
        }
    }

    pub(super) fn open(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        if self.shut {
            self.open_at = Some(Instant::FAR);
            return;
        }
        for _ in 0..self.opener.want(&self.demand(now), now) {
            let Some(slot) = self.pool.warm(&self.quota) else { break };
            self.openings.push_back(Opening { slot, since: now, hung: false, abandoned: false });
            todo.open.push(slot);
        }
        self.open_at = self.opener.poll_timeout(&self.demand(now), now);
    }

    pub(super) fn demand(&self, now: Instant) -> Demand {
        let stats = self.pool.stats();
        let min_idle = if self.suspended { 0 } else { self.params.keep.min_idle };
        Demand {
            waiting: if self.suspended { 0 } else { self.line.len() as u32 },
            missing: min_idle.saturating_sub(stats.idle + stats.reserved),
            live: stats.idle + stats.busy + stats.reserved,
            opening: stats.connecting,
            hung: self.hung(),
            room: self.quota.room(),
            hold: self.hold,
            ended: u32::try_from(self.ended.uses.wrapping_sub(self.marks[1].0.uses)).unwrap_or(u32::MAX),
            over: now.since(self.marks[1].1),
        }
    }

    pub(super) fn is_down(&self, now: Instant) -> bool {
        let stats = self.pool.stats();
        stats.idle + stats.busy + stats.reserved == 0 && self.opener.is_down(now)
    }

    pub(super) fn hung(&self) -> u32 {
        self.openings.iter().filter(|opening| opening.hung).count() as u32
    }

    pub(super) fn end_opening(&mut self, slot: SlotId) -> Option<Opening> {
        let at = self.openings.iter().position(|opening| opening.slot == slot)?;
        self.openings.remove(at)
    }

    /// Takes idle connections aside that nobody has used or looked at for long.
    pub(super) fn check(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        let Some(every) = self.params.keepalive else { return };
        while self.checking < CHECKS_MAX {
            let due = self
                .pool
                .idle_oldest_first()
                .find(|&(slot, ..)| now >= self.alive_at(slot) + every)
                .map(|(slot, ..)| slot);
            let Some((slot, conn)) = due.and_then(|slot| Some((slot, self.pool.reserve(slot)?))) else { return };
            self.checking += 1;
            todo.check.push((slot, conn));
        }
    }

    pub(super) fn alive_at(&self, slot: SlotId) -> Instant {
        self.uses.get(slot.index() as usize).map_or(Instant::ZERO, |used| used.alive)
    }

    pub(super) fn report_leaks(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        let Some(after) = self.params.leak_after else { return };
        for slot in self.pool.busy() {
            if let Some(used) = self.uses.get_mut(slot.index() as usize)
                && !used.leak_reported
                && now.since(used.since) >= after
            {
                used.leak_reported = true;
                todo.leaks.push((slot, used.since));
            }
        }
    }

    /// Whether there are more than the quota allows, not counting those that are being closed.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        let excess = self.quota.excess();
        excess > 0 && excess > self.pool.stats().closing
    }

    pub(super) fn close_idle(&mut self, reason: CloseReason, now: Instant) -> bool {
        let Some((slot, conn, _)) = self.pool.idle_oldest_first().next() else { return false };
        let closes = self.pool.reserve(slot).is_some() && self.pool.retire(slot, now);
        if closes {
            self.close_later(slot, conn, reason);
        }
        closes
    }

    pub(super) fn close_later(&mut self, slot: SlotId, conn: C, reason: CloseReason) {
        self.closing.push((slot, conn, reason));
        self.call_housekeeper(Instant::ZERO);
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.seed
    }

    pub(super) fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let stats = self.pool.stats();
        assert_eq!(stats.connecting as usize, self.openings.len(), "each connect in flight is known");
        let places = stats.idle + stats.busy + stats.reserved + stats.connecting + stats.closing;
        assert_eq!(places, self.quota.granted(), "a place for each connection, and no other");
    }
}
