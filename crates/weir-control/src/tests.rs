//! Every path over real HTTP, with a plain TCP client, and every bound.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_core::{Health, Phase, PhaseTimes, Reason, WallTime};
use weir_telemetry::{BuildInfo, ClusterView, EndpointStats, EndpointView, ProcessStats, Sources, WorkerStats};

use crate::server::{Bounds, serve_within};
use crate::{MAX_HEAD_BYTES, MAX_HEADERS, NotReady, Readiness, View};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn metrics_come_in_the_format_asked_for() {
    let server = Server::start(Bounds::DEFAULT);
    let classic = server.get("/metrics");
    assert_eq!(classic.status, 200);
    assert_eq!(classic.field("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(classic.text().contains("\nweir_cluster_panic{cluster=\"web\"} 1\n"), "{}", classic.text());
    assert!(!classic.text().contains("# EOF"));
    let open = server.ask("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n");
    assert_eq!(open.field("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.text().ends_with("# EOF\n"));
}

#[test]
fn live_is_always_yes_and_ready_tells_why_not() {
    let server = Server::start(Bounds::DEFAULT);
    for (state, status, body) in [
        (0, 200, json!({ "ready": true })),
        (1, 503, json!({ "ready": false, "reason": "starting" })),
        (2, 503, json!({ "ready": false, "reason": "no_listener" })),
        (3, 503, json!({ "ready": false, "reason": "draining" })),
    ] {
        server.view.readiness.store(state, Ordering::Relaxed);
        let ready = server.get("/ready");
        assert_eq!((ready.status, ready.json()), (status, body));
        let live = server.get("/live");
        assert_eq!((live.status, live.json()), (200, json!({ "live": true })));
    }
}

#[test]
fn clusters_show_their_endpoints() {
    let server = Server::start(Bounds::DEFAULT);
    let all = server.get("/clusters").json();
    assert_eq!(all["clusters"].as_array().unwrap().len(), 2);
    let web = server.get("/clusters/web").json();
    assert_eq!(all["clusters"][0], web);
    assert_eq!(
        web,
        json!({
            "name": "web",
            "algorithm": "least_connections",
            "panic": true,
            "usable": 0,
            "endpoints": [{
                "name": "a",
                "address": "127.0.0.1:8001",
                "zone": "z1",
                "priority": 0,
                "weight": 3,
                "health": "down",
                "since": 1_700_000_000.25,
                "last_probe_error": "connection refused",
                "in_flight": 4,
                "waiting": 2,
                "ejections": 1,
                "connections_open": 1,
                "connections_idle": 0,
                "connections_busy": 1,
                "connects": 1,
                "requests": 1,
                "failures": 1,
                "retries_to": 0,
                "latency": { "count": 1, "p50_ms": 2.792, "p90_ms": 2.792, "p99_ms": 2.792 },
            }],
        })
    );
    assert_eq!(server.get("/clusters/two%20words").json()["name"], "two words");
    let missing = server.get("/clusters/nothing");
    assert_eq!((missing.status, &missing.json()["error"]), (404, &json!("no_such_cluster")));
}

#[test]
fn version_and_index() {
    let server = Server::start(Bounds::DEFAULT);
    assert_eq!(server.get("/version").json(), json!({ "name": "weir", "version": "0.1.0", "commit": "abc" }));
    let index = server.get("/");
    assert_eq!(index.field("content-type"), "text/html; charset=utf-8");
    for path in ["/metrics", "/clusters", "/ready", "/live", "/version"] {
        assert!(index.text().contains(&format!("href=\"{path}\"")), "{path}");
        assert_ne!(server.get(path).status, 404, "{path}");
    }
}

#[test]
fn every_answer_is_fresh_and_errors_are_json() {
    let server = Server::start(Bounds::DEFAULT);
    for path in ["/", "/metrics", "/live", "/ready", "/clusters", "/version", "/nothing", "/clusters/no"] {
        let answer = server.get(path);
        assert_eq!(answer.field("cache-control"), "no-store", "{path}");
        assert_eq!(answer.find("access-control-allow-origin"), None, "{path}");
    }
    let missing = server.get("/metrics/");
    assert_eq!((missing.status, &missing.json()["error"]), (404, &json!("not_found")));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let refused = server.ask(&format!("{method} /clusters HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!((refused.status, &refused.json()["error"]), (405, &json!("method_not_allowed")), "{method}");
        assert_eq!(refused.field("allow"), "GET,HEAD");
    }
    let head = server.ask("HEAD /clusters HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn heads_are_bounded() {
    let server = Server::start(Bounds::DEFAULT);
    let large = "x".repeat(MAX_HEAD_BYTES);
    let many = "x: y\r\n".repeat(MAX_HEADERS + 1);
    for head in [format!("Large: {large}\r\n"), many] {
        let answer = server.ask(&format!("GET /live HTTP/1.1\r\nHost: x\r\n{head}\r\n"));
        assert_eq!(answer.status, 431);
    }
    assert_eq!(server.get("/live").status, 200);
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let server = Server::start(Bounds { head_timeout: Duration::from_millis(500), ..Bounds::DEFAULT });
    let mut stream = server.connect();
    stream.write_all(b"GET /live HT").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    // The same for one that is idle after an answer.
    let mut stream = server.connect();
    stream.write_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn a_connection_above_the_maximum_waits_for_a_place() {
    let server = Server::start(Bounds { connections: 2, ..Bounds::DEFAULT });
    let held: Vec<TcpStream> = (0..2).map(|_| server.hold()).collect();
    let mut third = server.connect();
    third.write_all(b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    third.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(third.read(&mut [0; 16]).is_err(), "no place, no answer");
    drop(held);
    third.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut answer = Vec::new();
    third.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn a_client_that_does_not_read_loses_its_place() {
    let server = Server::start(Bounds { connections: 1, write_timeout: Duration::from_millis(50), ..Bounds::DEFAULT });
    // Far more than the socket buffers hold.
    server.view.padding.store(24 << 20, Ordering::Relaxed);
    let mut deaf = server.connect();
    deaf.write_all(b"GET /clusters HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut first = [0; 1];
    deaf.read_exact(&mut first).unwrap();
    server.view.padding.store(0, Ordering::Relaxed);
    assert_eq!(server.get("/live").status, 200);
    drop(deaf);
}

#[test]
fn a_stop_closes_idle_connections_and_the_listener() {
    let mut server = Server::start(Bounds::DEFAULT);
    let mut idle = server.hold();
    server.stop();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    assert!(TcpStream::connect(server.address).is_err());
}

// === fixtures ===

#[derive(Default)]
struct Fixture {
    readiness: AtomicU8,
    padding: AtomicUsize,
}

impl View for Fixture {
    fn clusters(&self) -> Vec<ClusterView> {
        let padding = "x".repeat(self.padding.load(Ordering::Relaxed));
        vec![cluster("web", ""), cluster("two words", &padding)]
    }

    fn readiness(&self) -> Readiness {
        match self.readiness.load(Ordering::Relaxed) {
            0 => Readiness::Ready,
            1 => Readiness::NotReady(NotReady::Starting),
            2 => Readiness::NotReady(NotReady::NoListener),
            _ => Readiness::NotReady(NotReady::Draining),
        }
    }

    fn sources(&self) -> Sources {
        Sources {
            workers: vec![WorkerStats::new()],
            clusters: self.clusters(),
            budgets: Vec::new(),
            process: ProcessStats::read(),
            build: self.build(),
            access_log: None,
            config_revision: 1,
            ready: self.readiness() == Readiness::Ready,
        }
    }

    fn build(&self) -> BuildInfo {
        BuildInfo { version: "0.1.0", commit: "abc" }
    }
}

fn cluster(name: &str, padding: &str) -> ClusterView {
    let stats = EndpointStats::new(1);
    let mut times = PhaseTimes::starting(weir_core::Instant::ZERO);
    times.stamp(Phase::Await, weir_core::Instant::from_millis(3));
    stats.shard(0).connected(10);
    stats.shard(0).responded(200, &times);
    stats.shard(0).failed(Reason::UpstreamClosed);
    let endpoint = EndpointView {
        name: "a".into(),
        address: "127.0.0.1:8001".into(),
        zone: Some("z1".into()),
        priority: 0,
        weight: 3,
        health: Health::Down,
        since: Some(WallTime::from_nanos(1_700_000_000_250_000_000)),
        last_probe_error: Some(format!("connection refused{padding}")),
        in_flight: 4,
        waiting: 2,
        ejections: 1,
        stats,
    };
    ClusterView {
        name: name.into(),
        algorithm: "least_connections".into(),
        panic: true,
        usable: 0,
        endpoints: vec![endpoint],
    }
}

struct Server {
    address: SocketAddr,
    view: Arc<Fixture>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    fn start(bounds: Bounds) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let view = Arc::new(Fixture::default());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let served: Arc<dyn View> = Arc::clone(&view) as _;
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let shutdown = async {
                let _ = stopped.await;
            };
            runtime.block_on(serve_within(bounds, listener, served, shutdown))
        });
        Self { address, view, stop: Some(stop), thread: Some(thread) }
    }

    /// Stops the server and waits until it has ended.
    fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let begin = Instant::now();
            thread.join().unwrap().unwrap();
            assert!(begin.elapsed() < DEADLINE);
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// A connection that has had one answer and stays open.
    fn hold(&self) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(b"{\"live\":true}") {
            stream.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        stream
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let fields = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let answer = Self { status, fields, body: bytes[end + 4..].to_vec() };
        if !answer.body.is_empty() {
            assert_eq!(answer.field("content-length"), answer.body.len().to_string());
        }
        answer
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn field(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.fields))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        assert_eq!(self.field("content-type"), "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }
}
