//! Messages to a worker from other threads: a bounded queue and a way to wake the worker's loop.
//!
//! The wake-up is a system call, so it is made only by the sender that finds the mailbox *quiet*; the
//! loop marks it quiet again when it has taken everything.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Makes a sleeping loop look at its mailbox.
pub trait Wake: Send + Sync {
    /// May be called from any thread, any number of times.
    fn wake(&self);
}

/// The receiving end: owned by the worker's driver.
pub struct Mailbox<M> {
    shared: Arc<Shared<M>>,
}

/// The sending end. Cheap to clone.
pub struct Sender<M> {
    shared: Arc<Shared<M>>,
}

/// The mailbox is full (or its worker is gone): here is the message back.
#[derive(Debug, PartialEq, Eq)]
pub struct Undelivered<M>(pub M);

struct Shared<M> {
    queue: Mutex<VecDeque<M>>,
    /// Set by a sender, cleared by the loop: while set, no further wake-up is needed.
    pending: AtomicBool,
    open: AtomicBool,
    bound: usize,
    wake: Box<dyn Wake>,
}

impl<M> Mailbox<M> {
    /// A mailbox for at most `bound` undelivered messages whose senders call `wake`.
    pub fn new(bound: usize, wake: Box<dyn Wake>) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue: Mutex::new(VecDeque::new()),
                pending: AtomicBool::new(false),
                open: AtomicBool::new(true),
                bound,
                wake,
            }),
        }
    }

    /// A new sending end.
    pub fn sender(&self) -> Sender<M> {
        Sender { shared: Arc::clone(&self.shared) }
    }

    /// Whether a message may be waiting (one relaxed-cost load).
    pub fn is_pending(&self) -> bool {
        self.shared.pending.load(Ordering::Acquire)
    }

    /// Takes everything that is there, in order, into `into`.
    pub fn take_all(&self, into: &mut Vec<M>) {
        if !self.is_pending() {
            return;
        }
        // Cleared before the queue is read: a sender that comes later finds it quiet and wakes again.
        self.shared.pending.store(false, Ordering::SeqCst);
        into.extend(self.shared.lock().drain(..));
    }

    /// Takes what is there, in order, into `into`, and nothing any more from now on.
    pub fn close(&self, into: &mut Vec<M>) {
        // Under the lock: a message is either taken here or refused.
        let mut queue = self.shared.lock();
        self.shared.open.store(false, Ordering::Release);
        into.extend(queue.drain(..));
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        self.shared.open.store(false, Ordering::Release);
        self.shared.lock().clear();
    }
}

impl<M> Sender<M> {
    /// Queues `message` and wakes the worker if needed. Messages of one sender arrive in order.
    pub fn post(&self, message: M) -> Result<(), Undelivered<M>> {
        {
            let mut queue = self.shared.lock();
            if !self.shared.open.load(Ordering::Acquire) || queue.len() >= self.shared.bound {
                return Err(Undelivered(message));
            }
            queue.push_back(message);
        }
        if !self.shared.pending.swap(true, Ordering::SeqCst) {
            self.shared.wake.wake();
        }
        Ok(())
    }
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M> Shared<M> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<M>> {
        // No code that can panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> std::fmt::Debug for Sender<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

impl<M> std::fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Count(Arc<AtomicUsize>);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn one_wake_up_per_quiet_period_and_a_bound() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let mailbox = Mailbox::new(3, Box::new(Count(Arc::clone(&wakes))));
        let sender = mailbox.sender();
        for n in 0..3 {
            sender.post(n).unwrap();
        }
        assert_eq!(sender.post(3), Err(Undelivered(3)));
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
        let mut got = Vec::new();
        mailbox.take_all(&mut got);
        assert_eq!(got, [0, 1, 2]);
        sender.post(4).unwrap();
        assert_eq!(wakes.load(Ordering::SeqCst), 2);
        mailbox.close(&mut got);
        assert_eq!(got, [0, 1, 2, 4]);
        assert_eq!(sender.post(5), Err(Undelivered(5)));
        drop(mailbox);
        assert_eq!(sender.post(6), Err(Undelivered(6)));
    }
}
