//! The process: how it starts, what it refuses, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::{config, endpoints, how_it_ended, start, timed};
use rustix::process::Signal;
use weir_test::{
    Client, ClientError, Origin, PATIENCE, Process, Reply, TempDir, Weir, WeirOptions, eventually, free_port,
    weir_binary,
};

/// An origin that holds requests until it is told to answer.
struct Slow {
    origin: Origin,
    state: Arc<(Mutex<(usize, bool)>, Condvar)>,
}

impl Slow {
    fn start() -> Self {
        let state = Arc::new((Mutex::new((0, false)), Condvar::new()));
        let inner = Arc::clone(&state);
        let origin = Origin::start(move |request| {
            if request.target() != "/slow" {
                return Reply::text("quick");
            }
            let mut held = inner.0.lock().unwrap();
            held.0 += 1;
            while !held.1 {
                held = inner.1.wait(held).unwrap();
            }
            Reply::text("slow")
        });
        Self { origin, state }
    }

    fn wait_held(&self, count: usize) {
        eventually(PATIENCE, "the request is at the origin", || self.state.0.lock().unwrap().0 == count);
    }

    fn answer(&self) {
        self.state.0.lock().unwrap().1 = true;
        self.state.1.notify_all();
    }
}

fn with_deadline(slow: &Slow, deadline: &str) -> Weir {
    start(
        &config(2, &endpoints(&[slow.origin.port()]))
            .replace("[process]\n", &format!("[process]\nshutdown_timeout = \"{deadline}\"\n")),
    )
}

fn ask_slow(weir: &Weir) -> Client {
    let mut client = weir.client();
    client.send_raw("GET /slow HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    client
}

#[test]
fn a_stop_lets_requests_finish_closes_idle_clients_and_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let slow = Slow::start();
        let mut weir = with_deadline(&slow, "20s");
        let mut idle = weir.client();
        assert_eq!(idle.get("/quick").unwrap().status, 200);
        let mut busy = ask_slow(&weir);
        slow.wait_held(1);
        weir.process().signal(signal);
        // An idle client is closed in the ordinary way, not reset.
        assert_eq!(idle.read_to_end(), Ok(Vec::new()));
        let ready = weir.observe("/ready");
        assert_eq!(ready.status, 503);
        assert!(ready.text().contains("draining"), "{}", ready.text());
        assert_eq!(weir.observe("/live").status, 200);
        assert_eq!(weir.metric("weir_ready", &[]), Some(0.0));
        eventually(PATIENCE, "nobody new is accepted", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, weir.port())).is_err()
        });
        assert!(weir.process().is_running());
        slow.answer();
        let response = busy.read_response().unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "slow"));
        assert_eq!(response.field("connection"), Some("close"));
        assert_eq!(weir.process().wait_exit(Duration::from_secs(5)).code(), Some(0));
        assert_eq!(how_it_ended(&weir, "/slow").0, "-");
    }
}

#[test]
fn what_is_still_running_at_the_deadline_is_cut_and_the_exit_code_says_so() {
    let slow = Slow::start();
    let mut weir = with_deadline(&slow, "400ms");
    let mut busy = ask_slow(&weir);
    slow.wait_held(1);
    let (status, took) = timed(|| weir.stop_gracefully(Duration::from_secs(10)));
    assert_eq!(status.code(), Some(3));
    assert!(took >= Duration::from_millis(350) && took < Duration::from_secs(4), "{took:?}");
    let seen = busy.read_response();
    assert!(
        matches!(&seen, Ok(response) if response.status == 503)
            || matches!(&seen, Err(ClientError::Closed | ClientError::Reset(_))),
        "{seen:?}"
    );
}

