//! What a user of the pool relies on, against a server of the test's own making. On a paused clock, so that times are exact
//! however busy the machine is; but for the test that needs threads.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use weir_pool::{Builder, Manager, Pool, Refused, Release, StartError};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A server: how it answers connects, and what is open.
#[derive(Default, Debug)]
struct Server {
    connect_ms: AtomicU64,
    refuses: AtomicBool,
    hangs: AtomicBool,
    /// Connections of earlier generations are dead.
    generation: AtomicU32,
    open: AtomicU32,
    open_max: AtomicU32,
    attempts: AtomicU32,
    opened: AtomicU32,
    checks: AtomicU32,
    resets: AtomicU32,
    /// How long the hook before a use takes, and how often it was begun.
    hook_ms: AtomicU64,
    hooks: AtomicU32,
}

impl Server {
    fn get(&self, counter: fn(&Self) -> &AtomicU32) -> u32 {
        counter(self).load(Ordering::SeqCst)
    }

    fn restart(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

/// A place at the server, from the beginning of the connect to the end of the connection.
#[derive(Debug)]
struct Place(Arc<Server>);

impl Place {
    fn new(server: &Arc<Server>) -> Self {
        let open = server.open.fetch_add(1, Ordering::SeqCst) + 1;
        server.open_max.fetch_max(open, Ordering::SeqCst);
        Self(Arc::clone(server))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Conn {
    place: Place,
    number: u32,
    generation: u32,
    dirty: bool,
}

impl Conn {
    fn is_alive(&self) -> bool {
        self.generation == self.place.0.generation.load(Ordering::SeqCst)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Failure(&'static str);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Failure {}

struct Client(Arc<Server>);

impl Manager for Client {
    type Connection = Conn;
    type Error = Failure;

    async fn connect(&self) -> Result<Conn, Failure> {
        self.0.attempts.fetch_add(1, Ordering::SeqCst);
        let place = Place::new(&self.0);
        if self.0.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        pass(ms(self.0.connect_ms.load(Ordering::SeqCst))).await;
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(Failure("too many connections for role \"test\""));
        }
        let number = self.0.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Conn { place, number, generation: self.0.generation.load(Ordering::SeqCst), dirty: false })
    }

    async fn check(&self, conn: &mut Conn) -> Result<(), Failure> {
        self.0.checks.fetch_add(1, Ordering::SeqCst);
        pass(ms(1)).await;
        if conn.is_alive() { Ok(()) } else { Err(Failure("terminated by an administrator")) }
    }

    async fn on_acquire(&self, _: &mut Conn) -> Result<(), Failure> {
        self.0.hooks.fetch_add(1, Ordering::SeqCst);
        match self.0.hook_ms.load(Ordering::SeqCst) {
            0 => {}
            millis => pass(ms(millis)).await,
        }
        Ok(())
    }

    fn on_release(&self, conn: &mut Conn) -> Release {
        if conn.dirty { Release::Reset } else { Release::Keep }
    }

    async fn reset(&self, conn: &mut Conn) -> Result<(), Failure> {
        self.0.resets.fetch_add(1, Ordering::SeqCst);
        conn.dirty = false;
        Ok(())
    }
}

fn pool(server: &Arc<Server>, settings: impl FnOnce(Builder) -> Builder) -> Pool<Client> {
    settings(Pool::<Client>::builder().name("test").max_size(10).min_idle(0).tokio_clock(true))
        .build(Client(Arc::clone(server)))
        .unwrap()
}

/// Lets time pass on the paused clock.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await; // tidy: allow(sleep) virtual time: nothing waits for a machine
}

/// Waits for something to become true.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "not in time: {what}");
        pass(ms(2)).await;
    }
}

/// Opens `n` connections and gives them back.
async fn warm(pool: &Pool<Client>, n: usize) {
    let mut guards = Vec::new();
    for _ in 0..n {
        guards.push(pool.acquire().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_serves_one_after_the_other_in_order() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.max_size(1).acquire_timeout(Duration::from_secs(10)));
    let first = pool.acquire().await.unwrap();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..100 {
        let (of_task, order) = (pool.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let _guard = of_task.acquire().await.unwrap();
            order.lock().unwrap().push(number);
        }));
        eventually("it is in line", || pool.snapshot().pending == number + 1).await;
    }
    drop(first);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(server.get(|s| &s.opened), 1);
}

#[tokio::test(start_paused = true)]
async fn a_spike_before_quick_uses_opens_next_to_nothing() {
    let server = Arc::new(Server::default());
    server.connect_ms.store(150, Ordering::SeqCst);
    let pool = pool(&server, |b| b.max_size(50));
    warm(&pool, 5).await;
    let before = server.get(|s| &s.attempts);
    let begun = Instant::now();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let guard = pool.acquire().await.unwrap();
                pass(ms(2)).await;
                guard.held()
            })
        })
        .collect();
    let mut held = Duration::ZERO;
    for task in tasks {
        held += task.await.unwrap();
    }
    let (took, mean) = (begun.elapsed(), held / 50);
    assert!(server.get(|s| &s.attempts) - before <= 2, "{} connects", server.get(|s| &s.attempts) - before);
    assert!(took <= mean * 10 * 115 / 100, "{took:?} for holds of {mean:?}");
}

