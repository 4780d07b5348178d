//! Events of name resolution.

use super::Kind;

/// A host name could not be resolved; the last known addresses stay in use.
#[derive(Debug)]
pub struct ResolverFailed<'a> {
    /// Cluster name.
    pub cluster: &'a str,
    /// Host name.
    pub host: &'a str,
    /// What the resolver said.
    pub error: &'a str,
    /// Addresses that stay in use.
    pub kept: usize,
}

/// A host name that had failed resolves again.
#[derive(Debug)]
pub struct ResolverRecovered<'a> {
    /// Cluster name.
    pub cluster: &'a str,
    /// Host name.
    pub host: &'a str,
    /// Addresses found.
    pub addresses: usize,
}

impl ResolverFailed<'_> {
    /// Logs (WARN) and counts.
    pub fn emit(&self) {
        Kind::ResolverFailed.inc();
        tracing::warn!(
            cluster = self.cluster,
            host = self.host,
            error = self.error,
            kept = self.kept,
            "name cannot be resolved: known addresses stay in use"
        );
    }
}

impl ResolverRecovered<'_> {
    /// Logs (INFO) and counts.
    pub fn emit(&self) {
        Kind::ResolverRecovered.inc();
        tracing::info!(cluster = self.cluster, host = self.host, addresses = self.addresses, "name resolves again");
    }
}
