//! Lending: what is done between a connection that is kept for a caller and the guard that he gets.

use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant as TokioInstant;
use tracing::Instrument as _;
use weir_core::Instant;
use weir_pool_core::{Loan, Refusal};

use crate::error::{AcquireError, Failure};
use crate::guard::Guard;
use crate::log;
use crate::manager::Manager;
use crate::pool::Pool;
use crate::shared::{Entry, Shared, Step};
use crate::sync::{timeout, timeout_at};
use crate::wait::{Got, Limit, Wait};

impl<M: Manager> Pool<M> {
    /// Waits, with a timer if the time is the caller's own and it has to wait.
    pub(crate) async fn wait(&self, mut wait: Pin<&mut Wait<'_, M>>) -> Got<M> {
        if !wait.is_own() {
            return wait.await;
        }
        if let Poll::Ready(got) = poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await {
            return got;
        }
        let (_, deadline) = wait.times();
        if let Ok(got) = timeout_at(self.shared.clock.at(deadline), wait.as_mut()).await {
            return got;
        }
        wait.end();
        Err(Refusal::TimedOut)
    }

    /// Lends a connection that was used a moment ago: all that is left is the manager's hook, which mostly does nothing. Without a
    /// `wait` it came past the lock.
    #[inline]
    pub(crate) async fn lend(
        &self,
        loan: Loan<Entry<M>>,
        at: &'static Location<'static>,
        limit: Limit,
        wait: Option<&Wait<'_, M>>,
    ) -> Result<Guard<M>, AcquireError<M::Error>> {
        let manager = &self.shared.manager;
        self.shared.note(&loan, at);
        let fresh = loan.is_fresh();
        let since = loan.since();
        let mut guard = Guard::new(loan);
        // What is rarely awaited is boxed: it would make the future of every caller in line larger.
        if !fresh || manager.is_broken(&mut guard) {
            let times = self.times(wait, limit, since);
            return Box::pin(self.lend_slowly(guard, at, limit, times)).await;
        }
        guard.begin_preparing();
        let ready = {
            let mut hook = pin!(manager.on_acquire(&mut guard));
            // Mostly it is done at once, and no timer is needed.
            match poll_fn(|cx| Poll::Ready(hook.as_mut().poll(cx))).await {
                Poll::Ready(ready) => Some(ready),
                Poll::Pending => {
                    let (_, deadline) = self.times(wait, limit, since);
                    Box::pin(timeout_at(self.shared.clock.at(deadline), hook)).await.ok()
                }
            }
        };
        match ready {
            Some(Ok(())) => {
                guard.prepared();
                self.shared.went_well(Step::Hook as u8);
                return Ok(guard);
            }
            Some(Err(error)) => {
                self.shared.failed(Failure::Error(Arc::new(error)));
                self.shared.useless(guard.opened(), Step::Hook);
            }
            // Given up in the middle: nobody knows its state.
            None => self.shared.unsound(),
        }
        let times = self.times(wait, limit, since);
        Box::pin(self.lend_slowly(guard, at, limit, times)).await
    }

    /// When a caller asked who has got a connection at `since`, and its deadline.
    #[cold]
    fn times(&self, wait: Option<&Wait<'_, M>>, limit: Limit, since: Instant) -> (Instant, Instant) {
        let limit = match (wait, limit) {
            (Some(wait), _) => return wait.times(),
            (None, Limit::Own(limit)) => limit,
            (None, Limit::Common) => self.shared.lock().acquire_timeout,
        };
        (since, since + limit)
    }

    /// Lends a connection after what has to be awaited; another one, as often as it takes, if that finds it dead.
    #[cold]
    async fn lend_slowly(
        &self,
        first: Guard<M>,
        at: &'static Location<'static>,
        limit: Limit,
        times: (Instant, Instant),
    ) -> Result<Guard<M>, AcquireError<M::Error>> {
        let shared = &*self.shared;
        let (asked, deadline) = times;
        let until = shared.clock.at(deadline);
        let mut candidate = first;
        loop {
            match prepare(shared, candidate, until).instrument(log::preparing(&shared.name)).await {
                Prepared::Ready(guard) => return Ok(guard),
                Prepared::Dead => {}
                Prepared::TimedOut(cause) => {
                    shared.lock().broker.count_late();
                    let mut error = self.missed(Refusal::TimedOut, asked, Some(at));
                    if let (Some(after), None) = (cause, &error.0.cause) {
                        error.0.cause = Some((Failure::NoAnswer(after), Duration::ZERO));
                    }
                    return Err(error);
                }
            }
            // Its turn had come: it does not go to the end of the line.
            let wait = pin!(Wait::new(shared, limit, Some((asked, deadline))));
            candidate = match self.wait(wait).await {
                Ok(loan) => {
                    shared.note(&loan, at);
                    Guard::new(loan)
                }
                Err(refusal) => return Err(self.missed(refusal, asked, Some(at))),
            };
        }
    }
}

enum Prepared<M: Manager> {
    Ready(Guard<M>),
    Dead,
    /// The caller's time is over; for how long the connection has not answered, if it was asked.
    TimedOut(Option<Duration>),
}

/// Resets, validates and prepares a connection for its next user. If that is given up in the middle, nobody knows its state: it is
/// closed.
async fn prepare<M: Manager>(shared: &Shared<M>, mut guard: Guard<M>, until: TokioInstant) -> Prepared<M> {
    let validation_timeout = shared.lock().settings.validation_timeout;
    if guard.is_being_prepared() || shared.manager.is_broken(&mut guard) {
        guard.close_unused();
        return Prepared::Dead;
    }
    if TokioInstant::now() >= until {
        // Nothing was begun with it.
        guard.put_back();
        return Prepared::TimedOut(None);
    }
    let begun = TokioInstant::now();
    let (needs_reset, check) = guard.begin_preparing();
    let work = async {
        if needs_reset {
            shared.manager.reset(&mut guard).await.map_err(|error| (Some(error), Step::Reset))?;
            shared.answered();
        }
        if check {
            let begun = shared.clock.now();
            let checked = timeout(validation_timeout, shared.manager.check(&mut guard)).await;
            checked.map_err(|_| (None, Step::Check))?.map_err(|error| (Some(error), Step::Check))?;
            guard.checked(begun);
        }
        shared.manager.on_acquire(&mut guard).await.map_err(|error| (Some(error), Step::Hook))
    };
    match timeout_at(until, work).await {
        Ok(Ok(())) => {
            guard.prepared();
            let done = |step: Step, done: bool| if done { step as u8 } else { 0 };
            shared.went_well(done(Step::Reset, needs_reset) | done(Step::Check, check) | Step::Hook as u8);
            Prepared::Ready(guard)
        }
        Ok(Err((error, step))) => {
            match error {
                Some(error) => shared.failed(Failure::Error(Arc::new(error))),
                None => shared.failed(Failure::NoAnswer(validation_timeout)),
            }
            shared.useless(guard.opened(), step);
            Prepared::Dead
        }
        Err(_) => {
            shared.unsound();
            Prepared::TimedOut(Some(begun.elapsed()))
        }
    }
}