#[tokio::test(start_paused = true)]
async fn a_spike_before_long_uses_opens_all() {
    let server = Arc::new(Server::default());
    server.connect_ms.store(150, Ordering::SeqCst);
    let pool = pool(&server, |b| b.max_size(50));
    warm(&pool, 5).await;
    let begun = Instant::now();
    for _ in 0..50 {
        let pool = pool.clone();
        tokio::spawn(async move {
            let _guard = pool.acquire().await.unwrap();
            pass(Duration::from_secs(2)).await;
        });
    }
    eventually("all are in use", || pool.snapshot().active == 50).await;
    assert!(begun.elapsed() <= ms(3 * 150), "{:?}", begun.elapsed());
    assert!(server.get(|s| &s.open_max) <= 50);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_costs_each_caller_its_time_and_no_more() {
    let server = Arc::new(Server::default());
    server.hangs.store(true, Ordering::SeqCst);
    let pool = pool(&server, |b| b.acquire_timeout(Duration::from_secs(1)));
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let begun = Instant::now();
                (pool.acquire().await.unwrap_err(), begun.elapsed())
            })
        })
        .collect();
    for caller in callers {
        let (error, took) = caller.await.unwrap();
        assert_eq!(error.refused(), Refused::TimedOut);
        assert!(took >= ms(999) && took <= ms(1_050), "{took:?}");
        let text = error.to_string();
        assert!(
            text.contains("no connection of pool \"test\" after 1.") && text.contains("without an answer"),
            "{text}"
        );
    }
    assert!(server.get(|s| &s.open_max) <= 10);
    server.hangs.store(false, Ordering::SeqCst);
    let back = Instant::now();
    // Each asks again when its time is over, as a server's requests do.
    while pool.acquire().await.is_err() {}
    assert!(back.elapsed() <= Duration::from_secs(1), "{:?}", back.elapsed());
    assert!(server.get(|s| &s.attempts) <= 15, "{} attempts", server.get(|s| &s.attempts));
}

