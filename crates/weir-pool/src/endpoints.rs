//! A pool over several endpoints: one [`Pool`](crate::Pool) each, one total over all, and a balancer that picks.
//!
//! ```text
//! acquire ─▶ View (immutable, swapped as a whole): members, balancer ─▶ the pick's Pool: line, connections
//!                      ▲ publish                                              │ evidence
//!                      └──────── Control: Roster (who gets callers, shares) ◀─┘
//! ```
//!
//! The machine (`weir_pool_core::Roster`) decides; [`control`] feeds it and carries out what it says. A caller never takes
//! the control's lock unless it gets nothing.

pub(crate) mod control;
mod error;
mod guard;
mod settings;
mod snapshot;
mod view;

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use weir_balance::Avoid;
use weir_core::{Address, Endpoint, Instant};

use crate::borrowers::Borrower;
use crate::error::{AcquireError, Refused};
use crate::manager::Manager;
use crate::pool::Denied;
use crate::settings::{Builder, SettingsError, check_size};
use crate::sync::timeout_at;
use crate::wait::Limit;

use control::Core;
use view::{InFlight, Pick, Site};

pub use error::{DuplicateEndpoint, EndpointsError};
pub use guard::EndpointGuard;
pub use settings::EndpointsBuilder;
pub use snapshot::{EndpointSnapshot, EndpointsSnapshot};

/// Pools that are tried if they refuse at once (their lines are full, say). Not more than an [`Avoid`] can hold.
const REFUSALS_MAX: usize = 8;

/// If a caller has waited for so long in vain, and no use has ended well meanwhile, that is held against the endpoint.
const STALLED: Duration = Duration::from_secs(1);

/// Pools of connections to several endpoints that serve the same thing (replicas). A handle: clones are the same pools, and the
/// last one that goes closes them.
///
/// - **Balanced.** A caller is sent to an endpoint by any algorithm of `weir-balance`; its load is the callers that use or await
///   a connection of it.
/// - **One total.** `max_size` is divided by the weights and moves with them, never exceeded: a place is given to another
///   endpoint when its connection is closed.
/// - **Warm first.** A newcomer gets no caller before its connections are open and have been checked ([`Manager::check`]); one
///   that cannot be reached, or accepts connections and does not answer, never gets any.
/// - **Outliers are left out.** An endpoint whose uses fail one after another is ejected for a time, though never all of them
///   ([`EndpointsBuilder::outliers`]); it gets callers again when it has answered.
/// - **Ejected is empty.** Idle connections are closed at once, those in use when they come back (they cannot be taken from
///   their users), and callers in line go elsewhere.
///
/// Endpoints for different purposes (a primary and its replicas) are told apart by [`EndpointPools::acquire_where`], or have
/// pools of their own.
///
/// # Fairness
/// First come, first served at each endpoint; between endpoints the balancer decides. A caller that has to leave a line because
/// its endpoint is gone stands in the next one where it would stand if it had waited there: nobody starts anew.
pub struct EndpointPools<M: Manager> {
    pub(crate) core: Arc<Core<M>>,
    /// Counts the handles.
    handle: Arc<Handle<M>>,
}

struct Handle<M: Manager>(Arc<Core<M>>);

impl<M: Manager> Drop for Handle<M> {
    fn drop(&mut self) {
        self.0.shut();
    }
}

impl<M: Manager> Clone for EndpointPools<M> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), handle: Arc::clone(&self.handle) }
    }
}

/// What a caller asks for.
struct Ask<'a> {
    key: Option<u64>,
    limit: Limit,
    only: Option<&'a (dyn Fn(&Endpoint) -> bool + Sync)>,
    /// Where it asks.
    at: &'static Location<'static>,
}

/// What has become of a caller so far.
struct Past<E> {
    asked: Instant,
    at: &'static Location<'static>,
    deadline: Instant,
    avoid: Avoid,
    /// Pools that have refused it at once.
    refusals: usize,
    /// Lines it has left because it was turned away.
    moves: u32,
    /// Whether it has waited for anything.
    waited: bool,
    error: Option<AcquireError<E>>,
}

