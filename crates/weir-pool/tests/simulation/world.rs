//! Users, the owner, the clock, and what must hold.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinError;
use tokio::time::{Instant, advance, timeout};
use weir_pool::{AcquireError, Guard, Pool, Refused};

use crate::server::{ASKING, Asking, Client, Conn, Failure, Mood, Server, Stands, ms, panic_on_purpose, pass};

/// Waiting may last so much longer than its time-out: timers are of a millisecond, and a hook may end in the last moment.
const SLACK: Duration = ms(10);
const ACQUIRE_TIMEOUT: Duration = ms(400);
/// Of one seed.
const STEPS: u64 = 1_300;
/// Of the owner, in which the steps must be made: some fifty times as many as they take.
const ROUNDS_MAX: u32 = 5_000;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Sums {
    /// Calls of the pool: asking, giving back in one way or another, and what the owner does.
    operations: u64,
    lent: u64,
    waited: u64,
    timed_out: u64,
    refused: u64,
    given_up: u64,
    panics: u64,
    detached: u64,
    connects: u64,
    resized: u64,
    jumps: u64,
    runtimes_ended: u64,
}

impl Sums {
    pub(crate) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.lent += other.lent;
        self.waited += other.waited;
        self.timed_out += other.timed_out;
        self.refused += other.refused;
        self.given_up += other.given_up;
        self.panics += other.panics;
        self.detached += other.detached;
        self.connects += other.connects;
        self.resized += other.resized;
        self.jumps += other.jumps;
        self.runtimes_ended += other.runtimes_ended;
    }

    /// A world in which nothing happens proves nothing.
    pub(crate) fn is_a_world_worth_the_name(&self) {
        assert!(self.operations >= 1_000_000, "{self:?}");
        for often in [self.lent, self.waited] {
            assert!(often >= 100_000, "{self:?}");
        }
        for at_times in
            [self.timed_out, self.refused, self.given_up, self.panics, self.detached, self.connects, self.resized]
        {
            assert!(at_times >= 1_000, "{self:?}");
        }
        assert!(self.jumps >= 500 && self.runtimes_ended >= 10, "{self:?}");
    }
}

type Asked = Result<Guard<Client>, AcquireError<Failure>>;

/// One world.
pub(crate) struct World {
    server: Arc<Server>,
    pool: Pool<Client>,
    sums: Mutex<Sums>,
    next: AtomicU64,
    steps_left: AtomicU64,
    /// How far the clock has jumped in all, in nanoseconds.
    jumped: AtomicU64,
}

impl World {
    /// Runs the world of a seed to its end.
    pub(crate) fn run(seed: u64) -> Sums {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let max = 1 + (seed % 12) as u32;
        let server = Arc::new(Server::new(seed, max));
        let world = runtime.block_on(async {
            let pool = start(&server, seed, max);
            *server.pool.lock().unwrap() = Some(pool.clone());
            Arc::new(Self {
                server: Arc::clone(&server),
                pool,
                sums: Mutex::default(),
                next: AtomicU64::new(0),
                steps_left: AtomicU64::new(STEPS),
                jumped: AtomicU64::new(0),
            })
        });
        if seed.is_multiple_of(8) {
            world.run_until_the_runtime_ends(runtime);
        } else {
            runtime.block_on(async {
                world.live().await;
                world.end().await;
            });
        }
        let mut sums = *world.sums.lock().unwrap();
        sums.connects = server.sight().connects;
        drop(server.pool.lock().unwrap().take());
        assert_eq!(Arc::strong_count(&world), 1, "no user is left");
        drop(world);
        assert_eq!(Arc::strong_count(&server), 1, "something of the pool is left");
        sums
    }

    async fn live(self: &Arc<Self>) {
        let dice = &self.server.dice;
        let users = 1 + if dice.one_in(3) { dice.draw(60) } else { dice.draw(12) };
        let mut tasks = vec![tokio::spawn(Arc::clone(self).owner())];
        for _ in 0..users {
            tasks.push(tokio::spawn(Arc::clone(self).user()));
        }
        for task in tasks {
            task.await.unwrap();
        }
    }

