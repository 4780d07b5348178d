//! A connection in use.

use std::any::{Any, TypeId};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::Duration;

use weir_core::Instant;
use weir_pool_core::{CloseReason, Loan};

use crate::manager::{Manager, Release};
use crate::shared::{Entry, Shared};
use crate::sync::Counted;

/// A connection lent by a [`Pool`](crate::Pool); dropping it gives it back. Nothing is spawned and nothing awaited for that: it
/// goes straight to the first in line, or becomes idle. Dropped while a panic unwinds, the connection is closed.
#[must_use = "dropping the guard gives the connection back at once"]
pub struct Guard<M: Manager> {
    /// `None` only while it is being dropped.
    loan: Option<Loan<Entry<M>>>,
}

impl<M: Manager> Guard<M> {
    #[inline]
    pub(crate) fn new(loan: Loan<Entry<M>>) -> Self {
        Self { loan: Some(loan) }
    }

    /// Takes the connection out of the pool for good; its place is free at once.
    pub fn detach(mut self) -> M::Connection {
        self.take_out()
    }

    pub(crate) fn take_out(&mut self) -> M::Connection {
        let Some(mut loan) = self.loan.take() else { unreachable!("taken only by drop") };
        let shared = Counted::clone(&loan.shared);
        shared.forget(&loan);
        let entry = shared.update(|state, now, _| {
            state.book(&mut loan);
            state.broker.detach(loan, now)
        });
        entry.conn
    }

    /// Closes the connection instead of giving it back: it is known to be in a bad state.
    pub fn discard(mut self) {
        self.close();
    }

    pub(crate) fn close(&mut self) {
        if let Some(loan) = self.loan.take() {
            let shared = Counted::clone(&loan.shared);
            shared.discard(loan, CloseReason::Failed);
        }
    }

    /// Soft eviction of this connection: it is used on, and closed instead of lent again when it comes back. For one that is as it should
    /// be, but not wanted any more (it leads to a server that is to be drained, say); [`Guard::discard`] is for one that is not.
    pub fn evict(&mut self) {
        if let Some(loan) = self.loan.as_mut() {
            loan.evicted = true;
        }
    }

    /// Closes a connection that its user has not got.
    pub(crate) fn close_unused(mut self) {
        if let Some(loan) = self.loan.take() {
            let shared = Counted::clone(&loan.shared);
            shared.discard_unused(loan);
        }
    }

    /// What was kept with this connection under the type `T`; it lives as long as the connection does and is there again
    /// for the next user. Made by `T::default` the first time.
    pub fn extra<T: Any + Send + Default>(&mut self) -> &mut T {
        let Some(loan) = self.loan.as_mut() else { unreachable!("taken only by drop") };
        let extras = loan.extras.get_mut().unwrap_or_else(PoisonError::into_inner);
        let extra = extras.entry(TypeId::of::<T>()).or_insert_with(|| Box::<T>::default());
        let Some(extra) = extra.downcast_mut() else { unreachable!("kept under its own type") };
        extra
    }

    /// How long it has been held.
    pub fn held(&self) -> Duration {
        self.loan.as_ref().map_or(Duration::ZERO, |loan| loan.shared.clock.now().since(loan.since()))
    }

    /// How old the connection is.
    pub fn age(&self) -> Duration {
        self.loan.as_ref().map_or(Duration::ZERO, |loan| loan.shared.clock.now().since(loan.opened))
    }

    /// From now on the connection is closed if this is dropped, until [`Guard::prepared`]. Whether it must be reset, and whether
    /// it must be checked.
    #[inline]
    pub(crate) fn begin_preparing(&mut self) -> (bool, bool) {
        let Some(loan) = self.loan.as_mut() else { return (false, false) };
        loan.preparing = true;
        (std::mem::take(&mut loan.needs_reset), loan.needs_check)
    }

    /// When the connection was opened.
    pub(crate) fn opened(&self) -> Instant {
        self.loan.as_ref().map_or(Instant::ZERO, |loan| loan.opened)
    }

    /// It was alive after this moment.
    pub(crate) fn checked(&mut self, at: Instant) {
        if let Some(loan) = self.loan.as_mut() {
            loan.checked = at;
        }
    }

    #[inline]
    pub(crate) fn prepared(&mut self) {
        if let Some(loan) = self.loan.as_mut() {
            loan.preparing = false;
        }
    }

    pub(crate) fn is_being_prepared(&self) -> bool {
        self.loan.as_ref().is_some_and(|loan| loan.preparing)
    }

    /// As if the manager had said so.
    #[cfg(weir_loom)]
    pub(crate) fn leave_to_be_reset(&mut self) {
        if let Some(loan) = self.loan.as_mut() {
            loan.needs_reset = true;
        }
    }

    /// Gives it back, as dropping does. Whether it was left as it was found: neither broken nor to be reset; false also if there is
    /// nothing to give back.
    #[inline]
    pub(crate) fn give_back(&mut self) -> bool {
        self.loan.take().is_some_and(|loan| Returning(Some(loan)).settle())
    }

    /// Gives it back as one that was not used.
    pub(crate) fn put_back(mut self) {
        if let Some(loan) = self.loan.take() {
            let shared = Counted::clone(&loan.shared);
            shared.put_back(loan);
        }
    }

    fn get(&self) -> &Entry<M> {
        match &self.loan {
            Some(loan) => loan,
            None => unreachable!("taken only by drop"),
        }
    }
}

impl<M: Manager> Deref for Guard<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.get().conn
    }
}

impl<M: Manager> DerefMut for Guard<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        match &mut self.loan {
            Some(loan) => &mut loan.conn,
            None => unreachable!("taken only by drop"),
        }
    }
}

impl<M: Manager> Drop for Guard<M> {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A connection on its way back. If the manager's code panics, it is closed and its place is not lost.
struct Returning<M: Manager>(Option<Loan<Entry<M>>>);

impl<M: Manager> Returning<M> {
    #[inline]
    fn settle(mut self) -> bool {
        let Some(loan) = self.0.as_mut() else { return false };
        let entry = &mut **loan;
        let manager = &entry.shared.manager;
        let verdict =
            if entry.preparing || entry.evicted || std::thread::panicking() || manager.is_broken(&mut entry.conn) {
                Release::Close
            } else {
                manager.on_release(&mut entry.conn)
            };
        if verdict == Release::Close {
            // By the drop below.
            return false;
        }
        entry.needs_reset |= verdict == Release::Reset;
        if let Some(loan) = self.0.take() {
            Shared::take_back(loan);
        }
        verdict == Release::Keep
    }
}

impl<M: Manager> Drop for Returning<M> {
    #[inline]
    fn drop(&mut self) {
        if let Some(loan) = self.0.take() {
            let shared = Counted::clone(&loan.shared);
            if loan.preparing {
                shared.discard_unused(loan);
            } else {
                let reason = if loan.evicted { CloseReason::Drained } else { CloseReason::Failed };
                shared.discard(loan, reason);
            }
        }
    }
}

impl<M: Manager> fmt::Debug for Guard<M>
where
    M::Connection: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&**self).finish()
    }
}
