//! Two scenes that show what a pool does when connects are slow, and when they do not end.
//!
//! **Spike**: fifty callers at once on five open connections of a pool of at most fifty that keeps none open ahead of demand; a
//! connect takes 150 ms. With queries of 2 ms the five do the work in 20 ms, and every connect is one too many; with queries of
//! 2 s nothing else helps.
//!
//! **Down**: connects never end; twenty callers on a pool of ten want a connection within a second. Then the database is back,
//! and one more caller asks. Connects that hang by then go on hanging, as those do whose packets were lost.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::load::{fill, pause};
use crate::peers::{AsyncPool, BlockingPool, Limits};
use crate::world::World;
use crate::{Outcome, load};

/// Callers of a spike, and the most connections of its pool.
pub const CALLERS: u32 = 50;
/// Connections that are open before it.
pub const WARM: u32 = 5;
/// What a connect takes in it.
pub const CONNECT: Duration = Duration::from_millis(150);
/// Until when after its beginning opened connections are counted at least.
const AFTERMATH: Duration = Duration::from_millis(1_500);
/// How long a pool has to come to rest before a scene.
const REST: Duration = Duration::from_millis(200);

/// Callers while the database is down.
pub const DOWN_CALLERS: u32 = 20;
/// Connections of their pool at most.
const DOWN_SIZE: u32 = 10;
/// How long they are to wait.
pub const DOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// How much later is still in time.
pub const DOWN_GRACE: Duration = Duration::from_millis(50);
/// Who has no answer by then hangs.
const DOWN_WATCH: Duration = Duration::from_secs(4);
/// How long it is looked at after the database is back.
const BACK_WATCH: Duration = Duration::from_secs(5);

/// What was seen of a spike. Times are nanoseconds from its beginning.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
pub struct Spike {
    /// Connections that were open before it.
    pub warm: u64,
    /// How long each caller waited.
    pub waits: Vec<u64>,
    /// How long a connection was held on average.
    pub hold: u64,
    /// When the last caller was done.
    pub served: u64,
    /// Connections opened beyond those that were there.
    pub opened: u64,
    /// When as many connections were open as may be, if ever.
    pub all_open: Option<u64>,
    /// Callers that got none.
    pub failed: u64,
}

