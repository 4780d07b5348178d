//! How long callers of two pools under a budget wait, beside every fixed split of the same connections under the same arrivals,
//! in virtual time.
//!
//! The table of `docs/concept/budget.md` is printed by
//! `cargo test --release -p weir-pool-core --test waits -- --ignored --nocapture`.
#![allow(clippy::print_stdout, reason = "tables for people")]

mod pool;
mod world;

use std::time::Duration;

use weir_core::Instant;

use world::{TOTAL, Uses, World, callers, fixed};

/// When the load shifts, and the end.
#[derive(Clone, Copy)]
struct Plan {
    /// From here on the first phase is measured.
    from: u64,
    shift: u64,
    end: u64,
}

/// Shares are to have followed so many seconds after the shift.
const FOLLOW: u64 = 3;

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

/// Waits of a world, by phase: before the shift, the whole time after it, and after shares have followed.
#[derive(Clone, Default)]
struct Waits {
    phases: [Vec<Duration>; 3],
    all: Vec<Duration>,
}

impl Waits {
    fn add(&mut self, waits: &[(Instant, Duration)], plan: Plan) {
        for (came, wait) in waits {
            if *came < at(plan.from) {
                continue;
            }
            self.all.push(*wait);
            if *came < at(plan.shift) {
                self.phases[0].push(*wait);
            } else {
                self.phases[1].push(*wait);
                if *came >= at(plan.shift + FOLLOW) {
                    self.phases[2].push(*wait);
                }
            }
        }
    }
}

/// In milliseconds.
fn quantile(waits: &mut [Duration], permille: usize) -> f64 {
    waits.sort_unstable();
    waits
        .get((waits.len() * permille / 1_000).min(waits.len().saturating_sub(1)))
        .map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
}

fn loads(busy: f64, uses: Uses, plan: Plan, seed: u64) -> [Vec<pool::Caller>; 2] {
    let (few, many) = (busy / 4.0, busy * 3.0 / 4.0);
    let of = |seed, before, after| callers(seed, uses, &[(at(plan.shift), before), (at(plan.end), after)]);
    [of(seed * 2, few, many), of(seed * 2 + 1, many, few)]
}

/// Shares per seed, and what became of them.
#[derive(Default)]
struct Seen {
    waits: Waits,
    /// From the shift on.
    followed: Vec<Duration>,
    longest: Vec<Duration>,
    /// Before the shift, in all seeds.
    changes: usize,
    connects: u64,
    open_nanos: u64,
    seconds: u64,
}

impl Seen {
    fn run(&mut self, mut world: World, plan: Plan) {
        let opened = |world: &World| world.pools.iter().map(pool::Pool::opened).sum::<u64>();
        world.run(at(plan.from));
        let before = (opened(&world), world.open_nanos);
        world.run(at(plan.shift));
        self.connects += opened(&world) - before.0;
        self.open_nanos += world.open_nanos - before.1;
        self.seconds += plan.shift - plan.from;
        world.run(at(plan.end));
        assert!(world.most_open <= TOTAL, "{}", world.most_open);
        for pool in &world.pools {
            self.waits.add(&pool.waits, plan);
        }
        let steady = at(plan.from)..at(plan.shift);
        self.changes += world.changes.iter().filter(|(when, _)| steady.contains(when)).count();
        let follow = world.changes.iter().find(|(when, shares)| *when >= at(plan.shift) && shares[0] >= 27);
        self.followed.push(follow.map_or(Duration::MAX, |(when, _)| when.since(at(plan.shift))));
        let waits = world.pools.iter().flat_map(|pool| &pool.waits);
        let longest = waits.filter(|(came, _)| *came >= at(plan.shift)).map(|(_, wait)| *wait).max();
        self.longest.push(longest.unwrap_or_default());
    }

    fn per_minute(&self, count: f64) -> f64 {
        count * 60.0 / self.seconds as f64
    }

    fn p99(&mut self) -> [f64; 3] {
        [0, 1, 2].map(|phase: usize| quantile(&mut self.waits.phases[phase], 990))
    }

    fn print(&mut self, name: &str) {
        let p99 = self.p99();
        println!(
            "{name}: p99 {:.2} ms before, {:.2} with the shift, {:.2} after; followed in {:.0} ms (median), {:.0} (worst); longest wait \
             after the shift {:.0} ms (median), {:.0} (worst); per minute {:.1} changes of shares, {:.1} connects; {:.2} connections on average",
            p99[0],
            p99[1],
            p99[2],
            quantile(&mut self.followed, 500),
            quantile(&mut self.followed, 1_000),
            quantile(&mut self.longest, 500),
            quantile(&mut self.longest, 1_000),
            self.per_minute(self.changes as f64),
            self.per_minute(self.connects as f64),
            self.open_nanos as f64 / 1e9 / self.seconds as f64,
        );
    }
}

