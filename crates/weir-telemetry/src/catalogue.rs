//! Every metric of Weir: one row each, with the function that reads its samples.
//!
//! Names follow the semantic conventions of OpenTelemetry where those are stable (`http_server_request_duration_seconds`
//! and so on, in the spelling of Prometheus), and `process_*` those of Prometheus' client libraries; all
//! others begin with `weir_`. Labels are bounded by the configuration (cluster, endpoint, worker) or by an
//! enumeration (class of status, reason, phase); nothing that a client sends becomes a label.
//!
//! To add a metric, add a row; the reference page follows (`UPDATE=1 cargo test -p weir-telemetry`).

mod budget;
mod endpoint;
mod process;
mod worker;

use std::fmt::{self, Write as _};

use prometheus_client::metrics::MetricType;

use crate::Sources;
use crate::render::Emit;

/// One metric.
#[derive(Clone, Copy)]
pub struct Metric {
    /// The name of its samples: with the unit, and with `_total` for a counter; histograms add `_bucket`,
    /// `_sum` and `_count`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// In what it is measured; `None` for plain numbers.
    pub unit: Option<Unit>,
    /// Label names.
    pub labels: &'static [&'static str],
    /// What it tells, in one sentence without a full stop.
    pub help: &'static str,
    /// The version that brought it.
    pub since: &'static str,
    pub(crate) read: fn(&Sources, &mut Emit<'_>) -> fmt::Result,
}

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts durations in buckets.
    Histogram,
}

/// In what a metric is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// All metrics, in the order of the exposition.
pub const METRICS: &[Metric] = &join();

const PARTS: [&[Metric]; 4] = [worker::ROWS, endpoint::ROWS, budget::ROWS, process::ROWS];

const fn count() -> usize {
    PARTS[0].len() + PARTS[1].len() + PARTS[2].len() + PARTS[3].len()
}

const fn join() -> [Metric; count()] {
    let mut all = [PARTS[0][0]; count()];
    let (mut part, mut next) = (0, 0);
    while part < PARTS.len() {
        let mut row = 0;
        while row < PARTS[part].len() {
            all[next] = PARTS[part][row];
            next += 1;
            row += 1;
        }
        part += 1;
    }
    all
}

// === impl Metric ===

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Metric {
    /// The name of the family in `OpenMetrics`: a counter's without `_total`.
    pub fn family(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        }
    }

    /// The family name without the unit.
    pub(crate) fn stem(&self) -> &'static str {
        let family = self.family();
        match self.unit {
            Some(unit) => family.strip_suffix(unit.as_str()).and_then(|stem| stem.strip_suffix('_')).unwrap_or(family),
            None => family,
        }
    }
}

impl Kind {
    /// The word in the exposition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    pub(crate) const fn open_metrics(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
        }
    }
}

impl Unit {
    /// The word in metric names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }
}

/// The reference page of all metrics.
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Served by the observation listener at `/metrics`, as Prometheus text 0.0.4 or, on request by\n\
         `Accept`, as OpenMetrics 1.0. This page is generated from the metric catalogue.\n\n\
         Histograms have the buckets (`le`, in seconds) ",
    );
    for le in crate::LE_MICROS {
        // Writing to a string does not fail.
        let _ = write!(page, "{}, ", f64::from(le) / 1e6);
    }
    page.push_str("+Inf.\n\n| name | kind | labels | what it tells | since |\n|---|---|---|---|---|\n");
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        let (name, kind) = (metric.name, metric.kind.as_str());
        let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {} | {} |", metric.help, metric.since);
    }
    page.push_str("\n## Label values\n\n");
    for (label, values) in label_values() {
        let _ = writeln!(page, "- `{label}`: {values}");
    }
    page
}

fn label_values() -> Vec<(&'static str, String)> {
    fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
        let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
        words.join(", ") + "."
    }
    vec![
        ("cluster", "name of a cluster in the configuration.".into()),
        ("endpoint", "name of an endpoint: the address as configured, or as resolved.".into()),
        ("budget", "name of a budget in the configuration.".into()),
        ("worker", "number of a worker thread, from 0.".into()),
        ("code", list(crate::STATUS_CLASSES.into_iter()) + " `none`: no response head was sent."),
        ("phase", list(weir_core::Phase::ALL.iter().map(|phase| phase.as_str()))),
        ("health", list(endpoint::HEALTH.iter().map(|health| health.as_str()))),
        ("state", list(endpoint::CONNECTION_STATES.into_iter())),
        ("event", list(crate::event::Kind::ALL.iter().map(|kind| kind.as_str()))),
        (
            "reason",
            format!(
                "of a request: {} Of a closed connection: {}",
                list(weir_core::Reason::ALL.iter().map(|reason| reason.as_str())),
                list(crate::CLOSE_REASONS.iter().map(|(_, label)| *label)),
            ),
        ),
    ]
}
