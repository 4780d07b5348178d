//! `weir run` and `weir proxy`: run a plan until a signal ends it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use weir_config::{NoFiles, Plan, Source};
use weir_core::Address;
use weir_telemetry::event;

use super::{ProxyOptions, RunOptions, config, fail, print};
use crate::server::{self, Running, Stopped};

/// Requests in flight were cut when the deadline of a graceful stop passed.
const EXIT_CUT: u8 = 3;
/// How often a stop looks whether the workers have ended.
const POLL: Duration = Duration::from_millis(20);

/// `weir run`
pub(crate) fn file(options: &RunOptions) -> ExitCode {
    match config::load(&options.file) {
        Err(code) => code,
        Ok(outcome) => match outcome.plan {
            Some(plan) => run(&plan, &options.file.display().to_string(), |_| String::new()),
            None => fail(&format!("{}: not started", options.file.display())),
        },
    }
}

/// `weir proxy`
pub(crate) fn proxy(options: &ProxyOptions) -> ExitCode {
    let source = proxy_source(options);
    let outcome = weir_config::load(&source, &NoFiles);
    config::tell(&outcome.diagnostics, &source);
    match outcome.plan {
        None => fail("not started"),
        Some(_) if options.print => print(&source.text),
        Some(plan) => run(&plan, &source.name, |running| introduce(options, running)),
    }
}

/// The configuration that the options stand for.
fn proxy_source(options: &ProxyOptions) -> Source {
    let mut source = weir_config::proxy_source(&options.listen, &options.to);
    match options.metrics.as_deref() {
        None => {}
        Some("off") => source.text.push_str("\n[metrics]\nenabled = false\n"),
        Some(bind) => {
            // A TOML basic string: quotes and backslashes are escaped.
            let bind = bind.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = write!(source.text, "\n[metrics]\nbind = \"{bind}\"\n");
        }
    }
    source
}

/// Where Weir listens, and what to try next.
fn introduce(options: &ProxyOptions, running: &Running) -> String {
    let servers = options.to.join(", ");
    let mut text = String::new();
    for (_, address) in running.addresses() {
        let _ = writeln!(text, "weir: {address} -> {servers}");
    }
    match running.addresses().first() {
        Some((_, Address::Unix(path))) => {
            let _ = writeln!(text, "  try:   curl -i --unix-socket {} http://localhost/", path.display());
        }
        Some((_, Address::Inet(address))) => {
            let _ = writeln!(text, "  try:   curl -i http://{}/", reachable(*address));
        }
        None => {}
    }
    if let Some(metrics) = running.metrics() {
        let _ = writeln!(text, "  watch: curl http://{}/clusters", reachable(metrics));
    }
    text.push_str("  stop:  Ctrl-C\n");
    text
}

/// The address that a client of this machine connects to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Runs until a signal ends it; `introduction` is printed when the listeners accept connections.
fn run(plan: &Plan, source: &str, introduction: impl FnOnce(&Running) -> String) -> ExitCode {
    // Before anything else, so that no signal is lost. The thread that hands them on comes later: root can be given up
    // only while there is no second thread.
    let collected = match collect_signals() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("signal handlers: {error}")),
    };
    let running = match server::start(plan) {
        Ok(running) => running,
        Err(error) => return fail(&error.to_string()),
    };
    let signals = match hand_on(collected) {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("signal thread: {error}")),
    };
    event::ConfigLoaded { source, revision: 1, listeners: plan.listeners.len(), clusters: plan.clusters.len() }.emit();
    if let Some(address) = running.metrics() {
        tracing::info!(%address, "metrics, health and clusters: http://{address}/");
    }
    // Standard output may be closed; the log says where Weir listens, too.
    print(&introduction(&running));
    let Some(signal) = wait_for_stop(&signals, &running) else { return end(running) };
    stop(&running, plan.process.shutdown_timeout, signal, &signals);
    end(running)
}

/// Collects signals and hands them on, for a program that keeps its privileges.
pub(crate) fn signals() -> std::io::Result<Receiver<i32>> {
    hand_on(collect_signals()?)
}

/// Collects signals from now on.
fn collect_signals() -> std::io::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])
}

/// Starts to hand on what is collected. The thread ends with the process.
fn hand_on(mut signals: Signals) -> std::io::Result<Receiver<i32>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new().name("weir-signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Handles signals until one asks for a stop, or the workers have ended by themselves.
fn wait_for_stop(signals: &Receiver<i32>, running: &Running) -> Option<&'static str> {
    loop {
        match signals.recv_timeout(Duration::from_millis(500)) {
            Ok(SIGTERM) => return Some("SIGTERM"),
            Ok(SIGINT) => return Some("SIGINT"),
            Ok(SIGUSR1) => running.reopen_logs(),
            Ok(SIGHUP) => {
                tracing::warn!("SIGHUP: the configuration is not reloaded while running; restart to change it");
            }
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if running.is_finished() => return None,
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// A graceful stop: until everything in flight is finished, the deadline passes, or a second signal comes.
fn stop(running: &Running, deadline: Duration, signal: &'static str, signals: &Receiver<i32>) {
    let begun = Instant::now();
    event::ShutdownBegun { cause: signal, deadline }.emit();
    running.begin_stop();
    while !running.is_finished() && begun.elapsed() < deadline {
        if let Ok(SIGTERM | SIGINT) = signals.recv_timeout(POLL) {
            tracing::warn!("second signal: stopping at once");
            return;
        }
    }
}

fn end(running: Running) -> ExitCode {
    let begun = Instant::now();
    let cut = running.in_flight();
    let stopped = running.end();
    event::ShutdownEnded { took: begun.elapsed(), cut }.emit();
    match stopped {
        Stopped::Cleanly => ExitCode::SUCCESS,
        Stopped::ByForce => ExitCode::from(EXIT_CUT),
    }
}
