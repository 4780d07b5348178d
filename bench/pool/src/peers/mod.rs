//! The pools that are compared, behind one trait each for tasks and for threads.
//!
//! Every peer has its defaults except for: the size; checks of a connection before it is lent are off where that can be
//! said (bb8, mobc, sqlx, r2d2; deadpool asks its manager, which says yes; weir-pool and HikariCP check only what was idle for
//! half a second); and the time-out of an acquire is the same, 30 s, which is the default of most. deadpool has none by
//! default, and gets one only where the scenario asks for it.

pub mod bb8;
pub mod deadpool;
pub mod mobc;
pub mod r2d2;
pub mod sqlx;
pub mod weir;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::cell::{Raw, Spec};
use crate::scene::{Down, Spike};
use crate::world::{BlockingConn, Conn, World};
use crate::{Outcome, load, scene};

/// The peer that the others are compared with.
pub const OURS: &str = "weir";

/// What a peer's cells and scenes are run by.
#[derive(Clone, Copy, Debug)]
pub enum Runs {
    /// A Rust pool.
    Rust {
        /// A thread per task and not a task of tokio.
        threads: bool,
        /// A cell.
        cell: fn(&Spec) -> Outcome<Raw>,
        /// A spike.
        spike: fn(Duration) -> Outcome<Spike>,
        /// A database that does not answer.
        down: fn() -> Outcome<Down>,
    },
    /// A thread per task of a Java virtual machine.
    Java,
}

/// A pool that takes part.
#[derive(Debug)]
pub struct Peer {
    /// What it is called on the command line and in tables.
    pub name: &'static str,
    /// Its package in Cargo.lock.
    pub package: &'static str,
    /// What runs it.
    pub runs: Runs,
}

impl Peer {
    /// Whether its tasks are threads.
    pub fn has_threads(&self) -> bool {
        !matches!(self.runs, Runs::Rust { threads: false, .. })
    }
}

const fn tasks<P: AsyncPool>() -> Runs {
    Runs::Rust {
        threads: false,
        cell: load::run_async::<P>,
        spike: scene::spike_async::<P>,
        down: scene::down_async::<P>,
    }
}

const fn threads<P: BlockingPool>() -> Runs {
    Runs::Rust {
        threads: true,
        cell: load::run_threads::<P>,
        spike: scene::spike_threads::<P>,
        down: scene::down_threads::<P>,
    }
}

/// The pools, in the order of the tables.
pub const PEERS: &[Peer] = &[
    Peer { name: OURS, package: "weir-pool", runs: tasks::<weir::Weir>() },
    Peer { name: "bb8", package: "bb8", runs: tasks::<bb8::Bb8>() },
    Peer { name: "deadpool", package: "deadpool", runs: tasks::<deadpool::Deadpool>() },
    Peer { name: "mobc", package: "mobc", runs: tasks::<mobc::Mobc>() },
    Peer { name: "sqlx", package: "sqlx-core", runs: tasks::<sqlx::Sqlx>() },
    Peer { name: "r2d2", package: "r2d2", runs: threads::<r2d2::R2d2>() },
    Peer { name: "hikaricp", package: "libhikaricp-java", runs: Runs::Java },
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
    /// `None` is 30 s, and none at all where that is the peer's default.
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
