//! Admission and adaptive size, against a server of the test's own making and on a paused clock.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use weir_pool::{Adaptive, Admission, Builder, Manager, Pool, Refused, SizeReason};

struct Nothing;

impl Manager for Nothing {
    type Connection = ();
    type Error = Infallible;

    async fn connect(&self) -> Result<(), Infallible> {
        pass(ms(5)).await;
        Ok(())
    }

    async fn check(&self, (): &mut ()) -> Result<(), Infallible> {
        Ok(())
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets time pass on the paused clock.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await; // tidy: allow(sleep) virtual time: nothing waits for a machine
}

fn builder() -> Builder {
    Pool::<Nothing>::builder().tokio_clock(true).min_idle(0).max_size(10)
}

#[derive(Default)]
struct Counts {
    in_time: AtomicU32,
    late: AtomicU32,
    refused: AtomicU32,
    refused_late: AtomicU32,
    other: AtomicU32,
}

/// Callers that come every `every` for 10 s, each with a second for waiting and use; uses take 20 ms: 500 a second.
async fn offer(pool: &Pool<Nothing>, every: Duration) -> Arc<Counts> {
    let counts = Arc::new(Counts::default());
    let end = Instant::now() + Duration::from_secs(10);
    let mut tasks = Vec::new();
    while Instant::now() < end {
        let (pool, counts) = (pool.clone(), Arc::clone(&counts));
        tasks.push(tokio::spawn(async move {
            let asked = Instant::now();
            let counter = match pool.acquire_timeout(ms(1_000)).await {
                Ok(guard) => {
                    pass(ms(20)).await;
                    drop(guard);
                    if asked.elapsed() <= ms(1_000) { &counts.in_time } else { &counts.late }
                }
                Err(error) if error.refused() == Refused::Overload => {
                    assert!(error.retry_after().unwrap() >= ms(10), "{error}");
                    if asked.elapsed() > ms(200) {
                        counts.refused_late.fetch_add(1, Ordering::Relaxed);
                    }
                    &counts.refused
                }
                Err(_) => &counts.other,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        pass(every).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn at_twice_the_capacity_nine_tenths_of_it_are_answered_in_time_and_refusals_are_quick() {
    let pool = builder().admission(Admission::default()).build(Nothing).unwrap();
    let counts = offer(&pool, ms(1)).await;
    let get = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
    // Uses end on tokio's clock, a millisecond late at most.
    assert!(get(&counts.in_time) >= 4_500, "{} of 5000", get(&counts.in_time));
    assert_eq!((get(&counts.refused_late), get(&counts.late), get(&counts.other)), (0, 0, 0));
    assert!(get(&counts.refused) > 4_000);
    // Below capacity nobody is.
    let counts = offer(&pool, ms(3)).await;
    assert_eq!(get(&counts.refused), 0);
}

#[tokio::test(start_paused = true)]
async fn without_admission_most_are_too_late() {
    let pool = builder().build(Nothing).unwrap();
    let counts = offer(&pool, ms(1)).await;
    assert!(counts.in_time.load(Ordering::Relaxed) < 2_500);
}

#[tokio::test(start_paused = true)]
async fn the_size_follows_the_load() {
    let pool = builder().adaptive(Adaptive::set(2..=50)).build(Nothing).unwrap();
    // 1,000 a second of 20 ms: 20 in use; the server takes as many as come. 80 s of that.
    for _ in 0..8 {
        offer(&pool, ms(1)).await;
    }
    let proposal = pool.proposal().unwrap();
    assert!((20..=36).contains(&proposal.size), "{proposal}");
    assert_eq!(pool.snapshot().max_size, proposal.size);
    // Idle: it shrinks, slowly.
    pass(Duration::from_mins(5)).await;
    assert!(pool.snapshot().max_size <= 4, "{}", pool.proposal().unwrap());
    pool.close(ms(1_000)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_proposal_changes_nothing() {
    let pool = builder().adaptive(Adaptive::propose(2..=50)).build(Nothing).unwrap();
    offer(&pool, ms(4)).await;
    let proposal = pool.proposal().unwrap();
    assert!(matches!(proposal.reason, SizeReason::Demand { .. }), "{proposal}");
    assert_eq!(pool.snapshot().max_size, 10);
}

#[tokio::test(start_paused = true)]
async fn contradictions_are_refused() {
    let refused = |builder: Builder| builder.build(Nothing).unwrap_err().setting();
    assert_eq!(refused(builder().adaptive(Adaptive::set(20..=50))), "adaptive");
    assert_eq!(refused(builder().adaptive(Adaptive::set(0..=50))), "adaptive");
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let empty = Adaptive::propose(50..=20);
    assert_eq!(refused(builder().adaptive(empty)), "adaptive");
    assert_eq!(refused(builder().admission(Admission { target: ms(50), interval: ms(10) })), "admission");
    assert_eq!(refused(builder().admission(Admission { target: ms(2_000), interval: ms(4_000) })), "admission");
    let pool = builder().adaptive(Adaptive::set(2..=50)).build(Nothing).unwrap();
    assert_eq!(pool.resize(60).unwrap_err().setting(), "adaptive");
    assert_eq!(pool.configure(|settings| settings.adaptive(Adaptive::set(2..=20))).unwrap_err().setting(), "adaptive");
}
