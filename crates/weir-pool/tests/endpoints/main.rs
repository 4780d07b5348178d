//! What a user of pools over several endpoints relies on, against servers of the test's own making, on a paused clock: times are
//! exact however busy the machine is.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

mod coming;
mod ejecting;
mod ending;
mod failing;
mod picking;
mod sharing;
mod world;
