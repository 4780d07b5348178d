//! What Weir tells about itself: counters, histograms, the metric catalogue, the access log and events.
//!
//! Two sides meet here. The hot side is written by the workers: each has a [`WorkerStats`] and one
//! [`EndpointShard`] per endpoint of its own, so an increment is a plain load and store on a cache line
//! that no other thread writes. The cold side reads them when somebody asks: [`render`] for Prometheus,
//! [`ClusterView`] for JSON.
//!
//! Invariants: nothing on the hot side allocates, locks or blocks; every metric has one row in
//! [`catalogue`]; a log line and a counter that speak of the same happening come from one struct in [`event`].
#![forbid(unsafe_code)]

pub mod access_log;
pub mod catalogue;
mod counter;
mod endpoint;
pub mod event;
mod histogram;
mod logging;
mod process;
mod record;
mod render;
mod view;
mod worker;

pub use access_log::{AccessLog, AccessLogWriter};
pub use counter::{ByReason, ByStatus, Counter, Gauge, STATUS_CLASSES};
pub use endpoint::{EndpointShard, EndpointStats};
pub use histogram::{Histogram, LE_MICROS, Snapshot};
pub use logging::{LogFormat, LoggingError, init_logging, init_logging_into};
pub use process::ProcessStats;
pub use record::{Ended, Protocol, Record};
pub use render::{BuildInfo, Exposition, Sources, render};
pub use view::{BudgetMemberView, BudgetView, ClusterView, EndpointView, LatencyView};
pub use worker::{CLOSE_REASONS, CloseReason, WorkerStats};
