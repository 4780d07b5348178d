//! Two processes share a role of a PostgreSQL with `CONNECTION LIMIT 40`, by a budget that `weir` grants and by fixed splits that
//! are told of the shift of the loads, one after the other:
//! `cargo build --release -p weir && cargo run --release -p weir-peers --bin postgres_budget [ROUNDS [BUSY [MILLISECONDS [fixed|exponential]]]]`
//! (3 rounds, 32 connections in use on average, uses of 20 ms that differ, if not given). A round takes eight and a half minutes. At the end the
//! grantor is killed in the middle of a shift. Prints what callers waited; fails if a bar is missed.
#![allow(clippy::print_stdout, reason = "printing is what it does")]

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime};

use weir_peers::{Member, Phase, Split, Waits};
use weir_test::{Grantor, PATIENCE, Postgres, Process, TempDir, eventually};

const TOTAL: u32 = 40;
/// Of the fixed splits, what the one with less load has.
const TOLD: std::ops::RangeInclusive<u32> = 9..=13;
/// From the start of the processes to that of the run: pools are built, shares granted.
const AHEAD: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(10);
/// A grantor that has just started grants nothing for a lease, and keeps the floors of pools that it has not heard of until this is over:
/// it has not got all connections to give before.
const FLOOR_LEASE: Duration = Duration::from_secs(20);
/// Between two looks at the server: each costs it a query.
const LOOK: Duration = Duration::from_millis(20);
/// What the server says to one connection too many.
const REFUSED: &str = "too many connections for role";

type Failure = Box<dyn std::error::Error>;

/// A grantor that grants all that it has.
fn granting() -> Grantor {
    let leases = format!("lease = \"{LEASE:?}\"\nfloor_lease = \"{FLOOR_LEASE:?}\"");
    let grantor = Grantor::run(&format!("[budget.db]\nconnections = {TOTAL}\nfloors = 2\n{leases}\n"));
    let begun = Instant::now();
    let left = || FLOOR_LEASE.saturating_sub(begun.elapsed());
    eventually(FLOOR_LEASE + PATIENCE, "it grants all", || if left().is_zero() { Ok(()) } else { Err(left()) });
    grantor
}

/// The share of the member that has less load at first; `None` while there is none.
fn share(grantor: &Grantor) -> Option<u64> {
    let budget: serde_json::Value = serde_json::from_str(&grantor.budget("db")?).ok()?;
    let members = budget["members"].as_array()?;
    let first = members.iter().find(|member| member["name"].as_str().is_some_and(|name| name.starts_with("member-0")));
    first?["share"].as_u64()
}

struct Load {
    busy: f64,
    hold_millis: u64,
    varies: bool,
}

struct Bench {
    server: Postgres,
    dir: TempDir,
    load: Load,
}

/// What was seen in a run.
#[derive(Default)]
struct Seen {
    waits: Waits,
    /// Most connections of the role, looked at every [`LOOK`].
    most: i64,
    /// Until the one with more load now has what the other had.
    followed: Option<Duration>,
    /// What the grantor had given the one with less load, and how often it was seen to be that, before the shift and after it.
    shares: [BTreeMap<u64, u32>; 2],
}

impl Bench {
    fn start(load: Load) -> Self {
        let server = Postgres::run(&["max_connections=100", "log_connections=off"]);
        server.sql(&format!("create role app login connection limit {TOTAL}"));
        Self { server, dir: TempDir::new("postgres-budget"), load }
    }

    fn refused(&self) -> usize {
        self.server.log().matches(REFUSED).count()
    }

