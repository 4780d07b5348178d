//! The composition that decides: endpoints ∩ health ∩ ejections → balancer.
//!
//! [`Cluster`] is the machine: its one owner (the keeper) feeds it endpoint lists, probe results and evidence
//! from the data path; it says which probes to send and gives out immutable [`ClusterSnapshot`]s.
//! [`EndpointState`] is the live record of an endpoint: the only thing here that workers write to, by
//! atomics.
//!
//! Absent on purpose: sockets, clocks, connections (those are in `weir-proxy`), text and metrics.
#![forbid(unsafe_code)]

mod endpoint;
mod machine;
mod snapshot;

pub use endpoint::{Connections, EndpointState, Waiter};
pub use machine::{Cluster, Output, Settings};
pub use snapshot::ClusterSnapshot;
