//! Tasks that use a pool all the time, and what they have seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use weir_pool::{Guard, Manager, Pool};

/// Uses of connections, until it is ended.
#[derive(Debug)]
pub struct Load {
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    counts: Arc<Counts>,
}

#[derive(Default, Debug)]
struct Counts {
    served: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
}

impl Load {
    /// Starts tasks that call `echo` with a connection and a number again and again; its answer has to be that number.
    pub fn start<M, F, E>(pool: &Pool<M>, tasks: i64, echo: fn(Guard<M>, i64) -> F) -> Self
    where
        M: Manager,
        F: Future<Output = Result<i64, E>> + Send + 'static,
        E: Send + 'static,
    {
        let (over, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let tasks = (0..tasks)
            .map(|number| {
                let (pool, over, counts) = (pool.clone(), Arc::clone(&over), Arc::clone(&counts));
                tokio::spawn(async move {
                    while !over.load(Ordering::SeqCst) {
                        let counter = match pool.acquire().await {
                            Err(_) => &counts.refused,
                            Ok(guard) => match echo(guard, number).await {
                                Ok(answer) => {
                                    assert_eq!(answer, number, "an answer to another question");
                                    &counts.served
                                }
                                Err(_) => &counts.failed,
                            },
                        };
                        counter.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        Self { over, tasks, counts }
    }

    /// Waits until some more uses have succeeded; tells how long that took.
    ///
    /// # Panics
    /// If nobody is served for long.
    pub async fn goes_on(&self) -> Duration {
        let served = || self.counts.served.load(Ordering::SeqCst);
        let (begun, before) = (Instant::now(), served());
        while served() < before + 5 {
            assert!(begun.elapsed() < weir_test::PATIENCE, "nobody is served");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begun.elapsed()
    }

    /// Ends it: how many uses have failed, and how many callers got no connection.
    ///
    /// # Panics
    /// If a task has panicked: an answer was not to its question.
    pub async fn end(self) -> (u64, u64) {
        self.over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            assert!(task.await.is_ok(), "a task has panicked");
        }
        (self.counts.failed.load(Ordering::SeqCst), self.counts.refused.load(Ordering::SeqCst))
    }
}
