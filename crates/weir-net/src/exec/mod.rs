//! A small local executor for guests that are written as futures (h2).
//!
//! It belongs to one worker and runs on its thread: the protocol calls [`LocalExecutor::run_ready`] in
//! `on_batch`, after the callbacks of the batch have fed the guests' [`stream`]s. There is no reactor: a
//! guest waits only for its stream, for other guests, or for other threads.
//!
//! Wakers may be used from any thread. A waker of the worker's own thread only queues the task, since
//! `on_batch` follows; one of another thread also wakes the loop. Each task is in the ready queue at most
//! once, so the queue is as bounded as the number of tasks.
//!
//! Fairness: tasks run in the order in which they were woken; one that wakes itself goes to the end.
//! Dropping the executor drops its tasks.

mod stream;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;

pub use stream::{GuestStream, HostStream, StreamState, stream};

use crate::mailbox::Wake;

/// A task of a [`LocalExecutor`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TaskId {
    index: u32,
    generation: u32,
}

/// The executor has as many tasks as it may have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the executor is full: {tasks_max} tasks")]
pub struct ExecutorFull {
    /// The bound.
    pub tasks_max: usize,
}

/// Runs futures on the thread that made it. Clones are handles of the same executor, so that guests can
/// spawn.
#[derive(Clone)]
pub struct LocalExecutor {
    inner: Rc<Inner>,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Inner {
    places: RefCell<Vec<Place>>,
    free: RefCell<Vec<u32>>,
    tasks: Cell<usize>,
    tasks_max: usize,
    shared: Arc<Shared>,
}

struct Place {
    generation: u32,
    /// `None` while the task is being polled, and when the place is free.
    task: Option<Task>,
    waker: Option<Arc<TaskWaker>>,
}

/// What wakers of all threads see.
struct Shared {
    ready: Mutex<VecDeque<TaskId>>,
    wake: Arc<dyn Wake>,
    home: ThreadId,
}

struct TaskWaker {
    id: TaskId,
    /// Set while the task is queued, and for ever when it has ended.
    queued: AtomicBool,
    shared: Arc<Shared>,
}

impl LocalExecutor {
    /// An executor of the calling thread for at most `tasks_max` tasks; other threads that wake a task
    /// call `wake`.
    pub fn new(wake: Arc<dyn Wake>, tasks_max: usize) -> Self {
        let shared = Shared { ready: Mutex::default(), wake, home: std::thread::current().id() };
        Self {
            inner: Rc::new(Inner {
                places: RefCell::default(),
                free: RefCell::default(),
                tasks: Cell::new(0),
                tasks_max,
                shared: Arc::new(shared),
            }),
        }
    }

    /// Adds a task. It is polled first by the next [`LocalExecutor::run_ready`].
    ///
    /// # Errors
    /// If the bound is reached; the future is dropped.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> Result<TaskId, ExecutorFull> {
        let inner = &*self.inner;
        if inner.tasks.get() >= inner.tasks_max {
            return Err(ExecutorFull { tasks_max: inner.tasks_max });
        }
        inner.tasks.set(inner.tasks.get() + 1);
        let mut places = inner.places.borrow_mut();
        let index = inner.free.borrow_mut().pop().unwrap_or_else(|| {
            places.push(Place { generation: 0, task: None, waker: None });
            places.len() as u32 - 1
        });
        let place = &mut places[index as usize];
        let id = TaskId { index, generation: place.generation };
        let waker = TaskWaker { id, queued: AtomicBool::new(false), shared: Arc::clone(&inner.shared) };
        let waker = Arc::new(waker);
        place.task = Some(Box::pin(future));
        place.waker = Some(Arc::clone(&waker));
        drop(places);
        // Also from outside a batch (`on_start`): the loop must come to it.
        waker.queue();
        Ok(id)
    }

    /// Drops a task. Does nothing if it has ended, or is the one that is running.
    pub fn cancel(&self, id: TaskId) {
        let task = match self.inner.places.borrow_mut().get_mut(id.index as usize) {
            Some(place) if place.generation == id.generation => place.task.take(),
            _ => None,
        };
        if task.is_some() {
            self.inner.release(id);
        }
        // Dropped here, with nothing borrowed: the task's destructors may spawn or cancel.
        drop(task);
    }

    /// Polls at most `budget` woken tasks. If some are left, the loop is woken to come again and `true`
    /// is returned.
    pub fn run_ready(&self, budget: usize) -> bool {
        for _ in 0..budget {
            let Some(id) = self.inner.shared.pop() else {
                return false;
            };
            self.poll(id);
        }
        let left = self.inner.shared.has_ready();
        if left {
            self.inner.shared.wake.wake();
        }
        left
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.inner.tasks.get()
    }

