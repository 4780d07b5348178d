//! What is asked for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::Outcome;
use crate::cell::{USES, Use};
use crate::peers::{self, PEERS, Peer};
use crate::place::Place;

/// The text of `--help`.
pub const HELP: &str = "\
Measures weir-pool beside bb8, deadpool, mobc, sqlx's pool, r2d2 and HikariCP, all in one run.

usage: cargo run --release -p bench-pool -- [VERB] [OPTIONS]

  (no verb)         the matrix: uses x tasks x connections; about an hour and a half with all peers and defaults
  spike             50 callers at once on 5 open connections, a connect takes 150 ms; queries of 2 ms, and of 2 s
  down              connects never end, 20 callers with a time-out of 1 s; then the database is back

  --peers A,B       pools, default all; `weir` is the one that the others are compared with
  --uses A,B        what a task does, default all:
                      alone   one task: acquire, touch, release, without a pause (other --tasks do not apply)
                      noop    acquire, touch, release, then the next task's turn
                      hold    acquire, touch, the next task's turn, release: callers stand in line
                      socket  acquire, 100 bytes to a stub server and 100 back, release
  --tasks N,N       tasks, default 1,8,64,1000,5000 (threads for r2d2 and HikariCP)
  --sizes N,N       connections, default 10,20,100; all are open before the clock starts
  --rounds N        default 5; every other one runs in reverse order
  --window TIME     the measured time of a cell, default 1s
  --warm-up TIME    load before it, default 300ms
  --java-warm-up TIME  the same for HikariCP, default 4s
  --delay TIME      what the stub server takes for an answer, in whole milliseconds, default 0ms
  --place WHERE     which processors the pools and the stub server run on: free (default: the scheduler's choice), together
                    (all on the first), apart (the stub server on the first, the pools on the others)
  --threads-max N   cells of r2d2 and HikariCP with more threads are not run, default 5000
  --quick           one round, windows of 200 ms: does everything work?
  --markdown FILE   all figures as tables
  --json FILE       all figures of all rounds
  --write-docs      the tables of docs/performance.md (those of the uses that were run)
  --list            names of pools and uses, with versions

Progress goes to the error output. Every cell is a process of its own and is ended when it hangs. The end tells in how many
rows weir-pool is behind, and behind whom. Pools are compared by the ratios of their figures in the same round. They are tied
if the rounds disagree about who is better and the median is no further from 1 than half the distance between the least and the
greatest ratio, or within 2 %. Few rounds make few ties: take five or more.
`p99` counts waits that have not ended with their age. `p99 even` is the p99 of callers that ask at an even pace: where some
are starved, their few long waits do not vanish among the many short ones of the others.

For a profile of one cell, run it alone:
  perf record -g target/release/bench-pool cell weir hold 5000 10 300ms 2s -
";

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Measure the matrix.
    Matrix,
    /// Show a spike.
    Spike,
    /// Show a database that does not answer.
    Down,
}

/// The options of all verbs.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is to be done.
    pub verb: Verb,
    /// The pools.
    pub peers: Vec<&'static Peer>,
    /// The uses.
    pub uses: Vec<Use>,
    /// Numbers of tasks.
    pub tasks: Vec<usize>,
    /// Numbers of connections.
    pub sizes: Vec<u32>,
    /// How often.
    pub rounds: u32,
    /// Measured time of a cell.
    pub window: Duration,
    /// Load before it.
    pub warm_up: Duration,
    /// The same for HikariCP.
    pub java_warm_up: Duration,
    /// What the stub server takes.
    pub delay: Duration,
    /// Which processors things run on.
    pub place: Place,
    /// Most threads of a cell.
    pub threads_max: usize,
    /// Where to write tables.
    pub markdown: Option<PathBuf>,
    /// Where to write raw figures.
    pub json: Option<PathBuf>,
    /// Whether to change docs/performance.md.
    pub write_docs: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verb: Verb::Matrix,
            peers: PEERS.iter().collect(),
            uses: USES.iter().map(|(_, use_of, _)| *use_of).collect(),
            tasks: vec![1, 8, 64, 1_000, 5_000],
            sizes: vec![10, 20, 100],
            rounds: 5,
            window: Duration::from_secs(1),
            warm_up: Duration::from_millis(300),
            java_warm_up: Duration::from_secs(4),
            delay: Duration::ZERO,
            place: Place::Free,
            threads_max: 5_000,
            markdown: None,
            json: None,
            write_docs: false,
        }
    }
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn parse(args: &[String]) -> Outcome<Self> {
        let mut options = Self::default();
        let mut args = args.iter().peekable();
        if let Some(verb) = args.next_if(|arg| !arg.starts_with('-')) {
            options.verb = match verb.as_str() {
                "spike" => Verb::Spike,
                "down" => Verb::Down,
                _ => return Err(format!("there is no verb {verb:?}")),
            };
        }
        while let Some(arg) = args.next() {
            let mut value = || args.next().map(String::as_str).ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--peers" => options.peers = list(value()?, peers::peer)?,
                "--uses" => options.uses = list(value()?, Use::parse)?,
                "--tasks" => options.tasks = list(value()?, |text| Ok(number(arg, text, 100_000)? as usize))?,
                "--sizes" => options.sizes = list(value()?, |text| number(arg, text, 10_000))?,
                "--rounds" => options.rounds = number(arg, value()?, 1_000)?,
                "--window" => options.window = longer_than_nothing(arg, time(value()?)?)?,
                "--warm-up" => options.warm_up = time(value()?)?,
                "--java-warm-up" => options.java_warm_up = time(value()?)?,
                "--delay" => options.delay = time(value()?)?,
                "--place" => options.place = Place::parse(value()?)?,
                "--threads-max" => options.threads_max = number(arg, value()?, 100_000)? as usize,
                "--markdown" => options.markdown = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                "--write-docs" => options.write_docs = true,
                "--quick" => {
                    (options.rounds, options.window) = (1, Duration::from_millis(200));
                    options.warm_up = Duration::from_millis(100);
                    options.java_warm_up = Duration::from_secs(1);
                }
                _ => return Err(format!("unknown option {arg}")),
            }
        }
        if options.place != Place::Free && options.verb != Verb::Matrix {
            return Err("--place is of the matrix: spike and down have no stub server".to_owned());
        }
        Ok(options)
    }
}

