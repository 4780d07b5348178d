//! `bench-openload PORT CONNECTIONS RATE WARM_UP_SECS SECS`: see [`bench_lb::openload`].

use std::process::ExitCode;

use bench_lb::openload::Load;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Option<Vec<u32>> = args.iter().map(|arg| arg.parse().ok()).collect();
    let Some([port, connections, rate, warm_up, secs]) = numbers.as_deref() else {
        return bench_lb::cli::usage("bench-openload PORT CONNECTIONS RATE WARM_UP_SECS SECS");
    };
    let load = Load { port: *port as u16, connections: *connections, rate: *rate, warm_up_secs: *warm_up, secs: *secs };
    bench_lb::cli::finish(bench_lb::openload::run(&load))
}