    /// The pool closes, and nothing is left.
    async fn end(&self) {
        let server = &self.server;
        server.calm.store(true, Ordering::SeqCst);
        server.sight().mood = Mood::Quick;
        self.pool.resume();
        // Whoever comes now is served, as soon as the pool dares to connect again.
        let begun = Instant::now();
        while self.pool.acquire().await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(5), "it does not recover: {}", self.pool.snapshot());
            pass(ms(10)).await;
        }
        self.check();
        let state = self.pool.snapshot();
        assert_eq!((state.active, state.pending), (0, 0), "{state}");
        self.pool.close(Duration::from_secs(10)).await.unwrap();
        let state = self.pool.snapshot();
        assert_eq!((state.idle, state.opening, state.closing, server.sight().open), (0, 0, 0, 0), "{state}");
        assert!(server.line().is_empty(), "{:?}", server.line());
        let stats = self.pool.stats();
        let closed: u64 = stats.closed_by_reason().map(|(_, count)| count).sum();
        assert_eq!(stats.connects.count(), closed, "opened and closed");
        assert!(stats.acquired >= stats.uses, "{stats:?}");
        let begun = Instant::now();
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(5), "a task is left");
            pass(ms(10)).await;
        }
    }

    /// The runtime goes in the middle of everything; some connections are held elsewhere.
    fn run_until_the_runtime_ends(self: &Arc<Self>, runtime: Runtime) {
        let elsewhere = runtime.block_on(async {
            let time = ms(self.server.dice.draw(2_000));
            let _ = timeout(time, self.live()).await;
            let mut elsewhere = Vec::new();
            for _ in 0..3 {
                elsewhere.extend(self.pool.try_acquire());
            }
            elsewhere
        });
        self.server.calm.store(true, Ordering::SeqCst);
        drop(runtime);
        self.count(|sums| sums.runtimes_ended += 1);
        assert_eq!(self.server.sight().open as usize, elsewhere.len(), "{}", self.pool.snapshot());
        assert_eq!(self.pool.try_acquire().err().map(|error| error.refused()), Some(Refused::Closed));
        drop(elsewhere);
        let state = self.pool.snapshot();
        assert_eq!((state.active, state.idle, state.opening, state.closing), (0, 0, 0, 0), "{state}");
        assert_eq!(self.server.sight().open, 0);
    }

    fn count(&self, what: impl FnOnce(&mut Sums)) {
        what(&mut self.sums.lock().unwrap());
    }

    /// Looks at the pool from outside.
    fn check(&self) {
        let state = self.pool.snapshot();
        let places = state.active + state.idle + state.opening + state.closing;
        let mut sight = self.server.sight();
        // After a smaller maximum the surplus goes by and by; nothing is added to it.
        sight.allowed = state.max_size.max(sight.allowed.min(places));
        assert!(places <= sight.allowed, "{places} places: {state}");
        assert!(sight.open <= places, "{} at the server, of which the pool knows {places}: {state}", sight.open);
    }

    // === users ===

    async fn user(self: Arc<Self>) {
        while self.step() {
            let dice = &self.server.dice;
            match dice.draw(4) {
                0 => pass(ms(dice.draw(10))).await,
                1 => tokio::task::yield_now().await,
                _ => {}
            }
            // Each in a task of its own: it may panic.
            let asking = tokio::spawn(Arc::clone(&self).ask());
            if dice.one_in(25) {
                for _ in 0..dice.draw(4) {
                    tokio::task::yield_now().await;
                }
                asking.abort();
            }
            self.ended(asking.await);
            self.check();
        }
    }

    fn ended(&self, task: Result<(), JoinError>) {
        match task {
            Ok(()) => {}
            Err(error) if error.is_cancelled() => self.count(|sums| sums.given_up += 1),
            Err(error) => {
                let panic = error.into_panic();
                if panic.downcast_ref::<&str>() != Some(&"on purpose") {
                    std::panic::resume_unwind(panic);
                }
                self.count(|sums| sums.panics += 1);
            }
        }
    }

    /// Takes one of the steps that are left.
    fn step(&self) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        self.steps_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    async fn ask(self: Arc<Self>) {
        self.count(|sums| sums.operations += 1);
        let (dice, pool) = (&self.server.dice, &self.pool);
        match dice.draw(20) {
            0 => {
                let pending = pool.snapshot().pending;
                if let Ok(guard) = pool.try_acquire() {
                    assert_eq!(pending, 0, "taken before those in line");
                    self.hold(guard).await;
                }
            }
            1 => {
                let asks = pool.with(async |conn| {
                    let _in_hand = InHand::of(conn);
                    pass(ms(dice.draw(5))).await;
                });
                if let Err(error) = self.watch(None, asks).await {
                    self.missed(&error);
                }
            }
            2..6 => {
                let limit = ms(dice.draw(399));
                self.answer(self.watch(Some(limit), pool.acquire_timeout(limit)).await).await;
            }
            6 => {
                // Gives up after a while, wherever it is.
                let patience = Duration::from_micros(dice.draw(20_000));
                match timeout(patience, self.watch(Some(ACQUIRE_TIMEOUT), pool.acquire())).await {
                    Ok(asked) => self.answer(asked).await,
                    Err(_) => self.count(|sums| sums.given_up += 1),
                }
            }
            7 => {
                // Looks once or a few times, with a waker that nobody hears, and goes. (Without the order: it looks too late.)
                let mut asks = Box::pin(pool.acquire());
                for _ in 0..=dice.draw(3) {
                    if let Poll::Ready(asked) = look(asks.as_mut()) {
                        drop(asks);
                        return self.answer(asked).await;
                    }
                    tokio::task::yield_now().await;
                }
                drop(asks);
                self.count(|sums| sums.given_up += 1);
            }
            _ => self.answer(self.watch(Some(ACQUIRE_TIMEOUT), pool.acquire()).await).await,
        }
    }

    /// Looks whether one who asks is served in its turn and gets its answer in time.
    async fn watch<T>(&self, limit: Option<Duration>, asks: impl Future<Output = T>) -> T {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let asking = Arc::new(Asking {
            number,
            patient: limit.is_none_or(|limit| limit == ACQUIRE_TIMEOUT),
            served: AtomicBool::new(false),
            server: Arc::clone(&self.server),
            task: Mutex::new(Waker::noop().clone()),
        });
        let (begun, jumped) = (Instant::now(), self.jumped());
        let mut watched = Watched { asking, asks: Box::pin(asks), looked: false };
        let answer = (&mut watched).await;
        self.count(|sums| sums.waited += u64::from(watched.looked));
        if let Some(limit) = limit {
            let (took, jumped) = (begun.elapsed(), self.jumped().saturating_sub(jumped));
            assert!(took <= limit + SLACK + jumped, "an answer after {took:?}, where {limit:?} was the limit");
        }
        answer
    }

    fn jumped(&self) -> Duration {
        Duration::from_nanos(self.jumped.load(Ordering::Relaxed))
    }

    async fn answer(&self, asked: Asked) {
        match asked {
            Ok(guard) => self.hold(guard).await,
            Err(error) => self.missed(&error),
        }
    }

    fn missed(&self, error: &AcquireError<Failure>) {
        match error.refused() {
            Refused::TimedOut => self.count(|sums| sums.timed_out += 1),
            Refused::Down | Refused::LineFull => self.count(|sums| sums.refused += 1),
            refused => panic!("{refused:?}"),
        }
    }

    /// Uses a connection, and ends that in one of many ways.
    async fn hold(&self, mut guard: Guard<Client>) {
        let dice = &self.server.dice;
        let in_hand = InHand::of(&mut guard);
        in_hand.0.dirty |= dice.one_in(10);
        match dice.draw(30) {
            0 => pass(ms(600)).await,
            1..12 => pass(ms(dice.draw(12))).await,
            12..16 => tokio::task::yield_now().await,
            16 => panic_on_purpose(),
            _ => {}
        }
        in_hand.0.dirty |= dice.one_in(10);
        drop(in_hand);
        self.count(|sums| {
            sums.operations += 1;
            sums.lent += 1;
        });
        match dice.draw(40) {
            0 => {
                // Before the place is free.
                self.count(|sums| sums.detached += 1);
                guard.detach().keep();
            }
            1 => guard.discard(),
            2 => drop(tokio::spawn(async move { drop(guard) })),
            3 => *guard.extra::<u64>() += 1,
            _ => drop(guard),
        }
    }

    // === the owner ===

    async fn owner(self: Arc<Self>) {
        let mut rounds = 0;
        while self.steps_left.load(Ordering::Relaxed) > 0 {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "the world stands still: {}", self.pool.snapshot());
            let (dice, pool, server) = (&self.server.dice, &self.pool, &self.server);
            pass(ms(dice.draw(60))).await;
            self.count(|sums| sums.operations += 1);
            match dice.draw(16) {
                0..4 => {
                    let moods = [Mood::Slow, Mood::Refusing, Mood::Hanging];
                    // Mostly well: who is away all the time has nothing to lose.
                    server.sight().mood = moods.get(dice.draw(8) as usize).copied().unwrap_or_default();
                }
                4 => server.sight().generation += 1,
                5..7 => self.resize(1 + dice.draw(12) as u32),
                7 => {
                    pool.suspend();
                    pass(ms(dice.draw(300))).await;
                    pool.resume();
                }
                8 => pool.evict(),
                9 => {
                    let far = if dice.one_in(10) { 900_000 } else { 3_000 };
                    self.jump(ms(dice.draw(far))).await;
                }
                10 => drop(pool.warm_up(dice.draw(14) as u32, ms(dice.draw(100))).await),
                11 => drop(timeout(ms(dice.draw(10)), pool.warm_up(5, ms(50))).await),
                12 => {
                    let world = Arc::clone(&self);
                    self.ended(tokio::spawn(async move { world.come_and_go() }).await);
                }
                _ => {}
            }
            self.check();
        }
        self.server.sight().mood = Mood::Quick;
    }

    fn resize(&self, max: u32) {
        self.count(|sums| sums.resized += 1);
        let mut sight = self.server.sight();
        sight.allowed = sight.allowed.max(max);
        drop(sight);
        self.pool.resize(max).unwrap();
        self.check();
    }

    async fn jump(&self, time: Duration) {
        self.count(|sums| sums.jumps += 1);
        // Before it: whoever looks sees it.
        self.jumped.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        advance(time).await;
    }

    /// Many get in line and leave it from within.
    fn come_and_go(&self) {
        let mut line: Vec<_> = (0..10).map(|_| Some(Box::pin(self.pool.acquire()))).collect();
        for asks in line.iter_mut().flatten() {
            // It may be served at once, too.
            drop(look(asks.as_mut()));
        }
        while !line.is_empty() {
            drop(line.swap_remove(self.server.dice.draw(line.len() as u64) as usize));
        }
    }
}

