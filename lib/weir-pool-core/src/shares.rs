//! One number of connections divided among several pools, by weight, and never exceeded while it is divided anew.
//!
//! [`divide`] says what each ought to have; [`Shares`] gets there. Each pool has a *limit*, which it keeps by itself: it opens
//! nothing at or above it. Connections in use cannot be taken away, so a pool whose limit has fallen may hold more for a while.
//! What a pool may hold at worst is its *charge*:
//!
//! ```text
//! charge = max(limit, held)      held: as last reported for this limit; as long as it is not, the charge from before
//! ```
//!
//! A limit falls at once. It rises only as far as the charges of all leave room below the total: what one pool gives up is
//! another's when it is really closed, not when it was asked for. A report that was made before the pool has heard of its
//! latest limit proves nothing and is not counted; each limit has a number (`order`) for that.
//!
//! Nothing is said about how limits and reports travel: they may be late, and reports may be lost or come twice.

use std::cmp::Reverse;
use std::collections::VecDeque;

use weir_core::EndpointId;

/// What one pool asks of the total.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Its share relative to the others; 0 = nothing.
    pub weight: u16,
    /// Most that it can use; 0 = nothing.
    pub max: u32,
}

impl Claim {
    /// Nothing.
    pub const NONE: Self = Self { weight: 0, max: 0 };

    const fn is_none(self) -> bool {
        self.weight == 0 || self.max == 0
    }
}

/// Divides `total` by the weights, in whole numbers: largest remainders, at least 1 and at most `max` for each that claims
/// anything. What one cannot use goes to the others by their weights; ties go to the earlier one. If there are more claims than
/// places, the heaviest get one each.
///
/// The sum is `total`, or that of all `max` if it is less.
///
/// ```
/// use weir_pool_core::{Claim, divide};
///
/// let claim = |weight| Claim { weight, max: 100 };
/// assert_eq!(divide(20, &[claim(2), claim(1), claim(1)]), [10, 5, 5]);
/// assert_eq!(divide(10, &[claim(1), claim(1), claim(1)]), [4, 3, 3]);
/// assert_eq!(divide(10, &[claim(1000), claim(1)]), [9, 1]);
/// assert_eq!(divide(10, &[claim(1), Claim { weight: 9, max: 4 }]), [6, 4]);
/// assert_eq!(divide(2, &[claim(1), claim(3), claim(2)]), [0, 1, 1]);
/// ```
pub fn divide(total: u32, claims: &[Claim]) -> Vec<u32> {
    let mut shares = vec![0; claims.len()];
    let mut open: Vec<usize> = (0..claims.len()).filter(|&at| !claims[at].is_none()).collect();
    if open.len() as u64 >= u64::from(total) {
        open.sort_by_key(|&at| Reverse(claims[at].weight));
        open.iter().take(total as usize).for_each(|&at| shares[at] = 1);
        return shares;
    }
    let mut left = u64::from(total);
    // Those whose part by weight is out of their bounds get the bound, and the rest is divided again: first those on the side on
    // which more is missing, since fixing them can bring the others back within theirs. Each pass but the last fixes one at least.
    loop {
        let weights: u64 = open.iter().map(|&at| u64::from(claims[at].weight)).sum();
        let bound = |at: usize| -> Option<(u32, bool)> {
            let Claim { weight, max } = claims[at];
            let part = left * u64::from(weight);
            if part < weights {
                Some((1, true))
            } else if part > u64::from(max) * weights {
                Some((max, false))
            } else {
                None
            }
        };
        // In parts of 1 / weights: what the floors add, less what the maxima take.
        let beyond: i128 = open
            .iter()
            .filter_map(|&at| {
                let part = i128::from(left) * i128::from(claims[at].weight);
                bound(at).map(|(to, _)| i128::from(to) * i128::from(weights) - part)
            })
            .sum();
        let fixed: Vec<(usize, u32)> = open
            .iter()
            .filter_map(|&at| bound(at).map(|(to, is_floor)| (at, to, is_floor)))
            .filter(|&(_, _, is_floor)| beyond == 0 || is_floor == (beyond > 0))
            .map(|(at, to, _)| (at, to))
            .collect();
        if fixed.is_empty() {
            divide_rest(left, weights, &open, claims, &mut shares);
            return shares;
        }
        for (at, to) in fixed {
            shares[at] = to;
            left = left.saturating_sub(u64::from(to));
            open.retain(|&other| other != at);
        }
    }
}

