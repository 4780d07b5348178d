//! Side-by-side benchmark of weir-pool and other connection pools on one machine.
//!
//! # What is compared
//! Acquires and releases per second, how long callers wait, how evenly they are served, time on processors and allocations per
//! use. Every cell (peer × use × tasks × connections × round) is a process of its own with a full pool and a warm-up before
//! the clock; rounds are interleaved and every other one runs in reverse order, so that a drift of the machine hits all
//! alike.
//!
//! # Invariants
//! - A wait that has not ended at the end of the window counts with its age: a pool that starves some callers must not look
//!   fast by that.
//! - All peers run the same loops, and all figures are computed by the same code, from the same counters.
//! - A cell that hangs is ended at a deadline, and told.
//!
//! # Why the peers are dependencies of this crate
//! They bring about twenty small crates, and nothing that Weir would not have in its checks anyway. One binary with one
//! tokio, one allocator and one set of compiler options for all of them is the fairer comparison, and Cargo.lock pins
//! their versions. Only this crate depends on them, and the default build does not build it. HikariCP runs in a Java virtual
//! machine, from the Debian package.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

pub mod allocations;
pub mod cell;
pub mod child;
pub mod cli;
pub mod figures;
pub mod histogram;
pub mod java;
pub mod load;
pub mod options;
pub mod peers;
pub mod place;
pub mod rank;
pub mod report;
pub mod run;
pub mod scene;
pub mod stub;
pub mod world;

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
