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

mod admit;
mod aside;
mod door;
mod owner;
mod visits;
mod words;

use std::collections::VecDeque;
use std::time::Duration;

use weir_core::Instant;

use crate::admission::Admission;
use crate::histogram::Histogram;
use crate::opener::Opener;
use crate::pool::Pool;
use crate::slot::{CloseReason, SlotId};
use crate::waiters::{Left, Ticket, Waiters};
use crate::{Quota, Released};

pub use aside::Uses;
pub use words::{Acquired, BrokerParams, BrokerStats, Lent, Loan, Refusal, Todo};

/// What is learnt from the uses that end is learnt over windows of at least this.
const WINDOW: Duration = Duration::from_millis(100);
/// Connections that are looked at for being alive at a time.
const CHECKS_MAX: usize = 8;

#[derive(Debug)]
enum Gift<C> {
    Loan(Loan<C>),
    Refusal(Refusal),
}

/// One in line.
#[derive(Debug)]
struct Waiting<W> {
    who: W,
    asked: Instant,
    /// When the housekeeper ends its waiting; [`Instant::FAR`] if it does that itself.
    deadline: Instant,
    /// When it is to be done with its connection, as far as an admission knows.
    until: Instant,
}

/// The use of a slot, where leaks are looked for.
#[derive(Clone, Copy, Debug)]
struct Watch {
    since: Instant,
    reported: bool,
}

/// Of a slot whose use began when leaks were not looked for: nothing is known of it.
const UNUSED: Watch = Watch { since: Instant::ZERO, reported: true };

#[derive(Clone, Copy, Debug)]
struct Opening {
    slot: SlotId,
    since: Instant,
    hung: bool,
    abandoned: bool,
}

/// The machine. `C` is a connection (or the owner's token of one), `W` what tells a caller, `Q` the places. See the module.
#[derive(Debug)]
#[repr(C)]
pub struct Broker<C, W, Q> {
    // What every acquire and release touches stands together: with callers on several processors it moves between them.
    line: Waiters<Waiting<W>, Gift<C>>,
    /// The connections that are idle, by slot.
    seats: Vec<Option<Loan<C>>>,
    /// The sum of the beginnings of the uses in progress (modulo 2⁶⁴; only differences matter).
    begun_nanos: u64,
    /// When the housekeeper comes next; it is called when something has to be done before.
    housekeeper_at: Instant,
    /// Idle connections, and a line: not suspended, shut or barred.
    open: bool,
    calls_housekeeper: bool,
    looks_for_leaks: bool,
    /// There is an admission.
    sheds: bool,
    quota: Q,
    /// Connections lent to callers who did not have to wait.
    unwaited: u64,
    /// Uses that have ended.
    uses: u64,
    /// Acquire to hand-over, of those who had to.
    waits: Histogram,
    /// Lent to returned.
    holds: Histogram,
    pool: Pool<()>,
    /// Refused in line, and to be told.
    shed: Vec<W>,
    cold: Cold<C>,
}

