//! The shortcut past the lock: a thread that asks again and again gets the same connection back by two atomic operations, one to take
//! it and one to give it back, instead of six and the lock.
//!
//! # How it goes
//! The shortcut has *lanes*, one for each thread that uses the pool (several share one where there are many threads: [`thread`]). A
//! lane holds at most one connection. All lanes are *closed* most of the time. Under the lock, after some releases for which nobody
//! waited, those of the threads that have come by lately get the idle connections that were used last: to the machine these are lent
//! from then on ([`Broker::lend_aside`]). Who comes takes the connection of its thread's lane out ([`Lane::take`]) and puts it back in
//! ([`Lane::put`]) without the lock, and writes in a [`Ledger`] what the machine would have counted.
//!
//! **Whoever takes the lock, for whatever reason, closes all lanes first** ([`State::settle`]): what is in them is idle then, and
//! what the ledgers say is in the machine's books. So under the lock nothing is known differently with a shortcut than without, and nobody
//! can stand in line while a connection is in a lane. A connection that is out when its lane is closed does not find its way back in:
//! it comes back under the lock, and goes to whoever waits by then.
//!
//! Where connections are held for long, or threads share a lane, the lanes are closed soon after they were opened, and opening them costs
//! some hundred nanoseconds each; so after each time that was not worth it twice as many releases are needed for the next ([`Turns`]).
//!
//! Measured: `cargo run --release -p weir-pool --example speed`; `docs/performance.md` has the figures.
//!
//! Source of the idea: biased locks (Kawachiya, Koseki, Onodera, "Lock Reservation", 2002), here for the connection instead of the lock;
//! a place for each thread: the free lists per processor of J. Bonwick, J. Adams, "Magazines and Vmem", 2001, and the list per thread of
//! HikariCP's `ConcurrentBag`.
//!
//! [`Broker::lend_aside`]: weir_pool_core::Broker::lend_aside
//! [`State::settle`]: crate::shared::State

// One pointer changes hands without the lock and without a count of the pool's owners, which safe code would need for that. The
// models (`models/shortcut.rs`) try every interleaving, and see connections that are lost or in two hands.
#![allow(unsafe_code)]

mod ledger;
mod lending;
pub(crate) mod thread;

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
/// Lanes at most; a bit of a word each.
const LANES: usize = 32;

/// The lanes. See the module.
pub(crate) struct Shortcut<C> {
    /// A power of two of them, or none.
    lanes: Box<[Lane<C>]>,
}

/// The place for one connection. On cache lines of its own: two, as processors fetch them in pairs.
#[repr(align(128))]
pub(crate) struct Lane<C> {
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

/// What was in a lane that has been closed.
pub(crate) enum Was<C> {
    Closed,
    Out,
    In(Loan<C>),
}

impl<C> Shortcut<C> {
    /// With lanes for twice as many threads as run at a time: their numbers may have gaps.
    pub(crate) fn new() -> Self {
        let threads = if cfg!(weir_loom) { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
        let count = (2 * threads).next_power_of_two().min(LANES);
        Self { lanes: (0..count).map(|_| Lane { word: AtomicPtr::new(ptr::null_mut()) }).collect() }
    }

    /// A shortcut that is never opened.
    pub(crate) fn none() -> Self {
        Self { lanes: Box::new([]) }
    }

    #[inline]
    pub(crate) fn lane(&self, number: usize) -> Option<&Lane<C>> {
        self.lanes.get(number)
    }

    /// The lane of this thread.
    #[inline]
    pub(crate) fn mine(&self) -> Option<usize> {
        let last = self.lanes.len().checked_sub(1)?;
        Some(thread::number() & last)
    }
}

impl<C> Lane<C> {
    /// Takes the connection out. The lane stays open.
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

    /// Puts the connection in that has been taken out; it comes back if the lane has been closed since.
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

    /// Opens it, with a connection in. Under the lock, while it is closed.
    fn open(&self, loan: Loan<C>) {
        let lent = Box::into_raw(loan.into_box());
        let was = self.word.swap(lent, Ordering::Release);
        debug_assert!(was.is_null(), "opened once");
    }

    /// Closes it. Under the lock.
    fn close(&self) -> Was<C> {
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

impl<C> Drop for Lane<C> {
    fn drop(&mut self) {
        // A connection keeps its pool: there is none left in it.
        drop(self.close());
    }
}

/// What is kept under the lock.
pub(crate) struct Aside {
    pub(crate) turns: Turns,
    lanes: Box<[Behind]>,
    /// The lanes that are open, a bit each.
    open: u32,
    /// Those of the threads that have come by since lanes were closed last.
    recent: u32,
}

/// Of a lane.
#[derive(Default)]
struct Behind {
    /// Of the connection in it, or that came out of it, while it is open.
    ledger: Option<Arc<Ledger>>,
    /// For the next time.
    spare: Option<Arc<Ledger>>,
}

impl Aside {
    pub(crate) fn new<C>(shortcut: &Shortcut<C>) -> Self {
        let lanes = shortcut.lanes.iter().map(|_| Behind::default()).collect();
        Self { turns: Turns::new(), lanes, open: 0, recent: 0 }
    }

    /// Whether there is something to settle.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.open != 0
    }
}

/// The numbers of the bits that are set.
fn bits(mut word: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < u32::BITS).then_some(bit as usize)
    })
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
