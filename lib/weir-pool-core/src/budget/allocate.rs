//! Max-min fair shares of a number of connections.
//!
//! ```text
//! 1. everybody gets its floor                                  as far as the total allows
//! 2. demands are met, the smallest (by weight) first           weighted max-min: nobody's share could grow
//!                                                              without that of one who has less, by weight
//! 3. what is left is headroom, in proportion to weight × ∛demand
//! ```
//!
//! Why ∛demand: headroom in proportion to √demand makes callers of all pools wait equally *seldom* (busy connections swing by
//! about the root of their mean: the square-root rule of staffing), equal headroom makes those who wait wait equally *long* (a line
//! shrinks by what is free). The p99 of all waits is made of both, and is least about halfway: `tests/waits` compares every split.
//!
//! In the second round, demands are rounded to the nearest, but for one connection more than it has a pool needs all of it.
//! In the last round a pool keeps a connection that it has unless another has more use of it by half a connection ([`KEEP`]):
//! a fair size of 10.5 would otherwise be 10 and 11 by turns.
//!
//! Connections are given one by one to whoever has least after it, by weight: the result is exact in whole numbers, and one more
//! connection in total never takes one from anybody. Cost: O(total × log members).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::Amount;

/// By so many thousandths of a connection of headroom the one who has it goes first.
const KEEP: i64 = 500;

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
    /// What it was given last; 0 if nothing.
    pub share: u32,
}

impl Want {
    /// The demand in whole connections: the nearest. For one more than it has, a member needs all of it: what is measured is off by
    /// as much as chance explains, and in this round a connection is taken from another who may need it.
    fn needs(&self) -> u32 {
        let nearest = self.demand.nearest();
        let one_more = self.share > 0 && nearest == self.share.saturating_add(1);
        (if one_more { self.demand.as_milli() / 1_000 } else { nearest }).min(self.max)
    }
}

