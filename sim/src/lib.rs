//! The whole of Weir in virtual time: real workers and the real keeper of `weir-proxy` on the in-memory driver, between
//! scripted clients and origins, with faults, all of it following from one seed.
//!
//! A [`Sim`] is one run. Tests build it in a few lines that read as a sentence, let it play, and have everything
//! checked that must always hold (see [`Sim::check`]). [`for_each_seed`] runs a test for many seeds; a failure names
//! its seed and how to play it again:
//!
//! ```text
//! WEIR_SEED=77 cargo nextest run -p weir-sim pool_limits
//! ```
//!
//! Not simulated: the CPU, the kernel's real behaviour (that is what the tests of `weir-net` are for), the control
//! plane, name resolution.
#![forbid(unsafe_code)]

mod check;
mod client;
mod host;
mod ledger;
mod origin;
mod pattern;
mod seeds;
mod sim;
mod timers;
mod tunnel;
mod weir;

pub use client::Habits;
pub use ledger::{Entry, Ledger, Misdeed, Outcome};
pub use origin::Manners;
pub use seeds::for_each_seed;
pub use sim::{Service, Sim};
pub use tunnel::{TunnelEnd, Tunnels};
