//! Pools of one process that share a budget, on a paused clock.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use weir_pool::{Address, Budget, Endpoint, EndpointPools, Manager, Pool, Refused, Weight};

/// Counts what is open over all pools, and the most there ever was.
#[derive(Default)]
struct Server {
    open: AtomicU32,
    most: AtomicU32,
    opened: AtomicU32,
}

struct Conn(Arc<Server>);

impl Drop for Conn {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct To(Arc<Server>);

impl Manager for To {
    type Connection = Conn;
    type Error = Infallible;

    async fn connect(&self) -> Result<Conn, Infallible> {
        let open = self.0.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(open, Ordering::SeqCst);
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        let conn = Conn(Arc::clone(&self.0));
        millis(5).await;
        Ok(conn)
    }

    async fn check(&self, _: &mut Conn) -> Result<(), Infallible> {
        Ok(())
    }

    async fn close(&self, conn: Conn) {
        millis(2).await;
        drop(conn);
    }
}

fn pool(budget: &Budget, server: &Arc<Server>) -> Pool<To> {
    let builder = Pool::<To>::builder().max_size(40).min_idle(0).tokio_clock(true).budget(budget);
    builder.build(To(Arc::clone(server))).unwrap()
}

/// So many callers that each hold a connection for 20 ms, again and again.
fn load(pool: &Pool<To>, callers: u32) -> Vec<JoinHandle<()>> {
    let one = |_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            while let Ok(conn) = pool.acquire().await {
                millis(20).await;
                drop(conn);
            }
        })
    };
    (0..callers).map(one).collect()
}

fn stop(callers: &[JoinHandle<()>]) {
    callers.iter().for_each(JoinHandle::abort);
}

fn shares(pools: &[&Pool<To>]) -> Vec<u32> {
    pools.iter().map(|pool| pool.snapshot().share.unwrap()).collect()
}

async fn seconds(seconds: u64) {
    millis(seconds * 1_000).await;
}

async fn millis(millis: u64) {
    let time = Duration::from_millis(millis);
    tokio::time::sleep(time).await; // tidy: allow(sleep) virtual time: nothing waits for a machine
}

