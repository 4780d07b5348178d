//! What comes together while a pool runs: warm-ups and places that are not free yet, sizes and settings, a suspension and an admission,
//! a failure of long ago.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Server, eventually, ms, pass, pool};
use weir_pool::{Admission, CloseReason, Refused};

#[tokio::test(start_paused = true)]
async fn a_warm_up_waits_for_the_places_of_what_is_being_closed() {
    let (pool, server) = pool(|builder| builder);
    pool.warm_up(10, ms(1_000)).await.unwrap();
    server.close_ms.store(200, Ordering::SeqCst);
    pool.evict();
    pool.warm_up(10, ms(1_000)).await.unwrap();
    assert_eq!((pool.snapshot().idle, server.opened.load(Ordering::SeqCst)), (10, 20));
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_that_is_over_takes_nothing_from_another() {
    let (pool, server) = pool(|builder| builder);
    Server::set(&server.refuses, true);
    let long = tokio::spawn({
        let pool = pool.clone();
        async move { pool.warm_up(8, ms(10_000)).await }
    });
    assert_eq!(pool.warm_up(4, ms(500)).await.unwrap_err().refused(), Refused::TimedOut);
    Server::set(&server.refuses, false);
    long.await.unwrap().unwrap();
    assert_eq!(pool.snapshot().idle, 8);
    // Nor does one that was met come back.
    pool.evict();
    pass(ms(30_000)).await;
    assert_eq!(pool.snapshot().idle, 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_long_ago_refuses_nobody() {
    let (pool, server) = pool(|builder| builder);
    Server::set(&server.refuses, true);
    assert_eq!(pool.acquire_timeout(ms(20)).await.unwrap_err().refused(), Refused::TimedOut);
    pass(Duration::from_mins(1)).await;
    Server::set(&server.refuses, false);
    drop(pool.acquire().await.unwrap());
    // One that goes on does.
    Server::set(&server.refuses, true);
    pool.evict();
    let mut refusals = Vec::new();
    for _ in 0..4 {
        refusals.push(pool.acquire_timeout(ms(2_000)).await.unwrap_err().refused());
    }
    assert_eq!(refusals, [Refused::TimedOut, Refused::TimedOut, Refused::TimedOut, Refused::Down]);
}

#[tokio::test(start_paused = true)]
async fn other_settings_can_be_changed_after_the_pool_has_shrunk() {
    let (pool, _) = pool(|builder| builder.max_size(20).min_idle(10));
    pool.resize(8).unwrap();
    pool.configure(|settings| settings.acquire_timeout(ms(1_000)).validation_timeout(ms(100))).unwrap();
    let error = pool.configure(|settings| settings.max_size(9)).unwrap_err();
    assert_eq!(error.to_string(), "min_idle: 10 is more than max_size (9)");
    // What was chosen stays, also where it is what would have been taken otherwise.
    pool.configure(|settings| settings.max_size(40)).unwrap();
    eventually("as many are idle as were chosen", || pool.snapshot().idle == 10).await;
    pass(ms(5_000)).await;
    assert_eq!(pool.snapshot().idle, 10);
}

#[tokio::test(start_paused = true)]
async fn a_minimum_that_nobody_chose_stays_what_it_was_when_the_pool_is_resized() {
    let server = std::sync::Arc::new(Server::default());
    let builder = weir_pool::Pool::<common::Client>::builder().max_size(20).tokio_clock(true);
    let pool = builder.build(common::Client(server)).unwrap();
    pool.resize(4).unwrap();
    pool.configure(|settings| settings.max_uses(Some(1_000_000))).unwrap();
    pool.resize(20).unwrap();
    eventually("half of the maximum is idle", || pool.snapshot().idle == 10).await;
    pool.resize(40).unwrap();
    pool.configure(|settings| settings.max_uses(None)).unwrap();
    pass(ms(5_000)).await;
    assert_eq!(pool.snapshot().idle, 10);
    // One that goes with a new maximum follows it.
    pool.configure(|settings| settings.max_size(30)).unwrap();
    eventually("half of the new one", || pool.snapshot().idle == 15).await;
}

#[tokio::test(start_paused = true)]
async fn a_time_out_for_idle_connections_that_would_close_none_is_refused_later_too() {
    let (pool, _) = pool(|builder| builder.min_idle(10).idle_timeout(None));
    let error = pool.configure(|settings| settings.idle_timeout(Some(Duration::from_mins(1)))).unwrap_err();
    assert!(error.to_string().contains("idle_timeout would never close anything"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_follows_the_maximum() {
    let (pool, server) = pool(|builder| builder.max_size(40));
    server.connect_ms.store(100, Ordering::SeqCst);
    let warming = tokio::spawn({
        let pool = pool.clone();
        async move { pool.warm_up(40, ms(60_000)).await.map(|()| pool.snapshot().idle) }
    });
    pass(ms(10)).await;
    pool.resize(36).unwrap();
    pass(ms(10)).await;
    pool.resize(40).unwrap();
    assert_eq!(warming.await.unwrap().unwrap(), 40);
    let warming = tokio::spawn({
        let pool = pool.clone();
        async move { pool.warm_up(40, ms(60_000)).await }
    });
    pool.evict();
    pass(ms(10)).await;
    pool.resize(8).unwrap();
    let begun = tokio::time::Instant::now();
    warming.await.unwrap().unwrap();
    assert!(begun.elapsed() < ms(5_000), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_size_that_was_set_meanwhile_stays() {
    let (pool, _) = pool(|builder| builder);
    let other = pool.clone();
    pool.configure(|settings| {
        other.resize(7).unwrap();
        settings.max_uses(Some(9))
    })
    .unwrap();
    assert_eq!(pool.snapshot().max_size, 7);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_refused_for_waiting_while_the_pool_is_suspended() {
    let (pool, _) = pool(|builder| builder.admission(Admission::default()));
    pool.warm_up(10, ms(1_000)).await.unwrap();
    pool.suspend();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..400 {
        let pool = pool.clone();
        callers.spawn(async move { pool.with(async |_| pass(ms(1)).await).await });
        pass(ms(5)).await;
    }
    assert_eq!(pool.snapshot().pending, 400);
    pool.resume();
    while let Some(served) = callers.join_next().await {
        served.unwrap().unwrap();
    }
    assert_eq!(pool.stats().shed, 0);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_suspension_to_end_opens_nothing() {
    let (pool, server) = pool(|builder| builder);
    server.connect_ms.store(100, Ordering::SeqCst);
    pool.warm_up(5, ms(1_000)).await.unwrap();
    pool.suspend();
    let mut callers = tokio::task::JoinSet::new();
    // More than there are connections: the last ones wait for a use of 1 ms, when it goes on.
    for _ in 0..8 {
        let pool = pool.clone();
        callers.spawn(async move { pool.with(async |_| pass(ms(1)).await).await });
    }
    // A change of settings calls the housekeeper.
    for most in [100, 200, 300] {
        pass(ms(200)).await;
        pool.configure(|settings| settings.waiters_max(most)).unwrap();
    }
    pool.resume();
    while let Some(served) = callers.join_next().await {
        served.unwrap().unwrap();
    }
    pass(ms(500)).await;
    assert_eq!(server.opened.load(Ordering::SeqCst), 5);
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_wait_gets_no_connection_that_is_known_to_be_dead() {
    let (pool, server) = pool(|builder| builder);
    Server::set(&server.knows, true);
    pool.warm_up(3, ms(1_000)).await.unwrap();
    server.restart();
    assert_eq!(pool.try_acquire().unwrap_err().refused(), Refused::NoneIdle);
    eventually("all three are closed", || pool.snapshot().idle + pool.snapshot().closing == 0).await;
    drop(pool.acquire().await.unwrap());
    assert_eq!(*pool.try_acquire().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_never_got_to_a_user_is_no_use() {
    let (pool, server) = pool(|builder| builder.validate_after(Some(Duration::ZERO)).validation_timeout(ms(200)));
    pool.warm_up(4, ms(1_000)).await.unwrap();
    // Dead, and one whose check gets no answer: that has its own time-out, and its own cause.
    server.restart();
    drop(pool.acquire().await.unwrap());
    assert_eq!(pool.stats().uses, 1);
    Server::set(&server.checks_hang, true);
    let error = pool.acquire_timeout(ms(500)).await.unwrap_err();
    assert!(error.to_string().ends_with("no answer within 0.200 s"), "{error}");
    assert_eq!((pool.stats().uses, pool.snapshot().active), (1, 0));
    // All the same it was held: 3 x 1 ms of checks that failed, 1 of one that did not, and those that hung.
    let busy = pool.stats().busy;
    assert!(busy >= ms(400) && busy <= ms(510), "{busy:?}");
    // One that the caller's own time ends is told, too.
    Server::set(&server.checks_hang, false);
    drop(pool.acquire().await.unwrap());
    Server::set(&server.checks_hang, true);
    let error = pool.acquire_timeout(ms(50)).await.unwrap_err();
    assert!(error.to_string().ends_with("no answer within 0.050 s"), "{error}");
    assert!(pool.stats().busy >= busy + ms(49), "{:?}", pool.stats().busy);
}

#[tokio::test(start_paused = true)]
async fn an_error_says_where_it_was_asked_for_and_that_the_manager_has_panicked() {
    let (pool, server) = pool(|builder| builder);
    Server::set(&server.panics, true);
    let line = line!() + 1;
    let error = pool.acquire_timeout(ms(300)).await.unwrap_err();
    let at = error.asked_at().unwrap();
    assert_eq!((at.file(), at.line()), (file!(), line));
    let text = error.to_string();
    assert!(text.contains(&format!(", asked for at {at}: 0 of 10 in use")), "{text}");
    assert!(text.ends_with("the manager has panicked"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn one_connection_is_evicted_by_its_user() {
    let (pool, server) = pool(|builder| builder);
    pool.warm_up(2, ms(1_000)).await.unwrap();
    let mut guard = pool.acquire().await.unwrap();
    guard.evict();
    assert_eq!((pool.snapshot().active, pool.snapshot().idle), (1, 1), "it is used on");
    drop(guard);
    eventually("it is closed, and no other", || pool.snapshot().idle == 1 && pool.snapshot().closing == 0).await;
    assert_eq!((pool.stats().closed(CloseReason::Drained), pool.stats().closed(CloseReason::Failed)), (1, 0));
    assert_eq!((server.opened.load(Ordering::SeqCst), pool.stats().uses), (2, 1));
}
