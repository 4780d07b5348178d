//! Limits: permits for things in flight, shared by all workers, with a bounded FIFO of waiters.
#![forbid(unsafe_code)]

mod params;

pub use params::Params;