    /// Both processes, from start to end. Meanwhile `each` is called now and then with the time since the start.
    fn run(&self, split: Split, seed: u64, mut each: impl FnMut(Duration, &mut Seen)) -> Result<Seen, Failure> {
        let start = SystemTime::now() + AHEAD;
        let url = format!("postgres://app@127.0.0.1:{}/postgres", self.server.port());
        let mut members = Vec::new();
        for which in [0, 1] {
            let member = Member {
                which,
                url: url.clone(),
                start,
                total: TOTAL,
                split,
                busy: self.load.busy,
                hold_millis: self.load.hold_millis,
                varies: self.load.varies,
                seed,
                file: self.dir.path().join(format!("waits-{which}")),
            };
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("member").arg(serde_json::to_string(&member)?);
            let process = Process::spawn(&format!("member-{which}"), command, self.dir.path());
            members.push((member, process));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (client, connection) =
            runtime.block_on(self.server.url().parse::<tokio_postgres::Config>()?.connect(tokio_postgres::NoTls))?;
        runtime.spawn(connection);
        let (mut seen, mut looked) = (Seen::default(), Instant::now());
        eventually(AHEAD + Phase::end() + PATIENCE, "the members end", || {
            if looked.elapsed() < LOOK {
                return false;
            }
            looked = Instant::now();
            let counted = client.query_one("select count(*) from pg_stat_activity where usename = 'app'", &[]);
            match runtime.block_on(counted) {
                Ok(row) => seen.most = seen.most.max(row.get(0)),
                Err(error) => seen.waits.troubles.push(format!("connections could not be counted: {error}")),
            }
            if let Ok(since) = SystemTime::now().duration_since(start) {
                each(since, &mut seen);
            }
            members.iter_mut().all(|(_, process)| !process.is_running())
        });
        for (member, process) in &mut members {
            if !process.wait_exit(PATIENCE).success() {
                return Err(process.stderr().into());
            }
            seen.waits.add(&member.file)?;
        }
        Ok(seen)
    }

    /// By the budget. How soon shares follow is seen beside it.
    fn budget(&self, grantor: &Grantor, seed: u64) -> Result<Seen, Failure> {
        let mut looked = Duration::ZERO;
        self.run(Split::Budget(grantor.port()), seed, |since, seen| {
            if since < looked + Duration::from_millis(100) {
                return;
            }
            looked = since;
            let Some(share) = share(grantor) else { return };
            let few = if since < Phase::shift() { share } else { u64::from(TOTAL).saturating_sub(share) };
            match Phase::at(since) {
                Phase::Settle | Phase::Follow => {}
                Phase::Before => *seen.shares[0].entry(few).or_default() += 1,
                Phase::After => *seen.shares[1].entry(few).or_default() += 1,
            }
            // Within a connection of what the other had.
            if let Some(since) = since.checked_sub(Phase::shift())
                && seen.followed.is_none()
                && few as f64 <= mean(&seen.shares[0]) + 1.0
            {
                seen.followed = Some(since);
            }
        })
    }
}

fn mean(shares: &BTreeMap<u64, u32>) -> f64 {
    let sum: u64 = shares.iter().map(|(share, seen)| share * u64::from(*seen)).sum();
    sum as f64 / f64::from(shares.values().sum::<u32>().max(1))
}

/// Shares, and for how much of the time they stood.
fn times(shares: &BTreeMap<u64, u32>) -> String {
    let all = f64::from(shares.values().sum::<u32>().max(1));
    let times = shares.iter().map(|(share, seen)| format!("{share} for {:.0} %", 100.0 * f64::from(*seen) / all));
    times.collect::<Vec<_>>().join(", ")
}

fn name(split: Split) -> String {
    match split {
        Split::Budget(_) => "budget".to_owned(),
        Split::Told(few) => format!("fixed {few}:{}, told of the shift", TOTAL - few),
        Split::Even => "fixed 20:20".to_owned(),
    }
}

fn say(what: &str, seen: &Seen) {
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| seen.waits.at(quantile));
    let uses: u64 = seen.waits.phases.iter().map(hdrhistogram::Histogram::len).sum();
    println!(
        "{what:30} p99 wait {:7.2} ms before, {:7.2} while shares follow, {:7.2} after; p50 {:.2}, {:.2}, {:.2}; p99.9 {:.1}, \
         {:.1}, {:.1}; {uses} uses, {} failed{}{}",
        p99[0],
        p99[1],
        p99[2],
        p50[0],
        p50[1],
        p50[2],
        p999[0],
        p999[1],
        p999[2],
        seen.waits.troubles.len(),
        if seen.most > 0 { format!(", at most {} connections", seen.most) } else { String::new() },
        seen.followed.map_or_else(String::new, |followed| format!(", followed in {followed:.1?}"))
    );
    if let [before, after] = &seen.shares
        && !before.is_empty()
    {
        println!("  shares of the one with less load: {} before, {} after", times(before), times(after));
    }
    for trouble in seen.waits.troubles.iter().take(3) {
        println!("  {trouble}");
    }
}

