//! What an acquire and release costs: alone, and with many tasks in line.
//!
//! `cargo run --release -p weir-pool --example speed`
#![allow(clippy::print_stdout, reason = "the example's output")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir_pool::{Builder, Manager, Pool};

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

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    for _ in 0..3 {
        alone("", |settings| settings).await;
    }
    alone(", noting who holds it", |settings| settings.leak_after(Some(Duration::from_mins(1)))).await;
    for (tasks, size) in [(1, 10), (8, 10), (64, 10), (1_000, 10), (5_000, 10), (5_000, 100)] {
        together(tasks, size).await;
    }
}

fn pool(size: u32, settings: fn(Builder) -> Builder) -> Pool<Nothing> {
    match settings(Pool::<Nothing>::builder().max_size(size).min_idle(0)).build(Nothing) {
        Ok(pool) => pool,
        Err(error) => unreachable!("{error}"),
    }
}

async fn alone(how: &str, settings: fn(Builder) -> Builder) {
    const ROUNDS: u32 = 5_000_000;
    let pool = pool(10, settings);
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        if let Ok(mut conn) = pool.acquire().await {
            *conn += 1;
        }
    }
    println!("alone{how}: {:.1} ns for an acquire and release", begun.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
}

async fn together(tasks: usize, size: u32) {
    let pool = pool(size, |settings| settings);
    let over = Arc::new(AtomicBool::new(false));
    let handles: Vec<_> = (0..tasks)
        .map(|_| {
            let (pool, over) = (pool.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let (mut uses, mut waits) = (0_u64, Vec::new());
                while !over.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let Ok(mut conn) = pool.acquire().await else { continue };
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
