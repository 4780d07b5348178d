//! A pool that finds its size, and callers at twice the capacity, on a PostgreSQL that it starts itself:
//! `cargo run --release -p weir-peers --bin postgres_adaptive -- MODE [WORKLOAD [TIMES [PASSES]]]`.
//!
//! - `sweep`: throughput and time of a use by size, and the knee.
//! - `adapt`: a sweep, then the pool from 2 and from 50 connections, 60 s each; where it is in the 15 s after that, against the
//!   best static size, which is measured again before and after.
//! - `slow`: the pool from 2 for 45 s, then its statements saturate the server for 45 s.
//! - `admit`: ten connections at twice their capacity, callers at random, with a second for each; with and without admission, for uses
//!   of 5, 20 and 200 ms.
//! - `all`: all of that.
//!
//! WORKLOAD is `hot`, `contended` or `work` (all of them if not given), TIMES how often `adapt` (after its sweep) and `slow` are
//! repeated, PASSES how often the sweep tries all sizes: each time for 2 s upwards and 2 s downwards (1 if not given; a flat curve needs
//! more). Each bar is followed by `holds` or `does not hold`; the exit code is 1 if one does not.
#![allow(clippy::print_stdout, reason = "printing is what it does")]

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use weir_peers::{BOUNDS, Callers, KEEP, Overload, Second, Settled, Sweep, Workload, capacity};
use weir_pool::Adaptive;
use weir_test::Postgres as Server;

type Failure = Box<dyn Error>;

const SIZES: [u32; 16] = [2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 17, 20, 25, 35, 50];
/// Sessions that each server has room for.
const SETTINGS: [&str; 1] = ["max_connections=120"];

/// What was asked for.
struct Run {
    passes: u32,
    held: u32,
    missed: u32,
}

impl Run {
    fn judge(&mut self, what: &str, holds: bool) {
        println!("{what}: {}", if holds { "holds" } else { "does not hold" });
        *(if holds { &mut self.held } else { &mut self.missed }) += 1;
    }

    async fn sweep(&mut self, workload: Workload) -> Result<(Server, Sweep), Failure> {
        let server = Server::run(&SETTINGS);
        workload.prepare(&server);
        let callers = Callers::start(&server, workload, SIZES[0], None)?;
        let sweep = Sweep::run(&callers, &SIZES, Duration::from_secs(4), self.passes).await?;
        println!("{}: throughput by size\n{sweep}", workload.name());
        callers.end().await;
        Ok((server, sweep))
    }

    async fn adapt(&mut self, workload: Workload, times: u32) -> Result<(), Failure> {
        let (server, sweep) = self.sweep(workload).await?;
        let knee = sweep.knee(KEEP);
        for _ in 0..times {
            for from in [BOUNDS.0, BOUNDS.1] {
                let before = static_rate(&server, workload, sweep.best().0).await?;
                let callers = Callers::start(&server, workload, from, Some(Adaptive::set(BOUNDS.0..=BOUNDS.1)))?;
                callers.watch(60, say).await;
                let after = callers.watch(15, say).await;
                callers.end().await;
                let best = f64::midpoint(before, static_rate(&server, workload, sweep.best().0).await?);
                let settled = Settled::of(&after);
                let (off, share) = (settled.off(knee), settled.rate / best);
                let what = format!(
                    "{} from {from}: settled at {} (on average {:.1}), knee {knee}: {:+.0} %, within 20 %",
                    workload.name(),
                    settled.size,
                    settled.mean,
                    100.0 * off
                );
                self.judge(&what, off.abs() <= 0.2);
                let what = format!(
                    "{} from {from}: {:.1}/s, {:.1} % of the best static size ({} with {best:.1}/s), 95 % or more",
                    workload.name(),
                    settled.rate,
                    100.0 * share,
                    sweep.best().0
                );
                self.judge(&what, share >= 0.95);
            }
        }
        Ok(())
    }

