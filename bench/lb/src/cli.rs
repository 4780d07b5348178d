//! The command line of the harness.

use std::process::{Command, ExitCode};
use std::time::Duration;

use serde_json::json;

use crate::cell::{self, Times};
use crate::guard::{self, Guard};
use crate::mode::{Kind, MODES, Mode};
use crate::peer::{PEERS, Peer};
use crate::report::{self, Results};
use crate::{Outcome, home, root, setup};

const HELP: &str = "\
usage: cargo run --release -p bench-lb -- [OPTIONS]

  --peers A,B      balancers, default all
  --modes A,B      modes, default all but callgrind and syscalls
  --rounds N       rounds, default 5; every other one runs in reverse order
  --warm-up SECS   load before each window, default 2
  --window SECS    the measured window, default 5
  --quick          one round, windows of 2 s, nothing written: does everything work?
  --no-write       print only: docs/performance.md and bench/results/ stay as they are
  --list           names of balancers and modes
";

/// What is asked for.
struct Options {
    peers: Vec<&'static Peer>,
    modes: Vec<&'static Mode>,
    rounds: u32,
    times: Times,
    write: bool,
}

/// Runs the harness.
pub fn run(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        println!("peers: {}", names(PEERS.iter().map(|peer| peer.name)));
        println!("modes: {}", names(MODES.iter().map(|mode| mode.name)));
        return ExitCode::SUCCESS;
    }
    match parse(args) {
        Ok(options) => finish(guard::catch_interrupts().and_then(|()| measure(&options, args))),
        Err(message) => {
            eprintln!("{message}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// Ends a program with its outcome.
pub fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Ends a program that was called wrongly.
pub fn usage(text: &str) -> ExitCode {
    eprintln!("usage: {text}");
    ExitCode::from(2)
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(" ")
}

fn parse(args: &[String]) -> Outcome<Options> {
    let usual = |mode: &&Mode| !matches!(mode.kind, Kind::Callgrind | Kind::Syscalls { .. });
    let mut options = Options {
        peers: PEERS.iter().collect(),
        modes: MODES.iter().filter(usual).collect(),
        rounds: 5,
        times: Times { warm_up_secs: 2, window_secs: 5 },
        write: true,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().map(String::as_str).ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--peers" => options.peers = choose(value()?, PEERS, |peer| peer.name)?,
            "--modes" => options.modes = choose(value()?, MODES, |mode| mode.name)?,
            "--rounds" => options.rounds = number(arg, value()?)?,
            "--warm-up" => options.times.warm_up_secs = number(arg, value()?)?,
            "--window" => options.times.window_secs = number(arg, value()?)?,
            "--quick" => {
                (options.rounds, options.write) = (1, false);
                options.times = Times { warm_up_secs: 1, window_secs: 2 };
            }
            "--no-write" => options.write = false,
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(options)
}

fn number(name: &str, text: &str) -> Outcome<u32> {
    text.parse().ok().filter(|n| (1..=600).contains(n)).ok_or_else(|| format!("{name} takes 1 to 600, not {text:?}"))
}

fn choose<T>(list: &str, all: &'static [T], name: fn(&T) -> &'static str) -> Outcome<Vec<&'static T>> {
    let one = |wanted: &str| {
        all.iter()
            .find(|row| name(row) == wanted)
            .ok_or_else(|| format!("there is no {wanted:?}; there are: {}", names(all.iter().map(name))))
    };
    list.split(',').map(one).collect()
}

fn takes_part(peer: &Peer, mode: &Mode) -> bool {
    let fits = !peer.large_only || mode.is_large();
    match mode.kind {
        Kind::Callgrind => peer.name == "weir" || peer.name == crate::peer::YARDSTICK,
        Kind::Syscalls { .. } | Kind::Idle { .. } => fits && peer.command.is_some(),
        _ => fits,
    }
}

/// Descriptors that 5,000 clients need on both sides of a balancer, with room to spare.
const DESCRIPTORS: u64 = 20_000;

/// Raises the soft limit; the programs started from here inherit it.
fn raise_descriptor_limit() -> Outcome {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= DESCRIPTORS) {
        return Ok(());
    }
    let fail = |why: &str| format!("{DESCRIPTORS} descriptors are needed (ulimit -n): {why}");
    if limit.maximum.is_some_and(|hard| hard < DESCRIPTORS) {
        return Err(fail(&format!("the hard limit is {}", limit.maximum.unwrap_or_default())));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), ..limit }).map_err(|e| fail(&e.to_string()))
}

