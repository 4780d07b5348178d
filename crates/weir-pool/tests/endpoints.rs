//! What a user of pools over several endpoints relies on, against servers of the test's own making, on a paused clock: times are
//! exact however busy the machine is.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use weir_pool::{
    Address, Algorithm, BalanceParams, Builder, Endpoint, EndpointGuard, EndpointPools, EndpointSnapshot,
    EndpointsBuilder, Manager, Pool, Refused, Standing, Weight,
};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One server.
#[derive(Debug)]
struct Server {
    connect_ms: AtomicU64,
    refuses: AtomicBool,
    hangs: AtomicBool,
    /// Connections from the beginning of the connect to their end.
    open: AtomicU32,
    opened: AtomicU32,
    /// Connections lent.
    uses: AtomicU32,
    /// Connections of earlier generations are dead.
    generation: AtomicU32,
    /// `open` of all servers together.
    all: Arc<Sum>,
}

#[derive(Default, Debug)]
struct Sum {
    open: AtomicU32,
    max: AtomicU32,
}

impl Server {
    fn open(&self) -> u32 {
        self.open.load(Ordering::SeqCst)
    }

    fn uses(&self) -> u32 {
        self.uses.load(Ordering::SeqCst)
    }

    fn fail(&self) {
        self.refuses.store(true, Ordering::SeqCst);
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    fn recover(&self) {
        self.refuses.store(false, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Conn {
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
struct Failure(&'static str);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Failure {}

struct Client(Arc<Server>);

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
struct Net {
    servers: Arc<Mutex<BTreeMap<u16, Arc<Server>>>>,
    all: Arc<Sum>,
}

impl Net {
    fn server(&self, port: u16) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap();
        let made = servers.entry(port).or_insert_with(|| {
            Arc::new(Server {
                connect_ms: AtomicU64::new(5),
                refuses: AtomicBool::new(false),
                hangs: AtomicBool::new(false),
                open: AtomicU32::new(0),
                opened: AtomicU32::new(0),
                uses: AtomicU32::new(0),
                generation: AtomicU32::new(0),
                all: Arc::clone(&self.all),
            })
        });
        Arc::clone(made)
    }

    fn most_open(&self) -> u32 {
        self.all.max.load(Ordering::SeqCst)
    }

    fn pools(
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

fn address(port: u16) -> Address {
    Address::parse(&format!("192.0.2.1:{port}")).unwrap()
}

fn endpoint(port: u16, weight: u16) -> Endpoint {
    Endpoint { weight: Weight::new(weight), ..Endpoint::new(address(port)) }
}

fn seen(pools: &EndpointPools<Client>, port: u16) -> EndpointSnapshot {
    pools.snapshot().endpoints.into_iter().find(|seen| seen.endpoint.address == address(port)).unwrap()
}

fn port(guard: &EndpointGuard<Client>) -> u16 {
    guard.endpoint().address.inet().unwrap().port()
}

/// Lets time pass on the paused clock.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await; // tidy: allow(sleep) virtual time: nothing waits for a machine
}

/// Waits for something to become true.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "not in time: {what}");
        pass(ms(2)).await;
    }
}

async fn up(pools: &EndpointPools<Client>, count: usize) {
    eventually("the endpoints are up", || pools.snapshot().usable() == count).await;
}

/// Callers without end that hold a connection for `hold` each, until they are dropped.
struct Load {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    failed: Arc<AtomicU32>,
    served: Arc<AtomicU32>,
}

impl Load {
    fn start(pools: &EndpointPools<Client>, callers: usize, hold: Duration) -> Self {
        let (failed, served) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let tasks = (0..callers)
            .map(|_| {
                let (pools, failed, served) = (pools.clone(), Arc::clone(&failed), Arc::clone(&served));
                tokio::spawn(async move {
                    loop {
                        match pools.acquire().await {
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
        Self { tasks, failed, served }
    }

    fn failed(&self) -> u32 {
        self.failed.load(Ordering::SeqCst)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_before_the_first_connection_wait_for_it() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    let caller = {
        let pools = pools.clone();
        tokio::spawn(async move { pools.acquire().await.map(|guard| port(&guard)) })
    };
    pass(ms(100)).await;
    net.server(1).connect_ms.store(50, Ordering::SeqCst);
    let begun = Instant::now();
    pools.set_endpoints(vec![endpoint(1, 1)]).unwrap();
    assert_eq!(caller.await.unwrap().unwrap(), 1);
    assert!(begun.elapsed() <= ms(60), "{:?}", begun.elapsed());
    let twice = pools.set_endpoints(vec![endpoint(2, 1), endpoint(2, 3)]).unwrap_err();
    assert_eq!(twice.to_string(), "192.0.2.1:2 is in the list twice");
    assert_eq!(pools.snapshot().endpoints.len(), 1, "nothing has changed");
}

#[tokio::test(start_paused = true)]
async fn an_ejected_endpoint_is_empty_within_a_second_and_gets_nobody() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1), endpoint(3, 1)]).unwrap();
    up(&pools, 3).await;
    let load = Load::start(&pools, 24, ms(20));
    pass(Duration::from_secs(2)).await;
    assert!(net.server(1).open() >= 3, "{}", pools.snapshot());
    assert!(pools.eject(&address(1), Duration::from_secs(10)));
    let (begun, uses) = (Instant::now(), net.server(1).uses());
    eventually("it is empty", || net.server(1).open() == 0).await;
    assert!(begun.elapsed() <= ms(1_000), "{:?}", begun.elapsed());
    // The others have its share.
    eventually("the others have grown", || net.server(2).open() + net.server(3).open() == 12).await;
    pass(Duration::from_secs(5)).await;
    assert_eq!(net.server(1).uses(), uses, "no caller since");
    assert_eq!((net.server(1).open(), seen(&pools, 1).standing), (0, Standing::Out));
    assert!(seen(&pools, 1).ejected_for.is_some());
    assert_eq!(load.failed(), 0);
    // Its time is over: it warms up and gets its share back.
    pass(Duration::from_secs(6)).await;
    eventually("it is back", || net.server(1).open() >= 3 && net.server(1).uses() > uses + 100).await;
    assert_eq!((load.failed(), net.most_open() <= 12), (0, true), "{} at once", net.most_open());
    assert!(load.served.load(Ordering::SeqCst) > 3_000);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_at_an_ejected_endpoint_is_closed_when_it_comes_back() {
    let net = Net::default();
    let pools = net.pools(|b| b.max_size(2), |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let held = pools.acquire_where(|endpoint| endpoint.address == address(1)).await.unwrap();
    assert!(pools.eject(&address(1), Duration::from_mins(1)));
    let other = pools.acquire().await.unwrap();
    assert_eq!(port(&other), 2);
    pass(Duration::from_secs(30)).await;
    assert_eq!((net.server(1).open(), net.server(2).open()), (1, 1), "its place is its user's");
    assert_eq!(seen(&pools, 1).pool.active, 1);
    drop(held);
    eventually("it is closed, and its place is the other's", || seen(&pools, 2).pool.max_size == 2).await;
    assert_eq!(net.server(1).open(), 0);
    assert!(net.most_open() <= 2, "{}", net.most_open());
}

#[tokio::test(start_paused = true)]
async fn those_in_line_at_an_ejected_endpoint_go_on_in_their_order() {
    let net = Net::default();
    let pools = net.pools(|b| b.max_size(2).acquire_timeout(Duration::from_secs(3)), |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let mut held = vec![pools.acquire().await.unwrap(), pools.acquire().await.unwrap()];
    held.sort_by_key(port);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (pools, order) = (pools.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let guard = pools.acquire().await;
            if let Ok(guard) = &guard {
                order.lock().unwrap().push((number, port(guard)));
                pass(ms(10)).await;
            }
            guard.is_ok()
        }));
        pass(ms(10)).await;
    }
    let waiting = |port| seen(&pools, port).pool.pending;
    assert_eq!((waiting(1), waiting(2)), (10, 10), "the balancer has spread them");
    assert!(pools.eject(&address(1), Duration::from_mins(1)));
    eventually("all wait at the other", || waiting(2) == 20).await;
    drop(held.pop());
    for task in tasks {
        assert!(task.await.unwrap());
    }
    let order = order.lock().unwrap().clone();
    assert_eq!(order, (0..20).map(|number| (number, 2)).collect::<Vec<_>>(), "as if they had waited there");
    assert_eq!(pools.snapshot().moves, 10);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_moves_on_keeps_its_deadline() {
    for own in [false, true] {
        let net = Net::default();
        let pools = net.pools(|b| b.max_size(2).acquire_timeout(ms(1_000)), |b| b);
        pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
        up(&pools, 2).await;
        let _held = [pools.acquire().await.unwrap(), pools.acquire().await.unwrap()];
        let begun = Instant::now();
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let pools = pools.clone();
                tokio::spawn(
                    async move { if own { pools.acquire_timeout(ms(1_000)).await } else { pools.acquire().await } },
                )
            })
            .collect();
        pass(ms(600)).await;
        pools.eject(&address(1), Duration::from_mins(1));
        for caller in callers {
            let error = caller.await.unwrap().unwrap_err();
            assert_eq!(error.refused(), Refused::TimedOut);
            assert!(error.waited() >= ms(1_000) && begun.elapsed() <= ms(1_050), "{error}: {:?}", begun.elapsed());
        }
        assert_eq!(pools.snapshot().moves, 2);
        assert_eq!(seen(&pools, 2).pool.pending, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_caller_leaves_nothing_behind() {
    let net = Net::default();
    let pools = net.pools(|b| b.max_size(2), |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let held = (pools.acquire().await.unwrap(), pools.acquire().await.unwrap());
    for round in 0..40 {
        let caller = {
            let pools = pools.clone();
            tokio::spawn(async move { drop(pools.acquire().await) })
        };
        pass(ms(1)).await;
        if round % 4 == 0 {
            pools.eject(&address(1 + round % 8 / 4), ms(3));
        }
        caller.abort();
        let _ = caller.await;
    }
    let loads = |pools: &EndpointPools<Client>| pools.snapshot().endpoints.iter().map(|e| e.in_flight).sum::<u32>();
    assert_eq!(loads(&pools), 2);
    drop(held);
    assert_eq!(loads(&pools), 0);
    up(&pools, 2).await;
    assert_eq!(pools.snapshot().endpoints.iter().map(|e| e.pool.pending).sum::<u32>(), 0);
    let again = (pools.acquire().await.unwrap(), pools.acquire().await.unwrap());
    assert_ne!(port(&again.0), port(&again.1));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_gets_nobody_before_it_is_warm() {
    let net = Net::default();
    let pools = net.pools(|b| b.min_idle(3), |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let load = Load::start(&pools, 24, ms(20));
    pass(Duration::from_secs(1)).await;
    let newcomer = net.server(3);
    newcomer.connect_ms.store(700, Ordering::SeqCst);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1), endpoint(3, 1)]).unwrap();
    let mut warm_at_first_use = None;
    eventually("it is used", || {
        if newcomer.uses() == 0 {
            warm_at_first_use = Some(newcomer.opened.load(Ordering::SeqCst));
            return false;
        }
        true
    })
    .await;
    assert_eq!(warm_at_first_use, Some(3), "its connections were open before");
    eventually("it has its share", || seen(&pools, 3).pool.max_size == 4).await;
    assert_eq!(load.failed(), 0);
    assert!(net.most_open() <= 12, "{}", net.most_open());
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_cannot_be_reached_never_gets_anybody() {
    for hangs in [false, true] {
        let net = Net::default();
        let pools = net.pools(|b| b, |b| b);
        pools.set_endpoints(vec![endpoint(1, 1)]).unwrap();
        up(&pools, 1).await;
        let load = Load::start(&pools, 24, ms(20));
        net.server(2).refuses.store(true, Ordering::SeqCst);
        net.server(2).hangs.store(hangs, Ordering::SeqCst);
        pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 5)]).unwrap();
        pass(Duration::from_mins(1)).await;
        assert_eq!((net.server(2).uses(), load.failed()), (0, 0));
        let seen = seen(&pools, 2);
        assert!(seen.standing != Standing::Up && seen.in_flight == 0, "{seen}");
        assert_eq!(net.server(1).open(), 11, "the other is short of one place, for trying: {}", pools.snapshot());
        net.server(2).recover();
        net.server(2).hangs.store(false, Ordering::SeqCst);
        eventually("it takes part", || net.server(2).uses() > 100).await;
        assert!(net.most_open() <= 12, "{}", net.most_open());
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_dies_is_left_out_until_a_connect_succeeds() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let load = Load::start(&pools, 24, ms(20));
    pass(Duration::from_secs(1)).await;
    net.server(1).fail();
    eventually("it is out", || seen(&pools, 1).standing == Standing::Down).await;
    let uses = net.server(1).uses();
    pass(Duration::from_secs(20)).await;
    assert_eq!(net.server(1).uses(), uses);
    assert_eq!(load.failed(), 0, "callers were served elsewhere");
    assert!(seen(&pools, 1).pool.failing_for.is_some());
    net.server(1).recover();
    let begun = Instant::now();
    eventually("it is back", || net.server(1).uses() > uses + 10).await;
    assert!(begun.elapsed() <= ms(1_500), "within one step of back-off: {:?}", begun.elapsed());
    assert!(net.most_open() <= 12, "{}", net.most_open());
}

#[tokio::test(start_paused = true)]
async fn if_all_are_away_callers_wait_then_are_refused_with_the_cause() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    drop((pools.acquire().await.unwrap(), pools.acquire().await.unwrap()));
    for port in [1, 2] {
        net.server(port).fail();
    }
    // A short fail-over costs nothing but time.
    let caller = {
        let pools = pools.clone();
        tokio::spawn(async move { pools.acquire().await.map(drop) })
    };
    pass(ms(1_000)).await;
    net.server(2).recover();
    assert!(caller.await.unwrap().is_ok());
    net.server(2).fail();
    let begun = Instant::now();
    let error = pools.acquire().await.unwrap_err();
    assert_eq!(error.refused(), Refused::TimedOut, "{error}");
    assert!(begun.elapsed() <= ms(3_050), "{:?}", begun.elapsed());
    assert_eq!(error.cause().unwrap().0, "connection refused");
    eventually("it is known to be down", || pools.snapshot().down).await;
    let begun = Instant::now();
    let error = pools.acquire().await.unwrap_err();
    assert_eq!((error.refused(), begun.elapsed()), (Refused::Down, Duration::ZERO));
    assert!(error.to_string().contains("connection refused"), "{error}");
    net.server(1).recover();
    eventually("it serves again", || pools.snapshot().usable() == 1).await;
    assert_eq!(port(&pools.acquire().await.unwrap()), 1);
}

#[tokio::test(start_paused = true)]
async fn if_all_are_ejected_all_are_used_and_it_shows() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    for port in [1, 2] {
        pools.eject(&address(port), Duration::from_secs(30));
    }
    assert!(pools.snapshot().panic && pools.snapshot().to_string().contains("panic"));
    up(&pools, 2).await;
    drop(pools.acquire().await.unwrap());
    assert!(pools.restore(&address(2)));
    up(&pools, 1).await;
    assert!(!pools.snapshot().panic);
    assert_eq!(port(&pools.acquire().await.unwrap()), 2);

    let never = net.pools(|b| b, |b| b.panic_threshold(0.0));
    never.set_endpoints(vec![endpoint(3, 1)]).unwrap();
    up(&never, 1).await;
    never.eject(&address(3), Duration::from_secs(30));
    let begun = Instant::now();
    assert_eq!(never.acquire().await.unwrap_err().refused(), Refused::TimedOut);
    assert!(begun.elapsed() >= ms(3_000), "it might have come back");
    assert!(!never.restore(&address(9)), "there is none");
}

#[tokio::test(start_paused = true)]
async fn a_weight_moves_connections_and_traffic_never_above_the_total() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let load = Load::start(&pools, 36, ms(20));
    eventually("six each", || (net.server(1).open(), net.server(2).open()) == (6, 6)).await;
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 3)]).unwrap();
    eventually("as they weigh", || (net.server(1).open(), net.server(2).open()) == (3, 9)).await;
    let before = (net.server(1).uses(), net.server(2).uses());
    pass(Duration::from_secs(5)).await;
    let (first, second) = (net.server(1).uses() - before.0, net.server(2).uses() - before.1);
    let ratio = f64::from(second) / f64::from(first);
    assert!((2.7..=3.3).contains(&ratio), "{first} to {second}");
    pools.resize(4).unwrap();
    eventually("fewer in all", || (net.server(1).open(), net.server(2).open()) == (1, 3)).await;
    pools.set_endpoints(vec![endpoint(2, 3)]).unwrap();
    eventually("it is gone", || pools.snapshot().endpoints.len() == 1 && net.server(1).open() == 0).await;
    assert_eq!(load.failed(), 0);
    assert!(net.most_open() <= 12, "{}", net.most_open());
    assert_eq!(pools.resize(0).unwrap_err().setting(), "max_size");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_changes_loses_nobody_and_never_exceeds_the_total() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b.max_per_endpoint(6));
    pools.set_endpoints((1..=4).map(|port| endpoint(port, 1)).collect()).unwrap();
    up(&pools, 4).await;
    let load = Load::start(&pools, 50, ms(7));
    let mut draw = 1_u64;
    for round in 0..400_u64 {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let port = 1 + (draw >> 33) as u16 % 4;
        match (draw >> 40) % 4 {
            0 => drop(pools.eject(&address(port), ms(5 + (draw >> 50) % 60))),
            1 => drop(pools.restore(&address(port))),
            2 => {
                let weight = 1 + (draw >> 45) as u16 % 5;
                let list = (1..=4).filter(|other| *other != port || draw >> 60 > 4);
                let list = list.map(|other| endpoint(other, if other == port { weight } else { 2 }));
                pools.set_endpoints(list.collect()).unwrap();
            }
            _ => {}
        }
        pass(ms(1 + round % 13)).await;
        assert!(net.most_open() <= 12, "{} connections", net.most_open());
    }
    assert_eq!(load.failed(), 0);
    let served = load.served.load(Ordering::SeqCst);
    pass(ms(500)).await;
    assert!(load.served.load(Ordering::SeqCst) > served + 200, "everybody is still at it");
    drop(load);
    for port in 1..=4 {
        pools.restore(&address(port));
    }
    pools.set_endpoints((1..=4).map(|port| endpoint(port, 1)).collect()).unwrap();
    eventually("back to equal shares", || {
        pools.snapshot().endpoints.len() == 4 && (1..=4).all(|port| seen(&pools, port).pool.max_size == 3)
    })
    .await;
    assert_eq!(pools.snapshot().endpoints.iter().map(|e| e.in_flight + e.pool.pending).sum::<u32>(), 0);
    pools.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!((1..=4).map(|port| net.server(port).open()).sum::<u32>(), 0);
}

#[tokio::test(start_paused = true)]
async fn any_algorithm_picks_and_a_key_stays_where_it_is() {
    for row in weir_balance_rows() {
        let net = Net::default();
        let params = BalanceParams { algorithm: row, ..BalanceParams::default() };
        let pools = net.pools(|b| b, |b| b.balance(params));
        pools.set_endpoints((1..=3).map(|port| endpoint(port, 1)).collect()).unwrap();
        up(&pools, 3).await;
        for key in 0..60 {
            drop(pools.acquire_for(weir_balance::hash_key(&[key])).await.unwrap());
        }
        for port in 1..=3 {
            assert!(net.server(port).uses() > 2, "{row:?}: {} uses of {port}", net.server(port).uses());
        }
        if matches!(row, Algorithm::Maglev | Algorithm::RingHash | Algorithm::IpHash) {
            let first = port(&pools.acquire_for(7).await.unwrap());
            for _ in 0..20 {
                assert_eq!(port(&pools.acquire_for(7).await.unwrap()), first, "{row:?}");
            }
            pools.eject(&address(first), Duration::from_mins(1));
            assert_ne!(port(&pools.acquire_for(7).await.unwrap()), first);
        }
    }
}

fn weir_balance_rows() -> Vec<Algorithm> {
    weir_balance::ALGORITHMS.iter().map(|row| row.algorithm).collect()
}

#[tokio::test(start_paused = true)]
async fn tags_tell_a_primary_from_its_replicas() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    let tagged = |port, role: &str| {
        let mut endpoint = endpoint(port, 1);
        endpoint.tags.insert("role".into(), role.into());
        endpoint
    };
    pools.set_endpoints(vec![tagged(1, "primary"), tagged(2, "replica"), tagged(3, "replica")]).unwrap();
    up(&pools, 3).await;
    let is =
        |role: &'static str| move |endpoint: &Endpoint| endpoint.tags.get("role").is_some_and(|tag| &**tag == role);
    let mut guards = Vec::new();
    for _ in 0..4 {
        guards.push(pools.acquire_where(is("replica")).await.unwrap());
    }
    let at = |port_| guards.iter().filter(|guard| port(guard) == port_).count();
    assert_eq!((at(1), at(2), at(3)), (0, 2, 2), "the lighter one each time");
    assert_eq!(port(&pools.acquire_where(is("primary")).await.unwrap()), 1);
    let begun = Instant::now();
    assert_eq!(pools.acquire_where(is("witness")).await.unwrap_err().refused(), Refused::TimedOut);
    assert!(begun.elapsed() >= ms(3_000));
}

