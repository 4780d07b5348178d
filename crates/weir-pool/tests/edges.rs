//! Where a pool meets what its users may do and its runtimes may be: code of theirs that calls it from odd places, runtimes that
//! end, settings at their ends. Each of these has been a defect.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokio::time::Instant;
use weir_pool::{Builder, Guard, Manager, Pool, Refused};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets time pass on the paused clock.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await; // tidy: allow(sleep) virtual time: nothing waits for a machine
}

/// Fails the test if `body` does not end: a lock that is taken twice never does.
fn ends(body: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = tell.send(());
    });
    match told.recv_timeout(Duration::from_secs(10)) {
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => thread.join().unwrap(),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A server: what is open, and what it is asked to do.
#[derive(Default)]
struct Server {
    open: AtomicU32,
    opened: AtomicU32,
    checks: AtomicU32,
    refuses: AtomicBool,
    /// So many connects hang.
    hangs: AtomicU32,
    connect: Mutex<Duration>,
    check: Mutex<Duration>,
    /// The connection of this number is dead.
    dead: Mutex<Option<u32>>,
    /// The pool, for the code of the user's that calls it.
    pool: Mutex<Option<Pool<Client>>>,
}

impl Server {
    fn get(&self, counter: fn(&Self) -> &AtomicU32) -> u32 {
        counter(self).load(Ordering::SeqCst)
    }
}

struct Conn {
    server: Arc<Server>,
    number: u32,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An error whose end calls the pool, as that of a user may.
struct Refusal(Weak<Server>);

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl Error for Refusal {}

impl Drop for Refusal {
    fn drop(&mut self) {
        if let Some(server) = self.0.upgrade()
            && let Some(pool) = &*server.pool.lock().unwrap_or_else(PoisonError::into_inner)
        {
            assert!(pool.snapshot().max_size > 0);
        }
    }
}

struct Client(Arc<Server>);

impl Manager for Client {
    type Connection = Conn;
    type Error = Refusal;

    async fn connect(&self) -> Result<Conn, Refusal> {
        let server = &self.0;
        if server.refuses.load(Ordering::SeqCst) {
            return Err(Refusal(Arc::downgrade(server)));
        }
        if server.hangs.load(Ordering::SeqCst) > 0 {
            server.hangs.fetch_sub(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        let takes = *server.connect.lock().unwrap();
        if takes > Duration::ZERO {
            pass(takes).await;
        }
        server.open.fetch_add(1, Ordering::SeqCst);
        Ok(Conn { server: Arc::clone(server), number: server.opened.fetch_add(1, Ordering::SeqCst) })
    }

    async fn check(&self, conn: &mut Conn) -> Result<(), Refusal> {
        self.0.checks.fetch_add(1, Ordering::SeqCst);
        let takes = *self.0.check.lock().unwrap();
        if takes > Duration::ZERO {
            pass(takes).await;
        }
        let dead = *self.0.dead.lock().unwrap() == Some(conn.number);
        if dead { Err(Refusal(Arc::downgrade(&self.0))) } else { Ok(()) }
    }
}

/// A pool that does nothing unasked.
fn pool(server: &Arc<Server>, settings: impl FnOnce(Builder) -> Builder) -> Pool<Client> {
    let quiet = Pool::<Client>::builder().name("test").max_size(4).min_idle(0).tokio_clock(true);
    let quiet = quiet.idle_timeout(None).max_lifetime(None).keepalive(None).validate_after(None);
    settings(quiet).build(Client(Arc::clone(server))).unwrap()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "not in time: {what}");
        pass(ms(2)).await;
    }
}

async fn all(pool: &Pool<Client>, n: usize) -> Vec<Guard<Client>> {
    let mut guards = Vec::new();
    for _ in 0..n {
        guards.push(pool.acquire().await.unwrap());
    }
    guards
}

// === runtimes ===

/// A pool whose runtime never came to run it must not keep its callers.
#[test]
fn a_pool_whose_runtime_never_ran_refuses_callers() {
    let server = Arc::new(Server::default());
    let first = runtime();
    let pool = {
        let _inside = first.enter();
        pool(&server, |b| b)
    };
    drop(first);
    let refused = runtime().block_on(async {
        tokio::time::timeout(Duration::from_secs(10), pool.acquire())
            .await
            .expect("the housekeeper is not there to end it")
    });
    assert_eq!(refused.err().map(|error| error.refused()), Some(Refused::Closed));
}

/// A connection that comes back after the end of the runtime has nobody to close it.
#[test]
fn what_comes_back_after_the_runtime_has_ended_goes_too() {
    let server = Arc::new(Server::default());
    let first = runtime();
    let (pool, mut guards) = first.block_on(async {
        let pool = pool(&server, |b| b);
        let guards = all(&pool, 3).await;
        (pool, guards)
    });
    drop(first);
    assert_eq!(server.get(|s| &s.open), 3, "in use");
    drop(guards.pop());
    assert_eq!(server.get(|s| &s.open), 2);
    guards.pop().unwrap().discard();
    assert_eq!(server.get(|s| &s.open), 1);
    let last = guards.pop().unwrap();
    let second = runtime();
    second.block_on(pool.close(ms(10))).expect_err("one is in use");
    std::thread::spawn(move || drop(last)).join().unwrap();
    assert_eq!(server.get(|s| &s.open), 0);
    second.block_on(pool.close(Duration::from_secs(10))).unwrap();
    drop(pool);
    assert_eq!(Arc::strong_count(&server), 1, "nothing is left of the pool");
}

// === code of the user's ===

/// The last failure is replaced by the next one; its end is the user's code.
#[test]
fn an_error_whose_end_calls_the_pool_meets_no_lock() {
    ends(|| {
        let server = Arc::new(Server::default());
        server.refuses.store(true, Ordering::SeqCst);
        runtime().block_on(async {
            let pool = pool(&server, |b| b.acquire_timeout(ms(300)).validation_timeout(ms(100)).backoff(ms(1)));
            *server.pool.lock().unwrap() = Some(pool.clone());
            assert_eq!(pool.acquire().await.err().map(|error| error.refused()), Some(Refused::TimedOut));
            *server.pool.lock().unwrap() = None;
        });
    });
}

/// A task that holds a connection until its last waker goes.
struct Held(Mutex<Option<Guard<Client>>>);

impl Wake for Held {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// An executor may free a task with its last waker, and with the task what it holds.
#[test]
fn a_waker_whose_end_gives_a_connection_back_meets_no_lock() {
    ends(|| {
        let server = Arc::new(Server::default());
        runtime().block_on(async {
            let pool = pool(&server, |b| b.max_size(1));
            let guard = pool.acquire().await.unwrap();
            // It waits in that task, then its future is moved to another one and dropped there: nobody else knows the first one.
            let mut waits = Box::pin(pool.acquire());
            let waker = Waker::from(Arc::new(Held(Mutex::new(Some(guard)))));
            assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            drop(waits);
            assert_eq!((pool.snapshot().active, pool.snapshot().pending), (0, 0));
        });
    });
}

/// As above, when the future is polled by the other task.
#[test]
fn a_waker_that_is_replaced_meets_no_lock() {
    ends(|| {
        let server = Arc::new(Server::default());
        runtime().block_on(async {
            let pool = pool(&server, |b| b.max_size(1));
            let guard = pool.acquire().await.unwrap();
            let mut waits = Box::pin(pool.acquire());
            let waker = Waker::from(Arc::new(Held(Mutex::new(Some(guard)))));
            assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            drop(waits.await.unwrap());
        });
    });
}

// === what is looked at, counted and told ===

/// The call to the housekeeper must not wait for the next one who uses the pool.
#[tokio::test(start_paused = true)]
async fn a_leak_is_reported_although_nothing_else_happens() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.leak_after(Some(ms(100))));
    drop(pool.acquire().await.unwrap());
    pass(Duration::from_secs(1)).await;
    let _leaked = pool.acquire().await.unwrap();
    pass(Duration::from_secs(1)).await;
    assert_eq!(pool.stats().leaks, 1);
}

/// As above, for the caller that does not wait.
#[tokio::test(start_paused = true)]
async fn a_leak_of_one_who_did_not_wait_is_reported() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.leak_after(Some(ms(100))));
    drop(pool.acquire().await.unwrap());
    pass(Duration::from_secs(1)).await;
    let _leaked = pool.try_acquire().unwrap();
    pass(Duration::from_secs(1)).await;
    assert_eq!(pool.stats().leaks, 1);
}

