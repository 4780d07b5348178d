//! Ring hash: consistent hashing with virtual nodes.
//!
//! - **Formula**: each member has points on a ring of 2^32, a number in proportion to its weight; a key
//!   belongs to the first point at or after it. Point j of a member is made of the XXH64 of its *name*
//!   and j alone, so that a member keeps its points whoever else is there, and whatever its address.
//! - **Cost**: a binary search among the few points of one section of the ring; 12 bytes per point.
//! - **When**: caches and sessions on the members, and as few keys as possible shall move when the
//!   members change: a member that joins takes keys from all and moves no other key, one that leaves
//!   gives only its own keys away. `maglev` is faster and more even, and moves a few more keys.
//! - **Points**: by default [`DEFAULT_POINTS`] per unit of weight, so that the hottest of three equal
//!   members has about 1.03 times its share (16 points: 1.22, 160: 1.07). While that makes more than
//!   [`DEFAULT_RING_POINTS`] in all, the number per weight is halved; a halving moves up to half of the
//!   keys, once. `virtual_nodes` fixes the number; it too is halved beyond [`MAX_RING_POINTS`].
//! - **`ketama`**: the points of nginx's `hash … consistent`, bit for bit, in `ketama.rs`.
//! - **Members to avoid, bounded load**: on along the ring.
//! - **Source**: Karger et al., "Consistent Hashing and Random Trees", 1997; the imbalance per number of
//!   points is measured by `cargo run --example imbalance`.

mod ketama;

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_core::hash::splitmix64;

use crate::algorithm::Row;
use crate::group::Group;
use crate::walk::{Bound, walk};
use crate::{Algorithm, Ask, Balancer, Member, Params, hash_key};

pub(crate) const ROW: Row = Row {
    algorithm: Algorithm::RingHash,
    name: "ring_hash",
    summary: "Consistent hash on a ring with virtual nodes; the fewest keys move.",
    weighted: true,
    keyed: true,
    consistent: true,
    build,
    shares: Some(shares),
};

/// Points per unit of weight unless `virtual_nodes` says otherwise.
const DEFAULT_POINTS: u64 = 1_024;

/// Points on the ring (3 MiB) up to which the default number per weight is kept.
const DEFAULT_RING_POINTS: u64 = 1 << 18;

/// Points on a ring (48 MiB), whatever `virtual_nodes` asks for. Every member has one, so a ring of
/// more members than this is larger.
pub const MAX_RING_POINTS: u64 = 1 << 22;

#[derive(Debug)]
struct RingHash {
    group: Group,
    ring: Ring,
    ketama: bool,
    bound: Option<Bound>,
}

/// The points in rising order without duplicates, and whose they are.
#[derive(Debug)]
struct Ring {
    points: Box<[u32]>,
    owners: Box<[u32]>,
    /// Where the points of each section begin, and one more for the end. The sections are equal parts
    /// of the ring, about as many as there are points, so the search for a point is among one or two.
    sections: Box<[u32]>,
    /// A point's section is `point >> shift`.
    shift: u32,
}

fn build(params: &Params, members: Vec<Member>, _: Option<&dyn Balancer>) -> Arc<dyn Balancer> {
    let group = Group::new(members);
    let ring = Ring::new(params, &group);
    Arc::new(RingHash { group, ring, ketama: params.ketama, bound: params.bounded_load.map(Bound::new) })
}

fn shares(params: &Params, members: &[Member]) -> Vec<f64> {
    let group = Group::new(members.to_vec());
    Ring::new(params, &group).shares(group.len())
}

// === impl RingHash ===

impl Balancer for RingHash {
    fn pick(&self, ask: &Ask) -> Option<usize> {
        if self.group.len() == 0 {
            return None;
        }
        let key = ask.key.unwrap_or(ask.seed);
        // nginx looks up the crc32 itself; ours is mixed, whatever the caller hashes with.
        let point = if self.ketama { key as u32 } else { (splitmix64(key) >> 32) as u32 };
        walk(&self.group, self.bound, ask, key, self.ring.from(point))
    }