/// Largest remainders among those that are within their bounds.
fn divide_rest(total: u64, weights: u64, open: &[usize], claims: &[Claim], shares: &mut [u32]) {
    if weights == 0 {
        return;
    }
    let mut left = total;
    let mut remainders = Vec::with_capacity(open.len());
    for &at in open {
        let part = total * u64::from(claims[at].weight);
        shares[at] = (part / weights) as u32;
        left -= part / weights;
        remainders.push((Reverse(part % weights), at));
    }
    remainders.sort_unstable();
    for (_, at) in remainders.into_iter().take(left as usize) {
        shares[at] += 1;
    }
}

/// A limit for a pool to keep from now on; [`Shares::report`] answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// Which pool.
    pub id: EndpointId,
    /// Most connections.
    pub limit: u32,
    /// The number of this order, higher than that of earlier ones.
    pub order: u64,
}

/// Where one pool stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Share {
    /// What it ought to have.
    pub target: u32,
    /// What it may open.
    pub limit: u32,
    /// What it holds, as far as is known.
    pub held: u32,
}

#[derive(Debug)]
struct Party {
    id: EndpointId,
    share: Share,
    order: u64,
    /// It may have exceeded `share.held` before it heard of its limit: holds until it reports.
    unproven: u32,
}

impl Party {
    fn charge(&self) -> u64 {
        u64::from(self.share.limit.max(self.share.held).max(self.unproven))
    }
}

/// The machine. See the module.
#[derive(Debug)]
pub struct Shares {
    total: u32,
    parties: Vec<Party>,
    orders: VecDeque<Order>,
    last_order: u64,
}

impl Shares {
    /// `total` for nobody yet.
    pub const fn new(total: u32) -> Self {
        Self { total, parties: Vec::new(), orders: VecDeque::new(), last_order: 0 }
    }

    /// The number that is divided.
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// Divides anew. Pools that are not in `claims` get nothing; they stay known as long as they may hold something. One that is
    /// known already keeps its place.
    pub fn set(&mut self, total: u32, claims: &[(EndpointId, Claim)]) {
        let before = self.charged();
        self.total = total;
        for &(id, _) in claims {
            if self.party(id).is_none() {
                self.parties.push(Party { id, share: Share::default(), order: 0, unproven: 0 });
            }
        }
        let claim_of = |id| claims.iter().find(|(of, _)| *of == id).map_or(Claim::NONE, |(_, claim)| *claim);
        let in_order: Vec<Claim> = self.parties.iter().map(|party| claim_of(party.id)).collect();
        for (party, target) in self.parties.iter_mut().zip(divide(total, &in_order)) {
            party.share.target = target;
        }
        self.shrink();
        self.grow();
        self.forget();
        self.check_invariants(before);
    }

    /// A pool holds so many connections (open, being opened or being closed), counted when it kept the limit of `order`.
    pub fn report(&mut self, id: EndpointId, order: u64, held: u32) {
        let before = self.charged();
        let Some(party) = self.parties.iter_mut().find(|party| party.id == id && party.order == order) else { return };
        if u64::from(held) > party.charge() {
            // It came late: since then the pool has said that it holds less, and that counts.
            return;
        }
        party.share.held = held;
        party.unproven = 0;
        self.grow();
        self.forget();
        self.check_invariants(before);
    }

