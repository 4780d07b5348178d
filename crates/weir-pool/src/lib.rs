#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod clock;
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

#[cfg(all(test, weir_loom))]
mod models;

pub use error::{AcquireError, Refused, StartError};
pub use guard::Guard;
pub use manager::{Manager, Release};
pub use pool::Pool;
pub use settings::{Builder, SIZE_MAX, SettingsError, TIMEOUT_MIN};
pub use snapshot::Snapshot;
pub use stats::Stats;
pub use weir_pool_core::{CloseReason, Histogram};
