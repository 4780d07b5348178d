//! A server that takes no more connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weir_pool::{Builder, Manager, Release};

use crate::join;

/// Counts the connects of another manager.
#[derive(Debug)]
struct Counting<M> {
    inner: M,
    attempts: Arc<AtomicU64>,
}

impl<M: Manager> Manager for Counting<M> {
    type Connection = M::Connection;
    type Error = M::Error;

    async fn connect(&self) -> Result<M::Connection, M::Error> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        self.inner.connect().await
    }

    async fn check(&self, connection: &mut M::Connection) -> Result<(), M::Error> {
        self.inner.check(connection).await
    }

    fn is_broken(&self, connection: &mut M::Connection) -> bool {
        self.inner.is_broken(connection)
    }

    fn validate_after(&self) -> Option<Duration> {
        self.inner.validate_after()
    }

    async fn on_acquire(&self, connection: &mut M::Connection) -> Result<(), M::Error> {
        self.inner.on_acquire(connection).await
    }

    fn on_release(&self, connection: &mut M::Connection) -> Release {
        self.inner.on_release(connection)
    }

    async fn reset(&self, connection: &mut M::Connection) -> Result<(), M::Error> {
        self.inner.reset(connection).await
    }

    async fn close(&self, connection: M::Connection) {
        self.inner.close(connection).await;
    }
}

/// Uses a server that grants `granted` connections and no more, with a pool that would have 20 of it: who gets none is told in the
/// server's `words`, and connects are tried at the pace of the back-off, however many callers there are. `refused` is the
/// server's own count of connections that it did not grant.
///
/// # Panics
/// If that is not so.
#[expect(clippy::unwrap_used, reason = "it is a test's helper: its panics are the test's")]
pub async fn full_server<M: Manager>(manager: M, granted: usize, words: &str, mut refused: impl FnMut() -> u64) {
    let attempts = Arc::new(AtomicU64::new(0));
    let manager = Counting { inner: manager, attempts: Arc::clone(&attempts) };
    let settings = Builder::new().max_size(20).min_idle(0).acquire_timeout(Duration::from_secs(1));
    let pool = settings.build(manager).unwrap();
    let mut guards = Vec::new();
    for _ in 0..granted {
        guards.push(pool.acquire_timeout(weir_test::PATIENCE).await.unwrap());
    }
    let (before, refused_before) = (attempts.load(Ordering::SeqCst), refused());
    let begun = Instant::now();
    for round in 0..5 {
        let callers: Vec<_> = (0..30).map(|_| pool.acquire()).collect();
        for result in join(callers).await {
            let error = result.map(drop).unwrap_err();
            assert!(error.to_string().contains(words), "round {round}: {error}");
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let tried = attempts.load(Ordering::SeqCst) - before;
    // The pause is 50 ms, 100 ms, … 1 s: five in the first second, then one or two a second.
    assert!(tried as f64 <= 8.0 + 2.0 * seconds, "{tried} connects in {seconds:.1} s");
    assert!(tried >= 3, "it goes on trying, or nobody would notice that there is room again");
    let refused = refused() - refused_before;
    // The server counts before it answers: one may have been begun and not counted, or counted since.
    assert!(tried.abs_diff(refused) <= 2, "{refused} seen by the server, {tried} by the pool");
    // Meanwhile, what there is goes round.
    drop(guards.pop());
    assert!(pool.acquire().await.is_ok());
}
