//! Connections that open well and cannot be made ready for their users, because a check, a reset or the hook before a use always
//! fails: what replaces them is opened at a pace, the callers are told why, and all is quick again when it is repaired.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Failure, ms, pass};
use tokio::time::Instant;
use weir_pool::{Builder, Manager, Pool, Refused, Release};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Reset,
    Check,
    Hook,
}

struct Server {
    fails: Step,
    repaired: AtomicBool,
    opened: AtomicU64,
}

impl Server {
    fn does(&self, step: Step) -> Result<(), Failure> {
        if self.fails == step && !self.repaired.load(Ordering::SeqCst) { Err(Failure) } else { Ok(()) }
    }

    fn opened(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
    }
}

struct Client(Arc<Server>);

impl Manager for Client {
    type Connection = ();
    type Error = Failure;

    async fn connect(&self) -> Result<(), Failure> {
        pass(ms(1)).await;
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn check(&self, (): &mut ()) -> Result<(), Failure> {
        pass(ms(1)).await;
        self.0.does(Step::Check)
    }

    async fn on_acquire(&self, (): &mut ()) -> Result<(), Failure> {
        self.0.does(Step::Hook)
    }

    fn on_release(&self, (): &mut ()) -> Release {
        if self.0.fails == Step::Reset { Release::Reset } else { Release::Keep }
    }

    async fn reset(&self, (): &mut ()) -> Result<(), Failure> {
        pass(ms(1)).await;
        self.0.does(Step::Reset)
    }
}

fn pool(fails: Step, settings: impl FnOnce(Builder) -> Builder) -> (Pool<Client>, Arc<Server>) {
    let server = Arc::new(Server { fails, repaired: AtomicBool::new(false), opened: AtomicU64::new(0) });
    let builder = Pool::<Client>::builder().name("test").max_size(4).min_idle(0).tokio_clock(true);
    let builder = builder.validate_after(Some(Duration::ZERO)).acquire_timeout(Duration::from_secs(5));
    (settings(builder).build(Client(Arc::clone(&server))).unwrap(), server)
}

/// Callers one after the other, for `time` in all; how many were served.
async fn use_it(pool: &Pool<Client>, time: Duration) -> u32 {
    let until = Instant::now() + time;
    let mut served = 0;
    while Instant::now() < until {
        served += u32::from(pool.acquire_timeout(ms(500)).await.is_ok());
    }
    served
}

/// At 50 ms, 100 ms, … 1 s apart that is five in the first second, and one or two in each after it.
const IN_FIVE_SECONDS: u64 = 14;

#[tokio::test(start_paused = true)]
async fn what_always_fails_is_opened_at_a_pace_and_the_caller_is_told_why() {
    for step in [Step::Check, Step::Hook] {
        let (pool, server) = pool(step, |b| b);
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { pool.acquire().await.map(drop) })
            })
            .collect();
        for caller in callers {
            let error = caller.await.unwrap().unwrap_err();
            assert_eq!(error.refused(), Refused::TimedOut, "{step:?}: connects are well, so nobody is refused");
            assert!(error.to_string().contains("no route to"), "{step:?}: {error}");
        }
        let opened = server.opened();
        assert!((4..=IN_FIVE_SECONDS).contains(&opened), "{step:?}: {opened} opened");
    }
}

/// It costs each user a connection, which is opened for the next one: users wait for the pace.
#[tokio::test(start_paused = true)]
async fn a_reset_that_always_fails_is_paced_too() {
    let (pool, server) = pool(Step::Reset, |b| b.validate_after(None));
    let served = use_it(&pool, Duration::from_secs(5)).await;
    let opened = server.opened();
    assert!((4..=IN_FIVE_SECONDS).contains(&opened), "{opened} opened");
    assert!(u64::from(served).abs_diff(opened) <= 1, "each is good for one use: {served} served, {opened} opened");
}

#[tokio::test(start_paused = true)]
async fn all_is_quick_again_when_it_is_repaired() {
    for step in [Step::Reset, Step::Check, Step::Hook] {
        let (pool, server) = pool(step, |b| if step == Step::Reset { b.validate_after(None) } else { b });
        use_it(&pool, Duration::from_secs(5)).await;
        server.repaired.store(true, Ordering::SeqCst);
        // The pause that has begun, and for a reset one use before it.
        let begun = Instant::now();
        drop(pool.acquire().await.unwrap());
        drop(pool.acquire().await.unwrap());
        assert!(begun.elapsed() <= ms(1_100), "{step:?}: {:?}", begun.elapsed());
        let begun = Instant::now();
        let mut guards = Vec::new();
        for _ in 0..4 {
            guards.push(pool.acquire().await.unwrap());
        }
        assert!(begun.elapsed() <= ms(100), "{step:?}: {:?}", begun.elapsed());
    }
}

/// A server that was restarted: all connections are dead, and none of those that replace them.
#[tokio::test(start_paused = true)]
async fn connections_that_died_together_are_replaced_at_once() {
    let (pool, server) = pool(Step::Check, |b| b.max_size(20).validate_after(Some(ms(100))));
    server.repaired.store(true, Ordering::SeqCst);
    pool.warm_up(20, Duration::from_secs(5)).await.unwrap();
    pass(ms(500)).await;
    server.repaired.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let _guard = pool.acquire().await.unwrap();
                pass(ms(200)).await;
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(server.opened(), 40);
    assert!(begun.elapsed() <= ms(300), "{:?}", begun.elapsed());
}