/// What only the housekeeper and the owner touch.
#[derive(Debug)]
struct Cold<C> {
    /// By slot; empty if leaks are not looked for.
    watches: Vec<Watch>,
    /// Nobody's waiting has to be ended before this.
    expiry: Instant,
    /// The latest deadline that the housekeeper has to meet since the line was empty.
    latest: Instant,
    /// One in line may have a later deadline than one behind it.
    deadlines_fall: bool,
    opener: Opener,
    admission: Option<Admission>,
    params: BrokerParams,
    openings: VecDeque<Opening>,
    closing: Vec<(SlotId, C, CloseReason)>,
    checking: usize,
    /// As many are to be open, at once and once, until a time.
    warm_ups: Vec<(u32, Instant)>,
    suspended: bool,
    shut: bool,
    /// It takes no callers.
    barred: bool,
    /// Connects in flight are to be given up.
    gives_up: bool,
    /// Uses ended and their sum at the beginning of this window and of the one before, and when that was.
    marks: [(Sums, Instant); 2],
    hold: Duration,
    /// When the opener is to be asked again; `None` if nothing was wanted when it was asked: at once when something is.
    open_at: Option<Instant>,
    /// How long connects took.
    connects: Histogram,
    /// How long connections were held that did not get to their users.
    unused_nanos: u64,
    /// For how long there was a line, but for the present one, and since when that has stood.
    lines: Duration,
    line_since: Option<Instant>,
    timed_out: u64,
    refused: u64,
    /// Those of `refused` for whom the server was down, and who found the line full.
    refused_down: u64,
    refused_full: u64,
    /// … and who were refused by admission.
    refused_shed: u64,
    seed: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Sums {
    uses: u64,
    nanos: u64,
}

impl<C, W, Q: Quota> Broker<C, W, Q> {
    /// An empty pool. `seed` draws lifetimes and pauses.
    pub fn new(params: BrokerParams, quota: Q, seed: u64) -> Self {
        Self {
            line: Waiters::new(),
            seats: Vec::new(),
            begun_nanos: 0,
            housekeeper_at: Instant::ZERO,
            open: true,
            calls_housekeeper: false,
            looks_for_leaks: params.leak_after.is_some(),
            sheds: params.admission.is_some(),
            quota,
            unwaited: 0,
            uses: 0,
            waits: Histogram::new(),
            holds: Histogram::new(),
            pool: Pool::new(params.keep.clone()),
            shed: Vec::new(),
            cold: Cold {
                watches: Vec::new(),
                expiry: Instant::FAR,
                latest: Instant::ZERO,
                deadlines_fall: false,
                opener: Opener::new(params.open.clone()),
                admission: params.admission.map(Admission::new),
                params,
                openings: VecDeque::new(),
                closing: Vec::new(),
                checking: 0,
                warm_ups: Vec::new(),
                suspended: false,
                shut: false,
                barred: false,
                gives_up: false,
                marks: [(Sums::default(), Instant::ZERO); 2],
                hold: Duration::ZERO,
                open_at: None,
                connects: Histogram::new(),
                unused_nanos: 0,
                lines: Duration::ZERO,
                line_since: None,
                timed_out: 0,
                refused: 0,
                refused_down: 0,
                refused_full: 0,
                refused_shed: 0,
                seed,
            },
        }
    }

    /// Changes the settings. The housekeeper is called.
    pub fn set_params(&mut self, params: BrokerParams) {
        self.pool.set_params(params.keep.clone());
        self.cold.opener.set_params(params.open.clone());
        self.looks_for_leaks = params.leak_after.is_some();
        if !self.looks_for_leaks {
            self.cold.watches.clear();
        }
        self.sheds = params.admission.is_some();
        if params.admission != self.cold.params.admission {
            self.cold.admission = params.admission.map(Admission::new);
        }
        self.cold.params = params;
        self.call_housekeeper(Instant::ZERO);
    }

    /// The settings.
    pub fn params(&self) -> &BrokerParams {
        &self.cold.params
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
            && self.open
            && let Some(loan) = self.lend_idle(now)
        {
            self.unwaited += 1;
            return Acquired::Ready(loan);
        }
        self.acquire_none(now)
    }

    /// Like [`Broker::acquire`], for a caller that will not wait and takes only what `is_fit` says: it is not counted if it gets
    /// nothing.
    pub fn try_acquire(&mut self, now: Instant, is_fit: impl FnOnce(&mut Loan<C>) -> bool) -> Option<Loan<C>> {
        if !self.line.is_empty() || !self.open {
            return None;
        }
        let loan = self.lend_if(now, is_fit)?;
        self.unwaited += 1;
        Some(loan)
    }

    /// The connection that was used last, if it is idle and fit.
    fn lend_if(&mut self, now: Instant, is_fit: impl FnOnce(&mut Loan<C>) -> bool) -> Option<Loan<C>> {
        let mut loan = self.lend_idle(now)?;
        if is_fit(&mut loan) {
            return Some(loan);
        }
        self.leave_idle(loan);
        None
    }

    fn acquire_none(&mut self, now: Instant) -> Acquired<C> {
        let refusal = if self.cold.shut {
            Refusal::Closed
        } else if self.cold.barred {
            // The caller goes elsewhere.
            return Acquired::Refused(Refusal::TurnedAway);
        } else if self.is_down(now) {
            self.cold.opener.refused();
            self.cold.refused_down += 1;
            self.call_opener();
            Refusal::Down
        } else {
            return Acquired::Wait;
        };
        self.cold.refused += 1;
        Acquired::Refused(refusal)
    }

