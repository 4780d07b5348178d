//! Every file of `examples/` is run as it is, but for its ports and paths, and does what its first lines say.

#![allow(clippy::unwrap_used, reason = "a helper that cannot do its work is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_test::{Client, Origin, PATIENCE, Reply, Response, Weir, eventually, free_port};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// Runs an example after these replacements, each of which has to be needed; `127.0.0.1:8080` is always `{port}`.
fn run(name: &str, replacements: &[(&str, &str)]) -> Weir {
    let mut text = std::fs::read_to_string(folder().join(name)).unwrap();
    let usual = [("127.0.0.1:8080", "127.0.0.1:{port}"), ("127.0.0.1:9901", "127.0.0.1:{metrics}")];
    for (from, to) in replacements {
        assert!(text.contains(from), "{name} no longer holds {from}");
        text = text.replace(from, to);
    }
    for (from, to) in usual {
        text = text.replace(from, to);
    }
    if !text.contains("{metrics}") {
        text.push_str("\n[metrics]\nbind = \"127.0.0.1:{metrics}\"\n");
    }
    Weir::run(&text)
}

fn at(origin: &Origin) -> String {
    origin.address().to_string()
}

/// A request with these further lines, on a connection of its own.
fn ask(weir: &Weir, method: &str, path: &str, host: &str, lines: &str) -> Response {
    let mut client = weir.client();
    client.send_raw(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")).unwrap();
    client.read_response_to(method).unwrap()
}

/// Who answers `count` requests on one connection.
fn answers(weir: &Weir, count: usize) -> BTreeMap<String, usize> {
    let mut client = weir.client();
    let mut all = BTreeMap::new();
    for _ in 0..count {
        let response = client.get("/").unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        *all.entry(response.text()).or_default() += 1;
    }
    all
}

#[test]
fn every_example_has_a_test() {
    let tests = include_str!("examples.rs");
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".toml").unwrap_or_else(|| panic!("examples/{name} is no configuration"));
        assert!(tests.contains(&format!("#[test]\nfn {}() {{", stem.replace('-', "_"))), "no test of examples/{name}");
        assert!(tests.contains(&format!("\"{name}\",")), "examples/{name} is not run");
        count += 1;
    }
    assert!(count >= 13, "{count}");
}

#[test]
fn minimal() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let weir = run("minimal.toml", &[("127.0.0.1:3001", &at(&a)), ("127.0.0.1:3002", &at(&b))]);
    assert_eq!(answers(&weir, 20), BTreeMap::from([("a".to_owned(), 10), ("b".to_owned(), 10)]));
}

