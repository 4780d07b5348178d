//! Metrics of clusters and their endpoints.

use std::fmt;

use weir_core::{Health, Reason};

use super::{Kind, Metric, Unit};
use crate::{ClusterView, EndpointView, STATUS_CLASSES, Sources};

/// The values of the label `health`.
pub(super) const HEALTH: [Health; 5] = [Health::Unknown, Health::Up, Health::Down, Health::Ejected, Health::Draining];

/// The values of the label `state`.
pub(super) const CONNECTION_STATES: [&str; 2] = ["busy", "idle"];

pub(super) const ROWS: &[Metric] = &[
    Metric {
        name: "weir_cluster_endpoints",
        kind: Kind::Gauge,
        unit: None,
        labels: &["cluster", "health"],
        help: "Endpoints of a cluster, by health",
        since: "0.1.0",
        read: |s, e| {
            s.clusters.iter().try_for_each(|cluster| {
                HEALTH.iter().try_for_each(|health| {
                    let n = cluster.endpoints.iter().filter(|endpoint| endpoint.health == *health).count();
                    e.int(&[&cluster.name, health.as_str()], n as u64)
                })
            })
        },
    },
    Metric {
        name: "weir_cluster_usable_endpoints",
        kind: Kind::Gauge,
        unit: None,
        labels: &["cluster"],
        help: "Endpoints that get traffic while the cluster is not in panic",
        since: "0.1.0",
        read: |s, e| s.clusters.iter().try_for_each(|c| e.int(&[&c.name], u64::from(c.usable))),
    },
    Metric {
        name: "weir_cluster_panic",
        kind: Kind::Gauge,
        unit: None,
        labels: &["cluster"],
        help: "1 while health is ignored because too few endpoints are usable",
        since: "0.1.0",
        read: |s, e| s.clusters.iter().try_for_each(|c| e.int(&[&c.name], u64::from(c.panic))),
    },
    Metric {
        name: "weir_endpoint_up",
        kind: Kind::Gauge,
        unit: None,
        labels: &["cluster", "endpoint"],
        help: "1 unless the endpoint is down, ejected or draining",
        since: "0.1.0",
        read: |s, e| {
            each(s, |labels, endpoint| {
                e.int(labels, u64::from(matches!(endpoint.health, Health::Up | Health::Unknown)))
            })
        },
    },
    Metric {
        name: "weir_endpoint_weight",
        kind: Kind::Gauge,
        unit: None,
        labels: &["cluster", "endpoint"],
        help: "Share of traffic as configured",
        since: "0.1.0",
        read: |s, e| each(s, |labels, endpoint| e.int(labels, u64::from(endpoint.weight))),
    },
    Metric {
        name: "weir_endpoint_responses_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["cluster", "endpoint", "code"],
        help: "Responses of an endpoint that were relayed, by class of status",
        since: "0.1.0",
        read: |s, e| {
            each(s, |labels, endpoint| {
                let mut sum = [0; STATUS_CLASSES.len()];
                for shard in endpoint.stats.shards() {
                    for (sum, n) in sum.iter_mut().zip(shard.responses.get()) {
                        *sum += n;
                    }
                }
                // An endpoint that was heard gave a status: the class `none` does not occur.
                STATUS_CLASSES
                    .iter()
                    .zip(sum)
                    .skip(1)
                    .try_for_each(|(class, n)| e.int(&[labels[0], labels[1], class], n))
            })
        },
    },
    Metric {
        name: "weir_endpoint_failures_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["cluster", "endpoint", "reason"],
        help: "Attempts that failed because of the endpoint, by reason; reasons that never occurred are left out",
        since: "0.1.0",
        read: |s, e| {
            each(s, |labels, endpoint| {
                Reason::ALL.iter().try_for_each(|reason| {
                    match endpoint.stats.sum(|shard| shard.failures.get(*reason)) {
                        0 => Ok(()),
                        n => e.int(&[labels[0], labels[1], reason.as_str()], n),
                    }
                })
            })
        },
    },
    Metric {
        name: "weir_endpoint_retries_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["cluster", "endpoint"],
        help: "Attempts at this endpoint that followed a failed one at another",
        since: "0.1.0",
        read: |s, e| each(s, |labels, endpoint| e.int(labels, endpoint.stats.sum(|t| t.retries_to.get()))),
    },
    Metric {
        name: "weir_endpoint_requests_in_flight",
        kind: Kind::Gauge,
        unit: None,
        labels: &["cluster", "endpoint"],
        help: "Requests at work at an endpoint at present",
        since: "0.1.0",
        read: |s, e| each(s, |labels, endpoint| e.int(labels, u64::from(endpoint.in_flight))),
    },
    Metric {
        name: "weir_endpoint_requests_waiting",
        kind: Kind::Gauge,
        unit: None,
        labels: &["cluster", "endpoint"],
        help: "Requests that wait for a place at an endpoint at present",
        since: "0.1.0",
        read: |s, e| each(s, |labels, endpoint| e.int(labels, u64::from(endpoint.waiting))),
    },
    Metric {
        name: "weir_endpoint_connections",
        kind: Kind::Gauge,
        unit: None,
        labels: &["cluster", "endpoint", "state"],
        help: "Connections to an endpoint open at present",
        since: "0.1.0",
        read: |s, e| {
            each(s, |labels, endpoint| {
                let open = endpoint.stats.gauge(|shard| &shard.connections_open);
                let idle = endpoint.stats.gauge(|shard| &shard.connections_idle);
                e.int(&[labels[0], labels[1], CONNECTION_STATES[0]], open.saturating_sub(idle))?;
                e.int(&[labels[0], labels[1], CONNECTION_STATES[1]], idle)
            })
        },
    },
    Metric {
        name: "weir_endpoint_connects_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["cluster", "endpoint"],
        help: "Connections established to an endpoint",
        since: "0.1.0",
        read: |s, e| each(s, |labels, endpoint| e.int(labels, endpoint.stats.sum(|t| t.connects.get()))),
    },
    Metric {
        name: "weir_endpoint_ejections_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["cluster", "endpoint"],
        help: "Times an endpoint was ejected because of failed requests",
        since: "0.1.0",
        read: |s, e| each(s, |labels, endpoint| e.int(labels, endpoint.ejections)),
    },
    Metric {
        name: "weir_endpoint_sent_bytes_total",
        kind: Kind::Counter,
        unit: Some(Unit::Bytes),
        labels: &["cluster", "endpoint"],
        help: "Bytes given to an endpoint",
        since: "0.1.0",
        read: |s, e| each(s, |labels, endpoint| e.int(labels, endpoint.stats.sum(|t| t.bytes_sent.get()))),
    },
    Metric {
        name: "weir_endpoint_received_bytes_total",
        kind: Kind::Counter,
        unit: Some(Unit::Bytes),
        labels: &["cluster", "endpoint"],
        help: "Bytes received from an endpoint",
        since: "0.1.0",
        read: |s, e| each(s, |labels, endpoint| e.int(labels, endpoint.stats.sum(|t| t.bytes_received.get()))),
    },
    Metric {
        name: "http_client_request_duration_seconds",
        kind: Kind::Histogram,
        unit: Some(Unit::Seconds),
        labels: &["cluster", "endpoint"],
        help: "Time from the first byte given to an endpoint to the last byte of its response relayed",
        since: "0.1.0",
        read: |s, e| each(s, |labels, endpoint| e.histogram(labels, &endpoint.stats.histogram(|t| &t.whole_time))),
    },
    Metric {
        name: "weir_endpoint_head_duration_seconds",
        kind: Kind::Histogram,
        unit: Some(Unit::Seconds),
        labels: &["cluster", "endpoint"],
        help: "Time from the first byte given to an endpoint to its complete response head",
        since: "0.1.0",
        read: |s, e| each(s, |labels, endpoint| e.histogram(labels, &endpoint.stats.histogram(|t| &t.head_time))),
    },
    Metric {
        name: "weir_endpoint_connect_duration_seconds",
        kind: Kind::Histogram,
        unit: Some(Unit::Seconds),
        labels: &["cluster", "endpoint"],
        help: "Time to establish a connection to an endpoint",
        since: "0.1.0",
        read: |s, e| each(s, |labels, endpoint| e.histogram(labels, &endpoint.stats.histogram(|t| &t.connect_time))),
    },
];

fn each(sources: &Sources, mut visit: impl FnMut(&[&str; 2], &EndpointView) -> fmt::Result) -> fmt::Result {
    sources.clusters.iter().try_for_each(|cluster: &ClusterView| {
        cluster.endpoints.iter().try_for_each(|endpoint| visit(&[&cluster.name, &endpoint.name], endpoint))
    })
}
