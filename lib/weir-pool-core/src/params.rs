//! Settings of one pool.

use std::time::Duration;

/// How connections of one endpoint are kept. Maxima are over all workers.
#[derive(Clone, PartialEq, Debug)]
pub struct Params {
    /// Idle connections kept beyond what the recent peak needs.
    pub max_idle: u32,
    /// Connections opened ahead of demand and kept open, exempt from `idle_timeout`; `max_lifetime` and `max_uses` hold
    /// for them too.
    pub min_idle: u32,
    /// An idle connection beyond `min_idle` is closed after this.
    pub idle_timeout: Duration,
    /// A connection is not used again after this, ± `lifetime_jitter`. `None` = unlimited.
    pub max_lifetime: Option<Duration>,
    /// 0.0 to 0.5: each connection's lifetime is drawn from `max_lifetime × (1 − jitter … 1)`.
    pub lifetime_jitter: f64,
    /// A connection is closed after this many uses. `None` = unlimited.
    pub max_uses: Option<u32>,
    /// Connections, idle ones included. `None` = derived from the file-descriptor limit.
    pub max_connections: Option<u32>,
    /// The housekeeper trims against the highest use within this window.
    pub peak_window: Duration,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            max_idle: 100,
            min_idle: 0,
            idle_timeout: Duration::from_secs(90),
            max_lifetime: None,
            lifetime_jitter: 0.1,
            max_uses: None,
            max_connections: None,
            peak_window: Duration::from_secs(10),
        }
    }
}
