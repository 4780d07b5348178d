//! What the end-to-end tests of the binary share.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::time::{Duration, Instant};

use serde_json::Value;
use weir_test::{PATIENCE, Weir, WeirOptions, eventually};

/// A configuration with one HTTP listener, the observation listener, a JSON access log, `workers` workers and the
/// cluster `c` as written in `cluster` (the lines of its tables, from `endpoints = …` on).
pub(crate) fn config(workers: usize, cluster: &str) -> String {
    format!(
        r#"
[[listener]]
name = "web"
bind = "127.0.0.1:{{port}}"
cluster = "c"
[metrics]
bind = "127.0.0.1:{{metrics}}"
[access_log]
path = "{{dir}}/access.log"
[process]
workers = {workers}
[cluster.c]
{cluster}
"#
    )
}

/// `endpoints = [...]` of ports of 127.0.0.1.
pub(crate) fn endpoints(ports: &[u16]) -> String {
    let list: Vec<String> = ports.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    format!("endpoints = [{}]\n", list.join(", "))
}

/// Starts Weir and waits until it says that it is ready (all first probes are answered).
pub(crate) fn start(config: &str) -> Weir {
    let weir = Weir::run_with(config, &WeirOptions::default());
    eventually(PATIENCE, "Weir is ready", || {
        let ready = weir.observe("/ready");
        if ready.status == 200 { Ok(()) } else { Err(ready.text()) }
    });
    weir
}

/// `/clusters/c` as JSON.
pub(crate) fn cluster(weir: &Weir) -> Value {
    let response = weir.observe("/clusters/c");
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_slice(&response.body).expect("JSON")
}

/// One endpoint in `/clusters/c`.
pub(crate) fn endpoint(weir: &Weir, port: u16) -> Value {
    let cluster = cluster(weir);
    let address = format!("127.0.0.1:{port}");
    let found = cluster["endpoints"].as_array().expect("a list").iter().find(|e| e["address"] == *address).cloned();
    found.unwrap_or_else(|| panic!("no endpoint {address} in {cluster}"))
}

/// The health of one endpoint.
pub(crate) fn health(weir: &Weir, port: u16) -> String {
    endpoint(weir, port)["health"].as_str().expect("a text").to_owned()
}

/// Waits until an endpoint has this health.
#[track_caller]
pub(crate) fn wait_health(weir: &Weir, port: u16, wanted: &str) {
    eventually(PATIENCE, &format!("port {port} is {wanted}"), || {
        let seen = endpoint(weir, port);
        if seen["health"] == wanted { Ok(()) } else { Err(seen.to_string()) }
    });
}

/// The lines of the access log written so far.
pub(crate) fn log_lines(weir: &Weir) -> Vec<Value> {
    let text = std::fs::read_to_string(weir.dir().join("access.log")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The line of the access log for this target; waits for it.
#[track_caller]
pub(crate) fn log_line(weir: &Weir, target: &str) -> Value {
    eventually(PATIENCE, &format!("a line for {target} in the access log"), || {
        let lines = log_lines(weir);
        lines.iter().find(|line| line["target"] == target).cloned().ok_or(lines)
    })
}

/// `end` and `reason` of the line of the access log for this target.
#[track_caller]
pub(crate) fn how_it_ended(weir: &Weir, target: &str) -> (String, String) {
    let line = log_line(weir, target);
    let text = |key: &str| line[key].as_str().unwrap_or("null").to_owned();
    (text("end"), text("reason"))
}

/// Runs `f` and returns its value with the time it took.
pub(crate) fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let value = f();
    (value, begun.elapsed())
}
