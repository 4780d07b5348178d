#![doc = include_str!("../README.md")]
#![cfg_attr(
    weir_loom,
    allow(dead_code, unused_imports, reason = "the models have no budgets, and use what they need of the rest")
)]

mod adaptive;
mod borrowers;
mod budget;
mod changing;
mod clock;
mod endpoints;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod guard;
mod housekeeper;
mod lend;
mod lock;
mod log;
mod manager;
#[cfg(any(feature = "http1", feature = "mysql", feature = "postgres", feature = "redis", feature = "tcp"))]
pub mod managers;
#[cfg(not(weir_loom))]
pub mod metrics;
mod pace;
mod pool;
#[cfg(feature = "tower")]
mod service;
mod settings;
mod shared;
mod shortcut;
mod snapshot;
mod stats;
mod sync;
mod wait;
mod watch;
mod window;
#[cfg(any(feature = "budget", feature = "redis"))]
mod words;

#[cfg(all(test, weir_loom))]
mod models;

pub use adaptive::Adaptive;
pub use borrowers::Borrower;
pub use budget::Budget;
#[cfg(feature = "budget")]
pub use budget::RemoteBudget;
pub use endpoints::{
    DuplicateEndpoint, EndpointGuard, EndpointPools, EndpointSnapshot, EndpointsBuilder, EndpointsError,
    EndpointsSnapshot,
};
pub use error::{AcquireError, Refused, StartError};
pub use guard::Guard;
pub use manager::{Manager, Release};
pub use pool::Pool;
#[cfg(feature = "tower")]
pub use service::{Lending, PoolService};
pub use settings::{Builder, SIZE_MAX, SettingsError, TIMEOUT_MIN};
pub use snapshot::Snapshot;
pub use stats::Stats;
/// How endpoints are picked.
pub use weir_balance::{Algorithm, Params as BalanceParams};
pub use weir_core::{Address, Endpoint, Weight};
pub use weir_pool_core::Standing;
pub use weir_pool_core::explain::Finding;
pub use weir_pool_core::{AdmissionParams as Admission, CloseReason, Histogram, Proposal, SizeReason};
/// When an endpoint of several is left out because of its failures.
pub use weir_resilience::OutlierParams;
pub use window::{Explanation, Load};