    /// Gets in line, after [`Acquired::Wait`]; the caller comes back if the line is full. The housekeeper ends the waiting at
    /// `deadline`; with `None` the caller does that itself ([`Broker::leave`]). Deadlines that fall from one call to the next
    /// cost the housekeeper a look at the whole line each time that one ends; mostly all callers have the same time-out.
    pub fn join(&mut self, who: W, deadline: Option<Instant>, now: Instant) -> Result<Ticket, W> {
        self.stand(who, deadline, false, now)
    }

    /// Gets in line before everybody else, however long it is: for a caller whose connection has just turned out to be dead.
    pub fn rejoin(&mut self, who: W, deadline: Option<Instant>, now: Instant) -> Result<Ticket, W> {
        self.stand(who, deadline, true, now)
    }

    fn stand(&mut self, who: W, deadline: Option<Instant>, first: bool, now: Instant) -> Result<Ticket, W> {
        if !first && self.is_full() {
            return Err(who);
        }
        self.begin_line(now);
        let deadline = deadline.unwrap_or(Instant::FAR);
        let waiting = Waiting { who, asked: now, deadline, until: Instant::FAR };
        let joined = if first { self.line.join_first(waiting) } else { self.line.join(waiting) };
        let ticket = joined.map_err(|waiting| waiting.who)?;
        self.joined(deadline, first);
        Ok(ticket)
    }

    /// Whether the line takes nobody more, who is counted as refused.
    fn is_full(&mut self) -> bool {
        let full = self.line.len() >= self.cold.params.waiters_max as usize;
        self.cold.refused += u64::from(full);
        self.cold.refused_full += u64::from(full);
        full
    }

    fn begin_line(&mut self, now: Instant) {
        if self.line.is_empty() {
            self.measure_line(now);
            self.cold.latest = Instant::ZERO;
            self.cold.deadlines_fall = false;
            self.call_for_hung();
            if self.sheds {
                self.line_began(now);
            }
        }
    }

    /// How fast the line moves, and for how long it stands, is measured from here.
    fn measure_line(&mut self, now: Instant) {
        self.update_hold(now);
        self.cold.line_since = Some(now);
        self.cold.marks = [(self.sums(), now); 2];
    }

    /// Somebody has left the line: maybe it is over.
    #[inline]
    fn line_moved(&mut self, now: Instant) {
        if self.line.is_empty() {
            self.line_ended(now);
        }
    }

    fn line_ended(&mut self, now: Instant) {
        if let Some(since) = self.cold.line_since.take() {
            self.cold.lines = self.cold.lines.saturating_add(now.since(since));
        }
    }

    fn joined(&mut self, deadline: Instant, first: bool) {
        if deadline < Instant::FAR {
            self.cold.deadlines_fall |= deadline < self.cold.latest || (first && self.line.len() > 1);
            self.cold.latest = self.cold.latest.max(deadline);
        }
        if deadline < self.cold.expiry {
            self.cold.expiry = deadline;
            self.call_housekeeper(deadline);
        }
        if self.quota.room() > 0 {
            self.call_opener();
        }
    }

    /// What a caller in line has got; its ticket is stale afterwards. `None` while there is nothing.
    #[inline]
    pub fn fetch(&mut self, ticket: Ticket) -> Option<Result<Loan<C>, Refusal>> {
        self.line.fetch(ticket).map(|gift| match gift {
            Gift::Loan(loan) => Ok(loan),
            Gift::Refusal(refusal) => Err(refusal),
        })
    }

    /// What is known of a caller in line.
    pub fn waiting_mut(&mut self, ticket: Ticket) -> Option<&mut W> {
        self.line.waiting_mut(ticket).map(|waiting| &mut waiting.who)
    }

    /// A caller has gone away. What was kept for it goes to the next, who is returned to be told.
    #[must_use]
    pub fn leave(&mut self, ticket: Ticket, now: Instant) -> Option<W> {
        let left = self.line.leave(ticket);
        self.line_moved(now);
        match left {
            Left::Served(Gift::Loan(loan)) => self.put_back(loan, now),
            Left::Served(Gift::Refusal(_)) | Left::Waiting(_) | Left::Gone => None,
        }
    }

    /// A caller that ends its waiting itself has gone away because its time is over: as [`Broker::leave`], and it is counted.
    #[must_use]
    pub fn leave_late(&mut self, ticket: Ticket, now: Instant) -> Option<W> {
        self.count_late();
        self.leave(ticket, now)
    }

    /// The time of a caller that had got a connection was over before it could use it.
    pub fn count_late(&mut self) {
        self.cold.timed_out += 1;
    }

