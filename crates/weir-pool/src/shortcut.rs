//! The shortcut past the lock: one caller at a time who asks again and again gets the same connection back by two atomic
//! operations, one to take it and one to give it back, instead of six.
//!
//! # How it goes
//! The shortcut holds at most one connection, and is *closed* most of the time. Under the lock, after some releases for which nobody
//! waited, the connection that was used last is put in it: to the machine it is lent from then on ([`Broker::lend_aside`]). Who comes
//! takes it out ([`Shortcut::take`]) and puts it back in ([`Shortcut::put`]) without the lock, and writes in a [`Ledger`] what the
//! machine would have counted.
//!
//! **Whoever takes the lock, for whatever reason, closes the shortcut first** ([`State::settle`]): what is in it is idle then, and
//! what the ledger says is in the machine's books. So under the lock nothing is known differently with a shortcut than without, and nobody
//! can stand in line while a connection is in it. A connection that is out when the shortcut is closed does not find its way back in:
//! it comes back under the lock, and goes to whoever waits by then.
//!
//! Where several callers meet, the shortcut is closed soon after it was opened, and opening it costs some hundred nanoseconds; so
//! after each time that was not worth it twice as many releases are needed for the next ([`Turns`]), and where threads meet at the
//! lock it is not opened at all.
//!
//! Measured: `cargo run --release -p weir-pool --example speed`; `docs/performance.md` has the figures.
//!
//! Source of the idea: biased locks (Kawachiya, Koseki, Onodera, "Lock Reservation", 2002), here for the connection instead of the lock.
//!
//! [`Broker::lend_aside`]: weir_pool_core::Broker::lend_aside
//! [`State::settle`]: crate::shared::State

// One pointer changes hands without the lock and without a count of the pool's owners, which safe code would need for that. The
// models (`models/shortcut.rs`) try every interleaving, and see connections that are lost or in two hands.
#![allow(unsafe_code)]

mod ledger;
mod lending;

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use weir_pool_core::{Lent, Loan};

pub(crate) use ledger::Ledger;

use crate::sync::AtomicPtr;

/// Releases for which nobody waited before the shortcut is opened: at first, and at most.
const TURNS: [u32; 2] = [16, 1 << 16];
/// It was worth it after so many uses, and at least as many as the releases that it took.
const WORTH: u64 = 1 << 10;

/// The place for one connection. See the module.
pub(crate) struct Shortcut<C> {
    /// Null if it is closed; a connection that is in it: a pointer from [`Box::into_raw`], which whoever swaps it out owns; or the mark of
    /// the one that has been taken out ([`out`]).
    word: AtomicPtr<Lent<C>>,
}

/// The mark of a connection that is in use, and may be put in again: its address, with a bit that no address of a box has. Only this
/// connection fits where its mark is.
#[inline]
fn out<C>(lent: *mut Lent<C>) -> *mut Lent<C> {
    const { assert!(align_of::<Lent<C>>() > 1) };
    lent.map_addr(|address| address | 1)
}

#[inline]
fn is_out<C>(word: *mut Lent<C>) -> bool {
    word.addr() & 1 == 1
}

/// What was in a shortcut that has been closed.
pub(crate) enum Was<C> {
    Closed,
    Out,
    In(Loan<C>),
}

