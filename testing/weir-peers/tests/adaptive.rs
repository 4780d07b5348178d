//! A pool finds its size on a PostgreSQL, does not grow into one that is saturated, and refuses early what would be late. The bars here
//! leave room for a busy machine; those of the program `postgres_adaptive` do not.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::time::Duration;

use weir_peers::{BOUNDS, Callers, KEEP, Overload, Settled, Sweep, Workload, capacity, echo_pool};
use weir_pool::{Adaptive, Admission};
use weir_test::Postgres as Server;

const SIZES: [u32; 4] = [8, 11, 14, 20];

fn server() -> Server {
    let server = Server::run(&["max_connections=120"]);
    Workload::Hot.prepare(&server);
    server
}

fn adaptive(server: &Server, from: u32) -> Callers {
    Callers::start(server, Workload::Hot, from, Some(Adaptive::set(BOUNDS.0..=BOUNDS.1))).unwrap()
}

async fn static_rate(server: &Server, size: u32) -> f64 {
    let callers = Callers::start(server, Workload::Hot, size, None).unwrap();
    let rate = callers.rate_with(size, Duration::from_secs(1)).await.unwrap().rate;
    callers.end().await;
    rate
}

async fn finds_the_knee(from: u32) {
    let server = server();
    let callers = Callers::start(&server, Workload::Hot, SIZES[0], None).unwrap();
    let sweep = Sweep::run(&callers, &SIZES, Duration::from_secs(1), 1).await.unwrap();
    callers.end().await;
    let (size, before) = sweep.best();
    let callers = adaptive(&server, from);
    callers.watch(16, |_, _, _| ()).await;
    let settled = Settled::of(&callers.watch(4, |_, _, _| ()).await);
    let failed = callers.failed();
    callers.end().await;
    let best = f64::midpoint(before, static_rate(&server, size).await);
    let text = format!("from {from}: {settled:?}, {failed} failed, {best:.1}/s with {size}, of\n{sweep}");
    assert_eq!(failed, 0, "{text}");
    assert!(settled.rate >= 0.8 * best, "{text}");
    let knee = f64::from(sweep.knee(KEEP));
    assert!((0.6 * knee..=2.0 * knee).contains(&f64::from(settled.size)), "{text}");
}

/// The statements wait and do not compute: two servers do not disturb each other.
#[tokio::test]
async fn heavy_from_both_ends_a_pool_finds_the_knee() {
    tokio::join!(finds_the_knee(BOUNDS.0), finds_the_knee(BOUNDS.1));
}

#[tokio::test]
async fn heavy_a_pool_does_not_grow_into_a_saturated_server() {
    let server = server();
    let callers = adaptive(&server, BOUNDS.0);
    let before = callers.watch(16, |_, _, _| ()).await;
    callers.set_slow(true);
    let during = callers.watch(16, |_, _, _| ()).await;
    callers.end().await;
    let text = format!("{before:#?}, slow: {during:#?}");
    // Without long strides: what is tried out beside the best size.
    let usual = before.iter().skip(8).map(|second| second.size).max().unwrap();
    let most = during.iter().map(|second| second.size).max().unwrap();
    assert!(f64::from(most) <= 1.25 * f64::from(usual), "{usual}, then {most}: {text}");
    let (quick, slow) = (Settled::of(&before[8..]), Settled::of(&during[8..]));
    assert!(slow.rate < 0.6 * quick.rate, "it was not saturated: {text}");
}

#[tokio::test]
async fn heavy_twice_the_capacity_is_refused_early_and_the_rest_is_in_time() {
    let server = server();
    let hold = Duration::from_millis(20);
    let pool = echo_pool(&server, 10).await.unwrap();
    let capacity = capacity(&pool, hold, Duration::from_secs(3)).await;
    let (deadline, lasts) = (Duration::from_secs(1), Duration::from_secs(8));
    let overload = Overload { hold, rate: 2.0 * capacity, deadline, lasts };
    let without = overload.run(&pool, 7).await;
    pool.configure(|settings| settings.admission(Some(Admission::default()))).unwrap();
    let with = overload.run(&pool, 7).await;
    let text = format!("{capacity:.1}/s; without: {without}; with: {with}");
    assert_eq!((with.failed, without.failed), (0, 0), "{text}");
    assert!(with.in_time as f64 >= 0.8 * capacity * lasts.as_secs_f64(), "{text}");
    assert!(with.refused_at(0.99) <= 0.25, "{text}");
    // A caller who is refused otherwise hears so when its time is over.
    assert!(without.refused_at(0.5) >= 0.9, "{text}");
}
