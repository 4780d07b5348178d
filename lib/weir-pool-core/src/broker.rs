//! A pool whose callers wait in line: the machine of an embeddable pool.
//!
//! It joins the connections ([`Pool`]), the line ([`Waiters`]) and the rule when to open ([`Opener`]), and decides who gets what.
//! It has no lock, no clock and no runtime: the owner holds it under one short lock, passes the time in, and carries out
//! what [`Broker::handle_timeout`] says (that part is called the *housekeeper* here).
//!
//! # Rules
//! 1. **First come, first served.** Nobody takes a connection while somebody waits. A connection that comes back is kept for
//!    the first in line (direct hand-off): no newcomer can take it in between.
//! 2. **Callers only wait.** Connections are opened by the housekeeper; a caller takes whichever is there first, a new one or one
//!    that comes back.
//! 3. **Never above the maximum.** A place in the quota is held from before a connect begins until its connection is closed.
//! 4. **Nothing is lost.** Who leaves the line with a connection kept for it passes it on. What must be closed is closed by
//!    the housekeeper and holds its place until then.

mod visits;
mod words;

use std::collections::VecDeque;
use std::time::Duration;

use weir_core::Instant;

use crate::Quota;
use crate::opener::Opener;
use crate::pool::Pool;
use crate::slot::{CloseReason, SlotId};
use crate::waiters::{Left, Ticket, Waiters};

pub use words::{Acquired, BrokerParams, BrokerStats, Loan, Refusal, Todo};

/// What is learnt from the uses that end is learnt over windows of at least this.
const WINDOW: Duration = Duration::from_millis(100);
/// Deadlines of callers that have left, kept beyond as many as there are callers in line.
const TIMED_SLACK: usize = 64;
/// Connections that are looked at for being alive at a time.
const CHECKS_MAX: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Gift<C> {
    Loan(Loan<C>),
    Refusal(Refusal),
}

/// What is known of a connection beside its slot.
#[derive(Clone, Copy, Debug)]
struct Use {
    /// When the use in progress began.
    since: Instant,
    /// When it was last known to be alive: connected, looked at, or at the end of a use.
    alive: Instant,
    leak_reported: bool,
}

const UNUSED: Use = Use { since: Instant::ZERO, alive: Instant::ZERO, leak_reported: false };

#[derive(Clone, Copy, Debug)]
struct Opening {
    slot: SlotId,
    since: Instant,
    hung: bool,
    abandoned: bool,
}

/// The machine. `C` is the owner's token of a connection, `W` what tells a caller, `Q` the places. See the module.
#[derive(Debug)]
pub struct Broker<C, W, Q> {
    pool: Pool<C>,
    quota: Q,
    line: Waiters<W, Gift<C>>,
    /// Those in line whose waiting the housekeeper ends, and when, the first first. Some have left the line already.
    timed: VecDeque<(Instant, Ticket)>,
    opener: Opener,
    params: BrokerParams,
    uses: Vec<Use>,
    openings: VecDeque<Opening>,
    closing: Vec<(SlotId, C, CloseReason)>,
    checking: usize,
    suspended: bool,
    shut: bool,
    /// The sum of the beginnings of the uses in progress (modulo 2⁶⁴; only differences matter).
    begun_nanos: u64,
    ended: Sums,
    /// `ended` at the beginning of this window and of the one before, and when that was.
    marks: [(Sums, Instant); 2],
    hold: Duration,
    /// When the housekeeper comes next; it is called when something has to be done before.
    housekeeper_at: Instant,
    calls_housekeeper: bool,
    /// When the opener is to be asked again; `None` if nothing was wanted when it was asked: at once when something is.
    open_at: Option<Instant>,
    seed: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Sums {
    uses: u64,
    nanos: u64,
}

impl<C: Copy + Eq, W, Q: Quota> Broker<C, W, Q> {
    /// An empty pool. `seed` draws lifetimes and pauses.
    pub fn new(params: BrokerParams, quota: Q, seed: u64) -> Self {
        Self {
            pool: Pool::new(params.keep.clone()),
            quota,
            line: Waiters::new(),
            timed: VecDeque::new(),
            opener: Opener::new(params.open.clone()),
            params,
            uses: Vec::new(),
            openings: VecDeque::new(),
            closing: Vec::new(),
            checking: 0,
            suspended: false,
            shut: false,
            begun_nanos: 0,
            ended: Sums::default(),
            marks: [(Sums::default(), Instant::ZERO); 2],
            hold: Duration::ZERO,
            housekeeper_at: Instant::ZERO,
            calls_housekeeper: false,
            open_at: None,
            seed,
        }
    }

