//! The knee of a PostgreSQL: how much it gets done with each number of connections, and where a pool that adapts its size settles.
//!
//! A hundred callers ask again at once, so that the size alone says how much the server has to do. The *knee* is the smallest size with
//! [`KEEP`] of the best throughput of all sizes that were tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::sleep;
use weir_pool::managers::postgres::Postgres;
use weir_pool::{Adaptive, Guard, Pool, SettingsError};
use weir_test::Postgres as Server;

/// The knee is the smallest size with this share of the best throughput: what the pool looks for, too.
pub const KEEP: f64 = 0.97;
/// Within these a pool looks for its size.
pub const BOUNDS: (u32, u32) = (2, 50);
/// Callers who ask again at once.
const CALLERS: u32 = 100;

/// What a server is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    /// Statements that wait for 20 ms, then all update the same row and keep it for 1 ms.
    Hot,
    /// Statements that wait for 12 ms, then take a lock that is kept for 1 ms, and longer the more wait for it: throughput falls beyond
    /// the knee.
    Contended,
    /// Statements that wait for 8 ms, then need about 4 ms of a processor.
    Work,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hot, Self::Contended, Self::Work];

    /// Its name in a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Contended => "contended",
            Self::Work => "work",
        }
    }

    /// Creates what its statements need.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn prepare(self, server: &Server) {
        if self == Self::Hot {
            server.sql(
                "CREATE TABLE hot (id int PRIMARY KEY, n int) WITH (fillfactor = 10); INSERT INTO hot VALUES (1, 0)",
            );
        }
    }

    /// What callers ask for; or, with `slow`, what saturates the server: whoever has the row or the lock keeps it five times as
    /// long and one in ten waits for a tenth of a second before, or work takes five times as much of a processor.
    fn statement(self, slow: bool) -> String {
        let usual = if self == Self::Hot { 0.02 } else { 0.012 };
        let before =
            if slow { format!("CASE WHEN random() < 0.1 THEN 0.1 ELSE {usual} END") } else { usual.to_string() };
        let kept = if slow { 0.005 } else { 0.001 };
        match self {
            Self::Hot => format!(
                "WITH before AS MATERIALIZED (SELECT pg_sleep({before})) \
                 UPDATE hot SET n = n + 1 FROM before WHERE id = 1 RETURNING pg_sleep({kept})"
            ),
            Self::Contended => format!(
                "SELECT pg_sleep({before}), pg_advisory_xact_lock(1), pg_sleep({kept} + 0.0002 * \
                 (SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'))"
            ),
            Self::Work => format!(
                "SELECT pg_sleep(0.008), (SELECT count(*) FROM generate_series(1, {}) row WHERE row % 7 = 3)",
                if slow { 320_000 } else { 64_000 }
            ),
        }
    }
}

/// Callers of one pool who ask again at once.
#[derive(Debug)]
pub struct Callers {
    pool: Pool<Postgres>,
    tasks: Vec<JoinHandle<()>>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    statements: [String; 2],
    slow: AtomicBool,
    over: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
    held_nanos: AtomicU64,
}

/// What was done in a time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    /// Uses a second.
    pub rate: f64,
    /// How long one took, on average.
    pub hold: Duration,
}

impl Rate {
    /// Of times that are as long as each other.
    fn mean(rates: &[Self]) -> Self {
        let count = rates.len().max(1);
        Self {
            rate: rates.iter().map(|rate| rate.rate).sum::<f64>() / count as f64,
            hold: rates.iter().map(|rate| rate.hold).sum::<Duration>() / count as u32,
        }
    }

    /// The standard error of that mean, in uses a second.
    fn error(rates: &[Self]) -> f64 {
        let (count, mean) = (rates.len() as f64, Self::mean(rates).rate);
        let squares: f64 = rates.iter().map(|rate| (rate.rate - mean).powi(2)).sum();
        (squares / (count * (count - 1.0)).max(1.0)).sqrt()
    }
}

impl Callers {
    /// A pool of `size` connections, which adapts its size if it is told how, and its callers.
    ///
    /// # Errors
    /// If size and `adaptive` contradict each other.
    pub fn start(
        server: &Server,
        workload: Workload,
        size: u32,
        adaptive: Option<Adaptive>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let builder =
            Pool::<Postgres>::builder().name("knee").max_size(size).min_idle(0).acquire_timeout(Duration::from_mins(1));
        let builder = match adaptive {
            Some(adaptive) => builder.adaptive(adaptive),
            None => builder,
        };
        let pool = builder.build(Postgres::new(server.url().parse()?))?;
        let state = Arc::new(State {
            statements: [workload.statement(false), workload.statement(true)],
            slow: AtomicBool::new(false),
            over: AtomicBool::new(false),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            held_nanos: AtomicU64::new(0),
        });
        let tasks = (0..CALLERS).map(|_| tokio::spawn(call_again(pool.clone(), Arc::clone(&state)))).collect();
        Ok(Self { pool, tasks, state })
    }

