#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod keep_alive;
mod params;
mod peak;
mod pool;
mod quota;
mod slot;

pub use keep_alive::FORGET_AFTER;
pub use params::Params;
pub use pool::{Acquire, Pool, Released, SLOTS_MAX, Stats, TRIM_DIVISOR, TRIM_INTERVAL, WARM_RETRY};
pub use quota::{LocalQuota, Quota, share};
pub use slot::{CloseReason, ConnMeta, SlotId};