    /// Changes the settings. The housekeeper is called.
    pub fn set_params(&mut self, params: BrokerParams) {
        self.pool.set_params(params.keep.clone());
        self.opener.set_params(params.open.clone());
        self.params = params;
        self.call_housekeeper(Instant::ZERO);
    }

    /// The settings.
    pub fn params(&self) -> &BrokerParams {
        &self.params
    }

    /// The places. After they have grown or shrunk, [`Broker::resized`].
    pub fn quota(&self) -> &Q {
        &self.quota
    }

    // === callers ===

    /// A connection, if one is idle and nobody waits.
    #[inline]
    pub fn acquire(&mut self, now: Instant) -> Acquired<C> {
        if self.line.is_empty()
            && !self.suspended
            && !self.shut
            && let Some((slot, conn)) = self.pool.acquire_idle(now)
        {
            return Acquired::Ready(self.lend(slot, conn, now));
        }
        self.acquire_none(now)
    }

    #[cold]
    fn acquire_none(&mut self, now: Instant) -> Acquired<C> {
        if self.shut {
            return Acquired::Refused(Refusal::Closed);
        }
        if self.is_down(now) {
            self.opener.refused();
            self.call_opener();
            return Acquired::Refused(Refusal::Down);
        }
        if self.line.len() >= self.params.waiters_max as usize {
            return Acquired::Refused(Refusal::LineFull);
        }
        Acquired::Wait
    }

    /// Gets in line, after [`Acquired::Wait`]. The housekeeper ends the waiting at `deadline`; with `None` the caller does that
    /// itself ([`Broker::leave`]). Deadlines given here must not fall from one call to the next (all callers have the same
    /// time-out); one that does is met late, when those before it are.
    pub fn join(&mut self, who: W, deadline: Option<Instant>, now: Instant) -> Result<Ticket, W> {
        self.stand(who, deadline, false, now)
    }

    /// Gets in line before everybody else: for a caller whose connection has just turned out to be dead.
    pub fn rejoin(&mut self, who: W, deadline: Option<Instant>, now: Instant) -> Result<Ticket, W> {
        self.stand(who, deadline, true, now)
    }

    fn stand(&mut self, who: W, deadline: Option<Instant>, first: bool, now: Instant) -> Result<Ticket, W> {
        if self.line.is_empty() {
            // How fast it moves is measured from here.
            self.update_hold(now);
            self.marks = [(self.ended, now); 2];
        }
        let ticket = if first { self.line.join_first(who)? } else { self.line.join(who)? };
        if let Some(deadline) = deadline {
            self.forget_untimed();
            if first {
                self.timed.push_front((deadline, ticket));
            } else {
                self.timed.push_back((deadline, ticket));
            }
            self.call_housekeeper(deadline);
        }
        if self.quota.room() > 0 {
            self.call_opener();
        }
        Ok(ticket)
    }

    /// Forgets the deadlines of those who have left the line: at the front as they come, the others when they are many.
    fn forget_untimed(&mut self) {
        while self.timed.front().is_some_and(|&(_, ticket)| !self.line.is_waiting(ticket)) {
            self.timed.pop_front();
        }
        if self.timed.len() > 2 * self.line.len() + TIMED_SLACK {
            let line = &self.line;
            self.timed.retain(|&(_, ticket)| line.is_waiting(ticket));
        }
    }

    /// What a caller in line has got; its ticket is stale afterwards. `None` while there is nothing.
    pub fn fetch(&mut self, ticket: Ticket) -> Option<Result<Loan<C>, Refusal>> {
        self.line.fetch(ticket).map(|gift| match gift {
            Gift::Loan(loan) => Ok(loan),
            Gift::Refusal(refusal) => Err(refusal),
        })
    }

    /// What is known of a caller in line.
    pub fn waiting_mut(&mut self, ticket: Ticket) -> Option<&mut W> {
        self.line.waiting_mut(ticket)
    }

    /// A caller has gone away. What was kept for it goes to the next, who is returned to be told.
    #[must_use]
    pub fn leave(&mut self, ticket: Ticket, now: Instant) -> Option<W> {
        match self.line.leave(ticket) {
            Left::Served(Gift::Loan(loan)) => self.put_back(loan.slot, now),
            Left::Served(Gift::Refusal(_)) | Left::Waiting(_) | Left::Gone => None,
        }
    }

    /// A use is over and the connection is sound: it goes to the first in line, who is returned to be told, or becomes idle.
    /// Also how long it was held.
    #[inline]
    #[must_use]
    pub fn release(&mut self, slot: SlotId, now: Instant) -> (Option<W>, Duration) {
        let held = self.end(slot, now);
        self.use_of(slot).alive = now;
        (self.pass_on(slot, now), held)
    }

