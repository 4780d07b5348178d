//! Callers who come at random, whatever becomes of those before them: more than a pool can serve.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::time::sleep;
use weir_pool::managers::postgres::Postgres;
use weir_pool::{Guard, Pool};
use weir_test::Postgres as Server;

use crate::SLOW_ECHO;

/// Callers of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Overload {
    /// How long the server takes for a query, waiting and not computing.
    pub hold: Duration,
    /// Callers a second.
    pub rate: f64,
    /// What each has for waiting and query.
    pub deadline: Duration,
    /// How long callers come.
    pub lasts: Duration,
}

/// What became of them.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Callers.
    pub asked: u64,
    /// Answered within their time, before the last had come.
    pub in_time: u64,
    /// Answered within their time after that: they say nothing about how many can be answered while callers keep coming.
    pub after: u64,
    /// Answered, but later.
    pub late: u64,
    /// Queries that failed.
    pub failed: u64,
    /// How long those had to wait who got no connection, in microseconds.
    pub refusals: Histogram<u64>,
}

impl Outcome {
    /// Seconds until the last of the refusals.
    pub fn refused_max(&self) -> f64 {
        self.refusals.max() as f64 / 1e6
    }

    /// Seconds until this share of the refusals.
    pub fn refused_at(&self, quantile: f64) -> f64 {
        self.refusals.value_at_quantile(quantile) as f64 / 1e6
    }

    fn new() -> Result<Self, hdrhistogram::CreationError> {
        let refusals = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self { asked: 0, in_time: 0, after: 0, late: 0, failed: 0, refusals })
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { asked, in_time, after, late, failed, refusals } = self;
        write!(
            f,
            "{asked} asked, {in_time} answered in time (and {after} after the last had come), {late} late, {failed} failed, {} refused",
            refusals.len()
        )?;
        if !refusals.is_empty() {
            let [p50, p99] = [0.5, 0.99].map(|quantile| self.refused_at(quantile) * 1e3);
            let above = refusals.count_between(200_001, u64::MAX);
            write!(
                f,
                " (after p50 {p50:.2} ms, p99 {p99:.1} ms, max {:.1} ms; {above} later than 200 ms)",
                self.refused_max() * 1e3
            )?;
        }
        Ok(())
    }
}

/// A pool with all of its connections open and their statement known.
///
/// # Errors
/// If connections cannot be had.
pub async fn echo_pool(server: &Server, size: u32) -> Result<Pool<Postgres>, Box<dyn std::error::Error>> {
    let pool = Pool::<Postgres>::builder()
        .name("overload")
        .max_size(size)
        .min_idle(0)
        .idle_timeout(None)
        .acquire_timeout(Duration::from_mins(1))
        .build(Postgres::new(server.url().parse()?))?;
    let mut guards = Vec::new();
    for _ in 0..size {
        let guard = pool.acquire().await?;
        ask(&guard, Duration::ZERO).await?;
        guards.push(guard);
    }
    Ok(pool)
}

/// Uses a second of a pool whose callers ask again at once, once all connections have been used.
pub async fn capacity(pool: &Pool<Postgres>, hold: Duration, over: Duration) -> f64 {
    let begin = Instant::now() + 2 * hold;
    let end = begin + over;
    let tasks: Vec<_> = (0..2 * pool.snapshot().max_size)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut done = 0_u64;
                while Instant::now() < end {
                    let Ok(guard) = pool.acquire().await else { continue };
                    let answered = ask(&guard, hold).await.is_ok();
                    drop(guard);
                    done += u64::from(answered && (begin..end).contains(&Instant::now()));
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap_or(0);
    }
    done as f64 / over.as_secs_f64()
}

impl Overload {
    /// Runs it: independent arrivals (exponential gaps) from this seed.
    ///
    /// # Panics
    /// If a task panics.
    #[expect(clippy::unwrap_used, reason = "the bounds of the histogram are right")]
    pub async fn run(self, pool: &Pool<Postgres>, seed: u64) -> Outcome {
        let outcome = Arc::new(Mutex::new(Outcome::new().unwrap()));
        let (begun, mut random, mut due) = (Instant::now(), seed, Duration::ZERO);
        while due < self.lasts {
            // Those whose time has come while this one slept come at once, but their clock runs since then.
            while due <= begun.elapsed() {
                tokio::spawn(self.call(pool.clone(), begun + self.lasts, Arc::clone(&outcome)));
                due += Duration::from_secs_f64(exponential(&mut random) / self.rate);
            }
            sleep(Duration::from_millis(1)).await;
        }
        // Each of them has a share of it until it has been answered or refused.
        while Arc::strong_count(&outcome) > 1 {
            sleep(Duration::from_millis(10)).await;
        }
        let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.clone()
    }

    async fn call(self, pool: Pool<Postgres>, end: Instant, outcome: Arc<Mutex<Outcome>>) {
        let asked = Instant::now();
        let answered = match pool.acquire_timeout(self.deadline).await {
            Ok(guard) => Some(ask(&guard, self.hold).await.is_ok()),
            Err(_) => None,
        };
        let took = asked.elapsed();
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.asked += 1;
        match answered {
            Some(true) if took <= self.deadline && asked + took <= end => outcome.in_time += 1,
            Some(true) if took <= self.deadline => outcome.after += 1,
            Some(true) => outcome.late += 1,
            Some(false) => outcome.failed += 1,
            None => outcome.refusals.saturating_record(took.as_micros() as u64),
        }
    }
}

async fn ask(guard: &Guard<Postgres>, hold: Duration) -> Result<(), tokio_postgres::Error> {
    let statement = guard.prepare_cached(SLOW_ECHO).await?;
    guard.query_one(&statement, &[&1_i64, &hold.as_secs_f64()]).await.map(|_| ())
}

/// Of mean 1.
pub(crate) fn exponential(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let unit = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
    -(1.0 - unit).ln()
}
