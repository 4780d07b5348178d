//! Pools over several endpoints at one moment, for people.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use weir_core::Endpoint;
use weir_pool_core::Standing;

use crate::snapshot::Snapshot;

/// All endpoints at one moment. `Display` is one line of text for each, after one for all.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EndpointsSnapshot {
    /// The name of the whole.
    pub name: Arc<str>,
    /// Connections at most, over all endpoints.
    pub max_size: u32,
    /// The endpoints, in the order in which they came; also those that are gone but have connections yet.
    pub endpoints: Vec<EndpointSnapshot>,
    /// Ejections are ignored: too few are left.
    pub panic: bool,
    /// New callers are refused: connects have been failing for long at every endpoint.
    pub down: bool,
    /// How often since the start a caller was turned away by an endpoint that could not be used any more, and went on.
    pub moves: u64,
    /// Nobody gets a connection any more.
    pub closed: bool,
}

/// One endpoint at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EndpointSnapshot {
    /// As last set.
    pub endpoint: Endpoint,
    /// What becomes of it.
    pub standing: Standing,
    /// For how long it is ejected yet. In a panic it may be used all the same.
    pub ejected_for: Option<Duration>,
    /// It is ejected because of its failures (besides, or only).
    pub outlier: bool,
    /// How often it has been ejected because of its failures since it came.
    pub outlier_ejections: u64,
    /// It is no longer one of the endpoints.
    pub leaving: bool,
    /// The connections that it ought to have at most; `pool.max_size` follows as the others give up theirs.
    pub share: u32,
    /// Callers that use or await a connection of it.
    pub in_flight: u32,
    /// Its pool.
    pub pool: Snapshot,
}

impl EndpointsSnapshot {
    /// How many endpoints can be used.
    pub fn usable(&self) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.standing == Standing::Up).count()
    }

    /// Connections over all endpoints: in use, idle, being opened and being closed.
    pub fn size(&self) -> u32 {
        let size = |pool: &Snapshot| pool.active + pool.idle + pool.opening + pool.closing;
        self.endpoints.iter().map(|endpoint| size(&endpoint.pool)).sum()
    }
}

impl fmt::Display for EndpointsSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, usable) = (self.size(), self.usable());
        write!(f, "{size} of {} connections, {usable} of {} endpoints", self.max_size, self.endpoints.len())?;
        for (holds, word) in [(self.panic, "panic"), (self.down, "down"), (self.closed, "closed")] {
            if holds {
                write!(f, ", {word}")?;
            }
        }
        self.endpoints.iter().try_for_each(|endpoint| write!(f, "\n  {endpoint}"))
    }
}

impl fmt::Display for EndpointSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, standing, ejected_for, outlier, leaving, share, pool, .. } = self;
        write!(f, "{} (weight {}): {}", endpoint.name, endpoint.weight.get(), standing.as_str())?;
        if let Some(time) = ejected_for {
            write!(f, ", ejected for {:.1} s", time.as_secs_f64())?;
        }
        if *outlier {
            write!(f, " after failures")?;
        }
        if *leaving {
            write!(f, ", leaving")?;
        }
        write!(f, ", share {share}: {pool}")
    }
}