    async fn slow(&mut self, workload: Workload, times: u32) -> Result<(), Failure> {
        for _ in 0..times {
            let server = Server::run(&SETTINGS);
            workload.prepare(&server);
            let callers = Callers::start(&server, workload, BOUNDS.0, Some(Adaptive::set(BOUNDS.0..=BOUNDS.1)))?;
            let before = callers.watch(45, say).await;
            println!("now the statements are slow");
            callers.set_slow(true);
            let during = callers.watch(45, say).await;
            callers.end().await;
            let largest = |seconds: &[Second]| seconds.iter().map(|second| second.size).max().unwrap_or(0);
            let (usual, most) = (largest(before.get(25..).unwrap_or_default()), largest(&during));
            let rate = |seconds: &[Second]| Settled::of(seconds.get(25..).unwrap_or_default()).rate;
            let what = format!(
                "{}: {:.1}/s, then {:.1}/s; at most {usual} connections in the 20 s before, {most} while it is slow: it does not grow",
                workload.name(),
                rate(&before),
                rate(&during)
            );
            self.judge(&what, most <= usual);
        }
        Ok(())
    }

    async fn admit(&mut self) -> Result<(), Failure> {
        let server = Server::run(&SETTINGS);
        for millis in [5, 20, 200] {
            let hold = Duration::from_millis(millis);
            let pool = weir_peers::echo_pool(&server, 10).await?;
            let capacity = capacity(&pool, hold, Duration::from_secs(5)).await;
            println!("uses of {millis} ms, 10 connections: {capacity:.1}/s");
            let overload = Overload {
                hold,
                rate: 2.0 * capacity,
                deadline: Duration::from_secs(1),
                lasts: Duration::from_secs(12),
            };
            for admission in [None, Some(weir_pool::Admission::default())] {
                pool.configure(|settings| settings.admission(admission))?;
                let outcome = overload.run(&pool, 1).await;
                let share = outcome.in_time as f64 / (capacity * overload.lasts.as_secs_f64());
                let with = if admission.is_some() { "with admission" } else { "without" };
                println!("{with}: {outcome}");
                let what = format!(
                    "uses of {millis} ms, {with}: {:.1} % of the capacity in time, 90 % or more",
                    100.0 * share
                );
                if admission.is_none() {
                    println!("{what} (no bar)");
                    continue;
                }
                self.judge(&what, share >= 0.9);
                let what = format!(
                    "uses of {millis} ms, {with}: the last refusal after {:.1} ms, within 200 ms",
                    outcome.refused_max() * 1e3
                );
                self.judge(&what, outcome.refused_max() <= 0.2);
            }
            pool.close(Duration::from_secs(5)).await.ok();
        }
        Ok(())
    }
}

/// What a static size gets done.
async fn static_rate(server: &Server, workload: Workload, size: u32) -> Result<f64, Failure> {
    let callers = Callers::start(server, workload, size, None)?;
    let rate = callers.rate_with(size, Duration::from_secs(5)).await?.rate;
    callers.end().await;
    Ok(rate)
}

fn say(number: u32, second: &Second, reason: &str) {
    let hold = second.hold.as_secs_f64() * 1e3;
    println!(
        "{number:4} s: size {:2}, settled {:2}, {:7.1}/s of {hold:6.2} ms; {reason}",
        second.size, second.settled, second.rate
    );
}

async fn run(mode: &str, workloads: &[Workload], times: u32, passes: u32) -> Result<Run, Failure> {
    let mut run = Run { passes, held: 0, missed: 0 };
    let all = mode == "all";
    if !["sweep", "adapt", "slow", "admit", "all"].contains(&mode) {
        return Err(format!("no mode {mode:?}: sweep, adapt, slow, admit or all").into());
    }
    for workload in workloads {
        if mode == "sweep" {
            run.sweep(*workload).await?;
        }
        if all || mode == "adapt" {
            run.adapt(*workload, times).await?;
        }
        if all || mode == "slow" {
            run.slow(*workload, times).await?;
        }
    }
    if all || mode == "admit" {
        run.admit().await?;
    }
    Ok(run)
}

fn main() -> Result<ExitCode, Failure> {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let workloads = match args.next() {
        None => Workload::ALL.to_vec(),
        Some(name) => {
            let known = Workload::ALL.into_iter().find(|workload| workload.name() == name);
            vec![known.ok_or_else(|| format!("no workload {name:?}: hot, contended or work"))?]
        }
    };
    let mut number = |name: &str| match args.next() {
        None => Ok(1),
        Some(text) => text
            .parse()
            .ok()
            .filter(|number| (1..=1_000).contains(number))
            .ok_or_else(|| format!("{name} is 1 to 1000, not {text:?}")),
    };
    let (times, passes) = (number("TIMES")?, number("PASSES")?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let run = runtime.block_on(run(&mode, &workloads, times, passes))?;
    println!("{} bars hold, {} do not", run.held, run.missed);
    Ok(if run.missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
