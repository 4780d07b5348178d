//! A database and its callers in virtual time: processor sharing over some processors, a wait without them (disk, network, locks)
//! per use, and speed that wobbles. Its throughput by size is known exactly (a product-form network), so the knee is, too.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;

const SEEDS: u64 = 4;

/// A database.
#[derive(Clone, Copy, Debug)]
struct Database {
    processors: f64,
    /// Seconds of a processor per use.
    work: f64,
    /// Seconds per use that need none.
    wait: f64,
    /// Each use beyond the processors makes all work this much longer.
    contention: f64,
    /// The speed is drawn anew each half second, up to this much off.
    wobble: f64,
}

impl Database {
    const fn new(processors: f64, work: f64, wait: f64) -> Self {
        Self { processors, work, wait, contention: 0.0, wobble: 0.04 }
    }

    /// Seconds of work done per second with `n` uses at the processors.
    fn speed(&self, n: f64) -> f64 {
        n.min(self.processors) / (1.0 + self.contention * (n - self.processors).max(0.0))
    }

    /// Uses a second with each number of connections, from 1, all of them in use: `G(n − 1) / G(n)`.
    fn rates(&self, max: usize) -> Vec<f64> {
        // G(n) = Σ over k at the processors of Π (work / speed(j)) × wait^(n − k) / (n − k)!, scaled as it grows.
        let mut at_processors = vec![1.0_f64];
        for k in 1..=max {
            at_processors.push(at_processors[k - 1] * self.work / self.speed(k as f64));
        }
        let mut waiting = vec![1.0_f64];
        for k in 1..=max {
            waiting.push(waiting[k - 1] * self.wait / k as f64);
        }
        let all = |n: usize| -> f64 { (0..=n).map(|k| at_processors[k] * waiting[n - k]).sum() };
        (1..=max).map(|n| all(n - 1) / all(n)).collect()
    }

    fn knee(&self, max: usize) -> (u32, f64) {
        let rates = self.rates(max);
        let best = rates.iter().copied().fold(0.0, f64::max);
        let at = rates.iter().position(|rate| *rate >= 0.97 * best).unwrap();
        (at as u32 + 1, best)
    }
}

#[derive(Clone, Copy, Debug)]
enum Load {
    /// This many callers who ask again at once.
    Callers(u32),
    /// This many arrivals a second, at random.
    Arrivals(f64),
}

struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

/// Nanoseconds.
type Nanos = u64;

fn nanos(secs: f64) -> Nanos {
    (secs * 1e9) as Nanos
}

struct World {
    database: Database,
    load: Load,
    /// A share of uses takes this many times the work, and this many seconds more.
    slow: Option<(f64, f64, f64)>,
    random: Random,
    now: Nanos,
    size: u32,
    busy: u32,
    line: VecDeque<Nanos>,
    /// Work that each use at the processors has been given, and what it had then when it is done; with when it began.
    given: f64,
    working: BinaryHeap<Reverse<(Nanos, Nanos)>>,
    waiting: BinaryHeap<Reverse<(Nanos, Nanos)>>,
    factor: f64,
    factor_until: Nanos,
    next_arrival: Nanos,
    seen: Interval,
    busy_nanos: u128,
    callers: u32,
    /// Of each interval: size, settled size, uses.
    history: Vec<(u32, u32, u64)>,
}

const INTERVAL: Duration = Duration::from_millis(250);

impl World {
    fn new(database: Database, load: Load, size: u32, seed: u64) -> Self {
        Self {
            database,
            load,
            slow: None,
            random: Random(seed.wrapping_mul(7919) + 17),
            now: 0,
            size,
            busy: 0,
            line: VecDeque::new(),
            given: 0.0,
            working: BinaryHeap::new(),
            waiting: BinaryHeap::new(),
            factor: 1.0,
            factor_until: 0,
            next_arrival: 0,
            seen: Interval::default(),
            busy_nanos: 0,
            callers: 0,
            history: Vec::new(),
        }
    }

