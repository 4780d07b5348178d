//! Load balancing: which endpoint gets the next request.
//!
//! One table, [`ALGORITHMS`], one file per row under `algorithm/`. A balancer is built over the
//! endpoints that may be used right now (health, priorities and panic are decided above, in
//! `weir-cluster`) and is immutable but for its rotation state and the [`Load`] of its members, so all
//! workers share one.
//!
//! [`build`] makes a balancer, [`Balancer::pick`] asks it. `pick` takes `&self`, does not allocate and
//! takes no lock that another worker normally holds. Whoever picks calls [`Load::begin`] on the chosen
//! member afterwards and [`Load::end`] when the request is over: the balancer only reads loads.
//!
//! Absent by intent: clocks, randomness (`Ask::seed` is an argument), sockets, health.
#![forbid(unsafe_code)]

mod algorithm;
mod contract;
mod draw;
mod group;
mod key;
mod params;
mod turn;
mod walk;

pub use algorithm::{ALGORITHMS, Build, Row, Shares, build, key_shares};
pub use algorithm::{maglev::MAX_TABLE_SIZE, ring_hash::MAX_RING_POINTS};
pub use contract::{Ask, Avoid, Balancer, Load, Member};
pub use key::{hash_ip, hash_key};
pub use params::{Algorithm, HashKey, Params};

/// The examples of the README, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
