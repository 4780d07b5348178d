//! Whose turn it is: the rotation state of round robin and of the ties of least connections.
//!
//! One atomic position that all workers share. It outlives the balancer: a rebuild over the same
//! members takes over the very same counter; over other members it goes on at the member whose turn
//! it is, or at the first after it that is still there.
//!
//! Retries have a position of their own. Were they to take turns of the others, one member of three that fails all its
//! requests would be tried first by every second request instead of every third (the turn that it does not take is
//! skipped on the way); were they to take the member after it, that one would get twice the share of the third.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use weir_core::EndpointId;

use crate::Balancer;
use crate::group::Group;

#[derive(Debug)]
pub(crate) struct Turn {
    next: CachePadded<AtomicU64>,
    /// The position of retries.
    retries: AtomicU64,
    ids: Box<[EndpointId]>,
}

impl Turn {
    /// The turn for `group`, carried over from `previous` if that has one.
    pub(crate) fn resume(group: &Group, previous: Option<&dyn Balancer>) -> Arc<Self> {
        let ids: Box<[_]> = group.members().iter().map(|member| member.id).collect();
        let before = previous.and_then(Balancer::rotation).and_then(|state| state.downcast::<Self>().ok());
        let start = match before {
            Some(before) if before.ids == ids => return before,
            Some(before) => before.position_in(&ids),
            None => 0,
        };
        Arc::new(Self { next: CachePadded::new(AtomicU64::new(start)), retries: AtomicU64::new(start), ids })
    }

    /// Takes a turn: a position below the number of members. The group must not be empty.
    pub(crate) fn take(&self) -> usize {
        // At a pick per nanosecond 64 bits wrap after 500 years; a wrap would only jump once.
        (self.next.fetch_add(1, Ordering::Relaxed) % self.ids.len() as u64) as usize
    }

    /// Takes a turn of the retries: a position below the number of members. The group must not be empty.
    pub(crate) fn take_retry(&self) -> usize {
        (self.retries.fetch_add(1, Ordering::Relaxed) % self.ids.len() as u64) as usize
    }

    /// Whose turn it is, without taking it. The group must not be empty.
    pub(crate) fn peek(&self) -> usize {
        (self.next.load(Ordering::Relaxed) % self.ids.len() as u64) as usize
    }

    /// Makes it the turn of the member after `at`. Two workers at once may set the same; the turn is
    /// then taken once more, which evens out.
    pub(crate) fn pass(&self, at: usize) {
        self.next.store(at as u64 + 1, Ordering::Relaxed);
    }

    /// Where in `ids` the member is whose turn it is, or the next one that is still there.
    fn position_in(&self, ids: &[EndpointId]) -> u64 {
        if self.ids.is_empty() {
            return 0;
        }
        let places: BTreeMap<_, _> = ids.iter().enumerate().map(|(at, id)| (*id, at as u64)).collect();
        let from = self.peek();
        let mut in_turn = self.ids[from..].iter().chain(&self.ids[..from]);
        in_turn.find_map(|id| places.get(id).copied()).unwrap_or(0)
    }
}
