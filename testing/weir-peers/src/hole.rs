//! A network that swallows packets, in the middle of what a pool does.

use std::fmt;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use weir_pool::{AcquireError, Builder, Guard, Manager, Pool, Refused};
use weir_test::{Cable, Outage};

use crate::{Canary, until};

/// Connections of the pool.
const SIZE: u32 = 4;
/// Callers at once.
const CALLERS: u32 = 8;
/// What each caller has for all it does.
const LIMIT: Duration = Duration::from_millis(500);
/// How late the pool may end a caller's waiting, beyond what the machine is late by itself.
const LATE: Duration = Duration::from_millis(50);
/// The pool serves again this long after the network …
const RECOVERY: Duration = Duration::from_secs(1);
/// … and what a connect and a query take then.
const CONNECT: Duration = Duration::from_millis(100);
/// Where the other end was unplugged, the kernel has forgotten its address, and asks for it once a second.
const ADDRESS: Duration = Duration::from_secs(1);

/// What a black hole came to.
#[derive(Clone, Copy, Debug)]
pub struct HoleFigures {
    /// Callers who were refused within the hole, and the latest of them: beyond its time-out, and beyond what the machine was late.
    pub refused: u32,
    /// See `refused`.
    pub latest: Duration,
    /// From the end of the hole to the first answer, after idle connections and after busy ones had been in it.
    pub recovery: [Duration; 2],
}

impl fmt::Display for HoleFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refused, latest, recovery: [idle, busy] } = self;
        write!(f, "{refused} callers refused, {latest:?} late at most; served {idle:?} and {busy:?} after the hole")
    }
}

/// Lets the packets on the way to a server vanish while a pool is used: callers end with their time, connections that hang go, and
/// when the packets come again, the pool serves by itself. First while connections are idle and some have just been given a query,
/// then while all of them are in use. `echo` uses a connection; its answer has to be the number. `slow` has the server work
/// for some tenths of a second.
///
/// # Panics
/// If that is not so.
#[expect(clippy::unwrap_used, reason = "it is a test's helper: its panics are the test's")]
pub fn black_hole<M, F, E, G>(
    cable: &Cable,
    outage: Outage,
    manager: M,
    echo: fn(Guard<M>, i64) -> F,
    slow: fn(Guard<M>) -> G,
) -> HoleFigures
where
    M: Manager,
    F: Future<Output = Result<i64, E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
    G: Future<Output = ()> + Send + 'static,
{
    // Made at this end of the cable, so that its threads are there.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = Builder::new()
            .max_size(SIZE)
            .min_idle(0)
            .acquire_timeout(LIMIT)
            .validation_timeout(LIMIT / 2)
            .validate_after(Some(Duration::from_millis(100)))
            .build(manager)
            .unwrap();
        let mut hole = Hole { cable, outage, pool, canary: Canary::start(), echo, refused: 0, latest: Duration::ZERO };
        let idle = hole.around_idle_ones().await;
        let busy = hole.around_busy_ones(slow).await;
        HoleFigures { refused: hole.refused, latest: hole.latest, recovery: [idle, busy] }
    })
}

struct Hole<'a, M: Manager, F> {
    cable: &'a Cable,
    outage: Outage,
    pool: Pool<M>,
    canary: Canary,
    echo: fn(Guard<M>, i64) -> F,
    refused: u32,
    latest: Duration,
}

/// What became of a caller.
enum End<M: Manager, E> {
    Answered,
    Failed(E),
    Hung,
    Refused(AcquireError<M::Error>),
}

