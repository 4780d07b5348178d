//! Members and questions for the tests of the table.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::sync::Arc;

use weir_balance::{Ask, Avoid, Balancer, Load, Member, Params, Row, build};
use weir_core::hash::splitmix64;
use weir_core::{EndpointId, Instant, Weight};

/// A member with a name such as a configuration would give it.
pub(crate) fn member(id: u32, weight: u16) -> Member {
    Member {
        id: EndpointId(id),
        name: format!("10.0.{}.{}:8080", id / 250, id % 250 + 1).into(),
        weight: Weight::new(weight),
        load: Arc::new(Load::new()),
    }
}

/// Members 0, 1, … of these weights, all idle.
pub(crate) fn members(weights: &[u16]) -> Vec<Member> {
    weights.iter().enumerate().map(|(id, &weight)| member(id as u32, weight)).collect()
}

/// The default parameters with the algorithm of `row`.
pub(crate) fn params(row: &Row) -> Params {
    Params { algorithm: row.algorithm, ..Params::default() }
}

pub(crate) fn balancer(row: &Row, members: &[Member]) -> Arc<dyn Balancer> {
    build(&params(row), members.to_vec(), None)
}

/// A question with `seed`, and a key made of it.
pub(crate) fn ask(seed: u64) -> Ask {
    Ask { now: Instant::ZERO, worker: 0, key: Some(splitmix64(!seed)), seed, avoid: Avoid::NONE }
}

/// A question with this key.
pub(crate) fn keyed(key: u64) -> Ask {
    Ask { key: Some(key), ..ask(0) }
}
