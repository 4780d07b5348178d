//! Events of endpoints and clusters.

use std::time::Duration;

use super::Kind;

/// Probes succeed: the endpoint gets traffic.
#[derive(Debug)]
pub struct EndpointUp<'a> {
    /// Cluster name.
    pub cluster: &'a str,
    /// Endpoint name.
    pub endpoint: &'a str,
}

/// Probes fail, or the connection was refused: the endpoint gets no traffic.
#[derive(Debug)]
pub struct EndpointDown<'a> {
    /// Cluster name.
    pub cluster: &'a str,
    /// Endpoint name.
    pub endpoint: &'a str,
    /// What the last probe said.
    pub error: &'a str,
}

/// Taken out for a while because of failed requests.
#[derive(Debug)]
pub struct EndpointEjected<'a> {
    /// Cluster name.
    pub cluster: &'a str,
    /// Endpoint name.
    pub endpoint: &'a str,
    /// Which detector, and what it saw.
    pub cause: &'a str,
    /// For how long.
    pub period: Duration,
}

/// An ejected endpoint gets traffic again.
#[derive(Debug)]
pub struct EndpointRestored<'a> {
    /// Cluster name.
    pub cluster: &'a str,
    /// Endpoint name.
    pub endpoint: &'a str,
}

/// So few endpoints are usable that health is ignored.
#[derive(Debug)]
pub struct PanicEntered<'a> {
    /// Cluster name.
    pub cluster: &'a str,
    /// Usable endpoints.
    pub usable: u32,
    /// All endpoints.
    pub total: u32,
}

/// Enough endpoints are usable again.
#[derive(Debug)]
pub struct PanicLeft<'a> {
    /// Cluster name.
    pub cluster: &'a str,
    /// Usable endpoints.
    pub usable: u32,
    /// All endpoints.
    pub total: u32,
}

impl EndpointUp<'_> {
    /// Logs (INFO) and counts.
    pub fn emit(&self) {
        Kind::EndpointUp.inc();
        tracing::info!(cluster = self.cluster, endpoint = self.endpoint, "endpoint is up");
    }
}

impl EndpointDown<'_> {
    /// Logs (WARN) and counts.
    pub fn emit(&self) {
        Kind::EndpointDown.inc();
        tracing::warn!(cluster = self.cluster, endpoint = self.endpoint, error = self.error, "endpoint is down");
    }
}

impl EndpointEjected<'_> {
    /// Logs (WARN) and counts.
    pub fn emit(&self) {
        Kind::EndpointEjected.inc();
        tracing::warn!(
            cluster = self.cluster,
            endpoint = self.endpoint,
            cause = self.cause,
            period_ms = u64::try_from(self.period.as_millis()).unwrap_or(u64::MAX),
            "endpoint ejected"
        );
    }
}

impl EndpointRestored<'_> {
    /// Logs (INFO) and counts.
    pub fn emit(&self) {
        Kind::EndpointRestored.inc();
        tracing::info!(cluster = self.cluster, endpoint = self.endpoint, "endpoint restored");
    }
}

impl PanicEntered<'_> {
    /// Logs (ERROR) and counts.
    pub fn emit(&self) {
        Kind::PanicEntered.inc();
        tracing::error!(
            cluster = self.cluster,
            usable = self.usable,
            total = self.total,
            "too few usable endpoints: health is ignored, all endpoints get traffic"
        );
    }
}

impl PanicLeft<'_> {
    /// Logs (INFO) and counts.
    pub fn emit(&self) {
        Kind::PanicLeft.inc();
        tracing::info!(
            cluster = self.cluster,
            usable = self.usable,
            total = self.total,
            "enough usable endpoints again: health counts"
        );
    }
}