impl<M: Manager> EndpointPools<M> {
    /// The settings of pools to be. Of `pool`, `max_size` is the total over all endpoints and `min_idle` is for each (1 unless
    /// set); the rest holds for each pool.
    pub fn builder(pool: Builder) -> EndpointsBuilder {
        EndpointsBuilder::new(pool)
    }

    fn start(core: Arc<Core<M>>) -> Self {
        Self { handle: Arc::new(Handle(Arc::clone(&core))), core }
    }

    /// A connection to the endpoint that the balancer picks, within `acquire_timeout`: one deadline over picking, waiting (at one
    /// endpoint after another, if need be), connecting and validating.
    ///
    /// While no endpoint can be used, callers wait for the first that can. If its pool refuses at once, another one is tried;
    /// callers of a keyed algorithm have no key here and are spread at random.
    ///
    /// # Fairness
    /// First come, first served at each endpoint.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line; what was kept for it goes to the next.
    ///
    /// # Errors
    /// [`Refused::TimedOut`]; [`Refused::Down`] if connects have failed for long at every endpoint; [`Refused::LineFull`] if all
    /// lines are; [`Refused::Overload`] (with an admission); [`Refused::Closed`].
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<EndpointGuard<M>, EndpointsError<M::Error>>> {
        self.acquire_by(None, Limit::Common, Location::caller())
    }

    /// As [`EndpointPools::acquire`], for algorithms that send the same key to the same endpoint (`weir_balance::hash_key` makes
    /// one). Others ignore it.
    ///
    /// # Fairness, cancel safety, errors
    /// As [`EndpointPools::acquire`].
    #[allow(clippy::missing_errors_doc, reason = "said in one heading")]
    #[track_caller]
    pub fn acquire_for(&self, key: u64) -> impl Future<Output = Result<EndpointGuard<M>, EndpointsError<M::Error>>> {
        self.acquire_by(Some(key), Limit::Common, Location::caller())
    }

    /// As [`EndpointPools::acquire`], with a time-out of its own.
    ///
    /// # Fairness, cancel safety, errors
    /// As [`EndpointPools::acquire`].
    #[allow(clippy::missing_errors_doc, reason = "said in one heading")]
    #[track_caller]
    pub fn acquire_timeout(
        &self,
        limit: Duration,
    ) -> impl Future<Output = Result<EndpointGuard<M>, EndpointsError<M::Error>>> {
        self.acquire_by(None, Limit::Own(limit), Location::caller())
    }

    /// As [`EndpointPools::acquire`], at an endpoint for which `only` holds: by its tags or its zone, say. Whatever the
    /// algorithm, it is the one with the least load for its weight among those.
    ///
    /// # Fairness, cancel safety, errors
    /// As [`EndpointPools::acquire`].
    #[allow(clippy::missing_errors_doc, reason = "said in one heading")]
    #[track_caller]
    pub fn acquire_where(
        &self,
        only: impl Fn(&Endpoint) -> bool + Sync,
    ) -> impl Future<Output = Result<EndpointGuard<M>, EndpointsError<M::Error>>> {
        let at = Location::caller();
        async move { self.acquire_as(&Ask { key: None, limit: Limit::Common, only: Some(&only), at }).await }
    }

    /// Calls `use_it` with a connection and gives it back.
    ///
    /// # Fairness
    /// As [`EndpointPools::acquire`].
    ///
    /// # Cancel safety
    /// As [`Pool::with`](crate::Pool::with).
    ///
    /// # Errors
    /// As [`EndpointPools::acquire`].
    #[track_caller]
    pub fn with<T>(
        &self,
        use_it: impl AsyncFnOnce(&mut M::Connection) -> T,
    ) -> impl Future<Output = Result<T, EndpointsError<M::Error>>> {
        let acquired = self.acquire();
        async move {
            let mut guard = acquired.await?;
            Ok(use_it(&mut guard).await)
        }
    }

