//! How uneven consistent hashing is: the hottest member's share over the mean, by the number of virtual
//! nodes: `cargo run --release -p weir-balance --example imbalance`. Prints the tables of
//! `docs/concept/balancing.md`.
#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::sync::Arc;

use weir_balance::{Algorithm, Load, Member, Params, key_shares};
use weir_core::{EndpointId, Weight};

const RINGS: u32 = 400;

fn main() {
    println!("| points per endpoint | 3 endpoints: mean, p95 | 10 endpoints: mean, p95 | 50 endpoints: mean, p95 |");
    println!("|---|---|---|---|");
    let ring = Params { algorithm: Algorithm::RingHash, ..Params::default() };
    for points in [1, 16, 40, 100, 160, 342, 1_000, 4_096] {
        row(&points.to_string(), &Params { virtual_nodes: Some(points), ..ring.clone() }, RINGS);
    }
    row("default (1,024)", &ring, RINGS);
    row("`ketama` (160)", &Params { ketama: true, ..ring.clone() }, RINGS);
    row("Maglev, 65,537", &Params { algorithm: Algorithm::Maglev, ..Params::default() }, 8);
}

fn row(name: &str, params: &Params, rings: u32) {
    let cells = [3, 10, 50].map(|n| {
        let mut hottest: Vec<_> = (0..rings).map(|ring| hottest(params, ring * n, n)).collect();
        hottest.sort_by(f64::total_cmp);
        let mean = hottest.iter().sum::<f64>() / f64::from(rings);
        format!(" {mean:.3}, {:.3} |", hottest[hottest.len() * 95 / 100])
    });
    println!("| {name} |{}", cells.concat());
}

/// The share of the hottest of `n` equal members over the mean share.
fn hottest(params: &Params, first: u32, n: u32) -> f64 {
    let members: Vec<_> = (first..first + n).map(member).collect();
    let shares = key_shares(params, &members).unwrap_or_default();
    shares.into_iter().fold(0.0, f64::max) * f64::from(n)
}

fn member(id: u32) -> Member {
    Member {
        id: EndpointId(id),
        name: format!("10.{}.{}.{}:8080", id / 62_500, id / 250 % 250, id % 250 + 1).into(),
        weight: Weight::ONE,
        load: Arc::new(Load::new()),
    }
}
