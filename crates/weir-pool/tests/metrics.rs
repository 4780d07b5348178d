//! The text for Prometheus: what stands in it, and what `promtool` says of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail with the test")]

mod common;
#[path = "../examples/metrics.rs"]
#[allow(dead_code, reason = "an example; its `main` is not used here")]
mod example;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{Client, Logged, eventually, ms, pass, pool};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weir_pool::metrics::{Hikari, Pools};
use weir_pool::{Address, Endpoint, EndpointPools, Pool};

const NASTY: &str = "a \"name\"\nof \\ two lines";

/// A pool that has seen something: 5 uses of 20 ms, one of which waited for 10 ms, one caller in vain, one leak.
async fn used(name: &'static str) -> Pool<Client> {
    let (pool, _) = pool(|b| b.name(name).max_size(2).min_idle(1).leak_after(Some(Duration::from_secs(1))));
    eventually("one is idle", || pool.snapshot().idle == 1).await;
    for _ in 0..3 {
        pool.with(async |_| pass(ms(20)).await).await.unwrap();
    }
    let (first, second) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    assert!(pool.acquire_timeout(ms(10)).await.is_err());
    pass(ms(10)).await;
    drop(first);
    eventually("a leak is reported", || pool.stats().leaks == 1).await;
    second.discard();
    eventually("it is closed", || pool.snapshot().closing == 0 && pool.snapshot().idle == 1).await;
    pool
}

fn promtool(text: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs `promtool`: `cargo xtask install` installs the Debian package `prometheus`");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// The samples, by name and labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples: Vec<(&str, f64)> =
        lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name, value.parse().unwrap())).collect();
    let number = samples.len();
    let samples: BTreeMap<_, _> = samples.into_iter().collect();
    assert_eq!(samples.len(), number, "no series stands there twice");
    samples
}

#[tokio::test(start_paused = true)]
async fn the_values_are_those_of_the_pool() {
    let pools = Pools::new();
    let pool = used("test").await;
    pools.add(&pool).unwrap();
    let text = pools.exposition().to_string();
    let samples = samples(&text);
    let value = |name: &str, more: &str| {
        let series = format!("{name}{{db_client_connection_pool_name=\"test\"{more}}}");
        *samples.get(series.as_str()).unwrap_or_else(|| panic!("no {series} in\n{text}"))
    };
    for (name, more, expected) in [
        ("db_client_connection_count", ",db_client_connection_state=\"idle\"", 1.0),
        ("db_client_connection_count", ",db_client_connection_state=\"used\"", 0.0),
        ("db_client_connection_idle_max", "", 2.0),
        ("db_client_connection_idle_min", "", 1.0),
        ("db_client_connection_max", "", 2.0),
        ("db_client_connection_pending_requests", "", 0.0),
        ("db_client_connection_timeouts_total", "", 1.0),
        ("db_client_connection_create_time_seconds_count", "", 2.0),
        ("db_client_connection_wait_time_seconds_count", "", 5.0),
        ("db_client_connection_use_time_seconds_count", "", 5.0),
        ("weir_client_pool_closed_total", ",reason=\"failed\"", 1.0),
        ("weir_client_pool_closed_total", ",reason=\"idle_timeout\"", 0.0),
        ("weir_client_pool_connects_failed_total", "", 0.0),
        ("weir_client_pool_refused_total", "", 0.0),
        ("weir_client_pool_shed_total", "", 0.0),
        ("weir_client_pool_leaks_total", "", 1.0),
        ("weir_client_pool_opening", "", 0.0),
        ("weir_client_pool_hung", "", 0.0),
        ("weir_client_pool_closing", "", 0.0),
        ("weir_client_pool_suspended", "", 0.0),
    ] {
        assert!((value(name, more) - expected).abs() < 1e-9, "{name}{more}: {}", value(name, more));
    }
    // Of the five uses, three took 20 ms and a little, one more than that, and one leaked for a second.
    let below = |bound: &str| value("db_client_connection_use_time_seconds_bucket", &format!(",le=\"{bound}\""));
    let bounds = ["0.000001024", "0.016777216", "0.033554432", "68.719476736", "+Inf"];
    assert_eq!(bounds.map(|bound| below(bound) as u64), [0, 0, 4, 5, 5]);
    let sum = value("db_client_connection_use_time_seconds_sum", "");
    let stats = pool.stats();
    assert!((sum - stats.holds.sum().as_secs_f64()).abs() < 1e-9 && sum > 1.0);
    assert!((value("weir_client_pool_busy_time_seconds_total", "") - stats.busy.as_secs_f64()).abs() < 1e-9);
    assert_eq!(below("+Inf").to_bits(), value("db_client_connection_use_time_seconds_count", "").to_bits());
}

