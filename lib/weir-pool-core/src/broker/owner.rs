//! What the owner asks for besides lending: sizes, eviction, suspension, the end; and what can be seen.

use std::time::Duration;

use weir_core::Instant;

use super::{Broker, BrokerStats, Gift, Refusal};
use crate::Quota;
use crate::histogram::Histogram;
use crate::slot::CloseReason;

impl<C, W, Q: Quota> Broker<C, W, Q> {
    /// The quota has grown or shrunk: what is too much is closed, idle ones now, others when they come back.
    pub fn resized(&mut self, now: Instant) {
        self.trim(now);
        self.call_housekeeper(Instant::ZERO);
    }

    /// Opens connections until as many are open (idle or in use) as `connections` says, or it is `until`. While there is no place for
    /// them it waits for one.
    pub fn warm_up(&mut self, connections: u32, until: Instant) {
        let wishes = &mut self.cold.warm_ups;
        if wishes.iter().any(|(others, ends)| *others >= connections && *ends >= until) {
            return;
        }
        // One that is met when this one is, and ends no later, says nothing more.
        wishes.retain(|(others, ends)| *others > connections || *ends > until);
        wishes.push((connections, until));
        self.call_housekeeper(Instant::ZERO);
    }

    /// Forgets what [`Broker::warm_up`] asked for and has not been begun.
    pub fn end_warm_up(&mut self) {
        self.cold.warm_ups.clear();
    }

    /// Nobody wishes for more than so many: the maximum is that now.
    pub fn limit_warm_ups(&mut self, connections: u32) {
        for (wish, _) in &mut self.cold.warm_ups {
            *wish = (*wish).min(connections);
        }
    }

    /// As many are to be open because of [`Broker::warm_up`].
    pub(super) fn warm_to(&self) -> u32 {
        self.cold.warm_ups.iter().map(|(connections, _)| *connections).max().unwrap_or(0)
    }

    /// Forgets the wishes that are met, and those whose time is over.
    pub(super) fn forget_warm_ups(&mut self, now: Instant) {
        if !self.cold.warm_ups.is_empty() {
            let live = self.live();
            self.cold.warm_ups.retain(|(connections, until)| *connections > live && now < *until);
        }
    }

    /// How many are open: idle, looked at or in use.
    pub fn live(&self) -> u32 {
        let stats = self.pool.stats();
        stats.idle + stats.busy + stats.reserved
    }

    /// Soft eviction of all: idle ones are closed now, those in use when they come back.
    pub fn evict_all(&mut self) {
        self.pool.drain();
        self.call_housekeeper(Instant::ZERO);
    }

    /// Callers wait from now on, although connections may be idle.
    pub fn suspend(&mut self) {
        self.cold.suspended = true;
        self.set_open();
    }

    /// Ends [`Broker::suspend`].
    pub fn resume(&mut self, now: Instant, wake: &mut Vec<W>) {
        self.cold.suspended = false;
        self.set_open();
        if !self.line.is_empty() {
            // Until now it stood because nobody was to be served.
            self.measure_line(now);
        }
        if let Some(admission) = &mut self.cold.admission {
            admission.resumed(now);
        }
        self.serve(now, wake);
        self.call_housekeeper(Instant::ZERO);
    }

    /// Whether it is suspended.
    pub fn is_suspended(&self) -> bool {
        self.cold.suspended
    }

    /// Refuses everybody from now on, those in line included, and closes what comes back.
    pub fn shut(&mut self, wake: &mut Vec<W>) {
        self.cold.shut = true;
        self.set_open();
        while let Ok(waiting) = self.line.serve_first(Gift::Refusal(Refusal::Closed)) {
            self.cold.refused += 1;
            wake.push(waiting.who);
        }
        self.evict_all();
    }

    /// Takes out the connections that are not lent, for an owner whose housekeeper has ended: their places are free. It is called
    /// again when there is something to do after that, which is to take out what has come back.
    pub fn take_all(&mut self) -> Vec<C> {
        let mut all = Vec::new();
        for loan in self.seats.iter_mut().filter_map(Option::take) {
            self.pool.remove(loan.slot(), &self.quota, CloseReason::Shutdown);
            all.push(loan.0.conn);
        }
        for (slot, conn, reason) in self.cold.closing.drain(..) {
            self.pool.remove(slot, &self.quota, reason);
            all.push(conn);
        }
        self.housekeeper_at = Instant::FAR;
        self.check_invariants();
        all
    }

    /// Whether [`Broker::shut`] has been called.
    #[inline]
    pub fn is_shut(&self) -> bool {
        self.cold.shut
    }

    /// Whether no connection is open, being opened or being closed.
    pub fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    /// How many were closed for `reason`.
    pub fn closed_for(&self, reason: CloseReason) -> u64 {
        self.pool.closed(reason)
    }

    /// Figures.
    pub fn stats(&self, now: Instant) -> BrokerStats {
        BrokerStats {
            pool: self.pool.stats(),
            waiting: self.line.len() as u32,
            served: self.line.served() as u32,
            hung: self.hung(),
            unwaited: self.unwaited,
            timed_out: self.cold.timed_out,
            refused: self.cold.refused,
            refused_down: self.cold.refused_down,
            refused_full: self.cold.refused_full,
            refused_shed: self.cold.refused_shed,
            uses: self.uses,
            used_nanos: self.holds.sum().as_nanos() as u64,
            busy_nanos: self.busy_nanos(now),
            hold: self.cold.hold,
            age: self.mean_age(now),
            oldest_wait: self.line.first().map_or(Duration::ZERO, |(_, first)| now.since(first.asked)),
            next_attempt: self
                .cold
                .opener
                .failing_still_since(now)
                .and(self.cold.open_at)
                .filter(|at| *at < Instant::FAR),
            connect_time: self.cold.opener.connect_time(),
            failing_since: self.cold.opener.failing_still_since(now),
        }
    }

    /// How long callers waited, from asking to a connection being kept for them, and how many got one at once
    /// ([`BrokerStats::unwaited`]; they are not in it).
    pub fn waits(&self) -> &Histogram {
        &self.waits
    }

    /// How long connections were held.
    pub fn holds(&self) -> &Histogram {
        &self.holds
    }

    /// How long connects took.
    pub fn connects(&self) -> &Histogram {
        &self.cold.connects
    }
}
