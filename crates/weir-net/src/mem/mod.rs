//! The in-memory driver: virtual time, seeded faults.
//!
//! A [`World`] holds nodes, each of which runs one [`Protocol`](crate::Protocol) over [`MemIo`], and a
//! simulated network between them that behaves as a real one may: bytes are cut anywhere, writes get
//! stuck, connections are refused, reset, held up and parted. All of it follows from one seed, so a
//! failure can be repeated.
//!
//! Virtual time jumps from event to event: an hour of idle connections costs nothing. Simulated are the
//! kernels (windows, backlog, half-close, resets) and the engine on top; not simulated are the CPU (a
//! callback takes no time) and loss that TCP repairs (but for [`Fault::Partition`]).
//!
//! [`Checked`] wraps a protocol and asserts the contract's rules around it; [`peer`] has scripted clients
//! and servers.

mod checked;
mod config;
mod connect;
mod ending;
mod fault;
mod io;
mod net;
mod node;
mod pair;
pub mod peer;
mod segment;
mod serve;
mod trace;
mod world;

pub use checked::{Checked, CheckedIo};
pub use config::{Link, NetConfig, Pieces};
pub use fault::{Fault, Guard, Rule, Scope};
pub use net::MemIo;
pub use node::{NodeId, NodeState};
pub use trace::{Entry, Step, Trace};
pub use world::World;