#[tokio::test(start_paused = true)]
async fn dashboards_of_hikari_find_their_names() {
    let pools = Pools::new();
    let pool = used("test").await;
    pools.add(&pool).unwrap();
    let _busy = pool.acquire().await.unwrap();
    eventually("another one is idle", || pool.snapshot().idle == 1).await;
    let text = pools.exposition().hikari(Hikari::Prometheus).hikari(Hikari::Micrometer).to_string();
    let samples = samples(&text);
    for (name, expected) in [
        ("hikaricp_connections", 2.0),
        ("hikaricp_active_connections", 1.0),
        ("hikaricp_idle_connections", 1.0),
        ("hikaricp_pending_threads", 0.0),
        ("hikaricp_max_connections", 2.0),
        ("hikaricp_min_connections", 1.0),
        ("hikaricp_connection_timeout_total", 1.0),
        ("hikaricp_connection_acquired_nanos_count", 6.0),
        ("hikaricp_connection_usage_millis_count", 5.0),
        ("hikaricp_connection_usage_millis_sum", pool.stats().holds.sum().as_secs_f64() * 1e3),
        ("hikaricp_connection_creation_millis_count", 3.0),
        ("hikaricp_connections_active", 1.0),
        ("hikaricp_connections_idle", 1.0),
        ("hikaricp_connections_pending", 0.0),
        ("hikaricp_connections_max", 2.0),
        ("hikaricp_connections_min", 1.0),
        ("hikaricp_connections_timeout_total", 1.0),
        ("hikaricp_connections_acquire_seconds_count", 6.0),
        ("hikaricp_connections_usage_seconds_count", 5.0),
        ("hikaricp_connections_usage_seconds_sum", pool.stats().holds.sum().as_secs_f64()),
        ("hikaricp_connections_creation_seconds_count", 3.0),
    ] {
        let found = samples.get(format!("{name}{{pool=\"test\"}}").as_str());
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-6), "{name}: {found:?}, not {expected}");
    }
    assert!(!pools.exposition().to_string().contains("hikaricp"), "only for those who ask");
}

#[tokio::test(start_paused = true)]
async fn promtool_complains_of_nothing_but_names_that_others_have_chosen() {
    let pools = Pools::new();
    let (plain, nasty) = (used("plain").await, used(NASTY).await);
    pools.add(&plain).unwrap();
    pools.add(&nasty).unwrap();
    let text = pools.exposition().hikari(Hikari::Micrometer).hikari(Hikari::Prometheus).to_string();
    assert!(text.contains(r#"pool_name="a \"name\"\nof \\ two lines""#), "{text}");
    for kind in ["# HELP ", "# TYPE "] {
        let mut names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(kind)?.split(' ').next()).collect();
        let number = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), number, "one {kind}for each");
    }
    let said = promtool(&text);
    let chosen_by_others = |line: &&str| {
        // OpenTelemetry's own rules make this of `db.client.connection.count`; HikariCP does not count in seconds.
        line.starts_with("db_client_connection_count non-histogram and non-summary metrics should not have \"_count\"")
            || (line.starts_with("hikaricp_connection_") && line.contains("use base unit \"seconds\""))
    };
    let faults: Vec<&str> = said.lines().filter(|line| !line.is_empty() && !chosen_by_others(line)).collect();
    assert!(faults.is_empty(), "{faults:#?}\n{text}");
    assert!(!said.is_empty(), "it is read at all");
    assert!(promtool("broken{").contains("error"));
}

