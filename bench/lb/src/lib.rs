//! Side-by-side benchmark of Weir and other load balancers on one machine.
//!
//! # What is compared
//! CPU time of the balancer per request is the figure that holds on a shared machine; requests per second
//! of a closed loop follow from it and from everything else that runs. Every cell (balancer × mode × round)
//! starts the balancer and the backends afresh, warms up, and reads counters at both ends of a window. Rounds
//! are interleaved and every other one runs in reverse order, so that a drift of the machine hits all alike.
//! The backends are the same program for everybody; their own CPU per request in the same cell shows how fast
//! the machine was at that moment (`norm`).
//!
//! # Why it knows nothing of Weir
//! The harness treats Weir as one peer among others: a program, a configuration file, a port.
//!
//! `bench-lb` is the harness, `bench-backend` the backend, `bench-openload` the open-loop generator.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "command-line programs")]

pub mod backend;
pub mod callgrind;
pub mod calm;
pub mod cell;
pub mod cli;
pub mod guard;
pub mod mode;
pub mod openload;
pub mod peer;
pub mod report;
pub mod setup;
pub mod usage;

/// What fails is told in a sentence.
pub type Outcome<T = ()> = Result<T, String>;

/// The folder of this crate.
pub fn home() -> std::path::PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// The root folder of the project.
pub fn root() -> std::path::PathBuf {
    let home = home();
    home.ancestors().nth(2).unwrap_or(&home).to_owned()
}
