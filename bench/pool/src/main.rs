//! `cargo run --release -p bench-pool -- --help`

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: bench_pool::allocations::Counting = bench_pool::allocations::Counting;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    bench_pool::cli::run(&args)
}
