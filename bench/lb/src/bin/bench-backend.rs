//! `bench-backend PORT CONTROL_PORT BODY_BYTES`: see [`bench_lb::backend`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Option<Vec<usize>> = args.iter().map(|arg| arg.parse().ok()).collect();
    let Some([port, control, body]) = numbers.as_deref() else {
        return bench_lb::cli::usage("bench-backend PORT CONTROL_PORT BODY_BYTES");
    };
    bench_lb::cli::finish(bench_lb::backend::serve(*port as u16, *control as u16, *body))
}
