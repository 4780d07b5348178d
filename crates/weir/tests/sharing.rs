//! Few connections, many workers: a place at an endpoint is used by one worker after the other, and after any trouble
//! every place is there again, once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::{config, endpoint, endpoints, start};
use weir_test::{Client, Load, LoadOptions, Origin, PATIENCE, Reply, Weir, eventually};

/// An origin that closes connections now and then, and holds requests for `/held` while it is told to.
struct Place {
    origin: Origin,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    holds: bool,
    held: usize,
    most: usize,
}

impl Place {
    /// Every `closes`-th response ends its connection; 0: none does.
    fn start(closes: usize) -> Self {
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let inner = Arc::clone(&state);
        let count = AtomicUsize::new(1);
        let origin = Origin::start(move |request| {
            let mut state = inner.0.lock().unwrap();
            state.held += 1;
            state.most = state.most.max(state.held);
            while state.holds && request.target() == "/held" {
                state = inner.1.wait(state).unwrap();
            }
            state.held -= 1;
            drop(state);
            let reply = Reply::text("x");
            let number = count.fetch_add(1, Ordering::Relaxed);
            if closes > 0 && number.is_multiple_of(closes) { reply.closing() } else { reply }
        });
        Self { origin, state }
    }

    fn hold(&self, holds: bool) {
        self.state.0.lock().unwrap().holds = holds;
        self.state.1.notify_all();
    }

    fn held(&self) -> usize {
        self.state.0.lock().unwrap().held
    }
}

fn shared(workers: usize, place: &Place, places: usize) -> Weir {
    let rest = format!(
        "[cluster.c.health]\nenabled = false\n[cluster.c.pool]\nmax_connections = {places}\n\
         [cluster.c.outlier]\nenabled = false\n[cluster.c.limit]\nqueue = 1000\nqueue_timeout = \"15s\"\n"
    );
    start(&config(workers, &(endpoints(&[place.origin.port()]) + &rest)))
}

/// Nothing is at work or waits, and no more connections are counted than there may be.
fn wait_for_rest(weir: &Weir, place: &Place, places: usize) {
    eventually(PATIENCE, "nothing is at work", || {
        let seen = endpoint(weir, place.origin.port());
        let none = ["in_flight", "waiting", "connections_busy"].iter().all(|key| seen[*key] == 0);
        let open = seen["connections_open"].as_u64().unwrap();
        if none && open <= places as u64 && place.origin.open_connections() <= places { Ok(()) } else { Err(seen) }
    });
}

/// Every place can be had, at the same time, and not one more.
fn assert_all_places(weir: &Weir, place: &Place, places: usize) {
    place.hold(true);
    let mut clients: Vec<Client> = (0..places + 4)
        .map(|_| {
            let mut client = weir.client();
            client.send_raw("GET /held HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
            client
        })
        .collect();
    eventually(PATIENCE, "every place is used", || match place.held() {
        n if n == places => Ok(()),
        n => Err((n, endpoint(weir, place.origin.port()))),
    });
    eventually(PATIENCE, "the others wait", || {
        let seen = endpoint(weir, place.origin.port());
        if seen["in_flight"] == places + 4 { Ok(()) } else { Err(seen) }
    });
    place.hold(false);
    for client in &mut clients {
        assert_eq!(client.read_response().unwrap().status, 200);
    }
    assert_eq!(place.state.0.lock().unwrap().most, places, "requests at a time at most");
}

/// Guards against debts of connections between workers that are lost (a place that nobody can have any more) or paid
/// twice (more connections than the maximum), with connections that close at every turn and clients that leave.
#[test]
fn heavy_places_are_neither_lost_nor_doubled_between_workers() {
    for (workers, places, closes) in [(2, 1, 3), (2, 2, 2), (8, 1, 0), (8, 2, 3), (8, 1, 1), (8, 7, 5)] {
        let place = Place::start(closes);
        let weir = shared(workers, &place, places);
        let load = Load::start(&LoadOptions::gets(weir.port(), 24, 0));
        let leaving = Leaving::start(weir.port());
        eventually(PATIENCE, "800 responses", || {
            let tally = load.so_far();
            if tally.responses() >= 800 { Ok(()) } else { Err(tally) }
        });
        leaving.stop();
        let tally = load.stop();
        tally.assert_all_ok();
        wait_for_rest(&weir, &place, places);
        for _ in 0..3 {
            assert_all_places(&weir, &place, places);
            wait_for_rest(&weir, &place, places);
        }
    }
}

/// Clients that ask and leave without waiting for the answer.
struct Leaving {
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Leaving {
    fn start(port: u16) -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let inner = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !inner.load(Ordering::Relaxed) {
                let mut clients: Vec<Client> = (0..4).map(|_| Client::local(port)).collect();
                for client in &mut clients {
                    let _ = client.send_raw("GET /leaves HTTP/1.1\r\nHost: t\r\n\r\n");
                }
                std::thread::park_timeout(Duration::from_millis(10));
                for client in clients {
                    client.reset();
                }
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// Guards against a worker that stops and takes the place of its idle connection with it: others, which still finish
/// their requests, wait for it.
#[test]
fn a_worker_that_stops_leaves_its_places_to_the_others() {
    let place = Place::start(0);
    let mut weir = shared(8, &place, 1);
    assert_eq!(weir.get("/").status, 200);
    // Clients that have not asked yet are not idle: a stop waits for them.
    let mut clients: Vec<Client> = (0..32).map(|_| weir.client()).collect();
    eventually(PATIENCE, "all are accepted", || match weir.metric("weir_downstream_connections_open", &[]) {
        Some(n) if n >= 32.0 => Ok(()),
        other => Err(other),
    });
    weir.process().signal(rustix::process::Signal::TERM);
    weir.process().wait_log("stopping", PATIENCE);
    // One after the other: each worker stops behind its last client, and has used the only place last.
    for (number, client) in clients.iter_mut().enumerate() {
        let response = client.get("/").unwrap();
        assert_eq!(response.status, 200, "client {number}: {}", response.text());
        assert_eq!(response.field("connection"), Some("close"));
        assert_eq!(client.read_to_end(), Ok(Vec::new()));
        client.half_close();
        // Time for its worker to stop before another one asks it for the connection.
        std::thread::park_timeout(Duration::from_millis(60));
    }
    drop(clients);
    assert_eq!(weir.process().wait_exit(PATIENCE).code(), Some(0));
}