/// What was seen while the database was down, and after.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
pub struct Down {
    /// Callers that failed within their time-out and the grace.
    pub in_time: u64,
    /// Those that failed later.
    pub late: u64,
    /// Those that had no answer when the watch ended.
    pub hung: u64,
    /// When the last one failed that did, in nanoseconds.
    pub slowest: u64,
    /// How long after the database was back the next caller had a connection, in nanoseconds.
    pub back: Option<u64>,
    /// What the first failure said.
    pub error: String,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What a caller reports: how long it waited and held, or why it got nothing and after how long.
type Report = Result<(Duration, Duration), (Duration, String)>;

fn spike_limits() -> Limits {
    Limits { size: CALLERS, min_idle: Some(0), acquire_timeout: None }
}

fn down_limits() -> Limits {
    Limits { size: DOWN_SIZE, min_idle: None, acquire_timeout: Some(DOWN_TIMEOUT) }
}

/// Watches a spike from outside.
fn watch_spike(world: &World, query: Duration, begin: impl FnOnce(mpsc::Sender<Report>)) -> Spike {
    pause(REST);
    let opened = world.opened();
    let mut spike = Spike { warm: world.open(), ..Spike::default() };
    let mut hold = Duration::ZERO;
    let (to, reports) = mpsc::channel();
    let begun = Instant::now();
    begin(to);
    let limit = 4 * (AFTERMATH + 10 * query);
    let mut left = CALLERS;
    while (left > 0 && begun.elapsed() < limit) || begun.elapsed() < AFTERMATH {
        if spike.all_open.is_none() && world.open() >= u64::from(CALLERS) {
            spike.all_open = Some(nanos(begun.elapsed()));
        }
        match reports.recv_timeout(Duration::from_millis(1)) {
            Ok(report) => {
                left -= 1;
                spike.served = nanos(begun.elapsed());
                match report {
                    Ok((waited, held)) => {
                        spike.waits.push(nanos(waited));
                        hold += held;
                    }
                    Err(_) => spike.failed += 1,
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            // All have reported.
            Err(mpsc::RecvTimeoutError::Disconnected) => pause(Duration::from_millis(1)),
        }
    }
    spike.failed += u64::from(left);
    spike.hold = nanos(hold) / (spike.waits.len() as u64).max(1);
    spike.opened = world.opened() - opened;
    spike.waits.sort_unstable();
    spike
}

/// Watches callers that get nothing; `ask` then asks once more, and gives up after [`BACK_WATCH`].
fn watch_down(world: &World, begin: impl FnOnce(mpsc::Sender<Report>), ask: impl FnOnce() -> bool) -> Down {
    let mut down = Down::default();
    let (to, reports) = mpsc::channel();
    let begun = Instant::now();
    begin(to);
    let mut left = DOWN_CALLERS;
    while left > 0 {
        let Some(time) = DOWN_WATCH.checked_sub(begun.elapsed()) else { break };
        let Ok(report) = reports.recv_timeout(time) else { break };
        left -= 1;
        if let Err((waited, error)) = report {
            let in_time = waited <= DOWN_TIMEOUT + DOWN_GRACE;
            *(if in_time { &mut down.in_time } else { &mut down.late }) += 1;
            down.slowest = down.slowest.max(nanos(waited));
            if down.error.is_empty() {
                down.error = error;
            }
        }
    }
    down.hung = u64::from(left);
    world.set_silent(false);
    let back = Instant::now();
    down.back = ask().then(|| nanos(back.elapsed()));
    down
}

// === tasks ===

async fn caller<P: AsyncPool>(pool: P, query: Duration, to: mpsc::Sender<Report>) {
    let asked = Instant::now();
    let report = match pool.acquire().await {
        Ok(mut guard) => {
            let (waited, got) = (asked.elapsed(), Instant::now());
            P::conn(&mut guard).touch();
            tokio::time::sleep(query).await;
            drop(guard);
            Ok((waited, got.elapsed()))
        }
        Err(error) => Err((asked.elapsed(), error)),
    };
    let _ = to.send(report);
}

/// A spike on a pool of tasks.
///
/// # Errors
/// If the pool cannot be built.
pub fn spike_async<P: AsyncPool>(query: Duration) -> Outcome<Spike> {
    let runtime = load::runtime(2)?;
    let world = World::new(None);
    world.set_connect_time(CONNECT);
    let pool = runtime.block_on(async {
        let pool = P::build(Arc::clone(&world), spike_limits()).await?;
        fill(&pool, WARM).await?;
        Ok::<P, String>(pool)
    })?;
    let spike = watch_spike(&world, query, |to| {
        for _ in 0..CALLERS {
            drop(runtime.spawn(caller(pool.clone(), query, to.clone())));
        }
    });
    runtime.shutdown_background();
    Ok(spike)
}

/// A database that does not answer, and a pool of tasks.
///
/// # Errors
/// If the pool cannot be built.
pub fn down_async<P: AsyncPool>() -> Outcome<Down> {
    let runtime = load::runtime(2)?;
    let world = World::new(None);
    world.set_silent(true);
    let pool = runtime.block_on(P::build(Arc::clone(&world), down_limits()))?;
    let begin = |to: mpsc::Sender<Report>| {
        for _ in 0..DOWN_CALLERS {
            drop(runtime.spawn(caller(pool.clone(), Duration::ZERO, to.clone())));
        }
    };
    let ask = || {
        // An application asks again.
        let persist = async {
            while pool.acquire().await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        runtime.block_on(async { tokio::time::timeout(BACK_WATCH, persist).await.is_ok() })
    };
    let down = watch_down(&world, begin, ask);
    runtime.shutdown_background();
    Ok(down)
}

// === threads ===

fn call<P: BlockingPool>(pool: &P, query: Duration) -> Report {
    let asked = Instant::now();
    match pool.acquire() {
        Ok(mut guard) => {
            let (waited, got) = (asked.elapsed(), Instant::now());
            P::conn(&mut guard).touch();
            pause(query);
            drop(guard);
            Ok((waited, got.elapsed()))
        }
        Err(error) => Err((asked.elapsed(), error)),
    }
}

fn call_all<P: BlockingPool>(pool: &P, count: u32, query: Duration, to: &mpsc::Sender<Report>) {
    for _ in 0..count {
        let (pool, to) = (pool.clone(), to.clone());
        std::thread::spawn(move || to.send(call(&pool, query)));
    }
}

/// A spike on a pool of threads.
///
/// # Errors
/// If the pool cannot be built.
pub fn spike_threads<P: BlockingPool>(query: Duration) -> Outcome<Spike> {
    let world = World::new(None);
    world.set_connect_time(CONNECT);
    let pool = P::build(Arc::clone(&world), spike_limits())?;
    let held: Outcome<Vec<_>> = (0..WARM).map(|_| pool.acquire()).collect();
    drop(held?);
    Ok(watch_spike(&world, query, |to| call_all(&pool, CALLERS, query, &to)))
}

/// A database that does not answer, and a pool of threads.
///
/// # Errors
/// If the pool cannot be built.
pub fn down_threads<P: BlockingPool>() -> Outcome<Down> {
    let world = World::new(None);
    world.set_silent(true);
    let pool = P::build(Arc::clone(&world), down_limits())?;
    let ask = || {
        let (to, served) = mpsc::channel();
        let pool = pool.clone();
        std::thread::spawn(move || {
            let end = Instant::now() + BACK_WATCH;
            while Instant::now() < end {
                if pool.acquire().is_ok() {
                    let _ = to.send(());
                    return;
                }
            }
        });
        served.recv_timeout(BACK_WATCH).is_ok()
    };
    Ok(watch_down(&world, |to| call_all(&pool, DOWN_CALLERS, Duration::ZERO, &to), ask))
}
