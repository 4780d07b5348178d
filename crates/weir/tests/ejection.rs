//! What counts as evidence against an endpoint, how often, and what does not: bodies that break, failures that are
//! Weir's own, and the want of descriptors.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

mod common;

use std::time::{Duration, Instant};

use common::{config, endpoint, endpoints, health, start};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use weir_test::{Client, ClientError, Hostile, Origin, PATIENCE, Step, Weir, eventually};

/// Probes take no part.
const NO_PROBES: &str = "balance = \"round_robin\"\n[cluster.c.health]\ninterval = \"1h\"\n";

/// Weir in front of a scripted endpoint and a good one. The scripted one is ejected after `failures` in a row.
fn beside_a_good_one(server: &Hostile, failures: u32) -> (Origin, Weir) {
    let good = Origin::named("good");
    let rest = format!(
        "{NO_PROBES}[cluster.c.timeouts]\nidle = \"200ms\"\n[cluster.c.retry]\nattempts = 1\n\
         [cluster.c.outlier]\nconsecutive_failures = {failures}\nbase_ejection = \"1h\"\nmax_ejection = \"1h\"\n"
    );
    let weir = start(&config(1, &(endpoints(&[server.port(), good.port()]) + &rest)));
    (good, weir)
}

fn asked(server: &Hostile) -> usize {
    server.heads().iter().filter(|head| head.start_line.contains(" /x ")).count()
}

fn ask(weir: &Weir) -> Result<weir_test::Response, ClientError> {
    weir.client().get("/x")
}

/// Asks until the endpoint is ejected: so many requests it has had then.
#[track_caller]
fn requests_until_ejected(weir: &Weir, server: &Hostile) -> usize {
    eventually(PATIENCE, "it is ejected", || {
        // The next request is sent when the keeper has had time to act on the one before.
        let before = asked(server);
        while asked(server) == before && health(weir, server.port()) != "ejected" {
            let _ = ask(weir);
        }
        health(weir, server.port()) == "ejected"
    });
    asked(server)
}

/// Guards against endpoints that begin every response and complete none: no probe and no status tells.
#[test]
fn a_body_that_breaks_is_evidence() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let pumped = format!("HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n{}", "x".repeat(1_000_000));
    let pause = Step::Wait(Duration::from_millis(30));
    for (name, sent, last) in [
        ("reset", length, Step::Reset),
        ("truncated", length, Step::HalfClose),
        ("truncated between chunks", chunked, Step::HalfClose),
        ("bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", Step::Hang),
        ("reset while the kernel moves it", &pumped, Step::Reset),
        ("truncated while the kernel moves it", &pumped, Step::HalfClose),
        ("stalled", length, Step::Hang),
        // An error of the endpoint's own whose body breaks is one failure, not two.
        ("broken error", "HTTP/1.1 503 No\r\nContent-Length: 1000\r\n\r\nonly this", Step::Reset),
    ] {
        let server = Hostile::always(vec![Step::ReadHead, Step::send(sent), pause.clone(), last]);
        let (_good, weir) = beside_a_good_one(&server, 4);
        let count = requests_until_ejected(&weir, &server);
        assert!((4..=5).contains(&count), "{name}: {count} requests until it was ejected");
        assert_eq!(endpoint(&weir, server.port())["failures"], count, "{name}");
        for _ in 0..4 {
            assert_eq!(ask(&weir).unwrap().text(), "good", "{name}");
        }
    }
}

/// Guards against counting a failure twice when Weir answers 502 in place of an endpoint that had sent an interim
/// response.
#[test]
fn a_failure_behind_an_interim_response_counts_once() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let server = Hostile::always(vec![Step::ReadHead, Step::send(early), Step::send("no HTTP\r\n\r\n"), Step::Hang]);
    let (_good, weir) = beside_a_good_one(&server, 4);
    let count = requests_until_ejected(&weir, &server);
    assert!((4..=5).contains(&count), "{count} requests until it was ejected");
}

/// Guards against blaming the endpoint for a client that leaves amid the response.
#[test]
fn a_client_that_leaves_is_no_evidence() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
    let server = Hostile::always(vec![Step::ReadHead, Step::send(head), Step::Endless(vec![b'x'; 1 << 16])]);
    let (_good, weir) = beside_a_good_one(&server, 2);
    for n in 0..8 {
        let mut client = weir.client();
        client.send_raw("GET /x HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        client.read_head().unwrap();
        client.reset();
        eventually(PATIENCE, "it is over", || endpoint(&weir, server.port())["in_flight"] == 0);
        assert_ne!(health(&weir, server.port()), "ejected", "after {n}");
    }
    assert!(asked(&server) >= 4);
    assert_eq!(endpoint(&weir, server.port())["failures"], 0);
}

/// Sets how many descriptors a process may have from now on; what it has stays.
fn limit_descriptors(weir: &mut Weir, count: u64) {
    let pid = Pid::from_raw(i32::try_from(weir.process().pid()).unwrap()).unwrap();
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(count), maximum }).unwrap();
}

/// Guards against taking this machine's want of descriptors for the endpoints' failure: neither probes nor requests that
/// cannot be made say anything about them, and all is well as soon as there are descriptors again.
#[test]
fn the_want_of_descriptors_is_no_evidence() {
    let servers = [Origin::named("a"), Origin::named("b")];
    let ports = servers.each_ref().map(Origin::port);
    let rest = "balance = \"round_robin\"\n[cluster.c.retry]\nattempts = 1\n\
        [cluster.c.health]\ninterval = \"100ms\"\nfast_interval = \"20ms\"\ntimeout = \"100ms\"\nrise = 1\nfall = 1\n\
        [cluster.c.outlier]\nconsecutive_failures = 2\nbase_ejection = \"1h\"\nmax_ejection = \"1h\"\n\
        [cluster.c.pool]\nmax_uses = 1\n";
    let mut weir = start(&config(1, &(endpoints(&ports) + rest)));
    // Both connections are there before the descriptors run out.
    let mut client = weir.client();
    assert_eq!(client.get("/").unwrap().status, 200);
    let mut observer = Client::local(weir.metrics_port());
    let mut healths = || {
        let response = observer.get("/clusters/c").unwrap();
        let cluster: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        let list = cluster["endpoints"].as_array().unwrap().clone();
        list.iter().map(|endpoint| endpoint["health"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(healths(), ["up", "up"]);

    limit_descriptors(&mut weir, 0);
    let connected = || servers.iter().map(Origin::connections).sum::<usize>();
    // What was accepted by the kernel before arrives late at the worst; then nothing does.
    let (mut settled, mut since) = (connected(), Instant::now());
    let mut refused = 0;
    while since.elapsed() < Duration::from_secs(1) || refused < 10 {
        let response = client.get("/").unwrap();
        assert_eq!(response.status, 503, "{}", response.text());
        assert_eq!(response.field("weir-reason"), Some("connect_failed"));
        refused += 1;
        assert_eq!(healths(), ["up", "up"], "after {refused} requests");
        if connected() != settled {
            (settled, since) = (connected(), Instant::now());
        }
    }
    limit_descriptors(&mut weir, 1_024);
    for _ in 0..4 {
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    // Probes go on, too.
    let before = connected();
    eventually(PATIENCE, "probes go on", || connected() > before + 10);
    assert_eq!(healths(), ["up", "up"]);
    for port in ports {
        assert_eq!(endpoint(&weir, port)["ejections"], 0);
    }
    assert!(weir.metric("weir_events_total", &["endpoint_down"]).is_none_or(|count| count < 0.5));
}
