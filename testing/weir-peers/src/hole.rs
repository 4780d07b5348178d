//! A network that swallows packets, in the middle of what a pool does.

use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use weir_pool::{AcquireError, Builder, Guard, Manager, Pool, Refused};
use weir_test::Namespace;

/// Connections of the pool.
const SIZE: u32 = 4;
/// What each caller has for all it does.
const LIMIT: Duration = Duration::from_millis(500);
/// How late its end may be: 50 ms by the pool, the rest for a busy machine.
const LATE: Duration = Duration::from_millis(250);
/// The pool is back this long after the network: a connect that was under way is repeated by the kernel after 1 s, and the pool
/// pauses 1 s at most before the next one.
const RECOVERY: Duration = Duration::from_secs(3);

/// Lets the packets of a server at `port` vanish while a pool is used: callers end with their time, those connections that
/// hang go, and when the packets come again, the pool serves by itself. `echo` uses a connection; its answer has to be the number.
///
/// # Panics
/// If that is not so.
#[expect(clippy::unwrap_used, reason = "it is a test's helper: its panics are the test's")]
pub fn black_hole<M, F, E>(mut network: Namespace, port: u16, manager: M, echo: fn(Guard<M>, i64) -> F)
where
    M: Manager,
    F: Future<Output = Result<i64, E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    // Made in this network, so that its threads are in it.
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
        serve_all(&pool, echo).await;
        let mut guards = Vec::new();
        for _ in 0..SIZE {
            guards.push(pool.acquire().await.unwrap());
        }
        network.open_hole(port);
        // Two are in the middle of a query when the packets begin to vanish; two are idle.
        for guard in guards.drain(..2) {
            assert!(timeout(Duration::from_millis(100), echo(guard, 1)).await.is_err(), "the hole has a hole");
        }
        drop(guards);
        for round in 0..4 {
            let callers = (0..8).map(|_| use_it(&pool, echo)).collect();
            for (end, took) in join(callers).await {
                assert!(took < LIMIT + LATE, "{took:?}: later than its time-out allows");
                match end {
                    End::Refused(error) => {
                        assert!(matches!(error.refused(), Refused::TimedOut | Refused::Down), "{error}");
                    }
                    // Lent unchecked, because it was used a moment ago.
                    End::Hung => assert!(round < 2, "round {round}: a dead connection was lent"),
                    End::Failed(error) => panic!("{error}"),
                    End::Answered => panic!("an answer out of the hole"),
                }
            }
        }
        network.close_hole();
        let begun = Instant::now();
        while !matches!(use_it(&pool, echo).await.0, End::Answered) {
            assert!(begun.elapsed() < RECOVERY, "{}", pool.snapshot());
        }
        // Those that hung are gone: what is left is sound.
        serve_all(&pool, echo).await;
        let snapshot = pool.snapshot();
        assert!(snapshot.closing == 0 && snapshot.active == 0, "{snapshot}");
    });
}

/// What became of a caller.
enum End<M: Manager, E> {
    Answered,
    Failed(E),
    Hung,
    Refused(AcquireError<M::Error>),
}

async fn use_it<M, F, E>(pool: &Pool<M>, echo: fn(Guard<M>, i64) -> F) -> (End<M, E>, Duration)
where
    M: Manager,
    F: Future<Output = Result<i64, E>>,
{
    let begun = Instant::now();
    let end = match pool.acquire().await {
        Err(error) => End::Refused(error),
        Ok(guard) => match timeout(LIMIT.saturating_sub(begun.elapsed()), echo(guard, 5)).await {
            Ok(Ok(answer)) => {
                assert_eq!(answer, 5, "an answer to another question");
                End::Answered
            }
            Ok(Err(error)) => End::Failed(error),
            Err(_) => End::Hung,
        },
    };
    (end, begun.elapsed())
}

/// As many callers at once as there are connections are served.
async fn serve_all<M, F, E>(pool: &Pool<M>, echo: fn(Guard<M>, i64) -> F)
where
    M: Manager,
    F: Future<Output = Result<i64, E>>,
{
    let callers = (0..SIZE).map(|_| use_it(pool, echo)).collect();
    let served = join(callers).await.into_iter().filter(|(end, _)| matches!(end, End::Answered)).count();
    assert_eq!(served, SIZE as usize, "{}", pool.snapshot());
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
