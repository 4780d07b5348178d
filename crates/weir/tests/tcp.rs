//! TCP listeners: bytes both ways, ends of stream both ways, and which endpoint gets a connection.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{endpoint, endpoints, log_lines, start, timed, wait_health};
use serde_json::Value;
use weir_test::{Hostile, PATIENCE, Process, Step, TempDir, Weir, eventually, free_port};

fn config(listener: &str, cluster: &str) -> String {
    common::config(2, cluster)
        .replace("cluster = \"c\"\n", &format!("cluster = \"c\"\nprotocol = \"tcp\"\n{listener}\n"))
}

fn tcp(ports: &[u16], rest: &str) -> Weir {
    start(&config("", &(endpoints(ports) + rest)))
}

fn connect(weir: &Weir) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, weir.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether the connection that waited for the listener has come and gone, and nothing else is open.
fn settled(weir: &Weir) -> bool {
    weir.metric("weir_tcp_sessions_total", &[]) >= Some(1.0) && weir.metric("weir_tcp_sessions_open", &[]) == Some(0.0)
}

fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A server that says its name and then echoes, until the client has half-closed; then it says "bye" and closes.
struct Echo {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Echo {
    fn start(name: &'static str) -> Self {
        Self::on((Ipv4Addr::LOCALHOST, 0).into(), name)
    }

    fn on(address: SocketAddr, name: &'static str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (a, o) = (Arc::clone(&accepted), Arc::clone(&open));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                a.fetch_add(1, Ordering::SeqCst);
                o.fetch_add(1, Ordering::SeqCst);
                let open = Arc::clone(&o);
                std::thread::spawn(move || {
                    let _ = serve(stream, name);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, accepted, open }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }
}

fn serve(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.write_all(name.as_bytes())?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            stream.write_all(b"bye")?;
            return stream.shutdown(Shutdown::Both);
        }
        stream.write_all(&buffer[..n])?;
    }
}

/// The TCP session that ended last, as logged.
fn last_session(weir: &Weir, count: usize) -> Value {
    eventually(PATIENCE, "the session is logged", || {
        let lines = log_lines(weir);
        if lines.len() >= count { Ok(lines[count - 1].clone()) } else { Err(lines) }
    })
}

#[test]
fn bytes_pass_both_ways_and_a_half_close_is_only_half_a_close() {
    let echo = Echo::start("a");
    let weir = tcp(&[echo.port()], "");
    // The wait for the listener was a session, too.
    let before = log_lines(&weir).len();
    let mut client = connect(&weir);
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"a", "the server speaks first");
    client.write_all(b"hello").unwrap();
    let mut five = [0; 5];
    client.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"hello");
    client.write_all(b"last").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), b"lastbye", "what the server says after the client's end arrives");
    let line = eventually(PATIENCE, "a complete session in the log", || {
        let lines = log_lines(&weir);
        lines.iter().find(|line| line["bytes_in"] == 9).cloned().ok_or((before, lines))
    });
    assert_eq!((line["end"].as_str(), line["bytes_out"].as_u64()), (Some("-"), Some(13)));
    assert_eq!((line["protocol"].as_str(), line["status"].as_u64()), (Some("TCP"), Some(0)));
    assert_eq!(line["endpoint"], format!("127.0.0.1:{}", echo.port()));
}

#[test]
fn a_server_that_ends_its_side_first_still_gets_what_the_client_says() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let rest = "[cluster.c.health]\nenabled = false\n";
    let weir = tcp(&[server.local_addr().unwrap().port()], rest);
    // The first session was the wait for the listener.
    let mut waited = server.accept().unwrap().0;
    assert_eq!(read_to_end(&mut waited), b"");
    drop(waited);
    let mut client = connect(&weir);
    let mut upstream = server.accept().unwrap().0;
    upstream.write_all(b"all I have").unwrap();
    upstream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), b"all I have");
    client.write_all(b"but I go on").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut upstream), b"but I go on");
}

