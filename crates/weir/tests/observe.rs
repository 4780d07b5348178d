//! What is seen of the traffic: metrics, clusters as JSON, access log. All of it is compared with what the clients did.

mod common;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{cluster, config, endpoint, endpoints, how_it_ended, log_line, log_lines, start, wait_health};
use serde_json::Value;
use weir_test::{Client, Hostile, Load, LoadOptions, Origin, PATIENCE, Reply, Step, eventually, free_port};

/// An origin that answers `/STATUS` with that status and a body of a kilobyte.
fn statuses() -> Origin {
    Origin::start(|request| {
        let status = request.target().trim_start_matches('/').parse().unwrap_or(200);
        Reply { status, ..Reply::text("x".repeat(1_024)) }
    })
}

fn promtool(text: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool: `cargo xtask test` installs it");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty() && output.stdout.is_empty(),
        "promtool: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn metrics_are_well_formed_while_traffic_runs() {
    let (origin, gone) = (statuses(), free_port());
    let weir = start(&config(2, &endpoints(&[origin.port(), gone])));
    let load = Load::start(&LoadOptions::gets(weir.port(), 8, 800));
    for n in 1..=5 {
        eventually(PATIENCE, "traffic", || load.so_far().responses() > n * 50);
        promtool(&weir.metrics());
    }
    load.stop().assert_all_ok();
    // The other format, too.
    let mut client = Client::local(weir.metrics_port());
    client
        .send_raw("GET /metrics HTTP/1.1\r\nHost: t\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n")
        .unwrap();
    let response = client.read_response().unwrap();
    assert!(response.field("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(response.text().ends_with("# EOF\n"));
}

#[test]
fn counters_say_what_the_clients_did() {
    let origin = statuses();
    let weir = start(&config(2, &endpoints(&[origin.port()])));
    let mut clients: Vec<Client> = (0..4).map(|_| weir.client()).collect();
    let sent: [(&str, u64); 5] = [("/200", 40), ("/204", 8), ("/301", 12), ("/404", 20), ("/500", 16)];
    for (target, count) in sent {
        for n in 0..count {
            let response = clients[n as usize % 4].get(target).unwrap();
            assert_eq!(response.status.to_string(), &target[1..]);
        }
    }
    let requests = |code: &str| weir.metric("weir_requests_total", &[&format!("code=\"{code}\"")]);
    let responses = |code: &str| weir.metric("weir_endpoint_responses_total", &[&format!("code=\"{code}\"")]);
    // What has been answered is counted: no waiting.
    for (code, count) in [("2xx", 48.0), ("3xx", 12.0), ("4xx", 20.0), ("5xx", 16.0)] {
        assert_eq!((requests(code), responses(code)), (Some(count), Some(count)), "{code}");
    }
    assert_eq!(weir.metric("http_server_request_duration_seconds_count", &[]), Some(96.0));
    assert_eq!(weir.metric("weir_endpoint_head_duration_seconds_count", &[]), Some(96.0));
    assert_eq!(weir.metric("weir_requests_in_flight", &[]), Some(0.0));
    assert_eq!(weir.metric("weir_downstream_connections_open", &[]), Some(4.0));
    // A kilobyte each but for the 204s, and a head.
    let bytes = weir.metric("weir_downstream_sent_bytes_total", &[]).unwrap();
    assert!((88.0 * 1_024.0..88.0 * 1_024.0 + 96.0 * 400.0).contains(&bytes), "{bytes}");
    let seen = endpoint(&weir, origin.port());
    assert_eq!((seen["requests"].as_u64(), seen["failures"].as_u64()), (Some(96), Some(0)));
    assert_eq!(seen["latency"]["count"], 96);
    assert_eq!(seen["in_flight"], 0);
    eventually(PATIENCE, "gauges of connections", || {
        let seen = endpoint(&weir, origin.port());
        let open = seen["connections_open"].as_u64().unwrap();
        let by_state = ["idle", "busy"].map(|state| weir.metric("weir_endpoint_connections", &[state]).unwrap());
        if open > 0 && open as f64 == by_state[0] + by_state[1] && open as usize <= origin.open_connections() {
            Ok(())
        } else {
            Err((seen, by_state))
        }
    });
    let view = cluster(&weir);
    assert_eq!((view["name"].as_str(), view["usable"].as_u64()), (Some("c"), Some(1)));
    assert_eq!(view["algorithm"], "weighted_round_robin");
}

#[test]
fn retries_and_reasons_are_counted() {
    let good = Origin::named("good");
    let bad = Hostile::always(vec![Step::ReadHead, Step::Reset]);
    let rest = "balance = \"round_robin\"\n[cluster.c.health]\nenabled = false\n[cluster.c.outlier]\nenabled = false\n";
    let weir = start(&config(1, &(endpoints(&[good.port(), bad.port()]) + rest)));
    for _ in 0..10 {
        assert_eq!(weir.get("/").text(), "good");
    }
    // A retry takes a turn, too: the bad one may be asked first by all but the first.
    let failed = bad.heads().len() as f64;
    assert!((5.0..=10.0).contains(&failed), "{failed}");
    assert_eq!(weir.metric("weir_retries_total", &[]), Some(failed));
    let at = |port: u16, name: &str, label: &str| weir.metric(name, &[&format!("127.0.0.1:{port}"), label]);
    assert_eq!(at(bad.port(), "weir_endpoint_failures_total", "upstream_reset"), Some(failed));
    assert_eq!(at(good.port(), "weir_endpoint_retries_total", ""), Some(failed));
    assert_eq!(at(good.port(), "weir_endpoint_responses_total", "2xx"), Some(10.0));
    assert_eq!(endpoint(&weir, good.port())["retries_to"], failed as u64);
    assert_eq!(endpoint(&weir, bad.port())["failures"], failed as u64);
    // POSTs are not repeated: half of them fail, for a reason.
    let mut statuses = BTreeMap::<u16, u32>::new();
    for _ in 0..10 {
        let mut client = weir.client();
        client.send_raw("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        *statuses.entry(client.read_response().unwrap().status).or_default() += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(200, 5), (502, 5)]));
    assert_eq!(weir.metric("weir_incomplete_total", &["upstream_reset"]), Some(5.0));
    assert_eq!(weir.metric("weir_retries_total", &[]), Some(failed));
}

#[test]
fn the_retry_budget_is_kept_and_what_it_denies_is_counted() {
    let bad = [Hostile::always(vec![Step::ReadHead, Step::Reset]), Hostile::always(vec![Step::ReadHead, Step::Reset])];
    let rest = "[cluster.c.retry]\nbudget = \"0%\"\nmin_per_second = 1\n[cluster.c.health]\nenabled = false\n[cluster.c.outlier]\nenabled = false\n";
    let weir = start(&config(1, &(endpoints(&bad.each_ref().map(Hostile::port)) + rest)));
    for _ in 0..60 {
        assert_eq!(weir.get("/").status, 502);
    }
    let (done, denied) =
        (weir.metric("weir_retries_total", &[]).unwrap(), weir.metric("weir_retries_denied_total", &[]).unwrap());
    assert_eq!(done + denied, 60.0);
    // One a second, over ten seconds.
    assert!(done <= 25.0 && denied >= 35.0, "{done} retries, {denied} denied");
    let attempts = bad.iter().map(|server| server.heads().len()).sum::<usize>();
    assert_eq!(attempts as f64, 60.0 + done);
}

const PHASES: [&str; 9] =
    ["head_us", "route_us", "admit_us", "pick_us", "acquire_us", "connect_us", "send_us", "await_us", "relay_us"];

fn phases(line: &Value) -> Vec<Option<u64>> {
    PHASES.iter().map(|phase| line[phase].as_u64()).collect()
}

#[test]
fn a_complete_request_has_all_its_phases_and_they_add_up() {
    let origin = Origin::start(|_| {
        std::thread::park_timeout(Duration::from_millis(30));
        Reply::text("hello")
    });
    let weir = start(&config(1, &endpoints(&[origin.port()])));
    let mut client = weir.client();
    client
        .send_raw("GET /first?a=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test/1\r\nReferer: http://r/\r\n\r\n")
        .unwrap();
    client.read_response().unwrap();
    client.get("/second").unwrap();
    let first = log_line(&weir, "/first?a=1");
    let text = |key: &str| first[key].as_str().unwrap_or("null").to_owned();
    assert_eq!(
        ["method", "host", "protocol", "listener", "cluster", "user_agent", "referer", "end"].map(text),
        ["GET", "shop.example", "HTTP/1.1", "web", "c", "test/1", "http://r/", "-"]
    );
    assert_eq!((first["status"].as_u64(), first["attempts"].as_u64()), (Some(200), Some(1)));
    assert_eq!(first["endpoint"], format!("127.0.0.1:{}", origin.port()));
    assert_eq!(first["peer"], client.local_addr().to_string());
    assert!(first["reason"].is_null());
    for line in [first, log_line(&weir, "/second")] {
        let phases = phases(&line);
        assert!(phases.iter().all(Option::is_some), "{line}");
        assert_eq!(phases.iter().flatten().sum::<u64>(), line["total_us"].as_u64().unwrap(), "{line}");
        let awaited = line["await_us"].as_u64().unwrap();
        assert!((29_000..5_000_000).contains(&awaited), "{line}");
        assert!(line["bytes_in"].as_u64() > Some(30) && line["bytes_out"].as_u64() > Some(40), "{line}");
    }
    assert!(log_line(&weir, "/second")["connect_us"].as_u64() <= Some(1), "a reused connection");
}

#[test]
fn every_end_has_its_code_and_reason() {
    let server = Hostile::start(|_| vec![Step::ReadHead, Step::Wait(Duration::from_millis(100)), Step::Reset]);
    let hang = Hostile::always(vec![Step::ReadHead, Step::Hang]);
    let rest = |port| endpoints(&[port]) + "[cluster.c.timeouts]\nresponse_head = \"300ms\"\n";

    // The endpoint, while its answer was awaited.
    let weir = start(&config(1, &rest(server.port())));
    assert_eq!(weir.get("/reset").status, 502);
    let line = log_line(&weir, "/reset");
    assert_eq!((line["end"].as_str(), line["reason"].as_str()), (Some("U:await"), Some("upstream_reset")));
    assert!(line["await_us"].as_u64() >= Some(90_000) || line["relay_us"].as_u64() >= Some(90_000), "{line}");
    assert_eq!(line["endpoint"], format!("127.0.0.1:{}", server.port()));

    // Time.
    let weir = start(&config(1, &rest(hang.port())));
    assert_eq!(weir.get("/time").status, 504);
    assert_eq!(how_it_ended(&weir, "/time"), ("U:await".to_owned(), "response_head_timeout".to_owned()));

    // The client, while the answer was awaited.
    let hang = Hostile::always(vec![Step::ReadHead, Step::ReadUntilClosed]);
    let weir = start(&config(1, &endpoints(&[hang.port()])));
    let mut client = weir.client();
    client.send_raw("GET /gone HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    eventually(PATIENCE, "the endpoint has it", || hang.heads().len() == 1);
    client.reset();
    assert_eq!(how_it_ended(&weir, "/gone"), ("D:await".to_owned(), "client_gone".to_owned()));
    let line = log_line(&weir, "/gone");
    assert_eq!(line["status"], 0, "no response head was sent: {line}");
    eventually(PATIENCE, "the endpoint is told", || hang.open_connections() == 0);
    assert_eq!(weir.metric("weir_incomplete_total", &["client_gone"]), Some(1.0));

    // Weir itself.
    let gone = free_port();
    let weir = start(&config(1, &(endpoints(&[gone]) + "[cluster.c.health]\nfall = 1\n")));
    wait_health(&weir, gone, "down");
    assert_eq!(weir.get("/nobody").status, 503);
    assert_eq!(how_it_ended(&weir, "/nobody"), ("W:pick".to_owned(), "no_endpoint".to_owned()));
    let line = log_line(&weir, "/nobody");
    assert_eq!((line["attempts"].as_u64(), line["endpoint"].is_null()), (Some(0), true), "{line}");
}

#[test]
fn requests_that_never_became_one_are_logged_too() {
    let origin = Origin::named("x");
    let weir = start(&config(1, &endpoints(&[origin.port()])));
    let mut client = weir.client();
    client.send_raw("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").unwrap();
    assert_eq!(client.read_response().unwrap().status, 400);
    let line =
        eventually(PATIENCE, "logged", || log_lines(&weir).into_iter().find(|line| line["reason"] == "bad_request"));
    assert_eq!((line["end"].as_str(), line["status"].as_u64()), (Some("D:head"), Some(400)), "{line}");
    assert_eq!(weir.metric("weir_incomplete_total", &["bad_request"]), Some(1.0));
}

#[test]
fn every_request_under_load_is_one_line_and_one_count() {
    let origin = Origin::named("x");
    let weir = start(&config(2, &endpoints(&[origin.port()])));
    let load = Load::start(&LoadOptions::gets(weir.port(), 16, 2_000));
    eventually(PATIENCE, "traffic", || load.so_far().responses() >= 3_000);
    let tally = load.stop();
    tally.assert_all_ok();
    assert_eq!(weir.metric("weir_requests_total", &["2xx"]), Some(tally.responses() as f64));
    eventually(PATIENCE, "all lines are written", || {
        let lines = log_lines(&weir).len() as u64;
        if lines == tally.responses() { Ok(()) } else { Err((lines, tally.responses())) }
    });
    assert_eq!(weir.metric("weir_access_log_dropped_lines_total", &[]), Some(0.0));
    assert_eq!(origin.answered() as u64, tally.responses());
}
