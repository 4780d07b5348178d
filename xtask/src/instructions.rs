//! `cargo xtask instructions`: user instructions per request, counted by callgrind.
//!
//! Wall time on a shared machine moves by half; this count repeats to a fraction of a percent, so it
//! is what a change to the data path is judged by.

use crate::Outcome;
use crate::process::Call;

/// Limit for building and running, in seconds.
const LIMIT_SECS: u32 = 2_400;

/// Builds what is measured and leaves the count and the gate to `bench-lb --modes callgrind`.
pub(crate) fn run() -> Outcome {
    Call::new("cargo", &["build", "--release", "-p", "weir", "-p", "bench-lb"], LIMIT_SECS).run()?;
    Call::new("target/release/bench-lb", &["--quick", "--modes", "callgrind", "--peers", "weir"], LIMIT_SECS).run()
}
