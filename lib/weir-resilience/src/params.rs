//! Settings of one cluster's resilience.

use std::time::Duration;

/// Retries on another endpoint.
#[derive(Clone, PartialEq, Debug)]
pub struct RetryParams {
    /// Attempts in all, the first included; 1 = never retry.
    pub attempts: u32,
    /// Retries may be at most this share of the requests (0.2 = 20 %), measured over ten seconds.
    pub budget: f64,
    /// Retries per second that are allowed whatever the share.
    pub min_per_second: u32,
    /// Request bodies up to this many bytes are held so that they can be sent again.
    pub body_buffer: u32,
}

impl Default for RetryParams {
    fn default() -> Self {
        Self { attempts: 3, budget: 0.2, min_per_second: 10, body_buffer: 16 * 1024 }
    }
}

/// Passive ejection of endpoints that fail requests.
#[derive(Clone, PartialEq, Debug)]
pub struct OutlierParams {
    /// Whether it is on.
    pub enabled: bool,
    /// Failures in a row (connect errors, resets, time-outs, malformed responses, 502/503/504) that eject.
    pub consecutive_failures: u32,
    /// First ejection; the n-th in a row lasts n times as long.
    pub base_ejection: Duration,
    /// Longest ejection.
    pub max_ejection: Duration,
    /// At most this share of the cluster is ejected at a time; at least one endpoint always stays,
    /// and one of two or three may always be ejected.
    pub max_ejected: f64,
}

impl Default for OutlierParams {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive_failures: 5,
            base_ejection: Duration::from_secs(10),
            max_ejection: Duration::from_mins(5),
            max_ejected: 0.5,
        }
    }
}

/// Time-outs towards the endpoints of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Until a connection is established.
    pub connect: Duration,
    /// From the request sent to the complete response head.
    pub response_head: Duration,
    /// Between two bytes of a body, in either direction; also of tunnels that carry data.
    pub idle: Duration,
    /// A tunnel (Upgrade, TCP) in which nothing moves for so long is closed.
    pub tunnel_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            response_head: Duration::from_secs(10),
            idle: Duration::from_mins(1),
            tunnel_idle: Duration::from_hours(1),
        }
    }
}