#[test]
fn large_transfers_arrive_byte_for_byte_in_both_directions_at_once() {
    const SIZE: usize = 64 << 20;
    let echo = Echo::start("");
    let weir = tcp(&[echo.port()], "");
    let pattern = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
    let client = connect(&weir);
    let mut writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let mut sent = 0;
        // Odd sizes, so that no boundary falls on one of a buffer.
        for size in (1..).map(|n: usize| (n * 7_919) % 300_000 + 1) {
            let end = (sent + size).min(SIZE);
            let bytes: Vec<u8> = (sent..end).map(pattern).collect();
            writer.write_all(&bytes).unwrap();
            sent = end;
            if sent == SIZE {
                break;
            }
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (mut reader, mut got) = (client, 0);
    let mut buffer = vec![0; 100_000];
    let mut end = Vec::new();
    loop {
        let n = reader.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        for byte in &buffer[..n] {
            if got < SIZE {
                assert_eq!(*byte, pattern(got), "byte {got}");
            } else {
                end.push(*byte);
            }
            got += 1;
        }
    }
    writing.join().unwrap();
    assert_eq!((got, end.as_slice()), (SIZE + 3, b"bye".as_slice()));
    let line = eventually(PATIENCE, "logged", || log_lines(&weir).into_iter().find(|line| line["bytes_in"] == SIZE));
    assert_eq!((line["bytes_out"].as_u64(), line["end"].as_str()), (Some(SIZE as u64 + 3), Some("-")));
    // The wait for the listener may have been told "bye", too.
    assert_eq!(weir.metric("weir_tcp_received_bytes_total", &[]), Some(SIZE as f64));
    assert!(weir.metric("weir_tcp_sent_bytes_total", &[]) >= Some(SIZE as f64 + 3.0));
}

fn names(weir: &Weir, count: usize) -> BTreeMap<char, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        let mut client = connect(weir);
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        *seen.entry(char::from(byte[0])).or_default() += 1;
    }
    seen
}

#[test]
fn the_algorithm_decides_who_gets_a_connection() {
    let servers = [Echo::start("a"), Echo::start("b"), Echo::start("c")];
    let ports = servers.each_ref().map(Echo::port);
    let weir = tcp(&ports, "balance = \"round_robin\"\n");
    let seen = names(&weir, 30);
    assert!(seen.len() == 3 && seen.values().all(|n| (8..=12).contains(n)), "{seen:?}");
    let weir = tcp(&ports, "balance = \"ip_hash\"\n");
    assert_eq!(names(&weir, 12).len(), 1, "one client address, one endpoint");
    // Connections that stay open count as load.
    let weir = tcp(&ports, "balance = \"least_connections\"\n");
    eventually(PATIENCE, "the wait for the listener is over", || settled(&weir));
    let mut held: Vec<(TcpStream, char)> = Vec::new();
    for _ in 0..12 {
        let mut client = connect(&weir);
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        held.push((client, char::from(byte[0])));
    }
    let count = |held: &[(TcpStream, char)], name| held.iter().filter(|(_, n)| *n == name).count();
    assert_eq!(['a', 'b', 'c'].map(|name| count(&held, name)), [4, 4, 4]);
    // Two servers lose their connections: new ones go there.
    held.retain(|(_, name)| *name == 'a');
    let in_flight = |port| endpoint(&weir, port)["in_flight"].clone();
    eventually(PATIENCE, "they are gone", || in_flight(ports[1]) == 0 && in_flight(ports[2]) == 0);
    for _ in 0..6 {
        let mut client = connect(&weir);
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        held.push((client, char::from(byte[0])));
    }
    assert_eq!(['a', 'b', 'c'].map(|name| count(&held, name)), [4, 3, 3]);
}

#[test]
fn a_refused_endpoint_costs_nobody_a_connection() {
    let gone = free_port();
    let echo = Echo::start("b");
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, gone)).unwrap();
    let weir =
        tcp(&[gone, echo.port()], "balance = \"round_robin\"\n[cluster.c.health]\ninterval = \"1h\"\nfall = 1\n");
    wait_health(&weir, gone, "up");
    drop(first);
    for _ in 0..6 {
        let (seen, took) = timed(|| names(&weir, 1));
        assert_eq!(seen, BTreeMap::from([('b', 1)]));
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
    wait_health(&weir, gone, "down");
}