#[test]
fn a_second_signal_stops_at_once() {
    let slow = Slow::start();
    let mut weir = with_deadline(&slow, "1h");
    let _busy = ask_slow(&weir);
    slow.wait_held(1);
    weir.process().signal(Signal::TERM);
    weir.process().wait_log("stopping", PATIENCE);
    assert!(weir.process().is_running());
    let (status, took) = timed(|| weir.stop_gracefully(Duration::from_secs(10)));
    assert_eq!(status.code(), Some(3));
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_stop_without_traffic_is_immediate() {
    let origin = Origin::named("x");
    let mut weir = start(&config(2, &endpoints(&[origin.port()])));
    assert_eq!(weir.get("/").status, 200);
    let (status, took) = timed(|| weir.stop_gracefully(Duration::from_secs(10)));
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(3), "{took:?}");
    eventually(PATIENCE, "connections to endpoints are closed", || origin.open_connections() == 0);
}

#[test]
fn a_long_download_is_finished_during_a_stop() {
    let body = "0123456789".repeat(1_000_000);
    let sent = body.clone();
    let origin = Origin::start(move |_| Reply::text(sent.clone()));
    let mut weir = start(&config(1, &endpoints(&[origin.port()])));
    let mut client = weir.client();
    client.send_raw("GET /big HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    eventually(PATIENCE, "the origin has answered", || origin.answered() == 1);
    weir.process().signal(Signal::TERM);
    weir.process().wait_log("stopping", PATIENCE);
    assert!(client.read_response().unwrap().body == body.as_bytes());
    assert_eq!(weir.process().wait_exit(Duration::from_secs(5)).code(), Some(0));
}

/// `weir run` of a configuration, started by a shell that does `before` first.
fn spawn(dir: &TempDir, before: &str, config: &str) -> Process {
    let file = dir.write("weir.toml", config.replace("{dir}", &dir.path().display().to_string()));
    let mut command = Command::new("sh");
    let exec = format!("{before} exec {} run {}", weir_binary().display(), file.display());
    command.args(["-c", &exec]).current_dir(dir.path());
    Process::spawn("weir", command, dir.path())
}

/// Requires that Weir refuses to start, within a short time, with this in its message.
fn refused(dir: &TempDir, before: &str, config: &str, message: &str) {
    let mut process = spawn(dir, before, config);
    let status = process.wait_exit(PATIENCE);
    assert_eq!(status.code(), Some(1), "{}", process.stderr());
    assert!(process.stderr().contains(message), "{:?} is not in:\n{}", message, process.stderr());
}

fn minimal(bind: &str, more: &str) -> String {
    format!(
        "[[listener]]\nbind = \"{bind}\"\ncluster = \"c\"\n{more}\n[cluster.c]\nendpoints = [\"127.0.0.1:9\"]\n[metrics]\nenabled = false\n"
    )
}

#[test]
fn an_address_in_use_is_told_with_the_listener_and_the_address() {
    let dir = TempDir::new("in-use");
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = other.local_addr().unwrap().to_string();
    refused(&dir, "", &minimal(&address, "name = \"front\""), "listener `front`: cannot listen on");
    refused(&dir, "", &minimal(&address, ""), "address is in use");

    // Another Weir has it: sharing a port with it by accident would split the traffic between two configurations.
    let origin = Origin::named("x");
    let weir = start(&config(2, &endpoints(&[origin.port()])));
    refused(&dir, "", &minimal(&format!("127.0.0.1:{}", weir.port()), ""), "address is in use");
    let metrics = minimal(&format!("127.0.0.1:{}", free_port()), "")
        .replace("enabled = false", &format!("bind = \"127.0.0.1:{}\"", weir.metrics_port()));
    refused(&dir, "", &metrics, "address is in use");
    assert_eq!(weir.get("/").status, 200);
}

#[test]
fn the_limit_of_open_files_is_raised_and_what_cannot_fit_is_refused() {
    let dir = TempDir::new("nofile");
    let bind = format!("127.0.0.1:{}", free_port());
    let mut process = spawn(&dir, "ulimit -Sn 256; ulimit -Hn 4096;", &minimal(&bind, "max_connections = 1900"));
    process.wait_connect(bind.parse().unwrap(), PATIENCE);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let values: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(values, ["4096", "4096"]);
    process.kill();
    let message = "max_connections of the listeners add up to 100000, but this process may open 4096 files";
    refused(&dir, "ulimit -n 4096;", &minimal(&bind, "max_connections = 100000"), message);
}

#[test]
fn a_low_port_is_bound_and_root_is_given_up_for_good() {
    let low = (1..1024).rev().find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let dir = TempDir::new("privileges");
    let Some(port) = low else {
        // Without the right to bind low ports, the refusal must say what is missing.
        refused(&dir, "", &minimal("127.0.0.1:999", ""), "permission denied");
        return;
    };
    let bind = format!("127.0.0.1:{port}");
    let text = minimal(&bind, "") + "[process]\nuser = \"nobody\"\nworkers = 2\n[access_log]\npath = \"stdout\"\n";
    let mut process = spawn(&dir, "", &text);
    process.wait_connect(bind.parse().unwrap(), PATIENCE);
    assert_eq!(Client::connect(&*bind).get("/").unwrap().status, 503);
    let mut threads = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap() {
        // A thread that was listed and has ended since has no status any more.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        let field = |name: &str| -> Vec<String> {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().skip(1).map(str::to_owned).collect()
        };
        let uids = field("Uid:");
        assert!(uids.iter().all(|uid| *uid == uids[0] && uid != "0"), "{status}");
        assert!(field("Gid:").iter().all(|gid| gid != "0"), "{status}");
        assert!(field("Groups:").iter().all(|gid| gid != "0"), "{status}");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), ["0000000000000000"], "{set} of {}", field("Name:")[0]);
        }
        threads += 1;
    }
    assert!(threads >= 4, "workers, keeper, control: {threads} threads");
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn an_unknown_user_is_refused() {
    let dir = TempDir::new("user");
    let bind = format!("127.0.0.1:{}", free_port());
    let text = minimal(&bind, "") + "[process]\nuser = \"no-such-user-here\"\n";
    refused(&dir, "", &text, "no user \"no-such-user-here\"");
}

