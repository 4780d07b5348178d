//! The text that scrapers read: its grammar, its agreement with the counters, and what `promtool` says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests, which the lint does not see as tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_core::{EndCode, Health, Instant, Origin, Phase, PhaseTimes, Reason, WallTime};
use weir_telemetry::catalogue::{Kind, METRICS};
use weir_telemetry::{
    BudgetMemberView, BudgetView, BuildInfo, CloseReason, ClusterView, EndpointStats, EndpointView, Exposition,
    ProcessStats, Protocol, Record, Sources, WorkerStats, render,
};

const NASTY: &str = "we\\ird \"name\"\nwith newline";

#[test]
fn both_formats_obey_their_grammar() {
    for (format, text) in both(&busy_workers(), &[cluster("web"), cluster(NASTY)]) {
        let families = parse(format, &text);
        assert_eq!(families.len(), METRICS.len(), "{format:?}: every row appears once");
        for metric in METRICS {
            let name = if format == Exposition::OpenMetrics { metric.family() } else { metric.name };
            assert_eq!(families[name], metric.kind.as_str(), "{name}");
        }
    }
}

#[test]
fn nothing_at_all_is_valid_too() {
    for (format, text) in both(&[], &[]) {
        assert_eq!(parse(format, &text).len(), METRICS.len());
    }
}

#[test]
fn samples_are_the_sums_of_the_counters() {
    let (_, text) = both(&busy_workers(), &[cluster("web")]).remove(0);
    for line in [
        r#"weir_requests_total{code="2xx"} 3"#,
        r#"weir_requests_total{code="5xx"} 3"#,
        r#"weir_incomplete_total{reason="upstream_reset"} 3"#,
        r#"weir_pool_closed_total{reason="peer"} 3"#,
        r#"weir_downstream_connections_open{worker="1"} 1"#,
        r#"weir_phase_seconds_total{phase="await"} 0.018"#,
        r#"http_server_request_duration_seconds_bucket{le="0.005"} 0"#,
        r#"http_server_request_duration_seconds_bucket{le="0.01"} 6"#,
        r#"http_server_request_duration_seconds_bucket{le="+Inf"} 6"#,
        "http_server_request_duration_seconds_count 6",
        "http_server_request_duration_seconds_sum 0.048",
        r#"weir_endpoint_responses_total{cluster="web",endpoint="a",code="2xx"} 1"#,
        r#"weir_endpoint_failures_total{cluster="web",endpoint="a",reason="connect_refused"} 1"#,
        r#"weir_endpoint_connections{cluster="web",endpoint="a",state="busy"} 1"#,
        r#"weir_cluster_endpoints{cluster="web",health="up"} 1"#,
        r#"weir_build_info{version="0.1.0",commit="abc"} 1"#,
        r#"weir_budget_connections{budget="orders-db"} 40"#,
        r#"weir_budget_granted{budget="orders-db"} 38"#,
        r#"weir_budget_demanded{budget="orders-db"} 35"#,
        r#"weir_budget_claims_total{budget="orders-db"} 7"#,
        "weir_workers 3",
        "weir_ready 1",
    ] {
        assert!(text.lines().any(|other| other == line), "missing: {line}\n{text}");
    }
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let (_, text) = both(&busy_workers(), &[cluster("web"), cluster(NASTY)]).remove(0);
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs `promtool` on PATH: install the Debian package `prometheus`");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn a_scrape_while_workers_write_never_goes_backwards() {
    let workers: Vec<Arc<WorkerStats>> = (0..2).map(|_| WorkerStats::new()).collect();
    let stats = EndpointStats::new(workers.len());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (number, worker) in workers.iter().enumerate() {
            let (stats, stop) = (&stats, &stop);
            scope.spawn(move || {
                let times = times();
                while !stop.load(Ordering::Relaxed) {
                    worker.record(&record(&times, 200, None).ended());
                    stats.shard(number).responded(200, &times);
                }
            });
        }
        let mut before = BTreeMap::new();
        let mut scrapes = 0;
        // At least twenty scrapes, and as many more as it takes to see the writers at work.
        while scrapes < 20 || before.get("weir_requests_total{code=\"2xx\"}") == Some(&0.0) {
            let mut cluster = cluster("web");
            cluster.endpoints[0].stats = Arc::clone(&stats);
            let text = render(sources(&workers, &[cluster]), Exposition::Prometheus);
            parse(Exposition::Prometheus, &text);
            for (name, value) in samples(&text).filter(|(name, _)| grows(name)) {
                let old = before.insert(name.to_owned(), value).unwrap_or(0.0);
                assert!(value >= old, "{name} went from {old} to {value}");
            }
            scrapes += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    // With the writers gone, nothing was lost: every request is in every counter.
    let total = workers.iter().map(|worker| worker.requests.total()).sum::<u64>();
    assert!(total > 0);
    assert_eq!(total, workers.iter().map(|worker| worker.request_time.snapshot().count()).sum::<u64>());
    assert_eq!(total, stats.histogram(|shard| &shard.whole_time).count());
}

// === fixtures ===

fn times() -> PhaseTimes {
    let mut times = PhaseTimes::starting(Instant::from_millis(100));
    times.stamp(Phase::Head, Instant::from_millis(101));
    times.stamp(Phase::Connect, Instant::from_millis(103));
    times.stamp(Phase::Await, Instant::from_millis(106));
    times.stamp(Phase::Relay, Instant::from_millis(108));
    times
}

fn record(times: &PhaseTimes, status: u16, reason: Option<Reason>) -> Record<'_> {
    Record {
        start: WallTime::from_nanos(1),
        times,
        peer: None,
        client: None,
        listener: "web",
        method: b"GET",
        target: b"/",
        host: b"example.org",
        protocol: Protocol::Http11,
        status,
        bytes_in: 100,
        bytes_out: 1_000,
        route: None,
        cluster: None,
        endpoint: None,
        attempts: 1,
        end: reason.map_or(EndCode::COMPLETE, |_| EndCode::by(Origin::Upstream, Phase::Await)),
        reason,
        request_id: b"",
        user_agent: b"",
        referer: b"",
    }
}

