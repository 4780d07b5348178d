//! Connections to endpoints: how many, how long, who waits, and what is seen of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::{config, endpoint, endpoints, how_it_ended, start, timed};
use weir_test::{Client, Load, LoadOptions, Origin, PATIENCE, Reply, Weir, eventually};

/// Holds requests until they are let go, and counts how many there are.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn origin() -> (Arc<Self>, Origin) {
        let gate = Arc::new(Self::default());
        let inner = Arc::clone(&gate);
        (gate, Origin::start(move |request| inner.pass(request.target())))
    }

    fn pass(&self, target: &str) -> Reply {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        while !state.0 {
            state = self.changed.wait(state).unwrap();
        }
        state.1 -= 1;
        Reply::text(target)
    }

    fn held(&self) -> usize {
        self.state.lock().unwrap().1
    }

    fn open(&self, open: bool) {
        self.state.lock().unwrap().0 = open;
        self.changed.notify_all();
    }
}

/// Sends a GET without waiting for the response.
fn ask(weir: &Weir, target: &str) -> Client {
    let mut client = weir.client();
    client.send_raw(format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n")).unwrap();
    client
}

/// No probe connections besides the first: what the origin counts is traffic.
const NO_PROBES: &str = "[cluster.c.health]\nenabled = false\n";

fn pool(workers: usize, origin: &Origin, rest: &str) -> Weir {
    start(&config(workers, &(endpoints(&[origin.port()]) + rest + NO_PROBES)))
}

#[test]
fn surplus_connections_are_kept_at_return_and_trimmed_by_the_housekeeper_after_the_peak() {
    let (gate, origin) = Gate::origin();
    let weir = pool(1, &origin, "[cluster.c.pool]\nmax_idle = 2\npeak_window = \"2s\"\n");
    let mut clients: Vec<Client> = (0..12).map(|_| ask(&weir, "/")).collect();
    eventually(PATIENCE, "12 at the origin", || gate.held() == 12);
    gate.open(true);
    for client in &mut clients {
        assert_eq!(client.read_response().unwrap().status, 200);
    }
    // All were returned, none was closed for being too many.
    assert_eq!(origin.open_connections(), 12);
    // The next wave needs no new connection.
    gate.open(false);
    for client in &mut clients {
        client.send_raw("GET /again HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    }
    eventually(PATIENCE, "12 again", || gate.held() == 12);
    gate.open(true);
    for client in &mut clients {
        assert_eq!(client.read_response().unwrap().status, 200);
    }
    assert_eq!(origin.connections(), 12, "connections were reused");
    eventually(PATIENCE, "trimmed to two", || match origin.open_connections() {
        2 => Ok(()),
        n => Err(n),
    });
    eventually(PATIENCE, "counted", || weir.metric("weir_pool_closed_total", &["surplus"]) == Some(10.0));
    eventually(PATIENCE, "seen in /clusters", || endpoint(&weir, origin.port())["connections_idle"] == 2);
}

#[test]
fn idle_connections_are_closed_after_their_time() {
    let origin = Origin::named("x");
    let weir = pool(1, &origin, "[cluster.c.pool]\nidle_timeout = \"500ms\"\n");
    assert_eq!(weir.get("/").status, 200);
    assert_eq!(origin.open_connections(), 1);
    let ((), took) = timed(|| eventually(PATIENCE, "closed", || origin.open_connections() == 0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    eventually(PATIENCE, "counted", || weir.metric("weir_pool_closed_total", &["idle_timeout"]) == Some(1.0));
    assert_eq!(weir.get("/").status, 200);
}

#[test]
fn a_connection_is_replaced_at_the_end_of_its_life_and_after_its_uses() {
    let origin = Origin::named("x");
    let weir = pool(1, &origin, "[cluster.c.pool]\nmax_uses = 3\n");
    let mut client = weir.client();
    for _ in 0..9 {
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    let used: Vec<usize> = origin.requests().iter().map(|request| request.connection).collect();
    assert_eq!(used, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    eventually(PATIENCE, "counted", || weir.metric("weir_pool_closed_total", &["uses"]) == Some(3.0));

    let origin = Origin::named("x");
    let weir = pool(1, &origin, "[cluster.c.pool]\nmax_lifetime = \"1s\"\nlifetime_jitter = 0.2\n");
    let mut client = weir.client();
    // A steady stream of requests, so that it never gets idle enough to be swept.
    let ((), took) = timed(|| {
        eventually(PATIENCE, "a second connection", || {
            assert_eq!(client.get("/").unwrap().status, 200);
            origin.connections() >= 2
        });
    });
    assert!(took > Duration::from_millis(700) && took < Duration::from_secs(5), "{took:?}");
    eventually(PATIENCE, "counted", || weir.metric("weir_pool_closed_total", &["lifetime"]) >= Some(1.0));
}

#[test]
fn the_connection_used_last_is_used_first() {
    let (gate, origin) = Gate::origin();
    let weir = pool(1, &origin, "");
    let mut clients: Vec<Client> = (0..4).map(|_| ask(&weir, "/warm")).collect();
    eventually(PATIENCE, "4 at the origin", || gate.held() == 4);
    gate.open(true);
    for client in &mut clients {
        client.read_response().unwrap();
    }
    let last = weir.get("/last");
    assert_eq!(last.status, 200);
    for n in 0..20 {
        assert_eq!(clients[n % 4].get("/one-by-one").unwrap().status, 200);
    }
    let used: BTreeSet<usize> =
        origin.requests().iter().filter(|r| r.target() == "/one-by-one").map(|r| r.connection).collect();
    assert_eq!(used.len(), 1, "one request at a time uses one connection: {used:?}");
}

#[test]
fn a_minimum_of_connections_is_opened_ahead_and_kept() {
    let origin = Origin::named("x");
    let weir = pool(2, &origin, "[cluster.c.pool]\nmin_idle = 6\n");
    eventually(PATIENCE, "six connections", || match origin.open_connections() {
        n if n >= 6 => Ok(()),
        n => Err(n),
    });
    assert_eq!(origin.answered(), 0);
    eventually(PATIENCE, "seen", || endpoint(&weir, origin.port())["connections_idle"].as_u64() >= Some(6));
    // They are opened again when they have been closed.
    origin.close_connections();
    eventually(PATIENCE, "six connections again", || match origin.open_connections() {
        n if n >= 6 && origin.connections() >= 12 => Ok(()),
        n => Err((n, origin.connections())),
    });
    assert!(origin.open_connections() <= 8, "{} for a minimum of 6 over 2 workers", origin.open_connections());
}

/// They would be closed and opened again, for ever. A cluster without a minimum shows that time-outs do end.
#[test]
fn the_minimum_of_connections_is_exempt_from_the_idle_time_out() {
    let (kept, other) = (Origin::named("kept"), Origin::named("other"));
    let timeout = "idle_timeout = \"100ms\"\n";
    let text = config(1, &format!("{}[cluster.c.pool]\nmin_idle = 4\n{timeout}{NO_PROBES}", endpoints(&[kept.port()])))
        + "[[route]]\npath = \"/other\"\ncluster = \"d\"\n[cluster.d]\n"
        + &format!("{}health = {{ enabled = false }}\n[cluster.d.pool]\n{timeout}", endpoints(&[other.port()]));
    let weir = start(&text);
    eventually(PATIENCE, "the minimum", || kept.open_connections() == 4);
    for round in 1..=3 {
        assert_eq!(weir.get("/other").body, b"other");
        eventually(PATIENCE, "an idle connection is closed", || other.open_connections() == 0);
        assert_eq!(other.connections(), round);
    }
    assert_eq!((kept.open_connections(), kept.connections()), (4, 4), "they were closed and opened again");
    assert_eq!(weir.get("/").body, b"kept");
    assert_eq!(kept.connections(), 4, "one that was idle for long is good for use");
}

/// An origin that knows how many requests it had at once at most.
struct Counted {
    origin: Origin,
    most_requests: Arc<AtomicUsize>,
}

impl Counted {
    fn start(work: Duration) -> Self {
        let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&most);
        let origin = Origin::start(move |_| {
            seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::park_timeout(work);
            now.fetch_sub(1, Ordering::SeqCst);
            Reply::text("x")
        });
        Self { origin, most_requests: most }
    }
}

#[test]
fn heavy_no_endpoint_ever_has_more_requests_than_the_maximum_over_all_workers() {
    for workers in [2, 4, 8] {
        let counted = Counted::start(Duration::from_millis(2));
        let weir = pool(
            workers,
            &counted.origin,
            "[cluster.c.limit]\nmax_requests = 5\nqueue = 1000\nqueue_timeout = \"10s\"\n",
        );
        let load = Load::start(&LoadOptions::gets(weir.port(), 40, 0));
        eventually(PATIENCE, "3,000 responses", || load.so_far().responses() >= 3_000);
        let tally = load.stop();
        println!("{workers} workers, at most 5 requests: {:.0}/s, slowest {:?}", tally.rate(), tally.slowest);
        tally.assert_all_ok();
        assert_eq!(counted.most_requests.load(Ordering::SeqCst), 5, "{workers} workers");
        // First come, first served: nobody waits much longer than everybody in front of them needs.
        assert!(tally.slowest < Duration::from_secs(2), "{:?}", tally.slowest);
        assert!(weir.metric("weir_pool_waits_total", &[]).unwrap() > 100.0);
        eventually(PATIENCE, "nothing is left", || {
            let seen = endpoint(&weir, counted.origin.port());
            if seen["in_flight"] == 0 && seen["waiting"] == 0 { Ok(()) } else { Err(seen) }
        });
    }
}

#[test]
fn heavy_no_endpoint_ever_has_more_connections_than_the_maximum_over_all_workers() {
    for workers in [2, 4, 8] {
        let counted = Counted::start(Duration::from_millis(1));
        let weir = pool(
            workers,
            &counted.origin,
            "[cluster.c.pool]\nmax_connections = 3\n[cluster.c.limit]\nqueue = 1000\nqueue_timeout = \"10s\"\n",
        );
        let load = Load::start(&LoadOptions::gets(weir.port(), 40, 0));
        let mut most_open = 0;
        eventually(PATIENCE, "2,000 responses", || {
            most_open = most_open.max(counted.origin.open_connections());
            let tally = load.so_far();
            if tally.responses() >= 2_000 { Ok(()) } else { Err(tally) }
        });
        let tally = load.stop();
        println!(
            "{workers} workers, at most 3 connections: {:.0}/s, slowest {:?}, {} connections in all",
            tally.rate(),
            tally.slowest,
            counted.origin.connections()
        );
        tally.assert_all_ok();
        assert!(counted.most_requests.load(Ordering::SeqCst) <= 3, "{workers} workers");
        assert!(most_open <= 3, "{workers} workers: {most_open} connections at a time");
        assert!(tally.slowest < Duration::from_secs(3), "{:?}", tally.slowest);
    }
}

#[test]
fn one_connection_is_shared_by_all_workers() {
    let origin = Origin::named("x");
    let weir = pool(4, &origin, "[cluster.c.pool]\nmax_connections = 1\n");
    // Many clients, so that all workers have some.
    let mut clients: Vec<Client> = (0..32).map(|_| weir.client()).collect();
    for round in 0..3 {
        for (n, client) in clients.iter_mut().enumerate() {
            let (response, took) = timed(|| client.get("/").unwrap());
            assert_eq!(response.status, 200, "round {round}, client {n}: {}", response.text());
            assert!(took < Duration::from_secs(1), "round {round}, client {n}: {took:?}");
        }
    }
    assert!(origin.open_connections() <= 1);
}

#[test]
fn the_queue_is_bounded_first_come_first_served_and_ends_with_a_reason() {
    let (gate, origin) = Gate::origin();
    let limit = "[cluster.c.limit]\nmax_requests = 1\nqueue = 2\nqueue_timeout = \"400ms\"\n";
    let weir = pool(1, &origin, limit);
    let mut first = ask(&weir, "/first");
    eventually(PATIENCE, "one at the origin", || gate.held() == 1);
    let mut second = ask(&weir, "/second");
    eventually(PATIENCE, "one waits", || endpoint(&weir, origin.port())["waiting"] == 1);
    let mut third = ask(&weir, "/third");
    eventually(PATIENCE, "two wait", || endpoint(&weir, origin.port())["waiting"] == 2);
    assert_eq!(weir.metric("weir_endpoint_requests_waiting", &[]), Some(2.0));

    let (response, took) = timed(|| weir.get("/full"));
    assert_eq!((response.status, response.field("weir-reason")), (503, Some("pool_queue_full")));
    assert!(took < Duration::from_millis(300), "{took:?}");
    for client in [&mut second, &mut third] {
        let response = client.read_response().unwrap();
        assert_eq!((response.status, response.field("weir-reason")), (503, Some("pool_wait_timeout")));
    }
    assert_eq!(how_it_ended(&weir, "/full"), ("W:acquire".to_owned(), "pool_queue_full".to_owned()));
    assert_eq!(how_it_ended(&weir, "/second"), ("W:acquire".to_owned(), "pool_wait_timeout".to_owned()));
    gate.open(true);
    assert_eq!(first.read_response().unwrap().text(), "/first");
    let incomplete = |reason: &str| weir.metric("weir_incomplete_total", &[reason]);
    assert_eq!((incomplete("pool_queue_full"), incomplete("pool_wait_timeout")), (Some(1.0), Some(2.0)));
    assert_eq!(endpoint(&weir, origin.port())["waiting"], 0);
    // The places are all there again.
    assert_eq!(weir.get("/after").status, 200);
}

#[test]
fn who_waits_longer_is_served_first() {
    let (gate, origin) = Gate::origin();
    let weir = pool(1, &origin, "[cluster.c.limit]\nmax_requests = 1\nqueue = 100\nqueue_timeout = \"20s\"\n");
    let mut clients = vec![ask(&weir, "/0")];
    eventually(PATIENCE, "one at the origin", || gate.held() == 1);
    for n in 1..10 {
        clients.push(ask(&weir, &format!("/{n}")));
        eventually(PATIENCE, "it waits", || endpoint(&weir, origin.port())["waiting"] == n);
    }
    gate.open(true);
    for client in &mut clients {
        assert_eq!(client.read_response().unwrap().status, 200);
    }
    let order: Vec<String> = origin.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(order, (0..10).map(|n| format!("/{n}")).collect::<Vec<_>>());
}

#[test]
fn who_leaves_the_queue_leaves_no_hole_in_it() {
    let (gate, origin) = Gate::origin();
    let weir = pool(2, &origin, "[cluster.c.limit]\nmax_requests = 1\nqueue = 100\nqueue_timeout = \"20s\"\n");
    let mut first = ask(&weir, "/first");
    eventually(PATIENCE, "one at the origin", || gate.held() == 1);
    let leaving: Vec<Client> = (0..10).map(|_| ask(&weir, "/leaves")).collect();
    eventually(PATIENCE, "they wait", || endpoint(&weir, origin.port())["waiting"] == 10);
    let mut stays = ask(&weir, "/stays");
    eventually(PATIENCE, "it waits", || endpoint(&weir, origin.port())["waiting"] == 11);
    for client in leaving {
        client.reset();
    }
    eventually(PATIENCE, "one is left", || endpoint(&weir, origin.port())["waiting"] == 1);
    gate.open(true);
    assert_eq!(first.read_response().unwrap().text(), "/first");
    assert_eq!(stays.read_response().unwrap().text(), "/stays");
    assert!(origin.requests().iter().all(|request| request.target() != "/leaves"));
    eventually(PATIENCE, "all is given back", || endpoint(&weir, origin.port())["in_flight"] == 0);
}

#[test]
fn reuse_and_opening_are_counted() {
    let origin = Origin::named("x");
    let weir = pool(1, &origin, "");
    let mut client = weir.client();
    for _ in 0..10 {
        client.get("/").unwrap();
    }
    assert_eq!(weir.metric("weir_pool_opened_total", &[]), Some(1.0));
    assert_eq!(weir.metric("weir_pool_reused_total", &[]), Some(9.0));
    assert_eq!(weir.metric("weir_endpoint_connects_total", &[]), Some(1.0));
    eventually(PATIENCE, "gauges", || {
        let seen = endpoint(&weir, origin.port());
        let (open, idle) = (seen["connections_open"].clone(), seen["connections_idle"].clone());
        if open == 1 && idle == 1 && seen["requests"] == 10 { Ok(()) } else { Err(seen) }
    });
    assert_eq!(weir.metric("weir_endpoint_connections", &["idle"]), Some(1.0));
    assert_eq!(weir.metric("weir_endpoint_connections", &["busy"]), Some(0.0));
}

/// Guards against counting connections that the endpoint ends in order, with its last response, as broken ones.
#[test]
fn a_connection_that_its_endpoint_ends_in_order_is_closed_by_the_peer() {
    let origin = Origin::start(|_| Reply::text("x").closing());
    let weir = pool(1, &origin, "");
    let mut client = weir.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    let closed = |reason: &str| weir.metric("weir_pool_closed_total", &[reason]).unwrap_or(0.0);
    eventually(PATIENCE, "all are counted", || if closed("peer") > 4.5 { Ok(()) } else { Err(closed("peer")) });
    assert_eq!((closed("peer"), closed("error")), (5.0, 0.0));
}
