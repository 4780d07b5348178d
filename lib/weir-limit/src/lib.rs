#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod params;
mod permits;
mod shared_cap;
mod sync;

pub use params::Params;
pub use permits::{Cancel, Enqueued, PERMITS_MAX, Permits, Ticket};
pub use shared_cap::SharedCap;
