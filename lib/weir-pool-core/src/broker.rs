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

use std::collections::VecDeque;
use std::time::Duration;

use weir_core::Instant;

use crate::opener::{Demand, OpenParams, Opener};
use crate::pool::Pool;
use crate::slot::{CloseReason, SlotId};
use crate::waiters::{Left, Ticket, Waiters};
use crate::{Params, Quota};

/// What is learnt from the uses that end is learnt over windows of at least this.
const WINDOW: Duration = Duration::from_millis(100);
/// Waiters that the housekeeper looks past, in one visit, for the next time-out.
const LOOK_PAST: usize = 1_024;
/// Connections that are looked at for being alive at a time.
const CHECKS_MAX: usize = 8;

/// How callers wait and what is watched.
#[derive(Clone, PartialEq, Debug)]
pub struct BrokerParams {
    /// How connections are kept. `max_idle` and `max_connections` are the quota's business.
    pub keep: Params,
    /// How they are opened.
    pub open: OpenParams,
    /// Most callers in line; more are refused at once.
    pub waiters_max: u32,
    /// An idle connection is looked at after this; `None` = never.
    pub keepalive: Option<Duration>,
    /// A use longer than this is reported, once; `None` = never.
    pub leak_after: Option<Duration>,
}

impl Default for BrokerParams {
    fn default() -> Self {
        Self {
            keep: Params::default(),
            open: OpenParams::default(),
            waiters_max: 1 << 20,
            keepalive: None,
            leak_after: None,
        }
    }
}

/// A connection lent to a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loan<C> {
    /// Its slot.
    pub slot: SlotId,
    /// The connection.
    pub conn: C,
    /// For how long nobody has used it: zero if it comes straight from another use, or is new.
    pub quiet: Duration,
}

/// Why a caller gets nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// The pool is closed.
    Closed,
    /// No connection is open, and connects have been failing for long.
    Down,
    /// Too many wait already.
    LineFull,
    /// Its time is over.
    TimedOut,
}

/// What came of [`Broker::acquire`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Acquired<C> {
    /// A connection.
    Ready(Loan<C>),
    /// [`Broker::join`] the line.
    Wait,
    /// Nothing.
    Refused(Refusal),
}

/// What the housekeeper has to do. Lists are appended to; the owner empties them.
#[derive(Debug)]
pub struct Todo<C, W> {
    /// Open a connection for each: [`Broker::connected`] or [`Broker::connect_failed`] follow.
    pub open: Vec<SlotId>,
    /// Give up these connects, which hang: `connect_failed` follows when they have ended.
    pub abandon: Vec<SlotId>,
    /// Close these: [`Broker::closed`] follows when they are.
    pub close: Vec<(SlotId, C, CloseReason)>,
    /// See whether these are alive: [`Broker::alive`] or [`Broker::dead`] follow.
    pub check: Vec<(SlotId, C)>,
    /// These have been lent for longer than `leak_after`: since when.
    pub leaks: Vec<(SlotId, Instant)>,
    /// Tell these callers to look again ([`Broker::fetch`]).
    pub wake: Vec<W>,
}

impl<C, W> Default for Todo<C, W> {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            abandon: Vec::new(),
            close: Vec::new(),
            check: Vec::new(),
            leaks: Vec::new(),
            wake: Vec::new(),
        }
    }
}

/// Figures of a moment, and sums since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BrokerStats {
    /// The connections.
    pub pool: crate::Stats,
    /// Callers in line.
    pub waiting: u32,
    /// Callers for whom a connection is kept that they have not fetched yet.
    pub served: u32,
    /// Connects in flight that hang.
    pub hung: u32,
    /// Uses that have ended.
    pub uses: u64,
    /// How long all of them took together.
    pub used_nanos: u64,
    /// The mean time a connection was held of late; zero if unknown.
    pub hold: Duration,
    /// How long the connections in use have been held on average; zero if none is.
    pub age: Duration,
    /// The usual time to connect; `None` if unknown.
    pub connect_time: Option<Duration>,
    /// Since when connects have been failing.
    pub failing_since: Option<Instant>,
}

#[derive(Debug)]
struct Waiter<W> {
    who: W,
    /// When the housekeeper ends its waiting; `FAR` if it does that itself.
    deadline: Instant,
}

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
    /// When it was last looked at.
    checked: Instant,
    leak_reported: bool,
}