/// A connection in a hand.
struct InHand<'a>(&'a mut Conn);

impl<'a> InHand<'a> {
    fn of(conn: &'a mut Conn) -> Self {
        conn.take();
        Self(conn)
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.held = false;
    }
}

/// Polls once; nobody hears what comes of it later.
fn look<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Tells the hooks who asks, and the server who is in line.
struct Watched<F> {
    asking: Arc<Asking>,
    asks: Pin<Box<F>>,
    /// And it was not its turn.
    looked: bool,
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        struct Forget;
        impl Drop for Forget {
            fn drop(&mut self) {
                ASKING.take();
            }
        }
        ASKING.set(Some(Arc::clone(&self.asking)));
        let _forget = Forget;
        self.asking.task.lock().unwrap().clone_from(cx.waker());
        let waker = Waker::from(Arc::clone(&self.asking));
        let polled = self.asks.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending()
            && !std::mem::replace(&mut self.looked, true)
            && !self.asking.served.load(Ordering::Relaxed)
        {
            self.asking.server.line().push(Stands::new(self.asking.number));
        }
        polled
    }
}

impl<F> Drop for Watched<F> {
    fn drop(&mut self) {
        self.asking.server.line().retain(|one| one.number != self.asking.number);
    }
}

fn start(server: &Arc<Server>, seed: u64, max: u32) -> Pool<Client> {
    let lives = |kind: u64, time: u64| (!(seed / 12).is_multiple_of(kind)).then_some(ms(time));
    Pool::<Client>::builder()
        .name(format!("seed {seed}"))
        .tokio_clock(true)
        .max_size(max)
        .min_idle(max / 3)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_timeout(ms(500))
        .validation_timeout(ms(100))
        .close_timeout(ms(100))
        .validate_after(lives(3, 50))
        .idle_timeout(lives(4, 300))
        .max_lifetime(lives(5, 2_000))
        .keepalive(lives(3, 100))
        .leak_after(lives(2, 500))
        .max_uses((seed.is_multiple_of(5)).then_some(50))
        .waiters_max(if seed.is_multiple_of(7) { 8 } else { 1 << 20 })
        .backoff(ms(5))
        .backoff_max(ms(100))
        .down_after(ms(800))
        .build(Client(Arc::clone(server)))
        .unwrap()
}
