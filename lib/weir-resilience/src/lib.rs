//! Retries and their budget, passive ejection, deadlines.
#![forbid(unsafe_code)]

mod params;

pub use params::{OutlierParams, RetryParams, Timeouts};
