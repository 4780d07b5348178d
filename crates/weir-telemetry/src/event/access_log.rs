//! Events of the access log's writer.

use std::io;

use super::Kind;

/// Writing failed; lines are lost from now on.
#[derive(Debug)]
pub struct AccessLogFailed<'a> {
    /// What the system said.
    pub error: &'a io::Error,
}

/// Writing works again.
#[derive(Debug)]
pub struct AccessLogRecovered {
    /// Lines lost meanwhile.
    pub lost_lines: u64,
}

/// The file was opened again by its path.
#[derive(Debug)]
pub struct AccessLogReopened;

/// The file could not be opened again; the old one stays in use.
#[derive(Debug)]
pub struct AccessLogNotReopened<'a> {
    /// What the system said.
    pub error: &'a io::Error,
}

impl AccessLogFailed<'_> {
    /// Logs (ERROR: somebody must make room) and counts.
    pub fn emit(&self) {
        Kind::AccessLogFailed.inc();
        tracing::error!(error = %self.error, "access log cannot be written: lines are lost");
    }
}

impl AccessLogRecovered {
    /// Logs (INFO) and counts.
    pub fn emit(&self) {
        Kind::AccessLogRecovered.inc();
        tracing::info!(lost_lines = self.lost_lines, "access log is written again");
    }
}

impl AccessLogReopened {
    /// Logs (INFO) and counts.
    pub fn emit(&self) {
        Kind::AccessLogReopened.inc();
        tracing::info!("access log reopened");
    }
}

impl AccessLogNotReopened<'_> {
    /// Logs (ERROR) and counts.
    pub fn emit(&self) {
        Kind::AccessLogNotReopened.inc();
        tracing::error!(error = %self.error, "access log cannot be reopened: the old file stays in use");
    }
}
