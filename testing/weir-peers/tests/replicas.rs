//! Pools over several real servers, one of which stops where it is.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use weir_pool::managers::redis::Redis;
use weir_pool::{Address, Endpoint, EndpointPools, Pool, Standing};
use weir_test::Redis as Server;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn eventually(what: &str, holds: impl FnMut() -> bool) {
    tokio::task::block_in_place(|| weir_test::eventually(Duration::from_secs(30), what, holds));
}

/// Callers whose commands may take so long.
const PATIENCE: Duration = ms(300);

#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    /// Commands without an answer.
    unanswered: AtomicUsize,
    refused: AtomicUsize,
    over: AtomicBool,
}

/// A server that is stopped keeps its connections, and its kernel accepts others. The callers report nothing: their commands
/// are dropped with the guard when their time is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_left_out_until_it_answers() {
    let mut servers = [(); 3].map(|()| Server::run(&[]));
    let addresses = [0, 1, 2].map(|at: usize| Address::parse(&format!("127.0.0.1:{}", servers[at].port())).unwrap());
    let settings = Pool::<Redis>::builder().name("cache").max_size(9).connect_timeout(ms(500));
    let pools = EndpointPools::<Redis>::builder(settings.acquire_timeout(Duration::from_secs(10)))
        .build(|endpoint| Redis::new(format!("redis://{}", endpoint.address).as_str()).unwrap())
        .unwrap();
    pools.set_endpoints(addresses.iter().cloned().map(Endpoint::new).collect()).unwrap();

    let counts = Arc::new(Counts::default());
    let callers: Vec<_> = (0..12)
        .map(|_| {
            let (pools, counts) = (pools.clone(), Arc::clone(&counts));
            tokio::spawn(async move {
                while !counts.over.load(Ordering::SeqCst) {
                    let Ok(mut conn) = pools.acquire().await else {
                        counts.refused.fetch_add(1, Ordering::SeqCst);
                        return;
                    };
                    let count = match timeout(PATIENCE, redis::cmd("PING").exec_async(&mut *conn)).await {
                        Ok(Ok(())) => &counts.answered,
                        _ => &counts.unanswered,
                    };
                    // Before the guard goes: without its connection the pool may be empty at once.
                    count.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let seen = |at: usize| {
        let snapshot = pools.snapshot();
        snapshot.endpoints.into_iter().find(|seen| seen.endpoint.address == addresses[at]).unwrap()
    };
    let answered = || counts.answered.load(Ordering::SeqCst);
    let unanswered = || counts.unanswered.load(Ordering::SeqCst);
    eventually("all serve", || pools.snapshot().usable() == 3 && answered() > 200);
    assert_eq!(unanswered(), 0);

    servers[0].pause();
    let begun = Instant::now();
    eventually("it is left out", || seen(0).standing != Standing::Up);
    let took = begun.elapsed();
    let out = Instant::now();
    eventually("it is empty", || seen(0).pool.active + seen(0).pool.idle == 0);
    assert!(out.elapsed() < Duration::from_secs(1), "{:?}: {}", out.elapsed(), pools.snapshot());
    println!("left out {took:?} after it was stopped, by {} commands without an answer", unanswered());
    let lost = unanswered();
    eventually("it is tried, and does not answer", || seen(0).pool.failing_for.is_some_and(|time| time >= ms(1_000)));
    let before = answered();
    eventually("the others serve", || answered() > before + 1_000);
    assert_eq!(unanswered(), lost, "nobody comes to it again: {}", pools.snapshot());

    servers[0].go_on();
    eventually("it is back", || seen(0).standing == Standing::Up && seen(0).pool.max_size == 3);
    let before = answered();
    eventually("all serve", || answered() > before + 200);
    assert_eq!((unanswered(), counts.refused.load(Ordering::SeqCst)), (lost, 0));
    counts.over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
}
