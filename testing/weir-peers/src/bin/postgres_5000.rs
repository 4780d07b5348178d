//! 5,000 tasks over 20 connections of a PostgreSQL that it starts itself:
//! `cargo run --release -p weir-peers --bin postgres_5000 [SECONDS [MILLISECONDS OF A QUERY]]` (60 and 2 if not given). Prints the
//! figures; fails if a bar is missed.
#![allow(clippy::print_stdout, reason = "printing is what it does")]

use std::process::ExitCode;
use std::time::Duration;

use weir_peers::Crowd;
use weir_pool::managers::postgres::Postgres;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(60), |word| word.parse())?;
    let query = Duration::from_millis(std::env::args().nth(2).map_or(Ok(2), |word| word.parse())?);
    let server = weir_test::Postgres::run(&[]);
    let manager = Postgres::new(server.url().parse()?);
    let crowd = Crowd { tasks: 5_000, connections: 20, time: Duration::from_secs(seconds), query };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let figures = runtime.block_on(crowd.run(manager));
    println!("{figures}");
    let fair = figures.most as f64 <= figures.fewest as f64 * 1.05;
    let met = figures.failed == 0 && figures.excess() <= 0.1 && fair && figures.fewest >= 20;
    println!("{}", if met { "all bars met" } else { "a bar is missed" });
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
