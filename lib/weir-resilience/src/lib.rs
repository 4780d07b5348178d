//! Retries and their budget, passive ejection, deadlines.
#![forbid(unsafe_code)]

mod backoff;
mod budget;
pub mod outlier;
mod params;
mod retry;

pub use backoff::Backoff;
pub use budget::RetryBudget;
pub use params::{OutlierParams, RetryParams, Timeouts};
pub use retry::{Attempt, BodyState, retry_decision};