    /// A pool is gone with all its connections.
    pub fn gone(&mut self, id: EndpointId) {
        let before = self.charged();
        self.parties.retain(|party| party.id != id);
        self.orders.retain(|order| order.id != id);
        self.grow();
        self.check_invariants(before);
    }

    /// The next order to carry out. Only the last of several for one pool matters.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Where a pool stands.
    pub fn share(&self, id: EndpointId) -> Share {
        self.party(id).map(|party| party.share).unwrap_or_default()
    }

    /// The number of a pool's latest order.
    pub fn order(&self, id: EndpointId) -> u64 {
        self.party(id).map_or(0, |party| party.order)
    }

    /// Whether a pool is known to hold nothing and to have no right to.
    pub fn is_empty(&self, id: EndpointId) -> bool {
        self.party(id).is_none_or(|party| party.charge() == 0)
    }

    /// What all pools together may hold at worst: not above the total, unless that was lowered.
    pub fn charged(&self) -> u64 {
        self.parties.iter().map(Party::charge).sum()
    }

    fn party(&self, id: EndpointId) -> Option<&Party> {
        self.parties.iter().find(|party| party.id == id)
    }

    /// Limits above their targets fall at once.
    fn shrink(&mut self) {
        for at in 0..self.parties.len() {
            let Share { target, limit, .. } = self.parties[at].share;
            if limit > target {
                self.order_limit(at, target);
            }
        }
    }

    /// Limits below their targets rise as far as there is room: to their targets, or one by one where most is missing.
    fn grow(&mut self) {
        let mut free = u64::from(self.total).saturating_sub(self.charged());
        let mut limits: Vec<u32> = self.parties.iter().map(|party| party.share.limit).collect();
        let missing: u64 =
            self.parties.iter().map(|party| u64::from(party.share.target).saturating_sub(party.charge())).sum();
        if missing <= free {
            // Enough for all.
            for (limit, party) in limits.iter_mut().zip(&self.parties) {
                *limit = (*limit).max(party.share.target);
            }
            free = 0;
        }
        while free > 0 {
            let next = (0..limits.len())
                .filter(|&at| limits[at] < self.parties[at].share.target)
                // The smallest part of its target; by cross-multiplication.
                .reduce(|a, b| {
                    let part = |at: usize, of: usize| u64::from(limits[at]) * u64::from(self.parties[of].share.target);
                    if part(b, a) < part(a, b) { b } else { a }
                });
            let Some(at) = next else { break };
            limits[at] += 1;
            // Below what it holds already, or may hold, a limit costs nothing.
            let party = &self.parties[at];
            free -= u64::from(limits[at] > party.share.held.max(party.unproven));
        }
        for (at, limit) in limits.into_iter().enumerate() {
            if limit > self.parties[at].share.limit {
                self.order_limit(at, limit);
            }
        }
    }

    fn order_limit(&mut self, at: usize, limit: u32) {
        self.last_order += 1;
        let party = &mut self.parties[at];
        // What it holds at worst is what the limit before allowed, until it reports for this one.
        party.unproven = party.unproven.max(party.share.limit);
        party.share.limit = limit;
        party.order = self.last_order;
        let order = Order { id: party.id, limit, order: self.last_order };
        self.orders.retain(|earlier| earlier.id != order.id);
        self.orders.push_back(order);
    }

    fn forget(&mut self) {
        self.parties.retain(|party| party.share.target > 0 || party.charge() > 0);
    }

    fn check_invariants(&self, before: u64) {
        if !cfg!(debug_assertions) {
            return;
        }
        let charged = self.charged();
        assert!(charged <= u64::from(self.total).max(before), "{charged} of {} charged, {before} before", self.total);
        let targets: u64 = self.parties.iter().map(|party| u64::from(party.share.target)).sum();
        assert!(targets <= u64::from(self.total), "targets {targets} of {}", self.total);
    }
}

#[cfg(test)]
mod tests;
