//! Pools over several endpoints: callers read the view while it is replaced.
//!
//! The pools are set up before the threads begin to meet, and their housekeepers run when the model says so: what is tried in
//! every interleaving is acquire (the look at the view, the pick, the pool's lock, the line, the wait for another view) against
//! what changes the view (limits, publishing, barring, emptying, closing).
//!
//! Seen to fail with a fault planted:
//!
//! | planted | fails |
//! |---|---|
//! | a caller looks before it listens for another view | `…all_endpoints_are_replaced…`: deadlock |
//! | those who wait for another view are not called | `…hears_of_the_first`, `…all_endpoints_are_replaced…`: deadlock |
//! | those in line at a pool that is barred are not woken | `who_is_in_line…`, `…all_endpoints_are_replaced…`: deadlock |
//! | a pool is barred before the view without it is published | `…all_endpoints_are_replaced…`: a caller asks it again and again |
//! | another view is not stored | `…all_is_closed…`: deadlock |
//! | closing leaves the pools open | `…all_is_closed…`: a place is kept |

use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::sync::Runtime;
use crate::{Address, Endpoint, EndpointGuard, EndpointPools};

/// Two endpoints of one connection each.
struct World {
    servers: [Arc<Server>; 2],
    pools: EndpointPools<Client>,
    runtime: Runtime,
}

fn address(at: u16) -> Address {
    Address::from(SocketAddr::from(([192, 0, 2, 1], 1 + at)))
}

impl World {
    fn new() -> Self {
        let servers = [(); 2].map(|()| Arc::new(Server::default()));
        let settings = Builder::new().max_size(2).idle_timeout(None).max_lifetime(None).keepalive(None);
        let settings = settings.validate_after(None);
        let known = servers.clone();
        let pools = EndpointPools::<Client>::builder(settings)
            .max_per_endpoint(1)
            .build(move |endpoint| {
                let at = usize::from(endpoint.address.inet().unwrap().port()) - 1;
                Client(Arc::clone(&known[at]), 1)
            })
            .unwrap();
        let runtime = pools.core.runtime.clone();
        Self { servers, pools, runtime }
    }

    fn with(self, endpoints: &[u16]) -> Self {
        self.set(endpoints);
        self.run();
        assert_eq!(self.pools.snapshot().usable(), endpoints.len(), "{}", self.pools.snapshot());
        self
    }

    fn set(&self, endpoints: &[u16]) {
        self.pools.set_endpoints(endpoints.iter().map(|at| Endpoint::new(address(*at))).collect()).unwrap();
    }

    /// Lets the housekeepers and the one who tends them work until nothing is left to do.
    fn run(&self) {
        for _ in 0..4 {
            self.runtime.run();
        }
    }

    fn eject(&self, at: u16) {
        assert!(self.pools.eject(&address(at), Duration::from_mins(1)));
    }

    /// All is closed, and nobody counts as a user.
    fn end(self) {
        let seen = self.pools.snapshot();
        assert!(seen.endpoints.iter().all(|seen| (seen.in_flight, seen.pool.pending) == (0, 0)), "{seen}");
        drop(self.pools);
        for _ in 0..4 {
            self.runtime.run();
        }
        for server in self.servers {
            assert_eq!(server.open.load(Ordering::SeqCst), 0, "a connection was lost");
        }
    }
}

fn at(guard: &EndpointGuard<Client>) -> u16 {
    assert!(!guard.held.swap(true, Ordering::SeqCst), "in two hands");
    loom::thread::yield_now();
    guard.held.store(false, Ordering::SeqCst);
    guard.endpoint().address.inet().unwrap().port() - 1
}

/// An endpoint is ejected while a caller picks.
#[test]
fn who_comes_while_an_endpoint_is_ejected_is_served_by_one_that_is_there() {
    model(|| {
        let world = World::new().with(&[0, 1]);
        let pools = world.pools.clone();
        let caller = spawn(move || {
            drop(block_on(pools.acquire()).unwrap());
            at(&block_on(pools.acquire()).unwrap())
        });
        world.eject(0);
        // Who asks from now on comes to the other.
        assert_eq!(at(&block_on(world.pools.acquire()).unwrap()), 1);
        caller.join().unwrap();
        world.run();
        assert_eq!(world.servers[0].open.load(Ordering::SeqCst), 0, "it is empty");
        world.end();
    });
}

/// A caller gets in line, or is in line, at an endpoint that is ejected.
#[test]
fn who_is_in_line_at_an_ejected_endpoint_goes_on() {
    model(|| {
        let world = World::new().with(&[0, 1]);
        let first = block_on(world.pools.acquire()).unwrap();
        let second = block_on(world.pools.acquire()).unwrap();
        let (here, there) = if at(&first) == 0 { (first, second) } else { (second, first) };
        let pools = world.pools.clone();
        let caller = spawn(move || at(&block_on(pools.acquire()).unwrap()));
        world.eject(0);
        drop(there);
        assert_eq!(caller.join().unwrap(), 1, "the other one's connection has come back");
        drop(here);
        world.run();
        assert_eq!(world.servers[0].open.load(Ordering::SeqCst), 0, "it is empty");
        world.end();
    });
}

/// Nobody can be used; one becomes warm while a caller looks and begins to wait.
#[test]
fn who_waits_for_any_endpoint_hears_of_the_first() {
    model(|| {
        let world = World::new();
        let pools = world.pools.clone();
        let caller = spawn(move || at(&block_on(pools.acquire()).unwrap()));
        world.set(&[0]);
        world.run();
        assert_eq!(caller.join().unwrap(), 0);
        world.end();
    });
}

/// The set of endpoints is replaced by another while a caller picks.
#[test]
fn who_comes_while_all_endpoints_are_replaced_is_served() {
    model(|| {
        let world = World::new().with(&[0]);
        let pools = world.pools.clone();
        let caller = spawn(move || at(&block_on(pools.acquire()).unwrap()));
        world.set(&[1]);
        world.run();
        caller.join().unwrap();
        world.run();
        assert_eq!(world.servers[0].open.load(Ordering::SeqCst), 0, "it is gone");
        assert_eq!(world.pools.snapshot().endpoints.len(), 1);
        world.end();
    });
}

/// All is closed while a caller picks, waits or uses.
#[test]
fn who_comes_while_all_is_closed_is_served_or_refused() {
    model(|| {
        let world = World::new().with(&[0]);
        let held = block_on(world.pools.acquire()).unwrap();
        let pools = world.pools.clone();
        let caller = spawn(move || match block_on(pools.acquire()) {
            Ok(guard) => assert_eq!(at(&guard), 0),
            Err(error) => assert_eq!(error.refused(), Refused::Closed),
        });
        let other = world.pools.clone();
        let closer = spawn(move || other.core.shut());
        drop(held);
        caller.join().unwrap();
        closer.join().unwrap();
        world.run();
        world.end();
    });
}