#[tokio::test(start_paused = true)]
async fn if_one_line_is_full_another_is_tried() {
    let net = Net::default();
    let round_robin = BalanceParams { algorithm: Algorithm::RoundRobin, ..BalanceParams::default() };
    let pools = net.pools(|b| b.max_size(2).waiters_max(1), |b| b.balance(round_robin));
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let held = (pools.acquire().await.unwrap(), pools.acquire().await.unwrap());
    let first = {
        let pools = pools.clone();
        tokio::spawn(async move { pools.acquire_where(|endpoint| endpoint.address == address(1)).await.is_ok() })
    };
    eventually("one waits", || seen(&pools, 1).pool.pending == 1).await;
    let second = {
        let pools = pools.clone();
        // Whoever's turn it is: there is room at one of them only.
        tokio::spawn(async move { pools.acquire().await.is_ok() })
    };
    eventually("another waits", || seen(&pools, 2).pool.pending == 1).await;
    let error = pools.acquire().await.unwrap_err();
    assert_eq!(error.refused(), Refused::LineFull, "{error}");
    drop(held);
    assert!(first.await.unwrap() && second.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn closing_refuses_waits_and_says_what_is_left() {
    let net = Net::default();
    let pools = net.pools(|b| b.max_size(2), |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let held = (pools.acquire().await.unwrap(), pools.acquire().await.unwrap());
    let waiting = {
        let pools = pools.clone();
        tokio::spawn(async move { pools.acquire().await.unwrap_err().refused() })
    };
    pass(ms(10)).await;
    let left = pools.close(ms(100)).await.unwrap_err();
    assert_eq!((left.size(), left.closed), (2, true));
    assert_eq!(waiting.await.unwrap(), Refused::Closed);
    assert_eq!(pools.acquire().await.unwrap_err().refused(), Refused::Closed);
    drop(held);
    pools.close(Duration::from_secs(1)).await.unwrap();
    assert_eq!(net.server(1).open() + net.server(2).open(), 0);

    // The last handle closes too.
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints(vec![endpoint(1, 1)]).unwrap();
    up(&pools, 1).await;
    let held = pools.acquire().await.unwrap();
    drop(pools);
    pass(ms(10)).await;
    assert_eq!(net.server(1).open(), 1, "in use");
    drop(held);
    eventually("all is closed", || net.server(1).open() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn contradictions_are_refused() {
    let build = |pool: Builder, settings: fn(EndpointsBuilder) -> EndpointsBuilder| {
        let net = Net::default();
        let built = settings(EndpointPools::<Client>::builder(pool)).build(move |_| Client(net.server(1)));
        built.map(drop).unwrap_err().to_string()
    };
    let pool = || Pool::<Client>::builder().max_size(10);
    for (refused, why) in [
        (build(pool().min_idle(0), |b| b), "min_idle: 0"),
        (build(pool().min_idle(4), |b| b.max_per_endpoint(3)), "max_per_endpoint: 3 is less than min_idle (4)"),
        (build(pool(), |b| b.panic_threshold(1.5)), "panic_threshold: 1.5"),
        (build(pool(), |b| b.warm_up_max(Duration::ZERO)), "warm_up_max: 0ns"),
        (build(pool().max_size(0), |b| b), "max_size: 0"),
    ] {
        assert!(refused.starts_with(why), "{refused}");
    }
}