/// One dead connection makes the others suspect until they have been looked at, not for ever.
#[tokio::test(start_paused = true)]
async fn a_suspect_that_was_found_alive_is_not_looked_at_again() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.validate_after(Some(ms(500))));
    drop(all(&pool, 2).await);
    pass(Duration::from_secs(1)).await;
    // The one that is taken first.
    *server.dead.lock().unwrap() = Some(pool.try_acquire().map_or(1, |guard| guard.number));
    let number = pool.acquire().await.unwrap().number;
    let checks = server.get(|s| &s.checks);
    assert!(checks >= 1);
    for _ in 0..10 {
        assert_eq!(pool.acquire().await.unwrap().number, number);
        pass(ms(1)).await;
    }
    assert_eq!(server.get(|s| &s.checks), checks);
}

/// Only what was lent counts as lent.
#[tokio::test(start_paused = true)]
async fn who_gets_nothing_is_not_counted_as_served() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.validate_after(Some(ms(500))));
    drop(pool.acquire().await.unwrap());
    pass(Duration::from_secs(1)).await;
    for _ in 0..3 {
        assert_eq!(pool.try_acquire().err().map(|error| error.refused()), Some(Refused::NoneIdle));
    }
    assert_eq!((pool.stats().acquired, pool.stats().uses), (1, 1));
}

