//! What the pool stands on where threads meet: the lock, the count of who shares it, and waiting. The standard library's and
//! tokio's; in the models (`--cfg weir_loom`) loom's, which tries every interleaving.
//!
//! What callers of several pools read is [`Published`]: an immutable value that is replaced as a whole.
//!
//! The name is not `loom`, because that would change tokio, too.

/// Decides nothing that is right or wrong: the models do not look at it.
pub(crate) use std::sync::atomic::AtomicBool as Guess;

#[cfg(not(weir_loom))]
mod real {
    pub(crate) use arc_swap::ArcSwap as Published;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64};
    pub(crate) use std::sync::{Arc as Counted, Mutex, MutexGuard};
    pub(crate) use tokio::runtime::Handle as Runtime;
    pub(crate) use tokio::spawn;
    pub(crate) use tokio::sync::Notify;
    pub(crate) use tokio::task::AbortHandle;
    pub(crate) use tokio::time::{sleep_until, timeout, timeout_at};
}
#[cfg(not(weir_loom))]
pub(crate) use real::*;

#[cfg(weir_loom)]
mod model;
#[cfg(weir_loom)]
pub(crate) use model::*;
