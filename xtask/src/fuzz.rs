//! `cargo xtask fuzz`: runs the fuzz targets for some minutes each and says what came of it.
//!
//! The committed corpora are read and never written: inputs that reach something new are kept in
//! `target/fuzz/TARGET`, where the next run goes on from. fuzz/README.md says how they come to be committed.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Mutex;

use crate::process::{Call, stage};
use crate::{Outcome, install, tree};

/// Limit for building all targets, in seconds.
const BUILD_SECS: u32 = 2_400;
/// Beyond the minutes asked for: reading the corpora, and the last input.
const SPARE_SECS: u32 = 300;
/// Minutes for each target unless told.
const DEFAULT_MINUTES: u32 = 10;
/// A day.
const MAX_MINUTES: u32 = 1_440;
const MAX_JOBS: u32 = 64;
/// Bytes of an input. What needs more is found by tests of the bounds, not by chance.
const MAX_INPUT_BYTES: u32 = 4_096;
/// An input that takes longer than this is a finding.
const INPUT_SECS: u32 = 25;
const MEMORY_MIB: u32 = 2_048;
/// Lines of the log that are shown of a finding.
const SHOWN_LINES: usize = 40;

/// What the arguments say.
#[derive(PartialEq, Eq, Debug)]
struct Options {
    minutes: u32,
    jobs: u32,
    targets: Vec<String>,
}

/// A line of the closing table.
struct Row {
    target: String,
    tally: Tally,
    /// Why the run did not end well: a finding, or something else.
    failure: Option<String>,
}

/// What libFuzzer's log says.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Tally {
    runs: u64,
    runs_per_second: u64,
    /// Edges of the control flow that were reached.
    coverage: u64,
    /// The files of inputs that broke something.
    findings: Vec<String>,
}

