//! What the descriptor limit allows: derived at start, printed, and settings that cannot work are refused.

use weir_config::plan::{Plan, Protocol};
use weir_telemetry::event;

/// Descriptors kept for everything but connections: listeners, logs, epoll, resolver, metrics clients.
const RESERVED: u64 = 128;

/// Maxima derived from the limit of open files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Descriptors that the process may have.
    pub(crate) descriptors: u64,
    /// Connections of one worker, both sides.
    pub(crate) worker_connections: usize,
    /// Client connections of a listener without a maximum of its own.
    pub(crate) client_connections: u32,
    /// Connections to an endpoint without a maximum of its own.
    pub(crate) endpoint_connections: u32,
}

/// The plan needs more descriptors than the process may have.
#[derive(Debug, thiserror::Error)]
#[error(
    "max_connections of the listeners add up to {wanted}, but this process may open {descriptors} files, which \
     is enough for {possible} client connections (each needs one to an endpoint too); lower max_connections or raise the \
     limit (`ulimit -Hn`, or LimitNOFILE= of the service)"
)]
pub(crate) struct LimitsError {
    wanted: u64,
    descriptors: u64,
    possible: u64,
}

impl Limits {
    /// Raises the soft limit to the hard one and derives the maxima.
    pub(crate) fn derive(plan: &Plan, workers: usize) -> Result<Self, LimitsError> {
        let (descriptors, _) = weir_net::raise_nofile();
        let sockets: u64 = plan.listeners.iter().map(|listener| listener.bind.len() as u64 * workers as u64).sum();
        let usable = descriptors.saturating_sub(RESERVED + sockets).max(16);
        let possible = usable / 2;
        let wanted = plan.listeners.iter().map(|listener| match &listener.protocol {
            Protocol::Http(http) => http.max_connections,
            Protocol::Tcp(tcp) => tcp.max_connections,
        });
        let wanted: u64 = wanted.flatten().map(u64::from).sum();
        if wanted > possible {
            return Err(LimitsError { wanted, descriptors, possible });
        }
        let half = u32::try_from(possible).unwrap_or(u32::MAX);
        Ok(Self {
            descriptors,
            // The kernel spreads connections over the workers by hash, not evenly: none is held to its exact share.
            worker_connections: usize::try_from(usable).unwrap_or(usize::MAX),
            client_connections: half,
            endpoint_connections: half,
        })
    }

    pub(crate) fn log(&self, workers: usize) {
        event::Started { version: env!("CARGO_PKG_VERSION"), workers, max_fds: self.descriptors }.emit();
        tracing::info!(
            open_files = self.descriptors,
            client_connections = self.client_connections,
            connections_per_endpoint = self.endpoint_connections,
            "limits derived from the number of open files"
        );
    }
}
