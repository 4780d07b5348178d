//! Pools that share a number of server connections: those of one process, or of many.
//!
//! A pool under a budget opens no more connections than its share, which follows the load of all pools under it; its `max_size` is the
//! upper bound. It starts with nothing and is granted its first share at once if some of the budget is free. The machines are in
//! `weir_pool_core::budget`; here are the tasks that look at the pools, ask, and apply what is granted.
//!
//! What is counted is what is open, being opened and being closed (the places that the pool's machine has taken), read under the
//! pool's lock together with the change of its limit: a share that was taken back counts until the connections are gone.
//! A connection taken out of its pool ([`Guard::detach`](crate::Guard::detach)) counts no more.

#[cfg(feature = "budget")]
pub(crate) mod client;
mod local;
#[cfg(feature = "budget")]
mod remote;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use weir_pool_core::budget::Amount;

use crate::manager::Manager;
use crate::shared::Shared;

use local::Local;
#[cfg(feature = "budget")]
pub use remote::RemoteBudget;

/// Between two looks at a pool.
const LOOK: Duration = Duration::from_millis(50);
/// … while connections are on their way from one to another.
const LOOK_SOON: Duration = Duration::from_millis(10);

/// A number of connections that pools share. A handle: clones are the same budget.
///
/// ```
/// use weir_pool::{Budget, Pool};
/// # struct Echo;
/// # impl weir_pool::Manager for Echo {
/// #     type Connection = ();
/// #     type Error = std::convert::Infallible;
/// #     async fn connect(&self) -> Result<(), Self::Error> { Ok(()) }
/// #     async fn check(&self, _: &mut ()) -> Result<(), Self::Error> { Ok(()) }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // 40 connections for two pools of this process.
/// let budget = Budget::local(40)?;
/// let orders = Pool::<Echo>::builder().name("orders").max_size(40).budget(&budget).build(Echo)?;
/// let reports = Pool::<Echo>::builder().name("reports").max_size(10).budget(&budget).budget_floor(2).build(Echo)?;
/// # let _ = (orders, reports);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Budget(Source);

#[derive(Clone)]
enum Source {
    Local(Arc<Local>),
    #[cfg(feature = "budget")]
    Remote(Arc<RemoteBudget>),
}

/// How a pool takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) floor: u32,
    pub(crate) weight: u32,
}

/// What a budget must know of a pool.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Open, being opened, being closed.
    open: u32,
    busy: u32,
    waiting: u32,
    /// For how long connections have been in use until now, all of them added up.
    busy_nanos: u64,
    /// How long a connection is held on average; zero if unknown.
    hold: Duration,
    /// What it can use at most.
    max: u32,
    part: Part,
    /// It is closed and empty.
    over: bool,
}

impl Load {
    /// One connection, if anybody wants one now.
    fn least(&self) -> Amount {
        Amount::whole(self.busy.saturating_add(self.waiting).min(1))
    }
}

/// A pool, whatever its connections are.
trait Governed: Send + Sync {
    fn load(&self) -> Load;
    /// Sets the share. Returns the connections that are open, being opened or being closed then; it does not rise above the larger
    /// of the two afterwards.
    fn limit(&self, share: u32) -> u32;
    #[cfg_attr(not(feature = "budget"), allow(dead_code, reason = "only a remote grantor is told"))]
    fn name(&self) -> Arc<str>;
}

impl Budget {
    /// `connections` for the pools of this process that are built with it. No server is needed.
    ///
    /// # Errors
    /// If it is 0 or above [`CONNECTIONS_MAX`](weir_pool_core::budget::CONNECTIONS_MAX).
    pub fn local(connections: u32) -> Result<Self, crate::SettingsError> {
        Local::new(connections).map(|local| Self(Source::Local(Arc::new(local))))
    }

    /// Starts to govern a pool that has no share yet. Within a tokio runtime.
    #[cfg(not(weir_loom))]
    pub(crate) fn govern<M: Manager>(&self, shared: &Arc<Shared<M>>) {
        let pool = Arc::downgrade(shared) as Weak<dyn Governed>;
        match &self.0 {
            Source::Local(local) => {
                local.join(pool.clone());
                tokio::spawn(local::keep(Arc::clone(local), pool));
            }
            #[cfg(feature = "budget")]
            Source::Remote(remote) => {
                tokio::spawn(remote::keep(Arc::clone(remote), pool));
            }
        }
    }
}

#[cfg(feature = "budget")]
impl From<RemoteBudget> for Budget {
    fn from(remote: RemoteBudget) -> Self {
        Self(Source::Remote(Arc::new(remote)))
    }
}

/// Equal if they are the same budget.
impl PartialEq for Budget {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::Local(one), Source::Local(two)) => Arc::ptr_eq(one, two),
            #[cfg(feature = "budget")]
            (Source::Remote(one), Source::Remote(two)) => Arc::ptr_eq(one, two),
            #[cfg(feature = "budget")]
            _ => false,
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Local(local) => local.fmt(f),
            #[cfg(feature = "budget")]
            Source::Remote(remote) => remote.fmt(f),
        }
    }
}

#[cfg(not(weir_loom))]
impl<M: Manager> Governed for Shared<M> {
    fn load(&self) -> Load {
        let now = self.clock.now();
        let state = self.lock();
        let stats = state.broker.stats(now);
        Load {
            open: weir_pool_core::Quota::granted(state.broker.quota()),
            busy: stats.pool.busy,
            waiting: stats.waiting,
            busy_nanos: stats.busy_nanos,
            // Uses that never end say it by their age.
            hold: stats.hold.max(stats.age),
            max: state.settings.max_size,
            part: state.settings.part(state.endpoint_weight),
            over: state.broker.is_shut() && state.broker.is_empty(),
        }
    }

    fn limit(&self, share: u32) -> u32 {
        self.update(|state, now, _| {
            if state.share != Some(share) {
                state.share = Some(share);
                state.apply_size(now);
            }
            weir_pool_core::Quota::granted(state.broker.quota())
        })
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(&self.lock().settings.name)
    }
}