fn busy_workers() -> Vec<Arc<WorkerStats>> {
    let workers: Vec<_> = (0..3).map(|_| WorkerStats::new()).collect();
    for worker in &workers {
        worker.accepted.inc();
        worker.open.inc();
        worker.record(&record(&times(), 200, None).ended());
        worker.record(&record(&times(), 502, Some(Reason::UpstreamReset)).ended());
        worker.pool_closed(CloseReason::Peer);
    }
    workers
}

fn cluster(name: &str) -> ClusterView {
    let stats = EndpointStats::new(2);
    stats.shard(0).connected(150);
    stats.shard(1).responded(200, &times());
    stats.shard(1).failed(Reason::ConnectRefused);
    ClusterView {
        name: name.into(),
        algorithm: "least_connections".into(),
        panic: false,
        usable: 1,
        endpoints: vec![EndpointView {
            name: "a".into(),
            address: "127.0.0.1:8001".into(),
            zone: None,
            priority: 0,
            weight: 1,
            health: Health::Up,
            since: None,
            last_probe_error: None,
            in_flight: 1,
            waiting: 0,
            ejections: 0,
            stats,
        }],
    }
}

fn sources(workers: &[Arc<WorkerStats>], clusters: &[ClusterView]) -> Sources {
    Sources {
        workers: workers.to_vec(),
        clusters: clusters.to_vec(),
        budgets: vec![budget()],
        process: ProcessStats::read(),
        build: BuildInfo { version: "0.1.0", commit: "abc" },
        access_log: None,
        config_revision: 1,
        ready: true,
    }
}

fn budget() -> BudgetView {
    let member = |name: &str, share, demand| BudgetMemberView {
        name: name.to_owned(),
        share,
        held: share,
        floor: 1,
        weight: 1,
        demand,
        max: 40,
        heard_ms: 5,
        silent: false,
    };
    BudgetView {
        name: "orders-db".to_owned(),
        connections: 40,
        held: 38,
        unknown: 2,
        free: 0,
        floors: 4,
        claims: 7,
        refused: 1,
        members: vec![member("a", 10, 5), member("b", 28, 30)],
    }
}

fn both(workers: &[Arc<WorkerStats>], clusters: &[ClusterView]) -> Vec<(Exposition, String)> {
    [Exposition::Prometheus, Exposition::OpenMetrics]
        .map(|format| (format, render(sources(workers, clusters), format)))
        .into()
}

// === a strict reader of the two formats ===

