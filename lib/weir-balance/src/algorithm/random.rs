//! Random: drawn in proportion to the weights.
//!
//! - **Formula**: member i with probability `w_i / Σw`, each pick independent of all others.
//! - **Cost**: O(1), no shared state at all (alias table); a retry is O(n) at worst.
//! - **When**: very many proxies in front of the same members, where rotations would march in step;
//!   otherwise `power_of_two` costs little more and is much smoother: the fullest of n members holds
//!   about `ln n / ln ln n` times the mean under random, `ln ln n` under two choices.
//! - **Source**: alias method, M. Vose 1991; `HAProxy` `balance random`.

use std::sync::Arc;

use weir_core::hash::splitmix64;

use crate::algorithm::Row;
use crate::draw::{Draw, draw_free};
use crate::group::Group;
use crate::{Algorithm, Ask, Balancer, Member, Params};

pub(crate) const ROW: Row = Row {
    algorithm: Algorithm::Random,
    name: "random",
    summary: "Uniformly at random, by weight.",
    weighted: true,
    keyed: false,
    consistent: false,
    build,
    shares: None,
};

#[derive(Debug)]
struct Random {
    group: Group,
    draw: Draw,
}

fn build(_: &Params, members: Vec<Member>, _: Option<&dyn Balancer>) -> Arc<dyn Balancer> {
    let group = Group::new(members);
    let draw = Draw::new(&group);
    Arc::new(Random { group, draw })
}

impl Balancer for Random {
    fn pick(&self, ask: &Ask) -> Option<usize> {
        if self.group.len() == 0 {
            return None;
        }
        // Mixed once more, so that a caller whose seeds are a counter does no harm.
        let random = splitmix64(ask.seed);
        if ask.avoid.is_empty() {
            return Some(self.draw.one(random));
        }
        draw_free(&self.group, &ask.avoid, None, random)
    }

    fn len(&self) -> usize {
        self.group.len()
    }
}
