//! `weir run` and `weir proxy`: run a plan until a signal ends it.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use weir_config::Plan;
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
            Some(plan) => run(&plan, &options.file.display().to_string()),
            None => fail(&format!("{}: not started", options.file.display())),
        },
    }
}

/// `weir proxy`
pub(crate) fn proxy(options: &ProxyOptions) -> ExitCode {
    let source = weir_config::proxy_source(&options.listen, &options.to);
    if options.print {
        return print(&source.text);
    }
    match weir_config::proxy_plan(&options.listen, &options.to) {
        Ok(plan) => run(&plan, "weir proxy"),
        Err(diagnostics) => {
            config::tell(&diagnostics, &source);
            fail("not started")
        }
    }
}

fn run(plan: &Plan, source: &str) -> ExitCode {
    // Before anything else, so that no signal is lost. The thread that hands them on comes later: root can be given up
    // only while there is no second thread.
    let collected = match Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]) {
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
    let Some(signal) = wait_for_stop(&signals, &running) else { return end(running) };
    stop(&running, plan.process.shutdown_timeout, signal, &signals);
    end(running)
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
                tracing::warn!("SIGHUP: the configuration is not reloaded while running; restart to change it")
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