/// Also one whose time was over while its connection was looked at.
#[tokio::test(start_paused = true)]
async fn who_is_late_after_the_line_is_counted_as_late() {
    let server = Arc::new(Server::default());
    *server.check.lock().unwrap() = ms(800);
    let pool = pool(&server, |b| b.max_size(1).validate_after(Some(ms(10))));
    drop(pool.acquire().await.unwrap());
    pass(Duration::from_secs(1)).await;
    let late = pool.acquire_timeout(ms(50)).await;
    assert_eq!(late.err().map(|error| error.refused()), Some(Refused::TimedOut));
    assert_eq!(pool.stats().timed_out, 1);
}

/// To look whether there is something fresh is no use of it: it is closed when it has been idle for long.
#[tokio::test(start_paused = true)]
async fn who_cannot_wait_keeps_nothing_from_being_idle() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.validate_after(Some(ms(50))).idle_timeout(Some(Duration::from_secs(1))));
    drop(pool.acquire().await.unwrap());
    for _ in 0..12 {
        pass(ms(100)).await;
        assert_eq!(pool.try_acquire().err().map(|error| error.refused()), Some(Refused::NoneIdle));
    }
    assert_eq!(server.get(|s| &s.open), 0, "{}", pool.snapshot());
}

/// A change of the settings within a change would wait for itself.
#[test]
fn a_change_within_a_change_is_an_error() {
    ends(|| {
        let runtime = runtime();
        let _inside = runtime.enter();
        let pool = pool(&Arc::new(Server::default()), |b| b);
        let mut inner = None;
        let outer = pool.configure(|settings| {
            inner = pool.configure(|settings| settings.max_size(7)).err();
            settings.max_size(9)
        });
        outer.unwrap();
        assert_eq!(inner.map(|error| error.setting()), Some("configure"));
        assert_eq!(pool.snapshot().max_size, 9);
        // Also after a closure that panics.
        let panicked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.configure(|_| panic!("on purpose"))));
        assert!(panicked.is_err());
        pool.configure(|settings| settings.max_size(5)).unwrap();
        assert_eq!(pool.snapshot().max_size, 5);
    });
}

/// A waker that panics.
struct Unwakeable;

impl Wake for Unwakeable {
    fn wake(self: Arc<Self>) {
        panic!("on purpose");
    }
}

