//! Parting the connections among pools that are all in sight: those of one process.

use super::{Want, allocate};

/// A pool among which connections are parted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parted {
    /// What it would like to have, and what it may have open as of the last parting (`share`).
    pub want: Want,
    /// What it has open, being opened and being closed included.
    pub open: u32,
}

/// Parts `total` connections: first takes what is to be taken, then gives what is free after that. `limit` sets the share of
/// the pool with this index and returns what it has open then; it is called for those whose share changes. Returns whether
/// everybody has what it ought to: if not, connections have yet to come back, and it is to be called again soon.
///
/// The sum of what pools have open never rises above `total`, as long as none has more open than the larger of its share and of what
/// `limit` has returned.
pub fn part(total: u32, pools: &mut [Parted], mut limit: impl FnMut(usize, u32) -> u32) -> bool {
    let wants: Vec<Want> = pools.iter().map(|pool| pool.want).collect();
    let targets = allocate(total, &wants);
    let mut held = 0_u32;
    for (index, (Parted { want, open }, target)) in pools.iter_mut().zip(&targets).enumerate() {
        if *target < want.share {
            want.share = *target;
            *open = limit(index, *target);
        }
        held = held.saturating_add(want.share.max(*open));
    }
    let mut free = total.saturating_sub(held);
    let mut settled = true;
    for (index, (Parted { want, open }, target)) in pools.iter_mut().zip(&targets).enumerate() {
        let mine = want.share.max(*open);
        let share = (*target).min(mine.saturating_add(free));
        if share > want.share {
            free -= share.saturating_sub(mine);
            want.share = share;
            limit(index, share);
        }
        settled &= want.share == *target;
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Amount;

    fn pool(demand: u32, share: u32, open: u32) -> Parted {
        Parted { want: Want { floor: 1, weight: 1, demand: Amount::whole(demand), max: 40, share }, open }
    }

    #[test]
    fn what_is_taken_is_given_when_it_has_come_back() {
        let mut pools = [pool(30, 10, 10), pool(10, 30, 30)];
        // Of what is taken from the second, 4 are idle; the others are in use.
        let settled = part(40, &mut pools, |_, share| if share == 10 { 26 } else { share });
        assert_eq!((settled, pools[0].want.share, pools[1].want.share), (false, 14, 10));
        pools[1].open = 11;
        let mut told = Vec::new();
        let settled = part(40, &mut pools, |index, share| {
            told.push((index, share));
            share
        });
        assert_eq!((settled, told), (false, vec![(0, 29)]));
        pools[1].open = 10;
        assert!(part(40, &mut pools, |_, share| share));
        assert!(part(40, &mut pools, |_, _| unreachable!("nothing has changed")));
    }
}
