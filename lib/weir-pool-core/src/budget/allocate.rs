//! Max-min fair shares of a number of connections.
//!
//! ```text
//! 1. everybody gets its floor                                  as far as the total allows
//! 2. demands are met, the smallest (by weight) first           weighted max-min: nobody's share could grow
//!                                                              without that of one who has less, by weight
//! 3. what is left is headroom, in proportion to weight × √demand
//! ```
//!
//! Why √demand: the number of busy connections of a pool swings by about the root of its mean, so that headroom in this
//! proportion makes callers of all pools wait equally seldom (the square-root rule of staffing).
//!
//! Connections are given one by one to whoever has least after it, by weight: the result is exact in whole numbers, and one more
//! connection in total never takes one from anybody. Cost: O(total × log members).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use super::Amount;

/// A share that is a little too large stays for so long.
pub const STILL: Duration = Duration::from_secs(5);

/// What a member would like to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want {
    /// What it ought to have in any case.
    pub floor: u32,
    /// Its part relative to others; 0 counts as 1.
    pub weight: u32,
    /// What it could use now.
    pub demand: Amount,
    /// What it can use at most.
    pub max: u32,
}

impl Want {
    /// Whether somebody with this share lacks what it could use.
    pub fn lacks(&self, share: u32) -> bool {
        share < self.demand.ceil().max(self.floor).min(self.max)
    }
}

/// What a share becomes whose fair size is `target`: it stays for [`STILL`] if it is hardly more than that (by one and a
/// sixteenth) and nobody lacks anything. Otherwise every swing of a demand would close connections here that are opened again
/// there. `still`: since its last change.
pub fn damp(share: u32, target: u32, lacking: bool, still: Duration) -> u32 {
    let close = target < share && share - target <= 1 + share / 16;
    if close && !lacking && still < STILL { share } else { target }
}

/// The share of each member, in their order. The sum is the smaller of `total` and of all `max`. Deterministic: ties go to the
/// member that comes first.
///
/// ```
/// use weir_pool_core::budget::{Amount, Want, allocate};
///
/// let want = |demand| Want { floor: 1, weight: 1, demand: Amount::whole(demand), max: 40 };
/// assert_eq!(allocate(40, &[want(30), want(30)]), [20, 20]); // both need more: equal shares
/// assert_eq!(allocate(40, &[want(8), want(60)]), [8, 32]); // the small demand is met
/// assert_eq!(allocate(40, &[want(4), want(16)]), [11, 29]); // room for all: headroom as √4 to √16, then rounded
/// ```
pub fn allocate(total: u32, wants: &[Want]) -> Vec<u32> {
    let mut shares = vec![0; wants.len()];
    let floors = wants.iter().map(|want| Line::new(want.weight, want.floor.min(want.max)));
    let left = fill(total, &mut shares, &floors.collect::<Vec<_>>());
    let demands = wants.iter().map(|want| Line::new(want.weight, want.demand.ceil().min(want.max)));
    let left = fill(left, &mut shares, &demands.collect::<Vec<_>>());
    let headroom = wants.iter().map(|want| {
        let milli = want.demand.as_milli();
        // √demand, times 1,000.
        let swing = (u64::from(milli.max(1_000)) * 1_000).isqrt();
        Line { weight: u64::from(want.weight.max(1)) * swing, upto: want.max, base_milli: milli, next_milli: 500 }
    });
    fill(left, &mut shares, &headroom.collect::<Vec<_>>());
    shares
}

/// How a member takes part in a round: by which weight, up to which share, what of its share does not count, and which part of the
/// next connection does. The whole: nobody gets one that would put it above others (demands). Half: shares are rounded to the
/// nearest (headroom).
struct Line {
    weight: u64,
    upto: u32,
    base_milli: u32,
    next_milli: u64,
}

impl Line {
    fn new(weight: u32, upto: u32) -> Self {
        Self { weight: u64::from(weight.max(1)), upto, base_milli: 0, next_milli: 1_000 }
    }
}