#[tokio::test(start_paused = true)]
async fn a_short_fail_over_costs_no_error() {
    let server = Arc::new(Server::default());
    server.refuses.store(true, Ordering::SeqCst);
    let pool = pool(&server, |b| b);
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire().await.map(drop) })
        })
        .collect();
    pass(Duration::from_secs(1)).await;
    let refused = server.get(|s| &s.attempts);
    assert!((3..=20).contains(&refused), "paced: {refused} attempts in a second");
    server.refuses.store(false, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_long_outage_new_callers_are_told_at_once_and_why() {
    let server = Arc::new(Server::default());
    server.refuses.store(true, Ordering::SeqCst);
    let pool = pool(&server, |b| b.acquire_timeout(ms(200)).validation_timeout(ms(100)).down_after(ms(500)));
    let begun = Instant::now();
    let error = loop {
        let asked = Instant::now();
        let error = pool.acquire().await.unwrap_err();
        if error.refused() == Refused::Down {
            assert!(asked.elapsed() < ms(100));
            break error;
        }
        assert_eq!(error.refused(), Refused::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(5));
    };
    assert!(begun.elapsed() >= ms(500));
    assert_eq!(error.cause(), Some(&Failure("too many connections for role \"test\"")));
    assert!(error.to_string().contains("too many connections for role"), "{error}");
    server.refuses.store(false, Ordering::SeqCst);
    // Being refused is what makes the pool look again.
    let back = Instant::now();
    while pool.acquire().await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(3));
        pass(ms(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_callers_lose_nothing() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.max_size(3).acquire_timeout(Duration::from_secs(10)));
    let mut tasks = Vec::new();
    for number in 0..500_u64 {
        let pool = pool.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..20 {
                let limit = Duration::from_micros((number * 7 + round * 131) % 3_000);
                if let Ok(Ok(guard)) = tokio::time::timeout(limit, pool.acquire()).await {
                    tokio::task::yield_now().await;
                    drop(guard);
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let state = pool.snapshot();
    assert_eq!((state.active, state.pending), (0, 0), "{state}");
    assert!(server.get(|s| &s.open_max) <= 3);
    // All three can still be had at once.
    let guards = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    assert_eq!(pool.snapshot().active, 3);
    drop(guards);
}

#[tokio::test(start_paused = true)]
async fn a_panic_closes_the_connection_and_frees_its_place() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.max_size(1));
    let of_task = pool.clone();
    let task = tokio::spawn(async move {
        let _guard = of_task.acquire().await.unwrap();
        panic!("on purpose");
    });
    assert!(task.await.is_err());
    assert_eq!(pool.acquire().await.unwrap().number, 1);
    assert_eq!(server.get(|s| &s.open_max), 1);
}

#[tokio::test(start_paused = true)]
async fn dead_connections_are_not_lent_after_a_pause() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.validate_after(Some(ms(20))));
    warm(&pool, 5).await;
    assert_eq!(server.get(|s| &s.checks), 0, "used a moment ago");
    server.restart();
    pass(ms(30)).await;
    for _ in 0..10 {
        let guard = pool.acquire().await.unwrap();
        assert!(guard.is_alive());
    }
    assert!(server.get(|s| &s.open_max) <= 10);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_wait_gets_nothing_stale_and_makes_nothing_fresh() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b);
    warm(&pool, 1).await;
    server.restart();
    pass(Duration::from_secs(1)).await;
    for _ in 0..3 {
        assert_eq!(pool.try_acquire().unwrap_err().refused(), Refused::NoneIdle);
    }
    assert!(pool.acquire().await.unwrap().is_alive());
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_waits_is_begun_once_and_ends_with_the_callers_time() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.max_size(1));
    server.hook_ms.store(5, Ordering::SeqCst);
    warm(&pool, 1).await;
    assert_eq!(server.get(|s| &s.hooks), 1);
    server.hook_ms.store(60_000, Ordering::SeqCst);
    let begun = Instant::now();
    assert_eq!(pool.acquire_timeout(ms(50)).await.unwrap_err().refused(), Refused::TimedOut);
    assert!(begun.elapsed() < ms(60));
    assert_eq!(server.get(|s| &s.hooks), 2);
    server.hook_ms.store(0, Ordering::SeqCst);
    assert_eq!(pool.acquire().await.unwrap().number, 1, "nobody knows the state of the first");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_is_kept_behind_any_number_of_others() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.max_size(1));
    let _busy = pool.acquire().await.unwrap();
    for _ in 0..3_000 {
        let pool = pool.clone();
        tokio::spawn(async move { pool.acquire_timeout(Duration::from_mins(1)).await.map(drop) });
    }
    eventually("they are in line", || pool.snapshot().pending == 3_000).await;
    let begun = Instant::now();
    assert_eq!(pool.acquire().await.unwrap_err().refused(), Refused::TimedOut);
    assert!(begun.elapsed() <= ms(3_050), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_kept_alive_and_dead_ones_replaced() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.min_idle(3).keepalive(Some(ms(50))));
    eventually("three are open", || pool.snapshot().idle == 3).await;
    eventually("they are looked at", || server.get(|s| &s.checks) >= 6).await;
    assert_eq!(server.get(|s| &s.opened), 3);
    server.restart();
    eventually("they are replaced", || server.get(|s| &s.opened) == 6 && pool.snapshot().idle == 3).await;
    assert!(pool.acquire().await.unwrap().is_alive());
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_for_long_is_closed_down_to_the_minimum() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.min_idle(2).idle_timeout(Some(ms(50))));
    warm(&pool, 8).await;
    eventually("two are left", || pool.snapshot().idle == 2 && server.get(|s| &s.open) == 2).await;
    pass(ms(150)).await;
    assert_eq!(server.get(|s| &s.open), 2);
}

#[tokio::test(start_paused = true)]
async fn lifetimes_end_connections_also_busy_ones_at_their_return() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.max_lifetime(Some(ms(60))).keepalive(None).idle_timeout(None));
    let old = pool.acquire().await.unwrap();
    assert_eq!(old.number, 0);
    pass(ms(80)).await;
    drop(old);
    assert_eq!(pool.acquire().await.unwrap().number, 1);
    eventually("both have gone", || server.get(|s| &s.open) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_dirty_connection_is_reset_before_its_next_use_and_keeps_its_extras() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.max_size(1));
    let mut guard = pool.acquire().await.unwrap();
    guard.dirty = true;
    *guard.extra::<u32>() = 7;
    drop(guard);
    assert_eq!(server.get(|s| &s.resets), 0, "not before somebody needs it");
    assert_eq!(pool.try_acquire().unwrap_err().refused(), Refused::NoneIdle);
    let mut guard = pool.acquire().await.unwrap();
    assert!(!guard.dirty && server.get(|s| &s.resets) == 1);
    assert_eq!((guard.number, *guard.extra::<u32>()), (0, 7));
}

