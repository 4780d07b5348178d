//! Events of the configuration.

use super::Kind;

/// A configuration took effect: at start, or by a reload.
#[derive(Debug)]
pub struct ConfigLoaded<'a> {
    /// Where it came from.
    pub source: &'a str,
    /// Counts configurations of this process from 1.
    pub revision: u64,
    /// Its listeners.
    pub listeners: usize,
    /// Its clusters.
    pub clusters: usize,
}

/// A reload was refused; the old configuration stays in effect.
#[derive(Debug)]
pub struct ConfigRejected<'a> {
    /// Where it came from.
    pub source: &'a str,
    /// Problems found.
    pub problems: usize,
    /// The first of them.
    pub error: &'a str,
}

impl ConfigLoaded<'_> {
    /// Logs (INFO) and counts.
    pub fn emit(&self) {
        Kind::ConfigLoaded.inc();
        tracing::info!(
            source = self.source,
            revision = self.revision,
            listeners = self.listeners,
            clusters = self.clusters,
            "configuration in effect"
        );
    }
}

impl ConfigRejected<'_> {
    /// Logs (ERROR) and counts.
    pub fn emit(&self) {
        Kind::ConfigRejected.inc();
        tracing::error!(
            source = self.source,
            problems = self.problems,
            error = self.error,
            "configuration refused: the old one stays in effect"
        );
    }
}
