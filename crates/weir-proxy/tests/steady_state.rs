//! In the steady state a worker allocates nothing: the real worker on the epoll driver, between real sockets, under an
//! allocator that counts what the worker's thread asks for.

#![allow(clippy::print_stdout, reason = "the rate belongs to the result")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weir_config::plan::EndpointSpec;
use weir_core::ClusterId;
use weir_net::epoll::{self, WorkerConfig};
use weir_net::{ListenOptions, ListenerId, bind_listener};
use weir_proxy::keeper::{self, Keeper};
use weir_proxy::runtime::{Config, Shared};
use weir_proxy::worker::{self, Worker};
use weir_test::{PATIENCE, eventually};

/// Clients, each with one connection.
const CONNECTIONS: usize = 64;
/// Requests until buffers and tables have their size.
const WARM_UP: u64 = 40_000;
/// Requests that are looked at in one window.
const MEASURED: u64 = 50_000;
/// Windows of which one has to be without allocations.
const WINDOWS: usize = 3;

/// Allocations, and growth of allocations, by threads that are watched.
static CALLS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that is ending has no thread-locals any more, and is of no interest.
    if WATCHED.try_with(Cell::get).unwrap_or(false) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed to the system's allocator unchanged; counting touches an atomic and a thread-local without
// a destructor, and allocates nothing.
#[expect(unsafe_code, reason = "an allocator can be replaced in no other way")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

/// Answers every request of every connection with the same response; requests end with an empty line or with `END`.
fn origin(response: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let (mut buffer, mut held) = ([0; 4_096], 0);
                while let Ok(n @ 1..) = stream.read(&mut buffer[held..]) {
                    held += n;
                    let whole = |end: &[u8]| buffer[..held].ends_with(end);
                    let waits_for_body = buffer.starts_with(b"POST") && !whole(b"END");
                    if whole(b"END") || whole(b"\r\n\r\n") && !waits_for_body {
                        held = 0;
                        if stream.write_all(response.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// One worker and its keeper, for the rest of the process.
fn start(endpoints: &[SocketAddr], with_log: bool) -> SocketAddr {
    let list: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:9\"\ncluster = \"c\"\n[cluster.c]\nendpoints = [{}]\n",
        list.join(", ")
    );
    let outcome = weir_config::load(&weir_config::Source { name: "test.toml".to_owned(), text }, &weir_config::NoFiles);
    let plan = outcome.plan.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics));
    let config = Arc::new(Config::compile(&plan, 10_000, 1));
    let (machines, snapshot) = Keeper::machines(&config, 10_000, 1);
    let shared = Arc::new(Shared::new(snapshot, 1));
    let sizes = WorkerConfig { mailbox_len_max: 4_096, connections_max: 4_096 };
    let mut engine = epoll::Worker::<worker::Message>::new(&sizes).unwrap();
    let options = ListenOptions { ipv6_only: true, unix_mode: 0o600, backlog: None };
    let bound = bind_listener(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(), 1, &options).unwrap();
    let weir_core::Address::Inet(address) = bound.address else { panic!("{:?}", bound.address) };
    for socket in bound.sockets {
        engine.add_listener(ListenerId(0), socket).unwrap();
    }
    let mut keeper_engine = epoll::Worker::<keeper::Message>::new(&sizes).unwrap();
    shared.connect(vec![engine.sender()], keeper_engine.sender());
    let fixed = plan.clusters[0].endpoints.iter().map(|spec| match spec {
        EndpointSpec::Static(endpoint) => endpoint.clone(),
        EndpointSpec::Dns(name) => panic!("{name:?} is not an address"),
    });
    let initial = vec![(ClusterId(0), fixed.collect())];
    let mut keeper = Keeper::new(machines, config, Arc::clone(&shared), initial, 1);
    std::thread::spawn(move || keeper_engine.run(&mut keeper));
    eventually(PATIENCE, "the endpoints are known", || shared.generation() > 1);
    let log = with_log.then(|| {
        let target = weir_telemetry::access_log::Target::File("/dev/null".into());
        weir_telemetry::AccessLog::start(target, weir_telemetry::access_log::Format::Json).unwrap()
    });
    let writer = log.as_ref().map(weir_telemetry::AccessLog::writer);
    std::thread::spawn(move || {
        let mut worker = Worker::new(0, shared, 1, writer);
        WATCHED.with(|watched| watched.set(true));
        engine.run(&mut worker)
    });
    address
}

/// Sends `request` over keep-alive connections until the process ends; the number of responses, which end with `BYE`.
fn clients(weir: SocketAddr, request: &'static str) -> Arc<AtomicU64> {
    let answered = Arc::new(AtomicU64::new(0));
    for _ in 0..CONNECTIONS {
        let answered = Arc::clone(&answered);
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(weir).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut buffer = [0; 16 * 1024];
            loop {
                stream.write_all(request.as_bytes()).unwrap();
                let mut held = 0;
                while !buffer[..held].ends_with(b"BYE") {
                    let n = stream.read(&mut buffer[held..]).unwrap();
                    assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&buffer[..held]));
                    held += n;
                }
                assert!(buffer.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&buffer[..held]));
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    answered
}

