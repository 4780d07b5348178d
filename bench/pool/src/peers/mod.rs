//! The pools that are compared, behind one trait each for tasks and for threads.
//!
//! Every peer has its defaults except for: the size; checks of a connection before it is lent are off where that can be
//! said (bb8, mobc, sqlx, r2d2; deadpool asks its manager, which says yes; weir-pool and HikariCP check only what was idle for
//! half a second); and the time-out of an acquire is the same, 30 s, which is the default of most. deadpool has none by
//! default, and gets one only where the scenario asks for it.

mod bb8;
mod deadpool;
mod mobc;
mod r2d2;
mod sqlx;
mod weir;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use bb8::Bb8;
pub use deadpool::Deadpool;
pub use mobc::Mobc;
pub use r2d2::R2d2;
pub use sqlx::Sqlx;
pub use weir::Weir;

use crate::Outcome;
use crate::world::{BlockingConn, Conn, World};

/// The peer that the others are compared with.
pub const OURS: &str = "weir";

/// What runs the tasks of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Two workers of tokio.
    Tokio,
    /// A thread per task.
    Threads,
    /// A thread per task of a Java virtual machine.
    Java,
}

/// A pool that takes part.
#[derive(Debug)]
pub struct Peer {
    /// What it is called on the command line and in tables.
    pub name: &'static str,
    /// What runs it.
    pub kind: Kind,
    /// Its package in Cargo.lock; none for HikariCP.
    pub package: Option<&'static str>,
}

/// The pools, in the order of the tables.
pub const PEERS: &[Peer] = &[
    Peer { name: OURS, kind: Kind::Tokio, package: Some("weir-pool") },
    Peer { name: "bb8", kind: Kind::Tokio, package: Some("bb8") },
    Peer { name: "deadpool", kind: Kind::Tokio, package: Some("deadpool") },
    Peer { name: "mobc", kind: Kind::Tokio, package: Some("mobc") },
    Peer { name: "sqlx", kind: Kind::Tokio, package: Some("sqlx-core") },
    Peer { name: "r2d2", kind: Kind::Threads, package: Some("r2d2") },
    Peer { name: "hikaricp", kind: Kind::Java, package: None },
];

/// The row of a name.
///
/// # Errors
/// If there is none.
pub fn peer(name: &str) -> Outcome<&'static Peer> {
    let names = || PEERS.iter().map(|peer| peer.name).collect::<Vec<_>>().join(" ");
    PEERS
        .iter()
        .find(|peer| peer.name == name)
        .ok_or_else(|| format!("there is no peer {name:?}; there are: {}", names()))
}

/// Time-out of an acquire where the scenario has no other.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// How a pool is set up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at most.
    pub size: u32,
    /// Connections to keep open ahead of demand; `None` is the peer's default.
    pub min_idle: Option<u32>,
    /// `None` is [`ACQUIRE_TIMEOUT`], and none at all where that is the peer's default.
    pub acquire_timeout: Option<Duration>,
}

impl Limits {
    fn acquire_timeout(self) -> Duration {
        self.acquire_timeout.unwrap_or(ACQUIRE_TIMEOUT)
    }
}

/// A pool of tasks.
pub trait AsyncPool: Clone + Send + Sync + 'static {
    /// A connection in use; dropping it gives it back.
    type Guard<'a>: Send
    where
        Self: 'a;

    /// Starts a pool.
    fn build(world: Arc<World>, limits: Limits) -> impl Future<Output = Outcome<Self>> + Send;

    /// A connection.
    fn acquire(&self) -> impl Future<Output = Outcome<Self::Guard<'_>>> + Send;

    /// What the guard guards.
    fn conn<'a>(guard: &'a mut Self::Guard<'_>) -> &'a mut Conn;
}

/// A pool of threads.
pub trait BlockingPool: Clone + Send + Sync + 'static {
    /// A connection in use; dropping it gives it back.
    type Guard: Send;

    /// Starts a pool.
    ///
    /// # Errors
    /// With the peer's.
    fn build(world: Arc<World>, limits: Limits) -> Outcome<Self>;

    /// A connection.
    ///
    /// # Errors
    /// With the peer's.
    fn acquire(&self) -> Outcome<Self::Guard>;

    /// What the guard guards.
    fn conn(guard: &mut Self::Guard) -> &mut BlockingConn;
}
