//! The verbs of the command line.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the deadline of a graceful stop passed and requests were cut.

mod budget;
mod config;
mod generate;
mod pool;
mod run;
mod value;

use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_telemetry::{LogFormat, LoggingError, init_logging};

pub(crate) use run::signals;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about = ABOUT, long_about = LONG_ABOUT, after_help = AFTER_HELP, max_term_width = 100)]
#[command(propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    log: LogOptions,
}

const ABOUT: &str = "A load balancer that says where the traffic is stuck";

const LONG_ABOUT: &str = "\
Weir balances HTTP/1.1 and TCP traffic over the endpoints of a service: it checks their health, pools the \
connections to them, tries failed requests elsewhere where that is safe, and says with each error of its own what the \
reason was.";

const AFTER_HELP: &str = "\
Examples:
  weir demo                                          see it at work, with nothing else installed
  weir proxy --to 127.0.0.1:3000,127.0.0.1:3001      balance two servers, no file needed
  weir run weir.toml                                 run a configuration
  weir check weir.toml --effective                   validate it and print every default
  weir explain W0301                                 what a diagnostic means
  weir pool size --rate 1000 --hold 10ms             how large a connection pool has to be

`weir VERB --help` tells more about a verb.";

/// What to do.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Show Weir at work: sample servers, load and a live view, in one process
    #[command(long_about = DEMO_ABOUT, after_help = DEMO_EXAMPLES)]
    Demo(DemoOptions),
    /// Balance over some servers, without a configuration file
    #[command(long_about = PROXY_ABOUT, after_help = PROXY_EXAMPLES)]
    Proxy(ProxyOptions),
    /// Run a configuration file
    #[command(long_about = RUN_ABOUT, after_help = RUN_EXAMPLES)]
    Run(RunOptions),
    /// Validate a configuration file and print what is wrong with it
    #[command(long_about = CHECK_ABOUT, after_help = CHECK_EXAMPLES)]
    Check(CheckOptions),
    /// Show who holds what of a budget of connections
    #[command(long_about = BUDGET_ABOUT, after_help = BUDGET_EXAMPLES)]
    Budget(BudgetOptions),
    /// Explain a diagnostic code such as W0301
    #[command(long_about = EXPLAIN_ABOUT, after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainOptions),
    /// About connection pools: how large one has to be
    #[command(long_about = pool::POOL_ABOUT, after_help = pool::POOL_EXAMPLES)]
    Pool(pool::PoolOptions),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsOptions),
    /// Print the manual page, or write the pages of all verbs
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManOptions),
}

const DEMO_ABOUT: &str = "\
Show Weir at work. Three sample servers (one quick, one slow, one that is killed and comes back), Weir in front of them \
with a real configuration, and steady load run in this one process, on ports of 127.0.0.1. On a terminal there is \
a live view (q ends it); elsewhere one line is printed each second.";

const DEMO_EXAMPLES: &str = "\
Examples:
  weir demo
  weir demo --rate 1000
  weir demo --plain --duration 30s                   as a check: exit code 1 if clients saw an error";

const PROXY_ABOUT: &str = "\
Balance over some servers, without a configuration file. All settings have their defaults: servers are probed by TCP \
connections every 10 seconds, a refused connection takes a server out at once, and requests that may be repeated are \
tried elsewhere.";

const PROXY_EXAMPLES: &str = "\
Examples:
  weir proxy --to 127.0.0.1:3000,127.0.0.1:3001
  weir proxy --listen 0.0.0.0:80 --to app1.internal:3000,app2.internal:3000
  weir proxy --to unix:/run/app.sock --metrics off
  weir proxy --to 127.0.0.1:3000 --print > weir.toml  begin a configuration file";

const BUDGET_ABOUT: &str = "\
Show who holds what of a budget of connections. A budget ([budget.NAME] of a configuration) is a number of connections to a \
server that the pools of many processes share; a running weir grants each a share that follows its load.

  share    connections that the pool may open
  held     what it may have open: more than its share while connections in use have not come back
  demand   what it could use: busy connections and waiting callers
  floor    what it keeps while it does not hear from the grantor
  heard    how long ago it asked last; a pool that is silent for a whole lease keeps its floor only";

const BUDGET_EXAMPLES: &str = "\
Examples:
  weir budget orders-db
  weir budget --at 10.0.0.5:9902 --token-file /etc/weir/token orders-db
  weir budget --json orders-db | jq .free

Exit codes: 0 shown, 1 the grantor does not answer or knows no such budget.";

