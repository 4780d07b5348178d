//! The metrics of pools, for those that watch them: Prometheus text ([`Pools::exposition`]), and OTLP (feature `otlp`).
//!
//! Names and attributes are those of the OpenTelemetry semantic conventions for database connection pools (version 1.43.0, where they have
//! the stability *development*): `db.client.connection.*`, in Prometheus form `db_client_connection_*`, times in seconds. What the
//! conventions do not have is called `weir.client_pool.*`. Dashboards made for `HikariCP` are served by [`Hikari`].
//!
//! | metric | kind | attribute | what |
//! |---|---|---|---|
//! | `db.client.connection.count` | level | `db.client.connection.state`: `idle`, `used` | connections open |
//! | `db.client.connection.idle.max`, `.idle.min`, `.max` | level | – | as set |
//! | `db.client.connection.pending_requests` | level | – | callers in line |
//! | `db.client.connection.timeouts` | count | – | callers whose time ended |
//! | `db.client.connection.create_time`, `.wait_time`, `.use_time` | histogram, s | – | connects that succeeded; in line (again, if a connection turned out to be dead); from getting one to giving it back, what makes it ready included |
//! | `weir.client_pool.busy_time` | count, s | – | its rate is the mean number of connections in use |
//! | `weir.client_pool.closed` | count | `reason` | connections closed |
//! | `weir.client_pool.connects_failed` | count | – | connects that failed or were given up |
//! | `weir.client_pool.refused` | count | – | callers refused without their time having ended |
//! | `weir.client_pool.shed` | count | – | those of them whom admission control has refused |
//! | `weir.client_pool.leaks` | count | – | uses reported as possible leaks |
//! | `weir.client_pool.opening`, `.hung`, `.closing` | level | – | connects in flight, those of them that get no answer, closes in flight |
//! | `weir.client_pool.suspended` | level | – | 1 while callers are kept waiting |
//! | `weir.client_pool.standing` | level | `standing`: `warming`, `up`, `down`, `out` | of pools over endpoints: 1 at what has become of the endpoint |
//! | `weir.client_pool.ejections` | count | – | of pools over endpoints: how often it was left out because of its failures |
//!
//! Each has the attribute `db.client.connection.pool.name`. Histograms have the powers of two of nanoseconds from 2¹⁰ (1.024 µs) to 2³⁶
//! (68.7 s) as bounds; waiting that ended in vain is not in `wait_time`.
//!
//! ```
//! # use weir_pool::{Manager, Pool, metrics::{Hikari, Pools}};
//! # fn example<M: Manager>(orders: &Pool<M>, users: &Pool<M>) -> Result<(), weir_pool::metrics::NameTaken> {
//! let pools = Pools::new();
//! pools.add(orders)?;
//! pools.add(users)?;
//! // For each scrape:
//! let text = pools.exposition().hikari(Hikari::Micrometer).to_string();
//! # Ok(()) }
//! ```

mod family;
#[cfg(feature = "otlp")]
pub mod otlp;
mod text;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::endpoints::EndpointPools;
use crate::endpoints::control::{Core, SeatReading};
use crate::manager::Manager;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::stats::Stats;

pub use text::{CONTENT_TYPE, Exposition, Hikari};

/// Pools to be watched together. A handle: clones are the same. It keeps no pool alive; those that are gone are left out.
#[derive(Clone, Default)]
pub struct Pools {
    members: Arc<Members>,
    /// Counts the handles.
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only an export goes on without one"))]
    handle: Arc<()>,
}

/// What the handles share.
#[derive(Default)]
struct Members(Mutex<Vec<Member>>);

struct Member {
    name: Arc<str>,
    pool: Weak<dyn Observe>,
}

/// What is read of a pool or of several, whatever their connections are.
trait Observe: Send + Sync {
    fn read(&self) -> Vec<Reading>;
    fn is_closed(&self) -> bool;
}

/// A pool at one moment.
pub(crate) struct Reading {
    pub(crate) name: Arc<str>,
    /// When the pool began, in nanoseconds of Unix time.
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "Prometheus does not ask for it"))]
    pub(crate) began: u64,
    pub(crate) stats: Stats,
    pub(crate) now: Snapshot,
    pub(crate) min_idle: u32,
    /// If it is the pool of an endpoint.
    pub(crate) seat: Option<SeatReading>,
}

