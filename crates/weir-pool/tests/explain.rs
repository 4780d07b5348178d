//! `Pool::explain` names what limits a pool, for each cause made on purpose. On a paused clock.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Client, Server, eventually, ms, pass, pool};
use weir_pool::{Explanation, Finding, Pool};

/// Keeps `tasks` acquiring, holding for `hold` and pausing for `pause`.
fn load(pool: &Pool<Client>, tasks: u32, hold: Duration, pause: Duration) -> Load {
    let task = |number: u32| {
        let pool = pool.clone();
        tokio::spawn(async move {
            // Not all in step.
            pass(pause * number / tasks).await;
            loop {
                if let Ok(_guard) = pool.acquire().await {
                    pass(hold).await;
                }
                pass(pause.max(ms(1))).await;
            }
        })
    };
    Load((0..tasks).map(task).collect())
}

struct Load(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// The heaviest finding, with its text.
fn first(explanation: &Explanation) -> (&Finding, String) {
    (&explanation.findings()[0], explanation.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_healthy_pool_says_so_with_the_numbers_of_its_load() {
    let (pool, _) = pool(|b| b);
    assert!(pool.explain().is_healthy(), "{}", pool.explain());
    // 5 tasks, each 10 ms of use in 100 ms: 50 acquires/s × 10 ms = 0.5 connections.
    let _load = load(&pool, 5, ms(10), ms(90));
    pass(Duration::from_secs(30)).await;
    let explanation = pool.explain();
    assert!(explanation.is_healthy(), "{explanation}");
    let load = explanation.load();
    assert!(load.over >= ms(9_500) && load.over <= ms(10_500), "{:?}", load.over);
    assert!((load.rate - 50.0).abs() < 2.5, "{load}");
    assert_eq!(load.hold.unwrap().as_millis(), 10);
    assert!((load.needs.unwrap() - 0.5).abs() < 0.03, "{load}");
    assert_eq!((load.size, load.wait_p50), (10, Duration::ZERO));
    assert!(explanation.to_string().contains("acquires/s x 10"), "{explanation}");
}

#[tokio::test(start_paused = true)]
async fn more_load_than_the_size_carries() {
    let (pool, _) = pool(|b| b.max_size(4));
    // Each use is 20 ms: 4 connections serve 200 per second, and 40 tasks ask for more.
    let _load = load(&pool, 40, ms(20), ms(50));
    pass(Duration::from_secs(20)).await;
    let explanation = pool.explain();
    let (finding, text) = first(&explanation);
    let Finding::BeyondSize { rate, hold, needs, size, waiting, .. } = finding else { panic!("{text}") };
    assert!(*rate > 180.0 && *waiting > 10 && *size == 4 && *needs > 3.6, "{text}");
    assert!(*hold >= ms(20) && *hold < ms(23), "{text}");
    assert!(explanation.load().wait_p50 > ms(50), "{text}");
}

#[tokio::test(start_paused = true)]
async fn all_in_use_for_long() {
    let (pool, _) = pool(|b| b.max_size(4).acquire_timeout(Duration::from_mins(1)));
    {
        let _load = load(&pool, 3, ms(10), ms(40));
        pass(Duration::from_secs(5)).await;
    }
    // Now uses that do not end.
    let _slow = load(&pool, 8, Duration::from_secs(100), ms(1));
    pass(Duration::from_secs(5)).await;
    let explanation = pool.explain();
    let (finding, text) = first(&explanation);
    assert!(matches!(finding, Finding::LongUse { busy: 4, waiting: 4, .. }), "{text}");
    assert!(
        !explanation.findings().iter().any(|f| matches!(f, Finding::BeyondSize { .. })),
        "no advice to grow: {text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_database_that_takes_longer_and_does_not_more_is_saturated() {
    let (pool, _) = pool(|b| b.max_size(4).acquire_timeout(Duration::from_mins(1)));
    {
        // 3 connections on average busy: 300/s.
        let _load = load(&pool, 4, ms(10), ms(3));
        pass(Duration::from_secs(15)).await;
    }
    // The same work takes three times as long, and more ask for it.
    let _load = load(&pool, 40, ms(30), ms(3));
    pass(Duration::from_secs(12)).await;
    let explanation = pool.explain();
    let (finding, text) = first(&explanation);
    let Finding::Saturated { hold, baseline, .. } = finding else { panic!("{text}") };
    assert!(*hold >= ms(30) && *baseline < ms(13), "{text}");
}

#[tokio::test(start_paused = true)]
async fn connects_that_are_slow() {
    let (pool, server) = pool(|b| b.max_size(20));
    server.connect_ms.store(500, Ordering::SeqCst);
    drop(pool.acquire().await.unwrap());
    pool.evict();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire().await.map(drop) })
        })
        .collect();
    eventually("some are being opened", || pool.snapshot().opening > 1).await;
    let explanation = pool.explain();
    let (finding, text) = first(&explanation);
    assert!(matches!(finding, Finding::ConnectsSlow { waiting: 20, .. }), "{text}");
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn connects_that_get_no_answer() {
    let (pool, server) = pool(|b| b.connect_timeout(Duration::from_secs(30)));
    Server::set(&server.hangs, true);
    let _load = load(&pool, 5, ms(10), ms(10));
    eventually("one is given time enough", || pool.snapshot().hung > 0).await;
    let explanation = pool.explain();
    let found = explanation.findings();
    assert!(found.iter().any(|f| matches!(f, Finding::ConnectsHang { .. })), "{explanation}");
}

#[tokio::test(start_paused = true)]
async fn connects_that_fail() {
    let (pool, server) = pool(|b| b);
    Server::set(&server.refuses, true);
    let _load = load(&pool, 5, ms(10), ms(10));
    pass(Duration::from_secs(8)).await;
    let explanation = pool.explain();
    let (finding, text) = first(&explanation);
    let Finding::ConnectsFail { since, live: 0, error, refused, .. } = finding else { panic!("{text}") };
    assert!(*since >= Duration::from_secs(7) && *refused > 0, "{text}");
    assert_eq!(error.as_deref(), Some("no route to \"test\""));
}

#[tokio::test(start_paused = true)]
async fn a_leak_and_a_suspension() {
    let (pool, _) = pool(|b| b.leak_after(Some(Duration::from_secs(2))));
    let leaked = pool.acquire().await.unwrap();
    pass(Duration::from_secs(3)).await;
    let explanation = pool.explain();
    let (finding, text) = first(&explanation);
    assert!(matches!(finding, Finding::LeakSuspected { suspects: 1, busy: 1, .. }), "{text}");
    drop(leaked);
    assert!(pool.explain().is_healthy(), "{}", pool.explain());
    pool.suspend();
    let waiting = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire().await.map(drop) })
    };
    eventually("it waits", || pool.snapshot().pending == 1).await;
    let explanation = pool.explain();
    assert!(matches!(first(&explanation).0, Finding::Suspended { waiting: 1 }), "{explanation}");
    pool.resume();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_line() {
    let (pool, _) = pool(|b| b.max_size(1).waiters_max(3).acquire_timeout(Duration::from_mins(1)));
    let _load = load(&pool, 10, ms(20), ms(5));
    pass(Duration::from_secs(10)).await;
    let explanation = pool.explain();
    assert!(explanation.findings().iter().any(|f| matches!(f, Finding::LineFull { .. })), "{explanation}");
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_forgotten_after_ten_seconds() {
    let (pool, _) = pool(|b| b.max_size(2));
    {
        let _load = load(&pool, 40, ms(20), ms(5));
        pass(Duration::from_secs(20)).await;
        assert!(!pool.explain().is_healthy());
    }
    pass(Duration::from_secs(12)).await;
    assert!(pool.explain().is_healthy(), "{}", pool.explain());
    let _: Arc<str> = pool.snapshot().name;
}