fn wait_for(answered: &AtomicU64, count: u64) {
    eventually(Duration::from_mins(2), &format!("{count} responses"), || {
        let seen = answered.load(Ordering::Relaxed);
        if seen >= count { Ok(()) } else { Err(seen) }
    });
}

/// Runs the load and requires fewer allocations than one per `requests_per_allocation` requests, in one of a few windows:
/// what a request allocates shows in each of them. A worker that is kept from its processor gives memory back meanwhile
/// and takes it again, which is not the steady state.
fn steady(what: &str, request: &'static str, with_log: bool, requests_per_allocation: u64) {
    let endpoints = [origin(RESPONSE), origin(RESPONSE), origin(RESPONSE)];
    let weir = start(&endpoints, with_log);
    let answered = clients(weir, request);
    wait_for(&answered, WARM_UP);
    let mut seen = Vec::new();
    for _ in 0..WINDOWS {
        let (calls, requests, begun) =
            (CALLS.load(Ordering::Relaxed), answered.load(Ordering::Relaxed), Instant::now());
        wait_for(&answered, requests + MEASURED);
        let (calls, requests) = (CALLS.load(Ordering::Relaxed) - calls, answered.load(Ordering::Relaxed) - requests);
        let took = begun.elapsed();
        println!(
            "{what}: {requests} requests over {CONNECTIONS} connections in {took:.2?} ({:.0}/s): {calls} allocations by the worker",
            requests as f64 / took.as_secs_f64()
        );
        if calls * requests_per_allocation < requests {
            return;
        }
        seen.push((calls, requests));
    }
    panic!("allocations for requests, in each window: {seen:?}");
}

const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n0123456BYE";

const GET: &str = "GET /items?page=2 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: steady/1\r\nAccept: */*\r\n\r\n";
const POST: &str = "POST /orders HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 20\r\n\r\n01234567890123456END";

/// What is left is not made for a request: once in a while a list of the engine reaches a new length.
const PRACTICALLY_NONE: u64 = 10_000;

#[test]
fn heavy_a_get_allocates_nothing_in_the_steady_state() {
    steady("GET", GET, false, PRACTICALLY_NONE);
}

#[test]
fn heavy_a_post_allocates_nothing_in_the_steady_state() {
    steady("POST", POST, false, PRACTICALLY_NONE);
}

#[test]
fn heavy_the_access_log_allocates_only_while_its_thread_lags() {
    // Buffers travel between the worker and the thread that writes. When that thread does not get the processor for a
    // moment, more of them are under way; one holds the lines of a batch of events.
    steady("GET with access log", GET, true, 500);
}
