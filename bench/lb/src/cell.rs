//! One cell: a balancer, a mode, a round. Everything is started afresh and ended with it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::guard::{Guard, pause, wait_until};
use crate::mode::{Kind, Mode};
use crate::peer::{Peer, Place};
use crate::usage::{self, Usage};
use crate::{Outcome, root};

/// How long a balancer may take to answer its first request.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long load generators may run on after their time.
const OVERRUN: Duration = Duration::from_secs(30);

/// Lengths of a cell.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Load before the window, in seconds.
    pub warm_up_secs: u32,
    /// The window, in seconds.
    pub window_secs: u32,
}

/// What a cell gives: named figures.
pub type Figures = Map<String, Value>;

/// The running parts of a cell; dropping it ends them and removes the folder.
#[derive(Debug)]
pub struct Stage {
    backends: [Guard; 2],
    controls: [u16; 2],
    balancer: Option<Guard>,
    /// Where the load goes.
    pub port: u16,
    /// Files of the cell.
    pub folder: PathBuf,
}

/// Runs a cell.
///
/// # Errors
/// If anything cannot be started or answers wrongly.
pub fn run(peer: &Peer, mode: &Mode, times: Times) -> Outcome<Figures> {
    let workers = 2;
    let mut stage = Stage::start(peer, mode, workers, |command| command)?;
    match mode.kind {
        Kind::Closed { connections, fresh, body_bytes } => closed(&mut stage, connections, fresh, body_bytes, times),
        Kind::Open { connections, rate } => open(&mut stage, connections, rate, times),
        Kind::Idle { connections } => idle(&mut stage, connections),
        Kind::Syscalls { connections } => syscalls(&mut stage, connections, times),
        Kind::Callgrind => {
            drop(stage);
            crate::callgrind::run(peer, mode)
        }
    }
}