    fn run(&mut self, sizer: &mut Sizer, secs: f64) {
        let until = self.now + nanos(secs);
        while self.now < until {
            self.interval(self.now + INTERVAL.as_nanos() as Nanos);
            let secs = INTERVAL.as_secs_f64();
            let seen = Interval {
                lasted: INTERVAL,
                busy: self.busy_nanos as f64 / 1e9 / secs,
                line: self.line.len() as u32,
                size: self.size,
                ..self.seen
            };
            self.seen = Interval::default();
            self.busy_nanos = 0;
            let proposal = sizer.handle_interval(&seen);
            if std::option_env!("TRACE").is_some() {
                println!(
                    "{:6.1} size {:2} busy {:5.1} line {:3} X {:6.0} H {:6.2} -> {proposal} [{}]",
                    self.now as f64 / 1e9,
                    self.size,
                    seen.busy,
                    seen.line,
                    seen.uses as f64 / secs,
                    seen.held.as_secs_f64() / seen.uses.max(1) as f64 * 1e3,
                    proposal.settled
                );
            }
            self.history.push((self.size, proposal.settled, seen.uses));
            self.size = proposal.size;
            self.lend();
        }
    }

    fn interval(&mut self, until: Nanos) {
        match self.load {
            Load::Callers(callers) => {
                while self.callers < callers {
                    self.callers += 1;
                    self.arrive();
                }
            }
            Load::Arrivals(rate) if self.next_arrival < self.now => {
                self.next_arrival = self.now + nanos(self.random.exponential() / rate);
            }
            Load::Arrivals(_) => {}
        }
        self.lend();
        while self.now < until {
            if self.now >= self.factor_until {
                self.factor = 1.0 + self.database.wobble * (2.0 * self.random.unit() - 1.0);
                self.factor_until = self.now + nanos(0.5);
            }
            let at_work = self.working.len() as f64;
            let each = if at_work > 0.0 { self.factor * self.database.speed(at_work) / at_work } else { 0.0 };
            let done = self.working.peek().map_or(Nanos::MAX, |Reverse((work, _))| {
                self.now + nanos((*work as f64 / 1e9 - self.given).max(0.0) / each) + 1
            });
            let waited = self.waiting.peek().map_or(Nanos::MAX, |Reverse((at, _))| *at);
            let arrival = if matches!(self.load, Load::Arrivals(_)) { self.next_arrival } else { Nanos::MAX };
            let next = done.min(waited).min(arrival).min(until).min(self.factor_until).max(self.now);
            self.busy_nanos += u128::from(self.busy) * u128::from(next - self.now);
            self.given += (next - self.now) as f64 / 1e9 * each;
            self.now = next;
            if next == done {
                let Some(Reverse((_, began))) = self.working.pop() else { continue };
                self.end(began);
            } else if next == waited {
                let Some(Reverse((_, began))) = self.waiting.pop() else { continue };
                let times =
                    self.slow.filter(|(share, ..)| self.random.unit() < *share).map_or(1.0, |(_, times, _)| times);
                let work = self.database.work * times * self.random.exponential();
                self.working.push(Reverse((nanos(self.given + work), began)));
            } else if next == arrival {
                if let Load::Arrivals(rate) = self.load {
                    self.next_arrival = self.now + nanos(self.random.exponential() / rate);
                }
                self.arrive();
                self.lend();
            }
        }
    }

    fn arrive(&mut self) {
        self.seen.arrivals += 1;
        self.line.push_back(self.now);
    }

    fn lend(&mut self) {
        while self.busy < self.size
            && let Some(asked) = self.line.pop_front()
        {
            self.seen.waited += Duration::from_nanos(self.now - asked);
            self.busy += 1;
            let more = self.slow.filter(|(share, ..)| self.random.unit() < *share).map_or(0.0, |(_, _, more)| more);
            let wait = self.database.wait * self.random.exponential() + more;
            self.waiting.push(Reverse((self.now + nanos(wait), self.now)));
        }
    }

    fn end(&mut self, began: Nanos) {
        self.busy -= 1;
        self.seen.uses += 1;
        self.seen.held += Duration::from_nanos(self.now - began);
        if let Load::Callers(callers) = self.load {
            if self.callers > callers {
                self.callers -= 1;
            } else {
                self.arrive();
            }
        }
        // Patience has an end.
        while self.line.front().is_some_and(|asked| self.now - asked > nanos(3.0)) {
            self.line.pop_front();
            self.seen.timeouts += 1;
            self.seen.waited += Duration::from_secs(3);
        }
        self.lend();
    }