/// Checks every line and returns the families with their types.
fn parse(format: Exposition, text: &str) -> BTreeMap<String, String> {
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut current = (String::new(), String::new());
    let mut helped = None;
    assert!(text.ends_with('\n'));
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect(line);
            assert!(!help.is_empty());
            helped = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect(line);
            assert_eq!(helped.as_deref(), Some(name), "HELP comes first: {line}");
            assert!(families.insert(name.into(), kind.into()).is_none(), "twice: {line}");
            current = (name.into(), kind.into());
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            assert_eq!(format, Exposition::OpenMetrics, "{line}");
            let (name, unit) = rest.split_once(' ').expect(line);
            assert_eq!(name, current.0);
            assert!(name.ends_with(&format!("_{unit}")), "{line}");
        } else if line == "# EOF" {
            assert_eq!((format, lines.peek()), (Exposition::OpenMetrics, None), "{line}");
        } else {
            let (name, labels, value) = sample(line);
            let family = &current.0;
            let suffix = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line} in {family}"));
            let expected: &[&str] = match (current.1.as_str(), format) {
                ("counter", Exposition::OpenMetrics) => &["_total"],
                ("counter" | "gauge", _) => &[""],
                ("histogram", _) => &["_bucket", "_sum", "_count"],
                (kind, _) => panic!("{kind}"),
            };
            assert!(expected.contains(&suffix), "{line} in {family}");
            assert_eq!(labels.contains_key("le"), suffix == "_bucket", "{line}");
            assert!(value.is_finite() && value >= 0.0, "{line}");
            assert!(seen.insert((name, labels)), "twice: {line}");
        }
    }
    if format == Exposition::OpenMetrics {
        assert!(text.ends_with("# EOF\n"));
    } else {
        let counters = families.iter().filter(|(_, kind)| *kind == "counter");
        assert!(counters.clone().count() > 10 && counters.into_iter().all(|(name, _)| name.ends_with("_total")));
    }
    check_buckets(text);
    families
}

/// Buckets are cumulative and end in `+Inf`, which is the count.
fn check_buckets(text: &str) {
    let mut series: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, mut labels, value) = sample(line);
        if let (Some(stem), Some(le)) = (name.strip_suffix("_bucket"), labels.remove("le")) {
            let le = if le == "+Inf" { f64::INFINITY } else { le.parse().unwrap() };
            series.entry((stem.to_owned(), labels)).or_default().push((le, value));
        } else if let Some(stem) = name.strip_suffix("_count") {
            counts.insert((stem.to_owned(), labels), value);
        }
    }
    assert_eq!(series.len(), counts.len());
    for (key, buckets) in series {
        assert!(buckets.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1), "{key:?} {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, counts[&key])), "{key:?}");
    }
}

/// `name{label="value",…} number`, read character by character.
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let mut chars = line.chars().peekable();
    let name = word(&mut chars, true);
    let mut labels = BTreeMap::new();
    if chars.next_if_eq(&'{').is_some() {
        loop {
            let label = word(&mut chars, false);
            assert_eq!((chars.next(), chars.next()), (Some('='), Some('"')), "{line}");
            let mut value = String::new();
            loop {
                match chars.next().expect(line) {
                    '"' => break,
                    '\\' => value.push(match chars.next() {
                        Some('n') => '\n',
                        Some(c @ ('\\' | '"')) => c,
                        other => panic!("escape {other:?} in {line}"),
                    }),
                    c => value.push(c),
                }
            }
            assert!(labels.insert(label, value).is_none(), "{line}");
            match chars.next() {
                Some(',') => {}
                Some('}') => break,
                other => panic!("{other:?} in {line}"),
            }
        }
    }
    assert_eq!(chars.next(), Some(' '), "{line}");
    let value: String = chars.collect();
    (name, labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
}

fn word(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, colon: bool) -> String {
    let mut word = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_' || (colon && *c == ':')) {
        word.push(c);
    }
    assert!(word.starts_with(|c: char| !c.is_ascii_digit()), "{word:?}");
    word
}

fn samples(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name, value.parse().unwrap()))
}

/// Whether the sample belongs to something that only grows.
fn grows(sample: &str) -> bool {
    let name = sample.split('{').next().unwrap_or_default();
    METRICS.iter().any(|metric| match metric.kind {
        Kind::Counter => metric.name == name,
        Kind::Histogram => name.starts_with(metric.name),
        Kind::Gauge => false,
    })
}