    /// A use is over and the connection is sound: it goes to the first in line, who is returned to be told, or becomes idle.
    /// Also how long it was held.
    #[inline]
    #[must_use]
    pub fn release(&mut self, mut loan: Loan<C>, now: Instant) -> (Option<W>, Duration) {
        let held = self.end(&loan, now);
        loan.0.alive = now;
        (self.pass_on(loan, now), held)
    }

    /// A loan was not used: as [`Broker::release`], but nothing is known of the connection that was not known before.
    #[must_use]
    pub fn put_back(&mut self, loan: Loan<C>, now: Instant) -> Option<W> {
        self.end_unused(&loan, now);
        self.pass_on(loan, now)
    }

    #[inline]
    fn pass_on(&mut self, loan: Loan<C>, now: Instant) -> Option<W> {
        if self.sheds {
            self.shed_late(now);
        }
        if self.line.is_empty() || !self.open || self.is_over() {
            self.release_idle(loan, now);
            return None;
        }
        self.hand_over(loan, now)
    }

    #[inline]
    fn hand_over(&mut self, loan: Loan<C>, now: Instant) -> Option<W> {
        if let Err(reason) = self.pool.renew(loan.slot(), now) {
            self.close_later(loan, reason);
            return None;
        }
        let loan = self.begin(loan, now);
        self.give_first(loan, now)
    }

    /// Keeps it for the first in line, who is returned to be told.
    #[inline]
    fn give_first(&mut self, loan: Loan<C>, now: Instant) -> Option<W> {
        let waiting = self.line.serve_first(Gift::Loan(loan)).ok()?;
        self.line_moved(now);
        self.waits.record(now.since(waiting.asked));
        if self.sheds {
            self.note_served(now.since(waiting.asked), now);
        }
        Some(waiting.who)
    }

    #[inline]
    fn release_idle(&mut self, loan: Loan<C>, now: Instant) {
        let slot = loan.slot();
        let reason = if self.cold.shut {
            Some(CloseReason::Shutdown)
        } else if self.is_over() {
            Some(CloseReason::Trimmed)
        } else {
            None
        };
        if let Some(reason) = reason {
            if self.pool.retire(slot, now) {
                self.close_later(loan, reason);
            }
            return;
        }
        match self.pool.take_back(slot, now) {
            Released::Kept => {
                self.call_for_idle(loan.0.alive);
                self.seat(slot).replace(loan);
            }
            Released::Close(reason) => self.close_later(loan, reason),
        }
    }

    /// A use is over and the connection is not sound: the housekeeper closes it. Also how long it was held.
    pub fn discard(&mut self, loan: Loan<C>, reason: CloseReason, now: Instant) -> Duration {
        let held = self.end(&loan, now);
        if self.pool.retire(loan.slot(), now) {
            self.close_later(loan, reason);
        }
        held
    }

    /// A loan was not used and its connection is not sound: as [`Broker::discard`], but it is no use.
    pub fn discard_unused(&mut self, loan: Loan<C>, reason: CloseReason, now: Instant) {
        self.end_unused(&loan, now);
        if self.pool.retire(loan.slot(), now) {
            self.close_later(loan, reason);
        }
    }

    /// A use is over and the caller keeps the connection for itself: its place is free at once.
    pub fn detach(&mut self, loan: Loan<C>, now: Instant) -> C {
        self.end(&loan, now);
        self.pool.remove(loan.slot(), &self.quota, CloseReason::Moved);
        self.call_opener();
        loan.0.conn
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
        self.give_up(todo);
        self.shed(now, todo);
        self.hang(now, todo);
        self.sweep(now);
        todo.close.append(&mut self.cold.closing);
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
            let took = now.since(opening.since);
            self.cold.opener.opened(took);
            self.cold.connects.record(took);
        }
        let seed = self.draw();
        self.pool.connected(slot, (), now, seed);
        self.seat(slot).replace(Loan(Box::new(Lent { slot, since: now, alive: now, conn })));
        self.forget_warm_ups(now);
        self.serve(now, wake);
        self.trim(now);
        self.call_opener();
        self.call_for_idle(now);
        self.check_invariants();
    }