fn measure(options: &Options, args: &[String]) -> Outcome {
    raise_descriptor_limit()?;
    setup::prepare(&options.peers, &options.modes)?;
    let machine = machine();
    let versions = versions(&options.peers);
    println!("{machine}");
    for (name, version) in &versions {
        println!("  {name}: {version}");
    }
    let mut results = Results::default();
    let mut failures = Vec::new();
    let about = format!("`cargo run --release -p bench-lb -- {}` on {machine}, commit {}.", args.join(" "), commit());
    for mode in &options.modes {
        let peers: Vec<&Peer> = options.peers.iter().copied().filter(|peer| takes_part(peer, mode)).collect();
        for round in 1..=options.rounds {
            let mut order = peers.clone();
            if round % 2 == 0 {
                order.reverse();
            }
            for peer in order {
                eprint!("{} round {round} {} … ", mode.name, peer.name);
                match cell::run(peer, mode, options.times) {
                    Ok(figures) => {
                        eprintln!("done");
                        results.add(mode.name, peer.name, round, figures);
                    }
                    Err(message) if message == "interrupted" => return Err(message),
                    Err(message) => {
                        eprintln!("FAILED: {message}");
                        failures.push(format!("{} {} round {round}", mode.name, peer.name));
                    }
                }
            }
        }
        let names: Vec<&'static str> =
            PEERS.iter().map(|peer| peer.name).filter(|name| peers.iter().any(|peer| peer.name == *name)).collect();
        let table = results.table(mode, &names);
        println!("\n### {}\n\n{table}", mode.title);
        if options.write {
            report::write_page(mode, &about, &table)?;
        }
    }
    if options.write {
        let about = json!({"machine": machine, "commit": commit(), "args": args, "versions": versions});
        write_json(&results.json(&about))?;
    }
    if failures.is_empty() { Ok(()) } else { Err(format!("failed cells: {}", failures.join(", "))) }
}

fn write_json(json: &serde_json::Value) -> Outcome {
    let folder = root().join("bench/results");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = folder.join(format!("lb-{stamp}.json"));
    std::fs::write(&path, format!("{json:#}\n")).map_err(|e| format!("{}: {e}", path.display()))?;
    println!("raw figures: {}", path.display());
    Ok(())
}

/// One line about the machine.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.split_once(':').map(|(_, value)| value.trim().to_owned()))
            .unwrap_or_default()
    };
    let cpu = field(&read("/proc/cpuinfo"), "model name");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory_kib: u64 =
        field(&read("/proc/meminfo"), "MemTotal").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
    format!(
        "{cores} cores ({cpu}), {} GiB, Linux {}",
        memory_kib / 1_048_576,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(home()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn versions(peers: &[&Peer]) -> Vec<(&'static str, String)> {
    let folder = root().join("target");
    let of = |peer: &&Peer| -> Option<(&'static str, String)> {
        let mut guard = Guard::spawn("bench-version", &mut (peer.version)()?, &folder).ok()?;
        guard.wait(Duration::from_secs(10)).ok()?;
        let output = guard.output();
        let line = output.lines().map(str::trim).find(|line| line.chars().any(|c| c.is_ascii_digit()))?;
        // Envoy starts its line with the path it was called by.
        let line = line.split_once("version: ").map_or(line, |(_, version)| version);
        Some((peer.name, line.to_owned()))
    };
    peers.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Outcome<Options> {
        parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_and_wrong_ones_refused() {
        let quick = options("--quick --peers nginx,weir --modes syscalls").unwrap();
        assert_eq!((quick.rounds, quick.write, quick.peers.len(), quick.modes[0].name), (1, false, 2, "syscalls"));
        assert!(options("--modes nothing").is_err());
        assert!(options("--rounds 0").is_err());
        assert!(options("--window").is_err());
        assert!(options("--fast").is_err());
    }

    #[test]
    fn splicing_takes_part_only_where_bodies_are_large() {
        let splice = PEERS.iter().find(|peer| peer.large_only).unwrap();
        let taking: Vec<&str> = MODES.iter().filter(|mode| takes_part(splice, mode)).map(|mode| mode.name).collect();
        assert_eq!(taking, ["body-1m"]);
    }
}