    fn len(&self) -> usize {
        self.group.len()
    }
}

// === impl Ring ===

impl Ring {
    fn new(params: &Params, group: &Group) -> Self {
        if params.ketama { Self::from_points(ketama::points(group)) } else { Self::from_points(points(params, group)) }
    }

    /// Points with their owners in the order of preference: of equal points the first one stays.
    fn from_points(mut points: Vec<(u32, u32)>) -> Self {
        points.sort_by_key(|&(point, _)| point);
        points.dedup_by_key(|&mut (point, _)| point);
        let (points, owners): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        let shift = u32::BITS - points.len().max(2).ilog2();
        let sections = (0..=1_u64 << (u32::BITS - shift))
            .map(|section| points.partition_point(|&point| u64::from(point) < section << shift) as u32)
            .collect();
        Self { points: points.into(), owners: owners.into(), sections, shift }
    }

    /// The owners along the ring from `point` on, once round.
    fn from(&self, point: u32) -> impl Iterator<Item = usize> {
        let section = (point >> self.shift) as usize;
        let (start, end) = (self.sections[section] as usize, self.sections[section + 1] as usize);
        let first = start + self.points[start..end].partition_point(|&at| at < point);
        let (before, after) = self.owners.split_at(first);
        after.iter().chain(before).map(|&owner| owner as usize)
    }

    fn shares(&self, members: usize) -> Vec<f64> {
        let mut owned = vec![0_u64; members];
        let mut previous = self.points.last().map_or(0, |&last| i64::from(last) - (1 << 32));
        for (&point, &owner) in self.points.iter().zip(&self.owners) {
            owned[owner as usize] += (i64::from(point) - previous) as u64;
            previous = i64::from(point);
        }
        owned.into_iter().map(|arc| arc as f64 / (1_u64 << 32) as f64).collect()
    }
}

/// Weir's own points. In order of the names, so that the ring is the same in whatever order the
/// members are listed.
fn points(params: &Params, group: &Group) -> Vec<(u32, u32)> {
    let halvings = halvings(params, group.total_weight());
    let per_weight = params.virtual_nodes.map_or(DEFAULT_POINTS, |nodes| u64::from(nodes.max(1)));
    let count = |at: usize| ((group.weight(at) * per_weight) >> halvings).max(1);
    let seeds = name_seeds(group);
    let total: u64 = seeds.iter().map(|&(_, at)| count(at)).sum();
    let mut points = Vec::with_capacity(total as usize);
    for (seed, at) in seeds {
        points.extend((0..count(at)).map(|j| ((splitmix64(seed ^ splitmix64(j)) >> 32) as u32, at as u32)));
    }
    points
}

/// How often the number of points is halved to keep the ring within its bound. Depends on the sum of
/// the weights only.
fn halvings(params: &Params, total_weight: u64) -> u32 {
    let (per_weight, bound) = match params.virtual_nodes {
        Some(nodes) => (u64::from(nodes.max(1)), MAX_RING_POINTS),
        None => (DEFAULT_POINTS, DEFAULT_RING_POINTS),
    };
    // Below 2^32 points per weight and 2^48 of weight; more saturates, which halves as well.
    let total = total_weight.saturating_mul(per_weight);
    (0..u64::BITS).find(|&halvings| total >> halvings <= bound).unwrap_or(u64::BITS - 1)
}

/// The members in the order of their names, each with the hash of its name. Members of one name (which
/// a configuration does not give) are told apart by their order.
pub(crate) fn name_seeds(group: &Group) -> Vec<(u64, usize)> {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, member) in group.members().iter().enumerate() {
        by_name.entry(&member.name).or_default().push(at);
    }
    let seed = |name: &str, nth: usize| match nth {
        0 => hash_key(name.as_bytes()),
        nth => splitmix64(hash_key(name.as_bytes()) ^ splitmix64(nth as u64)),
    };
    by_name
        .into_iter()
        .flat_map(|(name, places)| places.into_iter().enumerate().map(move |(nth, at)| (seed(name, nth), at)))
        .collect()
}
