//! The backend and the open-loop generator, as the harness runs them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::Command;

use weir_test::{Client, PATIENCE, Process, TempDir, free_port};

struct Backend {
    _process: Process,
    port: u16,
    control: u16,
}

impl Backend {
    fn start(dir: &TempDir, body_bytes: u32) -> Self {
        let (port, control) = (free_port(), free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench-backend"));
        command.args([u32::from(port), u32::from(control), body_bytes].map(|n| n.to_string()));
        let mut process = Process::spawn("backend", command, dir.path());
        process.wait_connect(([127, 0, 0, 1], port).into(), PATIENCE);
        Self { _process: process, port, control }
    }

    fn requests(&self) -> u64 {
        let text = Client::local(self.control).read_to_end().unwrap();
        String::from_utf8(text).unwrap().trim().parse().unwrap()
    }
}

fn open_load(dir: &TempDir, port: u16, connections: u32, rate: u32, secs: u32) -> serde_json::Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-openload"));
    command.args([u32::from(port), connections, rate, 0, secs].map(|n| n.to_string()));
    let mut load = Process::spawn("load", command, dir.path());
    assert!(load.wait_exit(PATIENCE).success(), "{}", load.stderr());
    let output = load.stdout();
    assert!(output.starts_with("ready\n"), "{output}");
    serde_json::from_str(output.lines().last().unwrap()).unwrap()
}

#[test]
fn every_due_request_is_answered_and_counted_by_both_sides() {
    let dir = TempDir::new("load");
    let backend = Backend::start(&dir, 1_024);
    let report = open_load(&dir, backend.port, 20, 500, 1);
    assert_eq!(
        (report["due"].as_u64(), report["recorded"].as_u64(), report["errors"].as_u64()),
        (Some(500), Some(500), Some(0)),
        "{report}"
    );
    assert!(report["p50_ms"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(backend.requests(), 500);
}

#[test]
fn a_backend_that_goes_away_is_seen_as_errors() {
    let dir = TempDir::new("load");
    let report = {
        let refusing = weir_test::Hostile::always(vec![weir_test::Step::ReadHead, weir_test::Step::Reset]);
        open_load(&dir, refusing.port(), 5, 50, 1)
    };
    assert_eq!((report["recorded"].as_u64(), report["errors"].as_u64()), (Some(0), Some(50)), "{report}");
}

#[test]
fn long_bodies_arrive_whole_and_a_wish_to_close_is_honoured() {
    let dir = TempDir::new("load");
    let backend = Backend::start(&dir, 1 << 20);
    let mut client = Client::local(backend.port);
    for _ in 0..3 {
        assert_eq!(client.get("/").unwrap().body.len(), 1 << 20);
    }
    client.send_raw("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let last = client.read_response().unwrap();
    assert_eq!((last.body.len(), last.field("connection")), (1 << 20, Some("close")));
    assert_eq!(client.read_to_end().unwrap(), b"");
    assert_eq!(backend.requests(), 4);
}
