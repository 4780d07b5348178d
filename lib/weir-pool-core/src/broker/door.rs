//! A pool that is one of several: whether it takes callers now, those that come from another one's line, and what can be seen
//! of it from outside.

use weir_core::Instant;

use super::{Broker, Gift, Refusal, Ticket, Todo, Waiting};
use crate::{CloseReason, Evidence, Quota};

impl<C, W, Q: Quota> Broker<C, W, Q> {
    /// Takes no callers from now on ([`Refusal::TurnedAway`]); those in line are turned away, the first first. Connections are
    /// kept and opened as before, up to the minimum of idle ones.
    pub fn bar(&mut self, wake: &mut Vec<W>) {
        self.cold.barred = true;
        self.set_open();
        while let Ok(waiting) = self.line.serve_first(Gift::Refusal(Refusal::TurnedAway)) {
            wake.push(waiting.who);
        }
        // It says nothing of how many connections are needed here.
        self.cold.line_since = None;
        self.call_housekeeper(Instant::ZERO);
    }

    /// Ends [`Broker::bar`].
    pub fn unbar(&mut self) {
        self.cold.barred = false;
        self.set_open();
    }

    /// Whether [`Broker::bar`] holds.
    pub fn is_barred(&self) -> bool {
        self.cold.barred
    }

    /// Gets in line where somebody stands who has waited since `asked`: for a caller who was turned away elsewhere. Otherwise as
    /// [`Broker::join`]. Walks over those who have asked later.
    pub fn join_since(&mut self, who: W, asked: Instant, deadline: Option<Instant>, now: Instant) -> Result<Ticket, W> {
        if self.is_full() {
            return Err(who);
        }
        let mut at = self.line.first().map(|(ticket, _)| ticket);
        while let Some(ticket) = at
            && self.line.waiting_mut(ticket).is_some_and(|waiting| waiting.asked <= asked)
        {
            at = self.line.behind(ticket);
        }
        self.begin_line(now);
        let deadline = deadline.unwrap_or(Instant::FAR);
        let waiting = Waiting { who, asked, deadline, until: Instant::FAR };
        let joined = match at {
            Some(later) => self.line.join_before(later, waiting),
            None => self.line.join(waiting),
        };
        let ticket = joined.map_err(|waiting| waiting.who)?;
        self.joined(deadline, at.is_some());
        Ok(ticket)
    }

    /// Closes everything: idle connections now, those in use when they come back; connects in flight are given up.
    pub fn empty(&mut self) {
        self.cold.gives_up = true;
        self.cold.opener.forget_failures();
        self.end_warm_up();
        self.evict_all();
    }

    /// A connection that was opened at `opened` could not be made ready for its user. To be called before it is given back to
    /// be closed: what replaces it may have to wait ([`Opener::found_useless`](crate::Opener::found_useless)).
    pub fn found_useless(&mut self, opened: Instant, now: Instant) {
        let seed = self.draw();
        self.cold.opener.found_useless(opened, now, seed);
    }

    /// A connection has got through what others could not.
    pub fn found_useful(&mut self) {
        self.cold.opener.found_useful();
        self.call_housekeeper(Instant::ZERO);
    }

    /// What a [`Roster`](crate::Roster) wants to know. Cheap enough to compare before and after each change.
    pub fn evidence(&self) -> Evidence {
        let stats = self.pool.stats();
        let idle = stats.idle + stats.reserved;
        Evidence {
            held: self.quota.granted(),
            idle,
            live: idle + stats.busy,
            failing_since: self.cold.opener.failing_since(),
        }
    }

    pub(super) fn set_open(&mut self) {
        self.open = !(self.cold.suspended || self.cold.shut || self.cold.barred);
    }

    /// Gives up all connects in flight, if [`Broker::empty`] asks for it.
    pub(super) fn give_up(&mut self, todo: &mut Todo<C, W>) {
        if !std::mem::take(&mut self.cold.gives_up) {
            return;
        }
        for opening in self.cold.openings.iter_mut().filter(|opening| !opening.abandoned) {
            opening.abandoned = true;
            todo.abandon.push(opening.slot);
        }
    }

    /// Closes idle ones that are above the maximum: they were being opened or looked at when it fell.
    pub(super) fn trim(&mut self, now: Instant) {
        while self.is_over() && self.close_idle(CloseReason::Trimmed, now) {}
    }
}