#[test]
fn budget() {
    let port = free_port();
    let weir = run("budget.toml", &[("127.0.0.1:9902", &format!("127.0.0.1:{port}"))]);
    let claim = |member: &str, seq: u32| {
        let body = format!(
            r#"{{"member":"{member}","seq":{seq},"held":0,"floor_held":0,"floor":1,"weight":1,"demand":5,"max":40}}"#
        );
        let request = format!(
            "POST /v1/budget/orders-db/renew HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut client = Client::local(port);
        client.send_raw(request).unwrap();
        let response = client.read_response().unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        response.text()
    };
    eventually(PATIENCE, "the grantor listens", || std::net::TcpStream::connect(("127.0.0.1", port)));
    // It has just started: pools from before may hold everything.
    assert!(
        claim("a", 1)
            .starts_with(r#"{"floor":0,"floor_lease_ms":300000,"lease_ms":10000,"renew_after_ms":250,"share":0"#)
    );
    assert_eq!(weir.metric("weir_budget_connections", &["budget=\"orders-db\""]), Some(40.0));
    assert_eq!(weir.observe("/ready").status, 200);
    eventually(PATIENCE, "after a lease, all but the floors can be granted", {
        let mut seq = 1;
        move || {
            seq += 1;
            let answer = claim("a", seq);
            if answer.ends_with(r#""share":38}"#) { Ok(()) } else { Err(answer) }
        }
    });
}

#[test]
fn canary() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let weir =
        run("canary.toml", &[("127.0.0.1:3001", &at(&a)), ("127.0.0.1:3002", &at(&b)), ("127.0.0.1:3003", &at(&c))]);
    for _ in 0..4 {
        let response = ask(&weir, "GET", "/", "test", "X-Canary: yes\r\n");
        assert_eq!((response.text(), response.field("X-Version")), ("c".to_owned(), Some("canary")));
        let response = ask(&weir, "GET", "/", "test", "X-Canary: no\r\n");
        assert!(["a", "b"].contains(&&*response.text()), "{}", response.text());
        assert_eq!(response.field("X-Version"), None);
    }
}

#[test]
fn health() {
    let sick = Arc::new(Mutex::new(BTreeSet::from(["c"])));
    let origin = |name: &'static str| {
        let sick = Arc::clone(&sick);
        Origin::start(move |request| match request.target() {
            "/health" if sick.lock().unwrap().contains(name) => Reply::text("not well"),
            "/health" => Reply::text("all ok"),
            _ => Reply::text(name),
        })
    };
    let (a, b, c) = (origin("a"), origin("b"), origin("c"));
    let weir =
        run("health.toml", &[("127.0.0.1:3001", &at(&a)), ("127.0.0.1:3002", &at(&b)), ("127.0.0.1:3003", &at(&c))]);
    let health = |weir: &Weir, word: &str| weir.observe("/clusters").text().matches(&format!("\"{word}\"")).count();
    eventually(PATIENCE, "one of three is down", || health(&weir, "down") == 1 && health(&weir, "up") == 2);
    let who = answers(&weir, 20);
    assert!(!who.contains_key("c") && who.len() == 2, "{who:?}");

    drop((a, b));
    // Told by the refused connections, no probe needed.
    let response = eventually(PATIENCE, "nobody is left", || {
        let response = weir.get("/");
        if response.status == 503 { Ok(response) } else { Err(response.text()) }
    });
    assert_eq!(response.text(), "<h1>Back in a minute</h1>\n");
    sick.lock().unwrap().clear();
    eventually(PATIENCE, "c is back", || weir.get("/").status == 200);
}

#[test]
fn limits() {
    let (release, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let slow = Origin::start(move |request| {
        if request.target() == "/slow" {
            // Ends when the sender is dropped.
            let _ = wait.lock().unwrap().recv();
        }
        Reply::text("done")
    });
    let weir = run(
        "limits.toml",
        &[
            ("\"127.0.0.1:3001\", \"127.0.0.1:3002\"", &format!("\"{}\"", at(&slow))),
            ("max_requests = 50", "max_requests = 1"),
            ("queue = 100", "queue = 1"),
        ],
    );
    let send = || {
        let mut client = weir.client();
        client.send_raw("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        client
    };
    let mut first = send();
    eventually(PATIENCE, "the first is in flight", || {
        weir.metric("weir_endpoint_requests_in_flight", &[]).is_some_and(|n| n >= 1.0)
    });
    let mut second = send();
    eventually(PATIENCE, "the second waits", || {
        weir.metric("weir_endpoint_requests_waiting", &[]).is_some_and(|n| n >= 1.0)
    });
    let third = weir.get("/slow");
    assert_eq!((third.status, third.field("weir-reason")), (503, Some("pool_queue_full")));
    assert!(third.field("Retry-After").is_some());
    let second = second.read_response().unwrap();
    assert_eq!((second.status, second.field("weir-reason")), (503, Some("pool_wait_timeout")));
    drop(release);
    assert_eq!(first.read_response().unwrap().text(), "done");
}

#[test]
fn names() {
    let a = Origin::named("a");
    let weir = run("names.toml", &[("app.internal:3001", &format!("localhost:{}", a.port()))]);
    eventually(PATIENCE, "the name is resolved", || {
        let response = weir.get("/");
        if response.text() == "a" { Ok(()) } else { Err(response.status) }
    });
}

#[test]
fn paths_and_hosts() {
    let site = Origin::named("site");
    let api =
        Origin::start(|request| Reply::text(format!("api {} {}", request.target(), request.field("Cookie").is_some())));
    let reports = Origin::named("reports");
    let six = free_port();
    let mut weir = run(
        "paths-and-hosts.toml",
        &[
            ("\"127.0.0.1:3001\", \"127.0.0.1:3002\"", &format!("\"{}\"", at(&site))),
            ("\"127.0.0.1:4001\", \"127.0.0.1:4002\"", &format!("\"{}\"", at(&api))),
            ("127.0.0.1:5001", &at(&reports)),
            ("[::1]:8080", &format!("[::1]:{six}")),
        ],
    );
    for host in ["example.org", "shop.example.org"] {
        assert_eq!(ask(&weir, "GET", "/api/items", host, "Cookie: a=b\r\n").text(), "api /items false");
    }
    assert_eq!(ask(&weir, "GET", "/api/items", "example.com", "").text(), "site");
    assert_eq!(ask(&weir, "GET", "/apis", "example.org", "").text(), "site");
    assert_eq!(ask(&weir, "GET", "/reports/2026/q1", "example.org", "").text(), "reports");
    assert_eq!(ask(&weir, "POST", "/reports/2026/q1", "example.org", "Content-Length: 0\r\n").text(), "site");
    assert_eq!(Client::connect(("::1", six)).get("/").unwrap().text(), "site");
    weir.process().wait_log("\"route\":\"reports\"", PATIENCE);
}

#[test]
fn production() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let mut weir = run(
        "production.toml",
        &[
            ("127.0.0.1:3001", &at(&a)),
            ("127.0.0.1:3002", &at(&b)),
            ("127.0.0.1:3003", &at(&c)),
            ("/var/log/weir/access.log", "{dir}/access.log"),
        ],
    );
    eventually(PATIENCE, "it is ready", || weir.observe("/ready").status == 200);
    assert_eq!(answers(&weir, 10).values().sum::<usize>(), 10);
    eventually(PATIENCE, "five connections to each server", || a.open_connections() >= 5 && c.open_connections() >= 5);
    assert_eq!(weir.stop_gracefully(Duration::from_secs(10)).code(), Some(0));
    let log = std::fs::read_to_string(weir.dir().join("access.log")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("\"status\":200")).count(), 10, "{log}");
}

#[test]
fn retries() {
    // Accepts, reads a request, and closes without an answer.
    let broken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let broken_at = broken.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in broken.incoming().flatten() {
            std::thread::spawn(move || BufReader::new(stream).read_line(&mut String::new()));
        }
    });
    let (b, reports) = (Origin::named("b"), Origin::named("reports"));
    let weir = run(
        "retries.toml",
        &[("127.0.0.1:3001", &broken_at), ("127.0.0.1:3002", &at(&b)), ("127.0.0.1:4001", &at(&reports))],
    );
    for _ in 0..4 {
        assert_eq!(weir.get("/").text(), "b");
    }
    assert!(weir.metric("weir_retries_total", &[]).is_some_and(|n| n >= 1.0));
    assert_eq!(weir.get("/reports/1").text(), "reports");
    // What may not be repeated is answered with the truth.
    let refused = eventually(PATIENCE, "a POST meets the broken server", || {
        let response = ask(&weir, "POST", "/", "test", "Content-Length: 0\r\n");
        (response.status != 200).then_some(response)
    });
    assert_eq!(refused.status, 502);
    assert!(["upstream_closed", "upstream_reset"].contains(&refused.field("weir-reason").unwrap_or_default()));
}