    /// Uses a second in the last `secs`.
    fn rate(&self, secs: f64) -> f64 {
        let intervals = (secs / INTERVAL.as_secs_f64()) as usize;
        let uses: u64 = self.history.iter().rev().take(intervals).map(|(.., uses)| uses).sum();
        uses as f64 / secs
    }

    fn last(&self, secs: f64) -> impl Iterator<Item = (u32, u32)> {
        let intervals = (secs / INTERVAL.as_secs_f64()) as usize;
        self.history.iter().rev().take(intervals).map(|&(size, settled, _)| (size, settled))
    }
}

/// Within 20 %, or one connection.
fn is_near(size: u32, knee: u32) -> bool {
    let allowed = (f64::from(knee) * 0.2).max(1.0);
    (f64::from(size) - f64::from(knee)).abs() <= allowed
}

fn databases() -> Vec<Database> {
    vec![
        Database::new(2.0, 0.002, 0.0),
        Database::new(4.0, 0.004, 0.0),
        Database::new(2.0, 0.002, 0.003),
        Database::new(8.0, 0.008, 0.002),
        Database::new(2.0, 0.002, 0.008),
        Database::new(16.0, 0.016, 0.004),
        Database::new(4.0, 0.004, 0.020),
        Database::new(32.0, 0.030, 0.0),
        Database { contention: 0.02, ..Database::new(8.0, 0.008, 0.002) },
        Database { contention: 0.10, ..Database::new(4.0, 0.004, 0.006) },
    ]
}

#[test]
fn from_both_ends_it_finds_the_knee_within_60_s_and_stays() {
    let (mut runs, mut misses) = (0, Vec::new());
    for database in databases() {
        let (knee, best) = database.knee(50);
        for start in [2, 50] {
            for seed in 0..SEEDS {
                runs += 1;
                let mut sizer = Sizer::new(SizerParams::new(1, 50), start);
                let mut world = World::new(database, Load::Callers(120), start, seed);
                world.run(&mut sizer, 60.0);
                let settled = sizer.proposal().settled;
                world.run(&mut sizer, 60.0);
                let share = world.rate(60.0) / best;
                let intervals = world.last(60.0).count();
                let stays = world.last(60.0).filter(|(_, settled)| is_near(*settled, knee)).count();
                let sizes = world.last(60.0).filter(|(size, _)| is_near(*size, knee)).count();
                let text = format!(
                    "{database:?} from {start}, seed {seed}: knee {knee}, settled {settled}, {share:.3} of the best, {stays} and {sizes} of \
                     {intervals} intervals near it"
                );
                // None of them is far off …
                let off = (f64::from(settled) / f64::from(knee)).ln().abs();
                assert!(share > 0.9 && (off < 0.45 || settled.abs_diff(knee) <= 1), "{text}");
                // … and nearly all of them are where they ought to be, in spite of the noise.
                if !(is_near(settled, knee)
                    && share >= 0.95
                    && stays * 100 >= intervals * 90
                    && sizes * 100 >= intervals * 85)
                {
                    misses.push(text);
                }
            }
        }
    }
    println!("{} of {runs} runs missed: {misses:#?}", misses.len());
    assert!(misses.len() * 100 <= runs * 10, "{} of {runs} runs: {misses:#?}", misses.len());
}

#[test]
fn under_a_light_load_it_takes_what_is_needed_and_shrinks_slowly() {
    for seed in 0..SEEDS {
        let database = Database::new(8.0, 0.008, 0.002);
        let mut sizer = Sizer::new(SizerParams::new(2, 50), 50);
        // 400 a second of about 10 ms: 4 in use.
        let mut world = World::new(database, Load::Arrivals(400.0), 50, seed);
        world.run(&mut sizer, 20.0);
        let soon = sizer.proposal().size;
        assert!((20..50).contains(&soon), "seed {seed}: slowly, {soon}");
        world.run(&mut sizer, 130.0);
        let size = sizer.proposal().size;
        assert!((6..=14).contains(&size), "seed {seed}: {size}");
        // The load grows to three quarters of what the database can do.
        world.load = Load::Arrivals(750.0);
        world.run(&mut sizer, 30.0);
        let size = sizer.proposal().size;
        assert!((9..=22).contains(&size), "seed {seed}: {size}, {}", sizer.proposal());
        assert!(world.rate(10.0) > 700.0, "seed {seed}");
        // It ends.
        world.load = Load::Arrivals(1.0);
        world.run(&mut sizer, 200.0);
        let size = sizer.proposal().size;
        assert!(size <= 4, "seed {seed}: {size}");
    }
}

