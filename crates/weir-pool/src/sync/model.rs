//! The same for the models: a call of whom one waits for is kept, as tokio's is, and time stands still.

use std::future::{Future, Pending, pending, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex as Unseen};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64};
pub(crate) use loom::sync::{Arc as Counted, Mutex, MutexGuard};
use tokio::time::Instant;

/// What `tokio::sync::Notify` promises, and no more: a call to one is kept if nobody waits; a call to all reaches those that
/// have been enabled.
pub(crate) struct Notify(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    one: bool,
    /// How often all were called.
    all: u32,
    waiting: Vec<Waker>,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Calls::default()))
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap()
    }

    pub(crate) fn notify_one(&self) {
        let mut calls = self.calls();
        calls.one = true;
        let waiting = std::mem::take(&mut calls.waiting);
        drop(calls);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn notify_waiters(&self) {
        let mut calls = self.calls();
        calls.all += 1;
        let waiting = std::mem::take(&mut calls.waiting);
        drop(calls);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified { notify: self, since: None }
    }
}

pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    /// What `all` was when it was enabled.
    since: Option<u32>,
}

impl Notified<'_> {
    pub(crate) fn enable(mut self: Pin<&mut Self>) -> bool {
        let all = self.notify.calls().all;
        self.since.get_or_insert(all);
        false
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let notify = self.notify;
        let mut calls = notify.calls();
        let since = *self.since.get_or_insert(calls.all);
        if since != calls.all || std::mem::take(&mut calls.one) {
            drop(calls);
            return Poll::Ready(());
        }
        calls.waiting.push(waker);
        Poll::Pending
    }
}

/// What was spawned has ended: it runs where it is spawned, and waits for nothing.
pub(crate) struct AbortHandle;

impl AbortHandle {
    pub(crate) fn abort_handle(self) -> Self {
        self
    }

    pub(crate) fn is_finished(&self) -> bool {
        true
    }

    pub(crate) fn abort(&self) {}
}

pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    loom::future::block_on(task);
    AbortHandle
}

pub(crate) fn sleep_until(_: Instant) -> Pending<()> {
    pending()
}

pub(crate) async fn timeout<F: Future>(_: Duration, future: F) -> Result<F::Output, ()> {
    let mut future = std::pin::pin!(future);
    Ok(poll_fn(|cx| future.as_mut().poll(cx)).await)
}

pub(crate) async fn timeout_at<F: Future>(_: Instant, future: F) -> Result<F::Output, ()> {
    timeout(Duration::MAX, future).await
}

/// What `arc_swap` promises, and no more: who loads gets one whole value, the last stored or a later one.
pub(crate) struct Published<T>(Mutex<Arc<T>>);

impl<T> Published<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self(Mutex::new(Arc::new(value)))
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().unwrap())
    }

    pub(crate) fn load(&self) -> Arc<T> {
        self.load_full()
    }

    pub(crate) fn store(&self, value: Arc<T>) {
        let before = std::mem::replace(&mut *self.0.lock().unwrap(), value);
        // Outside the lock, as its end is the end of others.
        drop(before);
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Keeps what is spawned until the model lets it run: each task on a thread of its own would be more than loom can follow.
#[derive(Clone, Default)]
pub(crate) struct Runtime(Arc<Unseen<Vec<Task>>>);

impl Runtime {
    pub(crate) fn current() -> Self {
        Self::default()
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.lock().unwrap().push(Box::pin(task));
    }

    /// Polls each task once; those that have ended are gone.
    pub(crate) fn run(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock().unwrap());
        let mut cx = Context::from_waker(Waker::noop());
        tasks.retain_mut(|task| task.as_mut().poll(&mut cx).is_pending());
        self.0.lock().unwrap().extend(tasks);
    }
}