#[tokio::test(start_paused = true)]
async fn pools_come_and_go() {
    let pools = Pools::new();
    let (first, _) = pool(|b| b.name("a"));
    let (second, _) = pool(|b| b.name("b"));
    pools.add(&second).unwrap();
    pools.add(&first).unwrap();
    pools.add(&first.clone()).unwrap();
    assert_eq!((pools.len(), format!("{pools:?}")), (2, "[\"a\", \"b\"]".to_owned()));
    let (other, _) = pool(|b| b.name("a"));
    let error = pools.add(&other).unwrap_err();
    assert_eq!(error.to_string(), "there is a pool \"a\" already; Builder::name gives each its own");
    // One that is closed, but held by somebody, makes place for its successor.
    let held = first.acquire().await.unwrap();
    first.close(ms(10)).await.unwrap_err();
    pools.add(&other).unwrap();
    drop(held);
    drop((first, second));
    eventually("one is left", || pools.len() == 1).await;
    assert!(!pools.exposition().to_string().contains("pool_name=\"b\""));
    drop(other);
    eventually("none is left", || pools.is_empty()).await;
    assert!(promtool(&pools.exposition().to_string()).lines().count() <= 1, "headers alone are well formed");
}

#[tokio::test(start_paused = true)]
async fn each_endpoint_is_a_pool_of_its_own() {
    let settings = Pool::<Client>::builder().name("replicas").max_size(6).tokio_clock(true);
    let settings = settings.leak_after(Some(Duration::from_secs(1)));
    let replicas = EndpointPools::<Client>::builder(settings).build(|_| Client(Arc::default())).unwrap();
    let endpoint = |name: &str, port: u16| Endpoint {
        name: name.into(),
        ..Endpoint::new(Address::parse(&format!("10.0.0.1:{port}")).unwrap())
    };
    replicas.set_endpoints(vec![endpoint("a", 1), endpoint("b", 2), endpoint("b", 3)]).unwrap();
    let pools = Pools::new();
    pools.add_endpoints(&replicas).unwrap();
    pools.add_endpoints(&replicas.clone()).unwrap();
    let line = line!() + 1;
    let _guard = replicas.acquire().await.unwrap();
    let text = pools.exposition().to_string();
    let samples = samples(&text);
    let of = |name: &str| {
        let series = format!("db_client_connection_max{{db_client_connection_pool_name=\"{name}\"}}");
        *samples.get(series.as_str()).unwrap_or_else(|| panic!("no {series} in\n{text}"))
    };
    let sizes = of("replicas/a") + of("replicas/b (10.0.0.1:2)") + of("replicas/b (10.0.0.1:3)");
    assert!((sizes - 6.0).abs() < 1e-9, "{sizes}");
    assert!(samples.keys().any(|name| name.starts_with("weir_client_pool_standing{")), "{text}");
    let used: f64 = samples.iter().filter(|(name, _)| name.ends_with("state=\"used\"}")).map(|(_, used)| used).sum();
    assert!((used - 1.0).abs() < 1e-9);
    // Who holds it is whoever asked for any of them.
    let logged = Logged::from(tracing::Level::WARN);
    eventually("it is reported", || !logged.of("connection may have leaked").is_empty()).await;
    let leak = &logged.of("connection may have leaked")[0]["fields"]["acquired_at"];
    assert!(leak.as_str().unwrap().contains(&format!("tests/metrics.rs:{line}")), "{leak}");
}

#[tokio::test]
async fn the_example_serves_what_prometheus_takes() {
    let pools = Pools::new();
    let (pool, _) = pool(|b| b.name("served"));
    pools.add(&pool).unwrap();
    drop(pool.acquire().await.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(example::serve(listener, pools));
    let get = |path: &'static str| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = get("/metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    assert!(!promtool(body).contains("error"));
    assert!(body.contains("hikaricp_connections_active{pool=\"served\"} 0"));
    assert!(get("/").await.starts_with("HTTP/1.1 404 "));
    server.abort();
}
