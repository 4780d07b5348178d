#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod admission;
mod broker;
pub mod budget;
pub mod explain;
mod histogram;
mod human;
mod keep_alive;
mod opener;
mod params;
mod peak;
mod pool;
mod quota;
mod roster;
mod shares;
mod sizer;
pub mod sizing;
mod slot;
mod waiters;

pub use admission::{Admission, AdmissionParams, Line};
pub use broker::{Acquired, Broker, BrokerParams, BrokerStats, Lent, Loan, Refusal, Todo, Uses};
pub use histogram::{BUCKETS, Histogram, SUB};
pub use human::HumanTime;
pub use keep_alive::FORGET_AFTER;
pub use opener::{Demand, OpenParams, Opener, PATIENCE_FACTOR, PATIENCE_MIN, PATIENCE_UNKNOWN, STEP_MAX, STEP_MIN};
pub use params::Params;
pub use pool::{Acquire, Pool, Released, SLOTS_MAX, Stats, TRIM_DIVISOR, TRIM_INTERVAL, WARM_RETRY};
pub use quota::{LocalQuota, Quota, share};
pub use roster::{Evidence, Output, Roster, RosterParams, Seat, Standing};
pub use shares::{Claim, Order, Share, Shares, divide};
pub use sizer::{Interval, Proposal, SizeReason, Sizer, SizerParams};
pub use slot::{CloseReason, ConnMeta, SlotId};
pub use waiters::{Left, Ticket, WAITERS_MAX, Waiters};
