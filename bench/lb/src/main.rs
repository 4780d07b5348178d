//! `cargo run --release -p bench-lb -- --help`

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    bench_lb::cli::run(&args)
}
