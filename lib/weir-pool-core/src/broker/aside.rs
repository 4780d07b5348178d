//! Uses that the machine does not see one by one: an owner may lend an idle connection by himself for a while, and tells
//! afterwards what it was used for. To the machine it is lent all that time.
//!
//! The sum of the beginnings of the uses in progress, from which their ages follow, holds one beginning for such a connection: that which
//! the owner has told last ([`Broker::move_since`]).

use weir_core::Instant;

use super::{Broker, Loan};
use crate::Quota;
use crate::histogram::Histogram;
use crate::slot::SlotId;

/// What a connection was used for that was lent aside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uses {
    /// How often it was lent.
    pub lent: u64,
    /// How many of these uses have ended.
    pub ended: u64,
    /// How long those took together.
    pub sum_nanos: u64,
    /// How long the longest of them took.
    pub max_nanos: u64,
}

impl<C, W, Q: Quota> Broker<C, W, Q> {
    /// The connection that was used last, if it is idle and its uses may go unseen: nobody waits, none is to be closed, and
    /// neither leaks nor uses are counted, nor callers shed; and if `is_fit` says so. It begins a use now that is none, and is in no
    /// statistics; it comes back by [`Broker::put_away`] or like any other.
    pub fn lend_aside(&mut self, now: Instant, is_fit: impl FnOnce(&mut Loan<C>) -> bool) -> Option<Loan<C>> {
        let unseen = self.line.is_empty()
            && self.open
            && !self.sheds
            && !self.looks_for_leaks
            && self.cold.params.keep.max_uses.is_none()
            && !self.is_over();
        if !unseen {
            return None;
        }
        let loan = self.lend_if(now, is_fit)?;
        self.pool.forget_use(loan.slot());
        Some(loan)
    }

    /// When the lifetime of a connection is over.
    pub fn expires(&self, slot: SlotId) -> Instant {
        self.pool.expires(slot)
    }

    /// A connection that is lent aside was used. Adds to `holds` how long these uses took, by bucket.
    pub fn add_uses(&mut self, slot: Option<SlotId>, uses: &Uses, holds: impl Iterator<Item = (usize, u64)>) {
        self.unwaited += uses.lent;
        self.uses += uses.ended;
        self.holds.add_total(uses.sum_nanos, uses.max_nanos);
        for (bucket, count) in holds {
            self.holds.add(bucket, count);
        }
        if let Some(slot) = slot {
            self.pool.count_uses(slot, uses.lent);
        }
    }

    /// The use of a connection that is lent aside began at `to`, and not at `from`, as was told before.
    pub fn move_since(&mut self, from: Instant, to: Instant) {
        self.begun_nanos = self.begun_nanos.wrapping_sub(from.as_nanos()).wrapping_add(to.as_nanos());
    }

    /// A use is over that was told by [`Broker::add_uses`], and the connection is sound: as [`Broker::release`].
    #[must_use]
    pub fn release_told(&mut self, mut loan: Loan<C>, now: Instant) -> Option<W> {
        self.begun_nanos = self.begun_nanos.wrapping_sub(loan.0.since.as_nanos());
        loan.0.alive = now;
        self.pass_on(loan, now)
    }

    /// A connection that is lent aside is not in use: it has been idle since its last use, or goes to the first in line, who is
    /// returned to be told.
    #[must_use]
    pub fn put_away(&mut self, loan: Loan<C>, now: Instant) -> Option<W> {
        self.begun_nanos = self.begun_nanos.wrapping_sub(loan.0.since.as_nanos());
        if self.line.is_empty() {
            // For as long as it was not used.
            let alive = loan.0.alive;
            self.release_idle(loan, alive);
            return None;
        }
        self.pass_on(loan, now)
    }
}

impl<C> Loan<C> {
    /// It is lent again, by the owner himself.
    #[inline]
    pub fn lend_again(&mut self, now: Instant) {
        self.0.since = now;
    }

    /// Its use is over, seen by the owner only.
    #[inline]
    pub fn used(&mut self, now: Instant) {
        self.0.alive = now;
    }
}

const _: () = assert!(Histogram::bucket(u64::MAX) < crate::histogram::BUCKETS);