#[test]
fn nobody_there_is_told_by_a_reset_and_in_the_log() {
    let weir = tcp(&[free_port()], "[cluster.c.health]\nfall = 1\n");
    let mut client = connect(&weir);
    let seen = client.read(&mut [0; 10]);
    assert!(matches!(&seen, Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset), "{seen:?}");
    let line = last_session(&weir, 2);
    assert_eq!(line["end"], "W:pick");
    assert_eq!(line["reason"], "no_endpoint");
}

#[test]
fn a_reset_of_one_side_is_a_reset_of_the_other() {
    let server = Hostile::always(vec![Step::ReadBytes(3), Step::Reset]);
    let weir = tcp(&[server.port()], "");
    let mut client = connect(&weir);
    client.write_all(b"abc").unwrap();
    let seen = client.read(&mut [0; 10]);
    assert!(matches!(&seen, Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset), "{seen:?}");
    eventually(PATIENCE, "logged", || log_lines(&weir).iter().any(|line| line["reason"] == "upstream_reset"));

    let echo = Echo::start("a");
    let weir = tcp(&[echo.port()], "");
    let mut client = connect(&weir);
    client.read_exact(&mut [0]).unwrap();
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    eventually(PATIENCE, "the server is told", || echo.open.load(Ordering::SeqCst) == 0);
    eventually(PATIENCE, "logged", || log_lines(&weir).iter().any(|line| line["reason"] == "client_gone"));
}

#[test]
fn idle_sessions_end_and_busy_ones_do_not() {
    let echo = Echo::start("a");
    let weir = tcp(&[echo.port()], "[cluster.c.timeouts]\ntunnel_idle = \"600ms\"\n");
    let mut idle = connect(&weir);
    let mut busy = connect(&weir);
    for client in [&mut idle, &mut busy] {
        client.read_exact(&mut [0]).unwrap();
    }
    let ((), took) = timed(|| {
        idle.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        eventually(PATIENCE, "the idle session is ended", || {
            busy.write_all(b"x").unwrap();
            busy.read_exact(&mut [0]).unwrap();
            match idle.read(&mut [0]) {
                Ok(0) => true,
                Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
                Ok(_) => false,
            }
        });
    });
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
    busy.write_all(b"y").unwrap();
    busy.read_exact(&mut [0]).unwrap();
    eventually(PATIENCE, "logged", || log_lines(&weir).iter().any(|line| line["reason"] == "tunnel_idle"));
}

#[test]
fn connections_beyond_the_maximum_are_refused_and_counted() {
    let echo = Echo::start("a");
    let weir = start(&config("max_connections = 2", &endpoints(&[echo.port()])));
    eventually(PATIENCE, "the wait for the listener is over", || settled(&weir));
    let mut held: Vec<TcpStream> = (0..2).map(|_| connect(&weir)).collect();
    for client in &mut held {
        client.read_exact(&mut [0]).unwrap();
    }
    let mut third = connect(&weir);
    let seen = third.read(&mut [0]);
    assert!(matches!(&seen, Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset), "{seen:?}");
    assert_eq!(weir.metric("weir_downstream_connections_rejected_total", &[]), Some(1.0));
    drop(held.pop());
    eventually(PATIENCE, "there is room again", || {
        let mut client = connect(&weir);
        client.read_exact(&mut [0]).is_ok()
    });
}

#[test]
fn an_endpoint_at_its_maximum_is_passed_over() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let weir = tcp(&[a.port(), b.port()], "balance = \"round_robin\"\n[cluster.c.limit]\nmax_requests = 2\n");
    eventually(PATIENCE, "the wait for the listener is over", || settled(&weir));
    let mut held: Vec<TcpStream> = (0..4).map(|_| connect(&weir)).collect();
    let mut seen = BTreeMap::<u8, usize>::new();
    for client in &mut held {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        *seen.entry(byte[0]).or_default() += 1;
    }
    assert_eq!(seen, BTreeMap::from([(b'a', 2), (b'b', 2)]));
    let mut fifth = connect(&weir);
    assert!(fifth.read(&mut [0]).is_err(), "no place is left");
    assert!(a.accepted.load(Ordering::SeqCst) >= 2);
}

