//! Maglev: consistent hashing by a lookup table.
//!
//! - **Formula**: a table of M slots, M prime. Each member has an order of preference over the slots,
//!   `(offset + j · skip) mod M`, with `offset = h1 mod M` and `skip = h2 mod (M − 1) + 1` from two XXH64
//!   hashes of its name. The members take turns, each taking its most preferred slot that is still
//!   free, until the table is full; the heaviest takes a slot in each round, one of half its weight in
//!   every second. A key belongs to slot `key · M / 2^64`.
//! - **Cost**: one array access; 4 bytes per slot; O(M log M) to build (some milliseconds at 65,537).
//! - **When**: as `ring_hash`, with more even shares (below 0.1 % off with up to 100 members) and a
//!   faster pick. A member that leaves moves, besides its own keys, a few of the others': 0.02 % with 3
//!   members, 0.3 % with 10, 0.6 % with 100. Keep M at a hundred times the members or more.
//! - **Bounds**: a table size that is no prime is raised to the next one; it is at least the number of
//!   members and at most [`MAX_TABLE_SIZE`].
//! - **Members to avoid, bounded load**: on through the table; neighbouring slots belong to unrelated
//!   members, so what a full member turns away spreads over all others.
//! - **Source**: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
//!   NSDI 2016, section 3.4. Weights by turns as the paper suggests and Envoy does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use twox_hash::XxHash64;
use weir_core::hash::{reduce, splitmix64};

use crate::algorithm::Row;
use crate::algorithm::ring_hash::name_seeds;
use crate::group::Group;
use crate::walk::{Bound, walk};
use crate::{Algorithm, Ask, Balancer, Member, Params};

pub(crate) const ROW: Row = Row {
    algorithm: Algorithm::Maglev,
    name: "maglev",
    summary: "Consistent hash by a Maglev table; even shares, one array access.",
    weighted: true,
    keyed: true,
    consistent: true,
    build,
    shares: Some(shares),
};

/// Largest table (20 MB), a prime; the same bound as Envoy's.
pub const MAX_TABLE_SIZE: u32 = 5_000_011;

#[derive(Debug)]
struct Maglev {
    group: Group,
    /// The member of each slot. Empty only if there is no member.
    table: Box<[u32]>,
    bound: Option<Bound>,
}

fn build(params: &Params, members: Vec<Member>, _: Option<&dyn Balancer>) -> Arc<dyn Balancer> {
    let group = Group::new(members);
    let table = fill(params, &group);
    Arc::new(Maglev { group, table, bound: params.bounded_load.map(Bound::new) })
}

fn shares(params: &Params, members: &[Member]) -> Vec<f64> {
    let group = Group::new(members.to_vec());
    let table = fill(params, &group);
    let mut slots = vec![0_u32; group.len()];
    for &owner in &table {
        slots[owner as usize] += 1;
    }
    slots.into_iter().map(|owned| f64::from(owned) / table.len() as f64).collect()
}

impl Balancer for Maglev {
    fn pick(&self, ask: &Ask) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let key = ask.key.unwrap_or(ask.seed);
        let home = reduce(splitmix64(key), self.table.len() as u64) as usize;
        if self.bound.is_none() && ask.avoid.is_empty() {
            return Some(self.table[home] as usize);
        }
        let (before, after) = self.table.split_at(home);
        let candidates = after.iter().chain(before).map(|&owner| owner as usize);
        walk(&self.group, self.bound, ask, key, candidates)
    }

    fn len(&self) -> usize {
        self.group.len()
    }
}

/// One member's walk over the slots in its order of preference.
struct Preference {
    slot: u32,
    skip: u32,
}

fn fill(params: &Params, group: &Group) -> Box<[u32]> {
    const FREE: u32 = u32::MAX;
    if group.len() == 0 {
        return Box::default();
    }
    let size = table_size(params.table_size, group.len());
    // In order of the names, so that the table is the same in whatever order the members are listed.
    let members = name_seeds(group);
    let mut preferences: Vec<_> = members.iter().map(|&(seed, _)| Preference::new(seed, size)).collect();
    let heaviest = (0..group.len()).map(|at| group.weight(at)).max().unwrap_or(1);
    // Turn k of a member of weight w is due in round ⌈k · heaviest / w⌉, k from 1.
    let due = |turn: u64, at: usize| (turn * heaviest).div_ceil(group.weight(at));
    let mut turns: BinaryHeap<_> =
        members.iter().enumerate().map(|(rank, &(_, at))| Reverse((due(1, at), rank, 1_u64))).collect();
    let mut table = vec![FREE; size as usize];
    for _ in 0..size {
        let Some(mut next) = turns.peek_mut() else {
            break;
        };
        let Reverse((_, rank, turn)) = *next;
        let at = members[rank].1;
        *next = Reverse((due(turn + 1, at), rank, turn + 1));
        // There is a free slot, since one is taken per turn, and the walk reaches every slot, since
        // the size is prime.
        let preference = &mut preferences[rank];
        while table[preference.slot as usize] != FREE {
            preference.advance(size);
        }
        table[preference.slot as usize] = at as u32;
    }
    table.into()
}

impl Preference {
    fn new(seed: u64, size: u32) -> Self {
        let name = seed.to_le_bytes();
        let offset = XxHash64::oneshot(1, &name) % u64::from(size);
        let skip = XxHash64::oneshot(2, &name) % u64::from(size - 1).max(1) + 1;
        Self { slot: offset as u32, skip: skip as u32 }
    }

    fn advance(&mut self, size: u32) {
        // Both are at most 5,000,011, so the sum fits.
        self.slot = (self.slot + self.skip) % size;
    }
}

/// The smallest prime that is at least `wanted` and the number of members, within the bound.
fn table_size(wanted: u32, members: usize) -> u32 {
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    (wanted.max(members).max(2)..MAX_TABLE_SIZE).find(|&size| is_prime(size)).unwrap_or(MAX_TABLE_SIZE)
}

/// By trial division; numbers up to [`MAX_TABLE_SIZE`].
fn is_prime(n: u32) -> bool {
    n >= 2 && (2..=n.isqrt()).all(|divisor| !n.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_sizes_become_primes_within_the_bound() {
        assert_eq!(table_size(65_537, 3), 65_537);
        assert_eq!(table_size(65_536, 3), 65_537);
        assert_eq!(table_size(0, 0), 2);
        assert_eq!(table_size(5, 100), 101);
        assert_eq!(table_size(u32::MAX, 3), MAX_TABLE_SIZE);
        assert!(is_prime(MAX_TABLE_SIZE));
    }
}
