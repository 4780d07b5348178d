//! Which seeds a test runs.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Seeds of all families together, unless `WEIR_SEEDS` says otherwise.
const SEEDS: u64 = 256;

/// Runs `play` with `share` (of 256) seeds; more or fewer if `WEIR_SEEDS` is another number than 256, only one if
/// `WEIR_SEED` names it.
///
/// # Panics
/// If a run does; the message says how to repeat it.
pub fn for_each_seed(family: &str, share: u64, play: impl Fn(u64)) {
    if let Some(seed) = number("WEIR_SEED") {
        return play(seed);
    }
    let all = number("WEIR_SEEDS").unwrap_or(SEEDS);
    for seed in 0..(share * all).div_ceil(SEEDS) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| play(seed))) {
            #[expect(clippy::print_stderr, reason = "the only way to say how to repeat a failed test")]
            {
                eprintln!("to repeat: WEIR_SEED={seed} cargo nextest run -p weir-sim {family}");
            }
            resume_unwind(panic);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