/// A member in the order in which the next connections are given: what it would have, in thousandths, by weight.
struct Next {
    have: u64,
    weight: u64,
    index: usize,
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        // have / weight < other.have / other.weight, without fractions.
        let (one, two) = (u128::from(self.have), u128::from(other.have));
        let order = (one * u128::from(other.weight)).cmp(&(two * u128::from(self.weight)));
        order.then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Next {}

/// Gives `left` connections one by one to whoever has least after it; returns what nobody can use.
fn fill(mut left: u32, shares: &mut [u32], lines: &[Line]) -> u32 {
    let next = |index: usize, share: u32| {
        let line = lines.get(index)?;
        let have = (u64::from(share) * 1_000).saturating_sub(u64::from(line.base_milli)) + line.next_milli;
        (share < line.upto).then_some(Reverse(Next { have, weight: line.weight, index }))
    };
    let mut heap: BinaryHeap<_> = shares.iter().enumerate().filter_map(|(index, share)| next(index, *share)).collect();
    while left > 0
        && let Some(Reverse(Next { index, .. })) = heap.pop()
        && let Some(share) = shares.get_mut(index)
    {
        *share += 1;
        left -= 1;
        heap.extend(next(index, *share));
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn want() -> impl Strategy<Value = Want> {
        (0..6_u32, 1..5_u32, 0..40_000_u32, 1..60_u32).prop_map(|(floor, weight, demand, max)| Want {
            floor,
            weight,
            demand: Amount::milli(demand),
            max,
        })
    }

    fn sum(shares: &[u32]) -> u32 {
        shares.iter().sum()
    }

    #[test]
    fn nobody_and_nothing() {
        assert_eq!(allocate(40, &[]), [0; 0]);
        let one = Want { floor: 3, weight: 1, demand: Amount::whole(9), max: 20 };
        assert_eq!(allocate(0, &[one]), [0]);
        assert_eq!(allocate(40, &[one]), [20]);
    }

    #[test]
    fn weights_part_what_all_want_and_what_nobody_needs() {
        let want = |weight, demand| Want { floor: 0, weight, demand: Amount::whole(demand), max: 100 };
        assert_eq!(allocate(40, &[want(1, 90), want(3, 90)]), [10, 30]);
        assert_eq!(allocate(40, &[want(1, 0), want(3, 0)]), [10, 30]);
        // Demand goes before weight: the small one's is met.
        assert_eq!(allocate(40, &[want(1, 10), want(30, 10)]), [11, 29]);
    }

    #[test]
    fn a_small_surplus_stays_for_a_while_if_nobody_lacks_anything() {
        let soon = |share, target, lacking| damp(share, target, lacking, Duration::from_secs(1));
        assert_eq!(
            [soon(32, 29, false), soon(32, 28, false), soon(32, 29, true), soon(32, 33, false)],
            [32, 28, 29, 33]
        );
        assert_eq!([soon(1, 0, false), soon(0, 0, false)], [1, 0]);
        assert_eq!(damp(32, 31, false, STILL), 31);
    }

    #[test]
    fn floors_that_are_too_many_are_shared() {
        let want = Want { floor: 5, weight: 1, demand: Amount::default(), max: 10 };
        assert_eq!(allocate(7, &[want; 3]), [3, 2, 2]);
    }

    proptest! {
        #[test]
        fn the_sum_is_the_total_or_all_that_can_be_used(total in 0..200_u32, wants in prop::collection::vec(want(), 0..8)) {
            let shares = allocate(total, &wants);
            let usable: u32 = wants.iter().map(|want| want.max).sum();
            prop_assert_eq!(sum(&shares), total.min(usable));
            prop_assert!(shares.iter().zip(&wants).all(|(share, want)| *share <= want.max));
        }

        #[test]
        fn floors_come_before_demands_and_demands_before_headroom(
            total in 0..200_u32, wants in prop::collection::vec(want(), 1..8)
        ) {
            let shares = allocate(total, &wants);
            let floor = |want: &Want| want.floor.min(want.max);
            let need = |want: &Want| floor(want).max(want.demand.ceil().min(want.max));
            let pairs = || shares.iter().copied().zip(&wants);
            if pairs().any(|(share, want)| share > floor(want)) {
                prop_assert!(pairs().all(|(share, want)| share >= floor(want)), "{:?}", shares);
            }
            if pairs().any(|(share, want)| share > need(want)) {
                prop_assert!(pairs().all(|(share, want)| share >= need(want)), "{:?}", shares);
            }
        }

        /// Whoever has less than its demand could get one more only from one who has not more by weight than it would have.
        #[test]
        fn demands_are_met_max_min_fairly(total in 0..200_u32, wants in prop::collection::vec(want(), 2..8)) {
            let shares = allocate(total, &wants);
            let pairs: Vec<_> = shares.iter().map(|share| u64::from(*share)).zip(&wants).collect();
            for (mine, my) in &pairs {
                if *mine >= u64::from(my.demand.ceil().min(my.max)) {
                    continue;
                }
                for (theirs, their) in &pairs {
                    if *theirs > u64::from(their.floor.min(their.max)) {
                        prop_assert!(theirs * u64::from(my.weight) <= (mine + 1) * u64::from(their.weight), "{:?}", shares);
                    }
                }
            }
        }

        #[test]
        fn more_in_total_takes_from_nobody(total in 0..200_u32, wants in prop::collection::vec(want(), 0..8)) {
            let (less, more) = (allocate(total, &wants), allocate(total + 1, &wants));
            prop_assert!(less.iter().zip(&more).all(|(less, more)| less <= more), "{:?} {:?}", less, more);
        }

        #[test]
        fn more_demand_gives_no_less(total in 0..200_u32, wants in prop::collection::vec(want(), 1..8)) {
            let before = allocate(total, &wants);
            let mut wants = wants;
            wants[0].demand = Amount::milli(wants[0].demand.as_milli() + 700);
            let after = allocate(total, &wants);
            prop_assert!(after[0] >= before[0], "{:?} {:?}", before, after);
        }

        #[test]
        fn a_newcomer_gives_nobody_more(total in 0..200_u32, wants in prop::collection::vec(want(), 1..8), new in want()) {
            let before = allocate(total, &wants);
            let mut wants = wants;
            wants.push(new);
            let after = allocate(total, &wants);
            prop_assert!(before.iter().zip(&after).all(|(before, after)| after <= before), "{:?} {:?}", before, after);
        }
    }
}