    fn poll(&self, id: TaskId) {
        let (mut task, waker) = {
            let mut places = self.inner.places.borrow_mut();
            let Some(place) = places.get_mut(id.index as usize).filter(|place| place.generation == id.generation)
            else {
                return;
            };
            let (Some(task), Some(waker)) = (place.task.take(), place.waker.clone()) else {
                return;
            };
            (task, waker)
        };
        // Cleared before the poll: a wake-up during it queues the task again.
        waker.queued.store(false, Ordering::SeqCst);
        let poll = task.as_mut().poll(&mut Context::from_waker(&Waker::from(waker)));
        match poll {
            Poll::Pending => {
                if let Some(place) = self.inner.places.borrow_mut().get_mut(id.index as usize) {
                    place.task = Some(task);
                }
            }
            Poll::Ready(()) => self.inner.release(id),
        }
    }
}

impl Inner {
    fn release(&self, id: TaskId) {
        if let Some(place) = self.places.borrow_mut().get_mut(id.index as usize) {
            place.generation = place.generation.wrapping_add(1);
            if let Some(waker) = place.waker.take() {
                waker.queued.store(true, Ordering::SeqCst);
            }
        }
        self.free.borrow_mut().push(id.index);
        self.tasks.set(self.tasks.get() - 1);
    }
}

impl Shared {
    fn pop(&self) -> Option<TaskId> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn has_ready(&self) -> bool {
        !self.ready.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl TaskWaker {
    fn queue(&self) {
        if !self.queued.swap(true, Ordering::SeqCst) {
            self.shared.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.id);
            if std::thread::current().id() != self.shared.home {
                self.shared.wake.wake();
            }
        }
    }
}

impl std::task::Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.queue();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.queue();
    }
}

impl std::fmt::Debug for LocalExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalExecutor").field("tasks", &self.tasks()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::channel;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Pending `times` times, waking itself.
    async fn turns(times: u32, log: Rc<RefCell<Vec<u32>>>, name: u32) {
        let mut left = times;
        poll_fn(|cx| {
            log.borrow_mut().push(name);
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            cx.waker().wake_by_ref();
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[test]
    fn tasks_take_turns_within_the_budget() {
        let wakes = Arc::new(Count::default());
        let executor = LocalExecutor::new(Arc::clone(&wakes) as Arc<dyn Wake>, 10);
        let log = Rc::new(RefCell::new(Vec::new()));
        for name in 0..2 {
            executor.spawn(turns(2, Rc::clone(&log), name)).unwrap();
        }
        assert!(executor.run_ready(3));
        assert_eq!((*log.borrow()).as_slice(), [0, 1, 0]);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1, "asks to come again");
        assert!(!executor.run_ready(100));
        assert_eq!((*log.borrow()).as_slice(), [0, 1, 0, 1, 0, 1]);
        assert_eq!((executor.tasks(), wakes.0.load(Ordering::SeqCst)), (0, 1));
    }

    #[test]
    fn a_foreign_waker_wakes_the_loop_once_and_never_after_the_end() {
        let wakes = Arc::new(Count::default());
        let executor = LocalExecutor::new(Arc::clone(&wakes) as Arc<dyn Wake>, 10);
        let (send, wakers) = channel();
        let mut first = true;
        executor
            .spawn(poll_fn(move |cx| {
                send.send(cx.waker().clone()).unwrap();
                if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }
            }))
            .unwrap();
        assert!(!executor.run_ready(10));
        let waker: Waker = wakers.recv().unwrap();
        let foreign = waker.clone();
        std::thread::spawn(move || (0..5).for_each(|_| foreign.wake_by_ref())).join().unwrap();
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        executor.run_ready(10);
        assert_eq!(executor.tasks(), 0);
        std::thread::spawn(move || waker.wake()).join().unwrap();
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert!(!executor.inner.shared.has_ready());
    }

    #[test]
    fn spawning_from_a_task_cancelling_and_the_bound() {
        let executor = LocalExecutor::new(Arc::new(Count::default()), 2);
        let handle = executor.clone();
        let alive = Rc::new(());
        let held = Rc::clone(&alive);
        executor
            .spawn(async move {
                let id = handle
                    .spawn(async move {
                        std::future::pending::<()>().await;
                        drop(held);
                    })
                    .unwrap();
                assert_eq!(handle.spawn(async {}), Err(ExecutorFull { tasks_max: 2 }));
                handle.cancel(id);
                handle.cancel(id);
                assert_eq!(handle.spawn(async {}).unwrap().index, id.index);
            })
            .unwrap();
        assert!(!executor.run_ready(10));
        assert_eq!((executor.tasks(), Rc::strong_count(&alive)), (0, 1));
    }
}