fn list<T>(text: &str, one: impl Fn(&str) -> Outcome<T>) -> Outcome<Vec<T>> {
    text.split(',').map(one).collect()
}

fn number(name: &str, text: &str, most: u32) -> Outcome<u32> {
    let number = text.parse().ok().filter(|n| (1..=most).contains(n));
    number.ok_or_else(|| format!("{name} takes 1 to {most}, not {text:?}"))
}

fn longer_than_nothing(name: &str, time: Duration) -> Outcome<Duration> {
    if time.is_zero() { Err(format!("{name} must be longer than nothing")) } else { Ok(time) }
}

/// Reads `300ms` or `1.5s`.
///
/// # Errors
/// If it is neither, or above an hour.
pub fn time(text: &str) -> Outcome<Duration> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|n| (0.0..=3_600_000.0).contains(n));
    let secs = match text.strip_suffix("ms") {
        Some(millis) => number(millis).map(|millis| millis / 1e3),
        None => text.strip_suffix('s').and_then(number),
    };
    secs.filter(|secs| *secs <= 3_600.0)
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("a time is like 300ms or 1.5s and at most an hour, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Outcome<Options> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let options = parse("--peers weir,bb8 --uses hold --tasks 1,8 --sizes 10 --rounds 3 --window 1.5s").unwrap();
        let names: Vec<&str> = options.peers.iter().map(|peer| peer.name).collect();
        assert_eq!((names.as_slice(), options.uses.as_slice()), (["weir", "bb8"].as_slice(), [Use::Hold].as_slice()));
        assert_eq!((options.tasks, options.sizes, options.rounds), (vec![1, 8], vec![10], 3));
        assert_eq!((options.window, options.verb), (Duration::from_millis(1_500), Verb::Matrix));
        let spike = parse("spike --peers r2d2 --rounds 2").unwrap();
        assert_eq!((spike.verb, spike.rounds), (Verb::Spike, 2));
        assert_eq!(parse("--quick").unwrap().rounds, 1);
        assert_eq!(parse("--place apart").unwrap().place, Place::Apart);
    }

    #[test]
    fn wrong_options_are_refused_in_a_sentence() {
        for (text, part) in [
            ("--peers hikari", "there are: weir bb8"),
            ("--uses nothing", "alone noop hold socket"),
            ("--tasks 0", "1 to 100000"),
            ("--tasks 1,,2", "1 to 100000"),
            ("--rounds", "needs a value"),
            ("--window 1", "300ms"),
            ("--window 0s", "longer than nothing"),
            ("--window -1s", "300ms"),
            ("--place here", "together or apart"),
            ("spike --place apart", "of the matrix"),
            ("--fast", "unknown option"),
            ("surge", "no verb"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_help_names_every_use_and_every_default() {
        let defaults = Options::default();
        for (name, ..) in USES {
            assert!(HELP.contains(&format!("\n                      {name} ")), "{name}");
        }
        let join = |numbers: &[String]| numbers.join(",");
        let tasks = join(&defaults.tasks.iter().map(usize::to_string).collect::<Vec<_>>());
        let sizes = join(&defaults.sizes.iter().map(u32::to_string).collect::<Vec<_>>());
        assert!(HELP.contains(&format!("default {tasks}")) && HELP.contains(&format!("default {sizes}")));
    }
}