    /// The pool.
    pub fn pool(&self) -> &Pool<Postgres> {
        &self.pool
    }

    /// From now on the statements are slow, or not.
    pub fn set_slow(&self, slow: bool) {
        self.state.slow.store(slow, Ordering::SeqCst);
    }

    /// Uses that failed.
    pub fn failed(&self) -> u64 {
        self.state.failed.load(Ordering::SeqCst)
    }

    /// What is done in this time.
    pub async fn rate(&self, over: Duration) -> Rate {
        let sums = || (self.state.done.load(Ordering::SeqCst), self.state.held_nanos.load(Ordering::SeqCst));
        let (begun, before) = (Instant::now(), sums());
        sleep(over).await;
        let (after, lasted) = (sums(), begun.elapsed());
        let done = (after.0 - before.0).max(1);
        Rate { rate: done as f64 / lasted.as_secs_f64(), hold: Duration::from_nanos((after.1 - before.1) / done) }
    }

    /// What is done with a fixed size, once it is reached.
    ///
    /// # Errors
    /// If the pool does not take the size.
    pub async fn rate_with(&self, size: u32, over: Duration) -> Result<Rate, SettingsError> {
        self.pool.resize(size)?;
        sleep(Duration::from_millis(400)).await;
        Ok(self.rate(over).await)
    }

    /// Watches the pool for so many seconds: its size (and the one around which it tries sizes out) and rate in each of them. `say` gets
    /// what the pool says about its size each time that changes.
    pub async fn watch(&self, seconds: u32, mut say: impl FnMut(u32, &Second, &str)) -> Vec<Second> {
        let (mut seen, mut said) = (Vec::new(), (0, 0));
        for number in 1..=seconds {
            let Rate { rate, hold } = self.rate(Duration::from_secs(1)).await;
            let proposal = self.pool.proposal();
            let settled = proposal.map_or(0, |proposal| proposal.settled);
            let second = Second { size: self.pool.snapshot().max_size, settled, rate, hold };
            if said != (second.size, settled) {
                said = (second.size, settled);
                say(number, &second, &proposal.map(|proposal| proposal.reason.to_string()).unwrap_or_default());
            }
            seen.push(second);
        }
        seen
    }

    /// Ends it: all callers go, and the connections are closed.
    pub async fn end(self) {
        self.state.over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.ok();
        }
        self.pool.close(Duration::from_secs(5)).await.ok();
    }
}

/// One second of a pool that adapts its size.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Second {
    /// Its size.
    pub size: u32,
    /// The best size it knows; neighbours are tried out now and then.
    pub settled: u32,
    /// Uses a second.
    pub rate: f64,
    /// How long one took, on average.
    pub hold: Duration,
}

