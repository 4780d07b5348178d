//! Two pools share 40 connections while the load shifts from 1:3 to 3:1: how quickly shares follow, whether the server ever sees
//! more, and how long callers wait beside fixed splits that are told of the shift.
//!
//! `cargo run --release -p weir-pool --features budget --example budget` parts the connections within the process;
//! with `-- 127.0.0.1:9902 orders-db` a running `weir` grants them (`weir run examples/budget.toml`).
//!
//! All splits run at the same time under the same arrivals. 80 % of the connections are busy on average: Poisson arrivals that
//! hold a connection for 10 to 30 ms.
#![allow(clippy::print_stdout, reason = "the example's output")]

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use weir_core::hash::Rng;
use weir_pool::{Budget, Manager, Pool};

const TOTAL: u32 = 40;
/// Connections busy on average in the pool with little load, and in the other.
const BUSY: [f64; 2] = [8.0, 24.0];
const HOLD_MILLIS: (u64, u64) = (10, 30);
/// The first shares are granted and settle.
const SETTLE: Duration = Duration::from_secs(20);
/// Each phase is measured for so long.
const MEASURE: Duration = Duration::from_secs(25);
/// After the shift, shares have so long to follow.
const FOLLOW: Duration = Duration::from_secs(10);

/// The server: allows 40 connections.
#[derive(Default)]
struct Server {
    open: AtomicU32,
    most: AtomicU32,
    refused: AtomicU32,
}

struct Conn(Arc<Server>);

impl Drop for Conn {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct TooMany;

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many connections")
    }
}

impl std::error::Error for TooMany {}

struct To(Arc<Server>);

impl Manager for To {
    type Connection = Conn;
    type Error = TooMany;

    async fn connect(&self) -> Result<Conn, TooMany> {
        let open = self.0.open.fetch_add(1, Ordering::SeqCst) + 1;
        let conn = Conn(Arc::clone(&self.0));
        if open > TOTAL {
            self.0.refused.fetch_add(1, Ordering::SeqCst);
            return Err(TooMany);
        }
        self.0.most.fetch_max(open, Ordering::SeqCst);
        sleep(Duration::from_millis(5)).await;
        Ok(conn)
    }

    async fn check(&self, _: &mut Conn) -> Result<(), TooMany> {
        Ok(())
    }
}

/// Two pools and what their callers waited: in the first phase, while shares follow, and in the second phase.
struct Setup {
    name: String,
    server: Arc<Server>,
    pools: [Pool<To>; 2],
    waits: Arc<Mutex<[Vec<Duration>; 3]>>,
}

impl Setup {
    fn new(name: String, sizes: [u32; 2], budget: Option<&Budget>) -> Self {
        let server = Arc::new(Server::default());
        let pools = sizes.map(|size| {
            let builder = Pool::<To>::builder().max_size(size).min_idle(0).acquire_timeout(Duration::from_secs(30));
            let builder = match budget {
                Some(budget) => builder.budget(budget),
                None => builder,
            };
            match builder.build(To(Arc::clone(&server))) {
                Ok(pool) => pool,
                Err(error) => unreachable!("{error}"),
            }
        });
        Self { name, server, pools, waits: Arc::default() }
    }

    /// The callers of one pool.
    async fn callers(&self, which: usize, shifted: Arc<AtomicBool>, start: Instant) {
        let mut rng = Rng::new(which as u64);
        let mut at = start;
        let end = start + SETTLE + MEASURE + FOLLOW + MEASURE;
        while at < end {
            let busy = BUSY[which ^ usize::from(shifted.load(Ordering::Relaxed))];
            let mean = (HOLD_MILLIS.0 + HOLD_MILLIS.1) as f64 / 2_000.0 / busy;
            let uniform = (rng.below(1 << 40) + 1) as f64 / (1_u64 << 40) as f64;
            at += Duration::from_secs_f64(-uniform.ln() * mean);
            sleep_until(at).await;
            let hold = HOLD_MILLIS.0 * 1_000 + rng.below((HOLD_MILLIS.1 - HOLD_MILLIS.0) * 1_000);
            let (pool, waits) = (self.pools[which].clone(), Arc::clone(&self.waits));
            let phase = match at.duration_since(start) {
                time if time < SETTLE => None,
                time if time < SETTLE + MEASURE => Some(0),
                time if time < SETTLE + MEASURE + FOLLOW => Some(1),
                _ => Some(2),
            };
            tokio::spawn(async move {
                let asked = Instant::now();
                let Ok(conn) = pool.acquire().await else { return };
                let waited = asked.elapsed();
                if let (Some(phase), Ok(mut waits)) = (phase, waits.lock()) {
                    waits[phase].push(waited);
                }
                sleep(Duration::from_micros(hold)).await;
                drop(conn);
            });
        }
    }

