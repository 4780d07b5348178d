//! Active health checks: when to probe, and what the answers say.
#![forbid(unsafe_code)]

mod params;

pub use params::{HttpProbe, Params, StatusRange};
