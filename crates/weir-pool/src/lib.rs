#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod adaptive;
mod clock;
mod endpoints;
mod error;
mod guard;
mod housekeeper;
mod manager;
mod pool;
mod settings;
mod shared;
mod snapshot;
mod stats;
mod sync;
mod wait;

pub use adaptive::Adaptive;
pub use endpoints::{
    DuplicateEndpoint, EndpointGuard, EndpointPools, EndpointSnapshot, EndpointsBuilder, EndpointsError,
    EndpointsSnapshot,
};
pub use error::{AcquireError, Refused, StartError};
pub use guard::Guard;
pub use manager::{Manager, Release};
pub use pool::Pool;
pub use settings::{Builder, SIZE_MAX, SettingsError, TIMEOUT_MIN};
pub use snapshot::Snapshot;
pub use stats::Stats;
/// How endpoints are picked.
pub use weir_balance::{Algorithm, Params as BalanceParams};
pub use weir_core::{Address, Endpoint, Weight};
pub use weir_pool_core::Standing;
pub use weir_pool_core::{AdmissionParams as Admission, CloseReason, Histogram, Proposal, SizeReason};
