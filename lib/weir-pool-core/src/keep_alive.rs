//! How long the peer keeps an idle connection: what it announces, and what it is seen to do.
//!
//! # Why
//! A peer that closes a connection after its keep-alive time-out may do so while a request is on its way. A request that
//! can be repeated is; any other is lost. Looking at the connection just before does not help: the close may be on the
//! wire. So such requests keep away from connections that are near that age (undici and the `AWS` clients do the same
//! with what is announced):
//!
//! ```text
//! kept   = min(announced by `Keep-Alive: timeout=N`, smallest age at which the peer closed an idle connection)
//! near   = idle for at least kept − kept / 4
//! ```
//!
//! # What is seen may mislead
//! A peer that restarts closes connections of any age, and would leave an age that is far too small. Therefore
//! - a connection that was idle for longer and then served a request proves that the peer waits at least that long: the
//!   age is raised to it;
//! - an age that was not seen again for [`FORGET_AFTER`] is forgotten;
//! - a pool that is drained forgets everything: another process may listen there next.

use std::time::Duration;

use weir_core::Instant;

use crate::slot::SlotId;

/// How long an age counts that the peer was once seen to close a connection at.
pub const FORGET_AFTER: Duration = Duration::from_mins(10);

/// The part of the time that is left unused before its end.
const MARGIN_DIVISOR: u64 = 4;

/// Nothing is known.
const UNKNOWN: u64 = u64::MAX;

/// What is known of one peer. All times in nanoseconds of idleness.
#[derive(Clone, Debug)]
pub(crate) struct KeepAlive {
    announced: u64,
    seen: u64,
    seen_at: Instant,
    /// Beginning with this age a connection is near its close.
    near: u64,
    /// A connection in use that had been idle for longer than `seen`, and for how long.
    proof: Option<(SlotId, u64)>,
}

impl KeepAlive {
    pub(crate) const fn new() -> Self {
        Self { announced: UNKNOWN, seen: UNKNOWN, seen_at: Instant::ZERO, near: UNKNOWN, proof: None }
    }

    /// Whether the peer may be about to close a connection that has been idle for so long.
    pub(crate) const fn is_near(&self, idle: u64) -> bool {
        idle >= self.near
    }

    /// The peer has told how long it keeps idle connections, or tells nothing (any more).
    pub(crate) fn announce(&mut self, timeout: Option<u64>) {
        self.announced = timeout.unwrap_or(UNKNOWN);
        self.settle();
    }

    /// The peer closed a connection that had been idle for so long.
    pub(crate) fn closed(&mut self, idle: u64, now: Instant) {
        if idle <= self.seen {
            self.seen = idle;
            self.seen_at = now;
            self.settle();
        }
    }

    /// A connection that had been idle for so long is used again.
    pub(crate) fn reused(&mut self, slot: SlotId, idle: u64) {
        if idle > self.seen && self.proof.is_none_or(|(_, longest)| idle > longest) {
            self.proof = Some((slot, idle));
        }
    }

    /// The use of a connection ended, well or not.
    pub(crate) fn used(&mut self, slot: SlotId, well: bool) {
        if let Some((of, idle)) = self.proof
            && of == slot
        {
            self.proof = None;
            if well {
                self.seen = self.seen.max(idle);
                self.settle();
            }
        }
    }

    /// Forgets what has not been seen for long.
    pub(crate) fn housekeep(&mut self, now: Instant) {
        if self.seen != UNKNOWN && now >= self.seen_at + FORGET_AFTER {
            self.seen = UNKNOWN;
            self.settle();
        }
    }

    fn settle(&mut self) {
        let kept = self.announced.min(self.seen);
        self.near = if kept == UNKNOWN { UNKNOWN } else { kept - kept / MARGIN_DIVISOR };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEC: u64 = 1_000_000_000;

    fn slot(index: u32) -> SlotId {
        SlotId { index, generation: 0 }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn the_smaller_of_announced_and_seen_counts_with_a_margin() {
        let mut peer = KeepAlive::new();
        assert!(!peer.is_near(u64::MAX - 1), "nothing is known");
        peer.announce(Some(8 * SEC));
        assert!(!peer.is_near(6 * SEC - 1) && peer.is_near(6 * SEC));
        peer.closed(4 * SEC, at(10));
        assert!(!peer.is_near(3 * SEC - 1) && peer.is_near(3 * SEC));
        peer.closed(5 * SEC, at(11));
        assert!(peer.is_near(3 * SEC), "a later close proves nothing about an earlier one");
        peer.announce(Some(0));
        assert!(peer.is_near(0));
        peer.announce(None);
        assert!(!peer.is_near(3 * SEC - 1) && peer.is_near(3 * SEC));
    }

    #[test]
    fn a_connection_that_served_after_a_longer_rest_raises_the_age() {
        let mut peer = KeepAlive::new();
        // As after a restart of the peer.
        peer.closed(1_000, at(0));
        peer.reused(slot(1), 2 * SEC);
        peer.reused(slot(2), 4 * SEC);
        peer.reused(slot(3), SEC);
        assert!(peer.is_near(SEC), "not before it has served");
        peer.used(slot(1), true);
        assert!(peer.is_near(SEC), "the longest rest is followed");
        peer.used(slot(2), true);
        assert!(!peer.is_near(3 * SEC - 1) && peer.is_near(3 * SEC));
        peer.reused(slot(4), 9 * SEC);
        peer.used(slot(4), false);
        assert!(peer.is_near(3 * SEC), "one that failed proves nothing");
        peer.used(slot(4), true);
        assert!(peer.is_near(3 * SEC));
    }

    #[test]
    fn what_was_not_seen_again_is_forgotten_and_what_was_announced_is_not() {
        let mut peer = KeepAlive::new();
        peer.announce(Some(60 * SEC));
        peer.closed(4 * SEC, at(0));
        peer.closed(4 * SEC, at(100));
        peer.housekeep(at(0) + FORGET_AFTER);
        assert!(peer.is_near(3 * SEC), "it was seen again");
        peer.housekeep(at(100) + FORGET_AFTER);
        assert!(!peer.is_near(45 * SEC - 1) && peer.is_near(45 * SEC));
    }

    proptest! {
        /// Against a peer with a timer, whatever closes besides: a connection that is not near is at least a quarter of
        /// the timer away from its close, as soon as the timer was seen once.
        #[test]
        fn what_is_not_near_is_far_from_the_timer(
            timer in 1_000_u64..100 * SEC,
            steps in prop::collection::vec((0_u32..8, 0.0_f64..1.0, 0_u64..30), 1..200),
        ) {
            let mut peer = KeepAlive::new();
            peer.closed(timer, at(0));
            for (kind, share, seconds) in steps {
                // No connection rests for longer than the timer.
                let idle = (timer as f64 * share) as u64;
                match kind {
                    0 => peer.closed(idle, at(seconds)),
                    1..4 => peer.reused(slot(kind), idle),
                    4..7 => peer.used(slot(kind - 3), share < 0.5),
                    _ => peer.housekeep(at(seconds)),
                }
                prop_assert!(peer.is_near(timer - timer / MARGIN_DIVISOR));
                prop_assert!(peer.near <= timer);
            }
        }
    }
}