/// Wakers are code of executors. One that panics takes neither the others' wake-ups with it nor the housekeeper.
#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_costs_nobody_else_anything() {
    let unwakeable = Waker::from(Arc::new(Unwakeable));
    let mut cx = Context::from_waker(&unwakeable);
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.max_size(1).acquire_timeout(ms(500)).validation_timeout(ms(100)));
    let busy = pool.acquire().await.unwrap();
    // The first in line, twice: those behind are woken in the same batch, by the housekeeper and by who closes the pool.
    for closes in [false, true] {
        let mut first = pin!(pool.acquire());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        let others: Vec<_> = (0..3)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { pool.acquire().await.map(drop).map_err(|error| error.refused()) })
            })
            .collect();
        eventually("they are in line", || pool.snapshot().pending == 4).await;
        if closes {
            pool.close(ms(10)).await.expect_err("one is in use");
        }
        let refused = if closes { Refused::Closed } else { Refused::TimedOut };
        for other in others {
            let ended = tokio::time::timeout(Duration::from_secs(1), other).await;
            assert_eq!(ended.expect("it is woken").unwrap(), Err(refused));
        }
    }
    drop(busy);
    pool.close(Duration::from_secs(1)).await.expect("the housekeeper is still there");
}

// === sizes and bounds ===

/// A connect that was in flight when the maximum fell ends above it.
#[tokio::test(start_paused = true)]
async fn what_is_too_much_after_a_smaller_maximum_is_closed_however_it_became_idle() {
    let server = Arc::new(Server::default());
    *server.connect.lock().unwrap() = ms(100);
    let pool = pool(&server, |b| b.min_idle(3));
    pass(ms(80)).await;
    assert!(pool.snapshot().opening >= 2, "{}", pool.snapshot());
    pool.resize(1).unwrap();
    eventually("they are open", || server.get(|s| &s.opened) >= 2).await;
    pass(ms(500)).await;
    assert_eq!(server.get(|s| &s.open), 1, "{}", pool.snapshot());
}

/// As above, for those that were being looked at.
#[tokio::test(start_paused = true)]
async fn what_was_being_looked_at_when_the_maximum_fell_is_closed() {
    let server = Arc::new(Server::default());
    *server.check.lock().unwrap() = ms(100);
    let pool = pool(&server, |b| b.keepalive(Some(ms(500))));
    drop(all(&pool, 4).await);
    eventually("they are looked at", || server.get(|s| &s.checks) == 4).await;
    pool.resize(1).unwrap();
    pass(ms(300)).await;
    assert_eq!(server.get(|s| &s.open), 1, "{}", pool.snapshot());
}

/// The bound of the line is for those who come, not for one whose turn it was.
#[tokio::test(start_paused = true)]
async fn a_full_line_does_not_cost_the_one_with_a_dead_connection_its_turn() {
    let server = Arc::new(Server::default());
    *server.check.lock().unwrap() = ms(20);
    let pool = pool(&server, |b| b.max_size(1).waiters_max(2).validate_after(Some(ms(500))));
    drop(pool.acquire().await.unwrap());
    pass(Duration::from_secs(1)).await;
    *server.dead.lock().unwrap() = Some(0);
    let spawn = || {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire().await.map(drop).map_err(|error| error.refused()) })
    };
    let first = spawn();
    eventually("it is looked at", || server.get(|s| &s.checks) == 1).await;
    let others = [spawn(), spawn()];
    eventually("the line is full", || pool.snapshot().pending == 2).await;
    assert_eq!(pool.acquire().await.err().map(|error| error.refused()), Some(Refused::LineFull));
    assert_eq!(first.await.unwrap(), Ok(()));
    for other in others {
        assert_eq!(other.await.unwrap(), Ok(()));
    }
}

