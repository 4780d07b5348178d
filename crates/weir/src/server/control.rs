//! The control thread: the observation listener, the grantor of budgets and name resolution, on a small tokio runtime of
//! their own.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};
use weir_config::plan::{self, EndpointSpec, Plan};
use weir_control::{Grantors, View};
use weir_core::{Address, ClusterId, Endpoint};
use weir_discovery::{Event, Families, ScheduleParams, Settings, Source, SourceId, Spec, Update};
use weir_proxy::keeper;
use weir_proxy::runtime::Shared;

/// Updates of names that wait to be handled.
const UPDATES: usize = 256;

/// See the module.
pub(crate) struct Control {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Control {
    /// Starts the thread.
    pub(crate) fn start(
        metrics: Option<TcpListener>,
        grantor: Option<(TcpListener, Arc<Grantors>)>,
        view: Arc<dyn View>,
        plan: &Plan,
        shared: Arc<Shared>,
    ) -> std::io::Result<Self> {
        let (stop, stopping) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sources, names) = Names::new(plan, shared);
        let nameserver = plan.process.nameserver;
        let thread = std::thread::Builder::new().name("weir-control".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let observe = observe(metrics, view, stopping.clone());
                let grant = grant(grantor, stopping.clone());
                tokio::join!(observe, grant, resolve(sources, names, nameserver, stopping));
            });
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub(crate) fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.thread.join();
    }
}

async fn observe(metrics: Option<TcpListener>, view: Arc<dyn View>, stopping: watch::Receiver<bool>) {
    if let Some(listener) = metrics
        && let Err(error) = weir_control::serve(listener, view, stopped(stopping)).await
    {
        tracing::error!(%error, "the metrics listener ended");
    }
}

async fn grant(grantor: Option<(TcpListener, Arc<Grantors>)>, stopping: watch::Receiver<bool>) {
    if let Some((listener, grantors)) = grantor
        && let Err(error) = weir_control::serve_grantor(listener, grantors, stopped(stopping)).await
    {
        tracing::error!(%error, "the grantor's listener ended");
    }
}

async fn resolve(
    sources: Vec<Source>,
    mut names: Names,
    nameserver: Option<SocketAddr>,
    stopping: watch::Receiver<bool>,
) {
    if sources.is_empty() {
        return;
    }
    let settings = Settings {
        nameserver,
        families: Families::Both,
        schedule: ScheduleParams::default(),
        seed: std::process::id().into(),
    };
    let (sender, mut updates) = mpsc::channel(UPDATES);
    let work = async {
        tokio::join!(weir_discovery::run(sources, settings, sender), async {
            while let Some(update) = updates.recv().await {
                names.handle(update);
            }
        });
    };
    tokio::select! {
        () = work => {}
        () = stopped(stopping) => {}
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone: that is a stop, too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// What the names of each cluster stand for now.
struct Names {
    clusters: Vec<Vec<EndpointSpec>>,
    /// Which entry of which cluster a source belongs to.
    places: BTreeMap<SourceId, (usize, usize)>,
    answers: BTreeMap<SourceId, Arc<[Address]>>,
    shared: Arc<Shared>,
}

impl Names {
    fn new(plan: &Plan, shared: Arc<Shared>) -> (Vec<Source>, Self) {
        let mut sources = Vec::new();
        let mut places = BTreeMap::new();
        for (cluster, config) in plan.clusters.iter().enumerate() {
            for (entry, spec) in config.endpoints.iter().enumerate() {
                if let EndpointSpec::Dns(dns) = spec {
                    let id = SourceId(sources.len() as u32);
                    places.insert(id, (cluster, entry));
                    sources.push(Source {
                        id,
                        spec: Spec::Dns { host: Arc::clone(&dns.host), port: dns.port },
                        known: None,
                    });
                }
            }
        }
        let clusters = plan.clusters.iter().map(|cluster| cluster.endpoints.clone()).collect();
        (sources, Self { clusters, places, answers: BTreeMap::new(), shared })
    }

    fn handle(&mut self, update: Update) {
        let Some(&(cluster, _)) = self.places.get(&update.source) else { return };
        if let Event::Addresses(addresses) = update.event {
            self.answers.insert(update.source, addresses);
            let id = ClusterId(cluster as u32);
            self.shared.tell_keeper(keeper::Message::Endpoints(id, self.endpoints_of(cluster)));
        }
    }

    /// The cluster's endpoints in the order written, each name replaced by its addresses.
    fn endpoints_of(&self, cluster: usize) -> Vec<Endpoint> {
        let mut all: Vec<Endpoint> = Vec::new();
        for (entry, spec) in self.clusters.get(cluster).into_iter().flatten().enumerate() {
            match spec {
                EndpointSpec::Static(endpoint) => all.push(endpoint.clone()),
                EndpointSpec::Dns(dns) => {
                    let source = self.places.iter().find(|(_, place)| **place == (cluster, entry)).map(|(id, _)| *id);
                    let answer = source.and_then(|source| self.answers.get(&source));
                    all.extend(answer.into_iter().flat_map(|answer| answer.iter()).map(|address| named(dns, address)));
                }
            }
        }
        // Two names may stand for one address; it is one endpoint.
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|endpoint| seen.insert(endpoint.address.clone()));
        all
    }
}

fn named(dns: &plan::DnsEndpoint, address: &Address) -> Endpoint {
    Endpoint {
        name: Arc::from(format!("{}/{address}", dns.host)),
        address: address.clone(),
        weight: dns.weight,
        zone: dns.zone.clone(),
        priority: dns.priority,
        tags: dns.tags.clone(),
    }
}