const UNUSED: Use = Use { since: Instant::ZERO, checked: Instant::ZERO, leak_reported: false };

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
    line: Waiters<Waiter<W>, Gift<C>>,
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
            let quiet = self.pool.idle_for(slot, now);
            self.begin(slot, now);
            return Acquired::Ready(Loan { slot, conn, quiet });
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
        let deadline = deadline.unwrap_or(Instant::FAR);
        let waiter = Waiter { who, deadline };
        let ticket = if first { self.line.join_first(waiter) } else { self.line.join(waiter) };
        self.call_housekeeper(deadline);
        if self.quota.room() > 0 {
            self.call_opener();
        }
        ticket.map_err(|waiter| waiter.who)
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
        self.line.waiting_mut(ticket).map(|waiter| &mut waiter.who)
    }

    /// A caller has gone away. What was kept for it goes to the next, who is returned to be told.
    #[must_use]
    pub fn leave(&mut self, ticket: Ticket, now: Instant) -> Option<W> {
        match self.line.leave(ticket) {
            Left::Served(Gift::Loan(loan)) => self.release(loan.slot, now).0,
            Left::Served(Gift::Refusal(_)) | Left::Waiting(_) | Left::Gone => None,
        }
    }

    /// A use is over and the connection is sound: it goes to the first in line, who is returned to be told, or becomes idle.
    /// Also how long it was held.
    #[inline]
    #[must_use]
    pub fn release(&mut self, slot: SlotId, now: Instant) -> (Option<W>, Duration) {
        let held = self.end(slot, now);
        if self.line.is_empty() || self.suspended || self.is_over() || self.shut {
            self.release_idle(slot, now);
            return (None, held);
        }
        (self.hand_over(slot, now), held)
    }

    fn hand_over(&mut self, slot: SlotId, now: Instant) -> Option<W> {
        let conn = self.pool.conn(slot)?;
        if let Err(reason) = self.pool.renew(slot, now) {
            self.close_later(slot, conn, reason);
            return None;
        }
        self.begin(slot, now);
        let loan = Loan { slot, conn, quiet: Duration::ZERO };
        match self.line.serve_first(Gift::Loan(loan)) {
            Ok(waiter) => Some(waiter.who),
            // Looked at before: somebody waits.
            Err(_) => None,
        }
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
            crate::Released::Kept => self.call_for_idle(now),
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
        self.use_of(slot).checked = now;
        self.serve(now, wake);
        self.call_opener();
        self.call_for_idle(now);
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
        self.use_of(slot).checked = now;
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

    /// Soft eviction of one: closed when its use ends, or now if it is idle. False for a stale id.
    pub fn evict_idle(&mut self, now: Instant) -> bool {
        self.close_idle(CloseReason::Drained, now)
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
        while let Ok(waiter) = self.line.serve_first(Gift::Refusal(Refusal::Closed)) {
            wake.push(waiter.who);
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

    /// The connection of a slot.
    pub fn conn(&self, slot: SlotId) -> Option<C> {
        self.pool.conn(slot)
    }

    /// Since when the connection has been in use.
    pub fn used_since(&self, slot: SlotId) -> Option<Instant> {
        self.uses.get(slot.index() as usize).map(|used| used.since)
    }

    /// How often the connection has been used, the use in progress included.
    pub fn uses(&self, slot: SlotId) -> u32 {
        self.pool.uses(slot)
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
    fn begin(&mut self, slot: SlotId, now: Instant) {
        let entry = self.use_of(slot);
        entry.since = now;
        entry.leak_reported = false;
        if let Some(after) = self.params.leak_after {
            self.call_housekeeper(now + after);
        }
        self.begun_nanos = self.begun_nanos.wrapping_add(now.as_nanos());
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

    // === visits ===

    fn call_housekeeper(&mut self, at: Instant) {
        if at < self.housekeeper_at {
            self.housekeeper_at = at;
            self.calls_housekeeper = true;
        }
    }

    /// A connection has become idle: its time runs.
    #[inline]
    fn call_for_idle(&mut self, now: Instant) {
        let due = self.pool.poll_timeout().unwrap_or(Instant::FAR);
        let look = self.params.keepalive.map_or(Instant::FAR, |every| now + every);
        self.call_housekeeper(due.min(look));
    }

    /// Something may be to be opened.
    fn call_opener(&mut self) {
        self.call_housekeeper(self.open_at.unwrap_or(Instant::ZERO));
    }

    fn next_visit(&self, now: Instant) -> Instant {
        let mut next = self.pool.poll_timeout().unwrap_or(Instant::FAR);
        next = next.min(self.open_at.unwrap_or(Instant::FAR));
        if let Some(deadline) = self.next_deadline() {
            next = next.min(deadline);
        }
        if !self.line.is_empty()
            && let Some(first) = self.openings.iter().find(|opening| !opening.hung)
        {
            next = next.min(first.since + self.opener.patience());
        }
        if let Some(every) = self.params.keepalive.filter(|_| self.pool.stats().idle > 0) {
            let soonest = self
                .pool
                .idle_oldest_first()
                .map(|(slot, _, since)| self.quiet_since(slot, since) + every)
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
    fn expire(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        while let Some((ticket, deadline)) = self.first_timed() {
            if deadline > now {
                return;
            }
            match self.line.serve(ticket, Gift::Refusal(Refusal::TimedOut)) {
                Ok(waiter) => todo.wake.push(waiter.who),
                Err(_) => return,
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.first_timed().map(|(_, deadline)| deadline)
    }

    /// The first in line whose waiting the housekeeper ends.
    fn first_timed(&self) -> Option<(Ticket, Instant)> {
        self.line
            .iter()
            .take(LOOK_PAST)
            .find(|(_, waiter)| waiter.deadline < Instant::FAR)
            .map(|(ticket, waiter)| (ticket, waiter.deadline))
    }

    /// Counts connects that take too long as failed, and gives up the oldest of them if they hold every place.
    fn hang(&mut self, now: Instant, todo: &mut Todo<C, W>) {
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

    fn sweep(&mut self, now: Instant) {
        let (pool, closing) = (&mut self.pool, &mut self.closing);
        pool.sweep(now, usize::MAX, &mut |slot, conn, reason| closing.push((slot, conn, reason)));
    }

    /// Gives idle connections to those in line.
    fn serve(&mut self, now: Instant, wake: &mut Vec<W>) {
        while !self.line.is_empty()
            && !self.suspended
            && let Some((slot, conn)) = self.pool.acquire_idle(now)
        {
            let quiet = self.pool.idle_for(slot, now);
            self.begin(slot, now);
            if let Ok(waiter) = self.line.serve_first(Gift::Loan(Loan { slot, conn, quiet })) {
                wake.push(waiter.who);
            }
        }
    }

    fn open(&mut self, now: Instant, todo: &mut Todo<C, W>) {
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

    fn demand(&self, now: Instant) -> Demand {
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

    fn is_down(&self, now: Instant) -> bool {
        let stats = self.pool.stats();
        stats.idle + stats.busy + stats.reserved == 0 && self.opener.is_down(now)
    }

    fn hung(&self) -> u32 {
        self.openings.iter().filter(|opening| opening.hung).count() as u32
    }

    fn end_opening(&mut self, slot: SlotId) -> Option<Opening> {
        let at = self.openings.iter().position(|opening| opening.slot == slot)?;
        self.openings.remove(at)
    }

    /// Takes idle connections aside that nobody has used or looked at for long.
    fn check(&mut self, now: Instant, todo: &mut Todo<C, W>) {
        let Some(every) = self.params.keepalive else { return };
        while self.checking < CHECKS_MAX {
            let due = self
                .pool
                .idle_oldest_first()
                .find(|&(slot, _, since)| now >= self.quiet_since(slot, since) + every)
                .map(|(slot, ..)| slot);
            let Some((slot, conn)) = due.and_then(|slot| Some((slot, self.pool.reserve(slot)?))) else { return };
            self.checking += 1;
            todo.check.push((slot, conn));
        }
    }

    fn quiet_since(&self, slot: SlotId, idle_since: Instant) -> Instant {
        self.uses.get(slot.index() as usize).map_or(idle_since, |used| used.checked.max(idle_since))
    }

    fn report_leaks(&mut self, now: Instant, todo: &mut Todo<C, W>) {
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
    fn is_over(&self) -> bool {
        let excess = self.quota.excess();
        excess > 0 && excess > self.pool.stats().closing
    }

    fn close_idle(&mut self, reason: CloseReason, now: Instant) -> bool {
        let Some((slot, conn, _)) = self.pool.idle_oldest_first().next() else { return false };
        let closes = self.pool.reserve(slot).is_some() && self.pool.retire(slot, now);
        if closes {
            self.close_later(slot, conn, reason);
        }
        closes
    }

    fn close_later(&mut self, slot: SlotId, conn: C, reason: CloseReason) {
        self.closing.push((slot, conn, reason));
        self.call_housekeeper(Instant::ZERO);
    }

    fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.seed
    }

    fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let stats = self.pool.stats();
        assert_eq!(stats.connecting as usize, self.openings.len(), "each connect in flight is known");
        let places = stats.idle + stats.busy + stats.reserved + stats.connecting + stats.closing;
        assert_eq!(places, self.quota.granted(), "a place for each connection, and no other");
    }
}

#[cfg(test)]
mod tests;