impl<C> Shortcut<C> {
    pub(crate) fn new() -> Self {
        Self { word: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Takes the connection out. The shortcut stays open.
    #[inline]
    pub(crate) fn take(&self) -> Option<Loan<C>> {
        let there = self.word.load(Ordering::Relaxed);
        if there.is_null() || is_out(there) {
            return None;
        }
        // If it was taken out and put back in meanwhile, that is as good: the pointer of the exchange counts.
        let lent = self.word.compare_exchange(there, out(there), Ordering::Acquire, Ordering::Relaxed).ok()?;
        // SAFETY: neither null nor a mark, so it is a box that `put` or `open` has let go of, and the exchange has made it ours alone.
        Some(Loan::from_box(unsafe { Box::from_raw(lent) }))
    }

    /// Puts the connection in that has been taken out; it comes back if the shortcut has been closed since.
    ///
    /// # Safety
    /// `this` may live as long as the connection does and no longer (whoever holds a connection keeps its pool): it must be valid
    /// when this is called, and need not be when it returns.
    #[inline]
    pub(crate) unsafe fn put(this: *const Self, loan: Loan<C>) -> Result<(), Loan<C>> {
        let lent = Box::into_raw(loan.into_box());
        // SAFETY: valid until the exchange, by the caller's promise and because `lent` is still ours; nothing of it is touched after
        // the exchange has succeeded. (The reference is to an atomic only, which others may free while its method returns, as with
        // the count of an `Arc`.)
        let word = unsafe { &(*this).word };
        match word.compare_exchange(out(lent), lent, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            // SAFETY: it is the box from above, which nobody else has seen.
            Err(_) => Err(Loan::from_box(unsafe { Box::from_raw(lent) })),
        }
    }

    /// Whether this connection can be put in, at this moment.
    #[inline]
    pub(crate) fn awaits(&self, loan: &Loan<C>) -> bool {
        let lent = ptr::from_ref(loan.lent()).cast_mut();
        self.word.load(Ordering::Relaxed).addr() == out(lent).addr()
    }

    /// Whether it is closed. Only under the lock is that sure to stay.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.word.load(Ordering::Relaxed).is_null()
    }

    /// Opens it, with a connection in. Under the lock, after [`Shortcut::is_closed`].
    pub(crate) fn open(&self, loan: Loan<C>) {
        debug_assert!(self.is_closed(), "opened once");
        self.word.store(Box::into_raw(loan.into_box()), Ordering::Release);
    }

    /// Closes it. Under the lock.
    pub(crate) fn close(&self) -> Was<C> {
        let was = self.word.swap(ptr::null_mut(), Ordering::AcqRel);
        if was.is_null() {
            return Was::Closed;
        }
        if is_out(was) {
            return Was::Out;
        }
        // SAFETY: as in `take`.
        Was::In(Loan::from_box(unsafe { Box::from_raw(was) }))
    }
}

impl<C> Drop for Shortcut<C> {
    fn drop(&mut self) {
        // A connection keeps its pool: there is none left in it.
        drop(self.close());
    }
}

/// What is kept under the lock.
pub(crate) struct Aside {
    pub(crate) turns: Turns,
    /// Of the connection in the shortcut, or that came out of it, while it is open.
    ledger: Option<Arc<Ledger>>,
    /// For the next time.
    spare: Option<Arc<Ledger>>,
}

impl Aside {
    pub(crate) const fn new() -> Self {
        Self { turns: Turns::new(), ledger: None, spare: None }
    }
}

/// When the shortcut is opened. Under the lock.
pub(crate) struct Turns {
    /// Releases in a row for which nobody waited.
    seen: u32,
    /// How many it takes.
    needed: u32,
    least: u32,
}

impl Turns {
    pub(crate) const fn new() -> Self {
        // The models open it themselves where they look at it.
        let least = if cfg!(weir_loom) { u32::MAX } else { TURNS[0] };
        Self { seen: 0, needed: least, least }
    }

    /// A connection has come back: is it time to open the shortcut?
    #[inline]
    pub(crate) fn came_back(&mut self, somebody_waited: bool) -> bool {
        self.seen = if somebody_waited { 0 } else { self.seen + 1 };
        self.seen >= self.needed
    }

    pub(crate) fn opened(&mut self) {
        self.seen = 0;
    }

    /// It has been closed after so many uses.
    pub(crate) fn closed(&mut self, uses: u64) {
        let worth = uses >= WORTH.max(u64::from(self.needed));
        self.needed = if worth || self.least == u32::MAX { self.least } else { (2 * self.needed).min(TURNS[1]) };
    }

    /// For the models: it is opened at each occasion.
    #[cfg(weir_loom)]
    pub(crate) fn set_least(&mut self) {
        (self.seen, self.needed, self.least) = (0, 1, 1);
    }
}