/// Everything; whether all bars hold.
fn bench(rounds: u64, load: Load) -> Result<bool, Failure> {
    let bench = Bench::start(load);
    let mut grantor = granting();
    let splits = TOLD.map(Split::Told).chain([Split::Even]);
    let splits: Vec<_> = [Split::Budget(grantor.port())].into_iter().chain(splits).collect();
    let mut all: BTreeMap<usize, Waits> = BTreeMap::new();
    let mut met = true;
    let mut judge = |what: String, holds: bool| {
        println!("{}: {what}", if holds { "holds" } else { "does not hold" });
        met &= holds;
    };
    for round in 0..rounds {
        for (index, split) in splits.iter().enumerate() {
            let seen = match split {
                Split::Budget(_) => bench.budget(&grantor, round + 1)?,
                _ => bench.run(*split, round + 1, |_, _| {})?,
            };
            say(&format!("{}: {}", round + 1, name(*split)), &seen);
            if index == 0 {
                let followed = seen.followed.is_some_and(|followed| followed <= Duration::from_secs(10));
                judge("shares follow within 10 s".to_owned(), followed);
                judge(format!("at most {TOTAL} connections"), seen.most <= i64::from(TOTAL));
            }
            all.entry(index).or_default().merge(&seen.waits);
        }
    }
    println!("all rounds together");
    for (index, waits) in &all {
        say(&name(splits[*index]), &Seen { waits: waits.clone(), ..Seen::default() });
    }
    let p99: Vec<_> = all.values().map(|waits| waits.at(0.99)).collect();
    if let Some((ours, fixed)) = p99.split_first() {
        for (phase, what) in [(0, "before"), (2, "after")] {
            let best = fixed.iter().map(|p99| p99[phase]).fold(f64::INFINITY, f64::min);
            let ratio = ours[phase] / best;
            judge(
                format!("{what} the shift: p99 wait {ratio:.3} of that of the best fixed split, at most 1.1"),
                ratio <= 1.1,
            );
        }
    }
    println!("the grantor is killed 2 s after the shift, and started again 15 s later");
    let (port, mut killed, mut back) = (grantor.port(), false, false);
    let seen = bench.run(Split::Budget(port), rounds + 1, |since, _| {
        if !killed && since > Phase::shift() + Duration::from_secs(2) {
            killed = true;
            grantor.kill();
        }
        if !back && since > Phase::shift() + Duration::from_secs(17) {
            back = true;
            grantor.start();
        }
    })?;
    say("killed", &seen);
    judge(format!("at most {} connections, at most {TOTAL}", seen.most), seen.most <= i64::from(TOTAL));
    judge(format!("{} callers failed, none", seen.waits.troubles.len()), seen.waits.troubles.is_empty());
    let refused = bench.refused();
    judge(format!("the server has refused {refused} connects in all runs, none"), refused == 0);
    Ok(met)
}

fn main() -> Result<ExitCode, Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest] = args.as_slice()
        && first == "member"
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(serde_json::from_str::<Member>(rest)?.run())?;
        return Ok(ExitCode::SUCCESS);
    }
    let word = |at: usize| args.get(at).map(String::as_str);
    let rounds = word(0).map_or(Ok(3), str::parse)?;
    let load = Load {
        busy: word(1).map_or(Ok(32.0), str::parse)?,
        hold_millis: word(2).map_or(Ok(20), str::parse)?,
        varies: match word(3) {
            None | Some("exponential") => true,
            Some("fixed") => false,
            Some(other) => return Err(format!("{other:?}: fixed or exponential").into()),
        },
    };
    Ok(if bench(rounds, load)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
