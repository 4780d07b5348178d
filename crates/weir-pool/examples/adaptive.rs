//! A pool that finds its size on a real `PostgreSQL`, and what sheds callers when there is too much to do.
//!
//! `cargo run --release -p weir-pool --example adaptive -- WHAT STATEMENT [START]`, with the server's address in `DATABASE`
//! (`host=127.0.0.1 port=5432 user=postgres`).
//!
//! WHAT is `admit` (callers at twice the capacity of 8 connections, with a second each, with and without admission), `sweep` (fixed sizes, to find the knee), `adapt` (from START connections, for 60 s) or `slow` (as `adapt` from 2, for 30 s,
//! then the statements become slow for 30 s). STATEMENT is `hot` (8 ms, then a lock that all need for
//! 1 ms: a hot row), `contended` (as `hot`, but the lock is held the longer the more wait for it) or `work` (4 ms and about 1 ms of a
//! processor).
#![allow(clippy::print_stdout, reason = "the example's output")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, Config, NoTls, Statement};
use weir_pool::{Adaptive, Admission, Manager, Pool};

const CALLERS: usize = 100;
const SIZES: [u32; 14] = [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 50];

type Failure = Box<dyn Error>;

struct Postgres {
    config: Config,
    quick: String,
    slow: String,
}

struct Conn {
    client: Client,
    quick: Statement,
    slow: Statement,
}

impl Manager for Postgres {
    type Connection = Conn;
    type Error = tokio_postgres::Error;

    async fn connect(&self) -> Result<Conn, Self::Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        tokio::spawn(connection);
        let quick = client.prepare(&self.quick).await?;
        let slow = client.prepare(&self.slow).await?;
        Ok(Conn { client, quick, slow })
    }

    async fn check(&self, conn: &mut Conn) -> Result<(), Self::Error> {
        conn.client.simple_query("").await.map(|_| ())
    }

    fn is_broken(&self, conn: &mut Conn) -> bool {
        conn.client.is_closed()
    }
}

fn statements(name: &str) -> Result<(String, String), Failure> {
    let work = |rows: u32| format!("(select count(*) from generate_series(1, {rows}) row where row % 7 = 3)");
    // All that is between them is done while the lock is held: until the statement ends.
    let hot = |held: &str| format!("select pg_sleep(0.008), pg_advisory_xact_lock(1), pg_sleep({held})");
    let quick = match name {
        "hot" => hot("0.001"),
        "contended" => hot("0.001 + 0.0002 * (select count(*) from pg_stat_activity where wait_event_type = 'Lock')"),
        "work" => format!("select pg_sleep(0.004), {}", work(16_000)),
        _ => return Err(format!("no statement {name:?}").into()),
    };
    // The lock is held four times as long, and one in ten takes a tenth of a second before.
    let slow =
        "select pg_sleep(case when random() < 0.1 then 0.1 else 0.008 end), pg_advisory_xact_lock(1), pg_sleep(0.005)";
    Ok((quick, slow.to_owned()))
}

struct Run {
    pool: Pool<Postgres>,
    slow: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    /// The callers are to go.
    over: Arc<AtomicBool>,
}

