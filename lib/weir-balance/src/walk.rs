//! From the home of a key to the member that gets the request: past members to avoid and, with
//! bounded load, past full ones.
//!
//! Bounded load (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads",
//! arXiv:1608.01350): at each pick member i is full if its load with this request would exceed
//! `ceil(c · w_i · (total + 1) / Σw)`, where `total` is the sum of the loads of all members. For
//! `c ≥ 1` some member is always below its bound: were all full, the loads would sum to more than
//! `total`.
//!
//! The bound holds for the loads that the pick has read. Two workers that pick at the same moment may
//! read the same load, both find room and exceed the bound by one each: at most by the number of
//! workers less one. Making it exact would take a lock on the path of every request.
//!
//! On a quiet cluster the bound is one request: with ten equal members and `c = 1.25` a second one stays at home only when
//! eight are in flight. `HAProxy` (`hash-balance-factor`) has the same rule; Envoy compares the load before this request
//! with the bound, and so allows one more.
//!
//! Cost: a home that is idle is taken at once; else the bound needs the sum of the loads, one cache
//! line per member.

use weir_core::hash::{reduce, splitmix64};

use crate::Ask;
use crate::group::{Group, is_lighter};

/// Candidates looked at in hash order before the members are tried one by one. With eight members to
/// avoid and most of the rest full, a walk is a handful of steps; this bounds the odd case of one
/// member that owns nearly the whole table and is to be avoided.
const WALK_LIMIT: usize = 256;

/// The factor of bounded load as a whole number of these parts, so that the bound is exact: 1.1 as a
/// binary fraction would give `ceil(1.1 · 10) = 12`.
const FACTOR_PARTS: u32 = 10_000;

/// Largest factor that means anything: far beyond any number of members.
const FACTOR_MAX: f64 = 1_000_000.0;

/// The factor of bounded load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    parts: u128,
}

impl Bound {
    /// Rounded to four decimal places. Factors below 1 (and NaN) act as 1, the smallest one for which
    /// there is always room somewhere.
    pub(crate) fn new(factor: f64) -> Self {
        let factor = if factor >= 1.0 { factor.min(FACTOR_MAX) } else { 1.0 };
        Self { parts: (factor * f64::from(FACTOR_PARTS)).round() as u128 }
    }

    /// Whether a member with `load` requests in flight may get one more.
    ///
    /// `load + 1 ≤ ceil(x)` is the same as `load < x`, so no division is needed.
    fn has_room(self, load: u64, weight: u64, total_load: u64, total_weight: u64) -> bool {
        u128::from(load) * u128::from(total_weight) * u128::from(FACTOR_PARTS)
            < self.parts * u128::from(weight) * (u128::from(total_load) + 1)
    }
}

/// The first of `candidates` that is free and has room. `key` fixes the order in which the members
/// are tried if none of the first [`WALK_LIMIT`] candidates will do, so the same key still goes to the
/// same place. If all free members are full, which takes members to avoid or a race, the one with
/// the smallest load for its weight is taken: a request is not failed for the sake of the bound.
pub(crate) fn walk(
    group: &Group,
    bound: Option<Bound>,
    ask: &Ask,
    key: u64,
    candidates: impl Iterator<Item = usize>,
) -> Option<usize> {
    if !group.any_free(&ask.avoid) {
        return None;
    }
    let mut total_load = None;
    let mut has_room = |at: usize| {
        let Some(bound) = bound else { return true };
        let load = group.load(at);
        load == 0 || {
            let total = *total_load.get_or_insert_with(|| group.total_load());
            bound.has_room(load, group.weight(at), total, group.total_weight())
        }
    };
    for at in candidates.take(WALK_LIMIT) {
        if group.is_free(at, &ask.avoid) && has_room(at) {
            return Some(at);
        }
    }
    let start = reduce(splitmix64(key), group.len() as u64) as usize;
    let free = || group.round(start).filter(|&at| group.is_free(at, &ask.avoid));
    free().find(|&at| has_room(at)).or_else(|| {
        free()
            .map(|at| (at, (group.load(at), group.weight(at))))
            .reduce(|best, next| if is_lighter(next.1, best.1) { next } else { best })
            .map(|(at, _)| at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_exact_for_decimal_factors() {
        // 1.1 · 1/1 · 10 = 11: the eleventh request fits, the twelfth does not.
        let bound = Bound::new(1.1);
        assert!(bound.has_room(10, 1, 9, 1));
        assert!(!bound.has_room(11, 1, 9, 1));
        // ceil(1.25 · 1/4 · 1) = 1.
        assert!(Bound::new(1.25).has_room(0, 1, 0, 4));
        assert!(!Bound::new(1.25).has_room(1, 1, 1, 4));
    }

    /// The figure in docs/concept/balancing.md.
    #[test]
    fn on_a_quiet_cluster_the_bound_is_one_request() {
        let bound = Bound::new(1.25);
        for total in 1..=7 {
            assert!(!bound.has_room(1, 1, total, 10), "{total} in flight");
        }
        assert!(bound.has_room(1, 1, 8, 10));
    }

    #[test]
    fn senseless_factors_leave_room_somewhere() {
        for factor in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY, 0.99] {
            assert_eq!(Bound::new(factor).parts, u128::from(FACTOR_PARTS), "{factor}");
        }
        // The largest numbers that can meet do not overflow.
        let far = Bound::new(f64::INFINITY);
        assert!(far.has_room(u64::from(u32::MAX), 1, u64::MAX, 1));
        assert!(!Bound::new(1.0).has_room(u64::from(u32::MAX), 1, 0, u64::from(u32::MAX)));
    }
}
