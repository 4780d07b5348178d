//! Metrics of the data path as a whole: summed over the workers unless a row has the label `worker`.

use weir_core::{Phase, Reason};

use super::{Kind, Metric, Unit};
use crate::{CLOSE_REASONS, Counter, Gauge, Histogram, STATUS_CLASSES, Snapshot, Sources, WorkerStats};

pub(super) const ROWS: &[Metric] = &[
    Metric {
        name: "http_server_request_duration_seconds",
        kind: Kind::Histogram,
        unit: Some(Unit::Seconds),
        labels: &[],
        help: "Time from the first byte of a client's request to its end",
        since: "0.1.0",
        read: |s, e| e.histogram(&[], &histogram(s, |w| &w.request_time)),
    },
    Metric {
        name: "weir_requests_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["code"],
        help: "HTTP requests ended, by class of status",
        since: "0.1.0",
        read: |s, e| {
            let mut sum = [0; STATUS_CLASSES.len()];
            for worker in &s.workers {
                for (sum, n) in sum.iter_mut().zip(worker.requests.get()) {
                    *sum += n;
                }
            }
            STATUS_CLASSES.iter().zip(sum).try_for_each(|(class, n)| e.int(&[class], n))
        },
    },
    Metric {
        name: "weir_requests_in_flight",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "HTTP requests at work at present",
        since: "0.1.0",
        read: |s, e| e.int(&[], gauge(s, |w| &w.in_flight)),
    },
    Metric {
        name: "weir_incomplete_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["reason"],
        help: "Requests and TCP sessions that did not end with a complete response, by reason",
        since: "0.1.0",
        read: |s, e| {
            Reason::ALL.iter().try_for_each(|reason| {
                e.int(&[reason.as_str()], s.workers.iter().map(|w| w.reasons.get(*reason)).sum())
            })
        },
    },
    Metric {
        name: "weir_phase_seconds_total",
        kind: Kind::Counter,
        unit: Some(Unit::Seconds),
        labels: &["phase"],
        help: "Time that all ended requests spent in each phase; divided by the requests, the mean per phase",
        since: "0.1.0",
        read: |s, e| {
            Phase::ALL.iter().try_for_each(|phase| {
                let us: u64 = s.workers.iter().map(|w| w.phase_us[*phase as usize].get()).sum();
                e.float(&[phase.as_str()], us as f64 / 1e6)
            })
        },
    },
    Metric {
        name: "weir_downstream_received_bytes_total",
        kind: Kind::Counter,
        unit: Some(Unit::Bytes),
        labels: &[],
        help: "Bytes received from clients in ended HTTP requests",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.bytes_in)),
    },
    Metric {
        name: "weir_downstream_sent_bytes_total",
        kind: Kind::Counter,
        unit: Some(Unit::Bytes),
        labels: &[],
        help: "Bytes sent to clients in ended HTTP requests",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.bytes_out)),
    },
    Metric {
        name: "weir_downstream_connections_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["worker"],
        help: "Client connections accepted",
        since: "0.1.0",
        read: |s, e| per_worker(s).try_for_each(|(worker, stats)| e.int(&[&worker], stats.accepted.get())),
    },
    Metric {
        name: "weir_downstream_connections_open",
        kind: Kind::Gauge,
        unit: None,
        labels: &["worker"],
        help: "Client connections open at present",
        since: "0.1.0",
        read: |s, e| {
            per_worker(s)
                .try_for_each(|(worker, stats)| e.int(&[&worker], u64::try_from(stats.open.get()).unwrap_or(0)))
        },
    },
    Metric {
        name: "weir_downstream_connections_rejected_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Client connections refused because a maximum was reached",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.rejected)),
    },
    Metric {
        name: "weir_accept_errors_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Failures to accept a client connection, such as a lack of descriptors",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.accept_errors)),
    },
    Metric {
        name: "weir_retries_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Attempts after the first one",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.retries)),
    },
    Metric {
        name: "weir_retries_denied_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Retries that the retry budget forbade",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.retries_denied)),
    },
    Metric {
        name: "weir_panic_picks_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Endpoints chosen without regard to health because too few were usable",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.panic_picks)),
    },
    Metric {
        name: "weir_tunnels_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Connections upgraded to a tunnel, such as WebSocket",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.tunnels)),
    },
    Metric {
        name: "weir_tunnels_open",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Tunnels open at present",
        since: "0.1.0",
        read: |s, e| e.int(&[], gauge(s, |w| &w.tunnels_open)),
    },
    Metric {
        name: "weir_tcp_sessions_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "TCP sessions ended",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.tcp_sessions)),
    },
    Metric {
        name: "weir_tcp_sessions_open",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "TCP sessions open at present",
        since: "0.1.0",
        read: |s, e| e.int(&[], gauge(s, |w| &w.tcp_open)),
    },
    Metric {
        name: "weir_tcp_received_bytes_total",
        kind: Kind::Counter,
        unit: Some(Unit::Bytes),
        labels: &[],
        help: "Bytes received from clients in ended TCP sessions",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.tcp_bytes_in)),
    },
    Metric {
        name: "weir_tcp_sent_bytes_total",
        kind: Kind::Counter,
        unit: Some(Unit::Bytes),
        labels: &[],
        help: "Bytes sent to clients in ended TCP sessions",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.tcp_bytes_out)),
    },
    Metric {
        name: "weir_pool_reused_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Requests that found an idle connection to their endpoint",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.pool_reused)),
    },
    Metric {
        name: "weir_pool_opened_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Connections to endpoints opened for requests or ahead of demand",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.pool_opened)),
    },
    Metric {
        name: "weir_pool_closed_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["reason"],
        help: "Connections to endpoints closed, by reason",
        since: "0.1.0",
        read: |s, e| {
            CLOSE_REASONS
                .iter()
                .try_for_each(|(reason, label)| e.int(&[label], counter(s, |w| &w.pool_closed[*reason as usize])))
        },
    },
    Metric {
        name: "weir_pool_waits_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Requests that had to wait for a place at their endpoint",
        since: "0.1.0",
        read: |s, e| e.int(&[], counter(s, |w| &w.pool_waits)),
    },
    Metric {
        name: "weir_pool_wait_duration_seconds",
        kind: Kind::Histogram,
        unit: Some(Unit::Seconds),
        labels: &[],
        help: "How long requests waited for a place at their endpoint, successful or not",
        since: "0.1.0",
        read: |s, e| e.histogram(&[], &histogram(s, |w| &w.pool_wait_time)),
    },
    Metric {
        name: "weir_loop_wakeups_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["worker"],
        help: "Times a worker's event loop woke up",
        since: "0.1.0",
        read: |s, e| per_worker(s).try_for_each(|(worker, stats)| e.int(&[&worker], stats.loop_wakeups.get())),
    },
    Metric {
        name: "weir_loop_events_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["worker"],
        help: "Events that a worker handled; divided by the wake-ups, the mean batch",
        since: "0.1.0",
        read: |s, e| per_worker(s).try_for_each(|(worker, stats)| e.int(&[&worker], stats.loop_events.get())),
    },
    Metric {
        name: "weir_loop_messages_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["worker"],
        help: "Messages that a worker received from other threads",
        since: "0.1.0",
        read: |s, e| per_worker(s).try_for_each(|(worker, stats)| e.int(&[&worker], stats.loop_messages.get())),
    },
];

fn counter(sources: &Sources, pick: impl Fn(&WorkerStats) -> &Counter) -> u64 {
    sources.workers.iter().map(|worker| pick(worker).get()).fold(0, u64::wrapping_add)
}

/// The sum of a gauge; the workers are read one after the other, so it could dip below zero for a moment.
fn gauge(sources: &Sources, pick: impl Fn(&WorkerStats) -> &Gauge) -> u64 {
    let sum: i64 = sources.workers.iter().map(|worker| pick(worker).get()).sum();
    u64::try_from(sum).unwrap_or(0)
}

fn histogram(sources: &Sources, pick: impl Fn(&WorkerStats) -> &Histogram) -> Snapshot {
    let mut all = Snapshot::EMPTY;
    for worker in &sources.workers {
        all.merge(pick(worker));
    }
    all
}

fn per_worker(sources: &Sources) -> impl Iterator<Item = (String, &WorkerStats)> {
    sources.workers.iter().enumerate().map(|(number, stats)| (number.to_string(), stats.as_ref()))
}
