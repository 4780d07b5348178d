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
//! [`State::settle`]: crate::shared::State::settle

// One pointer changes hands without the lock and without a count of the pool's owners, which safe code would need for that. The
// models (`models/shortcut.rs`) try every interleaving, and see connections that are lost or in two hands.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Count, Ordering};
use std::time::Duration;

use weir_core::Instant;
use weir_pool_core::{BUCKETS, Histogram, Lent, Loan, SlotId, Uses};

use crate::sync::{AtomicPtr, AtomicU64};

/// Releases for which nobody waited before the shortcut is opened: at first, and at most.
const TURNS: [u32; 2] = [16, 1 << 16];
/// It was worth it after so many uses, and at least as many as the releases that it took.
const WORTH: u64 = 1 << 10;

/// The place for one connection. See the module.
pub(crate) struct Shortcut<C> {
    /// [`closed`], [`out`], or the connection: a pointer from [`Box::into_raw`], which whoever swaps it out owns.
    word: AtomicPtr<Lent<C>>,
}

/// Nothing can be put in.
fn closed<C>() -> *mut Lent<C> {
    ptr::null_mut()
}

/// The connection is in use, and may be put in.
fn out<C>() -> *mut Lent<C> {
    // Never read: no box has this address, because what is in it is aligned to more than a byte.
    const { assert!(align_of::<Lent<C>>() > 1) };
    ptr::without_provenance_mut(1)
}

/// What was in a shortcut that has been closed.
pub(crate) enum Was<C> {
    Closed,
    Out,
    In(Loan<C>),
}

impl<C> Shortcut<C> {
    pub(crate) fn new() -> Self {
        Self { word: AtomicPtr::new(closed()) }
    }

    /// Takes the connection out. The shortcut stays open.
    #[inline]
    pub(crate) fn take(&self) -> Option<Loan<C>> {
        let there = self.word.load(Ordering::Relaxed);
        if there == closed() || there == out() {
            return None;
        }
        // If it was taken out and put back in meanwhile, that is as good.
        self.word.compare_exchange(there, out(), Ordering::Acquire, Ordering::Relaxed).ok()?;
        // SAFETY: neither of the two marks, so it is a box that `put` or `open` has let go of, and the exchange has made it ours alone.
        Some(Loan::from_box(unsafe { Box::from_raw(there) }))
    }

