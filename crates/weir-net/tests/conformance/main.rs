//! The engine contract's rules as tests, written once for every driver.
//!
//! `rules` holds the tests; they know a driver only as a [`stage::Harness`]. To put another driver to the
//! test, implement that trait and name the driver in a `conformance!` of its own, as `mem` does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests: a panic is the failure")]

mod actor;
mod epoll;
mod mem;
mod rules;
mod stage;
