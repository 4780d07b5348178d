//! `weir`: the command line. Each verb is a module under `cli/`; what runs is in `server/`; the demonstration around it
//! is in `demo/`.

mod cli;
mod demo;
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