    /// A loan was not used: as [`Broker::release`], but nothing is known of the connection that was not known before.
    #[must_use]
    pub fn put_back(&mut self, slot: SlotId, now: Instant) -> Option<W> {
        let since = self.use_of(slot).since;
        self.begun_nanos = self.begun_nanos.wrapping_sub(since.as_nanos());
        self.pass_on(slot, now)
    }

    #[inline]
    fn pass_on(&mut self, slot: SlotId, now: Instant) -> Option<W> {
        if self.line.is_empty() || self.suspended || self.is_over() || self.shut {
            self.release_idle(slot, now);
            return None;
        }
        self.hand_over(slot, now)
    }

    fn hand_over(&mut self, slot: SlotId, now: Instant) -> Option<W> {
        let conn = self.pool.conn(slot)?;
        if let Err(reason) = self.pool.renew(slot, now) {
            self.close_later(slot, conn, reason);
            return None;
        }
        let loan = self.lend(slot, conn, now);
        self.line.serve_first(Gift::Loan(loan)).ok()
    }

    fn release_idle(&mut self, slot: SlotId, now: Instant) {
        let Some(conn) = self.pool.conn(slot) else { return };
        let reason = if self.shut {
            Some(CloseReason::Shutdown)
        } else if self.is_over() {
            Some(CloseReason::Trimmed)
        } else {
            None
        };
        if let Some(reason) = reason {
            if self.pool.retire(slot, now) {
                self.close_later(slot, conn, reason);
            }
            return;
        }
        match self.pool.release(slot, now) {
            crate::Released::Kept => self.call_for_idle(slot),
            crate::Released::Close(reason) => self.close_later(slot, conn, reason),
        }
    }

    /// A use is over and the connection is not sound: the housekeeper closes it. Also how long it was held.
    pub fn discard(&mut self, slot: SlotId, reason: CloseReason, now: Instant) -> Duration {
        let held = self.end(slot, now);
        if let Some(conn) = self.pool.conn(slot)
            && self.pool.retire(slot, now)
        {
            self.close_later(slot, conn, reason);
        }
        held
    }

    /// A use is over and the caller keeps the connection for itself: its place is free at once.
    pub fn detach(&mut self, slot: SlotId, now: Instant) {
        self.end(slot, now);
        self.pool.remove(slot, &self.quota, CloseReason::Moved);
        self.call_opener();
    }

    // === the housekeeper ===

    /// Whether the housekeeper must come before the time that it was told. True once per call.
    #[inline]
    pub fn calls_housekeeper(&mut self) -> bool {
        std::mem::take(&mut self.calls_housekeeper)
    }

    /// What is due, into `todo`; returns when to come again (`None`: when called).
    pub fn handle_timeout(&mut self, now: Instant, todo: &mut Todo<C, W>) -> Option<Instant> {
        self.update_hold(now);
        self.expire(now, todo);
        self.hang(now, todo);
        self.sweep(now);
        todo.close.append(&mut self.closing);
        self.serve(now, &mut todo.wake);
        self.open(now, todo);
        self.check(now, todo);
        self.report_leaks(now, todo);
        self.housekeeper_at = self.next_visit(now);
        self.calls_housekeeper = false;
        self.check_invariants();
        (self.housekeeper_at < Instant::FAR).then_some(self.housekeeper_at)
    }

    /// A connect succeeded: its connection goes to the first in line, or becomes idle.
    pub fn connected(&mut self, slot: SlotId, conn: C, now: Instant, wake: &mut Vec<W>) {
        if let Some(opening) = self.end_opening(slot) {
            self.opener.opened(now.since(opening.since));
        }
        let seed = self.draw();
        self.pool.connected(slot, conn, now, seed);
        self.use_of(slot).alive = now;
        self.serve(now, wake);
        self.call_opener();
        self.call_for_idle(slot);
        self.check_invariants();
    }

    /// A connect failed, or was given up.
    pub fn connect_failed(&mut self, slot: SlotId, now: Instant) {
        let seed = self.draw();
        // One that hung has been counted already.
        if let Some(opening) = self.end_opening(slot)
            && !opening.hung
        {
            self.opener.failed(opening.since, now, seed);
        }
        self.pool.connect_failed(slot, &self.quota);
        self.call_housekeeper(Instant::ZERO);
        self.check_invariants();
    }

    /// A connection of [`Todo::close`] is closed: its place is free.
    pub fn closed(&mut self, slot: SlotId, reason: CloseReason) {
        self.pool.remove(slot, &self.quota, reason);
        self.call_opener();
        self.check_invariants();
    }

