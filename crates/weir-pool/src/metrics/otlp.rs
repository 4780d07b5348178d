//! Metrics sent as OTLP: protobuf over HTTP/1.1, as every collector takes it.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use weir_pool::metrics::{Pools, otlp::{Exporter, ExporterError}};
//! # async fn example(pools: &Pools) -> Result<(), ExporterError> {
//! let exporter = Exporter::builder("shop")
//!     .endpoint("http://127.0.0.1:4318/v1/metrics")
//!     .interval(Duration::from_secs(15))
//!     .start(pools)?;
//! // … before the process ends, once more:
//! exporter.stop(Duration::from_secs(2)).await;
//! # Ok(()) }
//! ```
//!
//! **Bounded.** Values are cumulative: each export says all that the one before did. So nothing is queued, and what failed is not kept: a
//! try after a pause (1 s, doubling up to 30 s and to the interval, each shortened by up to a half at random; or as `Retry-After` says)
//! sends the values of its moment.
//!
//! **Logged.** The first failure as WARN, then one line in five minutes with their number, and INFO when it works again.
//!
//! A connection is made for each export. There is no TLS: the receiver is a collector beside the process, as is usual; `https` is refused.

mod encode;
mod post;
mod wire;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Members, Pools, Reading};
use crate::clock::unix_nanos;
use post::{Again, Target};

const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Between two lines about failures.
const LOG_EVERY: Duration = Duration::from_mins(5);
/// Shortest interval and time-out that is taken.
const SHORTEST: Duration = Duration::from_millis(10);

/// An export that goes on until the pools are gone and no further one can be added (the last handle of [`Pools`] is gone), until
/// [`Exporter::stop`], or until its runtime ends. Dropping this handle does not end it.
#[derive(Debug)]
pub struct Exporter {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Settings of an export. Nothing is repaired: what makes no sense is an error of [`ExporterBuilder::start`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ExporterBuilder {
    endpoint: String,
    interval: Duration,
    timeout: Duration,
    resource: Vec<(String, String)>,
    headers: Vec<(String, String)>,
}

/// A setting that makes no sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExporterError {
    setting: &'static str,
    problem: String,
}

impl fmt::Display for ExporterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

impl std::error::Error for ExporterError {}

impl Exporter {
    /// An export of the metrics of the service called so (`service.name`).
    pub fn builder(service_name: impl Into<String>) -> ExporterBuilder {
        ExporterBuilder {
            endpoint: "http://127.0.0.1:4318/v1/metrics".to_owned(),
            interval: Duration::from_mins(1),
            timeout: Duration::from_secs(10),
            resource: vec![("service.name".to_owned(), service_name.into())],
            headers: Vec::new(),
        }
    }

