//! What a connection is used for past the lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Count, Ordering};
use std::time::Duration;

use weir_core::Instant;
use weir_pool_core::{BUCKETS, Histogram, SlotId, Uses};

use crate::sync::AtomicU64;

/// Buckets of a ledger; time stands still in the models.
pub(crate) const KINDS: usize = if cfg!(weir_loom) { 1 } else { BUCKETS };

/// No use is in progress.
const NONE: u64 = u64::MAX;

/// What a connection is used for past the lock. Whoever holds the connection writes, and nobody else; the rest is read and
/// written under the lock.
pub(crate) struct Ledger {
    /// The number of the lane.
    pub(crate) lane: usize,
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
            lane: 0,
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