/// The best of each phase among these splits: each starts the phase as it is, with nothing left of another load.
fn best_fixed(
    splits: std::ops::RangeInclusive<u32>,
    busy: f64,
    uses: Uses,
    plan: Plan,
    seeds: u64,
    print: bool,
) -> [f64; 3] {
    let mut best = [f64::MAX; 3];
    for few in splits {
        let mut waits = Waits::default();
        for seed in 0..seeds {
            for (callers, before) in loads(busy, uses, plan, seed).into_iter().zip([few, TOTAL - few]) {
                let shift = callers.partition_point(|caller| caller.at < at(plan.shift));
                waits.add(&fixed(before, &callers[..shift]), plan);
                waits.add(&fixed(TOTAL - before, &callers[shift..]), plan);
            }
        }
        let p99 = [0, 1, 2].map(|phase: usize| quantile(&mut waits.phases[phase], 990));
        if print {
            println!(
                "{few:>5}:{}: p99 {:.2} ms before, {:.2} with the shift, {:.2} after",
                TOTAL - few,
                p99[0],
                p99[1],
                p99[2]
            );
        }
        best = [0, 1, 2].map(|phase: usize| best[phase].min(p99[phase]));
    }
    best
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The bar: in each phase, waits are at most a tenth longer than with the split that is best for it.
fn waits_are_those_of_the_best_split(start: impl Fn([Vec<pool::Caller>; 2], u64) -> World) {
    let plan = Plan { from: 8, shift: 16, end: 26 };
    let (uses, busy, seeds) = (Uses::Exponential(millis(80)), 0.75 * f64::from(TOTAL), 50);
    let mut seen = Seen::default();
    for seed in 0..seeds {
        seen.run(start(loads(busy, uses, plan, seed), seed), plan);
    }
    let best = best_fixed(9..=13, busy, uses, plan, seeds, false);
    seen.print("budget");
    let p99 = seen.p99();
    for phase in [0, 2] {
        let ratio = p99[phase] / best[phase];
        assert!(ratio <= 1.10, "phase {phase}: {p99:?} {best:?}: {ratio:.3}");
    }
    // Shares follow in less than 3 s, and stay.
    assert!(quantile(&mut seen.followed, 1_000) <= 3_000.0, "{:?}", seen.followed);
    // In units of uses: 200 ms where they take 20 ms.
    assert!(quantile(&mut seen.longest, 500) <= 10.0 * 80.0, "{:?}", seen.longest);
    assert!(seen.per_minute(seen.changes as f64) <= 60.0, "{} changes", seen.changes);
}

#[test]
fn within_a_process_waits_are_those_of_the_best_split() {
    waits_are_those_of_the_best_split(World::local);
}

#[test]
fn between_processes_waits_are_those_of_the_best_split() {
    waits_are_those_of_the_best_split(World::remote);
}

#[test]
#[ignore = "prints a table, in some minutes"]
fn table() {
    let plan = Plan { from: 20, shift: 60, end: 103 };
    let seeds = 50;
    for percent in [75, 90] {
        for uses in [Uses::Fixed(millis(20)), Uses::Exponential(millis(20)), Uses::Exponential(millis(200))] {
            let busy = f64::from(TOTAL) * f64::from(percent) / 100.0;
            println!("\n{percent} % of {TOTAL}, {uses:?}, {seeds} seeds");
            let (mut local, mut remote) = (Seen::default(), Seen::default());
            for seed in 0..seeds {
                local.run(World::local(loads(busy, uses, plan, seed), seed), plan);
                remote.run(World::remote(loads(busy, uses, plan, seed), seed), plan);
            }
            local.print("within a process");
            remote.print("between processes");
            let best = best_fixed(9..=13, busy, uses, plan, seeds, true);
            // A split of the whole run is fit for one of its phases at most.
            let mut whole = (f64::MAX, 0);
            for few in (5..=35).step_by(5) {
                let mut waits = Waits::default();
                for seed in 0..seeds {
                    for (callers, size) in loads(busy, uses, plan, seed).iter().zip([few, TOTAL - few]) {
                        waits.add(&fixed(size, callers), plan);
                    }
                }
                let p99 = quantile(&mut waits.all, 990);
                whole = if p99 < whole.0 { (p99, few) } else { whole };
            }
            for (name, mut seen) in [("within a process", local), ("between processes", remote)] {
                let p99 = seen.p99();
                let all = quantile(&mut seen.waits.all, 990);
                println!(
                    "{name}: {:.3} of the best split before, {:.3} with the shift, {:.3} after; whole run {all:.2} ms, {:.4} of {}:{}",
                    p99[0] / best[0],
                    p99[1] / best[1],
                    p99[2] / best[2],
                    all / whole.0,
                    whole.1,
                    TOTAL - whole.1
                );
            }
        }
    }
}
