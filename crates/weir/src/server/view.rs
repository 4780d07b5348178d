//! The running process as the observation listener shows it.

use std::sync::Arc;
use std::time::Duration;

use weir_config::plan::Plan;
use weir_control::{Grantors, NotReady, Readiness as Ready, View};
use weir_core::{Health, Instant, WallTime};
use weir_net::epoll::Clock;
use weir_proxy::keeper::describe;
use weir_proxy::runtime::Shared;
use weir_telemetry::{AccessLog, BuildInfo, ClusterView, EndpointView, ProcessStats, Sources};

use super::Readiness;

/// Endpoints without an answer are waited for this long at start.
const SETTLE: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Observed {
    shared: Arc<Shared>,
    algorithms: Vec<&'static str>,
    access_log: Option<AccessLog>,
    readiness: Arc<Readiness>,
    started: Instant,
    listeners: usize,
    grantors: Option<Arc<Grantors>>,
}

impl Observed {
    pub(crate) fn new(
        shared: Arc<Shared>,
        plan: &Plan,
        access_log: Option<AccessLog>,
        readiness: Arc<Readiness>,
        grantors: Option<Arc<Grantors>>,
    ) -> Self {
        let algorithms = plan.clusters.iter().map(|cluster| cluster.balance.algorithm.name()).collect();
        let (started, listeners) = (Clock.now(), plan.listeners.len());
        Self { shared, algorithms, access_log, readiness, started, listeners, grantors }
    }
}

impl View for Observed {
    fn clusters(&self) -> Vec<ClusterView> {
        let snapshot = self.shared.snapshot();
        let (now, wall) = (Clock.now(), Clock.wall());
        let named = snapshot.config.clusters.iter().zip(&self.algorithms);
        let view = |(cluster, (config, algorithm)): (
            &Arc<weir_cluster::ClusterSnapshot<_>>,
            (&weir_proxy::runtime::ClusterConfig, &&str),
        )| {
            ClusterView {
                name: config.plan.name.to_string(),
                algorithm: (*algorithm).to_owned(),
                panic: cluster.panic,
                usable: cluster.usable,
                endpoints: cluster.endpoints.iter().map(|state| endpoint_view(state, now, wall)).collect(),
            }
        };
        snapshot.clusters.iter().zip(named).map(view).collect()
    }

    fn readiness(&self) -> Ready {
        if self.readiness.is_draining() {
            return Ready::NotReady(NotReady::Draining);
        }
        if self.listeners == 0 && self.grantors.is_none() {
            return Ready::NotReady(NotReady::NoListener);
        }
        let snapshot = self.shared.snapshot();
        let unknown = |state: &Arc<weir_cluster::EndpointState<_>>| state.health().0 == Health::Unknown;
        // Not yet entered, not yet resolved, or not yet probed.
        let waiting = snapshot.clusters.iter().zip(&snapshot.config.clusters).any(|(cluster, config)| {
            cluster.endpoints.is_empty() && !config.plan.endpoints.is_empty() || cluster.endpoints.iter().any(unknown)
        });
        if waiting && Clock.now().since(self.started) < SETTLE {
            return Ready::NotReady(NotReady::Starting);
        }
        Ready::Ready
    }

    fn sources(&self) -> Sources {
        Sources {
            workers: self.shared.stats.clone(),
            clusters: self.clusters(),
            budgets: self.grantors.as_ref().map(|grantors| grantors.view()).unwrap_or_default(),
            process: ProcessStats::read(),
            build: self.build(),
            access_log: self.access_log.clone(),
            config_revision: 1,
            ready: self.readiness() == Ready::Ready,
        }
    }

    fn build(&self) -> BuildInfo {
        BuildInfo { version: env!("CARGO_PKG_VERSION"), commit: option_env!("WEIR_COMMIT").unwrap_or("unknown") }
    }
}

fn endpoint_view(
    state: &weir_cluster::EndpointState<Arc<weir_telemetry::EndpointStats>>,
    now: Instant,
    wall: WallTime,
) -> EndpointView {
    let (health, since) = state.health();
    let age = u64::try_from(now.since(since).as_nanos()).unwrap_or(u64::MAX);
    EndpointView {
        name: state.endpoint.name.to_string(),
        address: state.endpoint.address.to_string(),
        zone: state.endpoint.zone.as_deref().map(str::to_owned),
        priority: state.endpoint.priority,
        weight: state.endpoint.weight.get(),
        health,
        since: Some(WallTime::from_nanos(wall.as_nanos().saturating_sub(age))),
        last_probe_error: state.last_failure().map(describe),
        in_flight: state.load.in_flight(),
        waiting: state.permits.waiting(),
        ejections: state.ejections(),
        stats: Arc::clone(&state.ext),
    }
}
