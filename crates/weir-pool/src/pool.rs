//! The handle of a pool.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant as TokioInstant, timeout, timeout_at};
use weir_core::Instant;
use weir_pool_core::{CloseReason, Loan, Refusal};

use crate::error::{AcquireError, Details, Refused};
use crate::guard::Guard;
use crate::housekeeper;
use crate::manager::Manager;
use crate::settings::{Builder, Settings};
use crate::shared::{Entry, Shared};
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::wait::{Limit, Missed, Taken, Wait};

/// A pool of connections. A handle: clones are the same pool, and the last one that goes closes it.
///
/// # Fairness
/// Callers are served first come, first served; a connection that comes back is handed to the first in line directly.
pub struct Pool<M: Manager> {
    shared: Arc<Shared<M>>,
    /// Counts the handles.
    handle: Arc<Handle<M>>,
}

struct Handle<M: Manager>(Arc<Shared<M>>);

impl<M: Manager> Drop for Handle<M> {
    fn drop(&mut self) {
        self.0.shut();
    }
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), handle: Arc::clone(&self.handle) }
    }
}

impl<M: Manager> Pool<M> {
    /// The settings of a pool to be.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn start(manager: M, settings: Settings) -> Self {
        let shared = Arc::new(Shared::new(manager, settings));
        tokio::spawn(housekeeper::keep(Arc::clone(&shared)));
        Self { handle: Arc::new(Handle(Arc::clone(&shared))), shared }
    }

    /// A connection, within the pool's `acquire_timeout`: one deadline over waiting, connecting and validating.
    ///
    /// # Fairness
    /// First come, first served; nobody overtakes.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line; what was kept for it goes to the next. A connection that was being validated
    /// is closed.
    ///
    /// # Errors
    /// [`Refused::TimedOut`], [`Refused::Down`], [`Refused::LineFull`] or [`Refused::Closed`], with the state of the pool and
    /// the last failure of a connect.
    pub async fn acquire(&self) -> Result<Guard<M>, AcquireError<M::Error>> {
        match Wait::new(&self.shared, Limit::Common, None).await {
            Ok(taken) => self.lend(taken, Limit::Common).await,
            Err(missed) => Err(self.missed(&missed)),
        }
    }

    /// As [`Pool::acquire`], with a time-out of its own.
    ///
    /// # Errors
    /// As [`Pool::acquire`].
    pub async fn acquire_timeout(&self, limit: Duration) -> Result<Guard<M>, AcquireError<M::Error>> {
        let limit = Limit::Own(limit);
        match self.wait(limit, None).await {
            Ok(taken) => self.lend(taken, limit).await,
            Err(missed) => Err(self.missed(&missed)),
        }
    }

    /// A connection that is idle and was used a moment ago (within `validate_after`), if there is one and nobody waits.
    /// [`Manager::on_acquire`] is not called.
    ///
    /// # Errors
    /// [`Refused::NoneIdle`], or as [`Pool::acquire`].
    pub fn try_acquire(&self) -> Result<Guard<M>, AcquireError<M::Error>> {
        let refused = match self.take_idle() {
            // What must be awaited first is not for somebody who cannot wait.
            Some(taken) if taken.is_fresh() => return Ok(Guard::new(taken.loan)),
            Some(taken) => {
                self.shared.put_back(taken.loan);
                Refused::NoneIdle
            }
            None if self.shared.lock().broker.is_shut() => Refused::Closed,
            None => Refused::NoneIdle,
        };
        Err(self.error(refused, Duration::ZERO))
    }

    /// Calls `use_it` with a connection and gives it back.
    ///
    /// # Errors
    /// As [`Pool::acquire`].
    pub async fn with<T>(
        &self,
        use_it: impl AsyncFnOnce(&mut M::Connection) -> T,
    ) -> Result<T, AcquireError<M::Error>> {
        let mut guard = self.acquire().await?;
        Ok(use_it(&mut guard).await)
    }

    /// What there is.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// What has happened since the start.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Changes the maximum. Connections above it are closed, idle ones now, others when they come back.
    ///
    /// # Errors
    /// If it is 0 or above [`SIZE_MAX`](crate::SIZE_MAX).
    pub fn resize(&self, max_size: u32) -> Result<(), crate::SettingsError> {
        self.shared.update(|state, now, _| {
            let settings = Settings { max_size, ..(*state.settings).clone() };
            settings.check_size()?;
            state.broker.quota().set_max(max_size);
            state.broker.set_params(settings.broker());
            state.settings = Arc::new(settings);
            state.broker.resized(now);
            Ok(())
        })
    }

    /// Callers wait from now on, although connections may be idle: before a fail-over, say. Their time-outs go on.
    pub fn suspend(&self) {
        self.shared.update(|state, _, _| state.broker.suspend());
    }

    /// Ends [`Pool::suspend`].
    pub fn resume(&self) {
        self.shared.update(|state, now, wake| state.broker.resume(now, wake));
    }

    /// Soft eviction: idle connections are closed now, those in use when they come back.
    pub fn evict(&self) {
        self.shared.update(|state, _, _| state.broker.evict_all());
    }

    /// Closes the pool: callers are refused, those in line too; idle connections are closed now, those in use when they come back.
    /// Returns when all are closed.
    ///
    /// # Errors
    /// With what is left, if that takes longer than `limit`; it goes on.
    pub async fn close(&self, limit: Duration) -> Result<(), Snapshot> {
        let emptied = self.shared.emptied.notified();
        tokio::pin!(emptied);
        // Before the look: it may become empty in between.
        emptied.as_mut().enable();
        self.shared.shut();
        if self.shared.lock().broker.is_empty() {
            return Ok(());
        }
        timeout(limit, emptied).await.map_err(|_| self.snapshot())
    }

    // === acquiring ===

    fn take_idle(&self) -> Option<Taken<M>> {
        let now = self.shared.clock.now();
        let mut state = self.shared.lock();
        let loan = state.broker.try_acquire(now)?;
        let check = state.must_check(&loan);
        Some(Taken { loan, asked: now, deadline: now, check })
    }

    /// Waits, with a timer if the time is the caller's own and it has to wait.
    async fn wait(&self, limit: Limit, again: Option<(Instant, Instant)>) -> Result<Taken<M>, Missed> {
        let mut wait = pin!(Wait::new(&self.shared, limit, again));
        let Limit::Own(time) = limit else { return wait.await };
        let asked = again.map_or_else(|| self.shared.clock.now(), |(asked, _)| asked);
        let deadline = again.map_or(asked + time, |(_, deadline)| deadline);
        if let Poll::Ready(taken) = poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await {
            return taken;
        }
        if let Ok(taken) = timeout_at(self.shared.clock.at(deadline), wait.as_mut()).await {
            return taken;
        }
        wait.end();
        Err(Missed { refusal: Refusal::TimedOut, asked })
    }

    /// Lends a connection that was used a moment ago: all that is left is the manager's hook, which mostly does nothing.
    #[inline]
    async fn lend(&self, mut taken: Taken<M>, limit: Limit) -> Result<Guard<M>, AcquireError<M::Error>> {
        let manager = &self.shared.manager;
        // What is rarely awaited is boxed: it would make the future of every caller in line larger.
        if !taken.is_fresh() || manager.is_broken(&mut taken.loan.conn.conn) {
            return Box::pin(self.lend_slowly(Held::from(taken), limit)).await;
        }
        let mut held = Held::from(taken);
        if let Some(loan) = held.loan.as_mut() {
            let mut hook = pin!(manager.on_acquire(&mut loan.conn.conn));
            // Mostly it is done at once, and no timer is needed.
            let ready = match poll_fn(|cx| Poll::Ready(hook.as_mut().poll(cx))).await {
                Poll::Ready(ready) => Some(ready),
                Poll::Pending => Box::pin(timeout_at(self.shared.clock.at(held.deadline), hook)).await.ok(),
            };
            match ready {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    held.dead = true;
                    self.shared.failed(error);
                }
                // Given up in the middle: nobody knows its state.
                None => held.dead = true,
            }
        }
        match held.loan.take_if(|_| !held.dead) {
            Some(loan) => Ok(Guard::new(loan)),
            None => Box::pin(self.lend_slowly(held, limit)).await,
        }
    }

    /// Lends a connection after what has to be awaited; another one, as often as it takes, if that finds it dead.
    #[cold]
    async fn lend_slowly(&self, first: Held<M>, limit: Limit) -> Result<Guard<M>, AcquireError<M::Error>> {
        let shared = &*self.shared;
        let (asked, deadline) = (first.asked, first.deadline);
        let until = shared.clock.at(deadline);
        let mut candidate = first;
        loop {
            match prepare(shared, candidate, until).await {
                Prepared::Ready(guard) => return Ok(guard),
                Prepared::Dead => {}
                Prepared::TimedOut => {
                    return Err(self.missed(&Missed { refusal: Refusal::TimedOut, asked }));
                }
            }
            // Its turn had come: it does not go to the end of the line.
            candidate = match self.wait(limit, Some((asked, deadline))).await {
                Ok(taken) => Held::from(taken),
                Err(missed) => return Err(self.missed(&missed)),
            };
        }
    }

    #[cold]
    fn missed(&self, missed: &Missed) -> AcquireError<M::Error> {
        self.error(refused(missed.refusal), self.shared.clock.now().since(missed.asked))
    }

    fn error(&self, refused: Refused, waited: Duration) -> AcquireError<M::Error> {
        let now = self.shared.clock.now();
        let state = self.shared.lock();
        let failing = state.broker.stats(now).failing_since.is_some();
        let cause = state.last_failure.as_ref().filter(|_| failing);
        let cause = cause.map(|(cause, at)| (Arc::clone(cause), now.since(*at)));
        drop(state);
        AcquireError(Box::new(Details { refused, waited, snapshot: self.snapshot(), cause }))
    }
}

