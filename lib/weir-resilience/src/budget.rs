//! The retry budget.
#![allow(unused_variables, clippy::unimplemented)]
use crate::RetryParams;
use weir_core::Instant;

/// Bounds the share of retries; shared by all workers.
pub struct RetryBudget {
    _shards: Box<[u64]>,
}

impl RetryBudget {
    /// A budget for `workers` workers.
    pub fn new(params: &RetryParams, workers: usize) -> Self {
        unimplemented!()
    }
    /// Counts a request (first attempts only) on the shard of `worker` (any number).
    pub fn deposit(&self, worker: usize, now: Instant) {
        unimplemented!()
    }
    /// Takes the right to one retry, if the budget has one.
    #[must_use]
    pub fn try_withdraw(&self, now: Instant) -> bool {
        unimplemented!()
    }
    /// Changes the settings.
    pub fn set_params(&self, params: &RetryParams) {
        unimplemented!()
    }
}
