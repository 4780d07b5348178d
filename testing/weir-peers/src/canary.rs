//! How late the machine itself is, so that a test can tell that from the lateness of what it looks at.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// How often it looks.
const TICK: Duration = Duration::from_millis(5);
/// A timer is coarse: this much is not late.
const COARSE: Duration = Duration::from_millis(2);

/// A task that sleeps for a tick again and again, and notes how late it was woken. It stands in the same queue of the same runtime as
/// what is looked at, so whatever holds up that holds up this.
#[derive(Debug)]
pub struct Canary {
    /// When it was to be woken, and when it was.
    ticks: Arc<Mutex<Vec<(Instant, Instant)>>>,
    task: JoinHandle<()>,
}

impl Canary {
    /// Starts it in the runtime of the caller.
    pub fn start() -> Self {
        let ticks = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&ticks);
        let task = tokio::spawn(async move {
            loop {
                let due = Instant::now() + TICK;
                tokio::time::sleep_until(due.into()).await;
                kept.lock().unwrap_or_else(PoisonError::into_inner).push((due, Instant::now()));
            }
        });
        Self { ticks, task }
    }

    /// For how long the runtime stood still between these moments, in all.
    pub async fn stood_still(&self, from: Instant, to: Instant) -> Duration {
        // A tick that was begun before the end has to be over: it may be the one that is late.
        while self.ticks.lock().unwrap_or_else(PoisonError::into_inner).last().is_none_or(|(due, _)| *due <= to) {
            tokio::time::sleep(TICK).await;
        }
        let ticks = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        let within = ticks.iter().rev().take_while(|(_, woken)| *woken >= from);
        let late = |due: Instant, woken: Instant| woken.min(to).saturating_duration_since(due.max(from));
        within.map(|&(due, woken)| late(due, woken).saturating_sub(COARSE)).sum()
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "it is about a thread that stands still")]
    async fn a_stall_is_seen_and_nothing_else() {
        let canary = Canary::start();
        let begun = Instant::now();
        tokio::time::sleep(4 * TICK).await; // tidy: allow(sleep) the subject of the test
        let stall = Instant::now();
        std::thread::sleep(Duration::from_millis(100)); // tidy: allow(sleep) the subject of the test
        let over = Instant::now();
        let stood = canary.stood_still(stall, over).await;
        assert!(stood + TICK + COARSE >= Duration::from_millis(100), "{stood:?}");
        let whole = canary.stood_still(begun, over).await;
        assert!(whole >= stood && whole <= over - begun, "{whole:?}");
    }
}