#[tokio::test(start_paused = true)]
async fn the_size_changes_at_run_time() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b);
    let mut guards = Vec::new();
    for _ in 0..10 {
        guards.push(pool.acquire().await.unwrap());
    }
    assert_eq!(pool.acquire_timeout(ms(30)).await.unwrap_err().refused(), Refused::TimedOut);
    pool.resize(12).unwrap();
    guards.push(pool.acquire().await.unwrap());
    guards.push(pool.acquire().await.unwrap());
    pool.resize(4).unwrap();
    drop(guards);
    eventually("four are left", || server.get(|s| &s.open) == 4).await;
    assert_eq!(server.get(|s| &s.open_max), 12);
    assert!(pool.resize(0).is_err());
    assert_eq!(pool.snapshot().max_size, 4);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_pool_keeps_callers_waiting() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b);
    warm(&pool, 2).await;
    pool.suspend();
    assert_eq!(pool.acquire_timeout(ms(30)).await.unwrap_err().refused(), Refused::TimedOut);
    let of_task = pool.clone();
    let waiter = tokio::spawn(async move { of_task.acquire().await.map(drop) });
    eventually("it waits", || pool.snapshot().pending == 1).await;
    pool.resume();
    waiter.await.unwrap().unwrap();
    assert_eq!(server.get(|s| &s.opened), 2);
}

#[tokio::test(start_paused = true)]
async fn soft_eviction_replaces_everything() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b);
    let busy = pool.acquire().await.unwrap();
    warm(&pool, 2).await;
    pool.evict();
    eventually("the idle ones are gone", || server.get(|s| &s.open) == 1).await;
    drop(busy);
    eventually("the busy one too", || server.get(|s| &s.open) == 0).await;
    assert!(pool.acquire().await.unwrap().number >= 2);
}