/// Another pool of this name is watched already: their metrics could not be told apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameTaken(Arc<str>);

impl fmt::Display for NameTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is a pool {:?} already; Builder::name gives each its own", self.0)
    }
}

impl std::error::Error for NameTaken {}

impl Pools {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches `pool`, until it is gone. Adding it twice changes nothing.
    ///
    /// # Errors
    /// If another pool of its name is watched that is not closed.
    pub fn add<M: Manager>(&self, pool: &Pool<M>) -> Result<(), NameTaken> {
        let weak: Weak<Shared<M>> = Arc::downgrade(&pool.shared);
        self.insert(&pool.shared.name, weak)
    }

    /// Watches the pools of all endpoints, those included that come later, until they are gone. Each is called
    /// `NAME/ENDPOINT`, with its address behind it where two endpoints have one name.
    ///
    /// # Errors
    /// As [`Pools::add`].
    pub fn add_endpoints<M: Manager>(&self, pools: &EndpointPools<M>) -> Result<(), NameTaken> {
        let weak: Weak<Core<M>> = Arc::downgrade(&pools.core);
        self.insert(pools.core.name(), weak)
    }

    fn insert(&self, name: &Arc<str>, pool: Weak<dyn Observe>) -> Result<(), NameTaken> {
        let mut members = self.members.lock();
        if let Some(other) = members.iter().find(|other| other.name == *name) {
            if other.pool.ptr_eq(&pool) {
                return Ok(());
            }
            if other.pool.upgrade().is_some_and(|other| !other.is_closed()) {
                return Err(NameTaken(Arc::clone(name)));
            }
        }
        members.retain(|other| other.name != *name);
        members.push(Member { name: Arc::clone(name), pool });
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// The text that Prometheus scrapes, as of now: one HELP and TYPE for each metric, with all pools. Its media type is
    /// [`CONTENT_TYPE`].
    pub fn exposition(&self) -> Exposition {
        Exposition::of(self.members.read())
    }

    /// How many are watched.
    pub fn len(&self) -> usize {
        self.members.lock().iter().filter(|member| member.pool.strong_count() > 0).count()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Members {
    /// All that are left, in the order of their names.
    fn read(&self) -> Vec<Reading> {
        let mut members = self.lock();
        members.retain(|member| member.pool.strong_count() > 0);
        let pools: Vec<_> = members.iter().filter_map(|member| member.pool.upgrade()).collect();
        // Not under the lock: the last reference of a pool may end here.
        drop(members);
        pools.into_iter().flat_map(|pool| pool.read()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Member>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members.lock().iter().map(|member| Arc::clone(&member.name))).finish()
    }
}

impl<M: Manager> Shared<M> {
    fn reading(&self, name: Arc<str>) -> Reading {
        let (stats, now) = (self.stats(), self.snapshot());
        let min_idle = self.lock().settings.min_idle.min(now.max_size);
        Reading { name, began: self.began, stats, now, min_idle, seat: None }
    }
}

impl<M: Manager> Observe for Shared<M> {
    fn read(&self) -> Vec<Reading> {
        vec![self.reading(Arc::clone(&self.name))]
    }

    fn is_closed(&self) -> bool {
        self.lock().broker.is_shut()
    }
}

impl<M: Manager> Observe for Core<M> {
    fn read(&self) -> Vec<Reading> {
        let seated = self.seated();
        let named = |name: &Arc<str>| seated.iter().filter(|(_, pool, _)| pool.shared.name == *name).count();
        let mut readings = Vec::with_capacity(seated.len());
        for (address, pool, seat) in &seated {
            let name = &pool.shared.name;
            let name = if named(name) > 1 { format!("{name} ({address})").into() } else { Arc::clone(name) };
            readings.push(Reading { seat: Some(*seat), ..pool.shared.reading(name) });
        }
        readings.sort_by(|a, b| a.name.cmp(&b.name));
        readings
    }

    fn is_closed(&self) -> bool {
        self.is_shut()
    }
}
