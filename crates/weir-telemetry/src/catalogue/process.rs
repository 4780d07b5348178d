//! Metrics of the process, its build, its events and its access log.

use super::{Kind, Metric, Unit};
use crate::event;

pub(super) const ROWS: &[Metric] = &[
    Metric {
        name: "weir_build_info",
        kind: Kind::Gauge,
        unit: None,
        labels: &["version", "commit"],
        help: "1, with the build that is running as labels",
        since: "0.1.0",
        read: |s, e| e.int(&[s.build.version, s.build.commit], 1),
    },
    Metric {
        name: "weir_ready",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "1 while new traffic is welcome",
        since: "0.1.0",
        read: |s, e| e.int(&[], u64::from(s.ready)),
    },
    Metric {
        name: "weir_workers",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Worker threads",
        since: "0.1.0",
        read: |s, e| e.int(&[], s.workers.len() as u64),
    },
    Metric {
        name: "weir_config_revision",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Number of the configuration in effect, counted from 1",
        since: "0.1.0",
        read: |s, e| e.int(&[], s.config_revision),
    },
    Metric {
        name: "weir_events_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["event"],
        help: "Events of the diagnostic log, by kind",
        since: "0.1.0",
        read: |_, e| {
            event::Kind::ALL
                .iter()
                .try_for_each(|kind| e.int(&[kind.as_str()], kind.count()))
        },
    },
    Metric {
        name: "weir_access_log_written_lines_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Lines of the access log written",
        since: "0.1.0",
        read: |s, e| {
            s.access_log
                .as_ref()
                .map_or(Ok(()), |log| e.int(&[], log.written_lines()))
        },
    },
    Metric {
        name: "weir_access_log_dropped_lines_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Lines of the access log lost because the disk was too slow or refused them",
        since: "0.1.0",
        read: |s, e| {
            s.access_log
                .as_ref()
                .map_or(Ok(()), |log| e.int(&[], log.dropped_lines()))
        },
    },
    Metric {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        unit: Some(Unit::Seconds),
        labels: &[],
        help: "CPU time used in user and kernel mode",
        since: "0.1.0",
        read: |s, e| {
            s.process
                .cpu_seconds
                .map_or(Ok(()), |value| e.float(&[], value))
        },
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        unit: Some(Unit::Bytes),
        labels: &[],
        help: "Memory resident",
        since: "0.1.0",
        read: |s, e| {
            s.process
                .resident_bytes
                .map_or(Ok(()), |value| e.int(&[], value))
        },
    },
    Metric {
        name: "process_virtual_memory_bytes",
        kind: Kind::Gauge,
        unit: Some(Unit::Bytes),
        labels: &[],
        help: "Address space",
        since: "0.1.0",
        read: |s, e| {
            s.process
                .virtual_bytes
                .map_or(Ok(()), |value| e.int(&[], value))
        },
    },
    Metric {
        name: "process_open_fds",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Open descriptors",
        since: "0.1.0",
        read: |s, e| s.process.open_fds.map_or(Ok(()), |value| e.int(&[], value)),
    },
    Metric {
        name: "process_max_fds",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Soft limit of descriptors",
        since: "0.1.0",
        read: |s, e| s.process.max_fds.map_or(Ok(()), |value| e.int(&[], value)),
    },
    Metric {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        unit: Some(Unit::Seconds),
        labels: &[],
        help: "When the process started, in seconds since the Unix epoch",
        since: "0.1.0",
        read: |s, e| {
            s.process
                .start_time_seconds
                .map_or(Ok(()), |value| e.float(&[], value))
        },
    },
    Metric {
        name: "process_threads",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Threads",
        since: "0.1.0",
        read: |s, e| s.process.threads.map_or(Ok(()), |value| e.int(&[], value)),
    },
];
