//! A counter with a maximum: how many of something may exist over all workers.
//!
//! The maximum and the count share one word, so that a take and a change of the maximum are ordered:
//! once `set_max` has returned, no take succeeds at or above the new maximum.

use std::fmt;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering};

/// A counter with a maximum, shared by all workers; nobody waits for it.
///
/// ```
/// let connections = weir_limit::SharedCap::new(2);
/// assert!(connections.try_take() && connections.try_take());
/// assert!(!connections.try_take());
/// connections.give_back();
/// assert_eq!(connections.granted(), 1);
/// ```
pub struct SharedCap {
    /// Bits 63..32: the maximum; bits 31..0: how many are taken.
    word: CachePadded<AtomicU64>,
}

const ONE_MAX: u64 = 1 << 32;

impl SharedCap {
    /// At most `max` at a time.
    pub fn new(max: u32) -> Self {
        Self { word: CachePadded::new(AtomicU64::new(u64::from(max) * ONE_MAX)) }
    }

    /// Takes one, if fewer than the maximum are taken.
    #[must_use]
    pub fn try_take(&self) -> bool {
        self.word
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |word| (taken(word) < max(word)).then(|| word + 1))
            .is_ok()
    }

    /// Gives one back. More give-backs than takes are a bug of the caller and have no effect.
    pub fn give_back(&self) {
        let given =
            self.word.fetch_update(Ordering::Release, Ordering::Relaxed, |word| (taken(word) > 0).then(|| word - 1));
        debug_assert!(given.is_ok(), "given back more often than taken");
    }

    /// How many are taken.
    pub fn granted(&self) -> u32 {
        taken(self.word.load(Ordering::Relaxed))
    }

    /// The maximum.
    pub fn max(&self) -> u32 {
        max(self.word.load(Ordering::Relaxed))
    }

    /// Changes the maximum; what is taken beyond a smaller one stays taken until given back.
    pub fn set_max(&self, max: u32) {
        let changed = self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
            Some((u64::from(max) * ONE_MAX) | u64::from(taken(word)))
        });
        debug_assert!(changed.is_ok());
    }
}

impl fmt::Debug for SharedCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedCap({} of {})", self.granted(), self.max())
    }
}

const fn taken(word: u64) -> u32 {
    word as u32
}

const fn max(word: u64) -> u32 {
    (word >> 32) as u32
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn never_above_the_maximum_even_a_smaller_one() {
        let cap = SharedCap::new(3);
        assert_eq!((0..5).filter(|_| cap.try_take()).count(), 3);
        cap.set_max(1);
        cap.give_back();
        assert!(!cap.try_take(), "2 taken, maximum 1");
        cap.give_back();
        cap.give_back();
        assert!(cap.try_take());
        assert_eq!((cap.granted(), cap.max()), (1, 1));
    }

    #[test]
    fn the_full_range_of_a_maximum_works() {
        let cap = SharedCap::new(u32::MAX);
        assert!(cap.try_take());
        assert_eq!(cap.max(), u32::MAX);
        assert!(!SharedCap::new(0).try_take());
    }
}
