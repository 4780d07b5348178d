//! The formulas beside a simulated line: seeded, in virtual time, first come, first served.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use weir_core::hash::Rng;

use super::*;

/// Times with mean 1 and a squared coefficient of variation.
#[derive(Clone, Copy)]
enum Times {
    Equal,
    /// The sum of so many exponential ones: scv 1 / n.
    Erlang(u32),
    Exponential,
    /// Of two kinds, balanced means; scv above 1.
    TwoKinds(f64),
    /// e to a normal one; scv above 0.
    LogNormal(f64),
}

impl Times {
    fn scv(self) -> f64 {
        match self {
            Self::Equal => 0.0,
            Self::Erlang(stages) => 1.0 / f64::from(stages),
            Self::Exponential => 1.0,
            Self::TwoKinds(scv) | Self::LogNormal(scv) => scv,
        }
    }

    fn next(self, rng: &mut Rng) -> f64 {
        let mut uniform = || ((rng.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        match self {
            Self::Equal => 1.0,
            Self::Erlang(stages) => (0..stages).map(|_| -uniform().ln()).sum::<f64>() / f64::from(stages),
            Self::Exponential => -uniform().ln(),
            Self::TwoKinds(scv) => {
                let first = f64::midpoint(1.0, ((scv - 1.0) / (scv + 1.0)).sqrt());
                let share = if uniform() < first { first } else { 1.0 - first };
                -uniform().ln() / (2.0 * share)
            }
            Self::LogNormal(scv) => {
                let variance = (scv + 1.0).ln();
                let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
                (variance.sqrt() * normal - variance / 2.0).exp()
            }
        }
    }
}

/// A time in nanoseconds: a heap needs an order.
fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// The waits of `count` callers, sorted, in seconds; the first tenth is thrown away.
fn waits(size: u32, rate: f64, hold: f64, arrivals: Times, holds: Times, count: u32, seed: u64) -> Vec<f64> {
    let mut rng = Rng::new(seed);
    // When each connection is free again. The line is first come, first served: the next in it gets the earliest.
    let mut free: BinaryHeap<Reverse<u64>> = (0..size).map(|_| Reverse(0)).collect();
    let (mut now, mut waits) = (0.0, Vec::new());
    for caller in 0..count {
        now += arrivals.next(&mut rng) / rate;
        let arrived = nanos(now);
        let mut earliest = free.peek_mut().unwrap();
        let begin = arrived.max(earliest.0);
        *earliest = Reverse(begin + nanos(hold * holds.next(&mut rng)));
        if caller >= count / 10 {
            waits.push((begin - arrived) as f64 / 1e9);
        }
    }
    waits.sort_by(f64::total_cmp);
    waits
}

/// Mean, p99 and the share that waits, in a simulation with these holds and arrivals and by the formulas.
fn both(size: u32, rate: f64, hold_ms: u64, arrivals: Times, holds: Times) -> [(f64, f64); 3] {
    let load = Load::new(rate, Duration::from_millis(hold_ms)).unwrap().with_scv(arrivals.scv(), holds.scv()).unwrap();
    let forecast = load.at(size).unwrap();
    let seen = waits(size, rate, load.hold().as_secs_f64(), arrivals, holds, 600_000, u64::from(size) * 31 + hold_ms);
    let mean = seen.iter().sum::<f64>() / seen.len() as f64;
    let p99 = seen[seen.len() * 99 / 100];
    let waiting = seen.iter().filter(|wait| **wait > 0.0).count() as f64 / seen.len() as f64;
    println!(
        "{size} at {:.0} %, scv {} and {}: mean {:.3} ms, forecast {:.3}; p99 {:.3}, {:.3}; waits {waiting:.4}, {:.4}",
        forecast.utilisation() * 100.0,
        arrivals.scv(),
        holds.scv(),
        mean * 1e3,
        forecast.mean_wait().as_secs_f64() * 1e3,
        p99 * 1e3,
        forecast.wait(P99).as_secs_f64() * 1e3,
        forecast.waiting(),
    );
    [(mean, forecast.mean_wait().as_secs_f64()), (p99, forecast.wait(P99).as_secs_f64()), (waiting, forecast.waiting())]
}

/// Within `share` of the simulation.
#[track_caller]
fn near((seen, forecast): (f64, f64), share: f64) {
    assert!((forecast - seen).abs() <= share * seen, "simulated {seen}, forecast {forecast}");
}

#[test]
fn exact_where_theory_is_exact() {
    for (size, rate) in [(1, 70.0), (2, 160.0), (10, 800.0), (10, 950.0), (50, 4_700.0), (20, 1_500.0)] {
        let [mean, p99, waiting] = both(size, rate, 10, Times::Exponential, Times::Exponential);
        near(mean, 0.12);
        near(p99, 0.12);
        near(waiting, 0.05);
    }
}

#[test]
fn close_with_other_hold_times() {
    for holds in [Times::Equal, Times::Erlang(4), Times::TwoKinds(4.0), Times::LogNormal(2.0)] {
        for (size, rate) in [(4, 340.0), (10, 850.0), (20, 1_800.0)] {
            let [mean, p99, waiting] = both(size, rate, 10, Times::Exponential, holds);
            near(mean, 0.25);
            near(p99, 0.30);
            near(waiting, 0.15);
        }
    }
}

#[test]
fn close_with_other_arrivals() {
    for (arrivals, holds) in [
        (Times::TwoKinds(4.0), Times::Exponential),
        (Times::TwoKinds(4.0), Times::LogNormal(2.0)),
        (Times::Erlang(2), Times::Exponential),
    ] {
        for (size, rate) in [(4, 360.0), (10, 900.0)] {
            let [mean, p99, waiting] = both(size, rate, 10, arrivals, holds);
            near(mean, 0.25);
            near(p99, 0.25);
            near(waiting, 0.15);
        }
    }
}

/// What `smallest` proposes keeps the wait in the simulation too, and is at most two connections too many.
#[test]
fn the_proposed_size_does_what_it_says() {
    let poisson = Times::Exponential;
    for (rate, hold_ms, wait_ms, arrivals, holds) in [
        (1_000.0, 10, 1, poisson, Times::Exponential),
        (1_000.0, 10, 10, poisson, Times::Exponential),
        (200.0, 25, 5, poisson, Times::Exponential),
        (5_000.0, 4, 1, poisson, Times::Exponential),
        (1_000.0, 10, 1, poisson, Times::LogNormal(2.0)),
        (1_000.0, 10, 10, poisson, Times::LogNormal(8.0)),
        (1_000.0, 10, 30, poisson, Times::TwoKinds(4.0)),
        (1_000.0, 10, 1, poisson, Times::Equal),
        (1_000.0, 10, 1, Times::TwoKinds(4.0), Times::Exponential),
        (1_000.0, 10, 10, Times::TwoKinds(4.0), Times::LogNormal(2.0)),
        (1_000.0, 10, 1, Times::TwoKinds(2.0), Times::Exponential),
        (1_000.0, 10, 1, Times::Erlang(2), Times::Exponential),
    ] {
        let wait = Duration::from_millis(wait_ms);
        let load = Load::new(rate, Duration::from_millis(hold_ms)).unwrap();
        let load = load.with_scv(arrivals.scv(), holds.scv()).unwrap();
        let found = load.smallest(P99, wait).unwrap().size();
        let late = |size: u32| {
            let waits = waits(size, rate, hold_ms as f64 / 1e3, arrivals, holds, 400_000, 7);
            waits.iter().filter(|seen| **seen > wait.as_secs_f64()).count() as f64 / waits.len() as f64
        };
        let (here, three_less) = (late(found), late(found - 3));
        let what = format!("{rate}/s, scv {} and {}, {wait:?}: {found}", arrivals.scv(), holds.scv());
        assert!(here < 0.013, "{what}: {here} are late");
        assert!(three_less > 0.009, "{what}: with three less only {three_less} are late");
    }
}