#[test]
fn a_slow_statement_does_not_make_it_grow() {
    // Waits for locks, and statements that eat the processors; found in a rush, and in a calm time.
    let kinds = [(0.05, 1.0, 0.3), (0.2, 1.0, 0.2), (0.1, 20.0, 0.0), (1.0, 3.0, 0.0)];
    for (slow, load) in kinds.into_iter().flat_map(|slow| [(slow, Load::Callers(120)), (slow, Load::Arrivals(700.0))]) {
        for seed in 0..SEEDS {
            let database = Database::new(8.0, 0.008, 0.002);
            let mut sizer = Sizer::new(SizerParams::new(2, 50), 10);
            let mut world = World::new(database, load, 10, seed);
            world.run(&mut sizer, 60.0);
            let before = sizer.proposal();
            world.slow = Some(slow);
            world.run(&mut sizer, 60.0);
            let most = world.last(60.0).map(|(size, _)| size).max().unwrap();
            // What was being tried out at that moment may be a fifth above.
            let bound = (f64::from(before.settled.max(before.size)) * 1.25).ceil() as u32;
            let (_, work, _) = slow;
            if work > 1.0 {
                assert!(
                    most <= bound,
                    "{slow:?}, {load:?}, seed {seed}: {most} after {before}, now {}",
                    sizer.proposal()
                );
            } else if most > bound {
                // Waiting for a lock that holds up nobody else saturates nothing: growing is right, if it gets more done.
                let first = world.history.len() - (60.0 / INTERVAL.as_secs_f64()) as usize;
                let uses =
                    |from: usize| -> u64 { world.history.iter().skip(from).take(40).map(|(.., uses)| *uses).sum() };
                let gain = uses(world.history.len() - 40) as f64 / uses(first) as f64;
                assert!(
                    gain > 1.2,
                    "{slow:?}, {load:?}, seed {seed}: {most} after {before}, for {gain:.2} of the rate"
                );
            }
            // It is over: what was before comes back.
            world.slow = None;
            world.run(&mut sizer, 150.0);
            let share = world.rate(20.0) / if let Load::Arrivals(rate) = load { rate } else { database.knee(50).1 };
            assert!(share > 0.9, "{slow:?}, {load:?}, seed {seed}: {share:.3} with {}", sizer.proposal());
        }
    }
}

#[test]
fn a_lock_that_is_kept_longer_does_not_make_it_grow() {
    let (mut runs, mut misses) = (0, Vec::new());
    // A row that all uses change, farther away too, and work on two processors.
    let hot = Database::new(1.0, 0.002_17, 0.020);
    let busy = Database::new(2.0, 0.006_8, 0.008);
    for (database, times) in [(hot, 2.45), (hot, 5.0), (Database { wait: 0.012, ..hot }, 3.0), (busy, 5.0)] {
        for seed in 0..10 * SEEDS {
            runs += 1;
            let mut sizer = Sizer::new(SizerParams::new(1, 50), 2);
            let mut world = World::new(database, Load::Callers(100), 2, seed);
            world.run(&mut sizer, 45.0);
            let usual = world.last(20.0).map(|(size, _)| size).max().unwrap();
            let settled = f64::from(sizer.proposal().settled);
            world.slow = Some((1.0, times, 0.0));
            world.run(&mut sizer, 45.0);
            let most = world.last(45.0).map(|(size, _)| size).max().unwrap();
            // What was to be tried out at that moment may be a fifth above.
            if most > usual.max((1.25 * settled).ceil() as u32) {
                misses.push(format!(
                    "{database:?}, {times} times, seed {seed}: {most} after {usual}, now {}",
                    sizer.proposal()
                ));
            }
        }
    }
    assert!(misses.len() * 50 <= runs, "{} of {runs} runs: {misses:#?}", misses.len());
}