const RUN_ABOUT: &str = "\
Run a configuration file. All its problems are reported at once, each at its place; nothing starts if there is \
one.

Signals: TERM and INT stop gracefully (requests in flight are finished until [process] shutdown_timeout; a second signal \
stops at once), USR1 opens the access log again after rotation.";

const RUN_EXAMPLES: &str = "\
Examples:
  weir run weir.toml
  weir run weir.toml --log warn --log-format json

Exit codes: 0 stopped, 1 not started or failed, 3 requests were cut at the deadline of the stop.";

const CHECK_ABOUT: &str = "\
Validate a configuration file: its text, the files that it names, and what a start on this machine would find (users, \
folders, limits; not whether ports are free). All problems are reported at once.";

const CHECK_EXAMPLES: &str = "\
Examples:
  weir check weir.toml
  weir check weir.toml --effective > full.toml       every default, written out
  weir check weir.toml --text-only                   for a file that will run on another machine

Exit codes: 0 no errors (there may be warnings), 1 errors.";

const EXPLAIN_ABOUT: &str = "\
Explain a diagnostic code: what is wrong, why Weir insists, an example that triggers it and one that does not.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  weir explain W0301
  weir explain                                       the list of all codes";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  weir completions bash > /etc/bash_completion.d/weir
  weir completions zsh > ~/.zfunc/_weir
  weir completions fish > ~/.config/fish/completions/weir.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  weir man | man -l -
  weir man --out /usr/local/share/man/man1";

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// End after this time, such as 10s or 2m; exit code 1 if clients saw an error
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub(crate) duration: Option<Duration>,
    /// Requests per second
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// The port of 127.0.0.1 where Weir listens [default: 8080, or the next free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// One line each second, even on a terminal
    #[arg(long)]
    pub(crate) plain: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ProxyOptions {
    #[arg(long, value_name = "ADDR", default_value = weir_config::DEFAULT_LISTEN)]
    #[arg(help = "Where clients connect: IP:PORT, [IPv6]:PORT or unix:PATH")]
    listen: String,
    /// The servers, separated by commas: IP:PORT, NAME:PORT or unix:PATH
    #[arg(long, value_name = "ADDR,...", value_delimiter = ',', required = true)]
    to: Vec<String>,
    /// Where metrics, readiness and clusters are shown: IP:PORT, or `off` [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
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
    /// Do not look at this machine's users, folders and limits
    #[arg(long)]
    text_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BudgetOptions {
    /// The budget: the NAME of `[budget.NAME]`
    #[arg(value_name = "NAME")]
    name: String,
    /// Where the grantor listens: `[grantor] bind`
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9902")]
    at: std::net::SocketAddr,
    /// A file that holds the token of `[grantor]`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print the grantor's answer as it is
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainOptions {
    /// The code, as printed in brackets: W0301; without one, all codes are listed
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsOptions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManOptions {
    /// Write weir.1 and a page for each verb into this folder instead
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// How Weir logs (to standard error).
#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub(crate) struct LogOptions {
    /// What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs
    #[arg(long, value_name = "FILTER", default_value = "info", global = true)]
    pub(crate) log: String,
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

impl LogOptions {
    /// Sets up the log of the process.
    pub(crate) fn init(&self) -> Result<(), LoggingError> {
        let format = match self.log_format {
            LogStyle::Text => LogFormat::Text,
            LogStyle::Json => LogFormat::Json,
        };
        init_logging(format, &self.log, wants_colour(&std::io::stderr()))
    }
}

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    // The demonstration's log goes elsewhere while it draws: it sets it up itself.
    if !matches!(cli.verb, Verb::Demo(_))
        && let Err(error) = cli.log.init()
    {
        return fail(&error.to_string());
    }
    match &cli.verb {
        Verb::Demo(options) => crate::demo::run(options, &cli.log),
        Verb::Proxy(options) => run::proxy(options),
        Verb::Run(options) => run::file(options),
        Verb::Check(options) => config::check(options),
        Verb::Budget(options) => budget::show(options),
        Verb::Explain(options) => config::explain(options),
        Verb::Pool(options) => pool::pool(options),
        Verb::Completions(options) => generate::completions(options),
        Verb::Man(options) => generate::man(options),
    }
}

/// Whether to colour what goes to `stream`: only on a terminal, and not if `NO_COLOR` is set to anything
/// (<https://no-color.org>).
pub(crate) fn wants_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && terminal_can_draw() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether the terminal understands more than lines of text.
pub(crate) fn terminal_can_draw() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