/// Builds and runs the targets, then prints the table. Fails when there is a finding.
pub(crate) fn run(args: &[String]) -> Outcome {
    let options = parse(args, &targets()?)?;
    stage("cargo-fuzz", || install::cargo_program("cargo-fuzz"))?;
    stage("build", || cargo_fuzz(&["build"], BUILD_SECS).run())?;
    let queue = Mutex::new(VecDeque::from(options.targets.clone()));
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    let mut rows: Vec<Row> = std::thread::scope(|scope| {
        let work = || std::iter::from_fn(next).map(|target| fuzz(target, options.minutes)).collect::<Vec<_>>();
        let jobs: Vec<_> = (0..options.jobs).map(|_| scope.spawn(work)).collect();
        jobs.into_iter().flat_map(|job| job.join().unwrap_or_default()).collect()
    });
    rows.sort_by(|a, b| a.target.cmp(&b.target));
    print!("{}", table(&rows));
    let mut failures: Vec<String> = rows.iter().filter_map(|row| row.failure.clone()).collect();
    if rows.len() != options.targets.len() {
        failures.push(format!("{} of {} targets ran", rows.len(), options.targets.len()));
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n  ")) }
}

fn fuzz(target: String, minutes: u32) -> Row {
    let log = format!("target/fuzz/{target}.log");
    println!("=== {target}: {minutes} min; its output goes to {log}");
    let result = fuzz_into(&target, minutes, &log);
    let text = std::fs::read(tree::root().join(&log)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let tally = tally(&text);
    let failure = match (tally.findings.first(), result) {
        (Some(input), _) => {
            println!("{}", finding(&text));
            Some(format!("{target}: again with `RUSTC_BOOTSTRAP=1 cargo fuzz run {target} {input}`"))
        }
        (None, result) => result.err().map(|e| format!("{target}: {e}; see {log}")),
    };
    println!("=== {target}: {}", if failure.is_some() { "FAILED" } else { "done" });
    Row { target, tally, failure }
}

fn fuzz_into(target: &str, minutes: u32, log: &str) -> Outcome {
    let found = format!("target/fuzz/{target}");
    std::fs::create_dir_all(tree::root().join(&found)).map_err(|e| format!("{found}: {e}"))?;
    let corpus = format!("fuzz/corpus/{target}");
    let dictionary = format!("fuzz/{target}.dict");
    let mut args: Vec<String> = [
        // The first folder is written to, the others are only read.
        "run".to_owned(),
        target.to_owned(),
        found,
        corpus,
        "--".to_owned(),
        format!("-max_total_time={}", minutes * 60),
        format!("-max_len={MAX_INPUT_BYTES}"),
        format!("-timeout={INPUT_SECS}"),
        format!("-rss_limit_mb={MEMORY_MIB}"),
        "-print_final_stats=1".to_owned(),
    ]
    .into();
    if tree::root().join(&dictionary).is_file() {
        args.push(format!("-dict={dictionary}"));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    cargo_fuzz(&args, minutes * 60 + SPARE_SECS).run_into(&tree::root().join(log))
}

/// A call of cargo-fuzz. Sanitizers are unstable; this lets the project's own toolchain have them, so that
/// what is fuzzed is what is shipped.
fn cargo_fuzz(args: &[&str], limit_secs: u32) -> Call {
    Call::new("cargo", &[&["fuzz"], args].concat(), limit_secs).env("RUSTC_BOOTSTRAP", "1")
}

/// The targets that there are.
fn targets() -> Result<Vec<String>, String> {
    let files = tree::files()?;
    let name = |path: &String| path.strip_prefix("fuzz/fuzz_targets/")?.strip_suffix(".rs").map(str::to_owned);
    Ok(files.iter().filter_map(name).collect())
}

fn parse(args: &[String], known: &[String]) -> Result<Options, String> {
    let mut options = Options { minutes: DEFAULT_MINUTES, jobs: 1, targets: Vec::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = |max: u32| {
            let text = args.next().map_or("", String::as_str);
            let number = text.parse().ok().filter(|number| (1..=max).contains(number));
            number.ok_or_else(|| format!("{arg} takes a number from 1 to {max}, not {text:?}"))
        };
        match arg.as_str() {
            "--minutes" => options.minutes = number(MAX_MINUTES)?,
            "--jobs" => options.jobs = number(MAX_JOBS)?,
            target if !known.iter().any(|known| known == target) => {
                return Err(format!("there is no target {target:?}; the targets are {}", known.join(", ")));
            }
            target if options.targets.iter().any(|one| one == target) => {}
            target => options.targets.push(target.to_owned()),
        }
    }
    if options.targets.is_empty() {
        options.targets = known.to_vec();
    }
    Ok(options)
}

/// Reads libFuzzer's log: `#524288 pulse cov: 512 ft: 2041 corp: 300/12Kb lim: 4096 exec/s: 43690 rss: 450Mb`,
/// `stat::number_of_executed_units: 123`, `…Test unit written to FILE`.
fn tally(log: &str) -> Tally {
    let mut tally = Tally::default();
    for line in log.lines() {
        let after = |word: &str| line.split_once(word).map(|(_, rest)| rest.trim_start());
        let number = |word: &str| after(word)?.split_whitespace().next()?.parse::<u64>().ok();
        if line.starts_with('#') {
            tally.runs = number("#").unwrap_or(tally.runs);
            tally.coverage = number("cov: ").unwrap_or(tally.coverage);
            tally.runs_per_second = number("exec/s: ").unwrap_or(tally.runs_per_second);
        }
        tally.runs = number("stat::number_of_executed_units:").unwrap_or(tally.runs);
        tally.runs_per_second = number("stat::average_exec_per_sec:").unwrap_or(tally.runs_per_second);
        tally.findings.extend(after("Test unit written to ").map(str::to_owned));
    }
    tally
}

/// What the log says of a finding.
fn finding(log: &str) -> String {
    let starts = |line: &&str| ["panicked at", "ERROR: ", "ALARM: "].iter().any(|word| line.contains(word));
    let lines: Vec<&str> = log.lines().skip_while(|line| !starts(line)).take(SHOWN_LINES).collect();
    lines.join("\n")
}

fn table(rows: &[Row]) -> String {
    let mut out = format!("{:<20} {:>14} {:>10} {:>10} {:>9}\n", "target", "runs", "runs/s", "coverage", "findings");
    for Row { target, tally, failure } in rows {
        let Tally { runs, runs_per_second, coverage, findings } = tally;
        let note = if failure.is_some() && findings.is_empty() { "  FAILED" } else { "" };
        let found = findings.len();
        let _ = writeln!(out, "{target:<20} {runs:>14} {runs_per_second:>10} {coverage:>10} {found:>9}{note}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_are_read() {
        let known = words("config request_head");
        let parsed = |text: &str| parse(&words(text), &known);
        let options = |minutes, jobs, targets| Options { minutes, jobs, targets: words(targets) };
        assert_eq!(parsed(""), Ok(options(10, 1, "config request_head")));
        assert_eq!(parsed("--minutes 2 config --jobs 2 config"), Ok(options(2, 2, "config")));
        for wrong in ["--minutes", "--minutes 0", "--minutes x", "--jobs 65", "--verbose", "nothing"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_target_is_found_and_has_a_corpus() {
        let targets = targets().unwrap();
        assert!(targets.len() >= 5, "{targets:?}");
        for target in targets {
            assert!(tree::root().join(format!("fuzz/corpus/{target}")).is_dir(), "{target}");
        }
    }

    #[test]
    fn logs_are_read() {
        let log = "INFO: seed corpus: files: 3\n#4\tINITED cov: 11 ft: 20 corp: 3/9b exec/s: 0 rss: 40Mb\n\
                   #4096\tpulse  cov: 512 ft: 2041 corp: 300/12Kb lim: 80 exec/s: 2048 rss: 60Mb\n";
        let mut expected = Tally { runs: 4096, runs_per_second: 2048, coverage: 512, findings: Vec::new() };
        assert_eq!(tally(log), expected);
        let end = format!("{log}stat::number_of_executed_units: 5000\nstat::average_exec_per_sec:     1000\n");
        (expected.runs, expected.runs_per_second) = (5000, 1000);
        assert_eq!(tally(&end), expected);
        let broken = format!(
            "{end}thread '<unnamed>' panicked at a.rs:1:1:\nno\n\
             artifact_prefix='fuzz/artifacts/a/'; Test unit written to fuzz/artifacts/a/crash-1\n"
        );
        expected.findings.push("fuzz/artifacts/a/crash-1".to_owned());
        assert_eq!(tally(&broken), expected);
        assert!(finding(&broken).starts_with("thread '<unnamed>' panicked at a.rs:1:1:\nno\n"));
    }
}
