//! The handle of a pool.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::timeout_at;
use weir_core::Instant;
use weir_pool_core::{Loan, Proposal, Refusal};

use crate::adaptive;
use crate::borrowers::Borrower;
use crate::clock::Clock;
use crate::error::{AcquireError, Details, Refused};
use crate::guard::Guard;
use crate::housekeeper::{self, End};
use crate::log;
use crate::manager::Manager;
use crate::settings::{Builder, Settings, SettingsError, check_size};
use crate::shared::{Entry, Shared};
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::sync::{Counted, Runtime, spawn, timeout};
use crate::wait::{Limit, Wait};
use crate::watch::Watch;
use crate::window::Explanation;

/// How long after its time-out a connect may take to end.
const END_OF_CONNECT: Duration = Duration::from_millis(100);

/// A pool of connections. A handle: clones are the same pool, and the last one that goes closes it.
///
/// # Fairness
/// Callers are served first come, first served; a connection that comes back is handed to the first in line directly.
pub struct Pool<M: Manager> {
    pub(crate) shared: Counted<Shared<M>>,
    /// Counts the handles.
    handle: Counted<Handle<M>>,
}

struct Handle<M: Manager>(Counted<Shared<M>>);

impl<M: Manager> Drop for Handle<M> {
    fn drop(&mut self) {
        self.0.shut();
    }
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self { shared: Counted::clone(&self.shared), handle: Counted::clone(&self.handle) }
    }
}

