//! What the housekeeper does when it comes, and when it is to come.

use std::time::Duration;

use weir_core::Instant;

use super::{Broker, CHECKS_MAX, Gift, Loan, Opening, Refusal, Todo};
use crate::Quota;
use crate::opener::Demand;
use crate::slot::{CloseReason, SlotId};

impl<C, W, Q: Quota> Broker<C, W, Q> {
    pub(super) fn call_housekeeper(&mut self, at: Instant) {
        if at < self.housekeeper_at {
            self.housekeeper_at = at;
            self.calls_housekeeper = true;
        }
    }

    /// A connection that was last known to be alive at `alive` has become idle: its time runs.
    #[inline]
    pub(super) fn call_for_idle(&mut self, alive: Instant) {
        let due = self.pool.poll_timeout().unwrap_or(Instant::FAR);
        let look = self.cold.params.keepalive.map_or(Instant::FAR, |every| alive + every);
        self.call_housekeeper(due.min(look));
    }

    /// Something may be to be opened.
    pub(super) fn call_opener(&mut self) {
        self.call_housekeeper(self.cold.open_at.unwrap_or(Instant::ZERO));
    }

    pub(super) fn next_visit(&self, now: Instant) -> Instant {
        let mut next = self.pool.poll_timeout().unwrap_or(Instant::FAR);
        next = next.min(self.cold.open_at.unwrap_or(Instant::FAR));
        // Of one that has left already, maybe: then a visit is too early, which harms nothing.
        next = next.min(self.cold.expiry).min(self.next_shed());
        if !self.line.is_empty()
            && let Some(first) = self.cold.openings.iter().find(|opening| !opening.hung)
        {
            next = next.min(first.since + self.cold.opener.patience());
        }
        if let Some(every) = self.cold.params.keepalive.filter(|_| self.pool.stats().idle > 0) {
            let soonest = self
                .pool
                .idle_oldest_first()
                .map(|(slot, ..)| self.alive_at(slot) + every)
                .min()
                .unwrap_or(Instant::FAR);
            // While as many as allowed are being looked at, the end of one calls the housekeeper.
            if self.cold.checking < CHECKS_MAX {
                next = next.min(soonest);
            }
        }
        if let Some(after) = self.cold.params.leak_after.filter(|_| self.pool.stats().busy > 0) {
            // Not more often than a tenth of it: a leak is no matter of milliseconds.
            next = next.min(now + after / 10);
        }
        next
    }

    /// Ends the waiting of those whose time is over. Those who do that themselves are passed over.
    pub(super) fn expire(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        if now < self.cold.expiry {
            return;
        }
        self.cold.expiry = Instant::FAR;
        let mut latest = Instant::ZERO;
        let mut falls = false;
        let mut at = self.line.first().map(|(ticket, _)| ticket);
        while let Some(ticket) = at {
            at = self.line.behind(ticket);
            let deadline = self.line.waiting_mut(ticket).map_or(Instant::FAR, |waiting| waiting.deadline);
            if deadline <= now {
                if let Ok(waiting) = self.line.serve(ticket, Gift::Refusal(Refusal::TimedOut)) {
                    self.cold.timed_out += 1;
                    todo.wake.push(waiting.who);
                    self.line_moved(now);
                }
            } else if deadline < Instant::FAR {
                self.cold.expiry = self.cold.expiry.min(deadline);
                if !self.cold.deadlines_fall {
                    return;
                }
                falls |= deadline < latest;
                latest = latest.max(deadline);
            }
        }
        self.cold.deadlines_fall = falls;
    }

    /// Counts connects that take too long as failed, and gives up the oldest of them if they hold every place.
    pub(super) fn hang(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        let patience = self.cold.opener.patience();
        let seed = self.draw();
        for opening in &mut self.cold.openings {
            if !opening.hung && now.since(opening.since) >= patience {
                opening.hung = true;
                self.cold.opener.failed(opening.since, now, seed);
            }
        }
        let full = self.quota.room() == 0 || self.cold.openings.len() as u32 >= self.cold.params.open.parallel_max;
        if self.line.is_empty() || !full || self.cold.openings.iter().any(|opening| opening.abandoned) {
            return;
        }
        if self.cold.openings.iter().all(|opening| opening.hung)
            && let Some(oldest) = self.cold.openings.front_mut()
        {
            oldest.abandoned = true;
            todo.abandon.push(oldest.slot);
        }
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        let (pool, seats, closing) = (&mut self.pool, &mut self.seats, &mut self.cold.closing);
        pool.sweep(now, usize::MAX, &mut |slot, (), reason| {
            if let Some(loan) = seats.get_mut(slot.index() as usize).and_then(Option::take) {
                closing.push((slot, loan.0.conn, reason));
            }
        });
        self.trim(now);
    }

    /// Somebody gets in line where nobody was: connects that hang are given up from now on.
    pub(super) fn call_for_hung(&mut self) {
        if self.cold.openings.is_empty() {
            return;
        }
        let patience = self.cold.opener.patience();
        let first = self.cold.openings.iter().find(|opening| !opening.hung);
        self.call_housekeeper(first.map_or(Instant::ZERO, |first| first.since + patience));
    }