fn refused(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Closed => Refused::Closed,
        Refusal::Down => Refused::Down,
        Refusal::LineFull => Refused::LineFull,
        Refusal::TimedOut => Refused::TimedOut,
    }
}

/// A connection that is being looked at before it is lent. If that is given up in the middle, nobody knows its state: it is closed.
struct Held<M: Manager> {
    loan: Option<Loan<Box<Entry<M>>>>,
    check: bool,
    /// Its hook has failed.
    dead: bool,
    asked: Instant,
    deadline: Instant,
}

impl<M: Manager> From<Taken<M>> for Held<M> {
    #[inline]
    fn from(taken: Taken<M>) -> Self {
        let Taken { loan, check, asked, deadline } = taken;
        Self { loan: Some(loan), check, dead: false, asked, deadline }
    }
}

impl<M: Manager> Drop for Held<M> {
    fn drop(&mut self) {
        if let Some(loan) = self.loan.take() {
            let shared = Arc::clone(&loan.conn.shared);
            shared.discard(loan, CloseReason::Failed);
        }
    }
}

enum Prepared<M: Manager> {
    Ready(Guard<M>),
    Dead,
    TimedOut,
}

/// Resets, validates and prepares a connection for its next user.
async fn prepare<M: Manager>(shared: &Shared<M>, mut held: Held<M>, until: TokioInstant) -> Prepared<M> {
    let validation_timeout = shared.lock().settings.validation_timeout;
    let check = held.check;
    let Some(loan) = held.loan.as_mut() else { return Prepared::Dead };
    let entry = &mut loan.conn;
    if held.dead || shared.manager.is_broken(&mut entry.conn) {
        return Prepared::Dead;
    }
    if TokioInstant::now() >= until {
        // Nothing was begun with it.
        held.loan.take().into_iter().for_each(|loan| shared.put_back(loan));
        return Prepared::TimedOut;
    }
    let work = async {
        if entry.needs_reset {
            shared.manager.reset(&mut entry.conn).await?;
            entry.needs_reset = false;
        }
        if check {
            match timeout(validation_timeout, shared.manager.check(&mut entry.conn)).await {
                Ok(checked) => checked?,
                Err(_) => return Ok(false),
            }
        }
        shared.manager.on_acquire(&mut entry.conn).await.map(|()| true)
    };
    match timeout_at(until, work).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => return Prepared::Dead,
        Ok(Err(error)) => {
            shared.failed(error);
            return Prepared::Dead;
        }
        Err(_) => return Prepared::TimedOut,
    }
    match held.loan.take() {
        Some(loan) => Prepared::Ready(Guard::new(loan)),
        None => Prepared::Dead,
    }
}

impl<M: Manager> Shared<M> {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = self.clock.now();
        let state = self.lock();
        let stats = state.broker.stats(now);
        Snapshot {
            name: Arc::clone(&state.settings.name),
            max_size: state.settings.max_size,
            active: stats.pool.busy,
            idle: stats.pool.idle + stats.pool.reserved,
            opening: stats.pool.connecting,
            hung: stats.hung,
            closing: stats.pool.closing,
            pending: stats.waiting,
            hold: stats.hold,
            age: stats.age,
            connect_time: stats.connect_time,
            failing_for: stats.failing_since.map(|since| now.since(since)),
            suspended: state.broker.is_suspended(),
            closed: state.broker.is_shut(),
        }
    }
}

impl<M: Manager> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.snapshot()).finish()
    }
}
