//! Nanoseconds per pick for every row of `ALGORITHMS`:
//! `cargo run --release -p weir-balance --example picks`.
//!
//! One thread, best of several rounds, loads in cache: a floor to compare rows by, not a promise.
#![allow(clippy::print_stdout, reason = "a program that prints a table")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program that measures needs a clock")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_balance::{ALGORITHMS, Ask, Avoid, Balancer, Load, Member, Params, build};
use weir_core::hash::Rng;
use weir_core::{EndpointId, Weight};

const PICKS: u32 = 200_000;
const ROUNDS: u32 = 7;
const SIZES: [u32; 4] = [3, 10, 100, 1_000];

fn main() {
    println!("{:<34}{}", "ns per pick, members:", SIZES.map(|size| format!("{size:>9}")).concat());
    for row in ALGORITHMS {
        let params = Params { algorithm: row.algorithm, ..Params::default() };
        line(row.name, &params, |_| 1);
        if row.weighted && !row.keyed {
            // Weights without a common divisor: a long period for round robin.
            line(&format!("{}, odd weights", row.name), &params, |id| 65_521 - (id % 997) as u16);
        }
        if row.keyed {
            line(&format!("{}, bounded load", row.name), &Params { bounded_load: Some(1.25), ..params }, |_| 1);
        }
    }
}

fn line(name: &str, params: &Params, weight: impl Fn(u32) -> u16) {
    let cells = SIZES.map(|size| {
        let members: Vec<_> = (0..size).map(|id| member(id, weight(id))).collect();
        let balancer = build(params, members, None);
        format!("{:>9.1}", nanos_per_pick(&*balancer))
    });
    println!("{name:<34}{}", cells.concat());
}

fn nanos_per_pick(balancer: &dyn Balancer) -> f64 {
    let mut rng = Rng::new(1);
    let mut round = || -> Duration {
        let start = Instant::now();
        for _ in 0..PICKS {
            let seed = rng.next();
            let ask = Ask { now: weir_core::Instant::ZERO, worker: 0, key: Some(seed), seed, avoid: Avoid::NONE };
            black_box(balancer.pick(black_box(&ask)));
        }
        start.elapsed()
    };
    let best = (0..ROUNDS).map(|_| round()).min().unwrap_or_default();
    best.as_secs_f64() * 1e9 / f64::from(PICKS)
}

/// A busy member, so that bounded load has to look at all of them.
fn member(id: u32, weight: u16) -> Member {
    let load = Arc::new(Load::new());
    load.begin();
    Member {
        id: EndpointId(id),
        name: format!("10.0.{}.{}:8080", id / 250, id % 250 + 1).into(),
        weight: Weight::new(weight),
        load,
    }
}
