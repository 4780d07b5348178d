//! In the steady state acquire and release ask for no memory, alone and in line: one pool, and pools over several endpoints,
//! under an allocator that counts what the test's thread asks for.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::task::{LocalSet, spawn_local, yield_now};
use weir_pool::{Address, Algorithm, BalanceParams, Endpoint, EndpointPools, Manager, Pool};

/// Uses in one window.
const USES: usize = 5_000;
/// Windows of which one has to be without allocations: the housekeeper notes something each second.
const WINDOWS: usize = 3;

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that is ending has no thread-locals any more, and is of no interest.
    if WATCHED.try_with(Cell::get).unwrap_or(false) {
        let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    }
}

// SAFETY: every call is handed to the system's allocator unchanged; counting touches thread-locals without destructors, and
// allocates nothing.
#[expect(unsafe_code, reason = "an allocator can be replaced in no other way")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// What this thread asks for while `run` goes on.
async fn during(run: impl Future<Output = ()>) -> u64 {
    let before = CALLS.get();
    WATCHED.set(true);
    run.await;
    WATCHED.set(false);
    CALLS.get() - before
}

/// The least of some windows, after one that is not counted.
async fn least<F: Future<Output = ()>>(run: impl Fn() -> F) -> u64 {
    run().await;
    let mut least = u64::MAX;
    for _ in 0..WINDOWS {
        least = least.min(during(run()).await);
    }
    least
}

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

/// As many allocations as an allocation makes: the counter counts.
#[tokio::test]
async fn the_counter_counts() {
    assert_eq!(during(async { drop(std::hint::black_box(Box::new(1_u64))) }).await, 1);
}

#[tokio::test]
async fn a_pool_allocates_nothing() {
    let pool = Pool::<Nothing>::builder().max_size(3).build(Nothing).unwrap();
    let alone = || async {
        for _ in 0..USES {
            *pool.acquire().await.unwrap() += 1;
        }
    };
    assert_eq!(least(alone).await, 0);
    let lent = pool.clone();
    let in_line = in_line(3, move || {
        let pool = lent.clone();
        async move {
            let guard = pool.acquire().await.unwrap();
            yield_now().await;
            drop(guard);
        }
    });
    assert_eq!(in_line.await, 0);
}

#[tokio::test]
async fn pools_over_endpoints_allocate_nothing_whatever_the_algorithm() {
    for row in weir_balance::ALGORITHMS {
        let balance = BalanceParams { algorithm: row.algorithm, ..BalanceParams::default() };
        let pools = endpoints(balance).await;
        let alone = || async {
            for _ in 0..USES {
                *pools.acquire().await.unwrap() += 1;
            }
        };
        assert_eq!(least(alone).await, 0, "{}", row.name);
    }
    let pools = endpoints(BalanceParams { algorithm: Algorithm::LeastConnections, ..BalanceParams::default() }).await;
    let in_line = in_line(6, move || {
        let pools = pools.clone();
        async move {
            let guard = pools.acquire().await.unwrap();
            yield_now().await;
            drop(guard);
        }
    });
    assert_eq!(in_line.await, 0);
}

async fn endpoints(balance: BalanceParams) -> EndpointPools<Nothing> {
    let pool = Pool::<Nothing>::builder().max_size(6);
    let pools = EndpointPools::<Nothing>::builder(pool).balance(balance).build(|_| Nothing).unwrap();
    let address = |port| Address::from(SocketAddr::from(([192, 0, 2, 1], port)));
    pools.set_endpoints((1..=3).map(|port| Endpoint::new(address(port))).collect()).unwrap();
    while pools.snapshot().endpoints.iter().any(|seen| seen.pool.max_size != 2) || pools.snapshot().usable() < 3 {
        yield_now().await;
    }
    pools
}

/// What three times as many tasks as there are connections ask for in a window.
async fn in_line<F: Future<Output = ()> + 'static>(connections: usize, use_one: impl Fn() -> F + 'static) -> u64 {
    let use_one = Rc::new(use_one);
    let (ended, least) = (Rc::new(Cell::new(0_usize)), Rc::new(Cell::new(u64::MAX)));
    let tasks = connections * 3;
    LocalSet::new()
        .run_until(async {
            let handles: Vec<_> = (0..tasks)
                .map(|_| {
                    let (use_one, ended) = (Rc::clone(&use_one), Rc::clone(&ended));
                    spawn_local(async move {
                        while ended.get() < USES * (WINDOWS + 1) {
                            use_one().await;
                            ended.set(ended.get() + 1);
                        }
                    })
                })
                .collect();
            for window in 1..=WINDOWS {
                let (from, to) = (USES * window, USES * (window + 1));
                while ended.get() < from {
                    yield_now().await;
                }
                let calls = during(async {
                    while ended.get() < to {
                        yield_now().await;
                    }
                });
                least.set(least.get().min(calls.await));
            }
            for handle in handles {
                handle.await.unwrap();
            }
        })
        .await;
    least.get()
}
