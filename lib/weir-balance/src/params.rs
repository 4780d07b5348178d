//! What a cluster's configuration says about balancing.

use std::sync::Arc;

/// The algorithms, one row of the table `ALGORITHMS` each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Algorithm {
    /// Each in turn; weights are ignored.
    RoundRobin,
    /// Smooth weighted round robin, the sequence of nginx.
    #[default]
    WeightedRoundRobin,
    /// Fewest requests in flight for its weight.
    LeastConnections,
    /// Uniformly at random, by weight.
    Random,
    /// The less loaded of two drawn at random, by weight.
    PowerOfTwo,
    /// The client's IP address decides.
    IpHash,
    /// Consistent hash on a ring of 2^32 points with virtual nodes.
    RingHash,
    /// Consistent hash by a Maglev table.
    Maglev,
}

/// Where the pick key of the hashing algorithms comes from. Without a value (no such header) the
/// client's IP address is used.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum HashKey {
    /// The client's IP address (as trusted, after `X-Forwarded-For` from trusted proxies).
    #[default]
    ClientIp,
    /// The value of this request header (lower-case name).
    Header(Arc<str>),
    /// The value of this cookie.
    Cookie(Arc<str>),
    /// The value of this query parameter.
    Query(Arc<str>),
    /// The normalised path, without the query.
    Path,
}

/// Settings of one cluster's balancer.
#[derive(Clone, PartialEq, Debug)]
pub struct Params {
    /// Which algorithm.
    pub algorithm: Algorithm,
    /// Pick key of the hashing algorithms.
    pub key: HashKey,
    /// `ring_hash`: points on the ring per unit of weight; `None` = at least 1,000 per endpoint for
    /// small clusters, bounded in total.
    pub virtual_nodes: Option<u32>,
    /// `ring_hash`: place the points exactly as nginx's `hash … consistent` does (crc32, 160 per weight).
    pub ketama: bool,
    /// `maglev`: table size, a prime.
    pub table_size: u32,
    /// Hashing algorithms: no endpoint gets more than this factor of its fair share of the requests
    /// in flight; 1.25 is a good start. `None` = unbounded.
    pub bounded_load: Option<f64>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            key: HashKey::default(),
            virtual_nodes: None,
            ketama: false,
            table_size: 65_537,
            bounded_load: None,
        }
    }
}