impl Stage {
    /// Starts backends and balancer and waits for a 200 through both. `wrap` may put another program in front
    /// of the balancer's.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn start(peer: &Peer, mode: &Mode, workers: u32, wrap: impl FnOnce(Command) -> Command) -> Outcome<Self> {
        let folder = root().join(format!("target/bench-cells/{}-{}-{}", std::process::id(), peer.name, mode.name));
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let [a, b, c, d, port, extra_port] = free_ports()?;
        let body = mode.body_bytes();
        let backends = [backend("backend1", a, c, body, &folder)?, backend("backend2", b, d, body, &folder)?];
        let mut stage = Self { backends, controls: [c, d], balancer: None, port: a, folder };
        for (port, control) in [(a, c), (b, d)] {
            wait_until("the backend answers", START_LIMIT, || answers(port))?;
            backend_requests(control)?;
        }
        if let Some(command) = peer.command {
            let place = Place { folder: stage.folder.clone(), port, extra_port, backends: [a, b], workers };
            let mut command = wrap(command(&place)?);
            let mut guard = Guard::spawn("balancer", &mut command, &stage.folder)?;
            let answered = wait_until(&format!("{} answers", peer.name), START_LIMIT, || {
                // One that has ended will not answer any more: no reason to wait on.
                if let Err(ended) = guard.check_alive() {
                    return Ok(Err(ended));
                }
                answers(port).map(Ok)
            });
            answered.map_err(|e| format!("{e}\n{}", guard.output()))??;
            (stage.balancer, stage.port) = (Some(guard), port);
        }
        Ok(stage)
    }

    /// The balancer's process.
    pub fn balancer(&mut self) -> Option<&mut Guard> {
        self.balancer.as_mut()
    }

    /// Requests that the backends have seen.
    ///
    /// # Errors
    /// If a backend does not answer.
    pub fn requests(&self) -> Outcome<u64> {
        Ok(backend_requests(self.controls[0])? + backend_requests(self.controls[1])?)
    }

    fn usage(&self) -> Usage {
        self.balancer.as_ref().map(|guard| usage::read(guard.pid())).unwrap_or_default()
    }

    fn backend_cpu(&self) -> f64 {
        self.backends.iter().map(|guard| usage::read(guard.pid()).cpu_secs).sum()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The programs write into the folder: they have to be gone before it is removed.
        self.balancer = None;
        for backend in &self.backends {
            backend.signal(Signal::KILL);
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Counters at one moment.
struct Reading {
    at: Instant,
    balancer: Usage,
    backend_cpu: f64,
    load_cpu: f64,
    busy: f64,
    requests: u64,
}

fn reading(stage: &Stage, load: &Guard) -> Outcome<Reading> {
    Ok(Reading {
        at: Instant::now(),
        balancer: stage.usage(),
        backend_cpu: stage.backend_cpu(),
        load_cpu: usage::read(load.pid()).cpu_secs,
        busy: usage::machine_busy_secs(),
        requests: stage.requests()?,
    })
}

/// What was used between two readings, per request where that makes sense.
fn window(from: &Reading, to: &Reading, body_bytes: u32) -> Outcome<Figures> {
    let requests = to.requests.saturating_sub(from.requests);
    if requests == 0 {
        return Err("no request reached a backend within the window".to_owned());
    }
    let secs = to.at.duration_since(from.at).as_secs_f64();
    let used = to.balancer.since(&from.balancer);
    let backend = to.backend_cpu - from.backend_cpu;
    let micros = |secs: f64| secs * 1e6 / requests as f64;
    let gib = requests as f64 * f64::from(body_bytes) / (1_u64 << 30) as f64;
    let others = to.busy - from.busy - used.cpu_secs - backend - (to.load_cpu - from.load_cpu);
    let ticks = (used.user_secs + used.sys_secs).max(1e-9);
    let figures = json!({
        "requests": requests,
        "window_secs": secs,
        "req_per_sec": requests as f64 / secs,
        "cpu_us": micros(used.cpu_secs),
        // The total is exact; its split follows the sampled ticks.
        "user_us": micros(used.cpu_secs * used.user_secs / ticks),
        "sys_us": micros(used.cpu_secs * used.sys_secs / ticks),
        "backend_cpu_us": micros(backend),
        "norm_us": micros(used.cpu_secs) * 10.0 / micros(backend).max(1e-9),
        "cpu_secs_per_gib": used.cpu_secs / gib,
        "mb_per_sec": gib * 1_073.741_824 / secs,
        "cpu_percent_of_core": used.cpu_secs / secs * 100.0,
        "switches": used.switches as f64 / requests as f64,
        "rss_mib": used.rss_mib,
        "peak_rss_mib": used.peak_rss_mib,
        // The machine's own account is sampled, so small remainders may come out below nothing.
        "others_percent": (others / secs * 100.0).max(0.0),
    });
    match figures {
        Value::Object(map) => Ok(map),
        _ => Err("figures are an object".to_owned()),
    }
}

fn closed(stage: &mut Stage, connections: u32, fresh: bool, body_bytes: u32, times: Times) -> Outcome<Figures> {
    // Connecting thousands of clients takes its time out of the warm-up, and the load outlasts the window.
    let secs = times.warm_up_secs + times.window_secs + 1;
    let mut wrk = wrk(stage, connections, secs, fresh)?;
    pause(Duration::from_secs(times.warm_up_secs.into()))?;
    let from = reading(stage, &wrk)?;
    pause(Duration::from_secs(times.window_secs.into()))?;
    let to = reading(stage, &wrk)?;
    wrk.wait(Duration::from_secs(secs.into()) + OVERRUN)?;
    if let Some(balancer) = stage.balancer() {
        balancer.check_alive()?;
    }
    let mut figures = window(&from, &to, body_bytes)?;
    figures.append(&mut read_wrk(&wrk.output())?);
    Ok(figures)
}

fn open(stage: &mut Stage, connections: u32, rate: u32, times: Times) -> Outcome<Figures> {
    let mut command = Command::new(sibling("bench-openload")?);
    command
        .args([u32::from(stage.port), connections, rate, times.warm_up_secs, times.window_secs].map(|n| n.to_string()));
    let mut load = Guard::spawn("load", &mut command, &stage.folder)?;
    wait_until("the connections are open", START_LIMIT, || {
        load.check_alive()?;
        if load.output().starts_with("ready") { Ok(()) } else { Err("not ready".to_owned()) }
    })?;
    pause(Duration::from_secs(times.warm_up_secs.into()))?;
    let from = reading(stage, &load)?;
    pause(Duration::from_secs(times.window_secs.into()))?;
    let to = reading(stage, &load)?;
    let status = load.wait(OVERRUN)?;
    let output = load.output();
    let json = output
        .lines()
        .find(|line| line.starts_with('{'))
        .ok_or_else(|| format!("bench-openload: {status}: {output}"))?;
    let mut figures = window(&from, &to, 1_024)?;
    let mut latencies: Figures = serde_json::from_str(json).map_err(|e| format!("bench-openload: {e}"))?;
    figures.append(&mut latencies);
    Ok(figures)
}

/// Memory and idle CPU with connections that have done one request each.
fn idle(stage: &mut Stage, connections: u32) -> Outcome<Figures> {
    let before = stage.usage();
    let mut clients = Vec::with_capacity(connections as usize);
    for _ in 0..connections {
        clients.push(get(stage.port)?);
    }
    pause(Duration::from_secs(1))?;
    let from = stage.usage();
    pause(Duration::from_secs(2))?;
    let after = stage.usage();
    drop(clients);
    let mut figures = Figures::new();
    figures.insert("rss_before_mib".to_owned(), json!(before.rss_mib));
    figures.insert("rss_mib".to_owned(), json!(after.rss_mib));
    figures.insert(
        "kib_per_connection".to_owned(),
        json!((after.rss_mib - before.rss_mib) * 1_024.0 / f64::from(connections)),
    );
    figures.insert("cpu_percent_of_core".to_owned(), json!(after.since(&from).cpu_secs / 2.0 * 100.0));
    Ok(figures)
}

fn syscalls(stage: &mut Stage, connections: u32, times: Times) -> Outcome<Figures> {
    let secs = times.warm_up_secs + times.window_secs + 3;
    let mut wrk = wrk(stage, connections, secs, false)?;
    pause(Duration::from_secs(times.warm_up_secs.into()))?;
    let Some(pid) = stage.balancer().map(|guard| guard.pid()) else {
        return Err("nothing to trace".to_owned());
    };
    let summary = stage.folder.join("strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&summary);
    for pid in usage::family(pid) {
        command.arg("-p").arg(pid.to_string());
    }
    let mut strace = Guard::spawn("strace-attach", &mut command, &stage.folder)?;
    wait_until("strace is attached", START_LIMIT, || {
        strace.check_alive()?;
        if strace.output().contains("attached") { Ok(()) } else { Err(strace.output()) }
    })?;
    let from = stage.requests()?;
    pause(Duration::from_secs(times.window_secs.into()))?;
    let to = stage.requests()?;
    strace.signal(Signal::INT);
    strace.wait(OVERRUN)?;
    wrk.wait(Duration::from_secs(secs.into()) + OVERRUN)?;
    let text = std::fs::read_to_string(&summary).map_err(|e| format!("strace: {e}"))?;
    let requests = to.saturating_sub(from);
    if requests == 0 {
        return Err("no request reached a backend under strace".to_owned());
    }
    Ok(read_strace(&text, requests))
}

fn wrk(stage: &Stage, connections: u32, secs: u32, fresh: bool) -> Outcome<Guard> {
    let mut command = Command::new("wrk");
    command
        .args(["-t2", "--latency", "--timeout", "10s", "-c"])
        .arg(connections.to_string())
        .arg("-d")
        .arg(format!("{secs}s"));
    if fresh {
        command.args(["-H", "Connection: close"]);
    }
    command.arg(format!("http://127.0.0.1:{}/", stage.port));
    Guard::spawn("wrk", &mut command, &stage.folder)
}

/// Median, 99th percentile and errors of the whole run of wrk, the warm-up included.
fn read_wrk(text: &str) -> Outcome<Figures> {
    let value = |label: &str| text.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim);
    let latency = |label: &str| {
        value(label).and_then(milliseconds).ok_or_else(|| format!("wrk gave no {label} latency:\n{text}"))
    };
    let mut figures = Figures::new();
    figures.insert("p50_ms".to_owned(), json!(latency("50%")?));
    figures.insert("p99_ms".to_owned(), json!(latency("99%")?));
    let socket: u64 = value("Socket errors:")
        .map(|rest| rest.split(", ").filter_map(|part| part.rsplit(' ').next()?.parse::<u64>().ok()).sum())
        .unwrap_or_default();
    let status: u64 = value("Non-2xx or 3xx responses:").and_then(|n| n.parse().ok()).unwrap_or_default();
    figures.insert("errors".to_owned(), json!(socket + status));
    Ok(figures)
}

/// `1.23ms`, `456.00us`, `1.20s`, `1.00m`.
fn milliseconds(text: &str) -> Option<f64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..split].parse().ok()?;
    match &text[split..] {
        "us" => Some(number / 1_000.0),
        "ms" => Some(number),
        "s" => Some(number * 1_000.0),
        "m" => Some(number * 60_000.0),
        _ => None,
    }
}