    /// Puts a connection in; it comes back if it is closed, or another one is in.
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
        match word.compare_exchange(out(), lent, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            // SAFETY: it is the box from above, which nobody else has seen.
            Err(_) => Err(Loan::from_box(unsafe { Box::from_raw(lent) })),
        }
    }

    /// Whether a connection can be put in, at this moment.
    #[inline]
    pub(crate) fn is_out(&self) -> bool {
        self.word.load(Ordering::Relaxed) == out()
    }

    /// Whether it is closed. Only under the lock is that sure to stay.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.word.load(Ordering::Relaxed) == closed()
    }

    /// Opens it, with a connection in. Under the lock, after [`Shortcut::is_closed`].
    pub(crate) fn open(&self, loan: Loan<C>) {
        debug_assert!(self.is_closed(), "opened once");
        self.word.store(Box::into_raw(loan.into_box()), Ordering::Release);
    }

    /// Closes it. Under the lock.
    pub(crate) fn close(&self) -> Was<C> {
        let was = self.word.swap(closed(), Ordering::AcqRel);
        if was == closed() {
            return Was::Closed;
        }
        if was == out() {
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
        // Not opened yet outside the models: a connection that was out when it was closed may get back in by a later opening for another.
        let least = u32::MAX;
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

/// Buckets of a ledger; time stands still in the models.
pub(crate) const KINDS: usize = if cfg!(weir_loom) { 1 } else { BUCKETS };

/// No use is in progress.
const NONE: u64 = u64::MAX;

/// What a connection is used for past the lock. Whoever holds the connection writes, and nobody else; the rest is read and
/// written under the lock.
pub(crate) struct Ledger {
    /// Of the connection.
    pub(crate) slot: Option<SlotId>,
    /// From then on it is not to be lent any more.
    pub(crate) until: Instant,
    /// If it was idle for so long, it is lent under the lock.
    pub(crate) quiet: Duration,
    figures: Figures,
    /// What is in the machine's books already.
    booked: Figures,
}

struct Figures {
    /// When the use in progress began.
    since: AtomicU64,
    lent: AtomicU64,
    sum: AtomicU64,
    /// Ordered by the others.
    max: Count,
    holds: [AtomicU64; KINDS],
}

impl Figures {
    fn new() -> Self {
        Self {
            since: AtomicU64::new(NONE),
            lent: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            max: Count::new(0),
            holds: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// Only one at a time writes: no atomic addition is needed. What is read with `Acquire` was seen before what is read after it.
#[inline]
fn add(to: &AtomicU64, more: u64) {
    to.store(to.load(Ordering::Relaxed).wrapping_add(more), Ordering::Release);
}

/// What has come since it was asked last.
fn more(of: &AtomicU64, booked: &AtomicU64) -> u64 {
    let now = of.load(Ordering::Acquire);
    let before = booked.load(Ordering::Relaxed);
    booked.store(now, Ordering::Relaxed);
    now.wrapping_sub(before)
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            slot: None,
            until: Instant::ZERO,
            quiet: Duration::ZERO,
            figures: Figures::new(),
            booked: Figures::new(),
        }
    }

    /// A use begins.
    #[inline]
    pub(crate) fn begin(&self, now: Instant) {
        self.figures.since.store(now.as_nanos(), Ordering::Release);
        add(&self.figures.lent, 1);
    }

    /// A use ends.
    #[inline]
    pub(crate) fn end(&self, held: Duration) {
        let nanos = held.as_nanos() as u64;
        let figures = &self.figures;
        // First: a use that is counted is not in progress any more.
        figures.since.store(NONE, Ordering::Release);
        add(&figures.sum, nanos);
        if nanos > figures.max.load(Ordering::Relaxed) {
            figures.max.store(nanos, Ordering::Relaxed);
        }
        if let Some(holds) = figures.holds.get(Histogram::bucket(nanos)) {
            add(holds, 1);
        }
    }

    /// What is to be booked, and by `hold` how long uses took. Under the lock.
    pub(crate) fn book(&self, mut hold: impl FnMut(usize, u64)) -> Uses {
        let (figures, booked) = (&self.figures, &self.booked);
        let mut ended = 0;
        for (bucket, (now, before)) in figures.holds.iter().zip(&booked.holds).enumerate() {
            let count = more(now, before);
            if count > 0 {
                ended += count;
                hold(bucket, count);
            }
        }
        Uses {
            ended,
            sum_nanos: more(&figures.sum, &booked.sum),
            lent: more(&figures.lent, &booked.lent),
            max_nanos: figures.max.load(Ordering::Relaxed),
        }
    }

    /// How often it has been lent.
    pub(crate) fn lent(&self) -> u64 {
        self.figures.lent.load(Ordering::Relaxed)
    }

    /// When the use in progress began, if one is. After [`Ledger::book`].
    pub(crate) fn since(&self) -> Option<Instant> {
        let since = self.figures.since.load(Ordering::Acquire);
        (since != NONE).then(|| Instant::from_nanos(since))
    }

    /// The machine knows that it is lent since `to`; when it was to it before. Under the lock.
    pub(crate) fn move_since(&self, to: Instant) -> Instant {
        let before = self.booked.since.load(Ordering::Relaxed);
        self.booked.since.store(to.as_nanos(), Ordering::Relaxed);
        Instant::from_nanos(before)
    }

    /// As new, if nobody else has it.
    pub(crate) fn again(mut ledger: Arc<Self>) -> Option<Arc<Self>> {
        *Arc::get_mut(&mut ledger)? = Self::new();
        Some(ledger)
    }
}
