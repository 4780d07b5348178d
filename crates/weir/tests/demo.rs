//! `weir demo` as users meet it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a failed test")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use weir_test::{Client, Process, TempDir, eventually, free_port, weir_binary};

#[test]
fn the_killed_server_goes_down_and_comes_back_and_no_client_notices() {
    let port = free_port().to_string();
    let output = Command::new(weir_binary())
        .args(["demo", "--duration", "14s", "--rate", "200", "--port", &port])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");

    // What runs, and where.
    assert!(out.contains(&format!("bind = \"127.0.0.1:{port}\"")), "{out}");
    assert!(out.contains(&format!("curl -i http://127.0.0.1:{port}/")), "{out}");
    for path in ["/clusters", "/metrics", "/ready"] {
        assert!(out.contains(path), "{path}\n{out}");
    }

    let seconds: Vec<&str> = out.lines().filter(|line| line.contains(" s ") && line.contains("p50")).collect();
    assert!(seconds.len() >= 13, "{out}");
    let states: Vec<&str> = seconds.iter().filter_map(|line| line.split("flaky ").nth(1)?.split(' ').next()).collect();
    let down = states.iter().position(|state| *state == "down").unwrap_or_else(|| panic!("never down\n{out}"));
    assert!(states[..down].contains(&"up"), "{out}");
    assert!(states[down..].contains(&"up"), "never back\n{out}");
    assert!(seconds.iter().all(|line| line.contains("errors 0 ")), "{out}\n{err}");

    let summary = out.lines().last().unwrap_or_default();
    assert!(summary.contains(" 0 errors seen by clients"), "{summary}");
    assert!(summary.contains("flaky went down once and came back once"), "{summary}");
    let answered: u64 = summary.split(' ').nth(2).and_then(|n| n.parse().ok()).unwrap_or_default();
    assert!(answered > 200 * 12, "{summary}");
    assert!(err.contains("flaky was killed") && err.contains("flaky runs again"), "{err}");
}

#[test]
fn it_serves_others_too_and_ends_on_term() {
    let (dir, port) = (TempDir::new("demo"), free_port());
    let mut command = Command::new(weir_binary());
    command.args(["demo", "--rate", "20", "--port", &port.to_string()]);
    let mut demo = Process::spawn("demo", command, dir.path());
    demo.wait_connect(([127, 0, 0, 1], port).into(), weir_test::PATIENCE);
    let response = Client::local(port).get("/hello").unwrap();
    assert_eq!(response.status, 200);
    assert!(response.text().ends_with("says hello: /hello\n"), "{}", response.text());

    let shown = demo.stdout();
    let metrics = shown.split("curl http://127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next());
    let metrics: u16 = metrics.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{shown}"));
    let clusters = Client::local(metrics).get("/clusters").unwrap().text();
    for name in ["quick", "slow", "flaky"] {
        assert!(clusters.contains(&format!("\"{name}\"")), "{clusters}");
    }
    eventually(weir_test::PATIENCE, "requests at work are told", || {
        let text = Client::local(metrics).get("/metrics").unwrap().text();
        text.lines()
            .any(|line| line.starts_with("weir_loop_events_total") && line.rsplit(' ').next().is_some_and(|n| n != "0"))
    });

    demo.signal(Signal::TERM);
    let status = demo.wait_exit(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", demo.stderr());
    assert!(demo.stdout().contains(" 0 errors seen by clients"), "{}", demo.stdout());
}

#[test]
fn a_taken_port_is_an_error_only_if_it_was_asked_for() {
    let port = free_port();
    let _held = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let output = Command::new(weir_binary()).args(["demo", "--port", &port.to_string()]).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("in use") && err.contains(&port.to_string()), "{err}");
}

#[test]
fn nobody_reading_ends_it_quietly() {
    let mut child = Command::new(weir_binary())
        .args(["demo", "--rate", "20"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert!(first.starts_with("weir demo: 20 requests a second over 20 connections"), "{first}");
    drop(lines);
    let status = eventually(weir_test::PATIENCE, "the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