    /// A connect failed, or was given up.
    pub fn connect_failed(&mut self, slot: SlotId, now: Instant) {
        let seed = self.draw();
        // One that hung has been counted already; one that was given up before says nothing.
        if let Some(opening) = self.end_opening(slot)
            && !opening.hung
            && !opening.abandoned
        {
            self.cold.opener.failed(opening.since, now, seed);
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
    pub fn alive(&mut self, mut loan: Loan<C>, now: Instant, wake: &mut Vec<W>) {
        self.cold.checking = self.cold.checking.saturating_sub(1);
        let slot = loan.slot();
        loan.0.alive = now;
        self.seat(slot).replace(loan);
        self.pool.unreserve(slot);
        self.serve(now, wake);
        self.trim(now);
        self.call_housekeeper(now);
        self.check_invariants();
    }

    /// A connection of [`Todo::check`] is dead and closed: its place is free.
    pub fn dead(&mut self, slot: SlotId) {
        self.cold.checking = self.cold.checking.saturating_sub(1);
        self.closed(slot, CloseReason::Failed);
    }

    // === uses ===

    #[inline]
    fn lend_idle(&mut self, now: Instant) -> Option<Loan<C>> {
        let slot = self.pool.take_newest(now)?;
        let loan = self.seats.get_mut(slot.index() as usize)?.take()?;
        Some(self.begin(loan, now))
    }

    #[inline]
    fn begin(&mut self, mut loan: Loan<C>, now: Instant) -> Loan<C> {
        if self.looks_for_leaks {
            self.watch(loan.slot(), now);
        }
        self.begun_nanos = self.begun_nanos.wrapping_add(now.as_nanos());
        loan.0.since = now;
        loan
    }

    #[cold]
    fn watch(&mut self, slot: SlotId, now: Instant) {
        let index = slot.index() as usize;
        if index >= self.cold.watches.len() {
            self.cold.watches.resize(index + 1, UNUSED);
        }
        self.cold.watches[index] = Watch { since: now, reported: false };
        if let Some(after) = self.cold.params.leak_after {
            self.call_housekeeper(now + after);
        }
    }

    #[inline]
    fn end(&mut self, loan: &Loan<C>, now: Instant) -> Duration {
        let since = loan.0.since;
        let held = now.since(since);
        self.begun_nanos = self.begun_nanos.wrapping_sub(since.as_nanos());
        self.uses += 1;
        self.holds.record(held);
        held
    }

    /// It was held, although that was no use.
    fn end_unused(&mut self, loan: &Loan<C>, now: Instant) {
        let since = loan.0.since;
        self.begun_nanos = self.begun_nanos.wrapping_sub(since.as_nanos());
        self.cold.unused_nanos = self.cold.unused_nanos.wrapping_add(now.since(since).as_nanos() as u64);
    }

    #[inline]
    fn seat(&mut self, slot: SlotId) -> &mut Option<Loan<C>> {
        let index = slot.index() as usize;
        if index >= self.seats.len() {
            self.seats.resize_with(index + 1, || None);
        }
        &mut self.seats[index]
    }

    fn sums(&self) -> Sums {
        Sums { uses: self.uses, nanos: self.holds.sum().as_nanos() as u64 }
    }

    /// Of the uses in progress, together.
    fn ages(&self, now: Instant) -> u64 {
        let busy = u64::from(self.pool.stats().busy);
        let ages = now.as_nanos().wrapping_mul(busy).wrapping_sub(self.begun_nanos);
        // A clock that stepped back makes it negative.
        if ages > i64::MAX as u64 { 0 } else { ages }
    }

    fn busy_nanos(&self, now: Instant) -> u64 {
        let ended = (self.holds.sum().as_nanos() as u64).wrapping_add(self.cold.unused_nanos);
        ended.wrapping_add(self.ages(now))
    }

    fn mean_age(&self, now: Instant) -> Duration {
        let busy = u64::from(self.pool.stats().busy);
        Duration::from_nanos(self.ages(now).checked_div(busy).unwrap_or(0))
    }

    fn update_hold(&mut self, now: Instant) {
        let sums = self.sums();
        let cold = &mut self.cold;
        let [(from, at), _] = cold.marks;
        if now.since(at) < WINDOW {
            return;
        }
        let uses = sums.uses.wrapping_sub(from.uses);
        if let Some(mean) = sums.nanos.wrapping_sub(from.nanos).checked_div(uses) {
            cold.hold = Duration::from_nanos(mean);
        }
        cold.marks = [(sums, now), cold.marks[0]];
    }
}

#[cfg(test)]
mod tests;