#[tokio::test(start_paused = true)]
async fn shares_follow_the_load_and_the_sum_holds() {
    let (budget, server) = (Budget::local(40).unwrap(), Arc::new(Server::default()));
    let (a, b) = (pool(&budget, &server), pool(&budget, &server));
    assert_eq!(shares(&[&a, &b]), [20, 20]);
    let few = load(&a, 10);
    let many = load(&b, 60);
    seconds(5).await;
    assert_eq!(shares(&[&a, &b]), [10, 30]);
    stop(&few);
    stop(&many);
    let _many = load(&a, 60);
    let _few = load(&b, 10);
    seconds(5).await;
    assert_eq!(shares(&[&a, &b]), [30, 10]);
    assert_eq!(server.most.load(Ordering::SeqCst), 40);
    // Nothing moves while nothing changes.
    let opened = server.opened.load(Ordering::SeqCst);
    seconds(60).await;
    assert_eq!(server.opened.load(Ordering::SeqCst), opened);
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_use_counts_until_it_is_closed() {
    let (budget, server) = (Budget::local(4).unwrap(), Arc::new(Server::default()));
    let a = pool(&budget, &server);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(a.acquire().await.unwrap());
    }
    let b = pool(&budget, &server);
    let refused = b.acquire_timeout(Duration::from_secs(1)).await.map(drop).unwrap_err();
    assert_eq!(refused.refused(), Refused::TimedOut);
    assert!(refused.to_string().contains("0 of 0 in use (as the budget allows)"), "{refused}");
    held.pop();
    let got = b.acquire_timeout(Duration::from_secs(1)).await.map(drop);
    assert!(got.is_ok());
    assert_eq!(server.most.load(Ordering::SeqCst), 4);
    assert_eq!(a.snapshot().share.unwrap() + b.snapshot().share.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_a_pool_had_goes_to_the_others_when_it_is_closed_or_dropped() {
    let (budget, server) = (Budget::local(40).unwrap(), Arc::new(Server::default()));
    let (a, b, c) = (pool(&budget, &server), pool(&budget, &server), pool(&budget, &server));
    assert_eq!(shares(&[&a, &b, &c]).iter().sum::<u32>(), 40);
    a.close(Duration::from_secs(1)).await.unwrap();
    drop(b);
    seconds(1).await;
    assert_eq!(shares(&[&c]), [40]);
}

#[tokio::test(start_paused = true)]
async fn floors_weights_and_the_maximum_of_a_pool_hold() {
    let (budget, server) = (Budget::local(40).unwrap(), Arc::new(Server::default()));
    let to = || To(Arc::clone(&server));
    let builder = || Pool::<To>::builder().max_size(40).min_idle(0).tokio_clock(true).budget(&budget);
    let light = builder().budget_floor(3).build(to()).unwrap();
    let heavy = builder().budget_weight(3).build(to()).unwrap();
    let small = builder().max_size(2).build(to()).unwrap();
    let _load = [load(&heavy, 100), load(&small, 100)];
    seconds(5).await;
    assert_eq!(shares(&[&light, &heavy, &small]), [3, 35, 2]);
    let _more = load(&light, 100);
    seconds(5).await;
    let parts = shares(&[&light, &heavy, &small]);
    assert!((9..=10).contains(&parts[0]) && parts.iter().sum::<u32>() == 40, "{parts:?}");
    // A pool's own maximum bounds it, also when it is changed.
    heavy.resize(5).unwrap();
    seconds(5).await;
    assert_eq!(shares(&[&light, &heavy, &small]), [33, 5, 2]);
    assert_eq!(heavy.snapshot().max_size, 5);
}

/// Two replicas of weights 1 and 3 share 16 connections, though the total of the pools would be 40.
#[tokio::test(start_paused = true)]
async fn shares_of_endpoints_follow_their_weights() {
    let (budget, server) = (Budget::local(16).unwrap(), Arc::new(Server::default()));
    let to = Arc::clone(&server);
    let builder = Pool::<To>::builder().max_size(40).min_idle(1).tokio_clock(true).budget(&budget).budget_weight(4);
    let pools = EndpointPools::<To>::builder(builder).build(move |_| To(Arc::clone(&to))).unwrap();
    let endpoints = |weights: [u16; 2]| {
        let endpoint = |(port, weight)| {
            let address = Address::parse(&format!("127.0.0.1:{port}")).unwrap();
            Endpoint { weight: Weight::new(weight), ..Endpoint::new(address) }
        };
        [1, 2].into_iter().zip(weights).map(endpoint).collect::<Vec<_>>()
    };
    let shares = || pools.snapshot().endpoints.iter().map(|endpoint| endpoint.pool.share.unwrap()).collect::<Vec<_>>();
    pools.set_endpoints(endpoints([1, 3])).unwrap();
    seconds(5).await;
    assert_eq!(shares(), [4, 12]);
    pools.set_endpoints(endpoints([3, 1])).unwrap();
    seconds(5).await;
    assert_eq!(shares(), [12, 4]);
    assert!(server.most.load(Ordering::SeqCst) <= 16);
}

#[tokio::test]
async fn contradictions_are_refused() {
    let budget = Budget::local(4).unwrap();
    let build = |builder: weir_pool::Builder| builder.build(To(Arc::default())).map(drop).unwrap_err().setting();
    assert_eq!(build(Pool::<To>::builder().budget_floor(2)), "budget_floor");
    assert_eq!(build(Pool::<To>::builder().max_size(3).budget(&budget).budget_floor(4)), "budget_floor");
    assert_eq!(build(Pool::<To>::builder().budget(&budget).budget_weight(0)), "budget_weight");
    assert_eq!(Budget::local(0).unwrap_err().setting(), "budget");
}