#[tokio::test(start_paused = true)]
async fn closing_refuses_callers_and_waits_for_those_in_use() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |b| b.max_size(2));
    let busy = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    let of_task = pool.clone();
    let waiter = tokio::spawn(async move { of_task.acquire().await.map(drop) });
    eventually("it waits", || pool.snapshot().pending == 1).await;
    let left = pool.close(ms(50)).await.unwrap_err();
    assert_eq!(left.active, 2);
    assert_eq!(waiter.await.unwrap().unwrap_err().refused(), Refused::Closed);
    assert_eq!(pool.acquire().await.unwrap_err().to_string(), "pool \"test\" is closed");
    let of_task = pool.clone();
    let closed = tokio::spawn(async move { of_task.close(Duration::from_secs(5)).await });
    drop(busy);
    closed.await.unwrap().unwrap();
    assert_eq!(server.get(|s| &s.open), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_closes_the_pool_and_nothing_is_left() {
    let server = Arc::new(Server::default());
    let first = pool(&server, |b| b.min_idle(3));
    let guard = first.acquire().await.unwrap();
    drop(first);
    eventually("the idle ones go", || server.get(|s| &s.open) == 1).await;
    drop(guard);
    eventually("the last one goes", || server.get(|s| &s.open) == 0).await;
    eventually("the pool itself goes", || Arc::strong_count(&server) == 1).await;
}

#[test]
fn a_pool_whose_runtime_ends_lets_go_of_its_connections() {
    let server = Arc::new(Server::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pool = runtime.block_on(async {
        let pool = pool(&server, |b| b);
        warm(&pool, 3).await;
        pool
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    assert_eq!(server.get(|s| &s.open), 0);
    assert_eq!(pool.try_acquire().unwrap_err().refused(), Refused::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_cannot_connect_does_not_start_and_says_why() {
    let server = Arc::new(Server::default());
    let builder = || Pool::<Client>::builder().name("orders").max_size(4).min_idle(0).tokio_clock(true);
    server.refuses.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    let error = builder().start(Client(Arc::clone(&server)), Duration::ZERO).await.unwrap_err();
    let StartError::Connect(error) = error else { panic!("{error}") };
    assert_eq!(error.cause(), Some(&Failure("too many connections for role \"test\"")));
    assert!(begun.elapsed() < ms(10), "the first failure is the last");
    let error = builder().start(Client(Arc::clone(&server)), ms(500)).await.unwrap_err();
    assert!(begun.elapsed() >= ms(500) && begun.elapsed() < ms(1_500), "{:?}", begun.elapsed());
    assert!(error.to_string().starts_with("the pool did not start: no connection of pool \"orders\""), "{error}");
    // One that is back within the limit.
    let back = Arc::clone(&server);
    tokio::spawn(async move {
        pass(ms(300)).await;
        back.refuses.store(false, Ordering::SeqCst);
    });
    let pool = builder().start(Client(Arc::clone(&server)), ms(2_000)).await.unwrap();
    assert_eq!(pool.snapshot().idle, 1);
    // One that says nothing.
    server.hangs.store(true, Ordering::SeqCst);
    let error = builder().connect_timeout(ms(400)).start(Client(server), Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().ends_with("last failure 0.0 s ago: no answer within 0.400 s"), "{error}");
    let error = builder().max_size(0).start(Client(Arc::default()), Duration::ZERO).await.unwrap_err();
    assert_eq!(error.to_string(), "the pool's settings: max_size: 0 is not within 1 and 65536");
}

#[tokio::test(start_paused = true)]
async fn warming_up_opens_connections_before_anybody_asks() {
    let server = Arc::new(Server::default());
    server.connect_ms.store(20, Ordering::SeqCst);
    let pool = pool(&server, |builder| builder.max_size(10));
    pool.warm_up(8, ms(1_000)).await.unwrap();
    assert_eq!((pool.snapshot().idle, server.get(|server| &server.opened)), (8, 8));
    // Also where some are in use, and never above the maximum.
    let guard = pool.acquire().await.unwrap();
    pool.warm_up(50, ms(1_000)).await.unwrap();
    assert_eq!((pool.snapshot().active, pool.snapshot().idle), (1, 9));
    drop(guard);
    pool.evict();
    eventually("all are closed", || server.get(|server| &server.open) == 0).await;
    server.refuses.store(true, Ordering::SeqCst);
    let error = pool.warm_up(2, ms(300)).await.unwrap_err();
    assert!(error.cause().is_some() && error.refused() == Refused::TimedOut, "{error}");
    let attempts = server.get(|server| &server.attempts);
    pass(ms(5_000)).await;
    assert_eq!(server.get(|server| &server.attempts), attempts, "it was given up");
}

#[tokio::test(start_paused = true)]
async fn settings_change_at_run_time_or_not_at_all() {
    let server = Arc::new(Server::default());
    let pool = pool(&server, |builder| builder.max_size(2));
    let error = pool.configure(|settings| settings.max_size(8).min_idle(9)).unwrap_err();
    assert_eq!((error.setting(), pool.snapshot().max_size), ("min_idle", 2));
    pool.configure(|settings| settings.max_size(3).min_idle(2).acquire_timeout(ms(1_500))).unwrap();
    eventually("two are idle", || pool.snapshot().idle == 2).await;
    let held = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    let begun = Instant::now();
    assert_eq!(pool.acquire().await.unwrap_err().refused(), Refused::TimedOut);
    assert!(begun.elapsed() >= ms(1_500) && begun.elapsed() < ms(1_600));
    // What is not named stays.
    pool.configure(|settings| settings.max_uses(Some(1))).unwrap();
    assert_eq!((&*pool.snapshot().name, pool.snapshot().max_size), ("test", 3));
    let error = pool.configure(|settings| settings.name("other")).unwrap_err();
    assert_eq!(error.to_string(), "name: stays what it was when the pool was built");
    drop(held);
    let opened = server.get(|server| &server.opened);
    drop(pool.acquire().await.unwrap());
    eventually("each is used once", || server.get(|server| &server.opened) > opened).await;
}

#[test]
fn contradictions_are_refused_with_the_setting_and_the_reason() {
    let refused = |settings: Builder| {
        let error = settings.build(Client(Arc::default())).expect_err("refused before anything is started");
        error.to_string()
    };
    let builder = || Builder::new().max_size(10);
    assert_eq!(refused(builder().min_idle(11)), "min_idle: 11 is more than max_size (10)");
    assert_eq!(refused(builder().max_size(0)), "max_size: 0 is not within 1 and 65536");
    assert!(refused(builder().min_idle(10)).contains("idle_timeout would never close anything"));
    assert_eq!(
        refused(builder().validation_timeout(Duration::from_secs(9))),
        "validation_timeout: 9s is more than acquire_timeout (3s)"
    );
    assert!(refused(builder().keepalive(Some(Duration::from_mins(30)))).starts_with("keepalive: 1800s is not less"));
}

#[test]
fn a_guard_may_be_shared_between_threads_where_its_connection_may() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<weir_pool::Guard<Client>>();
    is_shared::<Pool<Client>>();
}
