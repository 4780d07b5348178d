//! Events of the process.

use std::time::Duration;

use super::Kind;

/// The process is ready.
#[derive(Debug)]
pub struct Started<'a> {
    /// Version of Weir.
    pub version: &'a str,
    /// Worker threads.
    pub workers: usize,
    /// The descriptor limit in force.
    pub max_fds: u64,
}

/// A graceful stop began.
#[derive(Debug)]
pub struct ShutdownBegun<'a> {
    /// What asked for it: `SIGTERM` and the like.
    pub cause: &'a str,
    /// What is left is cut after this.
    pub deadline: Duration,
}

/// The stop is complete.
#[derive(Debug)]
pub struct ShutdownEnded {
    /// How long it took.
    pub took: Duration,
    /// Exchanges that were cut because the deadline passed.
    pub cut: u64,
}

impl Started<'_> {
    /// Logs (INFO) and counts.
    pub fn emit(&self) {
        Kind::Started.inc();
        tracing::info!(version = self.version, workers = self.workers, max_fds = self.max_fds, "started");
    }
}

impl ShutdownBegun<'_> {
    /// Logs (INFO) and counts.
    pub fn emit(&self) {
        Kind::ShutdownBegun.inc();
        tracing::info!(cause = self.cause, deadline_ms = millis(self.deadline), "stopping");
    }
}

impl ShutdownEnded {
    /// Logs (INFO, or WARN if anything was cut) and counts.
    pub fn emit(&self) {
        Kind::ShutdownEnded.inc();
        let took_ms = millis(self.took);
        if self.cut == 0 {
            tracing::info!(took_ms, "stopped");
        } else {
            tracing::warn!(took_ms, cut = self.cut, "stopped; exchanges were cut at the deadline");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
