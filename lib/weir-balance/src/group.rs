//! The members of a balancer with what every algorithm asks of them.

use crate::{Avoid, Load, Member};

/// [`Avoid`] holds at most this many endpoints, so a larger group always has one left.
const AVOID_CAPACITY: usize = 8;

/// Members in the order given at build time.
#[derive(Debug)]
pub(crate) struct Group {
    members: Box<[Member]>,
    total_weight: u64,
}

impl Group {
    pub(crate) fn new(members: Vec<Member>) -> Self {
        let members = members.into_boxed_slice();
        let total_weight = members.iter().map(weight).sum();
        Self { members, total_weight }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Weight of one member, 1 to 65,535.
    pub(crate) fn weight(&self, at: usize) -> u64 {
        weight(&self.members[at])
    }

    pub(crate) fn total_weight(&self) -> u64 {
        self.total_weight
    }

    pub(crate) fn load(&self, at: usize) -> u64 {
        u64::from(self.members[at].load.in_flight())
    }

    /// Requests in flight at all members. Reads one cache line per member.
    pub(crate) fn total_load(&self) -> u64 {
        self.members.iter().map(|member| u64::from(Load::in_flight(&member.load))).sum()
    }

    /// Whether `at` is not to be avoided.
    pub(crate) fn is_free(&self, at: usize, avoid: &Avoid) -> bool {
        avoid.is_empty() || !avoid.contains(self.members[at].id)
    }

    /// Whether any member is left that is not to be avoided.
    pub(crate) fn any_free(&self, avoid: &Avoid) -> bool {
        match self.len() {
            0 => false,
            n if avoid.is_empty() || n > AVOID_CAPACITY => true,
            n => (0..n).any(|at| self.is_free(at, avoid)),
        }
    }

    /// The first free member at or after `start`, going round.
    pub(crate) fn first_free(&self, start: usize, avoid: &Avoid) -> Option<usize> {
        self.round(start).find(|&at| self.is_free(at, avoid))
    }

    /// Every position once, beginning at `start` (below `len`).
    pub(crate) fn round(&self, start: usize) -> impl Iterator<Item = usize> + use<> {
        (start..self.len()).chain(0..start)
    }
}

/// Weight 0 is filtered out above; should one come through it counts as 1, so that no sum is 0.
fn weight(member: &Member) -> u64 {
    u64::from(member.weight.get().max(1))
}

/// Whether a load of `load_a` requests at weight `weight_a`, this request included, is a smaller
/// share than `load_b` at `weight_b`: `(load_a + 1) / weight_a < (load_b + 1) / weight_b`, without
/// division. Loads fit 32 bits and weights 16, so the products fit 64.
pub(crate) fn is_lighter((load_a, weight_a): (u64, u64), (load_b, weight_b): (u64, u64)) -> bool {
    (load_a + 1) * weight_b < (load_b + 1) * weight_a
}