    /// A connection of [`Todo::check`] is alive.
    pub fn alive(&mut self, slot: SlotId, now: Instant, wake: &mut Vec<W>) {
        self.checking = self.checking.saturating_sub(1);
        self.use_of(slot).alive = now;
        self.pool.unreserve(slot);
        self.serve(now, wake);
        self.call_housekeeper(now);
        self.check_invariants();
    }

    /// A connection of [`Todo::check`] is dead and closed: its place is free.
    pub fn dead(&mut self, slot: SlotId) {
        self.checking = self.checking.saturating_sub(1);
        self.closed(slot, CloseReason::Failed);
    }

    // === the owner ===

    /// The quota has grown or shrunk: what is too much is closed, idle ones now, others when they come back.
    pub fn resized(&mut self, now: Instant) {
        while self.is_over() && self.close_idle(CloseReason::Trimmed, now) {}
        self.call_housekeeper(Instant::ZERO);
    }

    /// Soft eviction of all: idle ones are closed now, those in use when they come back.
    pub fn evict_all(&mut self) {
        self.pool.drain();
        self.call_housekeeper(Instant::ZERO);
    }

    /// Callers wait from now on, although connections may be idle.
    pub fn suspend(&mut self) {
        self.suspended = true;
    }

    /// Ends [`Broker::suspend`].
    pub fn resume(&mut self, now: Instant, wake: &mut Vec<W>) {
        self.suspended = false;
        self.serve(now, wake);
        self.call_housekeeper(Instant::ZERO);
    }

    /// Whether it is suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Refuses everybody from now on, those in line included, and closes what comes back.
    pub fn shut(&mut self, wake: &mut Vec<W>) {
        self.shut = true;
        while let Ok(who) = self.line.serve_first(Gift::Refusal(Refusal::Closed)) {
            wake.push(who);
        }
        self.evict_all();
    }

    /// Whether [`Broker::shut`] has been called.
    pub fn is_shut(&self) -> bool {
        self.shut
    }

    /// Whether no connection is open, being opened or being closed.
    pub fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    /// Since when the connection has been in use.
    pub fn used_since(&self, slot: SlotId) -> Option<Instant> {
        self.uses.get(slot.index() as usize).map(|used| used.since)
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
            uses: self.ended.uses,
            used_nanos: self.ended.nanos,
            hold: self.hold,
            age: self.mean_age(now),
            connect_time: self.opener.connect_time(),
            failing_since: self.opener.failing_since(),
        }
    }

    // === uses ===

    #[inline]
    fn lend(&mut self, slot: SlotId, conn: C, now: Instant) -> Loan<C> {
        let entry = self.use_of(slot);
        let quiet = now.since(entry.alive);
        entry.since = now;
        entry.leak_reported = false;
        if let Some(after) = self.params.leak_after {
            self.call_housekeeper(now + after);
        }
        self.begun_nanos = self.begun_nanos.wrapping_add(now.as_nanos());
        Loan { slot, conn, quiet }
    }

    #[inline]
    fn end(&mut self, slot: SlotId, now: Instant) -> Duration {
        let since = self.use_of(slot).since;
        let held = now.since(since);
        self.begun_nanos = self.begun_nanos.wrapping_sub(since.as_nanos());
        self.ended.uses += 1;
        self.ended.nanos = self.ended.nanos.wrapping_add(held.as_nanos() as u64);
        held
    }

    #[inline]
    fn use_of(&mut self, slot: SlotId) -> &mut Use {
        let index = slot.index() as usize;
        if index >= self.uses.len() {
            self.uses.resize(index + 1, UNUSED);
        }
        &mut self.uses[index]
    }

    fn mean_age(&self, now: Instant) -> Duration {
        let busy = u64::from(self.pool.stats().busy);
        if busy == 0 {
            return Duration::ZERO;
        }
        let ages = now.as_nanos().wrapping_mul(busy).wrapping_sub(self.begun_nanos);
        // A clock that stepped back makes it negative.
        let ages = if ages > i64::MAX as u64 { 0 } else { ages };
        Duration::from_nanos(ages / busy)
    }

    fn update_hold(&mut self, now: Instant) {
        let [(from, at), _] = self.marks;
        if now.since(at) < WINDOW {
            return;
        }
        let uses = self.ended.uses.wrapping_sub(from.uses);
        if let Some(mean) = self.ended.nanos.wrapping_sub(from.nanos).checked_div(uses) {
            self.hold = Duration::from_nanos(mean);
        }
        self.marks = [(self.ended, now), self.marks[0]];
    }
}

#[cfg(test)]
mod tests;
