//! Who gets traffic: probes, ejection, panic, priorities, and names that change their addresses.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

mod common;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{cluster, config, endpoint, endpoints, health, how_it_ended, start, wait_health};
use weir_test::{Hostile, Load, LoadOptions, Origin, PATIENCE, Reply, Step, Weir, eventually, free_port};

/// An origin whose `/health` answers with a status that a test changes, and whose probes and requests are counted.
struct Patient {
    origin: Origin,
    status: Arc<AtomicU16>,
    probes: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Patient {
    fn start(status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let (probes, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (s, p, r) = (Arc::clone(&status), Arc::clone(&probes), Arc::clone(&requests));
        let origin = Origin::start(move |request| {
            if request.target() == "/health" {
                p.fetch_add(1, Ordering::SeqCst);
                return Reply::status(s.load(Ordering::SeqCst)).with("X-State", "fine, thanks");
            }
            r.fetch_add(1, Ordering::SeqCst);
            Reply::text("x")
        });
        Self { origin, status, probes, requests }
    }

    fn port(&self) -> u16 {
        self.origin.port()
    }

    fn set(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn probes(&self) -> usize {
        self.probes.load(Ordering::SeqCst)
    }
}

const HTTP_HEALTH: &str = "[cluster.c.health]\nhttp = \"/health\"\ninterval = \"200ms\"\nfast_interval = \"40ms\"\ntimeout = \"150ms\"\nrise = 2\nfall = 3\n";

#[test]
fn probes_are_tcp_connections_unless_told_otherwise() {
    let origin = Origin::named("x");
    // The time-out and the fast interval follow.
    let rest = "[cluster.c.health]\ninterval = \"50ms\"\n";
    let weir = start(&config(1, &(endpoints(&[origin.port()]) + rest)));
    wait_health(&weir, origin.port(), "up");
    eventually(PATIENCE, "several probes", || origin.connections() >= 5);
    assert_eq!(origin.answered(), 0, "a TCP probe asks nothing");
    eventually(PATIENCE, "they are closed", || origin.open_connections() <= 1);
}

#[test]
fn an_endpoint_whose_check_fails_gets_no_request_from_the_first_moment_on() {
    let (good, bad) = (Patient::start(200), Patient::start(503));
    let weir = start(&config(2, &(endpoints(&[bad.port(), good.port()]) + HTTP_HEALTH)));
    wait_health(&weir, bad.port(), "down");
    let before = bad.requests();
    let load = Load::start(&LoadOptions::gets(weir.port(), 8, 1_000));
    eventually(PATIENCE, "traffic and probes", || load.so_far().responses() >= 500 && bad.probes() >= 5);
    load.stop().assert_all_ok();
    assert_eq!(bad.requests(), before, "a failing endpoint got requests");
    let said = endpoint(&weir, bad.port());
    assert_eq!(said["last_probe_error"], "status 503 is not an expected one");
    assert_eq!(weir.metric("weir_endpoint_up", &[&format!("127.0.0.1:{}", bad.port())]), Some(0.0));
    assert_eq!(weir.metric("weir_cluster_usable_endpoints", &[]), Some(1.0));

    // It recovers, after `rise` successes, and gets traffic.
    bad.set(200);
    wait_health(&weir, bad.port(), "up");
    for _ in 0..4 {
        assert_eq!(weir.get("/").status, 200);
    }
    assert_eq!(bad.requests() - before, 2);
}

#[test]
fn fall_and_rise_count_answers_in_a_row_and_look_again_quickly() {
    let patient = Patient::start(200);
    let other = Patient::start(200);
    // With 30 s between two probes, only the fast re-check can bring three failures soon.
    let slow = "[cluster.c.health]\nhttp = \"/health\"\ninterval = \"1s\"\nfast_interval = \"30ms\"\ntimeout = \"500ms\"\nrise = 3\nfall = 4\njitter = 0.0\n";
    let weir = start(&config(1, &(endpoints(&[patient.port(), other.port()]) + slow)));
    wait_health(&weir, patient.port(), "up");
    let probes = patient.probes();
    patient.set(500);
    wait_health(&weir, patient.port(), "down");
    let used = patient.probes() - probes;
    // Perhaps one was on its way that was still answered with 200.
    assert!((4..=6).contains(&used), "{used} probes until it was down");
    let probes = patient.probes();
    patient.set(200);
    wait_health(&weir, patient.port(), "up");
    let used = patient.probes() - probes;
    assert!((3..=5).contains(&used), "{used} probes until it was up");
}

/// With an hour between two probes, only the fast ones of an endpoint that has never been up can find the server.
#[test]
fn a_server_that_starts_after_weir_is_found_soon() {
    let port = free_port();
    let rest = "[cluster.c.health]\ninterval = \"1h\"\nfast_interval = \"50ms\"\ntimeout = \"1s\"\n";
    let weir = start(&config(1, &(endpoints(&[port]) + rest)));
    wait_health(&weir, port, "down");
    assert_eq!(weir.get("/").status, 503);
    let _origin = Origin::start_on(port, |_| Reply::text("here"));
    wait_health(&weir, port, "up");
    assert_eq!(weir.get("/").status, 200);
}

#[test]
fn a_probe_can_ask_for_fields_and_a_text_in_the_body() {
    let healthy = |request: &weir_test::Request| {
        if request.target() != "/check?deep=1" {
            return Reply::text("traffic");
        }
        let right = request.field("host") == Some("probe.example") && request.field("x-probe") == Some("weir");
        Reply::text(if right { "all is well" } else { "wrong request" }).with("X-State", "ok;v=2")
    };
    let origin = Origin::start(healthy);
    let no_body = Origin::start(|_| Reply::text("nothing").with("X-State", "ok"));
    let no_field = Origin::start(|_| Reply::text("all is well"));
    let rest = "[cluster.c.health]\ninterval = \"100ms\"\nfast_interval = \"100ms\"\ntimeout = \"100ms\"\nrise = 1\nfall = 1\n[cluster.c.health.http]\n\
        path = \"/check?deep=1\"\nhost = \"probe.example\"\nheaders = { X-Probe = \"weir\" }\nstatus = [200, \"3xx\"]\n\
        body_contains = \"is well\"\nexpect_headers = { X-State = \"ok\" }\n";
    let ports = [origin.port(), no_body.port(), no_field.port()];
    let weir = start(&config(1, &(endpoints(&ports) + rest)));
    wait_health(&weir, ports[0], "up");
    wait_health(&weir, ports[1], "down");
    wait_health(&weir, ports[2], "down");
    let error = |port| endpoint(&weir, port)["last_probe_error"].as_str().unwrap().to_owned();
    assert_eq!(error(ports[1]), "the expected text is not in the body");
    assert_eq!(error(ports[2]), "an expected response field is missing or different");
}

#[test]
fn what_is_no_answer_is_a_failed_probe() {
    for (steps, error) in [
        (vec![Step::ReadHead, Step::Hang], "no complete answer in time"),
        (vec![Step::ReadHead, Step::Reset], "closed before a complete answer"),
        (vec![Step::ReadHead, Step::send("HTTP/1.1 200 OK\r\nConte")], "closed before a complete answer"),
        (vec![Step::ReadHead, Step::Garbage { count: 500, seed: 1 }], "the answer is not valid HTTP"),
        (vec![Step::ReadHead, Step::Endless(vec![b'a'; 4096])], "the answer is not valid HTTP"),
    ] {
        let server = Hostile::always(steps);
        let weir = start(&config(1, &(endpoints(&[server.port()]) + HTTP_HEALTH)));
        wait_health(&weir, server.port(), "down");
        assert_eq!(endpoint(&weir, server.port())["last_probe_error"], error);
        let response = weir.get("/nobody");
        assert_eq!((response.status, response.field("weir-reason")), (503, Some("no_endpoint")));
        assert_eq!(how_it_ended(&weir, "/nobody"), ("W:pick".to_owned(), "no_endpoint".to_owned()));
    }
}

/// Origins that fail every request with 503 while told to.
fn flaky(count: usize) -> (Vec<Origin>, Vec<Arc<AtomicBool>>) {
    (0..count)
        .map(|n| {
            let fails = Arc::new(AtomicBool::new(false));
            let inner = Arc::clone(&fails);
            let origin = Origin::start(move |_| {
                if inner.load(Ordering::SeqCst) { Reply::status(503) } else { Reply::text(n.to_string()) }
            });
            (origin, fails)
        })
        .unzip()
}

fn ejected(weir: &Weir) -> usize {
    let cluster = cluster(weir);
    cluster["endpoints"].as_array().unwrap().iter().filter(|e| e["health"] == "ejected").count()
}

#[test]
fn endpoints_that_fail_requests_are_ejected_but_never_all_and_come_back() {
    for count in 2..=5 {
        let (origins, fails) = flaky(count);
        let ports: Vec<u16> = origins.iter().map(Origin::port).collect();
        let rest = "balance = \"round_robin\"\n[cluster.c.health]\ninterval = \"1h\"\n[cluster.c.outlier]\nconsecutive_failures = 3\nbase_ejection = \"1s\"\nmax_ejection = \"1s\"\n";
        let weir = start(&config(1, &(endpoints(&ports) + rest)));
        // One fails: it is taken out, nobody else.
        fails[0].store(true, Ordering::SeqCst);
        let mut client = weir.client();
        eventually(PATIENCE, "the failing one is ejected", || {
            client.get("/").unwrap();
            health(&weir, ports[0]) == "ejected"
        });
        assert_eq!(ejected(&weir), 1);
        for _ in 0..3 * count {
            assert_eq!(client.get("/").unwrap().status, 200, "{count} endpoints");
        }
        // All fail: the rest goes on serving what it can.
        for fail in &fails {
            fail.store(true, Ordering::SeqCst);
        }
        let allowed = if count <= 3 { 1 } else { count / 2 };
        for _ in 0..40 * count {
            let response = client.get("/").unwrap();
            assert_eq!((response.status, response.field("weir-reason")), (503, None), "the endpoint's own answer");
        }
        assert!(ejected(&weir) <= allowed, "{} of {count} ejected", ejected(&weir));
        // All is well again: the ejected ones come back by themselves.
        for fail in &fails {
            fail.store(false, Ordering::SeqCst);
        }
        eventually(PATIENCE, "all serve", || {
            client.get("/").unwrap();
            ejected(&weir) == 0
        });
        assert!(weir.metric("weir_endpoint_ejections_total", &[]).unwrap() >= 1.0);
        assert!(weir.metric("weir_events_total", &["endpoint_restored"]).unwrap() >= 1.0);
    }
}

#[test]
fn below_the_panic_threshold_health_is_ignored_counted_and_seen() {
    let (up, down, also_down) = (Patient::start(200), Patient::start(500), Patient::start(500));
    let rest = "panic_threshold = \"50%\"\nbalance = \"round_robin\"\n".to_owned() + HTTP_HEALTH;
    let ports = [up.port(), down.port(), also_down.port()];
    let weir = start(&config(1, &(endpoints(&ports) + &rest)));
    wait_health(&weir, ports[1], "down");
    wait_health(&weir, ports[2], "down");
    eventually(PATIENCE, "panic", || cluster(&weir)["panic"] == true);
    let before = [up.requests(), down.requests(), also_down.requests()];
    for _ in 0..9 {
        assert_eq!(weir.get("/").status, 200);
    }
    let got = [up.requests() - before[0], down.requests() - before[1], also_down.requests() - before[2]];
    assert_eq!(got, [3, 3, 3]);
    assert_eq!(weir.metric("weir_cluster_panic", &["cluster=\"c\""]), Some(1.0));
    assert_eq!(weir.metric("weir_panic_picks_total", &[]), Some(9.0));
    assert_eq!(weir.metric("weir_cluster_usable_endpoints", &[]), Some(1.0), "usable while not in panic");
    assert_eq!(cluster(&weir)["usable"], 1);
    assert!(weir.metric("weir_events_total", &["panic_entered"]).unwrap() >= 1.0);

    down.set(200);
    eventually(PATIENCE, "no panic any more", || cluster(&weir)["panic"] == false);
    let before = also_down.requests();
    for _ in 0..6 {
        assert_eq!(weir.get("/").status, 200);
    }
    assert_eq!(also_down.requests(), before);
    assert_eq!(weir.metric("weir_cluster_panic", &[]), Some(0.0));
}

#[test]
fn a_lower_tier_serves_only_while_no_endpoint_above_can() {
    let (first, second, reserve) = (Patient::start(200), Patient::start(200), Patient::start(200));
    let list = format!(
        "endpoints = [\"127.0.0.1:{}\", \"127.0.0.1:{}\", {{ address = \"127.0.0.1:{}\", priority = 1 }}]\n",
        first.port(),
        second.port(),
        reserve.port()
    );
    let weir = start(&config(1, &(list + HTTP_HEALTH)));
    wait_health(&weir, reserve.port(), "up");
    let serves = |wanted: [bool; 3]| {
        let count = || [first.requests(), second.requests(), reserve.requests()];
        let before = count();
        for _ in 0..6 {
            assert_eq!(weir.get("/").status, 200);
        }
        let after = count();
        assert_eq!([0, 1, 2].map(|n| after[n] > before[n]), wanted);
    };
    serves([true, true, false]);
    first.set(500);
    wait_health(&weir, first.port(), "down");
    serves([false, true, false]);
    second.set(500);
    wait_health(&weir, second.port(), "down");
    serves([false, false, true]);
    first.set(200);
    wait_health(&weir, first.port(), "up");
    serves([true, false, false]);
}

#[test]
fn an_endpoint_of_weight_zero_gets_nothing() {
    let (some, none) = (Patient::start(200), Patient::start(200));
    let list = format!(
        "endpoints = [\"127.0.0.1:{}\", {{ address = \"127.0.0.1:{}\", weight = 0 }}]\n",
        some.port(),
        none.port()
    );
    let weir = start(&config(1, &(list + HTTP_HEALTH)));
    for _ in 0..10 {
        assert_eq!(weir.get("/").status, 200);
    }
    assert_eq!((some.requests(), none.requests()), (10, 0));
}

#[test]
fn localhost_is_a_name_like_others() {
    let origin = Origin::named("by name");
    let weir = start(&config(1, &format!("endpoints = [\"localhost:{}\"]\n", origin.port())));
    eventually(PATIENCE, "the name is known and serves", || {
        let response = weir.get("/");
        if response.status == 200 && response.text() == "by name" { Ok(()) } else { Err(response.text()) }
    });
    let seen = cluster(&weir);
    let names: Vec<&str> = seen["endpoints"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert!(names.contains(&&*format!("localhost/127.0.0.1:{}", origin.port())), "{names:?}");
}

/// A name server for one name, whose addresses a test changes. TTL 1 s.
struct NameServer {
    port: u16,
    answer: Arc<Mutex<Answer>>,
    queries: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Answer {
    Addresses(Vec<Ipv4Addr>),
    /// SERVFAIL.
    Broken,
}

impl NameServer {
    fn start(addresses: Vec<Ipv4Addr>) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let (answer, queries) = (Arc::new(Mutex::new(Answer::Addresses(addresses))), Arc::new(AtomicUsize::new(0)));
        let (for_thread, counter) = (Arc::clone(&answer), Arc::clone(&queries));
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((len, peer)) = socket.recv_from(&mut query) {
                counter.fetch_add(1, Ordering::SeqCst);
                let reply = dns_reply(&query[..len], &for_thread.lock().unwrap());
                let _ = socket.send_to(&reply, peer);
            }
        });
        Self { port, answer, queries }
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

/// The response to one query for A records (RFC 1035 section 4.1); other types have none.
fn dns_reply(query: &[u8], answer: &Answer) -> Vec<u8> {
    let mut end = 12;
    while query[end] != 0 {
        end += usize::from(query[end]) + 1;
    }
    let is_a = query[end + 1..end + 3] == [0, 1];
    let (code, addresses) = match answer {
        Answer::Broken => (2, Vec::new()),
        Answer::Addresses(list) if is_a => (0, list.clone()),
        Answer::Addresses(_) => (0, Vec::new()),
    };
    let mut reply = query[..2].to_vec();
    reply.extend([0x85, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    reply.extend(&query[12..end + 5]);
    for address in addresses {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address.octets());
    }
    reply
}

#[test]
fn traffic_follows_a_name_whose_addresses_change() {
    let port = free_port();
    let old = Origin::start_on(port, |_| Reply::text("old"));
    let second = std::net::TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).unwrap();
    drop(second);
    // The new address is another one of the loopback network.
    let new = ForwardTo::start(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), port);
    let names = NameServer::start(vec![Ipv4Addr::LOCALHOST]);
    let text = config(2, &format!("endpoints = [\"app.weir.test:{port}\"]\n"))
        .replace("[process]\n", &format!("[process]\nnameserver = \"127.0.0.1:{}\"\n", names.port));
    let weir = start(&text);
    eventually(PATIENCE, "the first address serves", || weir.get("/").text() == "old");
    let load = Load::start(&LoadOptions::gets(weir.port(), 8, 400));
    eventually(PATIENCE, "load", || load.so_far().body("old") > 50);

    names.set(Answer::Addresses(vec![Ipv4Addr::new(127, 0, 0, 2)]));
    eventually(PATIENCE, "the new address serves", || load.so_far().body("new") > 50);
    eventually(PATIENCE, "the old one is gone", || {
        let seen = cluster(&weir);
        let list = seen["endpoints"].as_array().unwrap().len();
        if list == 1 && seen["endpoints"][0]["address"] == format!("127.0.0.2:{port}") { Ok(()) } else { Err(seen) }
    });
    let settled = load.so_far().body("old");
    let new_before = load.so_far().body("new");
    eventually(PATIENCE, "more traffic", || load.so_far().body("new") > new_before + 100);
    assert_eq!(load.so_far().body("old"), settled, "traffic still goes to the address that was taken away");
    eventually(PATIENCE, "its connections are closed", || old.open_connections() == 0);

    // A name server that fails takes nothing away.
    names.set(Answer::Broken);
    let asked = names.queries.load(Ordering::SeqCst);
    eventually(PATIENCE, "it was asked again", || names.queries.load(Ordering::SeqCst) > asked + 2);
    let before = load.so_far().body("new");
    eventually(PATIENCE, "traffic goes on", || load.so_far().body("new") > before + 100);
    load.stop().assert_all_ok();
    drop(new);
}

/// Answers every request with "new" on an address that the ordinary fixtures do not listen on.
struct ForwardTo {
    _thread: std::thread::JoinHandle<()>,
}

impl ForwardTo {
    fn start(ip: IpAddr, port: u16) -> Self {
        let listener = std::net::TcpListener::bind((ip, port)).unwrap();
        let origin = Origin::named("new");
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(upstream) = std::net::TcpStream::connect(origin.address()) else { continue };
                let (mut a, mut b) = (stream.try_clone().unwrap(), upstream.try_clone().unwrap());
                let (mut c, mut d) = (stream, upstream);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut a, &mut b);
                    let _ = b.shutdown(std::net::Shutdown::Write);
                });
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut d, &mut c);
                    let _ = c.shutdown(std::net::Shutdown::Write);
                });
            }
        });
        Self { _thread: thread }
    }
}