    /// Gives idle connections to those in line.
    pub(super) fn serve(&mut self, now: Instant, wake: &mut Vec<W>) {
        if self.sheds {
            self.shed_late(now);
        }
        while !self.line.is_empty()
            && self.open
            && let Some(loan) = self.lend_idle(now)
        {
            wake.extend(self.give_first(loan, now));
        }
    }

    pub(super) fn open(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        if self.cold.shut {
            self.cold.open_at = Some(Instant::FAR);
            return;
        }
        self.forget_warm_ups(now);
        for _ in 0..self.cold.opener.want(&self.demand(now), now) {
            let Some(slot) = self.pool.warm(&self.quota) else { break };
            self.cold.openings.push_back(Opening { slot, since: now, hung: false, abandoned: false });
            todo.open.push(slot);
        }
        self.cold.open_at = self.cold.opener.poll_timeout(&self.demand(now), now);
    }

    pub(super) fn demand(&self, now: Instant) -> Demand {
        let stats = self.pool.stats();
        let min_idle = if self.cold.suspended { 0 } else { self.cold.params.keep.min_idle };
        let live = self.live();
        Demand {
            waiting: if self.cold.suspended { 0 } else { self.line.len() as u32 },
            missing: min_idle.saturating_sub(stats.idle + stats.reserved).max(self.warm_to().saturating_sub(live)),
            live,
            opening: stats.connecting,
            hung: self.hung(),
            room: self.quota.room(),
            hold: self.cold.hold,
            ended: u32::try_from(self.uses.wrapping_sub(self.cold.marks[1].0.uses)).unwrap_or(u32::MAX),
            over: now.since(self.cold.marks[1].1),
            lines: self.cold.lines.saturating_add(self.line_stands_for(now)),
        }
    }

    /// For how long the present line has stood, unless nobody is served on purpose.
    fn line_stands_for(&self, now: Instant) -> Duration {
        let since = self.cold.line_since.filter(|_| !self.cold.suspended);
        since.map_or(Duration::ZERO, |since| now.since(since))
    }

    pub(super) fn is_down(&self, now: Instant) -> bool {
        self.live() == 0 && self.cold.opener.is_down(now)
    }

    pub(super) fn hung(&self) -> u32 {
        self.cold.openings.iter().filter(|opening| opening.hung).count() as u32
    }

    pub(super) fn end_opening(&mut self, slot: SlotId) -> Option<Opening> {
        let at = self.cold.openings.iter().position(|opening| opening.slot == slot)?;
        self.cold.openings.remove(at)
    }

    /// Takes idle connections aside that nobody has used or looked at for long.
    pub(super) fn check(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        let Some(every) = self.cold.params.keepalive else { return };
        while self.cold.checking < CHECKS_MAX {
            let due = self
                .pool
                .idle_oldest_first()
                .find(|&(slot, ..)| now >= self.alive_at(slot) + every)
                .map(|(slot, ..)| slot);
            let Some(loan) = due.and_then(|slot| self.set_aside(slot)) else { return };
            self.cold.checking += 1;
            todo.check.push(loan);
        }
    }

    /// Takes an idle connection out, to look at it or to close it.
    fn set_aside(&mut self, slot: SlotId) -> Option<Loan<C>> {
        self.pool.reserve(slot)?;
        self.seat(slot).take()
    }

    /// A connection that was idle and has just been lent is not taken: it is idle, since when it was.
    pub(super) fn leave_idle(&mut self, loan: Loan<C>) {
        let slot = loan.slot();
        self.begun_nanos = self.begun_nanos.wrapping_sub(loan.0.since.as_nanos());
        self.pool.untake(slot);
        self.seat(slot).replace(loan);
    }

    fn alive_at(&self, slot: SlotId) -> Instant {
        self.seats.get(slot.index() as usize).and_then(Option::as_ref).map_or(Instant::ZERO, |loan| loan.0.alive)
    }

    pub(super) fn report_leaks(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        let Some(after) = self.cold.params.leak_after else { return };
        for slot in self.pool.busy() {
            if let Some(used) = self.cold.watches.get_mut(slot.index() as usize)
                && !used.reported
                && now.since(used.since) >= after
            {
                used.reported = true;
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
        let Some((slot, ..)) = self.pool.idle_oldest_first().next() else { return false };
        let Some(loan) = self.set_aside(slot) else { return false };
        let closes = self.pool.retire(slot, now);
        if closes {
            self.close_later(loan, reason);
        }
        closes
    }

    pub(super) fn close_later(&mut self, loan: Loan<C>, reason: CloseReason) {
        self.cold.closing.push((loan.slot(), loan.0.conn, reason));
        self.call_housekeeper(Instant::ZERO);
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.cold.seed = self.cold.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.cold.seed
    }

    pub(super) fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let stats = self.pool.stats();
        assert_eq!(stats.connecting as usize, self.cold.openings.len(), "each connect in flight is known");
        let places = stats.idle + stats.busy + stats.reserved + stats.connecting + stats.closing;
        assert_eq!(places, self.quota.granted(), "a place for each connection, and no other");
    }
}