impl<M: Manager> Pool<M> {
    /// The settings of a pool to be.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn start(manager: M, settings: Settings) -> Self {
        log::began(&settings.name, settings.max_size);
        let clock = Clock::new(settings.tokio_clock);
        let pool = Self::start_as(manager, settings, clock, None);
        adaptive::start(&pool.shared);
        pool
    }

    /// One of several pools with a common clock; `watch` is called when its evidence has changed.
    pub(crate) fn start_as(manager: M, settings: Settings, clock: Clock, watch: Option<Arc<Watch>>) -> Self {
        #[cfg(not(weir_loom))]
        let budget = settings.budget.clone();
        let (pool, housekeeper) = Self::with_housekeeper(manager, settings, clock, watch);
        spawn(housekeeper);
        #[cfg(not(weir_loom))]
        if let Some(budget) = budget {
            budget.govern(&pool.shared);
        }
        pool
    }

    /// One of several pools, in their runtime.
    #[cfg(not(weir_loom))]
    pub(crate) fn start_in(runtime: &Runtime, manager: M, settings: Settings, clock: Clock, watch: Arc<Watch>) -> Self {
        let _runtime = runtime.enter();
        Self::start_as(manager, settings, clock, Some(watch))
    }

    /// For the models, which run the housekeeper when they want to.
    #[cfg(weir_loom)]
    pub(crate) fn start_in(runtime: &Runtime, manager: M, settings: Settings, clock: Clock, watch: Arc<Watch>) -> Self {
        let (pool, housekeeper) = Self::with_housekeeper(manager, settings, clock, Some(watch));
        runtime.spawn(housekeeper);
        pool
    }

    /// A pool, and its housekeeper to be run.
    pub(crate) fn with_housekeeper(
        manager: M,
        settings: Settings,
        clock: Clock,
        watch: Option<Arc<Watch>>,
    ) -> (Self, impl Future<Output = ()> + Send + use<M>) {
        let shared = Counted::new(Shared::new(manager, settings, clock, watch));
        let end = End(Counted::clone(&shared));
        let housekeeper = housekeeper::keep(Counted::clone(&shared), end);
        (Self { handle: Counted::new(Handle(Counted::clone(&shared))), shared }, housekeeper)
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
    /// [`Refused::TimedOut`], [`Refused::Down`], [`Refused::LineFull`], [`Refused::Overload`] (with an admission) or
    /// [`Refused::Closed`], with the place of this call, the state of the pool and the last failure of a connect.
    #[track_caller]
    #[inline]
    pub fn acquire(&self) -> impl Future<Output = Result<Guard<M>, AcquireError<M::Error>>> {
        self.acquire_at(Location::caller())
    }

    /// As [`Pool::acquire`], called at `at`.
    #[allow(
        clippy::manual_async_fn,
        reason = "an async fn keeps its arguments twice: 16 bytes more for every caller in line"
    )]
    #[inline]
    pub(crate) fn acquire_at(
        &self,
        at: &'static Location<'static>,
    ) -> impl Future<Output = Result<Guard<M>, AcquireError<M::Error>>> {
        async move {
            if let Some(loan) = self.shared.take() {
                return self.lend(loan, at, Limit::Common, None).await;
            }
            let mut wait = pin!(Wait::new(&self.shared, Limit::Common, None));
            match wait.as_mut().await {
                Ok(loan) => self.lend(loan, at, Limit::Common, Some(&wait)).await,
                Err(refusal) => Err(self.missed(refusal, wait.times().0, Some(at))),
            }
        }
    }

    /// As [`Pool::acquire`], with a time-out of its own.
    ///
    /// # Fairness
    /// As [`Pool::acquire`]: a short time-out does not overtake.
    ///
    /// # Cancel safety
    /// As [`Pool::acquire`].
    ///
    /// # Errors
    /// As [`Pool::acquire`].
    #[track_caller]
    pub fn acquire_timeout(&self, limit: Duration) -> impl Future<Output = Result<Guard<M>, AcquireError<M::Error>>> {
        let at = Location::caller();
        let limit = Limit::Own(limit);
        async move {
            if let Some(loan) = self.shared.take() {
                return self.lend(loan, at, limit, None).await;
            }
            let mut wait = pin!(Wait::new(&self.shared, limit, None));
            match self.wait(wait.as_mut()).await {
                Ok(loan) => self.lend(loan, at, limit, Some(&wait)).await,
                Err(refusal) => Err(self.missed(refusal, wait.times().0, Some(at))),
            }
        }
    }

    /// A connection that is idle and was used a moment ago (within `validate_after`), if there is one and nobody waits.
    /// [`Manager::on_acquire`] is not called.
    ///
    /// # Errors
    /// [`Refused::NoneIdle`], or as [`Pool::acquire`].
    #[track_caller]
    pub fn try_acquire(&self) -> Result<Guard<M>, AcquireError<M::Error>> {
        let at = Location::caller();
        loop {
            let loan = self.take_fresh(at)?;
            self.shared.note(&loan, at);
            let mut guard = Guard::new(loan);
            if !self.shared.manager.is_broken(&mut guard) {
                return Ok(guard);
            }
            // It is closed; there may be another one.
            guard.close_unused();
        }
    }

    fn take_fresh(&self, at: &'static Location<'static>) -> Result<Loan<Entry<M>>, AcquireError<M::Error>> {
        if let Some(loan) = self.shared.take() {
            return Ok(loan);
        }
        let now = self.shared.clock.now();
        let mut state = self.shared.lock_unsettled();
        let mut taken = state.take_fresh(now);
        if taken.is_none() && state.aside.is_open() {
            state.settle(&self.shared.shortcut, now);
            taken = state.take_fresh(now);
        }
        let (calls, shut) = (state.broker.calls_housekeeper(), state.broker.is_shut());
        drop(state);
        if calls {
            self.shared.call();
        }
        let refused = if shut { Refused::Closed } else { Refused::NoneIdle };
        taken.ok_or_else(|| self.error(refused, Duration::ZERO, Some(at)))
    }

    /// Calls `use_it` with a connection and gives it back.
    ///
    /// # Fairness
    /// As [`Pool::acquire`].
    ///
    /// # Cancel safety
    /// Dropping the future before `use_it` is called leaves the line. After that it drops what `use_it` was doing, and the
    /// connection comes back as a guard that is dropped: the manager says whether it is sound ([`Manager::is_broken`],
    /// [`Manager::on_release`]).
    ///
    /// # Errors
    /// As [`Pool::acquire`].
    #[track_caller]
    pub fn with<T>(
        &self,
        use_it: impl AsyncFnOnce(&mut M::Connection) -> T,
    ) -> impl Future<Output = Result<T, AcquireError<M::Error>>> {
        let acquired = self.acquire();
        async move {
            let mut guard = acquired.await?;
            Ok(use_it(&mut guard).await)
        }
    }

    /// What there is.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// What has happened since the start.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// What limits the pool, in words and with the figures of its last ten seconds: all connections in use for long, connects that
    /// fail or are slow, more load than the size carries, a leak …; or that nothing does. For people; cheap enough for every scrape.
    pub fn explain(&self) -> Explanation {
        self.shared.explain()
    }

    /// Who holds connections, and since when: where `leak_after` is set; empty otherwise. Those that were acquired before it was set
    /// are not among them.
    pub fn in_use(&self) -> Vec<Borrower> {
        self.shared.borrowers()
    }

    /// Those of [`Pool::in_use`] that have been reported as possible leaks, and have not come back.
    pub fn leaks(&self) -> Vec<Borrower> {
        let mut borrowers = self.in_use();
        borrowers.retain(|borrower| borrower.leaked);
        borrowers
    }

    /// What size would be best, and why; `None` without [`Builder::adaptive`], and in the first moment. It can be printed.
    pub fn proposal(&self) -> Option<Proposal> {
        *self.shared.proposal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens connections until `connections` of them (at most the maximum) are open, idle or in use, in bounded parallel and paced like
    /// all others; returns when they are: before traffic needs them. While there is no place for them (others are being closed, a
    /// budget has granted nothing yet) it waits for one. What is beyond `min_idle` is closed again after the idle time-out.
    ///
    /// # Fairness
    /// Callers in line come first: a new connection goes to the first of them. Several warm-ups at once are one with the largest number.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing: connects go on until as many are open, or `limit` is over.
    ///
    /// # Errors
    /// [`Refused::TimedOut`] with the last failure of a connect if that takes longer than `limit`: no further ones are begun for it.
    /// [`Refused::Closed`] when the pool is closed.
    pub async fn warm_up(&self, connections: u32, limit: Duration) -> Result<(), AcquireError<M::Error>> {
        let shared = &*self.shared;
        let asked = shared.clock.now();
        let until = shared.clock.at(asked + limit);
        let refusal = loop {
            let mut connected = pin!(shared.connected.notified());
            // Before the look: one may succeed in between.
            connected.as_mut().enable();
            // The maximum may have changed.
            let (done, shut) = shared.update(|state, _, _| {
                let wanted = connections.min(state.settings.max_size);
                let done = state.broker.live() >= wanted;
                if !done {
                    state.broker.warm_up(wanted, asked + limit);
                }
                (done, state.broker.is_shut())
            });
            if shut {
                break Refusal::Closed;
            }
            if done {
                return Ok(());
            }
            if timeout_at(until, connected).await.is_err() {
                break Refusal::TimedOut;
            }
        };
        Err(self.missed(refusal, asked, None))
    }

    /// Changes settings at run time: `change` gets the present ones. What contradicts itself changes nothing. Connections keep the
    /// lifetimes that they have drawn; callers in line keep their deadlines; name, clock, budget and adaptive size cannot be changed.
    /// After a lower maximum, connections above it are closed, idle ones now, others when they come back.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn example<M: weir_pool::Manager>(pool: &weir_pool::Pool<M>) -> Result<(), weir_pool::SettingsError> {
    /// pool.configure(|settings| settings.max_size(40).acquire_timeout(Duration::from_secs(1)))?;
    /// # Ok(()) }
    /// ```
    ///
    /// One at a time: a second call waits for the first. The closure must not wait for another thread that does so.
    ///
    /// # Errors
    /// With the setting that makes no sense, and why; `configure` itself if the closure calls it.
    pub fn configure(&self, change: impl FnOnce(Builder) -> Builder) -> Result<(), SettingsError> {
        // The user's code runs outside the lock; who comes second in a race sees what the first has set.
        let Some(_one_at_a_time) = self.shared.changing.begin() else {
            let problem = "called by its own closure, which gets the settings and returns them";
            return Err(SettingsError::new("configure", problem.to_owned()));
        };
        let before = Arc::clone(&self.shared.lock().settings);
        let settings = change(Builder::of(&before)).check()?;
        for (setting, changed) in [
            ("adaptive", settings.adaptive != before.adaptive),
            ("name", settings.name != before.name),
            ("tokio_clock", settings.tokio_clock != before.tokio_clock),
            ("budget", settings.budget != before.budget),
            ("budget_floor", settings.budget_floor != before.budget_floor),
            ("budget_weight", settings.budget_weight != before.budget_weight),
        ] {
            if changed {
                return Err(SettingsError::new(setting, "stays what it was when the pool was built".to_owned()));
            }
        }
        self.shared.install(|present| {
            // If the maximum is to stay, it is what it was resized to meanwhile.
            let stays = settings.max_size == before.max_size;
            let max_size = if stays { present.max_size } else { settings.max_size };
            Settings { max_size, ..settings }
        });
        Ok(())
    }

    /// Changes the maximum; as [`Pool::configure`] with `max_size`, but `min_idle` need not fit: it is as configured again when the
    /// pool has grown again.
    ///
    /// # Errors
    /// If it is 0 or above [`SIZE_MAX`](crate::SIZE_MAX).
    pub fn resize(&self, max_size: u32) -> Result<(), SettingsError> {
        check_size(max_size)?;
        let settings = Arc::clone(&self.shared.lock().settings);
        settings.check_bounds(max_size)?;
        self.shared.set_max(max_size);
        Ok(())
    }

    /// Callers wait from now on, although connections may be idle: before a fail-over, say. Their time-outs go on.
    pub fn suspend(&self) {
        self.shared.update(|state, _, _| state.broker.suspend());
        log::told(&self.shared.name, "suspended");
    }

    /// Ends [`Pool::suspend`].
    pub fn resume(&self) {
        self.shared.update(|state, now, wake| state.broker.resume(now, wake));
        log::told(&self.shared.name, "resumed");
    }

    /// Soft eviction: idle connections are closed now, those in use when they come back.
    pub fn evict(&self) {
        self.shared.update(|state, _, _| state.broker.evict_all());
        log::told(&self.shared.name, "evicted");
    }

    /// Closes the pool: callers are refused, those in line too; idle connections are closed now, those in use when they come back.
    /// Returns when all are closed.
    ///
    /// # Fairness
    /// All in line are refused; nobody is served any more.
    ///
    /// # Cancel safety
    /// If the future is dropped, closing goes on.
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

    /// Opens the first connection; `limit` bounds how long that is tried again.
    pub(crate) async fn first_connection(&self, limit: Duration) -> Result<(), AcquireError<M::Error>> {
        let shared = &*self.shared;
        let asked = shared.clock.now();
        let attempt = shared.lock().settings.connect_timeout();
        // The first attempt has its own time, whatever the limit is, and its end is waited for: it says why.
        let last = asked + limit.max(attempt).saturating_add(END_OF_CONNECT);
        shared.update(|state, _, _| state.broker.warm_up(1, last));
        let until = shared.clock.at(last);
        loop {
            let mut connected = pin!(shared.connected.notified());
            connected.as_mut().enable();
            let (live, failed, shut) = {
                let state = shared.lock();
                (state.broker.live(), state.last_failure.is_some(), state.broker.is_shut())
            };
            if live > 0 {
                return Ok(());
            }
            if shut {
                return Err(self.missed(Refusal::Closed, asked, None));
            }
            let late = shared.clock.now().since(asked) >= limit;
            if (failed && late) || timeout_at(until, connected).await.is_err() {
                return Err(self.missed(Refusal::TimedOut, asked, None));
            }
        }
    }

    // === acquiring ===

    /// For a caller of several pools. `since`: it has waited at another one, since when, and its deadline.
    pub(crate) async fn acquire_as(
        &self,
        at: &'static Location<'static>,
        limit: Limit,
        since: Option<(Instant, Instant)>,
    ) -> Result<Guard<M>, Denied<M::Error>> {
        let mut wait = pin!(match since {
            None => Wait::new(&self.shared, limit, None),
            Some(since) => Wait::moved(&self.shared, limit, since),
        });
        match self.wait(wait.as_mut()).await {
            Ok(loan) => self.lend(loan, at, limit, Some(&wait)).await.map_err(Denied::Error),
            Err(Refusal::TurnedAway) => Err(Denied::TurnedAway),
            Err(refusal) => Err(Denied::Error(self.missed(refusal, wait.times().0, Some(at)))),
        }
    }

    #[cold]
    pub(crate) fn missed(
        &self,
        refusal: Refusal,
        asked: Instant,
        at: Option<&'static Location<'static>>,
    ) -> AcquireError<M::Error> {
        let error = self.error(refused(refusal), self.shared.clock.now().since(asked), at);
        log::missed(&self.shared.name, &error);
        error
    }

    pub(crate) fn error(
        &self,
        refused: Refused,
        waited: Duration,
        at: Option<&'static Location<'static>>,
    ) -> AcquireError<M::Error> {
        let now = self.shared.clock.now();
        let state = self.shared.lock();
        let failing = state.broker.stats(now).failing_since.is_some() || self.shared.is_in_trouble();
        let cause = state.last_failure.as_ref().filter(|_| failing);
        let cause = cause.map(|(cause, at)| (cause.clone(), now.since(*at)));
        let retry_after = if refused == Refused::Overload { state.broker.retry_after(now) } else { None };
        drop(state);
        AcquireError(Box::new(Details { refused, at, waited, snapshot: self.snapshot(), cause, retry_after }))
    }
}

fn refused(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Closed => Refused::Closed,
        // Nobody else knows of other pools.
        Refusal::Down | Refusal::TurnedAway => Refused::Down,
        Refusal::LineFull => Refused::LineFull,
        Refusal::TimedOut => Refused::TimedOut,
        Refusal::Overload => Refused::Overload,
    }
}

/// Why a caller of several pools got nothing at one of them.
pub(crate) enum Denied<E> {
    /// It does not take callers now, but another one may.
    TurnedAway,
    Error(AcquireError<E>),
}

impl<M: Manager> Shared<M> {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = self.clock.now();
        let state = self.lock();
        let stats = state.broker.stats(now);
        Snapshot {
            name: Arc::clone(&state.settings.name),
            max_size: state.settings.size(state.share),
            share: state.share,
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