/// The share of each member, in their order. The sum is the smaller of `total` and of all `max`. Deterministic: ties go to the
/// member that comes first.
///
/// ```
/// use weir_pool_core::budget::{Amount, Want, allocate};
///
/// let want = |demand| Want { floor: 1, weight: 1, demand: Amount::whole(demand), max: 40, share: 0 };
/// assert_eq!(allocate(40, &[want(30), want(30)]), [20, 20]); // both need more: equal shares
/// assert_eq!(allocate(40, &[want(8), want(60)]), [8, 32]); // the small demand is met
/// assert_eq!(allocate(40, &[want(4), want(16)]), [12, 28]); // room for all: headroom as ∛4 to ∛16, then rounded
/// ```
pub fn allocate(total: u32, wants: &[Want]) -> Vec<u32> {
    let mut shares = vec![0; wants.len()];
    let floors = wants.iter().map(|want| Line::new(want.weight, want.floor.min(want.max)));
    let left = fill(total, &mut shares, &floors.collect::<Vec<_>>());
    let demands = wants.iter().map(|want| Line::new(want.weight, want.needs()));
    let left = fill(left, &mut shares, &demands.collect::<Vec<_>>());
    let headroom = wants.iter().map(|want| {
        let milli = want.demand.as_milli();
        // ∛demand, times 10,000.
        let swing = cube_root(u64::from(milli.max(1_000)) * 1_000_000_000);
        let weight = u64::from(want.weight.max(1)) * swing;
        Line { weight, upto: want.max, base_milli: milli, next_milli: 500, keeps: want.share }
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
    next_milli: i64,
    /// Up to this share it goes first, by [`KEEP`].
    keeps: u32,
}

impl Line {
    fn new(weight: u32, upto: u32) -> Self {
        Self { weight: u64::from(weight.max(1)), upto, base_milli: 0, next_milli: 1_000, keeps: 0 }
    }
}

/// A member in the order in which the next connections are given: what it would have, in thousandths, by weight.
struct Next {
    have: i64,
    weight: u64,
    index: usize,
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        // have / weight < other.have / other.weight, without fractions.
        let (one, two) = (i128::from(self.have), i128::from(other.have));
        let order = (one * i128::from(other.weight)).cmp(&(two * i128::from(self.weight)));
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
        // Below zero: some of its demand is not met yet.
        let have = i64::from(share) * 1_000 + line.next_milli - i64::from(line.base_milli);
        // What keeps a connection is no demand.
        let have = if share < line.keeps { (have - KEEP).max(have.min(0)) } else { have };
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

/// Rounded down.
fn cube_root(of: u64) -> u64 {
    let mut root = 0_u64;
    for bit in (0..22).rev() {
        let next = root | 1 << bit;
        if u128::from(next).pow(3) <= u128::from(of) {
            root = next;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn want() -> impl Strategy<Value = Want> {
        (0..6_u32, 1..5_u32, 0..40_000_u32, 1..60_u32, 0..60_u32).prop_map(|(floor, weight, demand, max, share)| Want {
            floor,
            weight,
            demand: Amount::milli(demand),
            max,
            share,
        })
    }

    fn sum(shares: &[u32]) -> u32 {
        shares.iter().sum()
    }

    #[test]
    fn nobody_and_nothing() {
        assert_eq!(allocate(40, &[]), [0; 0]);
        let one = Want { floor: 3, weight: 1, demand: Amount::whole(9), max: 20, share: 0 };
        assert_eq!(allocate(0, &[one]), [0]);
        assert_eq!(allocate(40, &[one]), [20]);
    }

    #[test]
    fn weights_part_what_all_want_and_what_nobody_needs() {
        let want = |weight, demand| Want { floor: 0, weight, demand: Amount::whole(demand), max: 100, share: 0 };
        assert_eq!(allocate(40, &[want(1, 90), want(3, 90)]), [10, 30]);
        assert_eq!(allocate(40, &[want(1, 0), want(3, 0)]), [10, 30]);
        // Demand goes before weight: the small one's is met.
        assert_eq!(allocate(40, &[want(1, 10), want(30, 10)]), [11, 29]);
    }

    #[test]
    fn a_demand_that_is_measured_a_little_too_high_takes_no_connection_from_another() {
        let want = |milli| Want { floor: 1, weight: 1, demand: Amount::milli(milli), max: 40, share: 0 };
        assert_eq!(allocate(40, &[want(30_100), want(10_200)]), [30, 10]);
        assert_eq!(allocate(1, &[want(0), want(10)]), [1, 0]);
        let after = |share, milli| Want { share, ..want(milli) };
        assert_eq!(allocate(40, &[after(30, 30_100), after(10, 10_900)]), [30, 10]);
        assert_eq!(allocate(40, &[after(30, 30_100), after(10, 11_000)]), [29, 11]);
        // Back as soon as it is nearer.
        assert_eq!(allocate(40, &[after(29, 30_100), after(11, 10_400)]), [30, 10]);
        assert_eq!(allocate(40, &[after(29, 29_600), after(11, 10_400)]), [30, 10]);
        assert_eq!(Amount::milli(10).nearest(), 1);
    }

    #[test]
    fn who_has_a_connection_keeps_it_unless_another_has_more_use_of_it() {
        let want = |milli, share| Want { floor: 1, weight: 1, demand: Amount::milli(milli), max: 40, share };
        let few = |demand, share| allocate(40, &[want(demand, share), want(15_000, 40 - share)])[0];
        // From one split to the next and back again it takes more than half a connection.
        let (up, down) = (few_turns(|demand| few(demand, 20) > 20), few_turns(|demand| few(demand, 21) > 20));
        assert!(up > down + 400, "{up} {down}");
        // One that has nothing yet is given what is fair.
        assert_eq!(allocate(40, &[want(15_000, 40), want(15_000, 0)]), [20, 20]);
    }

    /// The least demand, in thousandths, at which that is so.
    fn few_turns(so: impl Fn(u32) -> bool) -> u32 {
        (10_000..30_000).find(|milli| so(*milli)).unwrap()
    }

    #[test]
    fn cube_roots_are_whole() {
        for (of, root) in [(0, 0), (1, 1), (7, 1), (8, 2), (26, 2), (27, 3), (1_000_000, 100), (u64::MAX, 2_642_245)] {
            assert_eq!(cube_root(of), root, "{of}");
        }
    }

    #[test]
    fn floors_that_are_too_many_are_shared() {
        let want = Want { floor: 5, weight: 1, demand: Amount::default(), max: 10, share: 0 };
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
            let need = |want: &Want| floor(want).max(want.needs());
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
                if *mine >= u64::from(my.needs()) {
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
