//! The program as it is called: short cells, a spike, and a database that does not answer.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::Command;
use std::time::Duration;

use weir_test::{Process, TempDir};

/// Cells are short; the machine may be busy.
const LIMIT: Duration = Duration::from_mins(2);

fn bench(dir: &TempDir, name: &str, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-pool"));
    command.args(args);
    let mut process = Process::spawn(name, command, dir.path());
    let status = process.wait_exit(LIMIT);
    assert!(status.success(), "{args:?}: {}\n{}", process.stdout(), process.stderr());
    process.stdout()
}

#[test]
fn two_pools_are_measured_side_by_side_in_two_uses() {
    let dir = TempDir::new("bench-pool");
    let (json, page) = (dir.path().join("figures.json"), dir.path().join("page.md"));
    let mut args =
        vec!["--peers", "bb8,weir", "--uses", "hold,socket", "--tasks", "8", "--sizes", "2", "--rounds", "1"];
    args.extend(["--window", "100ms", "--warm-up", "20ms"]);
    args.extend(["--json", json.to_str().unwrap(), "--markdown", page.to_str().unwrap()]);
    let output = bench(&dir, "matrix", &args);
    assert!(output.contains("uses/s: weir is behind in") && output.contains("of 2 rows"), "{output}");
    assert!(output.contains("| hold | 8 | 2 |") && output.contains("| socket | 8 | 2 |"), "{output}");
    assert!(!output.contains("no figures"), "{output}");

    let figures: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let cells = figures["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4, "{figures:#}");
    for cell in cells {
        let figure = |name: &str| cell[name].as_f64().unwrap();
        assert!(figure("uses/s") > 0.0 && figure("CPU ns/use") > 0.0, "{cell}");
        assert!(figure("wait p50") <= figure("p99") && figure("p99") <= figure("p99.9"), "{cell}");
        assert!((0.125..=1.0).contains(&figure("Jain")) && figure("least per task") <= figure("most"), "{cell}");
        assert_eq!(cell["errors"], 0.0, "{cell}");
    }
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("### 8 tasks, 2 connections") && page.contains("| bb8 |"), "{page}");
}

#[test]
fn threads_beyond_the_limit_are_not_run_and_told() {
    let dir = TempDir::new("bench-pool");
    let args = ["--peers", "r2d2", "--uses", "noop", "--tasks", "9", "--sizes", "2", "--threads-max", "8"];
    let output = bench(&dir, "threads", &args);
    assert!(output.contains("no figures: r2d2, noop, 9 on 2: not run: 9 threads are more than"), "{output}");
}

#[test]
fn every_rust_pool_serves_all_callers_of_a_spike() {
    let dir = TempDir::new("bench-pool");
    for peer in ["weir", "bb8", "deadpool", "mobc", "sqlx", "r2d2"] {
        let output = bench(&dir, peer, &["spike-of", peer, "2ms"]);
        let spike: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert_eq!((spike["waits"].as_array().unwrap().len(), &spike["failed"]), (50, &0.into()), "{peer}: {spike}");
        assert!(spike["opened"].as_u64().unwrap() <= 45, "{peer}: {spike}");
    }
}

#[test]
fn a_database_that_does_not_answer_leaves_no_caller_of_ours_without_an_answer() {
    let dir = TempDir::new("bench-pool");
    let down: serde_json::Value = serde_json::from_str(&bench(&dir, "down", &["down-of", "weir"])).unwrap();
    assert_eq!((&down["in_time"], &down["late"], &down["hung"]), (&20.into(), &0.into(), &0.into()), "{down}");
    assert!(down["back"].as_u64().is_some() && !down["error"].as_str().unwrap().is_empty(), "{down}");
}

#[test]
fn wrong_words_are_refused_with_the_help() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench-pool")).args(["--peers", "nobody"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("there is no peer \"nobody\"") && text.contains("usage:"), "{text}");
}
