//! What is logged and what is known of those who hold connections. On a paused clock.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Client, Logged, Server, eventually, ms, pass, pool};
use serde_json::Value;
use tracing::{Instrument as _, Level};
use weir_pool::{Builder, CloseReason, Pool, Refused};

fn watched(settings: Builder) -> Builder {
    settings.leak_after(Some(Duration::from_secs(5)))
}

fn levels(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["level"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_leak_is_told_with_its_place_and_span_and_so_is_its_return() {
    let logged = Logged::from(Level::INFO);
    let (pool, _) = pool(watched);
    let span = tracing::info_span!("checkout");
    let line = line!() + 1;
    let leaked = async { pool.acquire().await }.instrument(span.clone()).await.unwrap();
    pass(Duration::from_secs(4)).await;
    assert!(pool.leaks().is_empty());
    let short = pool.acquire().await.unwrap();
    eventually("it is reported", || pool.stats().leaks == 1).await;

    let leaks = pool.leaks();
    assert_eq!(leaks.len(), 1, "{leaks:?}");
    let leak = &leaks[0];
    assert_eq!((leak.acquired_at.file(), leak.acquired_at.line()), (file!(), line));
    assert_eq!((leak.span, leak.span_id), (Some("checkout"), span.id().map(|id| id.into_u64())));
    assert!(leak.leaked && leak.backtrace.is_none());
    assert!(leak.held >= Duration::from_secs(5) && leak.held <= ms(5_600), "{:?}", leak.held);
    assert!(leak.to_string().contains("tests/seeing.rs:") && leak.to_string().ends_with("reported as leaked"));
    assert_eq!(pool.in_use().len(), 2);

    let told = logged.of("connection may have leaked");
    assert_eq!(levels(&told), ["WARN"]);
    let fields = &told[0]["fields"];
    assert_eq!((&fields["pool"], &fields["span"]), (&Value::from("test"), &Value::from("checkout")));
    assert!(fields["acquired_at"].as_str().unwrap().contains(&format!("tests/seeing.rs:{line}")));

    pass(Duration::from_secs(3)).await;
    drop(leaked);
    drop(short);
    let back = logged.of("connection reported as leaked has come back");
    assert_eq!(levels(&back), ["INFO"], "not of the one that was not reported");
    assert!(back[0]["fields"]["held_secs"].as_f64().unwrap() >= 8.0);
    assert!(pool.in_use().is_empty());
    assert_eq!(pool.stats().leaks, 1);
}

#[tokio::test(start_paused = true)]
async fn whichever_way_a_connection_was_acquired_its_place_is_known() {
    let (pool, _) = pool(|b| watched(b).max_size(4).validate_after(Some(ms(50))));
    let first = line!() + 1;
    let plain = pool.acquire().await.unwrap();
    let timed = pool.acquire_timeout(ms(500)).await.unwrap();
    drop(pool.acquire().await.unwrap());
    let tried = pool.try_acquire().unwrap();
    let with = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.with(async |_| pass(Duration::from_secs(1)).await).await.map(drop) })
    };
    eventually("all four are in use", || pool.snapshot().active == 4).await;
    let mut lines: Vec<u32> = pool.in_use().iter().map(|borrower| borrower.acquired_at.line() - first).collect();
    lines.sort_unstable();
    assert_eq!(lines, [0, 1, 3, 6]);
    // One that is checked before it is lent, and one that was waited for.
    with.await.unwrap().unwrap();
    pass(ms(100)).await;
    let checked = pool.acquire().await.unwrap();
    let waiting = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire().await.map(|_guard| pool.in_use().len()) })
    };
    eventually("it waits", || pool.snapshot().pending == 1).await;
    drop(plain);
    assert_eq!(waiting.await.unwrap().unwrap(), 4);
    assert_eq!(pool.in_use().len(), 3);
    // All ways back. Its place is free at once.
    let _ = timed.detach();
    assert_eq!((pool.snapshot().active, pool.stats().closed(CloseReason::Moved)), (2, 1));
    tried.discard();
    drop(checked);
    assert!(pool.in_use().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_backtrace_is_there_when_it_is_asked_for() {
    let logged = Logged::from(Level::WARN);
    let (pool, _) = pool(|b| watched(b).leak_backtrace(true));
    let _leaked = pool.acquire().await.unwrap();
    eventually("it is reported", || !pool.leaks().is_empty()).await;
    let trace = pool.leaks()[0].backtrace.as_ref().unwrap().to_string();
    assert!(trace.contains("a_backtrace_is_there_when_it_is_asked_for"), "{trace}");
    let told = logged.of("connection may have leaked");
    assert!(told[0]["fields"]["backtrace"].as_str().unwrap().contains("a_backtrace_is_there"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_noted_without_leak_detection_and_it_may_begin_at_run_time() {
    let (pool, _) = pool(|b| b);
    let before = pool.acquire().await.unwrap();
    let other = pool.acquire().await.unwrap();
    assert!(pool.in_use().is_empty());
    pass(Duration::from_mins(1)).await;
    pool.configure(watched).unwrap();
    // The place of `other` in the pool is the higher one, so that of `before` is known to exist.
    drop(other);
    let noted = pool.acquire().await.unwrap();
    assert_eq!(pool.in_use().len(), 1);
    pass(Duration::from_secs(2)).await;
    assert_eq!(pool.stats().leaks, 0, "nothing is known of the first");
    drop(before);
    eventually("the other one is reported", || pool.stats().leaks == 1).await;
    pool.configure(|b| b.leak_after(None)).unwrap();
    drop(noted);
    assert!(pool.in_use().is_empty());
    assert!(Builder::new().leak_backtrace(true).build(Client(std::sync::Arc::default())).is_err());
}

#[tokio::test(start_paused = true)]
async fn many_leaks_are_told_at_a_slow_pace() {
    let logged = Logged::from(Level::INFO);
    let (pool, _) = pool(|b| watched(b).max_size(100).leak_after(Some(ms(100))));
    let mut guards = Vec::new();
    for _ in 0..100 {
        guards.push(pool.acquire().await.unwrap());
    }
    eventually("all are reported", || pool.stats().leaks == 100).await;
    assert_eq!(pool.leaks().len(), 100);
    assert_eq!(logged.of("connection may have leaked").len(), 10);
    drop(guards);
    assert_eq!(logged.of("connection reported as leaked has come back").len(), 10);
}

#[tokio::test(start_paused = true)]
async fn failing_connects_are_told_first_then_rarely_with_their_number_and_their_end_once() {
    let logged = Logged::from(Level::INFO);
    let (pool, server) = pool(|b| b);
    Server::set(&server.refuses, true);
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(35) {
        assert_ne!(pool.acquire().await.unwrap_err().refused(), Refused::Closed);
        pass(ms(10)).await;
    }
    let told = logged.of("connect failed");
    assert_eq!(levels(&told), ["WARN"; 4], "at 0, 10, 20 and 30 s");
    let failures = |line: &Value| line["fields"]["failures"].as_u64().unwrap();
    assert_eq!(failures(&told[0]), 1);
    assert!(failures(&told[1]) > 5 && told[1]["fields"]["error"] == "no route to \"test\"", "{}", told[1]);
    Server::set(&server.refuses, false);
    let begun = tokio::time::Instant::now();
    while pool.acquire().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5));
        pass(ms(10)).await;
    }
    let again = logged.of("connects succeed again");
    assert_eq!(levels(&again), ["INFO"]);
    assert_eq!(again[0]["fields"]["failures"], pool.stats().connects_failed);
    assert!(again[0]["fields"]["after_secs"].as_f64().unwrap() >= 35.0);
    // The next outage is told at once again.
    pool.evict();
    Server::set(&server.refuses, true);
    let _ = pool.acquire_timeout(ms(100)).await;
    assert_eq!(logged.of("connect failed").len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_connect_without_an_answer_is_told_too() {
    let logged = Logged::from(Level::INFO);
    let (pool, server) = pool(|b| b.max_size(2));
    Server::set(&server.hangs, true);
    let _ = pool.acquire().await;
    eventually("it is given up", || !logged.of("connect failed").is_empty()).await;
    let error = logged.of("connect failed")[0]["fields"]["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("no answer within"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_single_use_is_told_above_debug() {
    let logged = Logged::from(Level::DEBUG);
    let (pool, _) = pool(|b| b.max_size(1));
    let first = pool.acquire().await.unwrap();
    assert_eq!(pool.acquire_timeout(ms(50)).await.unwrap_err().refused(), Refused::TimedOut);
    let waiting = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire().await.map(drop) })
    };
    eventually("it waits", || pool.snapshot().pending == 1).await;
    pass(ms(30)).await;
    drop(first);
    waiting.await.unwrap().unwrap();
    let gone = {
        let (pool, held) = (pool.clone(), pool.acquire().await.unwrap());
        let gone = tokio::time::timeout(ms(20), async move { pool.acquire().await.map(drop) }).await;
        drop(held);
        gone
    };
    assert!(gone.is_err());
    pool.suspend();
    pool.resume();
    pool.close(Duration::from_secs(1)).await.unwrap();
    drop(pool);
    eventually("it is closed", || !logged.of("connection closed").is_empty()).await;

    let told = |message: &str, level: &str| {
        let lines = logged.of(message);
        assert_eq!(levels(&lines), [level], "{message}: {lines:?}");
        lines[0]["fields"].clone()
    };
    assert_eq!(told("pool begins", "DEBUG")["max_size"], 1);
    assert_eq!(told("connection opened", "DEBUG")["pool"], "test");
    let missed = told("no connection for a caller", "DEBUG");
    assert_eq!(missed["why"], "TimedOut");
    assert!(missed["state"].as_str().unwrap().starts_with("1 of 1 in use"), "{missed}");
    assert_eq!(told("connection closed", "DEBUG")["reason"], "drained");
    told("pool is suspended", "INFO");
    told("pool is resumed", "INFO");
    told("pool is closed", "INFO");
    // A span for each who had to wait, the first one included, who waited for a connect.
    let spans: Vec<Value> = logged.of("close").into_iter().map(|line| line["span"].clone()).collect();
    let outcomes: Vec<_> = spans.iter().filter(|span| span["name"] == "weir_pool.acquire").collect();
    let outcomes: Vec<&str> = outcomes.iter().map(|span| span["outcome"].as_str().unwrap_or("gone")).collect();
    assert_eq!(outcomes, ["served", "timed_out", "served", "gone"]);
    // One for each piece of the manager's work.
    let count = |name: &str| spans.iter().filter(|span| span["name"] == name).count();
    assert_eq!((count("weir_pool.connect"), count("weir_pool.close"), count("weir_pool.prepare")), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_looked_at_is_seen_in_a_span() {
    let logged = Logged::from(Level::DEBUG);
    let (pool, _) = pool(|b| b.keepalive(Some(ms(300))).validate_after(Some(ms(50))));
    drop(pool.acquire().await.unwrap());
    pass(ms(100)).await;
    drop(pool.acquire().await.unwrap());
    pass(ms(350)).await;
    let spans: Vec<Value> = logged.of("close").into_iter().map(|line| line["span"].clone()).collect();
    let count = |name: &str| spans.iter().filter(|span| span["name"] == name).count();
    assert_eq!((count("weir_pool.prepare"), count("weir_pool.check")), (1, 1), "{spans:?}");
}

#[tokio::test(start_paused = true)]
async fn who_gets_a_connection_at_once_has_no_span_and_a_small_future() {
    let (pool, server) = pool(|b| b);
    drop(pool.acquire().await.unwrap());
    let logged = Logged::from(Level::TRACE);
    for _ in 0..10 {
        drop(pool.acquire().await.unwrap());
    }
    assert_eq!(logged.lines(), Vec::<Value>::new());
    assert_eq!(server.opened.load(Ordering::SeqCst), 1);
    let size = size_of_val(&pool.acquire());
    assert!(size <= 288, "{size} bytes");
    let _: &Pool<Client> = &pool;
}
