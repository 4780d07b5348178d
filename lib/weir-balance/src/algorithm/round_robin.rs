//! Round robin: each member in turn, weights ignored.
//!
//! - **Formula**: member `t mod n` for the t-th pick, counted over all workers.
//! - **Cost**: O(1), one atomic addition that all workers share and one division (14 ns alone, some
//!   tens under contention by many cores).
//! - **When**: equal servers, requests of similar cost. With servers of unequal speed it lets the slow
//!   one set the tail; then prefer `power_of_two` or `least_connections`.
//! - **Members to avoid**: retries go round by themselves, so that those of one failing member neither all
//!   fall on its neighbour nor take the turns of other requests.
//! - **Source**: folklore; e.g. nginx `upstream`, `HAProxy` `balance roundrobin`.

use std::any::Any;
use std::sync::Arc;

use crate::algorithm::Row;
use crate::group::Group;
use crate::turn::Turn;
use crate::{Algorithm, Ask, Balancer, Member, Params};

pub(crate) const ROW: Row = Row {
    algorithm: Algorithm::RoundRobin,
    name: "round_robin",
    summary: "Each in turn; weights are ignored.",
    weighted: false,
    keyed: false,
    consistent: false,
    build,
    shares: None,
};

#[derive(Debug)]
struct RoundRobin {
    group: Group,
    turn: Arc<Turn>,
}

fn build(_: &Params, members: Vec<Member>, previous: Option<&dyn Balancer>) -> Arc<dyn Balancer> {
    let group = Group::new(members);
    let turn = Turn::resume(&group, previous);
    Arc::new(RoundRobin { group, turn })
}

impl Balancer for RoundRobin {
    fn pick(&self, ask: &Ask) -> Option<usize> {
        if self.group.len() == 0 {
            return None;
        }
        if !ask.avoid.is_retry() {
            return Some(self.turn.take());
        }
        (0..self.group.len())
            .map(|_| self.turn.take_retry())
            .find(|&at| self.group.is_free(at, &ask.avoid))
            // Other workers may have taken the turns of the free ones.
            .or_else(|| self.group.first_free(self.turn.peek(), &ask.avoid))
    }

    fn len(&self) -> usize {
        self.group.len()
    }

    fn rotation(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self.turn.clone())
    }
}
