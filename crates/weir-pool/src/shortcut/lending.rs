//! Lending and taking back past the lock, and what closes the way.

use std::sync::Arc;
use std::time::Duration;

use weir_core::Instant;
use weir_pool_core::Loan;

use super::ledger::{KINDS, Ledger};
use super::{LANES, Lane, Shortcut, Was, bits};
use crate::lock::Locked;
use crate::manager::Manager;
use crate::shared::{Entry, Shared, State, needs_check};
use crate::sync::Counted;

impl<M: Manager> Shared<M> {
    /// The connection in the lane of this thread.
    #[inline]
    pub(crate) fn take(&self) -> Option<Loan<Entry<M>>> {
        let lane = self.shortcut.mine().and_then(|mine| self.shortcut.lane(mine))?;
        let mut loan = lane.take()?;
        let now = self.clock.now();
        match &loan.ledger {
            Some(ledger) if now < ledger.until && now.since(loan.alive()) < ledger.quiet => ledger.begin(now),
            _ => {
                self.take_no_more(loan, now);
                return None;
            }
        }
        loan.lend_again(now);
        Some(loan)
    }

    /// The connection from the shortcut must be looked at under the lock.
    #[cold]
    fn take_no_more(&self, mut loan: Loan<Entry<M>>, now: Instant) {
        let mut state = self.lock();
        state.book(&mut loan);
        let waker = state.broker.put_away(loan, now);
        self.released(state, waker);
    }

    /// Takes back a sound connection: it goes to whoever waits, or becomes idle.
    #[inline]
    pub(crate) fn take_back(loan: Loan<Entry<M>>) {
        if let Some(ledger) = loan.ledger.as_deref()
            && !loan.needs_reset
            && let Some(lane) = loan.shared.shortcut.lane(ledger.lane)
            && lane.awaits(&loan)
        {
            let now = loan.shared.clock.now();
            if now < ledger.until {
                ledger.end(now.since(loan.since()));
                let lane: *const Lane<Entry<M>> = lane;
                // SAFETY: the entry keeps the pool, and with it the lane, for as long as it is ours.
                return unsafe { Self::put_in(lane, loan, now) };
            }
        }
        Counted::clone(&loan.shared).give_back(loan);
    }

    /// # Safety
    /// As of [`Lane::put`].
    #[inline]
    unsafe fn put_in(lane: *const Lane<Entry<M>>, mut loan: Loan<Entry<M>>, now: Instant) {
        loan.used(now);
        // SAFETY: by the caller's promise.
        if let Err(loan) = unsafe { Lane::put(lane, loan) } {
            Counted::clone(&loan.shared).give_back_told(loan, now);
        }
    }

    /// The lane was closed in the moment when the connection came back. Its use is counted already.
    #[cold]
    fn give_back_told(&self, mut loan: Loan<Entry<M>>, now: Instant) {
        let mut state = self.lock();
        state.book(&mut loan);
        let waker = state.broker.release_told(loan, now);
        self.came_back(&mut state, waker.is_some());
        self.released(state, waker);
    }

    /// A connection has come back under the lock: opens the shortcut if it is time.
    #[inline]
    pub(crate) fn came_back(&self, state: &mut Locked<'_, State<M>>, somebody_waited: bool) {
        let aside = &mut state.aside;
        if let Some(mine) = self.shortcut.mine() {
            aside.recent |= 1 << mine;
        }
        if aside.turns.came_back(somebody_waited) {
            self.open_shortcut(state);
        }
    }

    #[cold]
    fn open_shortcut(&self, state: &mut Locked<'_, State<M>>) {
        state.aside.turns.opened();
        if state.watches {
            return;
        }
        let now = self.clock.now();
        for number in bits(state.aside.recent & !state.aside.open) {
            let Some(lane) = self.shortcut.lane(number) else { return };
            let Some(loan) = state.entrust(number, now) else { return };
            lane.open(loan);
            state.aside.open |= 1 << number;
        }
    }
}

impl<M: Manager> State<M> {
    /// A connection for a lane.
    fn entrust(&mut self, lane: usize, now: Instant) -> Option<Loan<Entry<M>>> {
        let behind = self.aside.lanes.get_mut(lane)?;
        let (validate_after, suspect_before) = (self.validate_after, self.suspect_before);
        let mut loan = self.broker.lend_aside(now, |loan| {
            loan.needs_check = needs_check(loan, validate_after, suspect_before);
            loan.watched = false;
            loan.is_fresh()
        })?;
        let mut ledger = behind.spare.take().and_then(Ledger::again).unwrap_or_else(|| Arc::new(Ledger::new()));
        if let Some(ledger) = Arc::get_mut(&mut ledger) {
            ledger.lane = lane;
            ledger.slot = Some(loan.slot());
            ledger.until = self.broker.expires(loan.slot());
            ledger.quiet = self.validate_after.min(self.settings.idle_timeout.unwrap_or(Duration::MAX));
        }
        ledger.move_since(now);
        loan.ledger = Some(Arc::clone(&ledger));
        behind.ledger = Some(ledger);
        Some(loan)
    }

    /// Closes the shortcut: what is in it is idle, and its uses are counted.
    #[cold]
    pub(crate) fn settle(&mut self, shortcut: &Shortcut<Entry<M>>, now: Instant) {
        let open = std::mem::take(&mut self.aside.open);
        self.aside.recent = 0;
        let mut uses = 0;
        let mut idle: [Option<Loan<Entry<M>>>; LANES] = [const { None }; LANES];
        for (number, place) in bits(open).zip(&mut idle) {
            let Some(was) = shortcut.lane(number).map(Lane::close) else { continue };
            let behind = self.aside.lanes.get_mut(number);
            if let Some(ledger) = behind.and_then(|behind| behind.ledger.take()) {
                self.enter(&ledger);
                let since = ledger.since().unwrap_or(now);
                self.broker.move_since(ledger.move_since(since), since);
                uses += ledger.lent();
            }
            if let Was::In(mut loan) = was {
                self.book(&mut loan);
                *place = Some(loan);
            }
        }
        self.aside.turns.closed(uses);
        // In the order in which they were used; none comes first.
        idle.sort_unstable_by_key(|loan| loan.as_ref().map(Loan::alive));
        for loan in idle.into_iter().flatten() {
            let nobody = self.broker.put_away(loan, now);
            debug_assert!(nobody.is_none(), "nobody waits while it is open");
        }
    }

    /// A connection that may be of the shortcut's comes back: what it was used for is counted, and it is like any other.
    #[inline]
    pub(crate) fn book(&mut self, loan: &mut Loan<Entry<M>>) {
        if let Some(ledger) = loan.ledger.take() {
            self.book_from(ledger, loan.since());
        }
    }

    #[cold]
    fn book_from(&mut self, ledger: Arc<Ledger>, since: Instant) {
        self.enter(&ledger);
        self.broker.move_since(ledger.move_since(since), since);
        if let Some(behind) = self.aside.lanes.get_mut(ledger.lane) {
            behind.spare = Some(ledger);
        }
    }

    /// Counts what has come since it was counted last.
    fn enter(&mut self, ledger: &Ledger) {
        let mut holds = [(0, 0); KINDS];
        let mut filled = 0;
        let uses = ledger.book(|bucket, count| {
            if let Some(place) = holds.get_mut(filled) {
                *place = (bucket, count);
                filled += 1;
            }
        });
        self.broker.add_uses(ledger.slot, &uses, holds.into_iter().take(filled));
    }
}
