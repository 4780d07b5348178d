//! The loops that are measured, and the clock beside them.
//!
//! The loops run all the time and know nothing of the window: the measuring thread reads their counters at its two ends. A task
//! writes when it began to wait to a place of its own, so that a wait that has not ended is seen, with its age.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use rustix::time::{ClockId, clock_gettime};

use crate::cell::{Raw, Spec, Use};
use crate::histogram::{self, Histogram};
use crate::peers::{AsyncPool, BlockingPool, Limits};
use crate::world::World;
use crate::{Outcome, allocations};

/// Histograms; threads share them when there are more.
const SHARDS: usize = 64;
/// Where nothing but acquire and release is measured, a wait is looked at this often.
const SAMPLED: u64 = 64;
/// The share of the window in which allocations are counted, after it.
const COUNTED: u32 = 4;
/// Stack of a thread per task.
const STACK_BYTES: usize = 128 << 10;
/// How long tasks or threads may take to start, and the pool to fill.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The counters of a task.
#[derive(Default, Debug)]
struct Task {
    uses: AtomicU64,
    /// Raw time since when it waits; 0 if it does not.
    since: AtomicU64,
}

struct Load {
    clock: quanta::Clock,
    tasks: Vec<CachePadded<Task>>,
    shards: Vec<Histogram>,
    started: AtomicUsize,
    errors: AtomicU64,
    error: Mutex<Option<String>>,
}

