//! Settings of one endpoint's permit.

use std::time::Duration;

/// Requests in flight at one endpoint, over all workers, and who may wait for a place.
#[derive(Clone, PartialEq, Debug)]
pub struct Params {
    /// Requests in flight. `None` = unlimited (the connection maximum still holds).
    pub max_requests: Option<u32>,
    /// Requests that may wait for a place at the endpoint; one more gets 503 `pool_queue_full`.
    pub queue: u32,
    /// How long a request waits before 503 `pool_wait_timeout`.
    pub queue_timeout: Duration,
}

impl Default for Params {
    fn default() -> Self {
        Self { max_requests: None, queue: 1_024, queue_timeout: Duration::from_secs(3) }
    }
}