/// The table of `strace -c`: calls per request, in all and of the five most frequent.
fn read_strace(text: &str, requests: u64) -> Figures {
    let mut calls: Vec<(u64, &str)> = text
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split_whitespace().collect();
            // % time, seconds, usecs/call, calls, errors (may be empty), name
            let count = cells.get(3)?.parse().ok()?;
            cells.first()?.parse::<f64>().ok()?;
            Some((count, *cells.last()?))
        })
        .filter(|(_, name)| *name != "total")
        .collect();
    calls.sort_unstable_by_key(|(count, _)| std::cmp::Reverse(*count));
    let per_request = |count: u64| count as f64 / requests as f64;
    let most: Vec<String> =
        calls.iter().take(5).map(|(count, name)| format!("{name} {:.2}", per_request(*count))).collect();
    let mut figures = Figures::new();
    figures.insert("requests".to_owned(), json!(requests));
    figures.insert("syscalls".to_owned(), json!(per_request(calls.iter().map(|(count, _)| count).sum())));
    figures.insert("breakdown".to_owned(), json!(most.join(", ")));
    figures
}

fn backend(name: &str, port: u16, control: u16, body: u32, folder: &Path) -> Outcome<Guard> {
    let mut command = Command::new(sibling("bench-backend")?);
    command.args([u32::from(port), u32::from(control), body].map(|n| n.to_string()));
    Guard::spawn(name, &mut command, folder)
}

