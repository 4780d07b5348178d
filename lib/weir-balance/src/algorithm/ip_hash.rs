//! IP hash: the client's address decides.
//!
//! - **Formula**: the key is the hash of the whole client address (4 octets of IPv4, 16 of IPv6; nginx's
//!   `ip_hash` takes only the first three of IPv4, so that an office is one client). The members lie
//!   side by side on a line, each as long as its weight; the key is a point on it.
//! - **Cost**: O(log n), nothing shared is written.
//! - **When**: simple stickiness where the set of members rarely changes: the same client reaches the
//!   same member. When a member joins or leaves, **most** clients move, as under any `hash mod n`; take
//!   `ring_hash` or `maglev` with the key `client_ip` if that hurts.
//! - **Members to avoid, bounded load**: the next ones in the list.
//! - **Source**: nginx `ip_hash`, `HAProxy` `balance source`.

use std::sync::Arc;

use weir_core::hash::splitmix64;

use crate::algorithm::Row;
use crate::draw::Draw;
use crate::group::Group;
use crate::walk::{Bound, walk};
use crate::{Algorithm, Ask, Balancer, Member, Params};

pub(crate) const ROW: Row = Row {
    algorithm: Algorithm::IpHash,
    name: "ip_hash",
    summary: "The client's IP address decides; most clients move when the members change.",
    weighted: true,
    keyed: true,
    consistent: false,
    build,
    shares: Some(shares),
};

#[derive(Debug)]
struct IpHash {
    group: Group,
    draw: Draw,
    bound: Option<Bound>,
}

fn build(params: &Params, members: Vec<Member>, _: Option<&dyn Balancer>) -> Arc<dyn Balancer> {
    let group = Group::new(members);
    let draw = Draw::new(&group);
    Arc::new(IpHash { group, draw, bound: params.bounded_load.map(Bound::new) })
}

fn shares(_: &Params, members: &[Member]) -> Vec<f64> {
    let group = Group::new(members.to_vec());
    (0..group.len()).map(|at| group.weight(at) as f64 / group.total_weight() as f64).collect()
}

impl Balancer for IpHash {
    fn pick(&self, ask: &Ask) -> Option<usize> {
        if self.group.len() == 0 {
            return None;
        }
        let key = ask.key.unwrap_or(ask.seed);
        let home = self.draw.interval(splitmix64(key));
        walk(&self.group, self.bound, ask, key, self.group.round(home))
    }

    fn len(&self) -> usize {
        self.group.len()
    }
}