#[expect(clippy::unwrap_used, reason = "it is a test's helper: its panics are the test's")]
impl<M, F, E> Hole<'_, M, F>
where
    M: Manager,
    F: Future<Output = Result<i64, E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    async fn around_idle_ones(&mut self) -> Duration {
        self.serve_all().await;
        let mut guards = self.all().await;
        self.cable.fail(self.outage);
        // Two are given a query when the packets have begun to vanish; two are idle.
        for guard in guards.drain(..2) {
            assert!(timeout(Duration::from_millis(100), (self.echo)(guard, 1)).await.is_err(), "the hole has a hole");
        }
        drop(guards);
        for round in 0..4 {
            self.round(round, round < 2, round == 3).await;
        }
        self.mend().await
    }

    /// All are in the middle of a query, and nobody gives his up at first.
    async fn around_busy_ones<G>(&mut self, slow: fn(Guard<M>) -> G) -> Duration
    where
        G: Future<Output = ()> + Send + 'static,
    {
        let mut guards = self.all().await;
        let mut users = Vec::new();
        // The server works on one of them when the packets begin to vanish, so that its answer does; the others' questions do.
        let sent = self.cable.sent();
        users.extend(guards.pop().map(|guard| tokio::spawn(slow(guard))));
        until("the question is on its way", || self.cable.sent() > sent).await;
        self.cable.fail(self.outage);
        let echo = self.echo;
        users.extend(guards.into_iter().map(|guard| tokio::spawn(async move { drop(echo(guard, 2).await) })));
        for round in 0..2 {
            self.round(round, false, false).await;
        }
        assert!(users.iter().all(|user| !user.is_finished()), "a query has ended within the hole");
        assert_eq!(self.pool.snapshot().active, SIZE, "{}", self.pool.snapshot());
        // Half of the users give up within the hole, the others after it.
        for user in users.drain(..2) {
            user.abort();
        }
        // Closing what hangs takes 1 s, and nothing is tried before; what is tried hangs, too.
        for round in 2..7 {
            self.round(round, false, round == 6).await;
        }
        for user in users {
            user.abort();
        }
        self.mend().await
    }

    /// As many callers as there are twice: all fail, and when their time is over.
    async fn round(&mut self, round: u32, may_hang: bool, has_cause: bool) {
        let callers = (0..CALLERS).map(|_| self.use_it()).collect();
        for (end, asked, ended) in join(callers).await {
            let late = ended.saturating_duration_since(asked + LIMIT);
            let own = late.saturating_sub(self.canary.stood_still(asked + LIMIT, ended).await);
            assert!(own < LATE, "round {round}: {own:?} late, and that was not the machine");
            match end {
                End::Refused(error) => {
                    match error.refused() {
                        Refused::TimedOut => assert!(ended - asked + Duration::from_millis(1) >= LIMIT, "{error}"),
                        Refused::Down => {}
                        _ => panic!("{error}"),
                    }
                    self.refused += 1;
                    self.latest = self.latest.max(own);
                    assert!(!has_cause || error.to_string().contains("last failure"), "no cause: {error}");
                }
                // Lent unchecked, because it was used a moment ago.
                End::Hung => assert!(may_hang, "round {round}: a dead connection was lent"),
                End::Failed(error) => panic!("{error}"),
                End::Answered => panic!("an answer out of the hole"),
            }
        }
    }

    /// Ends the hole; how long after that the first caller is answered.
    async fn mend(&mut self) -> Duration {
        self.cable.mend(self.outage);
        let begun = Instant::now();
        let (asked, answered) = loop {
            let (end, asked, answered) = self.use_it().await;
            match end {
                End::Answered => break (asked, answered),
                End::Failed(error) => panic!("{error}"),
                End::Hung | End::Refused(_) => {
                    assert!(begun.elapsed() < weir_test::PATIENCE, "{}", self.pool.snapshot());
                }
            }
        };
        let took = answered - begun;
        let own = took.saturating_sub(self.canary.stood_still(begun, answered).await);
        let network = if self.outage == Outage::Link { ADDRESS } else { Duration::ZERO };
        assert!(
            own < network + RECOVERY + CONNECT,
            "served {took:?} after the hole, {:?} after it was asked for: {}",
            answered - asked,
            self.pool.snapshot()
        );
        // Those that hung are gone: what is left is sound.
        self.serve_all().await;
        let snapshot = self.pool.snapshot();
        assert!(snapshot.active == 0, "{snapshot}");
        took
    }

    async fn all(&self) -> Vec<Guard<M>> {
        let mut guards = Vec::new();
        for _ in 0..SIZE {
            guards.push(self.pool.acquire_timeout(weir_test::PATIENCE).await.unwrap());
        }
        guards
    }

    /// How a use ends, when it was begun and when it has ended.
    async fn use_it(&self) -> (End<M, E>, Instant, Instant) {
        let asked = Instant::now();
        let end = match self.pool.acquire().await {
            Err(error) => End::Refused(error),
            Ok(guard) => match timeout(LIMIT.saturating_sub(asked.elapsed()), (self.echo)(guard, 5)).await {
                Ok(Ok(answer)) => {
                    assert_eq!(answer, 5, "an answer to another question");
                    End::Answered
                }
                Ok(Err(error)) => End::Failed(error),
                Err(_) => End::Hung,
            },
        };
        (end, asked, Instant::now())
    }

    /// As many callers at once as there are connections are served.
    async fn serve_all(&self) {
        let callers = (0..SIZE).map(|_| self.use_it()).collect();
        let served = join(callers).await.into_iter().filter(|(end, ..)| matches!(end, End::Answered)).count();
        assert_eq!(served, SIZE as usize, "{}", self.pool.snapshot());
    }
}

/// The outputs of all of them, in their order.
pub async fn join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