/// Another program of this crate, beside this one.
fn sibling(name: &str) -> Outcome<PathBuf> {
    let me = std::env::current_exe().map_err(|e| format!("own path: {e}"))?;
    let path = me.with_file_name(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("no {}: run `cargo build --release -p bench-lb`", path.display()))
    }
}

/// Ports below the usual ephemeral range, so that no outgoing connection takes one.
fn free_ports() -> Outcome<[u16; 6]> {
    let mut held = Vec::new();
    let start = 14_000 + (std::process::id() % 3_000) as u16;
    for port in (start..18_000).chain(14_000..start) {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((listener, port));
            if held.len() == 6 {
                return Ok(std::array::from_fn(|at| held[at].1));
            }
        }
    }
    Err("no six free ports between 14000 and 18000".to_owned())
}

fn answers(port: u16) -> Outcome {
    get(port).map(drop)
}

/// A connection that has done one GET with status 200.
pub(crate) fn get(port: u16) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| e.to_string())?;
    request(&mut stream)?;
    Ok(stream)
}

/// One GET on a connection; the body has to come with `Content-Length`.
pub(crate) fn request(stream: &mut TcpStream) -> Outcome {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n").map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1_024];
    loop {
        let n = stream.read(&mut chunk).map_err(|e| e.to_string())?;
        if n == 0 {
            return Err("closed before the end of the response".to_owned());
        }
        bytes.extend_from_slice(&chunk[..n]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(head);
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|n| n.trim().parse::<usize>().ok());
        let length = length.ok_or("a response without Content-Length")?;
        if bytes.len() >= end + 4 + length {
            return Ok(());
        }
    }
}

fn backend_requests(control: u16) -> Outcome<u64> {
    let fail = |e: std::io::Error| format!("control port of a backend: {e}");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, control)).map_err(fail)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(fail)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(fail)?;
    text.trim().parse().map_err(|e| format!("control port of a backend said {text:?}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_read() {
        let text = "Running 2s test\n  Latency Distribution\n     50%    2.01ms\n     75%    3.00ms\n     90%    4.00ms\n     99%    1.50s \n  10 requests in 2.00s\n  Socket errors: connect 0, read 3, write 0, timeout 2\n  Non-2xx or 3xx responses: 4\n";
        let figures = read_wrk(text).unwrap();
        assert_eq!(
            (figures["p50_ms"].as_f64(), figures["p99_ms"].as_f64(), figures["errors"].as_u64()),
            (Some(2.01), Some(1_500.0), Some(9))
        );
        assert!(read_wrk("unable to connect").is_err());
    }

    #[test]
    fn strace_is_read() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ----------- --------- --------- ----------------\n 60.00    1.5       3       200           sendto\n 40.00    1.0       3       100        10 recvfrom\n------ ----------- ----------- --------- --------- ----------------\n100.00    2.5       3       300        10 total\n";
        let figures = read_strace(text, 100);
        assert_eq!(figures["syscalls"].as_f64(), Some(3.0));
        assert_eq!(figures["breakdown"].as_str(), Some("sendto 2.00, recvfrom 1.00"));
    }
}