    fn shares(&self) -> [u32; 2] {
        [0, 1].map(|which: usize| self.pools[which].snapshot().max_size)
    }

    fn report(&self) -> [Duration; 3] {
        let mut p99 = [Duration::ZERO; 3];
        if let Ok(mut waits) = self.waits.lock() {
            for (p99, waits) in p99.iter_mut().zip(waits.iter_mut()) {
                waits.sort_unstable();
                *p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or_default();
            }
        }
        let [first, following, second] = p99.map(|p99| p99.as_secs_f64() * 1e3);
        let (most, refused) = (self.server.most.load(Ordering::SeqCst), self.server.refused.load(Ordering::SeqCst));
        println!(
            "{:14} p99 wait {first:7.2} ms, {following:7.2} while shares follow, {second:7.2} after the shift; most open {most}, \
             refused {refused}",
            self.name
        );
        p99
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let budget = budget()?;
    let fixed = (9..=14).map(|few| Setup::new(format!("fixed {few}:{}", TOTAL - few), [few, TOTAL - few], None));
    let mut setups: Vec<_> = fixed.map(Arc::new).collect();
    setups.push(Arc::new(Setup::new("fixed 20:20".to_owned(), [20, 20], None)));
    let shared = Arc::new(Setup::new("budget".to_owned(), [TOTAL, TOTAL], Some(&budget)));
    setups.push(Arc::clone(&shared));
    // A grantor that has just started grants nothing for a lease.
    while shared.shares().contains(&0) {
        sleep(Duration::from_millis(100)).await;
    }
    let shifted = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    for setup in &setups {
        for which in [0, 1] {
            let (setup, shifted) = (Arc::clone(setup), Arc::clone(&shifted));
            tokio::spawn(async move { setup.callers(which, shifted, start).await });
        }
    }
    sleep_until(start + SETTLE + MEASURE).await;
    let before = shared.shares();
    shifted.store(true, Ordering::Relaxed);
    for setup in &setups[..setups.len() - 1] {
        // The fixed splits are told.
        let [few, many] = setup.shares();
        setup.pools[0].resize(many.min(few))?;
        setup.pools[1].resize(few.min(many))?;
        sleep(Duration::from_millis(100)).await;
        setup.pools[0].resize(many)?;
    }
    let shift = Instant::now();
    let mut followed = None;
    while shift.elapsed() < FOLLOW {
        let now = shared.shares();
        if followed.is_none() && now[0] + 1 >= before[1] {
            followed = Some(shift.elapsed());
        }
        sleep(Duration::from_millis(20)).await;
    }
    sleep_until(start + SETTLE + MEASURE + FOLLOW + MEASURE + Duration::from_secs(1)).await;
    let after = shared.shares();
    let p99: Vec<_> = setups.iter().map(|setup| setup.report()).collect();
    println!("shares {before:?} before the shift, {after:?} at the end; followed within {followed:?}");
    let Some((ours, fixed)) = p99.split_last() else { return Ok(()) };
    for (phase, what) in [(0, "before"), (2, "after")] {
        let best = fixed.iter().map(|p99| p99[phase]).min().unwrap_or_default();
        println!("{what} the shift: {:.3} of the best fixed split", ours[phase].as_secs_f64() / best.as_secs_f64());
    }
    Ok(())
}

#[cfg(feature = "budget")]
fn budget() -> Result<Budget, weir_pool::SettingsError> {
    let mut args = std::env::args().skip(1);
    match (args.next(), args.next()) {
        (Some(at), Some(name)) => Ok(weir_pool::RemoteBudget::new(at, name)?.into()),
        _ => Budget::local(TOTAL),
    }
}

#[cfg(not(feature = "budget"))]
fn budget() -> Result<Budget, weir_pool::SettingsError> {
    Budget::local(TOTAL)
}
