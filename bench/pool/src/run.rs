//! The runs: the matrix, and the scenes.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::cell::{Raw, Use};
use crate::child::{self, Server};
use crate::figures::{Figures, percentile};
use crate::options::{Options, Verb};
use crate::peers::{OURS, Peer, Runs};
use crate::place;
use crate::report::{self, Results, Row, time};
use crate::scene::{self, Down, Spike};
use crate::{Outcome, java, root};

/// What a cell may take beyond its warm-up and windows: starting, filling, reading.
const SLACK: Duration = Duration::from_secs(45);
/// What a scene may take.
const SCENE_LIMIT: Duration = Duration::from_mins(2);
/// Queries of the two spikes.
const QUERIES: [Duration; 2] = [Duration::from_millis(2), Duration::from_secs(2)];

/// Does what is asked for.
///
/// # Errors
/// If the machine lacks something, or a file cannot be written. Cells that fail are told in the tables.
pub fn run(options: &Options, args: &[String]) -> Outcome {
    let mut options = options.clone();
    if options.peers.iter().any(|peer| matches!(peer.runs, Runs::Java)) {
        java::prepare()?;
    }
    // The order of the tables.
    options.peers.sort_by_key(|peer| crate::peers::PEERS.iter().position(|row| row.name == peer.name));
    let about = about(&options, args);
    println!("{about}\n");
    match options.verb {
        Verb::Matrix => matrix(&options, &about),
        Verb::Spike => spikes(&options, &about),
        Verb::Down => downs(&options, &about),
    }
}

// === the matrix ===

fn rows(options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    for &use_of in &options.uses {
        let tasks = if use_of == Use::Alone { &[1][..] } else { &options.tasks };
        for &tasks in tasks {
            rows.extend(options.sizes.iter().map(|&size| Row { use_of, tasks, size }));
        }
    }
    rows
}

fn matrix(options: &Options, about: &str) -> Outcome {
    raise_thread_limits();
    let rows = rows(options);
    let sides = options.place.sides()?;
    if let Some(sides) = &sides {
        place::start_on(&sides.server)?;
    }
    let server = rows.iter().any(|row| row.use_of == Use::Socket).then(|| Server::start(options.delay)).transpose()?;
    let server = server.as_ref().map(|server| server.address);
    if let Some(sides) = &sides {
        place::start_on(&sides.pools)?;
    }
    let total = rows.len() * options.peers.len() * options.rounds as usize;
    let (mut done, begun) = (0, Instant::now());
    let mut results = Results::default();
    for row in rows {
        for round in 1..=options.rounds {
            let mut order = options.peers.clone();
            if round % 2 == 0 {
                order.reverse();
            }
            for peer in order {
                done += 1;
                let (use_of, Row { tasks, size, .. }) = (row.use_of.name(), row);
                eprint!(
                    "{done}/{total} {:.0} s: {use_of}, {tasks} on {size}, round {round}, {} … ",
                    begun.elapsed().as_secs_f64(),
                    peer.name
                );
                match cell(peer, row, options, server) {
                    Ok(figures) => {
                        eprintln!("{:.0} uses/s, p99 {}", figures.per_second, time(figures.p99));
                        results.add(row, peer.name, round, figures);
                    }
                    Err(why) => {
                        eprintln!("{why}");
                        results.miss(row, peer.name, why);
                    }
                }
            }
        }
    }
    println!("{}", results.verdicts());
    for (row, peer, why) in results.missing() {
        println!("no figures: {peer}, {}, {} on {}: {why}", row.use_of.name(), row.tasks, row.size);
    }
    for (name, behind, rows) in results.behind() {
        println!("{name}: {OURS} is behind in {behind} of {rows} rows");
    }
    if let Some(path) = &options.markdown {
        report::write(path, &results.page(about))?;
    }
    if let Some(path) = &options.json {
        report::write(path, &format!("{:#}\n", results.json(about)))?;
    }
    if options.write_docs { results.write_docs(about) } else { Ok(()) }
}