    /// The endpoints from now on, told apart by their addresses: those that stay keep their pools, their connections and their
    /// place in the balancer's rotation; weights, names and tags may change. Those that are gone get no more callers, and their
    /// connections are closed as if they were ejected.
    ///
    /// The factory is called here, for each newcomer, and not under a lock.
    ///
    /// # Errors
    /// If two have the same address; nothing has changed then.
    pub fn set_endpoints(&self, endpoints: Vec<Endpoint>) -> Result<(), DuplicateEndpoint> {
        self.core.set_endpoints(endpoints)
    }

    /// Leaves an endpoint out for a time: callers in its line go elsewhere, its idle connections are closed at once and those in
    /// use when they come back. Afterwards it warms up as a newcomer. A later call replaces an earlier one. If too few are
    /// left, ejections are ignored ([`EndpointsBuilder::panic_threshold`]).
    ///
    /// False if there is no such endpoint.
    pub fn eject(&self, address: &Address, time: Duration) -> bool {
        self.core.change(|roster, now| roster.eject(address, now + time, now))
    }

    /// Ends an ejection, also one because of failures: the endpoint warms up. False if there is no such endpoint.
    pub fn restore(&self, address: &Address) -> bool {
        self.core.restore(address)
    }

    /// Changes the total over all endpoints. Connections above it are closed, idle ones now, others when they come back.
    ///
    /// # Errors
    /// If it is 0 or above [`SIZE_MAX`](crate::SIZE_MAX).
    pub fn resize(&self, max_size: u32) -> Result<(), SettingsError> {
        check_size(max_size)?;
        self.core.change(|roster, now| roster.set_total(max_size, now));
        Ok(())
    }

    /// Who holds connections, and since when, at all endpoints: as [`Pool::in_use`](crate::Pool::in_use).
    pub fn in_use(&self) -> Vec<Borrower> {
        self.core.sites().iter().flat_map(|site| site.pool.in_use()).collect()
    }

    /// Those of [`EndpointPools::in_use`] that have been reported as possible leaks, and have not come back.
    pub fn leaks(&self) -> Vec<Borrower> {
        self.core.sites().iter().flat_map(|site| site.pool.leaks()).collect()
    }

    /// What there is, endpoint by endpoint.
    pub fn snapshot(&self) -> EndpointsSnapshot {
        self.core.snapshot()
    }

    /// Closes all pools: callers are refused, those in line too; idle connections are closed now, those in use when they come
    /// back. Returns when all are closed.
    ///
    /// # Fairness
    /// All in line are refused; nobody is served any more.
    ///
    /// # Cancel safety
    /// If the future is dropped, closing goes on.
    ///
    /// # Errors
    /// With what is left, if that takes longer than `limit`; it goes on.
    pub async fn close(&self, limit: Duration) -> Result<(), EndpointsSnapshot> {
        let begun = tokio::time::Instant::now();
        self.core.shut();
        let mut in_time = true;
        for site in self.core.sites() {
            // All are closing; each is waited for with what is left of the time.
            in_time &= site.pool.close(limit.saturating_sub(begun.elapsed())).await.is_ok();
        }
        if in_time { Ok(()) } else { Err(self.snapshot()) }
    }

    async fn acquire_by(
        &self,
        key: Option<u64>,
        limit: Limit,
        at: &'static Location<'static>,
    ) -> Result<EndpointGuard<M>, EndpointsError<M::Error>> {
        self.acquire_as(&Ask { key, limit, only: None, at }).await
    }

