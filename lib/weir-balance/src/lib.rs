//! Load balancing: which endpoint gets the next request.
//!
//! One table, `ALGORITHMS`, one file per row under `algorithm/`. A balancer is built over the
//! endpoints that may be used right now (health, priorities and panic are decided above, in
//! `weir-cluster`) and is immutable but for its rotation state and the [`Load`] of its members, so all
//! workers share one.
#![forbid(unsafe_code)]

mod contract;
mod params;

pub use contract::{Ask, Avoid, Balancer, Load, Member};
pub use params::{Algorithm, HashKey, Params};
