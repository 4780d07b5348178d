//! What the broker asks of its [`Admission`](crate::Admission), if it has one. Nobody is refused while no connection is open (a short
//! fail-over is ridden out), nor while the pool is suspended: then callers wait to their deadlines.

use std::time::Duration;

use weir_core::Instant;

use super::{Broker, Gift, Refusal, Todo};
use crate::Quota;
use crate::admission::Line;
use crate::waiters::Ticket;

impl<C, W, Q: Quota> Broker<C, W, Q> {
    /// Whether a caller that is to be done with its connection at `until` may get in line, after
    /// [`Acquired::Wait`](crate::Acquired::Wait). Always, without an admission.
    pub fn admit(&mut self, until: Instant, now: Instant) -> Result<(), Refusal> {
        if !self.sheds || self.cold.suspended {
            return Ok(());
        }
        self.update_hold(now);
        let (line, live) = (self.line_now(), self.live());
        let Some(admission) = &mut self.cold.admission else { return Ok(()) };
        if admission.ask(&line, until, now) || live == 0 {
            return Ok(());
        }
        self.cold.refused += 1;
        self.cold.refused_shed += 1;
        Err(Refusal::Overload)
    }

    /// One in line is to be done with its connection at `until`.
    pub fn must_end_by(&mut self, ticket: Ticket, until: Instant) {
        if let Some(waiting) = self.line.waiting_mut(ticket) {
            waiting.until = until;
        }
    }

    /// When it is worth asking again after [`Refusal::Overload`].
    pub fn retry_after(&self, now: Instant) -> Option<Duration> {
        self.cold.admission.as_ref().map(|admission| admission.retry_after(&self.line_now(), now))
    }

    fn line_now(&self) -> Line {
        Line { waiting: self.line.len(), serving: self.pool.stats().busy, hold: self.cold.hold }
    }

    #[cold]
    pub(super) fn line_began(&mut self, now: Instant) {
        let Some(admission) = &mut self.cold.admission else { return };
        admission.line_began(now);
        let look = admission.poll_timeout(now, self.cold.hold);
        self.call_housekeeper(look);
    }

    /// One who waited this long was served.
    #[cold]
    pub(super) fn note_served(&mut self, waited: Duration, now: Instant) {
        if let Some(admission) = &mut self.cold.admission {
            admission.served(waited, now);
        }
    }

    /// Refuses those at the front of the line for whom it is too late. The housekeeper tells them.
    #[cold]
    pub(super) fn shed_late(&mut self, now: Instant) {
        if self.live() == 0 || self.cold.suspended {
            return;
        }
        let hold = self.cold.hold;
        while let Some(admission) = &self.cold.admission
            && let Some((ticket, waiting)) = self.line.first()
            && admission.is_late(waiting.asked, waiting.until, hold, now)
            && let Ok(waiting) = self.line.serve(ticket, Gift::Refusal(Refusal::Overload))
        {
            self.cold.refused += 1;
            self.cold.refused_shed += 1;
            self.shed.push(waiting.who);
            self.call_housekeeper(Instant::ZERO);
        }
        self.line_moved(now);
    }

    /// The housekeeper looks at the first in line, and tells those who were refused.
    pub(super) fn shed(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        if self.sheds {
            if let Some((_, waiting)) = self.line.first().filter(|_| !self.cold.suspended)
                && let Some(admission) = &mut self.cold.admission
            {
                admission.look(waiting.asked, now);
            }
            self.shed_late(now);
            todo.wake.append(&mut self.shed);
        }
    }

    /// When the first in line is to be looked at.
    pub(super) fn next_shed(&self) -> Instant {
        match (&self.cold.admission, self.line.first()) {
            (Some(admission), Some((_, waiting))) if !self.cold.suspended => {
                admission.poll_timeout(waiting.asked, self.cold.hold)
            }
            _ => Instant::FAR,
        }
    }
}
