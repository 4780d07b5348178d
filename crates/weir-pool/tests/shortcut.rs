//! One caller who asks again and again comes past the lock: everything is as if he did not.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use common::{pass, pool};
use weir_pool::{CloseReason, Manager, Pool};

/// Enough for the shortcut to be open, and to have been worth it.
const MANY: u64 = 2_000;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

async fn use_often(pool: &Pool<common::Client>, times: u64) {
    for _ in 0..times {
        drop(pool.acquire().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn every_use_is_counted_while_it_lasts_and_afterwards() {
    let (pool, _) = pool(|settings| settings);
    use_often(&pool, MANY).await;
    let stats = pool.stats();
    assert_eq!((stats.acquired, stats.uses, stats.unwaited, stats.holds.count()), (MANY, MANY, MANY - 1, MANY));
    use_often(&pool, MANY).await;
    let held = pool.acquire().await.unwrap();
    pass(secs(2)).await;
    let (stats, state) = (pool.stats(), pool.snapshot());
    let time = held.held();
    assert!((secs(2)..secs(2) + Duration::from_millis(10)).contains(&time), "{time:?}");
    assert_eq!((stats.acquired, stats.uses, stats.busy), (2 * MANY + 1, 2 * MANY, time));
    assert_eq!((state.active, state.idle), (1, 0), "{state}");
    drop(held);
    let (stats, state) = (pool.stats(), pool.snapshot());
    assert_eq!((stats.uses, stats.busy, stats.holds.max()), (2 * MANY + 1, time, time));
    assert_eq!((state.active, state.idle), (0, 1), "{state}");
    // Time in the shortcut is none in use.
    use_often(&pool, MANY).await;
    pass(Duration::from_millis(400)).await;
    use_often(&pool, MANY).await;
    assert_eq!(pool.stats().busy, time);
}

#[tokio::test(start_paused = true)]
async fn its_lifetime_ends_although_it_is_used_all_the_time() {
    let (pool, server) = pool(|settings| settings.max_lifetime(Some(secs(60))).lifetime_jitter(0.0).keepalive(None));
    for _ in 0..70 * 4 {
        use_often(&pool, MANY).await;
        pass(Duration::from_millis(250)).await;
    }
    assert_eq!(server.opened.load(Ordering::SeqCst), 2);
    assert_eq!(pool.stats().closed(CloseReason::Lifetime), 1);
}

#[tokio::test(start_paused = true)]
async fn at_rest_it_is_checked_before_it_is_lent_and_closed_when_its_time_is_over() {
    let (pool, server) = pool(|settings| settings.idle_timeout(Some(secs(20))).keepalive(None));
    use_often(&pool, MANY).await;
    // It is dead, and nobody has looked at it since.
    pass(secs(5)).await;
    server.restart();
    let guard = pool.acquire().await.unwrap();
    assert_eq!(*guard, 1, "a new one");
    drop(guard);
    use_often(&pool, MANY).await;
    pass(secs(19)).await;
    assert_eq!(pool.snapshot().idle, 1);
    use_often(&pool, MANY).await;
    pass(secs(19)).await;
    assert_eq!(pool.snapshot().idle, 1, "it was used since");
    pass(secs(3)).await;
    assert_eq!((pool.snapshot().idle, pool.stats().closed(CloseReason::IdleTimeout)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_of_the_pool_meanwhile_holds_for_it_too() {
    let (pool, server) = pool(|settings| settings.max_size(1));
    use_often(&pool, MANY).await;
    // Kept for the first in line.
    let held = pool.acquire().await.unwrap();
    let mut waits = Box::pin(pool.acquire());
    let waker = std::task::Waker::noop();
    assert!(waits.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    drop(held);
    assert!(pool.try_acquire().is_err(), "it is another one's");
    drop(waits.await.unwrap());
    // Evicted while it is in use, and while it is not.
    use_often(&pool, MANY).await;
    let held = pool.acquire().await.unwrap();
    pool.evict();
    drop(held);
    use_often(&pool, MANY).await;
    pool.evict();
    let guard = pool.acquire().await.unwrap();
    assert_eq!(*guard, 2);
    drop(guard);
    // By its user.
    use_often(&pool, MANY).await;
    pool.acquire().await.unwrap().discard();
    use_often(&pool, MANY).await;
    assert_eq!(pool.acquire().await.unwrap().detach(), 3);
    use_often(&pool, MANY).await;
    // Suspended.
    pool.suspend();
    assert!(pool.acquire_timeout(secs(1)).await.is_err());
    pool.resume();
    use_often(&pool, MANY).await;
    // Watched from now on.
    pool.configure(|settings| settings.leak_after(Some(secs(5)))).unwrap();
    let held = pool.acquire().await.unwrap();
    assert_eq!(pool.in_use().len(), 1);
    drop(held);
    // Closed.
    use_often(&pool, MANY).await;
    pool.close(secs(1)).await.unwrap();
    assert!(pool.acquire().await.is_err());
    let stats = pool.stats();
    assert_eq!(
        (stats.uses, stats.holds.count(), stats.closed(CloseReason::Moved)),
        (stats.acquired, stats.acquired, 1)
    );
    assert_eq!(server.opened.load(Ordering::SeqCst), 5);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_lent_when_it_was_evicted_does_not_come_back_by_the_next_one_s_way() {
    let (pool, _) = pool(|settings| settings.max_size(2));
    use_often(&pool, MANY).await;
    let first = pool.acquire().await.unwrap();
    assert_eq!(*first, 0);
    pool.evict();
    // Another one comes and goes past the lock.
    use_often(&pool, MANY).await;
    let second = pool.acquire().await.unwrap();
    assert_eq!(*second, 1);
    drop(first);
    let third = pool.acquire().await.unwrap();
    assert_eq!(*third, 2, "a new one, and not the evicted one");
    drop((second, third));
    assert_eq!(pool.stats().closed(CloseReason::Drained), 1);
}

/// Connections that notice who holds them.
struct Real {
    open: AtomicU32,
    most: AtomicU32,
}

struct Held {
    real: Arc<Real>,
    held: AtomicBool,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.real.open.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Opens(Arc<Real>);

impl Manager for Opens {
    type Connection = Held;
    type Error = Infallible;

    async fn connect(&self) -> Result<Held, Infallible> {
        let open = self.0.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(open, Ordering::SeqCst);
        Ok(Held { real: Arc::clone(&self.0), held: AtomicBool::new(false) })
    }

    async fn check(&self, _: &mut Held) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Several threads, each of which uses a connection in bursts, so that the shortcut opens and closes all the time, while another
/// one looks and evicts.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_is_in_one_hand_and_none_is_lost() {
    const TASKS: u64 = 4;
    const BURSTS: u64 = 40;
    let real = Arc::new(Real { open: AtomicU32::new(0), most: AtomicU32::new(0) });
    for max in [1, 3] {
        let pool = Pool::<Opens>::builder().max_size(max).build(Opens(Arc::clone(&real))).unwrap();
        let mut tasks = Vec::new();
        for task in 0..TASKS {
            let pool = pool.clone();
            tasks.push(tokio::spawn(async move {
                for burst in 0..BURSTS {
                    for _ in 0..MANY {
                        let guard = pool.acquire().await.unwrap();
                        assert!(!guard.held.swap(true, Ordering::SeqCst), "in two hands");
                        guard.held.store(false, Ordering::SeqCst);
                    }
                    match (burst + task) % 16 {
                        0 => pool.evict(),
                        1 => pool.acquire().await.unwrap().discard(),
                        2 => drop(pool.snapshot()),
                        _ => tokio::task::yield_now().await,
                    }
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let (stats, state) = (pool.stats(), pool.snapshot());
        assert_eq!((stats.acquired, stats.holds.count()), (stats.uses, stats.uses));
        assert!(stats.uses >= TASKS * BURSTS * MANY, "{}", stats.uses);
        assert_eq!((state.active, state.pending), (0, 0), "{state}");
        pool.close(secs(20)).await.unwrap();
        drop(pool);
        assert_eq!(real.open.load(Ordering::SeqCst), 0, "none is lost");
        assert!(real.most.swap(0, Ordering::SeqCst) <= max, "never more than the maximum");
    }
}