/// Guards against a session that looks for a place for ever: what it passes by is remembered for eight endpoints only, so
/// that with nine the worker spun. It is refused at once, and others are served when a place is free again.
#[test]
fn more_full_endpoints_than_are_remembered_are_a_refusal() {
    let servers: Vec<Echo> = (0..9).map(|_| Echo::start("a")).collect();
    let ports: Vec<u16> = servers.iter().map(Echo::port).collect();
    for balance in ["round_robin", "least_connections", "random"] {
        let full = "[cluster.c.pool]\nmax_connections = 1\n[cluster.c.health]\nenabled = false\n";
        let weir = tcp(&ports, &format!("balance = \"{balance}\"\n{full}"));
        eventually(PATIENCE, "the wait for the listener is over", || {
            weir.metric("weir_tcp_sessions_open", &[]) == Some(0.0)
        });
        let mut held: Vec<TcpStream> = Vec::new();
        eventually(PATIENCE, "all nine are full", || {
            let mut client = connect(&weir);
            if client.read_exact(&mut [0]).is_ok() {
                held.push(client);
            }
            held.len() == 9
        });
        for _ in 0..4 {
            let mut client = connect(&weir);
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let seen = client.read(&mut [0]);
            assert!(matches!(&seen, Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset), "{balance}: {seen:?}");
        }
        eventually(PATIENCE, "they are in the log", || {
            let lines = log_lines(&weir);
            // No endpoint was attempted: none had a place.
            let refused = lines.iter().filter(|line| {
                line["end"] == "W:acquire" && line["reason"] == "pool_queue_full" && line["attempts"] == 0
            });
            if refused.count() >= 4 { Ok(()) } else { Err(lines) }
        });
        held.pop();
        eventually(PATIENCE, "a place that is free again is given", || {
            let mut client = connect(&weir);
            client.read_exact(&mut [0]).is_ok()
        });
        held.clear();
        eventually(PATIENCE, "all have ended", || weir.metric("weir_tcp_sessions_open", &[]) == Some(0.0));
        // Each session is one line and one count.
        let lines = eventually(PATIENCE, "all are logged", || {
            let lines = log_lines(&weir).len();
            let counted = weir.metric("weir_tcp_sessions_total", &[]);
            if counted == Some(lines as f64) { Ok(lines) } else { Err((lines, counted)) }
        });
        assert!(lines >= 14);
    }
}

#[test]
fn redis_works_through_it() {
    let dir = TempDir::new("redis");
    let port = free_port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(dir.path());
    let mut redis = Process::spawn("redis", command, dir.path());
    redis.wait_connect((Ipv4Addr::LOCALHOST, port).into(), PATIENCE);
    let weir = tcp(&[port], "");
    let cli = |args: &[&str]| {
        let mut command = Command::new("redis-cli");
        let output = command.args(["-h", "127.0.0.1", "-p", &weir.port().to_string()]).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(cli(&["SET", "river", "weir"]), "OK");
    assert_eq!(cli(&["GET", "river"]), "weir");
    // Pipelining over one connection: replies in order.
    let mut client = connect(&weir);
    let (mut commands, mut wanted) = (Vec::new(), Vec::new());
    for n in 0..10_000 {
        let len = n.to_string().len();
        write!(commands, "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n*2\r\n$4\r\nECHO\r\n${len}\r\n{n}\r\n").unwrap();
        write!(wanted, ":{}\r\n${len}\r\n{n}\r\n", n + 1).unwrap();
    }
    let mut writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&commands).unwrap());
    let mut got = vec![0; wanted.len()];
    client.read_exact(&mut got).unwrap();
    writing.join().unwrap();
    assert!(got == wanted, "replies differ");
    // A value of several megabytes.
    let value = "v".repeat(5_000_000);
    client.write_all(format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n{value}\r\n", value.len()).as_bytes()).unwrap();
    let mut ok = [0; 5];
    client.read_exact(&mut ok).unwrap();
    assert_eq!(&ok, b"+OK\r\n");
    assert_eq!(cli(&["STRLEN", "big"]), "5000000");
}
