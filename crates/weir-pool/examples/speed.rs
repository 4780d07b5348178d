//! What an acquire and release costs: alone, and with many tasks in line.
//!
//! `cargo run --release -p weir-pool --example speed`, and with `-- endpoints` of pools over three endpoints.
#![allow(clippy::print_stdout, reason = "the example's output")]

use std::convert::Infallible;
use std::future::Future;
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir_pool::{Address, Algorithm, BalanceParams, Builder, Endpoint, EndpointPools, Manager, Pool};

struct Nothing;

impl Manager for Nothing {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(0)
    }

    async fn check(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }
}

/// What lends connections.
trait Source: Clone + Send + Sync + 'static {
    fn lend(&self) -> impl Future<Output = Option<impl DerefMut<Target = u64> + Send>> + Send;
}

impl Source for Pool<Nothing> {
    async fn lend(&self) -> Option<impl DerefMut<Target = u64> + Send> {
        self.acquire().await.ok()
    }
}

impl Source for EndpointPools<Nothing> {
    async fn lend(&self) -> Option<impl DerefMut<Target = u64> + Send> {
        self.acquire().await.ok()
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    match std::env::args().nth(1).as_deref() {
        None => one().await,
        Some("endpoints") => several().await,
        Some(other) => println!("{other}: not a mode; endpoints is one"),
    }
}

async fn one() {
    for _ in 0..3 {
        alone("", pool(10, |settings| settings)).await;
    }
    let noting = pool(10, |settings| settings.leak_after(Some(Duration::from_mins(1))));
    alone(", noting who holds it", noting).await;
    for (tasks, size) in [(1, 10), (8, 10), (64, 10), (1_000, 10), (5_000, 10), (5_000, 100)] {
        together(tasks, size, pool(size, |settings| settings)).await;
    }
}

async fn several() {
    for row in weir_balance::ALGORITHMS {
        alone(&format!(" over 3 endpoints, {}", row.name), endpoints(30, row.algorithm).await).await;
    }
    for (tasks, size) in [(1, 30), (64, 30), (5_000, 30)] {
        together(tasks, size, endpoints(size, Algorithm::LeastConnections).await).await;
    }
}

/// Pools over three endpoints that are up.
async fn endpoints(size: u32, algorithm: Algorithm) -> EndpointPools<Nothing> {
    let balance = BalanceParams { algorithm, ..BalanceParams::default() };
    let settings = EndpointPools::<Nothing>::builder(Pool::<Nothing>::builder().max_size(size)).balance(balance);
    let pools = match settings.build(|_| Nothing) {
        Ok(pools) => pools,
        Err(error) => unreachable!("{error}"),
    };
    let addresses = (1..=3).map(|port| Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], port))));
    if let Err(error) = pools.set_endpoints(addresses.map(Endpoint::new).collect()) {
        unreachable!("{error}");
    }
    while pools.snapshot().usable() < 3 {
        tokio::task::yield_now().await;
    }
    pools
}

fn pool(size: u32, settings: fn(Builder) -> Builder) -> Pool<Nothing> {
    match settings(Pool::<Nothing>::builder().max_size(size).min_idle(0)).build(Nothing) {
        Ok(pool) => pool,
        Err(error) => unreachable!("{error}"),
    }
}

async fn alone(how: &str, pool: impl Source) {
    const ROUNDS: u32 = 5_000_000;
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        if let Some(mut conn) = pool.lend().await {
            *conn += 1;
        }
    }
    println!("alone{how}: {:.1} ns for an acquire and release", begun.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
}

async fn together(tasks: usize, size: u32, pool: impl Source) {
    let over = Arc::new(AtomicBool::new(false));
    let handles: Vec<_> = (0..tasks)
        .map(|_| {
            let (pool, over) = (pool.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let (mut uses, mut waits) = (0_u64, Vec::new());
                while !over.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let Some(mut conn) = pool.lend().await else { continue };
                    // Not the first, which waits for the connections to be opened and the tasks to be spawned.
                    if uses % 16 == 15 {
                        waits.push(asked.elapsed());
                    }
                    *conn += 1;
                    uses += 1;
                    tokio::task::yield_now().await;
                }
                (uses, waits)
            })
        })
        .collect();
    let time = Duration::from_secs(3);
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let (mut uses, mut waits) = (Vec::new(), Vec::new());
    for handle in handles {
        if let Ok((of_task, of_task_waits)) = handle.await {
            uses.push(of_task as f64);
            waits.extend(of_task_waits);
        }
    }
    waits.sort_unstable();
    let sum: f64 = uses.iter().sum();
    let squares: f64 = uses.iter().map(|uses| uses * uses).sum();
    println!(
        "{tasks} tasks on {size}: {:.2} M/s, wait p50 {:?}, p99 {:?}, Jain {:.4}",
        sum / time.as_secs_f64() / 1e6,
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
        sum * sum / (squares * uses.len() as f64)
    );
}