#[test]
fn a_database_that_changed_is_learnt_anew() {
    let mut misses = 0;
    for seed in 0..4 * SEEDS {
        let small = Database::new(4.0, 0.004, 0.002);
        let large = Database::new(16.0, 0.004, 0.002);
        let mut sizer = Sizer::new(SizerParams::new(1, 50), 2);
        let mut world = World::new(small, Load::Callers(120), 2, seed);
        world.run(&mut sizer, 60.0);
        let mut settled = vec![sizer.proposal().settled];
        // More processors: at once. Fewer: at once too, since that is downwards.
        for database in [large, small] {
            world.database = database;
            world.run(&mut sizer, 150.0);
            settled.push(sizer.proposal().settled);
        }
        // Farther away: the same throughput needs more connections, but all looks slower first; after some minutes it counts as usual.
        let far = Database { wait: 0.012, ..small };
        world.database = far;
        world.run(&mut sizer, 60.0);
        assert!(sizer.proposal().size <= 12, "seed {seed}: {}", sizer.proposal());
        world.run(&mut sizer, 600.0);
        settled.push(sizer.proposal().settled);
        let knees = [small, large, small, far].map(|database| database.knee(50).0);
        let ok = settled.iter().zip(knees).all(|(settled, knee)| is_near(*settled, knee));
        println!("seed {seed}: {settled:?} of {knees:?}");
        misses += u64::from(!ok);
        let near = |settled: u32, knee: u32| (f64::from(settled) / f64::from(knee)).ln().abs() < 0.45;
        assert!(
            settled.iter().zip(knees).all(|(settled, knee)| near(*settled, knee)),
            "seed {seed}: {settled:?} of {knees:?}"
        );
    }
    // Of 100 runs about 25 miss the mark by a connection or four after one of the three changes.
    assert!(misses <= 6, "{misses} of {}", 4 * SEEDS);
}

fn second(size: u32) -> Interval {
    Interval { lasted: Duration::from_secs(1), size, ..Interval::default() }
}

#[test]
fn nothing_happens_without_reason() {
    let mut sizer = Sizer::new(SizerParams::new(2, 50), 10);
    // All are in use and nothing ends.
    for _ in 0..60 {
        let interval = Interval { busy: 10.0, line: 500, arrivals: 50, timeouts: 40, ..second(10) };
        let proposal = sizer.handle_interval(&interval);
        assert_eq!(proposal.size, 10);
    }
    assert_eq!(sizer.proposal().reason, SizeReason::Stalled);
    // Connects fail while callers wait.
    for _ in 0..60 {
        let waited = Duration::from_secs(50);
        let held = Duration::from_secs(9);
        let interval =
            Interval { busy: 9.9, line: 50, arrivals: 100, uses: 100, held, waited, connect_failures: 1, ..second(10) };
        assert_eq!(sizer.handle_interval(&interval).size, 10);
    }
    assert_eq!(sizer.proposal().reason, SizeReason::ConnectsFail);
}

#[test]
fn a_pool_of_fixed_size_stays_as_it_is() {
    for (min, max) in [(1, 1), (7, 7)] {
        let mut sizer = Sizer::new(SizerParams::new(min, max), 20);
        let mut world = World::new(Database::new(4.0, 0.004, 0.002), Load::Callers(50), min, 1);
        world.run(&mut sizer, 60.0);
        assert!(world.last(60.0).all(|(size, settled)| size == min && settled == min));
    }
}

#[test]
fn bounds_hold_whatever_happens() {
    let mut random = Random(7);
    for _ in 0..200 {
        let min = 1 + (random.unit() * 20.0) as u32;
        let max = min + (random.unit() * 200.0) as u32;
        let mut sizer = Sizer::new(SizerParams::new(min, max), (random.unit() * 300.0) as u32);
        for _ in 0..200 {
            let uses = (random.unit().powi(3) * 1e6) as u64;
            let interval = Interval {
                lasted: Duration::from_secs_f64(random.unit() * 3.0),
                arrivals: uses,
                uses,
                held: Duration::from_secs_f64(random.unit().powi(4) * 1e7),
                waited: Duration::from_secs_f64(random.unit().powi(4) * 1e7),
                timeouts: (random.unit() * 2.0) as u64,
                connect_failures: (random.unit() * 1.3) as u64,
                busy: random.unit() * 400.0,
                line: (random.unit() * 3.0) as u32,
                size: (random.unit() * 300.0) as u32,
            };
            let proposal = sizer.handle_interval(&interval);
            assert!((min..=max).contains(&proposal.size) && (min..=max).contains(&proposal.settled));
            assert!(!proposal.to_string().is_empty());
        }
    }
}
