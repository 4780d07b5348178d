//! The verbs of the command line.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the deadline of a graceful stop passed and requests were cut.

mod config;
mod run;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_telemetry::{LogFormat, init_logging};

/// A load balancer that says where the traffic is stuck.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, long_about = LONG_ABOUT, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    log: LogOptions,
}

const LONG_ABOUT: &str = "\
Weir balances HTTP/1.1 and TCP traffic over the endpoints of a service: it checks their health, pools the \
connections to them, tries failed requests elsewhere where that is safe, and says with each error of its own what the \
reason was.";

const AFTER_HELP: &str = "\
Examples:
  weir proxy --to 127.0.0.1:3000,127.0.0.1:3001      balance two servers, no file needed
  weir run weir.toml                                 run a configuration
  weir check weir.toml --effective                   validate it and print every default
  weir explain W0301                                 what a diagnostic means";

/// What to do.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Balance over some servers, without a configuration file
    Proxy(ProxyOptions),
    /// Run a configuration file
    Run(RunOptions),
    /// Validate a configuration file and print what is wrong with it
    Check(CheckOptions),
    /// Explain a diagnostic code such as W0301
    Explain(ExplainOptions),
}

#[derive(Debug, Args)]
pub(crate) struct ProxyOptions {
    /// Where clients connect: IP:PORT, [IPv6]:PORT or unix:PATH
    #[arg(long, value_name = "ADDR", default_value = weir_config::DEFAULT_LISTEN)]
    listen: String,
    /// The servers, separated by commas: IP:PORT, NAME:PORT or unix:PATH
    #[arg(long, value_name = "ADDR,...", value_delimiter = ',', required = true)]
    to: Vec<String>,
    /// Print the equivalent configuration file and exit
    #[arg(long)]
    print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// The configuration file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// The configuration file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the whole configuration with every default filled in
    #[arg(long)]
    effective: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainOptions {
    /// The code, as printed in brackets: W0301; without one, all codes are listed
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

/// How Weir logs (to standard error).
#[derive(Debug, Args)]
struct LogOptions {
    /// What is logged: error, warn, info, debug or TARGET=LEVEL pairs
    #[arg(long, value_name = "FILTER", default_value = "info", global = true)]
    log: String,
    /// How log lines look
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogStyle::Text, global = true)]
    log_format: LogStyle,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogStyle {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = match cli.log.log_format {
        LogStyle::Text => LogFormat::Text,
        LogStyle::Json => LogFormat::Json,
    };
    if let Err(error) = init_logging(format, &cli.log.log, std::io::stderr().is_terminal()) {
        return fail(&error.to_string());
    }
    match &cli.verb {
        Verb::Proxy(options) => run::proxy(options),
        Verb::Run(options) => run::file(options),
        Verb::Check(options) => config::check(options),
        Verb::Explain(options) => config::explain(options),
    }
}

/// Prints an error and gives the exit code for it.
pub(crate) fn fail(message: &str) -> ExitCode {
    // Nobody can be told if standard error is closed.
    let _ = writeln!(std::io::stderr(), "error: {message}");
    ExitCode::FAILURE
}

/// Prints to standard output; a closed pipe (`| head`) is no error.
pub(crate) fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format!("standard output: {error}")),
    }
}
