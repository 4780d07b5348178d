//! The shared words of Weir: plain values that every other crate speaks in.
//!
//! Nothing here does I/O, reads a clock or allocates behind the caller's back. A type lives in this
//! crate only when at least two crates of a higher layer exchange it.
#![forbid(unsafe_code)]

mod address;
mod endpoint;
mod fault;
pub mod hash;
mod phase;
mod time;

pub use address::{Address, ParseAddressError};
pub use endpoint::{ClusterId, Endpoint, EndpointId, Health, Revision, Weight};
pub use fault::{EndCode, Fault, Origin, Reason, Retry};
pub use phase::{Phase, PhaseTimes};
pub use time::{Instant, WallTime};
