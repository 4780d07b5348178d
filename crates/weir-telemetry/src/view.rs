//! Clusters and endpoints as an observer sees them. Whoever owns the clusters fills these when asked;
//! the observation listener turns them into JSON, the catalogue into metrics.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use weir_core::{Health, WallTime};

use crate::{EndpointStats, Snapshot};

/// One cluster.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterView {
    /// Name.
    pub name: String,
    /// Algorithm as configured, such as `least_connections`.
    pub algorithm: String,
    /// Whether health is ignored at present because too few endpoints are usable.
    pub panic: bool,
    /// Endpoints that get traffic while not in panic.
    pub usable: u32,
    /// Endpoints in the order of the cluster.
    pub endpoints: Vec<EndpointView>,
}

/// One endpoint of a cluster.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointView {
    /// Name.
    pub name: String,
    /// Address.
    pub address: String,
    /// Failure domain.
    pub zone: Option<String>,
    /// Tier.
    pub priority: u8,
    /// Share of traffic as configured.
    pub weight: u16,
    /// What is known of its fitness.
    #[serde(serialize_with = "health")]
    pub health: Health,
    /// Since when; as Unix seconds with a fraction in JSON. `None`: since the endpoint appeared.
    #[serde(serialize_with = "unix_seconds")]
    pub since: Option<WallTime>,
    /// What the last failed probe said; `None` once a probe has succeeded.
    pub last_probe_error: Option<String>,
    /// Requests in flight over all workers.
    pub in_flight: u32,
    /// Requests waiting for a place.
    pub waiting: u32,
    /// Times it was ejected since it appeared.
    pub ejections: u64,
    /// Its counters. In JSON: `connections_open`, `connections_idle`, `connections_busy`, `connects`,
    /// `requests`, `failures`, `retries_to`, `latency` (to the response head).
    #[serde(flatten, serialize_with = "stats")]
    pub stats: Arc<EndpointStats>,
}

/// A budget of connections that this process grants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BudgetView {
    /// Name.
    pub name: String,
    /// Connections in all.
    pub connections: u32,
    /// What all members may have open.
    pub held: u32,
    /// Set aside for members from before this process started that have not been heard of.
    pub unknown: u32,
    /// What can be granted at once.
    pub free: u32,
    /// What members may keep, together, while they do not hear from this process.
    pub floors: u32,
    /// Claims read.
    pub claims: u64,
    /// Claims that were not answered with a share.
    pub refused: u64,
    /// The members, by name.
    pub members: Vec<BudgetMemberView>,
}

/// A member of a budget.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BudgetMemberView {
    /// Name.
    pub name: String,
    /// What it was granted last.
    pub share: u32,
    /// What it may have open.
    pub held: u32,
    /// What it may keep while it does not hear from this process.
    pub floor: u32,
    /// Its part relative to others.
    pub weight: u32,
    /// What it could use.
    pub demand: u32,
    /// What it can use at most.
    pub max: u32,
    /// Milliseconds since it was heard of.
    pub heard_ms: u64,
    /// It has been silent for a lease: only its floor is kept.
    pub silent: bool,
}

/// Quantiles of a duration in milliseconds; `None` without observations.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct LatencyView {
    /// Observations.
    pub count: u64,
    /// Median.
    pub p50_ms: Option<f64>,
    /// 90th percentile.
    pub p90_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
}

impl LatencyView {
    /// The quantiles of `snapshot`.
    pub fn of(snapshot: &Snapshot) -> Self {
        let ms = |q| snapshot.quantile_us(q).map(|us| f64::from(us) / 1_000.0);
        Self { count: snapshot.count(), p50_ms: ms(0.5), p90_ms: ms(0.9), p99_ms: ms(0.99) }
    }
}

#[derive(Serialize)]
struct StatsView {
    connections_open: u64,
    connections_idle: u64,
    connections_busy: u64,
    connects: u64,
    requests: u64,
    failures: u64,
    retries_to: u64,
    latency: LatencyView,
}

fn stats<S: Serializer>(stats: &Arc<EndpointStats>, serializer: S) -> Result<S::Ok, S::Error> {
    let open = stats.gauge(|shard| &shard.connections_open);
    let idle = stats.gauge(|shard| &shard.connections_idle);
    StatsView {
        connections_open: open,
        connections_idle: idle,
        connections_busy: open.saturating_sub(idle),
        connects: stats.sum(|shard| shard.connects.get()),
        requests: stats.sum(|shard| shard.responses.total()),
        failures: stats.sum(|shard| shard.failures.total()),
        retries_to: stats.sum(|shard| shard.retries_to.get()),
        latency: LatencyView::of(&stats.histogram(|shard| &shard.head_time)),
    }
    .serialize(serializer)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn health<S: Serializer>(health: &Health, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(health.as_str())
}

#[expect(clippy::ref_option, reason = "the signature serde asks for")]
fn unix_seconds<S: Serializer>(at: &Option<WallTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.serialize_some(&((at.as_nanos() / 1_000_000) as f64 / 1_000.0)),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_shows_its_counters() {
        let stats = EndpointStats::new(2);
        stats.shard(0).connected(300);
        stats.shard(1).connected(300);
        stats.shard(1).connections_idle.inc();
        let view = EndpointView {
            name: "a".into(),
            address: "127.0.0.1:1".into(),
            zone: None,
            priority: 0,
            weight: 1,
            health: Health::Ejected,
            since: Some(WallTime::from_nanos(1_500_000_000)),
            last_probe_error: None,
            in_flight: 1,
            waiting: 0,
            ejections: 1,
            stats,
        };
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["health"], "ejected");
        assert_eq!(json["since"], 1.5);
        assert_eq!(json["connections_open"], 2);
        assert_eq!(json["connections_busy"], 1);
        assert_eq!(json["latency"]["count"], 0);
        assert!(json["latency"]["p99_ms"].is_null());
    }
}