fn cell(peer: &Peer, row: Row, options: &Options, server: Option<SocketAddr>) -> Outcome<Figures> {
    if peer.has_threads() && row.tasks > options.threads_max {
        return Err(format!("not run: {} threads are more than --threads-max {}", row.tasks, options.threads_max));
    }
    let warm_up = if matches!(peer.runs, Runs::Java) { options.java_warm_up } else { options.warm_up };
    let server = server.filter(|_| row.use_of == Use::Socket).map_or_else(|| "-".to_owned(), |it| it.to_string());
    let args = [
        row.use_of.name().to_owned(),
        row.tasks.to_string(),
        row.size.to_string(),
        millis(warm_up),
        millis(options.window),
        server,
    ];
    let raw: Raw = ask(peer, "cell", &args, warm_up + 2 * options.window + SLACK)?;
    if raw.open != u64::from(row.size) {
        eprint!("(only {} connections are open) ", raw.open);
    }
    if raw.peak > u64::from(row.size) {
        eprint!("({} connections were open at once) ", raw.peak);
    }
    if let Some(error) = &raw.error {
        eprint!("({} errors: {error}) ", raw.errors);
    }
    Ok(Figures::of(&raw))
}

fn millis(time: Duration) -> String {
    format!("{}ms", time.as_secs_f64() * 1e3)
}

/// Runs a cell or scene in a process of its own and reads what it says.
fn ask<T: DeserializeOwned>(peer: &Peer, verb: &str, args: &[String], limit: Duration) -> Outcome<T> {
    let mut command = match peer.runs {
        Runs::Java => java::command()?,
        Runs::Rust { .. } => child::own()?,
    };
    command.arg(verb);
    if matches!(peer.runs, Runs::Rust { .. }) {
        command.arg(peer.name);
    }
    let output = child::run(peer.name, command.args(args), limit)?;
    serde_json::from_str(output.trim()).map_err(|e| format!("{}: {e} in {output:?}", peer.name))
}

/// A thread per task takes a process, in the eyes of the limits; what is started from here inherits them.
fn raise_thread_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    for resource in [Resource::Nproc, Resource::Nofile] {
        let limit = getrlimit(resource);
        // What cannot be raised shows where it is too little.
        let _ = setrlimit(resource, Rlimit { current: limit.maximum, ..limit });
    }
}

// === the scenes ===

/// Shows a scene `rounds` times for each peer: one line a round.
fn scenes<T: DeserializeOwned>(
    options: &Options,
    verb: &str,
    args: &[String],
    mut line: impl FnMut(&Peer, Outcome<T>) -> String,
) -> String {
    let mut out = String::new();
    for peer in &options.peers {
        for round in 1..=options.rounds {
            eprintln!("{verb} {}: {}, round {round}", args.join(" "), peer.name);
            let seen = ask(peer, verb, args, SCENE_LIMIT);
            if let Err(why) = &seen {
                eprintln!("{why}");
            }
            let _ = writeln!(out, "| {} | {round} | {} |", peer.name, line(peer, seen));
        }
    }
    out
}

fn nanos(time: Duration) -> f64 {
    time.as_nanos() as f64
}

fn spikes(options: &Options, about: &str) -> Outcome {
    let mut out = String::new();
    for query in QUERIES {
        let _ = writeln!(
            out,
            "Queries of {query:?}: {} callers, {} open connections, a connect takes {:?}.\n",
            scene::CALLERS,
            scene::WARM,
            scene::CONNECT
        );
        out.push_str("| pool | round | open before | all served after | by 10 × hold | wait p50 | max | opened | all open after | failed |\n");
        out.push_str(&"|---".repeat(10));
        out.push_str("|\n");
        let rows = scenes(options, "spike-of", &[millis(query)], |_, seen: Outcome<Spike>| match seen {
            Ok(spike) => spike_line(&spike),
            Err(why) => format!("{} |||||||", why.lines().next().unwrap_or_default()),
        });
        out.push_str(&rows);
        out.push('\n');
    }
    finish(options, "spike", about, out.trim_end())
}

