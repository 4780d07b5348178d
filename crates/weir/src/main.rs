//! `weir`: the command line. Each verb is a module under `cli/`; what runs is in `server/`.

mod cli;
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
