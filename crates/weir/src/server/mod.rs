//! From a plan to a running process: limits, sockets, threads, and a clean end.
//!
//! Threads: one per worker (`weir-worker-N`, the data path), the keeper (`weir-keeper`, health and snapshots), and the
//! control thread (`weir-control`: observation listener, grantor of budgets and name resolution, on tokio).

mod control;
mod limits;
pub(crate) mod preflight;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_config::plan::{self, Plan};
use weir_core::{ClusterId, Endpoint};
use weir_net::epoll::{self, WorkerConfig};
use weir_net::{ListenError, ListenOptions, ListenerId, PrivilegeError, SocketFile, bind_listener};
use weir_proxy::keeper::Keeper;
use weir_proxy::runtime::{Config, Shared};
use weir_proxy::worker;
use weir_telemetry::{AccessLog, event};

pub(crate) use limits::{Limits, LimitsError};

/// Undelivered messages of a worker or of the keeper.
const MAILBOX: usize = 64 * 1024;
/// Permission bits of a Unix socket's file unless configured: its user and group.
const UNIX_MODE: u32 = 0o660;
/// At start, the keeper has so long to publish the configured endpoints.
const FIRST_SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(1);
/// After the deadline of a graceful stop, threads have this long to end.
const FORCE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a plan could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The descriptor limit is too low for the plan.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// A listener could not be bound.
    #[error("listener `{listener}`: {source}")]
    Listen {
        /// Which.
        listener: Arc<str>,
        /// Why.
        source: ListenError,
    },
    /// The metrics listener could not be bound.
    #[error(
        "[metrics] bind = \"{address}\": {source}; choose another address, or switch it off with `enabled = false`"
    )]
    Metrics {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: ListenError,
    },
    /// The grantor's listener could not be bound.
    #[error("[grantor] bind = \"{address}\": {source}; choose another address, or end the process that grants there")]
    Grantor {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Privileges could not be dropped.
    #[error("[process] user: {0}")]
    Privileges(#[from] PrivilegeError),
    /// The access log could not be opened.
    #[error("[access_log]: {0}")]
    AccessLog(std::io::Error),
    /// The kernel refused something that is always needed.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Whether new traffic is welcome.
pub(crate) struct Readiness(AtomicU8);

impl Readiness {
    const RUNNING: u8 = 1;
    const DRAINING: u8 = 2;

    pub(crate) fn is_draining(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::DRAINING
    }
}

/// A running Weir.
pub(crate) struct Running {
    shared: Arc<Shared>,
    readiness: Arc<Readiness>,
    workers: Vec<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
    control: Option<control::Control>,
    access_log: Option<AccessLog>,
    addresses: Vec<(Arc<str>, weir_core::Address)>,
    metrics: Option<std::net::SocketAddr>,
    view: Arc<dyn weir_control::View>,
    /// Removed when dropped.
    _files: Vec<SocketFile>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// How a graceful stop ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// Everything in flight was finished.
    Cleanly,
    /// The deadline passed first.
    ByForce,
}

/// Starts a plan. Returns when the listeners accept connections.
pub(crate) fn start(plan: &Plan) -> Result<Running, StartError> {
    let workers = plan.process.workers.map_or_else(default_workers, usize::from);
    let limits = Limits::derive(plan, workers)?;
    let (mut sockets, addresses, files) = bind_all(plan, workers)?;
    let metrics = match &plan.metrics {
        None => None,
        Some(metrics) => {
            let address = metrics.bind;
            bind_metrics(address).map_err(|source| StartError::Metrics { address, source })?
        }
    };
    let grantor = plan.grantor.as_ref().map(bind_grantor).transpose()?;
    if let Some(user) = &plan.process.user {
        weir_net::drop_privileges(user, plan.process.group.as_deref())?;
    }

    let access_log = plan.access_log.as_ref().map(open_access_log).transpose().map_err(StartError::AccessLog)?;
    let config = Arc::new(Config::compile(plan, limits.client_connections, workers));
    let (machines, snapshot) = Keeper::machines(&config, limits.endpoint_connections, workers);
    let shared = Arc::new(Shared::new(snapshot, workers));
    let seed = seed();

    let system = |what| move |source| StartError::System { what, source };
    let worker_config = WorkerConfig { mailbox_len_max: MAILBOX, connections_max: limits.worker_connections };
    let mut loops = Vec::with_capacity(workers);
    for _ in 0..workers {
        loops.push(epoll::Worker::<worker::Message>::new(&worker_config).map_err(system("starting a worker"))?);
    }
    for (listener, per_worker) in sockets.drain(..) {
        for (engine, socket) in loops.iter_mut().zip(per_worker) {
            engine.add_listener(listener, socket).map_err(system("registering a listener"))?;
        }
    }
    let mut keeper_loop = epoll::Worker::new(&worker_config).map_err(system("starting the keeper"))?;
    shared.connect(loops.iter().map(epoll::Worker::sender).collect(), keeper_loop.sender());

    let initial = static_endpoints(plan);
    // Without endpoints there is nothing to publish, and nothing to wait for.
    let empty = initial.iter().any(|(_, endpoints)| !endpoints.is_empty()).then(|| shared.generation());
    let mut keeper = Keeper::new(machines, config, Arc::clone(&shared), initial, seed);
    let keeper = spawn("weir-keeper", move || keeper_loop.run(&mut keeper)).map_err(system("starting a thread"))?;
    if let Some(empty) = empty {
        await_endpoints(&shared, empty);
    }
    let mut threads = Vec::with_capacity(workers);
    for (id, mut engine) in loops.into_iter().enumerate() {
        let (shared, log) = (Arc::clone(&shared), access_log.as_ref().map(AccessLog::writer));
        let thread = spawn(&format!("weir-worker-{id}"), move || {
            let mut protocol = worker::Worker::new(id, shared, seed, log);
            engine.run(&mut protocol)
        });
        threads.push(thread.map_err(system("starting a thread"))?);
    }

    let readiness = Arc::new(Readiness(AtomicU8::new(Readiness::RUNNING)));
    let metrics_address = metrics.as_ref().and_then(|socket| socket.local_addr().ok());
    let granted = grantor.as_ref().map(|(_, grantors)| Arc::clone(grantors));
    let observed = view::Observed::new(Arc::clone(&shared), plan, access_log.clone(), Arc::clone(&readiness), granted);
    let view: Arc<dyn weir_control::View> = Arc::new(observed);
    let grantor_address = grantor.as_ref().and_then(|(socket, _)| socket.local_addr().ok());
    let control = control::Control::start(metrics, grantor, Arc::clone(&view), plan, Arc::clone(&shared))
        .map_err(system("starting the control thread"))?;
    for (name, address) in &addresses {
        let name: &str = name;
        event::ListenerStarted { listener: name, address, protocol: protocol_of(plan, name) }.emit();
    }
    if let Some(address) = grantor_address {
        event::ListenerStarted { listener: "grantor", address: &address, protocol: "http" }.emit();
    }
    limits.log(workers);
    Ok(Running {
        shared,
        readiness,
        workers: threads,
        keeper: Some(keeper),
        control: Some(control),
        access_log,
        addresses,
        metrics: metrics_address,
        view,
        _files: files,
    })
}

impl Running {
    /// The bound listeners by name, with the ports that the system chose.
    pub(crate) fn addresses(&self) -> &[(Arc<str>, weir_core::Address)] {
        &self.addresses
    }

    /// Where the observation listener is.
    pub(crate) const fn metrics(&self) -> Option<std::net::SocketAddr> {
        self.metrics
    }

    /// What the observation listener shows, for readers in this process. It can be read after the end, too.
    pub(crate) fn view(&self) -> Arc<dyn weir_control::View> {
        Arc::clone(&self.view)
    }

    /// Opens the access log again (after rotation).
    pub(crate) fn reopen_logs(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    /// Begins a graceful stop: nobody new is accepted, requests in flight are finished.
    pub(crate) fn begin_stop(&self) {
        self.readiness.0.store(Readiness::DRAINING, Ordering::Relaxed);
        self.shared.drain();
    }

    /// Whether every worker has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.workers.iter().all(JoinHandle::is_finished)
    }

    /// Requests and sessions in flight.
    pub(crate) fn in_flight(&self) -> u64 {
        let open = |stats: &Arc<weir_telemetry::WorkerStats>| stats.in_flight.get() + stats.tcp_open.get();
        u64::try_from(self.shared.stats.iter().map(open).sum::<i64>()).unwrap_or(0)
    }

    /// Ends what still runs, and waits for the threads.
    pub(crate) fn end(mut self) -> Stopped {
        let clean = self.is_finished();
        self.shared.stop();
        let deadline = Instant::now() + FORCE_TIMEOUT;
        let mut threads: Vec<_> = self.workers.drain(..).chain(self.keeper.take()).collect();
        while !threads.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        for thread in threads.drain(..).filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
        if let Some(control) = self.control.take() {
            control.stop();
        }
        if let Some(log) = &self.access_log {
            log.shutdown(FORCE_TIMEOUT);
        }
        if clean { Stopped::Cleanly } else { Stopped::ByForce }
    }
}

/// One worker per core that this process may use.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

type Sockets = Vec<(ListenerId, Vec<std::os::fd::OwnedFd>)>;
type Addresses = Vec<(Arc<str>, weir_core::Address)>;

fn bind_all(plan: &Plan, workers: usize) -> Result<(Sockets, Addresses, Vec<SocketFile>), StartError> {
    let (mut sockets, mut addresses, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for (index, listener) in plan.listeners.iter().enumerate() {
        for bind in &listener.bind {
            let options =
                ListenOptions { ipv6_only: bind.ipv6_only, unix_mode: bind.mode.unwrap_or(UNIX_MODE), backlog: None };
            let bound = bind_listener(&bind.address, workers, &options)
                .map_err(|source| StartError::Listen { listener: Arc::clone(&listener.name), source })?;
            addresses.push((Arc::clone(&listener.name), bound.address));
            sockets.push((ListenerId(index as u32), bound.sockets));
            files.extend(bound.file);
        }
    }
    Ok((sockets, addresses, files))
}

fn bind_metrics(address: std::net::SocketAddr) -> Result<Option<std::net::TcpListener>, ListenError> {
    let options = ListenOptions { backlog: None, ipv6_only: true, unix_mode: UNIX_MODE };
    let bound = bind_listener(&address.into(), 1, &options)?;
    // One socket for one worker.
    Ok(bound.sockets.into_iter().next().map(std::net::TcpListener::from))
}

/// Binds the grantor's address for this process alone, unlike the other listeners (`SO_REUSEPORT`): two grantors of one
/// budget would grant it twice. Its time begins now.
fn bind_grantor(plan: &plan::Grantor) -> Result<(std::net::TcpListener, Arc<weir_control::Grantors>), StartError> {
    let address = plan.bind;
    let listener = std::net::TcpListener::bind(address).map_err(|source| StartError::Grantor { address, source })?;
    let budgets = plan.budgets.iter().map(|budget| (Arc::clone(&budget.name), budget.params));
    Ok((listener, Arc::new(weir_control::Grantors::new(plan.token.clone(), budgets))))
}

fn open_access_log(log: &plan::AccessLog) -> std::io::Result<AccessLog> {
    use weir_telemetry::access_log::{Format, Target};
    let target = match &log.target {
        plan::LogTarget::Stdout => Target::Stdout,
        plan::LogTarget::File(path) => Target::File(path.clone()),
    };
    let format = match log.format {
        plan::LogFormat::Json => Format::Json,
        plan::LogFormat::Combined => Format::Combined,
    };
    AccessLog::start(target, format)
}

/// Waits until the keeper has published the endpoints that it was started with. The sockets listen already, so that
/// early clients wait in the backlog instead of being told that there is no endpoint.
fn await_endpoints(shared: &Shared, empty: u64) {
    let deadline = Instant::now() + FIRST_SNAPSHOT_TIMEOUT;
    while shared.generation() == empty && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// The endpoints that need no resolution, per cluster.
fn static_endpoints(plan: &Plan) -> Vec<(ClusterId, Vec<Endpoint>)> {
    let of = |(index, cluster): (usize, &plan::Cluster)| {
        let endpoints = cluster.endpoints.iter().filter_map(|spec| match spec {
            plan::EndpointSpec::Static(endpoint) => Some(endpoint.clone()),
            plan::EndpointSpec::Dns(_) => None,
        });
        (ClusterId(index as u32), endpoints.collect())
    };
    plan.clusters.iter().enumerate().map(of).collect()
}

fn protocol_of(plan: &Plan, listener: &str) -> &'static str {
    let found = plan.listeners.iter().find(|candidate| &*candidate.name == listener);
    match found.map(|listener| &listener.protocol) {
        Some(plan::Protocol::Tcp(_)) => "tcp",
        _ => "http",
    }
}

fn spawn(name: &str, run: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let thread_name = name.to_owned();
    std::thread::Builder::new().name(thread_name.clone()).spawn(move || {
        if let Err(error) = run() {
            tracing::error!(thread = thread_name, %error, "a loop ended with an error");
        }
    })
}

/// Differs between processes; load spreading needs no more than that.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