#[test]
fn static_and_redirects() {
    let weir = run("static-and-redirects.toml", &[]);
    assert_eq!(weir.get("/robots.txt").text(), "User-agent: *\nDisallow: /\n");
    let blog = ask(&weir, "GET", "/blog/2026?page=2", "example.org", "");
    assert_eq!((blog.status, blog.field("Location")), (301, Some("http://blog.example.org/2026?page=2")));
    let www = ask(&weir, "GET", "/a?b=c", "www.example.org", "");
    assert_eq!((www.status, www.field("Location")), (308, Some("https://example.org/a?b=c")));
    let rest = weir.get("/anything");
    assert_eq!((rest.status, rest.field("Content-Type")), (503, Some("text/html; charset=utf-8")));
    assert_eq!(rest.text(), "<h1>Down for maintenance</h1>\n");
}

#[test]
fn sticky_hash() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let weir = run(
        "sticky-hash.toml",
        &[("127.0.0.1:3001", &at(&a)), ("127.0.0.1:3002", &at(&b)), ("127.0.0.1:3003", &at(&c))],
    );
    let place = |user: usize| ask(&weir, "GET", "/", "test", &format!("Cookie: x=1; sid=user-{user}\r\n")).text();
    let first: Vec<String> = (0..30).map(place).collect();
    let again: Vec<String> = (0..30).map(place).collect();
    assert_eq!(first, again);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "{first:?}");
}

