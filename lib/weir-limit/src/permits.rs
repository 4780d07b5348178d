//! Permits: a cap of things in flight with a bounded FIFO of waiters.
#![allow(unused_variables, clippy::unimplemented, dead_code, clippy::needless_pass_by_value)]

/// Shared cap of things in flight; see the crate documentation.
pub struct Permits<W> {
    queue: std::sync::Mutex<std::collections::VecDeque<W>>,
}

/// What became of [`Permits::enqueue`].
#[derive(Debug)]
#[must_use]
pub enum Enqueued<W> {
    /// A place had become free meanwhile: the caller holds a permit. The waiter is given back.
    Acquired(W),
    /// The waiter is in the queue. Keep the ticket to be able to cancel.
    Waiting(Ticket),
    /// The queue is full. The waiter is given back.
    Full(W),
}

/// What became of [`Permits::cancel`].
#[derive(PartialEq, Eq, Debug)]
#[must_use]
pub enum Cancel<W> {
    /// The waiter has left the queue and gets no permit.
    Removed(W),
    /// The permit has already been handed to the waiter: the caller holds it and must release it.
    AlreadyGranted,
}

/// A place in the queue of one [`Permits`].
#[derive(PartialEq, Eq, Debug)]
pub struct Ticket(u64);

impl<W> Permits<W> {
    /// `max` places (`None` = unlimited) and at most `queue_bound` waiters.
    pub fn new(max: Option<u32>, queue_bound: u32) -> Self {
        unimplemented!()
    }
    /// Takes a permit if there is a place and nobody waits.
    pub fn try_acquire(&self) -> bool {
        unimplemented!()
    }
    /// Waits in line, or takes the permit that became free meanwhile.
    pub fn enqueue(&self, waiter: W) -> Enqueued<W> {
        unimplemented!()
    }
    /// Leaves the line.
    pub fn cancel(&self, ticket: Ticket) -> Cancel<W> {
        unimplemented!()
    }
    /// Gives a permit back. The waiter returned, if any, now holds it: tell it.
    #[must_use]
    pub fn release(&self) -> Option<W> {
        unimplemented!()
    }
    /// Permits held.
    pub fn in_flight(&self) -> u32 {
        unimplemented!()
    }
    /// Waiters in line.
    pub fn waiting(&self) -> u32 {
        unimplemented!()
    }
    /// The cap, `None` = unlimited.
    pub fn max(&self) -> Option<u32> {
        unimplemented!()
    }
    /// Changes the cap; the waiters returned now hold a permit each: tell them.
    #[must_use]
    pub fn set_max(&self, max: Option<u32>) -> Vec<W> {
        unimplemented!()
    }
    /// Changes how many may wait. Waiters beyond a smaller bound stay.
    pub fn set_queue_bound(&self, queue_bound: u32) {
        unimplemented!()
    }
}
