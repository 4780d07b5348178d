//! What a worker holds at one moment, counted: for tests that assert that nothing is leaked.

use weir_core::{ClusterId, EndpointId};

use crate::worker::Worker;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Census {
    /// HTTP clients connected.
    pub clients: usize,
    /// Requests in flight.
    pub exchanges: usize,
    /// TCP sessions.
    pub sessions: usize,
    /// This worker's connections, by endpoint.
    pub pools: Vec<PoolCensus>,
}

/// One worker's connections to one endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolCensus {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// To which endpoint.
    pub endpoint: EndpointId,
    /// Connections at rest.
    pub idle: u32,
    /// Connections in use.
    pub busy: u32,
    /// Connections being opened.
    pub connecting: u32,
    /// Requests with a place that wait for a connection.
    pub waiting: usize,
}

impl Worker {
    /// Counts what this worker holds.
    pub fn census(&mut self) -> Census {
        let pools = self.endpoints.iter_mut().map(|(_, endpoint)| {
            let stats = endpoint.pool.stats();
            PoolCensus {
                cluster: endpoint.cluster,
                endpoint: endpoint.state.id,
                idle: stats.idle,
                busy: stats.busy,
                connecting: stats.connecting,
                waiting: endpoint.waiting.len(),
            }
        });
        Census {
            pools: pools.collect(),
            clients: self.open_clients,
            exchanges: self.exchanges.len(),
            sessions: self.sessions.len(),
        }
    }
}
