//! Lending and taking back past the lock, and what closes the way.

use std::sync::Arc;
use std::time::Duration;

use weir_core::Instant;
use weir_pool_core::Loan;

use super::ledger::{KINDS, Ledger};
use super::{Shortcut, Was};
use crate::lock::Locked;
use crate::manager::Manager;
use crate::shared::{Entry, Shared, State, needs_check};
use crate::sync::Counted;

impl<M: Manager> Shared<M> {
    /// The connection in the shortcut.
    #[inline]
    pub(crate) fn take(&self) -> Option<Loan<Entry<M>>> {
        let mut loan = self.shortcut.take()?;
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
            && loan.shared.shortcut.awaits(&loan)
        {
            let now = loan.shared.clock.now();
            if now < ledger.until {
                ledger.end(now.since(loan.since()));
                return Self::put_in(loan, now);
            }
        }
        Counted::clone(&loan.shared).give_back(loan);
    }

    #[inline]
    fn put_in(mut loan: Loan<Entry<M>>, now: Instant) {
        loan.used(now);
        let shortcut: *const Shortcut<Entry<M>> = &raw const loan.shared.shortcut;
        // SAFETY: the entry keeps the pool, and with it the shortcut, for as long as it is ours.
        if let Err(loan) = unsafe { Shortcut::put(shortcut, loan) } {
            Counted::clone(&loan.shared).give_back_told(loan, now);
        }
    }

    /// The shortcut was closed in the moment when the connection came back. Its use is counted already.
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
        if state.aside.turns.came_back(somebody_waited) {
            self.open_shortcut(state);
        }
    }

    #[cold]
    fn open_shortcut(&self, state: &mut Locked<'_, State<M>>) {
        state.aside.turns.opened();
        // Who tends several pools wants to hear of each use. Where threads meet at the lock, the shortcut would be closed at once,
        // and keep them from taking turns.
        if self.watch.is_some() || state.watches || !self.is_calm(state) {
            return;
        }
        let now = self.clock.now();
        if let Some(loan) = state.entrust(now) {
            self.shortcut.open(loan);
        }
    }
}

impl<M: Manager> State<M> {
    /// A connection for the shortcut.
    fn entrust(&mut self, now: Instant) -> Option<Loan<Entry<M>>> {
        let (validate_after, suspect_before) = (self.validate_after, self.suspect_before);
        let mut loan = self.broker.lend_aside(now, |loan| {
            loan.needs_check = needs_check(loan, validate_after, suspect_before);
            loan.watched = false;
            loan.is_fresh()
        })?;
        let mut ledger = self.aside.spare.take().and_then(Ledger::again).unwrap_or_else(|| Arc::new(Ledger::new()));
        if let Some(ledger) = Arc::get_mut(&mut ledger) {
            ledger.slot = Some(loan.slot());
            ledger.until = self.broker.expires(loan.slot());
            ledger.quiet = self.validate_after.min(self.settings.idle_timeout.unwrap_or(Duration::MAX));
        }
        ledger.move_since(now);
        loan.ledger = Some(Arc::clone(&ledger));
        self.aside.ledger = Some(ledger);
        Some(loan)
    }

    /// Closes the shortcut: what is in it is idle, and its uses are counted.
    #[cold]
    pub(crate) fn settle(&mut self, shortcut: &Shortcut<Entry<M>>, now: Instant) {
        let was = shortcut.close();
        if let Some(ledger) = self.aside.ledger.take() {
            self.enter(&ledger);
            let since = ledger.since().unwrap_or(now);
            self.broker.move_since(ledger.move_since(since), since);
            self.aside.turns.closed(ledger.lent());
        }
        if let Was::In(mut loan) = was {
            self.book(&mut loan);
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
        self.aside.spare = Some(ledger);
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
