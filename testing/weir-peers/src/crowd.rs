//! Many tasks over few connections: who waits how long, against the least that is possible.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use weir_pool::managers::postgres::Postgres;
use weir_pool::{Guard, Pool};

use crate::SLOW_ECHO;

/// Tasks that use connections of a pool again and again, with a small query each time.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Tasks.
    pub tasks: u32,
    /// Connections.
    pub connections: u32,
    /// For how long.
    pub time: Duration,
    /// How long the server takes for a query, waiting and not computing; zero for a query that costs it next to nothing, which makes
    /// the processors of this machine the limit, and their noise part of every figure.
    pub query: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Figures {
    /// Uses of connections.
    pub uses: u64,
    /// Those of the task with the fewest and with the most.
    pub fewest: u64,
    /// See `fewest`.
    pub most: u64,
    /// How long a connection was held on average.
    pub hold: Duration,
    /// How long tasks waited: median and 99th percentile. The first wait of each task is left out: they all begin at once.
    pub p50: Duration,
    /// See `p50`.
    pub p99: Duration,
    /// tasks × mean hold / connections: what every task waits if nothing is lost and nobody is favoured.
    pub optimum: Duration,
    /// Uses that failed.
    pub failed: u64,
}

/// What one task has seen.
struct Tally {
    waits: Vec<Duration>,
    held: Duration,
    uses: u64,
    failed: u64,
}

impl Crowd {
    /// Runs it.
    ///
    /// # Panics
    /// If the pool cannot be made, or a task panics.
    #[expect(clippy::unwrap_used, reason = "it is a test's helper: its panics are the test's")]
    pub async fn run(self, manager: Postgres) -> Figures {
        let pool = Pool::<Postgres>::builder()
            .name("crowd")
            .max_size(self.connections)
            .min_idle(0)
            .idle_timeout(None)
            .acquire_timeout(Duration::from_mins(1))
            .build(manager)
            .unwrap();
        // All connections are open and have the statement before the clock starts.
        let mut guards = Vec::new();
        for _ in 0..self.connections {
            let guard = pool.acquire().await.unwrap();
            use_it(&guard, 0, self.query).await.unwrap();
            guards.push(guard);
        }
        let over = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..self.tasks)
            .map(|number| tokio::spawn(work(pool.clone(), Arc::clone(&over), number, self.query)))
            .collect();
        // All are in line before the first is served: who is served before another has begun is served once more than that.
        let spawned = Instant::now();
        while pool.snapshot().pending < self.tasks {
            assert!(spawned.elapsed() < Duration::from_secs(30), "not all get in line: {}", pool.snapshot());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(guards);
        tokio::time::sleep(self.time).await;
        over.store(true, Ordering::SeqCst);
        let mut tallies = Vec::new();
        for task in tasks {
            tallies.push(task.await.unwrap());
        }
        self.figures(&tallies)
    }

    #[expect(clippy::unwrap_used, reason = "the bounds of the histogram are right")]
    fn figures(self, tallies: &[Tally]) -> Figures {
        let mut waits = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3).unwrap();
        for wait in tallies.iter().flat_map(|tally| tally.waits.iter().skip(1)) {
            waits.saturating_record(wait.as_micros() as u64);
        }
        let uses: u64 = tallies.iter().map(|tally| tally.uses).sum();
        let held: Duration = tallies.iter().map(|tally| tally.held).sum();
        let hold = held.div_f64(uses.max(1) as f64);
        Figures {
            uses,
            fewest: tallies.iter().map(|tally| tally.uses).min().unwrap_or(0),
            most: tallies.iter().map(|tally| tally.uses).max().unwrap_or(0),
            hold,
            p50: Duration::from_micros(waits.value_at_quantile(0.5)),
            p99: Duration::from_micros(waits.value_at_quantile(0.99)),
            optimum: hold * self.tasks / self.connections,
            failed: tallies.iter().map(|tally| tally.failed).sum(),
        }
    }
}

async fn work(pool: Pool<Postgres>, over: Arc<AtomicBool>, number: u32, time: Duration) -> Tally {
    let mut tally = Tally { waits: Vec::new(), held: Duration::ZERO, uses: 0, failed: 0 };
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let Ok(guard) = pool.acquire().await else {
            tally.failed += 1;
            continue;
        };
        let got = Instant::now();
        if use_it(&guard, number, time).await != Ok(number) {
            tally.failed += 1;
        }
        drop(guard);
        tally.held += got.elapsed();
        // What was begun before the end counts for all alike.
        if !over.load(Ordering::Relaxed) {
            tally.uses += 1;
        }
        tally.waits.push(got - asked);
    }
    tally
}

async fn use_it(guard: &Guard<Postgres>, number: u32, time: Duration) -> Result<u32, String> {
    let answer = i64::from(number);
    let query = async {
        let row = if time.is_zero() {
            guard.query_one(&guard.prepare_cached("SELECT $1::int8").await?, &[&answer]).await?
        } else {
            guard.query_one(&guard.prepare_cached(SLOW_ECHO).await?, &[&answer, &time.as_secs_f64()]).await?
        };
        row.try_get::<_, i64>(0)
    };
    query.await.map(|answer| answer as u32).map_err(|error: tokio_postgres::Error| error.to_string())
}

impl Figures {
    /// How far the 99th percentile is above the optimum: 0.1 is 10 %.
    pub fn excess(&self) -> f64 {
        self.p99.as_secs_f64() / self.optimum.as_secs_f64() - 1.0
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "uses {}, failed {}", self.uses, self.failed)?;
        let ratio = self.most as f64 / self.fewest.max(1) as f64;
        writeln!(f, "uses per task {} to {}, most/fewest {ratio:.3}", self.fewest, self.most)?;
        writeln!(f, "mean hold {:.3} ms", self.hold.as_secs_f64() * 1e3)?;
        let (p50, p99, optimum) = (self.p50.as_secs_f64(), self.p99.as_secs_f64(), self.optimum.as_secs_f64());
        write!(f, "wait p50 {p50:.3} s, p99 {p99:.3} s; optimum {optimum:.3} s: p99 {:+.1} %", self.excess() * 100.0)
    }
}