#[test]
fn newcomers_of_a_name_get_traffic_only_after_their_first_success() {
    let port = free_port();
    let _old = Origin::start_on(port, |_| Reply::text("old"));
    let names = NameServer::start(vec![Ipv4Addr::LOCALHOST]);
    let text = config(1, &format!("endpoints = [\"app.weir.test:{port}\"]\n[cluster.c.health]\ninterval = \"200ms\"\nfast_interval = \"50ms\"\ntimeout = \"100ms\"\n"))
        .replace("[process]\n", &format!("[process]\nnameserver = \"127.0.0.1:{}\"\n", names.port));
    let weir = start(&text);
    eventually(PATIENCE, "it serves", || weir.get("/").text() == "old");
    // Nobody listens there: it must never be tried by a request.
    names.set(Answer::Addresses(vec![Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 3)]));
    let newcomer = format!("127.0.0.3:{port}");
    let find = || {
        let seen = cluster(&weir);
        seen["endpoints"].as_array().unwrap().iter().find(|e| e["address"] == *newcomer).cloned()
    };
    let mut client = weir.client();
    eventually(PATIENCE, "it is listed and down", || {
        assert_eq!(client.get("/").unwrap().text(), "old");
        find().is_some_and(|e| e["health"] == "down")
    });
    for _ in 0..20 {
        assert_eq!(client.get("/").unwrap().text(), "old");
    }
    let seen = find().unwrap();
    assert_eq!((seen["failures"].clone(), seen["connects"].clone()), (0.into(), 0.into()), "{seen}");
    let _new = ForwardTo::start(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3)), port);
    eventually(PATIENCE, "the newcomer serves", || client.get("/").unwrap().text() == "new");
}