thread_local! {
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

#[inline]
fn shard() -> usize {
    SHARD.with(|own| {
        own.get().unwrap_or_else(|| {
            let next = NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS;
            own.set(Some(next));
            next
        })
    })
}

impl Load {
    fn new(tasks: usize) -> Arc<Self> {
        Arc::new(Self {
            clock: quanta::Clock::new(),
            tasks: (0..tasks).map(|_| CachePadded::default()).collect(),
            shards: (0..SHARDS).map(|_| Histogram::default()).collect(),
            started: AtomicUsize::new(0),
            errors: AtomicU64::new(0),
            error: Mutex::new(None),
        })
    }

    #[inline]
    fn begin(&self, task: &Task) -> u64 {
        let now = self.clock.raw();
        task.since.store(now, Ordering::Relaxed);
        now
    }

    /// The wait is over.
    #[inline]
    fn end(&self, task: &Task, began: u64) {
        let now = self.clock.raw();
        task.since.store(0, Ordering::Relaxed);
        if let Some(shard) = self.shards.get(shard()) {
            shard.record(now.saturating_sub(began));
        }
    }

    /// A use is over; only the task itself writes here.
    #[inline]
    fn used(task: &Task) {
        task.uses.store(task.uses.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    #[cold]
    fn failed(&self, task: &Task, error: String) {
        task.since.store(0, Ordering::Relaxed);
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn uses(&self) -> Vec<u64> {
        self.tasks.iter().map(|task| task.uses.load(Ordering::Relaxed)).collect()
    }

    fn waits(&self) -> Vec<u64> {
        let mut sum = Vec::new();
        for shard in &self.shards {
            histogram::add(&mut sum, &shard.counts());
        }
        sum
    }

    /// Runs the clock beside the loops.
    fn measure(&self, spec: &Spec, world: &World) -> Outcome<Raw> {
        let end = Instant::now() + START_LIMIT;
        while self.started.load(Ordering::Relaxed) < spec.tasks {
            if Instant::now() > end {
                return Err(format!(
                    "only {} of {} tasks have started within {START_LIMIT:?}",
                    self.started.load(Ordering::Relaxed),
                    spec.tasks
                ));
            }
            pause(Duration::from_millis(1));
        }
        pause(spec.warm_up);
        let open = world.open();
        let (uses_before, waits_before) = (self.uses(), self.waits());
        let (cpu, begun) = (cpu_nanos(), Instant::now());
        pause(spec.window);
        let (cpu_nanos, elapsed) = (cpu_nanos() - cpu, begun.elapsed());
        let now = self.clock.raw();
        let (uses, waits) = (self.uses(), self.waits());
        let open_waits = self
            .tasks
            .iter()
            .map(|task| task.since.load(Ordering::Relaxed))
            // Those that began after the end of the window are none of it.
            .filter(|since| (1..=now).contains(since))
            .map(|since| self.clock.delta_as_nanos(since, now))
            .collect();
        let before: u64 = self.uses().iter().sum();
        let allocated = allocations::during(|| pause(spec.window / COUNTED));
        let counted = self.uses().iter().sum::<u64>() - before;
        Ok(Raw {
            elapsed_nanos: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            cpu_nanos,
            per_task: uses.iter().zip(&uses_before).map(|(after, before)| after - before).collect(),
            waits: histogram::between(&waits_before, &waits, |raw| self.clock.delta_as_nanos(0, raw)),
            open_waits,
            allocations: Some((allocated, counted)),
            errors: self.errors.load(Ordering::Relaxed),
            error: self.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            open,
            peak: world.peak(),
        })
    }
}

/// Tokio as the peers get it.
pub(crate) fn runtime(workers: usize) -> Outcome<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers).enable_all().build().map_err(|e| e.to_string())
}

#[expect(clippy::disallowed_methods, reason = "a measuring window has a length; nothing is waited for")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Time on processors of this process so far.
fn cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn limits(spec: &Spec) -> Limits {
    Limits { size: spec.size, min_idle: None, acquire_timeout: None }
}

/// A cell of a pool of tasks.
///
/// # Errors
/// If the pool cannot be filled or the tasks do not start.
pub fn run_async<P: AsyncPool>(spec: &Spec) -> Outcome<Raw> {
    let workers = if spec.tasks == 1 { 1 } else { 2 };
    let runtime = runtime(workers)?;
    let world = World::new(spec.server);
    let pool = runtime.block_on(async {
        let pool = P::build(Arc::clone(&world), limits(spec)).await?;
        let fill = fill(&pool, spec.size);
        tokio::time::timeout(START_LIMIT, fill).await.map_err(|_| "the pool does not fill".to_owned())??;
        Ok::<P, String>(pool)
    })?;
    let load = Load::new(spec.tasks);
    for at in 0..spec.tasks {
        let (pool, load) = (pool.clone(), Arc::clone(&load));
        match spec.use_of {
            Use::Alone => drop(runtime.spawn(alone(pool, load, at))),
            Use::Noop => drop(runtime.spawn(noop(pool, load, at))),
            Use::Hold => drop(runtime.spawn(hold(pool, load, at))),
            Use::Socket => drop(runtime.spawn(socket(pool, load, at))),
        }
    }
    let raw = load.measure(spec, &world);
    // Tasks that hang would keep it from ending.
    runtime.shutdown_background();
    raw
}

/// Holds `count` connections at once, so that all are open, and gives them back.
///
/// # Errors
/// Of the pool.
pub async fn fill<P: AsyncPool>(pool: &P, count: u32) -> Outcome {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(pool.acquire().await?);
    }
    drop(held);
    Ok(())
}

macro_rules! async_loop {
    ($name:ident, $pool:ident, $guard:ident, $use_it:block, $after:block) => {
        async fn $name<P: AsyncPool>($pool: P, load: Arc<Load>, at: usize) {
            load.started.fetch_add(1, Ordering::Relaxed);
            let Some(task) = load.tasks.get(at) else { return };
            loop {
                let began = load.begin(task);
                match $pool.acquire().await {
                    Ok(mut $guard) => {
                        load.end(task, began);
                        let used: Outcome = $use_it;
                        drop($guard);
                        match used {
                            Ok(()) => Load::used(task),
                            Err(error) => load.failed(task, error),
                        }
                    }
                    Err(error) => {
                        load.failed(task, error);
                        tokio::task::yield_now().await;
                    }
                }
                $after
            }
        }
    };
}

async_loop!(
    noop,
    pool,
    guard,
    {
        P::conn(&mut guard).touch();
        Ok(())
    },
    { tokio::task::yield_now().await }
);
async_loop!(
    hold,
    pool,
    guard,
    {
        P::conn(&mut guard).touch();
        tokio::task::yield_now().await;
        Ok(())
    },
    {}
);
async_loop!(socket, pool, guard, { P::conn(&mut guard).request().await.map_err(|e| e.to_string()) }, {});

/// The bare cycle: the clock is read once in [`SAMPLED`] rounds.
async fn alone<P: AsyncPool>(pool: P, load: Arc<Load>, at: usize) {
    load.started.fetch_add(1, Ordering::Relaxed);
    let Some(task) = load.tasks.get(at) else { return };
    loop {
        for round in 0..SAMPLED {
            let began = (round == 0).then(|| load.begin(task));
            match pool.acquire().await {
                Ok(mut guard) => {
                    if let Some(began) = began {
                        load.end(task, began);
                    }
                    P::conn(&mut guard).touch();
                }
                Err(error) => {
                    load.failed(task, error);
                    tokio::task::yield_now().await;
                    continue;
                }
            }
            Load::used(task);
        }
    }
}

/// A cell of a pool of threads.
///
/// # Errors
/// If the pool cannot be filled or the threads do not start.
pub fn run_threads<P: BlockingPool>(spec: &Spec) -> Outcome<Raw> {
    let world = World::new(spec.server);
    let pool = P::build(Arc::clone(&world), limits(spec))?;
    let held: Outcome<Vec<_>> = (0..spec.size).map(|_| pool.acquire()).collect();
    drop(held?);
    let load = Load::new(spec.tasks);
    for at in 0..spec.tasks {
        let (pool, load, use_of) = (pool.clone(), Arc::clone(&load), spec.use_of);
        std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || thread(&pool, &load, at, use_of))
            .map_err(|e| format!("thread {at} of {}: {e}", spec.tasks))?;
    }
    // The threads end with the process.
    load.measure(spec, &world)
}

fn thread<P: BlockingPool>(pool: &P, load: &Load, at: usize, use_of: Use) {
    load.started.fetch_add(1, Ordering::Relaxed);
    let Some(task) = load.tasks.get(at) else { return };
    let mut round = 0;
    loop {
        round += 1;
        let began = (use_of != Use::Alone || round % SAMPLED == 0).then(|| load.begin(task));
        match pool.acquire() {
            Ok(mut guard) => {
                if let Some(began) = began {
                    load.end(task, began);
                }
                let mut used = Ok(());
                match use_of {
                    Use::Alone | Use::Noop => P::conn(&mut guard).touch(),
                    Use::Hold => {
                        P::conn(&mut guard).touch();
                        std::thread::yield_now();
                    }
                    Use::Socket => used = P::conn(&mut guard).request().map_err(|e| e.to_string()),
                }
                drop(guard);
                match used {
                    Ok(()) => Load::used(task),
                    Err(error) => load.failed(task, error),
                }
            }
            Err(error) => load.failed(task, error),
        }
        if use_of == Use::Noop {
            std::thread::yield_now();
        }
    }
}
