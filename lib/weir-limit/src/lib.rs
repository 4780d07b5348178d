//! Limits: permits for things in flight, shared by all workers, with a bounded FIFO of waiters.
#![forbid(unsafe_code)]

mod params;
mod permits;
mod shared_cap;

pub use params::Params;
pub use permits::{Cancel, Enqueued, Permits, Ticket};
pub use shared_cap::SharedCap;
