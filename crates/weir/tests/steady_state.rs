//! What a request costs in the steady state, as far as that can be counted without a clock: system calls.
//!
//! That nothing is allocated is shown in `crates/weir-proxy/tests/steady_state.rs`, inside the process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

mod common;

use std::collections::BTreeMap;
use std::process::Command;

use common::{config, endpoints};
use rustix::process::{Pid, Signal, kill_process};
use weir_test::{Load, LoadOptions, Nginx, PATIENCE, Process, TempDir, eventually, free_port, weir_binary};

/// Read and write on both sides are four; the rest is the share of a wake-up, which serves several connections, and what
/// start and housekeeping need.
const MOST_CALLS_PER_REQUEST: f64 = 4.4;

#[test]
fn heavy_a_keep_alive_request_costs_at_most_4_4_system_calls() {
    let server = Nginx::run("    location / { return 200 \"0123456789\"; }");
    let dir = TempDir::new("strace");
    let (port, metrics) = (free_port(), free_port());
    // One worker: the load decides how many connections are ready at a wake-up.
    let text = config(1, &endpoints(&[server.port()]))
        .replace("{port}", &port.to_string())
        .replace("{metrics}", &metrics.to_string())
        .replace("{dir}", &dir.path().display().to_string());
    let file = dir.write("weir.toml", text);
    let table = dir.path().join("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&table).arg(weir_binary()).arg("run").arg(file);
    let mut strace = Process::spawn("strace", command, dir.path());
    strace.wait_connect(([127, 0, 0, 1], port).into(), PATIENCE);

    let load = Load::start(&LoadOptions::gets(port, 64, 0));
    eventually(PATIENCE * 6, "20,000 responses", || {
        let tally = load.so_far();
        if tally.responses() >= 20_000 { Ok(()) } else { Err(tally.responses()) }
    });
    let tally = load.stop();
    tally.assert_all_ok();
    // The traced process is the only child of strace; ended by a signal of its own, the table is written.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", strace.pid())).unwrap();
    let weir: i32 = children.split_whitespace().next().expect("a child").parse().unwrap();
    kill_process(Pid::from_raw(weir).unwrap(), Signal::TERM).unwrap();
    strace.wait_exit(PATIENCE);

    let table = std::fs::read_to_string(table).unwrap();
    let calls = calls(&table);
    let total: u64 = calls.values().sum();
    let per_request = total as f64 / tally.responses() as f64;
    println!("{total} calls for {} requests: {per_request:.3} each; {calls:?}", tally.responses());
    assert!(per_request <= MOST_CALLS_PER_REQUEST, "{per_request:.3} system calls per request\n{table}");
    assert!(per_request >= 3.0, "the calls were not counted: {per_request:.3} per request\n{table}");
}

/// Calls by name, out of the table of `strace -c`: share, seconds, microseconds per call, calls, errors (if any), name.
fn calls(table: &str) -> BTreeMap<String, u64> {
    let mut calls = BTreeMap::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(count), Some(name)) = (fields.get(3).and_then(|text| text.parse().ok()), fields.last()) else {
            continue;
        };
        if fields[0].parse::<f64>().is_ok() && *name != "total" {
            calls.insert((*name).to_owned(), count);
        }
    }
    calls
}

#[test]
fn the_table_of_strace_is_read() {
    let table = "% time     seconds  usecs/call     calls    errors syscall\n\
        ------ ----------- ----------- --------- --------- ----------------\n\
        50.00    0.5           3     80000        12 recvfrom\n\
        50.00    0.5           3     80001           sendto\n\
        ------ ----------- ----------- --------- --------- ----------------\n\
        100.00    1.0           3    160001        12 total\n";
    assert_eq!(calls(table), BTreeMap::from([("recvfrom".to_owned(), 80_000), ("sendto".to_owned(), 80_001)]));
}
