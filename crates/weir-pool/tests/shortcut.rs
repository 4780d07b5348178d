//! Who asks again and again comes past the lock: everything is as if he did not.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use common::{pass, pool};
use weir_pool::{CloseReason, Manager, Pool, Release};

/// One test at a time: threads of others would change the numbers of those here, and with them which share a lane.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

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
    let _alone = ALONE.lock().await;
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
    let _alone = ALONE.lock().await;
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
    let _alone = ALONE.lock().await;
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
    let _alone = ALONE.lock().await;
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
    let _alone = ALONE.lock().await;
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

/// What `work` does on a thread of its own while the others of the test have theirs, and wait.
fn on_a_thread<T: Send>(work: impl AsyncFnOnce() -> T + Send) -> T {
    let runtime = tokio::runtime::Handle::current();
    std::thread::scope(|scope| scope.spawn(|| runtime.block_on(work())).join().unwrap())
}

#[tokio::test(start_paused = true)]
async fn each_thread_has_the_connection_that_it_used_last() {
    let _alone = ALONE.lock().await;
    let (pool, server) = pool(|settings| settings.max_size(3).validate_after(None));
    let all = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    drop(all);
    let name = async || *pool.acquire().await.unwrap();
    use_often(&pool, MANY).await;
    let first = name().await;
    let (second, third) = on_a_thread(async || {
        use_often(&pool, MANY).await;
        let second = name().await;
        let third = on_a_thread(async || {
            use_often(&pool, MANY).await;
            name().await
        });
        assert_eq!(name().await, second);
        (second, third)
    });
    let mut names = [first, second, third];
    assert_eq!(name().await, first);
    names.sort_unstable();
    assert_eq!(names, [0, 1, 2]);
    // All are within reach of one who wants them.
    let held = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    assert!(pool.try_acquire().is_err());
    drop(held);
    let uses = 3 * MANY + 11;
    let (stats, state) = (pool.stats(), pool.snapshot());
    assert_eq!((stats.acquired, stats.uses, stats.holds.count()), (uses, uses, uses));
    assert_eq!((state.active, state.idle), (0, 3), "{state}");
    assert_eq!(server.opened.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_want_to_wait_gets_what_another_thread_has_put_in_its_lane() {
    let _alone = ALONE.lock().await;
    let (pool, server) = pool(|settings| settings.max_size(1));
    use_often(&pool, MANY).await;
    assert_eq!(*pool.try_acquire().unwrap(), 0);
    on_a_thread(async || {
        assert_eq!(*pool.try_acquire().unwrap(), 0);
        for _ in 0..MANY {
            drop(pool.try_acquire().unwrap());
        }
    });
    let held = pool.try_acquire().unwrap();
    assert!(pool.try_acquire().is_err());
    drop(held);
    // What must be checked first is not for him.
    pass(secs(5)).await;
    assert!(pool.try_acquire().is_err());
    let (stats, state) = (pool.stats(), pool.snapshot());
    assert_eq!((stats.acquired, stats.uses, state.idle), (2 * MANY + 3, 2 * MANY + 3, 1), "{state}");
    assert_eq!(server.opened.load(Ordering::SeqCst), 1);
}

/// Whoever looks at the pool takes back what the threads have: in the order in which it was used.
#[tokio::test(start_paused = true)]
async fn what_was_used_last_is_lent_first_whichever_thread_used_it() {
    let _alone = ALONE.lock().await;
    let (pool, _) = pool(|settings| settings.max_size(2).validate_after(None));
    let both = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    drop(both);
    use_often(&pool, MANY).await;
    let mine = *pool.acquire().await.unwrap();
    on_a_thread(async || {
        use_often(&pool, MANY).await;
        assert_ne!(*pool.acquire().await.unwrap(), mine);
    });
    pass(Duration::from_millis(100)).await;
    drop(pool.acquire().await.unwrap());
    assert_eq!(pool.snapshot().idle, 2);
    let on_another_thread = on_a_thread(async || *pool.acquire().await.unwrap());
    assert_eq!(on_another_thread, mine);
}

/// Connections that are to be reset if their user says so.
struct Stained;

impl Manager for Stained {
    type Connection = bool;
    type Error = Infallible;

    async fn connect(&self) -> Result<bool, Infallible> {
        Ok(false)
    }

    async fn check(&self, _: &mut bool) -> Result<(), Infallible> {
        Ok(())
    }

    fn on_release(&self, stained: &mut bool) -> Release {
        if std::mem::take(stained) { Release::Reset } else { Release::Keep }
    }
}

/// It leaves nothing in its lane that would count as a use in progress.
#[tokio::test(start_paused = true)]
async fn one_that_must_be_reset_does_not_go_back_into_its_lane() {
    let _alone = ALONE.lock().await;
    let pool = Pool::<Stained>::builder().max_size(2).tokio_clock(true).build(Stained).unwrap();
    let both = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    drop(both);
    for _ in 0..MANY {
        drop(pool.acquire().await.unwrap());
    }
    let mut guard = pool.acquire().await.unwrap();
    pass(secs(1)).await;
    *guard = true;
    drop(guard);
    // Of another thread, which settles nothing.
    on_a_thread(async || drop(pool.acquire().await.unwrap()));
    pass(secs(2)).await;
    let (stats, state) = (pool.stats(), pool.snapshot());
    assert_eq!((stats.uses, stats.holds.count()), (MANY + 4, MANY + 4));
    assert!((secs(1)..secs(1) + Duration::from_millis(10)).contains(&stats.busy), "{:?}", stats.busy);
    assert_eq!((state.active, state.idle), (0, 2), "{state}");
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
    let _alone = ALONE.lock().await;
    let real = Arc::new(Real { open: AtomicU32::new(0), most: AtomicU32::new(0) });
    for max in [1, 3, 8] {
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
