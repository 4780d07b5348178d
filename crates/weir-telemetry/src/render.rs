//! Writes the catalogue's metrics in the two text formats that Prometheus reads.
//!
//! `prometheus-client` encodes `OpenMetrics` 1.0. The older format (0.0.4), which every scraper reads, is the
//! same but for the metadata lines: a counter's carry the `_total` of its samples, and `# UNIT` and
//! `# EOF` do not exist. [`classic`] rewrites those lines.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::registry::{Registry, Unit};

use crate::catalogue::{self, Kind, METRICS, Metric};
use crate::{AccessLog, BudgetView, ClusterView, LE_MICROS, ProcessStats, Snapshot, WorkerStats};

/// Everything that one scrape reads.
#[derive(Debug)]
pub struct Sources {
    /// All workers, in order.
    pub workers: Vec<Arc<WorkerStats>>,
    /// All clusters.
    pub clusters: Vec<ClusterView>,
    /// All budgets that this process grants.
    pub budgets: Vec<BudgetView>,
    /// The process ([`ProcessStats::read`]).
    pub process: ProcessStats,
    /// Which build this is.
    pub build: BuildInfo,
    /// The access log, unless switched off.
    pub access_log: Option<AccessLog>,
    /// The number of the configuration in effect, counted from 1.
    pub config_revision: u64,
    /// Whether new traffic is welcome (as `/ready` says).
    pub ready: bool,
}

/// Which build is running.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct BuildInfo {
    /// Version, such as `0.1.0`.
    pub version: &'static str,
    /// Commit it was built from, or `unknown`.
    pub commit: &'static str,
}

/// A text format for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exposition {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics of `sources` as text.
pub fn render(sources: Sources, format: Exposition) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(sources)));
    let mut out = String::with_capacity(64 * 1_024);
    // Writing to a string does not fail, and nothing else in the encoder does.
    let written = text::encode(&mut out, &registry);
    debug_assert!(written.is_ok());
    match format {
        Exposition::OpenMetrics => out,
        Exposition::Prometheus => classic(&out),
    }
}

#[derive(Debug)]
struct Scrape(Sources);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let unit = metric.unit.map(|unit| match unit {
                catalogue::Unit::Seconds => Unit::Seconds,
                catalogue::Unit::Bytes => Unit::Bytes,
            });
            let encoder =
                encoder.encode_descriptor(metric.stem(), metric.help, unit.as_ref(), metric.kind.open_metrics())?;
            (metric.read)(&self.0, &mut Emit { metric, encoder })?;
        }
        Ok(())
    }
}

/// Takes the samples of one metric.
pub(crate) struct Emit<'a> {
    metric: &'static Metric,
    encoder: MetricEncoder<'a>,
}

impl Emit<'_> {
    /// One sample of a counter or gauge. `labels` are the values for the labels of the metric's row.
    pub(crate) fn int(&mut self, labels: &[&str], value: u64) -> fmt::Result {
        self.sample(labels, |kind, encoder| match kind {
            Kind::Counter => encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None),
            Kind::Gauge => encoder.encode_gauge(&value),
            Kind::Histogram => Err(fmt::Error),
        })
    }

    /// As [`Emit::int`], with a fraction.
    pub(crate) fn float(&mut self, labels: &[&str], value: f64) -> fmt::Result {
        self.sample(labels, |kind, encoder| match kind {
            Kind::Counter => encoder.encode_counter::<NoLabelSet, f64, f64>(&value, None),
            Kind::Gauge => encoder.encode_gauge(&value),
            Kind::Histogram => Err(fmt::Error),
        })
    }

    /// A whole histogram.
    pub(crate) fn histogram(&mut self, labels: &[&str], snapshot: &Snapshot) -> fmt::Result {
        let bounds = LE_MICROS.iter().map(|le| f64::from(*le) / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(snapshot.le_counts().iter().copied()).collect();
        let sum = snapshot.sum_us() as f64 / 1e6;
        self.sample(labels, |kind, encoder| match kind {
            Kind::Histogram => encoder.encode_histogram::<NoLabelSet>(sum, snapshot.count(), &buckets, None),
            Kind::Counter | Kind::Gauge => Err(fmt::Error),
        })
    }

    fn sample(
        &mut self,
        labels: &[&str],
        write: impl FnOnce(Kind, &mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        debug_assert_eq!(labels.len(), self.metric.labels.len(), "{}", self.metric.name);
        if labels.is_empty() {
            return write(self.metric.kind, &mut self.encoder);
        }
        let labels: Vec<(&str, &str)> = self.metric.labels.iter().copied().zip(labels.iter().copied()).collect();
        write(self.metric.kind, &mut self.encoder.encode_family(&labels)?)
    }
}

/// Turns `OpenMetrics` text into the format 0.0.4.
fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + 2_048);
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT" | "EOF"), ..) => continue,
            (Some("#"), Some(word @ ("HELP" | "TYPE")), Some(family), Some(rest)) => {
                let suffix = if is_counter(family) { "_total" } else { "" };
                out.extend(["# ", word, " ", family, suffix, " ", rest]);
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

fn is_counter(family: &str) -> bool {
    METRICS.iter().any(|metric| metric.kind == Kind::Counter && metric.family() == family)
}