async fn call_again(pool: Pool<Postgres>, state: Arc<State>) {
    while !state.over.load(Ordering::Relaxed) {
        let Ok(guard) = pool.acquire().await else {
            state.failed.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let begun = Instant::now();
        let [quick, slow] = &state.statements;
        let statement = if state.slow.load(Ordering::Relaxed) { slow } else { quick };
        let counter = if ask(&guard, statement).await.is_ok() { &state.done } else { &state.failed };
        drop(guard);
        state.held_nanos.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

async fn ask(guard: &Guard<Postgres>, statement: &str) -> Result<(), tokio_postgres::Error> {
    let statement = guard.prepare_cached(statement).await?;
    guard.query(&statement, &[]).await.map(|_| ())
}

/// Throughput by size.
#[derive(Clone, PartialEq, Debug)]
pub struct Sweep {
    /// Sizes, upwards, with what was done.
    pub points: Vec<Point>,
}

/// What was done with a size, each time that it was tried.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// The size.
    pub size: u32,
    /// On average.
    pub mean: Rate,
    /// The standard error of the rate, in uses a second.
    pub error: f64,
}

impl Point {
    fn of(size: u32, rates: &[Rate]) -> Self {
        Self { size, mean: Rate::mean(rates), error: Rate::error(rates) }
    }
}

impl Sweep {
    /// Tries each size for `each`, upwards and then downwards, so that what drifts does not bend the curve; and that `passes` times. Then
    /// sizes between the knee and the size below it, until there are none or they are less than a twentieth apart: a knee between two
    /// sizes that are far from each other would be a matter of which were tried.
    ///
    /// # Errors
    /// If the pool does not take a size.
    pub async fn run(callers: &Callers, sizes: &[u32], each: Duration, passes: u32) -> Result<Self, SettingsError> {
        let mut seen: Vec<(u32, Vec<Rate>)> = sizes.iter().map(|size| (*size, Vec::new())).collect();
        for _ in 0..2 * passes {
            for (size, rates) in &mut seen {
                rates.push(callers.rate_with(*size, each / 2).await?);
            }
            seen.reverse();
        }
        let mut sweep = Self { points: seen.iter().map(|(size, rates)| Point::of(*size, rates)).collect() };
        while let Some(size) = sweep.between(KEEP) {
            let mut rates = Vec::new();
            for _ in 0..2 * passes {
                rates.push(callers.rate_with(size, each / 2).await?);
            }
            let at = sweep.points.partition_point(|point| point.size < size);
            sweep.points.insert(at, Point::of(size, &rates));
        }
        Ok(sweep)
    }

    /// The size in the middle between the knee and the one below it, unless that is near enough.
    fn between(&self, keep: f64) -> Option<u32> {
        let knee = self.knee(keep);
        let below = self.points.iter().map(|point| point.size).take_while(|size| *size < knee).last()?;
        let gap = knee - below;
        (gap > 1 && gap * 20 > knee).then_some(u32::midpoint(below, knee))
    }

    /// The best size and its rate.
    pub fn best(&self) -> (u32, f64) {
        let rates = self.points.iter().map(|point| (point.size, point.mean.rate));
        rates.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((1, 0.0))
    }

    /// The smallest size with this share of the best throughput.
    pub fn knee(&self, keep: f64) -> u32 {
        let (most, best) = self.best();
        self.points.iter().find(|point| point.mean.rate >= keep * best).map_or(most, |point| point.size)
    }
}

impl std::fmt::Display for Sweep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (_, best) = self.best();
        for Point { size, mean: Rate { rate, hold }, error } in &self.points {
            let (hold, share, error) = (hold.as_secs_f64() * 1e3, 100.0 * rate / best, 100.0 * error / best);
            writeln!(f, "{size:4} connections {rate:8.1}/s {share:6.1} % (±{error:.1})  {hold:7.2} ms a use")?;
        }
        write!(f, "knee: {} (97 % of the best), {} (95 %)", self.knee(KEEP), self.knee(0.95))
    }
}

/// Where a pool has settled.
#[derive(Clone, PartialEq, Debug)]
pub struct Settled {
    /// The size around which it tries others.
    pub size: u32,
    /// Connections on average over the time looked at.
    pub mean: f64,
    /// Uses a second in that time.
    pub rate: f64,
}

impl Settled {
    /// Of these seconds.
    pub fn of(seconds: &[Second]) -> Self {
        let count = seconds.len().max(1) as f64;
        Self {
            size: seconds.last().map_or(0, |second| second.settled),
            mean: seconds.iter().map(|second| f64::from(second.size)).sum::<f64>() / count,
            rate: seconds.iter().map(|second| second.rate).sum::<f64>() / count,
        }
    }

    /// How far its size is from the knee, as a share of that: -0.1 is 10 % below.
    pub fn off(&self, knee: u32) -> f64 {
        f64::from(self.size) / f64::from(knee) - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(points: &[(u32, f64)]) -> Sweep {
        let point = |(size, rate): &(u32, f64)| Point::of(*size, &[Rate { rate: *rate, hold: Duration::ZERO }]);
        Sweep { points: points.iter().map(point).collect() }
    }

    #[test]
    fn a_point_knows_its_mean_and_how_far_to_trust_it() {
        let rates = [90.0, 100.0, 110.0].map(|rate| Rate { rate, hold: Duration::from_millis(rate as u64) });
        let point = Point::of(7, &rates);
        assert_eq!(point.mean, rates[1]);
        // Variance 100, of the mean a third of that.
        assert!((point.error - (100.0_f64 / 3.0).sqrt()).abs() < 1e-9, "{}", point.error);
        assert!(Point::of(7, &rates[..1]).error.abs() < 1e-9);
    }

    #[test]
    fn a_knee_is_looked_for_between_sizes_that_are_far_from_each_other() {
        let flat = [(11, 95.0), (17, 96.9), (25, 100.0)];
        assert_eq!((sweep(&flat).knee(0.97), sweep(&flat).between(0.97)), (25, Some(21)));
        let nearer = [(17, 96.9), (18, 97.1), (21, 99.0), (25, 100.0)];
        assert_eq!((sweep(&nearer).knee(0.97), sweep(&nearer).between(0.97)), (18, None));
        // One apart, or a twentieth.
        assert_eq!(sweep(&[(10, 90.0), (11, 100.0)]).between(0.97), None);
        assert_eq!(sweep(&[(38, 90.0), (40, 100.0)]).between(0.97), None);
        assert_eq!(sweep(&[(37, 90.0), (40, 100.0)]).between(0.97), Some(38));
        // Nothing below it.
        assert_eq!(sweep(&[(10, 100.0), (20, 100.0)]).between(0.97), None);
    }
}
