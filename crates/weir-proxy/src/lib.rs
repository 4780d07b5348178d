//! The data path: from an accepted connection to the last byte of the response.
//!
//! [`worker::Worker`] is the protocol of a worker's engine loop; [`exchange`](self) holds the life of a request, one
//! module per step; [`keeper::Keeper`] owns the cluster machines and probes; [`runtime`] is what they share.
//! Everything is generic over [`weir_net::Io`], so the same code runs on real sockets and on the
//! in-memory driver, in virtual time and with faults.
//!
//! Absent on purpose: sockets and clocks (weir-net), text of the configuration (weir-config), decisions about who
//! is healthy (weir-cluster), tokio.
#![forbid(unsafe_code)]

mod ahead;
mod buffers;
pub mod census;
mod conns;
mod date;
mod exchange;
pub mod keeper;
mod log;
mod pools;
pub mod runtime;
mod slab;
mod tcp;
mod view;
pub mod worker;