#[test]
fn tcp() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let weir = run(
        "tcp.toml",
        &[("127.0.0.1:5432", "127.0.0.1:{port}"), ("127.0.0.1:5433", &at(&a)), ("127.0.0.1:5434", &at(&b))],
    );
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut client = weir.client();
        client.get("/").unwrap();
        open.push(client);
    }
    let who: BTreeSet<String> = open.iter_mut().map(|client| client.get("/").unwrap().text()).collect();
    assert_eq!(who.len(), 2, "four open connections are spread over both");
}

#[test]
fn unix_sockets() {
    let dir = weir_test::TempDir::new("sockets");
    let path = |name: &str| dir.path().join(name).display().to_string();
    for name in ["app-1.sock", "app-2.sock"] {
        let listener = UnixListener::bind(path(name)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve_unix(stream, name));
            }
        });
    }
    let _weir = run(
        "unix-sockets.toml",
        &[
            ("/tmp/weir-front.sock", &path("front.sock")),
            ("/tmp/app-1.sock", &path("app-1.sock")),
            ("/tmp/app-2.sock", &path("app-2.sock")),
        ],
    );
    let stream = eventually(PATIENCE, "it listens", || UnixStream::connect(path("front.sock")));
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut who = BTreeSet::new();
    for _ in 0..4 {
        (&stream).write_all(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n").unwrap();
        let head = read_head(&mut reader).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        who.extend(head.lines().find_map(|line| line.strip_prefix("X-Server: ").map(str::to_owned)));
    }
    assert_eq!(who.into_iter().collect::<Vec<_>>(), ["app-1.sock", "app-2.sock"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path("front.sock")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o660);
}

fn serve_unix(stream: UnixStream, name: &str) {
    let Ok(mut out) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while read_head(&mut reader).is_some() {
        let response = format!("HTTP/1.1 200 OK\r\nX-Server: {name}\r\nContent-Length: 0\r\n\r\n");
        if out.write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_head(reader: &mut impl std::io::BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

#[test]
fn weights() {
    let origins: Vec<Origin> = ["a", "b", "c"].map(Origin::named).into();
    let spare = Origin::named("spare");
    let places: Vec<String> = origins.iter().map(at).collect();
    let weir = run(
        "weights.toml",
        &[
            ("127.0.0.1:3001", &places[0]),
            ("127.0.0.1:3002", &places[1]),
            ("127.0.0.1:3003", &places[2]),
            ("127.0.0.1:3009", &at(&spare)),
        ],
    );
    let expected = [("a", 30), ("b", 10), ("c", 10)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(answers(&weir, 50), BTreeMap::from(expected));
    drop(origins);
    eventually(PATIENCE, "the spare takes over", || {
        let response = weir.get("/");
        if response.status == 200 && response.text() == "spare" { Ok(()) } else { Err(response.status) }
    });
}
