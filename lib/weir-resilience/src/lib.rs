#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backoff;
mod budget;
mod consecutive;
pub mod outlier;
mod params;
mod retry;

pub use backoff::Backoff;
pub use budget::{RetryBudget, WINDOW_SECONDS};
pub use params::{OutlierParams, RetryParams, Timeouts};
pub use retry::{Attempt, BodyState, retry_decision};