impl Run {
    /// A pool, and callers who ask again at once.
    fn start(manager: Postgres, size: u32, adaptive: Option<Adaptive>) -> Result<Self, Failure> {
        let mut builder = Pool::<Postgres>::builder()
            .name("adaptive")
            .max_size(size)
            .min_idle(0)
            .acquire_timeout(Duration::from_secs(30));
        if let Some(adaptive) = adaptive {
            builder = builder.adaptive(adaptive);
        }
        let run =
            Self { pool: builder.build(manager)?, slow: Arc::default(), done: Arc::default(), over: Arc::default() };
        for _ in 0..CALLERS {
            let (pool, slow, done) = (run.pool.clone(), Arc::clone(&run.slow), Arc::clone(&run.done));
            let over = Arc::clone(&run.over);
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let Ok(conn) = pool.acquire().await else { return };
                    let statement = if slow.load(Ordering::Relaxed) { &conn.slow } else { &conn.quick };
                    if conn.client.query(statement, &[]).await.is_ok() {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        Ok(run)
    }

    /// Uses a second over this time.
    async fn rate(&self, over: Duration) -> f64 {
        let (begun, before) = (Instant::now(), self.done.load(Ordering::Relaxed));
        sleep(over).await;
        (self.done.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64()
    }

    /// Watches the pool adapt; the sizes and rates of each second.
    async fn watch(&self, secs: u64) -> Vec<(u32, f64)> {
        let mut seen = Vec::new();
        for second in 1..=secs {
            let rate = self.rate(Duration::from_secs(1)).await;
            let size = self.pool.snapshot().max_size;
            seen.push((size, rate));
            if second % 4 == 0
                && let Some(proposal) = self.pool.proposal()
            {
                println!(
                    "{second:3} s: size {size:2} (settled {:2}), {rate:6.0}/s  {}",
                    proposal.settled, proposal.reason
                );
            }
        }
        seen
    }
}

async fn sweep(manager: Postgres) -> Result<(), Failure> {
    let run = Run::start(manager, SIZES[0], None)?;
    let mut rates = [0.0; SIZES.len()];
    // Twice, up and down, so that what drifts does not bend the curve.
    let order = (0..SIZES.len()).chain((0..SIZES.len()).rev());
    for at in order {
        run.pool.resize(SIZES[at])?;
        sleep(Duration::from_millis(500)).await;
        rates[at] += run.rate(Duration::from_millis(2200)).await / 2.0;
    }
    let best = rates.iter().copied().fold(0.0, f64::max);
    for (size, rate) in SIZES.iter().zip(rates) {
        println!(
            "{size:3} connections: {rate:7.1}/s, {:5.1} % of the best, {:6.2} ms a use",
            100.0 * rate / best,
            1e3 * f64::from(*size) / rate
        );
    }
    let knee = SIZES.iter().zip(rates).find(|(_, rate)| *rate >= 0.97 * best);
    println!("best {best:.1}/s; knee (97 %): {:?}", knee.map(|(size, _)| size));
    Ok(())
}

async fn adapt(manager: Postgres, start: u32) -> Result<(), Failure> {
    let run = Run::start(manager, start, Some(Adaptive::set(2..=50)))?;
    let seen = run.watch(80).await;
    let (_, settled) = seen.split_at(60);
    let rate: f64 = settled.iter().map(|(_, rate)| rate).sum::<f64>() / settled.len() as f64;
    let sizes: Vec<u32> = settled.iter().map(|(size, _)| *size).collect();
    println!("after 60 s from {start}: {rate:.1}/s with {sizes:?}");
    Ok(())
}

async fn slow(manager: Postgres) -> Result<(), Failure> {
    let run = Run::start(manager, 2, Some(Adaptive::set(2..=50)))?;
    let before = run.watch(40).await;
    let size_before = before.iter().rev().take(10).map(|(size, _)| *size).max();
    println!("now the statements are slow");
    run.slow.store(true, Ordering::Relaxed);
    let during = run.watch(40).await;
    let size_during = during.iter().map(|(size, _)| *size).max();
    println!("largest size in the 10 s before: {size_before:?}, in the 40 s after: {size_during:?}");
    Ok(())
}

#[derive(Default)]
struct Outcome {
    in_time: AtomicU64,
    late: AtomicU64,
    refused: AtomicU64,
    /// Microseconds until a refusal, at most.
    slowest: AtomicU64,
}

/// One caller, with a second for waiting and use.
async fn call(pool: Pool<Postgres>, outcome: Arc<Outcome>) {
    let asked = Instant::now();
    let counter = if let Ok(conn) = pool.acquire_timeout(Duration::from_secs(1)).await {
        let done = conn.client.query(&conn.quick, &[]).await.is_ok();
        drop(conn);
        if done && asked.elapsed() <= Duration::from_secs(1) { &outcome.in_time } else { &outcome.late }
    } else {
        outcome.slowest.fetch_max(asked.elapsed().as_micros() as u64, Ordering::Relaxed);
        &outcome.refused
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

async fn admit(manager: Postgres) -> Result<(), Failure> {
    let run = Run::start(manager, 8, None)?;
    sleep(Duration::from_secs(1)).await;
    let capacity = run.rate(Duration::from_secs(10)).await;
    println!("8 connections: {capacity:.1}/s with callers who ask again at once");
    run.over.store(true, Ordering::Relaxed);
    for admission in [None, Some(Admission::default()), None, Some(Admission::default())] {
        run.pool.configure(|settings| settings.admission(admission))?;
        sleep(Duration::from_secs(1)).await;
        let outcome = Arc::new(Outcome::default());
        let (begun, lasts) = (Instant::now(), Duration::from_secs(12));
        let mut asked = 0;
        while begun.elapsed() < lasts {
            // At an even pace, caught up with after each sleep.
            let due = (begun.elapsed().as_secs_f64() * 2.0 * capacity) as u64;
            for _ in asked..due {
                tokio::spawn(call(run.pool.clone(), Arc::clone(&outcome)));
            }
            asked = due;
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(1_500)).await;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        println!(
            "{}: {asked} asked; {} answered in time ({:.1} % of the capacity), {} late, {} refused, the last after {} ms",
            if admission.is_some() { "with admission" } else { "without" },
            get(&outcome.in_time),
            100.0 * get(&outcome.in_time) as f64 / (capacity * lasts.as_secs_f64()),
            get(&outcome.late),
            get(&outcome.refused),
            get(&outcome.slowest) / 1_000
        );
    }
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_default();
    let (quick, slow_statement) = statements(&args.next().unwrap_or_else(|| "hot".to_owned()))?;
    let start = args.next().map_or(Ok(2), |start| start.parse())?;
    let database = std::env::var("DATABASE").map_err(|_| "DATABASE is not set, see the head of this file")?;
    let manager = Postgres { config: database.parse()?, quick, slow: slow_statement };
    match what.as_str() {
        "sweep" => sweep(manager).await?,
        "adapt" => adapt(manager, start).await?,
        "slow" => slow(manager).await?,
        "admit" => admit(manager).await?,
        _ => return Err(format!("no {what:?}, see the head of this file").into()),
    }
    Ok(())
}
