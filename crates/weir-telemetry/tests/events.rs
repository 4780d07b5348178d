//! An event writes one line of the right level and is counted once.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_telemetry::event::{
    AcceptFailed, ConfigLoaded, ConfigRejected, EndpointDown, EndpointEjected, EndpointRestored, EndpointUp, Kind,
    ListenerStarted, ListenerStopped, PanicEntered, PanicLeft, ResolverFailed, ResolverRecovered, ShutdownBegun,
    ShutdownEnded, Started,
};

#[test]
fn log_and_counter_agree() {
    let (cluster, endpoint, host) = ("web", "a", "a.example");
    let error = io::Error::from_raw_os_error(24);
    let checks: &[(Kind, &str, &str, &dyn Fn())] = &[
        (Kind::EndpointUp, "INFO", "endpoint is up", &|| {
            EndpointUp { cluster, endpoint }.emit();
        }),
        (Kind::EndpointDown, "WARN", "endpoint is down", &|| {
            EndpointDown { cluster, endpoint, error: "refused" }.emit();
        }),
        (Kind::EndpointEjected, "WARN", "period_ms\":30000", &|| {
            let period = Duration::from_secs(30);
            EndpointEjected { cluster, endpoint, cause: "5 failures in a row", period }.emit();
        }),
        (Kind::EndpointRestored, "INFO", "restored", &|| {
            EndpointRestored { cluster, endpoint }.emit();
        }),
        (Kind::PanicEntered, "ERROR", "\"usable\":1", &|| {
            PanicEntered { cluster, usable: 1, total: 9 }.emit();
        }),
        (Kind::PanicLeft, "INFO", "\"total\":9", &|| {
            PanicLeft { cluster, usable: 8, total: 9 }.emit();
        }),
        (Kind::ConfigLoaded, "INFO", "\"revision\":2", &|| {
            ConfigLoaded { source: "weir.toml", revision: 2, listeners: 1, clusters: 1 }.emit();
        }),
        (Kind::ConfigRejected, "ERROR", "\"problems\":3", &|| {
            ConfigRejected { source: "weir.toml", problems: 3, error: "W0001" }.emit();
        }),
        (Kind::ResolverFailed, "WARN", "\"kept\":2", &|| {
            ResolverFailed { cluster, host, error: "timed out", kept: 2 }.emit();
        }),
        (Kind::ResolverRecovered, "INFO", "\"addresses\":2", &|| {
            ResolverRecovered { cluster, host, addresses: 2 }.emit();
        }),
        (Kind::ListenerStarted, "INFO", "127.0.0.1:80", &|| {
            ListenerStarted { listener: "web", address: "127.0.0.1:80", protocol: "http" }.emit();
        }),
        (Kind::ListenerStopped, "INFO", "listener closed", &|| {
            ListenerStopped { listener: "web" }.emit();
        }),
        (Kind::AcceptFailed, "WARN", "os error 24", &|| {
            AcceptFailed { listener: "web", error: &error }.emit();
        }),
        (Kind::Started, "INFO", "\"workers\":2", &|| {
            Started { version: "0.1.0", workers: 2, max_fds: 1_024 }.emit();
        }),
        (Kind::ShutdownBegun, "INFO", "SIGTERM", &|| {
            ShutdownBegun { cause: "SIGTERM", deadline: Duration::from_secs(5) }.emit();
        }),
        (Kind::ShutdownEnded, "WARN", "\"cut\":4", &|| {
            ShutdownEnded { took: Duration::from_secs(5), cut: 4 }.emit();
        }),
        (Kind::ShutdownEnded, "INFO", "stopped", &|| {
            ShutdownEnded { took: Duration::from_secs(1), cut: 0 }.emit();
        }),
    ];
    for (kind, level, part, emit) in checks {
        let before = kind.count();
        let log = captured(emit);
        assert_eq!(log.lines().count(), 1, "{kind:?}: {log}");
        assert!(log.contains(&format!("\"level\":\"{level}\"")), "{log}");
        assert!(log.contains(part), "{log}");
        assert_eq!(kind.count(), before + 1, "{kind:?}");
    }
}

#[test]
fn labels_are_unique_words() {
    let labels: std::collections::BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(labels.len(), Kind::ALL.len());
    assert!(labels.iter().all(|label| label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
}

/// What `emit` logs, in the JSON form.
fn captured(emit: &dyn Fn()) -> String {
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, emit);
    let bytes = sink.0.lock().map(|bytes| bytes.clone()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Ok(mut sink) = self.0.lock() {
            sink.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
