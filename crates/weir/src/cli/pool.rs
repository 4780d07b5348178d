//! `weir pool`: about pools of connections, without one. `weir pool size` reckons how large one has to be.
//!
//! All reckoning is in `weir_pool_core::sizing`; here are the options and what is printed.

mod report;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use weir_pool_core::sizing::{Burst, Load, Question, Server, Sharing, SizingError, Tasks, scv_of_log_normal};

use super::{fail, print, value};

pub(super) const POOL_ABOUT: &str = "\
About pools of connections to a database or another server: how large they have to be.";

pub(super) const POOL_EXAMPLES: &str = "\
Examples:
  weir pool size --rate 1000 --hold 10ms             how many connections, and why";

const SIZE_ABOUT: &str = "\
Reckon how many connections a pool needs, from how often one is acquired and how long it is held. Both are in the metrics of \
every good pool; take them from the busiest minutes, for one instance of the service.

Rate x hold is the number of connections that are busy on average (Little's law). Some more are needed because requests do not \
come one after the other: how many is a matter of how long callers may wait, and the theory of waiting lines knows (Erlang C; \
Allen and Cunneen where arrivals or hold times vary more or less than chance makes them). The answer is the largest of \
what the wait, a burst and freedom from deadlock ask for; what it does beside its neighbours is shown, and what the \
database bears is held against it.

It takes the hold time as given. A database that is saturated makes it grow, and then a larger pool makes it worse.";

const SIZE_EXAMPLES: &str = "\
Examples:

  A service acquires 1,000 connections a second in its busiest minutes, and holds each for 10 ms. So 10 are busy on average, and
  11 would just keep up, with a long line. For a wait of at most 1 ms (the default is a tenth of the hold) for 99 of 100:
    weir pool size --rate 1000 --hold 10ms
  says 18. With --wait-p99 10ms it is 14: who can wait for as long as the query takes needs 4 fewer.

  Four such services share a PostgreSQL with 16 cores and max_connections = 100, hold times have a long tail (p99 60 ms), and a
  cache that expires sends 200 requests at once, which should be done in 200 ms:
    weir pool size --rate 1000 --hold 10ms --hold-p99 60ms --burst 200 --within 200ms \\
      --instances 4 --max-connections 100 --cores 16
  says that they fit, and that the database's processors are the limit, not the pools.

Exit codes: 0 answered, 1 no answer, or the pools do not fit into --max-connections.";

/// What about pools.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct PoolOptions {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Reckon how many connections a pool needs, and what the sizes around it do
    #[command(long_about = SIZE_ABOUT, after_help = SIZE_EXAMPLES)]
    Size(SizeOptions),
}

#[derive(Debug, Args)]
pub(crate) struct SizeOptions {
    /// How often a connection is acquired: per second, or with /s, /m or /h
    #[arg(long, value_name = "RATE", value_parser = value::rate)]
    rate: f64,
    /// How long it is held, on average, such as 8ms
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    hold: Duration,
    /// The p99 of the hold time, from which its variation follows (as log-normal)
    #[arg(long, value_name = "TIME", value_parser = value::duration, conflicts_with = "hold_scv")]
    hold_p99: Option<Duration>,
    /// Or that variation itself: variance / mean squared; 0 all equal, 1 exponential [default: 1]
    #[arg(long, value_name = "X", value_parser = value::number)]
    hold_scv: Option<f64>,
    /// The same of the times between arrivals: 0 a metronome, 1 independent users, above 1 bursts
    #[arg(long, value_name = "X", default_value = "1", value_parser = value::number)]
    arrival_scv: f64,
    /// 99 of 100 callers wait no longer than this [default: a tenth of the hold]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    wait_p99: Option<Duration>,
    /// So many requests come at once, on top of the rest …
    #[arg(long, value_name = "N", requires = "within")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    burst: Option<u32>,
    /// … and the last of them is done after this time
    #[arg(long, value_name = "TIME", requires = "burst", value_parser = value::duration)]
    within: Option<Duration>,
    /// So many tasks at most …
    #[arg(long, value_name = "N", requires = "connections_per_task")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    tasks: Option<u32>,
    /// … hold so many connections each at the same time: the size that cannot deadlock
    #[arg(long, value_name = "N", requires = "tasks")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    connections_per_task: Option<u32>,
    /// Cores of the database's machine, without hyper-threads: what it works on at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    cores: Option<u32>,
    /// Its disks with moving arms; 0 with flash, or if the data is in memory
    #[arg(long, value_name = "N", default_value_t = 0, requires = "cores")]
    spindles: u32,
    /// Instances of the service, each with a pool and with this rate
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    instances: u32,
    /// Connections that the database allows in all: do the pools fit?
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,
    /// Those of --max-connections that are kept for others: superusers, replication, tools
    #[arg(long, value_name = "N", default_value_t = 3, requires = "max_connections")]
    reserved: u32,
    /// One JSON object, times in seconds
    #[arg(long)]
    json: bool,
}

/// The share of the hold that callers may wait if nothing is said.
const WAIT_DIVISOR: u32 = 10;

impl SizeOptions {
    fn question(&self) -> Result<Question, String> {
        let load = self.load().map_err(|error| advise(&error))?;
        Ok(Question {
            load,
            wait_p99: self.wait_p99.unwrap_or(self.hold / WAIT_DIVISOR),
            burst: self.burst.zip(self.within).map(|(requests, within)| Burst { requests, within }),
            tasks: self
                .tasks
                .zip(self.connections_per_task)
                .map(|(tasks, connections_each)| Tasks { tasks, connections_each }),
            server: self.cores.map(|cores| Server { cores, spindles: self.spindles }),
            instances: self.instances,
            sharing: self.max_connections.map(|max_connections| Sharing { max_connections, reserved: self.reserved }),
        })
    }

    fn load(&self) -> Result<Load, SizingError> {
        let hold_scv = match (self.hold_p99, self.hold_scv) {
            (Some(p99), _) => scv_of_log_normal(self.hold, p99)?,
            (None, Some(scv)) => scv,
            (None, None) => 1.0,
        };
        Load::new(self.rate, self.hold)?.with_scv(self.arrival_scv, hold_scv)
    }
}

/// An error with what to write instead.
fn advise(error: &SizingError) -> String {
    let advice = match error {
        SizingError::Rate => "; write --rate 250 for 250 a second, or --rate 15000/m",
        SizingError::Hold => "; write --hold 8ms",
        SizingError::Variation => "; write --hold-scv 1 if it is not known, or leave it out",
        SizingError::TooMany(_) => "",
        SizingError::BurstWithin { .. } => "; write a longer --within",
        SizingError::QuantileBelowMean => "; --hold is the mean, --hold-p99 what 1 of 100 exceeds",
        SizingError::QuantileTooFar => " (--hold-scv)",
    };
    format!("{error}{advice}")
}

/// `weir pool …`
pub(super) fn pool(options: &PoolOptions) -> ExitCode {
    match &options.what {
        What::Size(options) => size(options),
    }
}

fn size(options: &SizeOptions) -> ExitCode {
    let answered = options
        .question()
        .and_then(|question| question.answer().map(|answer| (question, answer)).map_err(|error| advise(&error)));
    let (question, answer) = match answered {
        Ok(answered) => answered,
        Err(error) => return fail(&error),
    };
    let text = if options.json { report::json(&question, &answer) } else { report::text(&question, &answer) };
    let printed = print(&text);
    if answer.fit.is_some_and(|fit| !fit.fits) { ExitCode::FAILURE } else { printed }
}
