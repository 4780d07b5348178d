//! Power of two choices: the less loaded of two distinct members drawn at random.
//!
//! - **Formula**: draw two different members in proportion to their weights, take the one with the
//!   smaller `(load + 1) / weight`; a tie goes to the one drawn first.
//! - **Cost**: O(log n) for the second draw, two cache lines of load; no shared state is written.
//! - **When**: the best general choice beyond a few members, and wherever several proxies share the
//!   members: it does not herd onto the one that looks best. As with every load-based choice a member
//!   that fails *fast* looks idle (with 3 members it can draw two thirds of the traffic): keep outlier
//!   ejection on.
//! - **Source**: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 1996: the
//!   fullest member grows as `log log n` rather than `log n / log log n`.

use std::sync::Arc;

use weir_core::hash::splitmix64;

use crate::algorithm::Row;
use crate::draw::{Draw, draw_free};
use crate::group::{Group, is_lighter};
use crate::{Algorithm, Ask, Balancer, Member, Params};

pub(crate) const ROW: Row = Row {
    algorithm: Algorithm::PowerOfTwo,
    name: "power_of_two",
    summary: "The less loaded of two drawn at random, by weight.",
    weighted: true,
    keyed: false,
    consistent: false,
    build,
    shares: None,
};

#[derive(Debug)]
struct PowerOfTwo {
    group: Group,
    draw: Draw,
}

fn build(_: &Params, members: Vec<Member>, _: Option<&dyn Balancer>) -> Arc<dyn Balancer> {
    let group = Group::new(members);
    let draw = Draw::new(&group);
    Arc::new(PowerOfTwo { group, draw })
}

impl Balancer for PowerOfTwo {
    fn pick(&self, ask: &Ask) -> Option<usize> {
        let random = splitmix64(ask.seed);
        let again = splitmix64(random);
        let (first, second) = if ask.avoid.is_empty() {
            match self.group.len() {
                0 => return None,
                1 => return Some(0),
                _ => {
                    let first = self.draw.one(random);
                    (first, self.draw.other_than(first, again))
                }
            }
        } else {
            let first = draw_free(&self.group, &ask.avoid, None, random)?;
            match draw_free(&self.group, &ask.avoid, Some(first), again) {
                Some(second) => (first, second),
                None => return Some(first),
            }
        };
        let share = |at| (self.group.load(at), self.group.weight(at));
        Some(if is_lighter(share(second), share(first)) { second } else { first })
    }

    fn len(&self) -> usize {
        self.group.len()
    }
}
