//! The task that drives a connection, and whether it has looked at what has happened since.
//!
//! Drivers of today read a connection in a task of its own. What has reached the socket, a server's farewell for example, is known
//! to the connection's user only after that task has run. It is woken for everything: by the socket, and by what users ask. So it
//! is polled with a waker that counts: all is known if it has looked since it was last woken.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// When the driver was woken, and when it has looked.
#[derive(Debug)]
pub(crate) struct Pulse {
    woken: AtomicU64,
    /// What `woken` was when it began to look last, and has ended to; `u64::MAX` when it is over.
    looked: AtomicU64,
    /// Of the task.
    waker: Mutex<Option<Waker>>,
    looks: Notify,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        // The first look is at a connection that nobody has woken.
        let (woken, looked) = (AtomicU64::new(1), AtomicU64::new(0));
        Self { woken, looked, waker: Mutex::new(None), looks: Notify::new() }
    }

    pub(crate) fn woken(&self) -> u64 {
        self.woken.load(Ordering::SeqCst)
    }

    pub(crate) fn looked(&self) -> u64 {
        self.looked.load(Ordering::SeqCst)
    }

    /// Waits until the driver has looked at whatever has woken it by now.
    pub(crate) async fn has_looked(&self) {
        let woken = self.woken();
        self.until(|| self.looked() >= woken).await;
    }

    /// Waits until `level` holds after some look of the driver.
    pub(crate) async fn until(&self, level: impl Fn() -> bool) {
        while !level() {
            let looks = self.looks.notified();
            tokio::pin!(looks);
            // Before the reading: it may change in between.
            looks.as_mut().enable();
            if level() {
                return;
            }
            looks.await;
        }
    }

    pub(crate) fn begin_look(&self, waker: &Waker) -> u64 {
        let mut kept = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|kept| !kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
        drop(kept);
        self.woken()
    }

    pub(crate) fn end_look(&self, begun: u64) {
        self.looked.store(begun, Ordering::SeqCst);
        self.looks.notify_waiters();
    }
}

impl Wake for Pulse {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What a driver does until the connection ends.
pub(crate) type Drive = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The task; it ends with this.
#[derive(Debug)]
pub(crate) struct Driver {
    task: JoinHandle<()>,
    pulse: Arc<Pulse>,
}

impl Driver {
    pub(crate) fn spawn(drive: Drive, pulse: Arc<Pulse>) -> Self {
        let driving = Driving { drive, waker: Arc::clone(&pulse).into(), pulse: Arc::clone(&pulse) };
        Self { task: tokio::spawn(driving), pulse }
    }

    /// Whether the connection has ended, as far as the driver has looked.
    #[cfg(feature = "redis")]
    pub(crate) fn is_over(&self) -> bool {
        self.pulse.looked() == u64::MAX
    }

    /// See [`Pulse::has_looked`].
    pub(crate) async fn has_looked(&self) {
        self.pulse.has_looked().await;
    }

    /// Waits for the end.
    #[cfg(any(feature = "postgres", test))]
    pub(crate) async fn over(mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Driving {
    drive: Drive,
    pulse: Arc<Pulse>,
    /// The pulse's: it counts.
    waker: Waker,
}

impl Future for Driving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let begun = this.pulse.begin_look(cx.waker());
        let polled = this.drive.as_mut().poll(&mut Context::from_waker(&this.waker));
        if polled.is_pending() {
            this.pulse.end_look(begun);
        }
        polled
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.pulse.end_look(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_known_when_the_driver_has_looked() {
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let pulse = Arc::new(Pulse::new());
        let driver = Driver::spawn(Box::pin(async move { told.await.unwrap_or_default() }), Arc::clone(&pulse));
        assert!(pulse.looked() < pulse.woken(), "it has not run yet");
        driver.has_looked().await;
        assert_eq!(pulse.looked(), pulse.woken());
        tell.send(()).unwrap();
        assert!(pulse.looked() < pulse.woken(), "woken, and has not run");
        driver.has_looked().await;
        assert_eq!(pulse.looked(), u64::MAX);
        driver.over().await;
    }
}
