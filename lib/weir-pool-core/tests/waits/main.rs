//! How long callers of two pools under a budget wait, beside every fixed split of the same connections under the same arrivals,
//! in virtual time.
//!
//! The table of `docs/concept/budget.md` is printed by
//! `cargo test --release -p weir-pool-core --test waits -- --ignored --nocapture`.

mod pool;
mod world;

use std::time::Duration;

use weir_core::Instant;

use world::{TOTAL, Uses, World, callers};

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
    fn add(&mut self, world: &World, plan: Plan) {
        for (came, wait) in world.pools.iter().flat_map(|pool| &pool.waits) {
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
    waits.get((waits.len() * permille / 1_000).min(waits.len().saturating_sub(1))).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
}

fn loads(busy: f64, uses: Uses, plan: Plan, seed: u64) -> [Vec<pool::Caller>; 2] {
    let (few, many) = (busy / 4.0, busy * 3.0 / 4.0);
    let of = |seed, before, after| callers(seed, uses, &[(at(plan.shift), before), (at(plan.end), after)]);
    [of(seed * 2, few, many), of(seed * 2 + 1, many, few)]
}

#[test]
#[ignore = "prints a table"]
fn table() {
    let plan = Plan { from: 20, shift: 60, end: 103 };
    let seeds = std::env::var("SEEDS").map_or(20, |seeds| seeds.parse().unwrap());
    let millis = Duration::from_millis;
    for (percent, uses) in [
        (75, Uses::Fixed(millis(20))),
        (75, Uses::Exponential(millis(20))),
        (90, Uses::Fixed(millis(20))),
        (90, Uses::Exponential(millis(20))),
    ] {
        let busy = f64::from(TOTAL) * f64::from(percent) / 100.0;
        let mut budget = Waits::default();
        let (mut changes, mut opened, mut followed, mut worst) = (0, 0, Vec::new(), Vec::new());
        let mut few_shares = [0_u32; 41];
        for seed in 0..seeds {
            let mut world = World::local(loads(busy, uses, plan, seed), seed);
            world.run(at(plan.from));
            let before = world.pools[0].opened() + world.pools[1].opened();
            world.run(at(plan.shift));
            opened += world.pools[0].opened() + world.pools[1].opened() - before;
            world.run(at(plan.end));
            assert!(world.most_open <= TOTAL);
            budget.add(&world, plan);
            let steady = |when: Instant| (at(plan.from)..at(plan.shift)).contains(&when);
            changes += world.changes.iter().filter(|(when, _)| steady(*when)).count();
            let mut last = (at(0), [0, 0]);
            for change in &world.changes {
                let (from, to) = (last.0.max(at(plan.from)), change.0.min(at(plan.shift)));
                few_shares[last.1[0] as usize] += to.since(from).as_millis() as u32;
                last = *change;
            }
            let follow = world.changes.iter().find(|(when, shares)| *when >= at(plan.shift) && shares[0] >= 27);
            followed.push(follow.map_or(Duration::MAX, |(when, _)| when.since(at(plan.shift))));
            let waits = world.pools.iter().flat_map(|pool| &pool.waits);
            worst.push(waits.filter(|(came, _)| *came >= at(plan.shift)).map(|(_, wait)| *wait).max().unwrap());
        }
        println!("\n{percent} % of {TOTAL}, {uses:?}, {seeds} seeds");
        let minutes = (plan.shift - plan.from) as f64 * seeds as f64 / 60.0;
        println!(
            "budget: {:.1} changes and {:.1} connects a minute; followed in {:.0} ms (median), {:.0} (worst); longest wait after the shift {:.0} ms (median), {:.0} (worst)",
            changes as f64 / minutes,
            opened as f64 / minutes,
            quantile(&mut followed, 500),
            quantile(&mut followed, 1000),
            quantile(&mut worst, 500),
            quantile(&mut worst, 1000),
        );
        let total: u32 = few_shares.iter().sum();
        let shares: Vec<_> = (0..=40).filter(|share| few_shares[*share] * 200 > total).map(|share| format!("{share}: {} %", few_shares[share] * 100 / total)).collect();
        println!("shares of the small one before the shift: {shares:?}");
        let p99 = |waits: &mut Waits| [0, 1, 2].map(|phase: usize| quantile(&mut waits.phases[phase], 990));
        let ours = p99(&mut budget);
        let all = quantile(&mut budget.all, 990);
        println!("{:>8} {:7.2} {:7.2} {:7.2} all {all:.2} max {:.0}", "budget", ours[0], ours[1], ours[2], quantile(&mut budget.all, 1000));
        let mut best = [f64::MAX; 3];
        for few in 9..=13 {
            // The best of each phase: it starts with the split that is right for it.
            let mut fixed = Waits::default();
            for seed in 0..seeds {
                let callers = loads(busy, uses, plan, seed);
                let mut world = World::fixed([few, TOTAL - few], callers.clone(), seed);
                world.run(at(plan.shift));
                fixed.add(&world, Plan { end: plan.shift, ..plan });
                let after = callers.map(|callers| callers.into_iter().filter(|caller| caller.at >= at(plan.shift)).collect());
                let mut world = World::fixed([TOTAL - few, few], after, seed);
                world.run(at(plan.end));
                fixed.add(&world, plan);
            }
            let p99 = p99(&mut fixed);
            println!("{few:>5}:{} {:7.2} {:7.2} {:7.2}", TOTAL - few, p99[0], p99[1], p99[2]);
            best = [0, 1, 2].map(|phase: usize| best[phase].min(p99[phase]));
        }
        println!("{:>8} {:7.3} {:7.3} {:7.3}", "ratio", ours[0] / best[0], ours[1] / best[1], ours[2] / best[2]);
        let mut whole = f64::MAX;
        for few in [15, 18, 20, 22, 25] {
            let mut fixed = Waits::default();
            for seed in 0..seeds.min(5) {
                let mut world = World::fixed([few, TOTAL - few], loads(busy, uses, plan, seed), seed);
                world.run(at(plan.end));
                fixed.add(&world, plan);
            }
            whole = whole.min(quantile(&mut fixed.all, 990));
        }
        println!("one split for the whole run: at best {whole:.2} ms; budget {:.3} of it", all / whole);
    }
}
