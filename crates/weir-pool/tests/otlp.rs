//! What is sent as OTLP, as read by the OpenTelemetry project's own protobuf classes (`otlp/receiver.py`), and by a collector (rotel).
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Logged, eventually, ms, pass, pool};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tracing::Level;
use weir_pool::metrics::Pools;
use weir_pool::metrics::otlp::Exporter;
use weir_test::{Process, TempDir, free_port};

fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/python/bin/python");
    assert!(python.exists(), "{} is missing: `cargo xtask install` makes it", python.display());
    python
}

struct Receiver {
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl Receiver {
    /// Answers with `statuses` first.
    async fn start(port: u16, statuses: &[&str]) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = TempDir::new("otlp");
        let mut command = Command::new(python());
        command.arg(here.join("tests/otlp/receiver.py")).arg(port.to_string()).args(statuses);
        let process = Process::spawn("receiver", command, folder.path());
        let receiver = Self { process, port, _folder: folder };
        eventually("the receiver listens", || receiver.process.stdout().contains("ready")).await;
        receiver
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/v1/metrics", self.port)
    }

    /// The requests so far.
    fn received(&self) -> Vec<Value> {
        let text = self.process.stdout();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The metrics of a request, by name.
fn metrics(received: &Value) -> BTreeMap<String, Value> {
    let metrics = received["request"]["resource_metrics"][0]["scope_metrics"][0]["metrics"].as_array().unwrap();
    metrics.iter().map(|metric| (metric["name"].as_str().unwrap().to_owned(), metric.clone())).collect()
}

fn attributes(of: &Value) -> BTreeMap<String, String> {
    let pairs = of["attributes"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    pairs.map(|pair| (text(&pair["key"]), text(&pair["value"]["string_value"]))).collect()
}

/// 64-bit numbers are text in the JSON of protobuf; what is zero is left out of repeated fields only.
fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_values_arrive() {
    let receiver = Receiver::start(free_port(), &[]).await;
    let pools = Pools::new();
    let (orders, _) = pool(|b| b.name("orders").max_size(3));
    let (users, _) = pool(|b| b.name("users").max_size(5));
    pools.add(&orders).unwrap();
    pools.add(&users).unwrap();
    for _ in 0..7 {
        orders.with(async |_| pass(ms(2)).await).await.unwrap();
    }
    let _held = [users.acquire().await.unwrap(), users.acquire().await.unwrap()];
    orders.acquire().await.unwrap().discard();
    eventually("it is closed", || orders.snapshot().closing == 0).await;
    let exporter = Exporter::builder("shop")
        .endpoint(receiver.endpoint())
        .interval(ms(50))
        .resource("service.instance.id", "i-7")
        .header("authorization", "Bearer secret")
        .start(&pools)
        .unwrap();
    eventually("two exports have arrived", || receiver.received().len() >= 2).await;

    let received = receiver.received();
    let (first, second) = (&received[0], &received[1]);
    assert_eq!((&first["path"], &first["unknown"]), (&"/v1/metrics".into(), &false.into()));
    assert_eq!(first["headers"]["content-type"], "application/x-protobuf");
    assert_eq!(first["headers"]["authorization"], "Bearer secret");
    let resource = &first["request"]["resource_metrics"][0];
    let expected = [("service.instance.id", "i-7"), ("service.name", "shop")];
    assert_eq!(attributes(&resource["resource"]), expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    assert_eq!(resource["scope_metrics"][0]["scope"]["name"], "weir-pool");

    let of = metrics(first);
    let point = |name: &str, pool: &str, also: Option<(&str, &str)>| {
        let metric = &of[name];
        let data = metric.get("sum").or(metric.get("histogram")).unwrap();
        let points = data["data_points"].as_array().unwrap();
        let mut wanted = BTreeMap::from([("db.client.connection.pool.name".to_owned(), pool.to_owned())]);
        wanted.extend(also.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let found = points.iter().find(|point| attributes(point) == wanted);
        found.unwrap_or_else(|| panic!("no {name} of {wanted:?} in {metric}")).clone()
    };
    let count = |name: &str, pool: &str, also| number(&point(name, pool, also)["as_int"]);
    let state = "db.client.connection.state";
    assert_eq!(count("db.client.connection.count", "orders", Some((state, "idle"))), 0);
    assert_eq!(count("db.client.connection.count", "users", Some((state, "used"))), 2);
    assert_eq!(count("db.client.connection.max", "orders", None), 3);
    assert_eq!(count("db.client.connection.max", "users", None), 5);
    assert_eq!(count("db.client.connection.timeouts", "orders", None), 0);
    assert_eq!(count("weir.client_pool.closed", "orders", Some(("reason", "failed"))), 1);

    let uses = point("db.client.connection.use_time", "orders", None);
    let counts: Vec<u64> = uses["bucket_counts"].as_array().unwrap().iter().map(number).collect();
    let bounds: Vec<f64> = uses["explicit_bounds"].as_array().unwrap().iter().map(|b| b.as_f64().unwrap()).collect();
    assert_eq!((number(&uses["count"]), counts.iter().sum::<u64>()), (8, 8));
    assert_eq!((bounds.len(), counts.len()), (27, 28));
    assert!(bounds.is_sorted() && (bounds[0] - 1.024e-6).abs() < 1e-12, "{bounds:?}");
    let stats = orders.stats();
    assert!((uses["sum"].as_f64().unwrap() - stats.holds.sum().as_secs_f64()).abs() < 1e-9);
    assert!((uses["max"].as_f64().unwrap() - stats.holds.max().as_secs_f64()).abs() < 1e-9);
    // Each use stands in the bucket where its time is: seven of 2 ms and more.
    let from_2_ms = bounds.iter().position(|bound| *bound > 0.002).unwrap();
    assert_eq!(counts[from_2_ms..].iter().sum::<u64>(), 7, "{counts:?}");

    for (name, metric) in &of {
        assert!(!metric["description"].as_str().unwrap().is_empty() && metric["unit"].is_string(), "{metric}");
        let data = metric.get("sum").or(metric.get("histogram")).unwrap();
        assert_eq!(data["aggregation_temporality"], "AGGREGATION_TEMPORALITY_CUMULATIVE", "{name}");
    }
    let unit = |name: &str| of[name]["unit"].clone();
    assert_eq!(
        (unit("db.client.connection.count"), unit("db.client.connection.wait_time")),
        ("{connection}".into(), "s".into())
    );
    assert_eq!(of["db.client.connection.timeouts"]["sum"]["is_monotonic"], true);
    assert_eq!(of["db.client.connection.count"]["sum"].get("is_monotonic"), None, "it goes up and down");
    let busy = point("weir.client_pool.busy_time", "users", None);
    assert!(busy["as_double"].as_f64().unwrap() > 0.0);

    // The series begin where the pools did, and go on.
    let begin = |of: &BTreeMap<String, Value>| {
        of["weir.client_pool.leaks"]["sum"]["data_points"][0]["start_time_unix_nano"].clone()
    };
    let time =
        |of: &BTreeMap<String, Value>| number(&of["weir.client_pool.leaks"]["sum"]["data_points"][0]["time_unix_nano"]);
    let later = metrics(second);
    assert_eq!(begin(&of), begin(&later));
    assert!(number(&begin(&of)) < time(&of) && time(&of) < time(&later));
    assert_eq!(of.keys().collect::<Vec<_>>(), later.keys().collect::<Vec<_>>());

    // The last export has what came last.
    drop(users.acquire().await.unwrap());
    let before = receiver.received().len();
    exporter.stop(Duration::from_secs(10)).await;
    let received = receiver.received();
    assert!(received.len() > before);
    let last = metrics(received.last().unwrap());
    let waits = last["db.client.connection.wait_time"]["histogram"]["data_points"].as_array().unwrap();
    let of_users = waits.iter().find(|point| attributes(point).values().any(|value| value == "users")).unwrap();
    assert_eq!(number(&of_users["count"]), 3);
}

/// A collector takes what is sent, and what it sends on says the same.
#[tokio::test]
async fn it_goes_through_a_collector() {
    let receiver = Receiver::start(free_port(), &[]).await;
    let (port, folder) = (free_port(), TempDir::new("collector"));
    let found = Command::new(python()).args(["-c", "import rotel; print(rotel.__path__[0])"]).output().unwrap();
    let program = Path::new(String::from_utf8(found.stdout).unwrap().trim()).join("rotel-agent");
    let mut command = Command::new(program);
    let (http, grpc) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", free_port()));
    command.args(["start", "--otlp-http-endpoint", &http, "--otlp-grpc-endpoint", &grpc]);
    command.args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"]);
    command.args(["--otlp-exporter-endpoint", &format!("http://127.0.0.1:{}", receiver.port)]);
    command.args(["--metrics-batch-timeout", "50ms"]).current_dir(folder.path());
    let mut collector = Process::spawn("collector", command, folder.path());
    collector.wait_connect(([127, 0, 0, 1], port).into(), weir_test::PATIENCE);

    let pools = Pools::new();
    let (orders, _) = pool(|b| b.name("orders").max_size(3));
    pools.add(&orders).unwrap();
    for _ in 0..7 {
        orders.with(async |_| pass(ms(2)).await).await.unwrap();
    }
    let endpoint = format!("http://127.0.0.1:{port}/v1/metrics");
    let exporter = Exporter::builder("shop").endpoint(endpoint).interval(ms(50)).start(&pools).unwrap();
    eventually("two exports have arrived", || receiver.received().len() >= 2).await;
    exporter.stop(Duration::from_secs(10)).await;
    let received = receiver.received();
    let resource = &received[0]["request"]["resource_metrics"][0];
    assert_eq!(attributes(&resource["resource"])["service.name"], "shop");
    let of = metrics(&received[0]);
    let uses = &of["db.client.connection.use_time"]["histogram"]["data_points"][0];
    let counts: Vec<u64> = uses["bucket_counts"].as_array().unwrap().iter().map(number).collect();
    assert_eq!((number(&uses["count"]), counts.iter().sum::<u64>()), (7, 7));
    assert_eq!(attributes(uses)["db.client.connection.pool.name"], "orders");
    let most = &of["db.client.connection.max"]["sum"]["data_points"][0];
    assert_eq!(number(&most["as_int"]), 3);
    collector.kill();
}

#[tokio::test]
async fn what_is_refused_for_now_is_tried_again_and_told_once() {
    let logged = Logged::from(Level::INFO);
    let receiver = Receiver::start(free_port(), &["503", "429", "400", "502"]).await;
    let pools = Pools::new();
    let (pool, _) = pool(|b| b.name("orders"));
    pools.add(&pool).unwrap();
    let begun = tokio::time::Instant::now();
    let exporter = Exporter::builder("shop").endpoint(receiver.endpoint()).interval(ms(40)).start(&pools).unwrap();
    eventually("two are taken", || receiver.received().iter().filter(|r| r["status"] == 200).count() >= 2).await;
    let statuses: Vec<u64> = receiver.received().iter().map(|r| r["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses[..6], [503, 429, 400, 502, 200, 200]);
    // Pauses are no longer than the interval, and there is one before each.
    assert!(begun.elapsed() >= ms(5 * 20), "{:?}", begun.elapsed());
    let told = logged.of("metrics are not taken");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["level"], &told[0]["fields"]["failures"]), (&"WARN".into(), &1.into()));
    assert_eq!(told[0]["fields"]["why"], "answered with 503 Service Unavailable");
    let again = logged.of("metrics are taken again");
    assert_eq!((again.len(), &again[0]["fields"]["failures"]), (1, &4.into()));
    exporter.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_receiver_that_is_away_or_never_answers_costs_nothing_but_a_line() {
    let logged = Logged::from(Level::INFO);
    let pools = Pools::new();
    let (orders, _) = pool(|b| b.name("orders"));
    pools.add(&orders).unwrap();
    // Away, and then there.
    let port = free_port();
    let builder = || Exporter::builder("shop").interval(ms(30)).timeout(ms(60));
    let away = builder().endpoint(format!("http://127.0.0.1:{port}/v1/metrics")).start(&pools).unwrap();
    eventually("it is told", || !logged.of("metrics are not taken").is_empty()).await;
    let told = logged.of("metrics are not taken")[0]["fields"]["why"].as_str().unwrap().to_owned();
    assert!(told.starts_with("cannot connect: "), "{told}");
    let receiver = Receiver::start(port, &[]).await;
    eventually("it arrives", || !receiver.received().is_empty()).await;
    // One that takes the request and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/metrics", silent.local_addr().unwrap());
    let hanging = builder().endpoint(endpoint).start(&pools).unwrap();
    for _ in 0..2 {
        let (mut stream, _) = silent.accept().await.unwrap();
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await.unwrap();
        assert!(request.starts_with(b"POST /v1/metrics HTTP/1.1\r\n"), "given up, and its connection closed");
    }
    eventually("it is told", || logged.of("metrics are not taken").len() == 2).await;
    assert_eq!(logged.of("metrics are not taken")[1]["fields"]["why"], "no answer within 60ms");
    // They end with the last pool and the last handle that could add another.
    drop(orders);
    eventually("the pool is gone", || pools.is_empty()).await;
    pass(ms(100)).await;
    assert!(!away.is_ended() && !hanging.is_ended(), "one may still be added");
    drop(pools);
    eventually("both have ended", || away.is_ended() && hanging.is_ended()).await;
    away.stop(ms(10)).await;
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let pools = Pools::new();
    let refused = |settings: weir_pool::metrics::otlp::ExporterBuilder| settings.start(&pools).unwrap_err().to_string();
    let builder = || Exporter::builder("shop");
    for endpoint in ["https://collector:4318/v1/metrics", "collector:4318", "http://", "/v1/metrics", ""] {
        assert!(refused(builder().endpoint(endpoint)).starts_with("endpoint: "), "{endpoint}");
    }
    assert!(refused(builder().interval(Duration::ZERO)).starts_with("interval: "));
    assert!(refused(builder().timeout(Duration::ZERO)).starts_with("timeout: "));
    let error = refused(builder().header("authorization", "a\nsecret"));
    assert!(error.starts_with("header: ") && !error.contains("secret"), "{error}");
    // The handle may go; the export goes on.
    drop(builder().start(&pools).unwrap());
}
