//! Servers of the tests' own making, pools over them, and callers without end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use weir_pool::{
    Address, Builder, Endpoint, EndpointGuard, EndpointPools, EndpointSnapshot, EndpointsBuilder, Manager, Pool, Weight,
};

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) connect_ms: AtomicU64,
    pub(crate) refuses: AtomicBool,
    pub(crate) hangs: AtomicBool,
    /// It accepts connections and answers nothing.
    mute: AtomicBool,
    /// Connections from the beginning of the connect to their end.
    open: AtomicU32,
    pub(crate) opened: AtomicU32,
    /// Connections lent.
    uses: AtomicU32,
    /// Connections checked with success.
    checks: AtomicU32,
    /// Connections of earlier generations are dead.
    generation: AtomicU32,
    /// `open` of all servers together.
    all: Arc<Sum>,
}

#[derive(Default, Debug)]
pub(crate) struct Sum {
    open: AtomicU32,
    max: AtomicU32,
}

impl Server {
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::SeqCst)
    }

    pub(crate) fn uses(&self) -> u32 {
        self.uses.load(Ordering::SeqCst)
    }

    pub(crate) fn checks(&self) -> u32 {
        self.checks.load(Ordering::SeqCst)
    }

    pub(crate) fn mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::SeqCst);
    }

    fn is_mute(&self) -> bool {
        self.mute.load(Ordering::SeqCst)
    }

    pub(crate) fn fail(&self) {
        self.refuses.store(true, Ordering::SeqCst);
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn recover(&self) {
        self.refuses.store(false, Ordering::SeqCst);
    }
}

#[derive(Debug)]
pub(crate) struct Conn {
    server: Arc<Server>,
    generation: u32,
}

impl Conn {
    fn new(server: &Arc<Server>) -> Self {
        server.open.fetch_add(1, Ordering::SeqCst);
        let open = server.all.open.fetch_add(1, Ordering::SeqCst) + 1;
        server.all.max.fetch_max(open, Ordering::SeqCst);
        Self { server: Arc::clone(server), generation: server.generation.load(Ordering::SeqCst) }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, Ordering::SeqCst);
        self.server.all.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
pub(crate) struct Failure(pub(crate) &'static str);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Failure {}

pub(crate) struct Client(pub(crate) Arc<Server>);

impl Manager for Client {
    type Connection = Conn;
    type Error = Failure;

    async fn connect(&self) -> Result<Conn, Failure> {
        let conn = Conn::new(&self.0);
        if self.0.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        pass(ms(self.0.connect_ms.load(Ordering::SeqCst))).await;
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(Failure("connection refused"));
        }
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        Ok(conn)
    }

    async fn check(&self, _: &mut Conn) -> Result<(), Failure> {
        if self.0.is_mute() {
            std::future::pending::<()>().await;
        }
        self.0.checks.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn is_broken(&self, conn: &mut Conn) -> bool {
        conn.generation != self.0.generation.load(Ordering::SeqCst)
    }

    async fn on_acquire(&self, _: &mut Conn) -> Result<(), Failure> {
        self.0.uses.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Servers by port, made when they are first asked for.
#[derive(Clone, Default)]
pub(crate) struct Net {
    servers: Arc<Mutex<BTreeMap<u16, Arc<Server>>>>,
    all: Arc<Sum>,
}

impl Net {
    pub(crate) fn server(&self, port: u16) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap();
        let made = servers.entry(port).or_insert_with(|| {
            Arc::new(Server {
                connect_ms: AtomicU64::new(5),
                refuses: AtomicBool::new(false),
                hangs: AtomicBool::new(false),
                mute: AtomicBool::new(false),
                checks: AtomicU32::new(0),
                open: AtomicU32::new(0),
                opened: AtomicU32::new(0),
                uses: AtomicU32::new(0),
                generation: AtomicU32::new(0),
                all: Arc::clone(&self.all),
            })
        });
        Arc::clone(made)
    }

    pub(crate) fn most_open(&self) -> u32 {
        self.all.max.load(Ordering::SeqCst)
    }

    pub(crate) fn pools(
        &self,
        pool: impl FnOnce(Builder) -> Builder,
        settings: impl FnOnce(EndpointsBuilder) -> EndpointsBuilder,
    ) -> EndpointPools<Client> {
        let builder = Pool::<Client>::builder().name("db").max_size(12).tokio_clock(true);
        let net = self.clone();
        settings(EndpointPools::<Client>::builder(pool(builder)))
            .build(move |endpoint| Client(net.server(endpoint.address.inet().unwrap().port())))
            .unwrap()
    }
}

pub(crate) fn address(port: u16) -> Address {
    Address::parse(&format!("192.0.2.1:{port}")).unwrap()
}

pub(crate) fn endpoint(port: u16, weight: u16) -> Endpoint {
    Endpoint { weight: Weight::new(weight), ..Endpoint::new(address(port)) }
}

pub(crate) fn seen(pools: &EndpointPools<Client>, port: u16) -> EndpointSnapshot {
    pools.snapshot().endpoints.into_iter().find(|seen| seen.endpoint.address == address(port)).unwrap()
}

pub(crate) fn port(guard: &EndpointGuard<Client>) -> u16 {
    guard.endpoint().address.inet().unwrap().port()
}

/// Lets time pass on the paused clock.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await; // tidy: allow(sleep) virtual time: nothing waits for a machine
}

/// Waits for something to become true.
pub(crate) async fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(Duration::from_secs(20), what, holds).await;
}

pub(crate) async fn eventually_within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "not in time: {what}");
        pass(ms(2)).await;
    }
}

pub(crate) async fn up(pools: &EndpointPools<Client>, count: usize) {
    eventually("the endpoints are up", || pools.snapshot().usable() == count).await;
}

/// After so long a caller gives up a server that does not answer.
const PATIENCE: Duration = ms(200);

/// Callers without end that hold a connection for `hold` each, until they are dropped.
pub(crate) struct Load {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    failed: Arc<AtomicU32>,
    failed_uses: Arc<AtomicU32>,
    pub(crate) served: Arc<AtomicU32>,
}

impl Load {
    pub(crate) fn start(pools: &EndpointPools<Client>, callers: usize, hold: Duration) -> Self {
        let [failed, failed_uses, served] = [(); 3].map(|()| Arc::new(AtomicU32::new(0)));
        let tasks = (0..callers)
            .map(|_| {
                let (pools, failed, served) = (pools.clone(), Arc::clone(&failed), Arc::clone(&served));
                let failed_uses = Arc::clone(&failed_uses);
                tokio::spawn(async move {
                    loop {
                        match pools.acquire().await {
                            Ok(guard) if guard.server.is_mute() => {
                                pass(PATIENCE).await;
                                failed_uses.fetch_add(1, Ordering::SeqCst);
                                guard.discard();
                            }
                            Ok(_guard) => {
                                pass(hold).await;
                                served.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(_) => drop(failed.fetch_add(1, Ordering::SeqCst)),
                        }
                    }
                })
            })
            .collect();
        Self { tasks, failed, failed_uses, served }
    }

    /// Uses to which the server has not answered.
    pub(crate) fn failed_uses(&self) -> u32 {
        self.failed_uses.load(Ordering::SeqCst)
    }

    pub(crate) fn failed(&self) -> u32 {
        self.failed.load(Ordering::SeqCst)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