fn spike_line(spike: &Spike) -> String {
    let waits: Vec<(u64, u64)> = spike.waits.iter().map(|&wait| (wait, 1)).collect();
    // The open connections alone need a tenth of the callers' time.
    let ideal = spike.hold as f64 * f64::from(scene::CALLERS / scene::WARM);
    format!(
        "{} | {} | {:.2} | {} | {} | {} | {} | {}",
        spike.warm,
        time(spike.served as f64),
        spike.served as f64 / ideal.max(1.0),
        time(percentile(&waits, 0.5)),
        time(percentile(&waits, 1.0)),
        spike.opened,
        spike.all_open.map_or_else(|| "–".to_owned(), |at| time(at as f64)),
        spike.failed
    )
}

fn downs(options: &Options, about: &str) -> Outcome {
    let mut out = format!(
        "| pool | round | failed within {} | later | without an answer | the slowest failed after | served again after | the error |\n{}|\n",
        time(nanos(scene::DOWN_TIMEOUT + scene::DOWN_GRACE)),
        "|---".repeat(8)
    );
    let rows = scenes(options, "down-of", &[], |_, seen: Outcome<Down>| match seen {
        Ok(down) => format!(
            "{} | {} | {} | {} | {} | {}",
            down.in_time,
            down.late,
            down.hung,
            time(down.slowest as f64),
            down.back.map_or_else(|| "not within 5 s".to_owned(), |after| time(after as f64)),
            down.error.replace('|', "/")
        ),
        Err(why) => format!("{} |||||", why.lines().next().unwrap_or_default()),
    });
    out.push_str(&rows);
    finish(options, "down", about, out.trim_end())
}

fn finish(options: &Options, name: &str, about: &str, table: &str) -> Outcome {
    println!("{table}");
    if let Some(path) = &options.markdown {
        report::write(path, &format!("{about}\n\n{table}\n"))?;
    }
    if options.write_docs { report::write_docs(name, about, table) } else { Ok(()) }
}

// === where it runs ===

/// Command, machine, commit and versions, in a line.
fn about(options: &Options, args: &[String]) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()))
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let versions: Vec<String> =
        options.peers.iter().map(|peer| format!("{} {}", peer.name, version(peer).unwrap_or_default())).collect();
    format!(
        "`cargo run --release -p bench-pool -- {}` on {cores} cores ({cpu}), Linux {}, commit {}. {}.",
        args.join(" "),
        read("/proc/sys/kernel/osrelease").trim(),
        commit(),
        versions.join(", ")
    )
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// As Cargo.lock has it; Debian's for HikariCP.
pub fn version(peer: &Peer) -> Option<String> {
    if matches!(peer.runs, Runs::Java) {
        return java::version();
    }
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).ok()?;
    let (_, rest) = lock.split_once(&format!("name = \"{}\"\nversion = \"", peer.package))?;
    Some(rest.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::PEERS;

    #[test]
    fn alone_is_one_task_whatever_is_asked_for() {
        let options = Options { tasks: vec![8, 64], sizes: vec![10, 20], ..Options::default() };
        let rows = rows(&options);
        let alone: Vec<usize> = rows.iter().filter(|row| row.use_of == Use::Alone).map(|row| row.tasks).collect();
        assert_eq!((alone, rows.len()), (vec![1, 1], 2 + 3 * 4));
    }

    #[test]
    fn the_version_of_every_rust_pool_is_known() {
        for peer in PEERS.iter().filter(|peer| matches!(peer.runs, Runs::Rust { .. })) {
            let version = version(peer).unwrap();
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{}: {version}", peer.name);
        }
    }

    #[test]
    fn a_spike_is_judged_by_what_the_open_connections_can_do() {
        let spike = Spike { warm: 5, waits: vec![1_000; 50], hold: 2_000_000, served: 23_000_000, ..Spike::default() };
        assert!(
            spike_line(&spike).starts_with("5 | 23 ms | 1.15 | 1.0 µs | 1.0 µs | 0 | – | 0"),
            "{}",
            spike_line(&spike)
        );
    }
}