    async fn acquire_as(&self, ask: &Ask<'_>) -> Result<EndpointGuard<M>, EndpointsError<M::Error>> {
        let core = &*self.core;
        let asked = core.clock.now();
        // Mostly the first pick has a connection, and nothing else need be known.
        let mut past = None;
        if let Pick::Site(site) = core.pick(ask.key, ask.only, Avoid::NONE, asked) {
            let (progress, site) = (site.progress(), InFlight::begin(site));
            match site.pool.acquire_as(ask.at, ask.limit, None).await {
                Ok(guard) => return Ok(EndpointGuard::new(guard, site)),
                Err(denied) => past = Some(self.denied(self.begin(ask, asked), &site, progress, denied)?),
            }
        }
        let past = past.unwrap_or_else(|| self.begin(ask, asked));
        Box::pin(self.go_on(ask, past)).await
    }

    fn begin(&self, ask: &Ask<'_>, asked: Instant) -> Past<M::Error> {
        let limit = match ask.limit {
            Limit::Common => self.core.acquire_timeout,
            Limit::Own(limit) => limit,
        };
        let deadline = asked + limit;
        Past { asked, at: ask.at, deadline, avoid: Avoid::NONE, refusals: 0, moves: 0, waited: false, error: None }
    }

    /// After a first pick that came to nothing, or could not be made.
    async fn go_on(
        &self,
        ask: &Ask<'_>,
        mut past: Past<M::Error>,
    ) -> Result<EndpointGuard<M>, EndpointsError<M::Error>> {
        let core = &*self.core;
        loop {
            let mut published = pin!(core.published.notified());
            // Before the look: it may change in between.
            published.as_mut().enable();
            match core.pick(ask.key, ask.only, past.avoid, core.clock.now()) {
                Pick::Site(site) => {
                    let (progress, site) = (site.progress(), InFlight::begin(site));
                    match site.pool.acquire_as(ask.at, ask.limit, Some((past.asked, past.deadline))).await {
                        Ok(guard) => return Ok(EndpointGuard::new(guard, site)),
                        Err(denied) => past = self.denied(past, &site, progress, denied)?,
                    }
                    continue;
                }
                Pick::Closed => return Err(self.error(Refused::Closed, past)),
                Pick::Down if !past.waited => return Err(self.error(Refused::Down, past)),
                Pick::None | Pick::Down => {
                    // All have refused at once. One that is down may be up again before this caller's time is over.
                    let refused = past.error.as_ref().map(AcquireError::refused);
                    if let Some(refused) = refused.filter(|refused| *refused != Refused::Down) {
                        return Err(self.error(refused, past));
                    }
                    (past.avoid, past.refusals) = (Avoid::NONE, 0);
                }
            }
            past.waited = true;
            if timeout_at(core.clock.at(past.deadline), published).await.is_err() {
                return Err(self.error(Refused::TimedOut, past));
            }
        }
    }

    /// Notes that a pool has given nothing; an error if that is the end. `progress`: the endpoint's when it was picked.
    #[cold]
    fn denied(
        &self,
        mut past: Past<M::Error>,
        site: &Site<M>,
        progress: u32,
        denied: Denied<M::Error>,
    ) -> Result<Past<M::Error>, EndpointsError<M::Error>> {
        let Denied::Error(error) = denied else {
            // It is no member any more: the next look finds others.
            past.moves += 1;
            past.waited = true;
            self.core.moves.fetch_add(1, Ordering::Relaxed);
            return Ok(past);
        };
        let refused = error.refused();
        if refused == Refused::TimedOut && error.waited() >= STALLED && site.progress() == progress {
            site.watch.failed();
        }
        past.error = Some(error);
        past.avoid.add(site.id);
        past.refusals += 1;
        if refused == Refused::TimedOut || past.refusals >= REFUSALS_MAX {
            return Err(self.error(refused, past));
        }
        Ok(past)
    }

    #[cold]
    fn error(&self, refused: Refused, past: Past<M::Error>) -> EndpointsError<M::Error> {
        let waited = self.core.clock.now().since(past.asked);
        let error = past.error.or_else(|| self.core.failing(waited, past.at));
        EndpointsError::new(refused, waited, past.moves, error, self.snapshot())
    }
}

impl<M: Manager> fmt::Debug for EndpointPools<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EndpointPools").field(&self.snapshot()).finish()
    }
}
