//! What the demonstration shows: two readings of the same values that `/clusters` and `/metrics` give, and what
//! happened between them.

use std::time::{Duration, Instant};

use weir_control::View;
use weir_core::Health;
use weir_telemetry::Snapshot;

use super::load::Seen;

/// Totals at one moment.
#[derive(Debug)]
pub(crate) struct Reading {
    at: Instant,
    answered: u64,
    client_errors: u64,
    client_time: Snapshot,
    requests: u64,
    retries: u64,
    in_flight: i64,
    time: Snapshot,
    memory: Option<u64>,
    cpu_seconds: Option<f64>,
    endpoints: Vec<EndpointReading>,
}

#[derive(Debug)]
struct EndpointReading {
    name: String,
    address: String,
    health: Health,
    in_flight: u32,
    waiting: u32,
    idle: u64,
    open: u64,
    requests: u64,
    failures: u64,
    ejections: u64,
    time: Snapshot,
}

/// What happened between two readings, and the levels of the later one.
#[derive(Debug)]
pub(crate) struct Span {
    /// Requests ended, per second.
    pub(crate) rate: f64,
    /// Median time of a request in Weir, in milliseconds.
    pub(crate) p50_ms: Option<f64>,
    /// 99th percentile of it.
    pub(crate) p99_ms: Option<f64>,
    /// 99th percentile as the clients see it, from the moment a request was due.
    pub(crate) client_p99_ms: Option<f64>,
    /// Requests at work now.
    pub(crate) in_flight: i64,
    /// Responses with status 2xx that clients got, since the start.
    pub(crate) answered: u64,
    /// Errors that clients saw, since the start.
    pub(crate) errors: u64,
    /// Requests tried again, since the start.
    pub(crate) retries: u64,
    /// Resident memory of the whole process in bytes.
    pub(crate) memory: Option<u64>,
    /// Processor time of the whole process, in cores.
    pub(crate) cores: Option<f64>,
    /// Each endpoint.
    pub(crate) endpoints: Vec<EndpointSpan>,
}

/// One endpoint between two readings.
#[derive(Debug)]
pub(crate) struct EndpointSpan {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) health: Health,
    /// Responses per second.
    pub(crate) rate: f64,
    /// Median time to the response head, in milliseconds.
    pub(crate) p50_ms: Option<f64>,
    /// 99th percentile of it.
    pub(crate) p99_ms: Option<f64>,
    pub(crate) in_flight: u32,
    pub(crate) waiting: u32,
    /// Connections of the pool that are idle.
    pub(crate) idle: u64,
    /// Connections of the pool that are open.
    pub(crate) open: u64,
    /// Attempts that failed, since the start.
    pub(crate) failures: u64,
    /// Ejections, since the start.
    pub(crate) ejections: u64,
}

impl Reading {
    /// Reads everything now.
    pub(crate) fn take(view: &dyn View, seen: &Seen) -> Self {
        let sources = view.sources();
        let mut time = Snapshot::EMPTY;
        for worker in &sources.workers {
            time.merge(&worker.request_time);
        }
        let endpoints = sources.clusters.iter().flat_map(|cluster| &cluster.endpoints).map(|endpoint| {
            let stats = &endpoint.stats;
            EndpointReading {
                name: endpoint.name.clone(),
                address: endpoint.address.clone(),
                health: endpoint.health,
                in_flight: endpoint.in_flight,
                waiting: endpoint.waiting,
                idle: stats.gauge(|shard| &shard.connections_idle),
                open: stats.gauge(|shard| &shard.connections_open),
                requests: stats.sum(|shard| shard.responses.total()),
                failures: stats.sum(|shard| shard.failures.total()),
                ejections: endpoint.ejections,
                time: stats.histogram(|shard| &shard.head_time),
            }
        });
        Self {
            at: Instant::now(),
            answered: seen.answered.get(),
            client_errors: seen.errors(),
            client_time: seen.time.snapshot(),
            requests: sources.workers.iter().map(|worker| worker.requests.total()).sum(),
            retries: sources.workers.iter().map(|worker| worker.retries.get()).sum(),
            in_flight: sources.workers.iter().map(|worker| worker.in_flight.get()).sum(),
            time,
            memory: sources.process.resident_bytes,
            cpu_seconds: sources.process.cpu_seconds,
            endpoints: endpoints.collect(),
        }
    }

    /// From `earlier` to this.
    pub(crate) fn since(&self, earlier: &Self) -> Span {
        let elapsed = self.at.saturating_duration_since(earlier.at).max(Duration::from_millis(1)).as_secs_f64();
        let time = self.time.since(&earlier.time);
        let endpoints = self.endpoints.iter().map(|now| {
            let before = earlier.endpoints.iter().find(|before| before.name == now.name);
            let time = before.map_or_else(|| now.time.clone(), |before| now.time.since(&before.time));
            let requests = now.requests.saturating_sub(before.map_or(0, |before| before.requests));
            EndpointSpan {
                name: now.name.clone(),
                address: now.address.clone(),
                health: now.health,
                rate: requests as f64 / elapsed,
                p50_ms: quantile_ms(&time, 0.5),
                p99_ms: quantile_ms(&time, 0.99),
                in_flight: now.in_flight,
                waiting: now.waiting,
                idle: now.idle,
                open: now.open,
                failures: now.failures,
                ejections: now.ejections,
            }
        });
        Span {
            rate: self.requests.saturating_sub(earlier.requests) as f64 / elapsed,
            p50_ms: quantile_ms(&time, 0.5),
            p99_ms: quantile_ms(&time, 0.99),
            client_p99_ms: quantile_ms(&self.client_time.since(&earlier.client_time), 0.99),
            in_flight: self.in_flight,
            answered: self.answered,
            errors: self.client_errors,
            retries: self.retries,
            memory: self.memory,
            cores: self.cpu_seconds.zip(earlier.cpu_seconds).map(|(now, before)| (now - before).max(0.0) / elapsed),
            endpoints: endpoints.collect(),
        }
    }
}

fn quantile_ms(time: &Snapshot, q: f64) -> Option<f64> {
    time.quantile_us(q).map(|us| f64::from(us) / 1_000.0)
}

/// `4.9 ms`, `71 ms`, or `-` without observations.
pub(crate) fn ms(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(ms) if ms < 9.95 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_short() {
        assert_eq!(ms(None), "-");
        assert_eq!(ms(Some(4.94)), "4.9 ms");
        assert_eq!(ms(Some(71.4)), "71 ms");
    }
}
