//! A seeded world around the real pool, in virtual time: users that come, wait, give up, hold for long, panic and keep what they
//! got; a server that is quick, slow, away or silent and whose connections die; managers whose every hook may wait for ever, fail or
//! panic; an owner who resizes, suspends, evicts, warms up and closes; a clock that jumps; runtimes that end.
//!
//! From outside, all the time:
//! 1. The server never sees more connections (and connects in flight) than the maximum, and the pool knows of all of them.
//! 2. A connection is in one hand.
//! 3. Who waits ends by its time-out, and is served in its turn: nobody who got in line later comes first, and nobody is served at
//!    once while somebody is in line.
//!
//! And at the end: nothing is in use, nobody waits, the pool closes, the server sees no connection, no task is left.
//!
//! `WEIR_SEED=17 cargo test -p weir-pool --test simulation` replays a seed;
//! `WEIR_SEEDS=20000 cargo test -p weir-pool --release --test simulation` takes longer and sees more.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

mod server;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Sums, World};

/// In an ordinary run; together they make more than a million operations.
const SEEDS: u64 = 640;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn a_world_of_users() {
    server::hide_panics_on_purpose();
    let seeds = match number("WEIR_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WEIR_SEEDS").unwrap_or(SEEDS),
    };
    let all = seeds.end - seeds.start > 1;
    let mut sums = Sums::default();
    for seed in seeds {
        let run = catch_unwind(AssertUnwindSafe(|| World::run(seed)));
        let Ok(of_seed) = run else { panic!("seed {seed}: replay with WEIR_SEED={seed}") };
        sums.add(&of_seed);
    }
    println!("{sums:?}");
    if all {
        sums.is_a_world_worth_the_name();
    }
}

/// The same seed is the same world: a replay shows what was seen.
#[test]
fn a_seed_is_a_world() {
    server::hide_panics_on_purpose();
    assert_eq!(World::run(7), World::run(7));
}