/// A connect that hangs and holds the only place is given up for a caller with a time of its own, too.
#[tokio::test(start_paused = true)]
async fn a_hung_connect_that_holds_the_last_place_is_given_up_for_every_caller() {
    let server = Arc::new(Server::default());
    server.hangs.store(1, Ordering::SeqCst);
    let pool = pool(&server, |b| b.max_size(1).min_idle(1));
    pass(ms(10)).await;
    assert_eq!(pool.snapshot().opening, 1);
    let begun = Instant::now();
    drop(pool.acquire_timeout(Duration::from_secs(2)).await.unwrap());
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// The longest times that can be written are times like others.
#[tokio::test(start_paused = true)]
async fn endless_times_are_taken() {
    let server = Arc::new(Server::default());
    let endless = |b: Builder| {
        b.acquire_timeout(Duration::MAX)
            .connect_timeout(Duration::MAX)
            .validation_timeout(Duration::MAX)
            .close_timeout(Duration::MAX)
            .validate_after(Some(ms(1)))
            .idle_timeout(Some(Duration::MAX))
            .max_lifetime(Some(Duration::MAX))
            .keepalive(Some(Duration::from_secs(u64::MAX / 2)))
            .leak_after(Some(Duration::MAX))
            .backoff(Duration::MAX)
            .backoff_max(Duration::MAX)
            .down_after(Duration::MAX)
    };
    let first = pool(&server, endless);
    for _ in 0..3 {
        drop(first.acquire().await.unwrap());
        drop(first.acquire_timeout(Duration::MAX).await.unwrap());
        pass(ms(10)).await;
    }
    first.warm_up(2, Duration::MAX).await.unwrap();
    first.close(Duration::MAX).await.unwrap();
    server.refuses.store(true, Ordering::SeqCst);
    let second = pool(&server, |b| endless(b).acquire_timeout(ms(100)).validation_timeout(ms(10)));
    assert_eq!(second.acquire().await.err().map(|error| error.refused()), Some(Refused::TimedOut));
    server.refuses.store(false, Ordering::SeqCst);
    let builder = endless(Pool::<Client>::builder().tokio_clock(true));
    drop(builder.start(Client(Arc::clone(&server)), Duration::MAX).await.unwrap());
}

/// Who warms a pool up learns of its end.
#[tokio::test(start_paused = true)]
async fn warming_up_ends_with_the_pool() {
    let server = Arc::new(Server::default());
    server.hangs.store(u32::MAX, Ordering::SeqCst);
    let pool = pool(&server, |b| b);
    let of_task = pool.clone();
    let warming = tokio::spawn(async move { of_task.warm_up(2, Duration::from_mins(10)).await });
    pass(ms(10)).await;
    let begun = Instant::now();
    let _ = pool.close(ms(1)).await;
    let ended = warming.await.unwrap();
    assert_eq!(ended.err().map(|error| error.refused()), Some(Refused::Closed));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// What could not be warmed up because the maximum fell is not wanted for ever.
#[tokio::test(start_paused = true)]
async fn a_warm_up_beyond_a_smaller_maximum_comes_to_an_end() {
    let server = Arc::new(Server::default());
    *server.connect.lock().unwrap() = ms(10);
    let pool = pool(&server, |b| b.idle_timeout(Some(ms(100))));
    {
        let mut warming = pin!(pool.warm_up(4, Duration::from_mins(1)));
        assert!(warming.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        pool.resize(2).unwrap();
    }
    pass(Duration::from_secs(2)).await;
    assert_eq!(
        (server.get(|s| &s.opened), server.get(|s| &s.open)),
        (2, 0),
        "opened once and closed when idle for long"
    );
}

/// Those in line keep their deadlines; those who come after a change have the new ones, wherever they stand.
#[tokio::test(start_paused = true)]
async fn a_shorter_time_out_holds_behind_callers_with_a_longer_one() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.max_size(1).acquire_timeout(Duration::from_mins(1)));
    let _busy = pool.acquire().await.unwrap();
    let of_task = pool.clone();
    let patient = tokio::spawn(async move { of_task.acquire().await.map(drop) });
    eventually("it is in line", || pool.snapshot().pending == 1).await;
    pool.configure(|b| b.acquire_timeout(ms(200)).validation_timeout(ms(100))).unwrap();
    let begun = Instant::now();
    assert_eq!(pool.acquire().await.err().map(|error| error.refused()), Some(Refused::TimedOut));
    assert!(begun.elapsed() <= ms(210), "{:?}", begun.elapsed());
    assert!(!patient.is_finished());
}