fn get_over(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_stale_unix_socket_is_replaced_and_a_live_one_is_left_alone() {
    let dir = TempDir::new("unix");
    let socket = dir.path().join("weir.sock");
    // What a killed process leaves behind.
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let text = minimal("unix:{dir}/weir.sock", "mode = \"600\"");
    let mut process = spawn(&dir, "", &text);
    eventually(PATIENCE, "it answers", || UnixStream::connect(&socket).is_ok());
    assert!(get_over(&socket).starts_with("HTTP/1.1 503 "));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    refused(&dir, "", &text, "a running process answers on this socket");
    assert!(get_over(&socket).starts_with("HTTP/1.1 503 "), "the running one was disturbed");
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(0));
    assert!(!socket.exists(), "the file is removed at the end");

    let file = dir.write("not-a-socket", "precious");
    refused(&dir, "", &minimal("unix:{dir}/not-a-socket", ""), "not a socket");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "precious");
}

#[test]
fn a_unix_socket_is_an_endpoint_too() {
    let dir = TempDir::new("unix-endpoint");
    let path = dir.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix");
                    }
                }
            });
        }
    });
    let weir = start(&config(1, &format!("endpoints = [\"unix:{}\"]\n", path.display())));
    let mut client = weir.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").unwrap().text(), "unix");
    }
}

#[test]
fn the_access_log_is_opened_again_on_usr1() {
    let origin = Origin::named("x");
    let mut weir = Weir::run_with(&config(1, &endpoints(&[origin.port()])), &WeirOptions::default());
    eventually(PATIENCE, "ready", || weir.observe("/ready").status == 200);
    assert_eq!(weir.get("/before").status, 200);
    common::log_line(&weir, "/before");
    std::fs::rename(weir.dir().join("access.log"), weir.dir().join("access.log.1")).unwrap();
    weir.process().signal(Signal::USR1);
    eventually(PATIENCE, "a new file", || weir.dir().join("access.log").exists());
    assert_eq!(weir.get("/after").status, 200);
    common::log_line(&weir, "/after");
}
