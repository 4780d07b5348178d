//! Least connections: the member with the fewest requests in flight for its weight.
//!
//! - **Formula**: the smallest `(load + 1) / weight`, where `load + 1` counts this request; compared
//!   by cross-multiplication. Ties go round: the scan begins after the member picked last.
//! - **Cost**: O(n), one cache line per member; about 3 ns each while they are in cache. Beyond some tens
//!   of members take `power_of_two`.
//! - **When**: requests of very unequal duration, few members, long-lived connections (TCP,
//!   `WebSocket`). An idle cluster sends each request to the heaviest members, since one request is a
//!   smaller share of them: weights show once requests overlap. A member that fails *fast* looks idle
//!   and attracts traffic: keep outlier ejection on. A member that joins gets every request until it
//!   is level.
//! - **Source**: `HAProxy` `balance leastconn`, nginx `least_conn`; loads are those of the whole process,
//!   not of one worker.

use std::any::Any;
use std::sync::Arc;

use crate::algorithm::Row;
use crate::group::{Group, is_lighter};
use crate::turn::Turn;
use crate::{Algorithm, Ask, Balancer, Member, Params};

pub(crate) const ROW: Row = Row {
    algorithm: Algorithm::LeastConnections,
    name: "least_connections",
    summary: "Fewest requests in flight for its weight.",
    weighted: true,
    keyed: false,
    consistent: false,
    build,
    shares: None,
};

#[derive(Debug)]
struct LeastConnections {
    group: Group,
    /// After whom ties are resolved.
    turn: Arc<Turn>,
}

fn build(_: &Params, members: Vec<Member>, previous: Option<&dyn Balancer>) -> Arc<dyn Balancer> {
    let group = Group::new(members);
    let turn = Turn::resume(&group, previous);
    Arc::new(LeastConnections { group, turn })
}

impl Balancer for LeastConnections {
    fn pick(&self, ask: &Ask) -> Option<usize> {
        if self.group.len() == 0 {
            return None;
        }
        let mut best: Option<(usize, (u64, u64))> = None;
        for at in self.group.round(self.turn.peek()) {
            if !self.group.is_free(at, &ask.avoid) {
                continue;
            }
            let share = (self.group.load(at), self.group.weight(at));
            if best.is_none_or(|(_, lightest)| is_lighter(share, lightest)) {
                best = Some((at, share));
            }
        }
        let (at, _) = best?;
        self.turn.pass(at);
        Some(at)
    }

    fn len(&self) -> usize {
        self.group.len()
    }

    fn rotation(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self.turn.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Avoid, Load};
    use weir_core::{EndpointId, Instant, Weight};

    fn balancer(weights: &[u16]) -> (Vec<Arc<Load>>, Arc<dyn Balancer>) {
        let loads: Vec<_> = weights.iter().map(|_| Arc::new(Load::new())).collect();
        let members = weights.iter().zip(&loads).enumerate().map(|(at, (&weight, load))| Member {
            id: EndpointId(at as u32),
            name: at.to_string().into(),
            weight: Weight::new(weight),
            load: load.clone(),
        });
        let balancer = build(&Params::default(), members.collect(), None);
        (loads, balancer)
    }

    fn pick(balancer: &dyn Balancer) -> usize {
        let ask = Ask { now: Instant::ZERO, worker: 0, key: None, seed: 0, avoid: Avoid::NONE };
        balancer.pick(&ask).unwrap()
    }

    #[test]
    fn ties_go_round_also_among_some() {
        let (loads, balancer) = balancer(&[1, 1, 1, 1]);
        loads[0].begin();
        loads[2].begin();
        let picks: Vec<_> = (0..6).map(|_| pick(&*balancer)).collect();
        assert_eq!(picks, [1, 3, 1, 3, 1, 3]);
    }

    #[test]
    fn held_requests_settle_in_proportion_to_weight() {
        let (loads, balancer) = balancer(&[4, 2, 1]);
        for _ in 0..70 {
            loads[pick(&*balancer)].begin();
        }
        let held: Vec<_> = loads.iter().map(|load| load.in_flight()).collect();
        assert_eq!(held, [40, 20, 10]);
    }
}
