//! The machine under every pool of Weir: slots, idle connections, lifetimes, warm-up, trimming.
#![forbid(unsafe_code)]

mod params;
mod pool;
mod quota;

pub use params::Params;
pub use pool::{Acquire, CloseReason, ConnMeta, Pool, Released, SlotId, Stats};
pub use quota::Quota;
