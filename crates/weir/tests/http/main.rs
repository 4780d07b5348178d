//! The HTTP/1.1 data path through the built binary: real sockets, clients and endpoints that send exactly
//! what a test says.
//!
//! One program for all of it, so that the fixtures are linked once. Tests named `rfcNNNN_S_…` prove a
//! requirement of that section; `docs/internals/rfc-conformance.md` has the whole list.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it is surprised")]

mod bodies;
mod conformance;
mod errors;
mod fields;
mod flow;
mod interim;
mod lingering;
mod logs;
mod persistence;
mod pipelining;
mod routing;
mod setup;
mod smuggling;
mod sockets;
mod tunnels;
mod upgrade;
mod vtc;