    /// Ends it with one last export, and returns when that has come to its end: well, not, or because `limit` is over.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the last export to itself.
    pub async fn stop(mut self, limit: Duration) {
        if self.stop.send(()).is_ok() && timeout(limit, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl ExporterBuilder {
    /// Where to, the path included: `http://HOST:PORT/v1/metrics`. Default: port 4318 of this machine.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = endpoint.into();
        self
    }

    /// Between two exports; default 60 s. The first one is after this.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long one export may take, with its connect; default 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A further attribute of the resource, `service.instance.id` say. The last of one key counts.
    pub fn resource(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let key = key.into();
        self.resource.retain(|(other, _)| *other != key);
        self.resource.push((key, value.into()));
        self
    }

    /// A further header of the requests, `authorization` say.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Begins to export the metrics of `pools`, those included that are added later.
    ///
    /// # Errors
    /// If a setting makes no sense.
    ///
    /// # Panics
    /// Outside a tokio runtime with its timers and sockets enabled.
    pub fn start(self, pools: &Pools) -> Result<Exporter, ExporterError> {
        let target = self.target()?;
        for (setting, value) in [("interval", self.interval), ("timeout", self.timeout)] {
            if value < SHORTEST {
                return Err(ExporterError { setting, problem: format!("{value:?} is shorter than {SHORTEST:?}") });
            }
        }
        let (stop, stopped) = oneshot::channel();
        let export = Export {
            target,
            pools: Arc::clone(&pools.members),
            handles: Arc::downgrade(&pools.handle),
            settings: self,
            failures: 0,
            in_a_row: 0,
            told: None,
        };
        Ok(Exporter { stop, task: tokio::spawn(export.run(stopped)) })
    }

    fn target(&self) -> Result<Target, ExporterError> {
        let refuse = |setting, problem: String| Err(ExporterError { setting, problem });
        let uri: Uri = match self.endpoint.parse() {
            Ok(uri) => uri,
            Err(error) => return refuse("endpoint", format!("{:?} is no address: {error}", self.endpoint)),
        };
        if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
            let problem =
                format!("{:?} is not http://HOST:PORT/PATH (a collector beside the process; no TLS)", self.endpoint);
            return refuse("endpoint", problem);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
            // The value may be a secret.
            let Some((name, value)) = parsed else { return refuse("header", format!("{name:?} is no header")) };
            headers.insert(name, value);
        }
        Ok(Target { uri, headers })
    }
}

struct Export {
    target: Target,
    pools: Arc<Members>,
    /// Those who can add further pools.
    handles: Weak<()>,
    settings: ExporterBuilder,
    /// Since the last line about them.
    failures: u64,
    in_a_row: u32,
    /// When the last line about failures was written.
    told: Option<Instant>,
}

impl Export {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        // Whoever only drops the handle does not stop it.
        let mut detached = false;
        let mut due = Instant::now() + self.settings.interval;
        loop {
            let stop = tokio::select! {
                () = sleep_until(due) => false,
                stop = &mut stopped, if !detached => {
                    detached = stop.is_err();
                    if detached {
                        continue;
                    }
                    true
                }
            };
            let pools = self.pools.read();
            if pools.is_empty() && self.handles.strong_count() == 0 {
                return;
            }
            let pause = self.export(pools).await;
            if stop {
                return;
            }
            due = Instant::now() + pause;
        }
    }

    /// Sends what there is; returns when to do it again.
    async fn export(&mut self, pools: Vec<Reading>) -> Duration {
        let interval = self.settings.interval;
        if pools.is_empty() {
            return interval;
        }
        let body = encode::request(&pools, &self.settings.resource, unix_nanos()).encode_to_vec();
        drop(pools);
        match self.target.post(body, self.settings.timeout).await {
            Ok(taken) => {
                if self.in_a_row > 0 {
                    tracing::info!(
                        endpoint = self.settings.endpoint,
                        failures = self.in_a_row,
                        "metrics are taken again"
                    );
                }
                self.in_a_row = 0;
                match taken {
                    None => self.told = None,
                    Some((points, why)) => self.warn(&format!("{points} values were rejected: {why}")),
                }
                interval
            }
            Err(failure) => {
                self.warn(&failure.why);
                self.in_a_row = self.in_a_row.saturating_add(1);
                match failure.again {
                    Again::Never => interval,
                    // Not more often than the receiver wants, however short the interval is.
                    Again::After(pause) => pause.min(BACKOFF_MAX.max(interval)),
                    Again::Soon => backoff(self.in_a_row).min(interval),
                }
            }
        }
    }

    fn warn(&mut self, why: &str) {
        self.failures += 1;
        if self.told.is_some_and(|told| told.elapsed() < LOG_EVERY) {
            return;
        }
        tracing::warn!(endpoint = self.settings.endpoint, failures = self.failures, why, "metrics are not taken");
        (self.failures, self.told) = (0, Some(Instant::now()));
    }
}

fn backoff(in_a_row: u32) -> Duration {
    let pause = BACKOFF.saturating_mul(1 << in_a_row.saturating_sub(1).min(16)).min(BACKOFF_MAX);
    // Processes that a receiver has failed together come back one after the other.
    let draw = RandomState::new().hash_one(in_a_row) >> 32;
    pause.mul_f64(1.0 - draw as f64 / f64::from(u32::MAX) / 2.0)
}
