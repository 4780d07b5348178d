//! What a cluster's configuration says about health.

use std::sync::Arc;
use std::time::Duration;

/// Active checks of one cluster.
#[derive(Clone, PartialEq, Debug)]
pub struct Params {
    /// Whether probes are sent at all.
    pub enabled: bool,
    /// Between two probes of a settled endpoint.
    pub interval: Duration,
    /// Between two probes while the state is changing (some, not yet enough, answers the other way), and of an
    /// endpoint that has never been up, for [`NEWCOMER_PERIOD`](crate::NEWCOMER_PERIOD).
    pub fast_interval: Duration,
    /// A probe without an answer for so long has failed.
    pub timeout: Duration,
    /// Successes in a row that bring an endpoint up.
    pub rise: u32,
    /// Failures in a row that take an endpoint down.
    pub fall: u32,
    /// Each interval is drawn from `interval × (1 ± jitter)`, 0.0 to 0.5.
    pub jitter: f64,
    /// The request to send; `None` = a TCP connection that is accepted is enough.
    pub http: Option<HttpProbe>,
}

/// An HTTP probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpProbe {
    /// Request method: GET or HEAD.
    pub method: Arc<str>,
    /// Origin-form target, default `/health`.
    pub path: Arc<str>,
    /// `Host` field; `None` = the endpoint's address.
    pub host: Option<Arc<str>>,
    /// Further request fields.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// Statuses that count as success; default 200 only.
    pub status: Vec<StatusRange>,
    /// This text must occur within the first 64 KiB of the body.
    pub body_contains: Option<Arc<str>>,
    /// Each of these response fields must be present and contain the text.
    pub expect_headers: Vec<(Arc<str>, Arc<str>)>,
}

/// An inclusive range of HTTP statuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusRange {
    /// Lowest.
    pub first: u16,
    /// Highest.
    pub last: u16,
}

impl StatusRange {
    /// Whether `status` is within.
    pub const fn contains(self, status: u16) -> bool {
        self.first <= status && status <= self.last
    }
}

impl Default for Params {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(10),
            fast_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            jitter: 0.1,
            http: None,
        }
    }
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self {
            method: Arc::from("GET"),
            path: Arc::from("/health"),
            host: None,
            headers: Vec::new(),
            status: vec![StatusRange { first: 200, last: 200 }],
            body_contains: None,
            expect_headers: Vec::new(),
        }
    }
}
