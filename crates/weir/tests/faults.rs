//! What clients see while endpoints misbehave: servers that are killed, stopped, slow, broken or unreachable.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

mod common;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::{config, endpoint, endpoints, how_it_ended, log_line, start, timed, wait_health};
use rustix::process::Signal;
use weir_test::{
    Client, ClientError, Hostile, Load, LoadOptions, Nginx, Origin, PATIENCE, Reply, Step, Weir, eventually, free_port,
};

/// Time-outs in these tests are short; with a loaded machine in mind, an answer "at once" may take this long.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Probes that find out quickly.
const FAST_HEALTH: &str =
    "[cluster.c.health]\ninterval = \"300ms\"\nfast_interval = \"50ms\"\ntimeout = \"200ms\"\nrise = 1\nfall = 2\n";

fn named_nginx(name: &str) -> Nginx {
    Nginx::run(&named(name))
}

fn named(name: &str) -> String {
    format!("    location / {{ return 200 \"{name}\"; }}")
}

/// A cluster of three nginx under load.
struct Three {
    servers: [Nginx; 3],
    weir: Weir,
}

impl Three {
    fn start(rest: &str) -> Self {
        let servers = [named_nginx("a"), named_nginx("b"), named_nginx("c")];
        let ports = servers.each_ref().map(Nginx::port);
        let weir = start(&config(2, &(endpoints(&ports) + rest)));
        Self { servers, weir }
    }

    fn load(&self) -> Load {
        let load = Load::start(&LoadOptions::gets(self.weir.port(), 48, 5_000));
        eventually(PATIENCE, "all three serve", || {
            let tally = load.so_far();
            let seen = ["a", "b", "c"].map(|name| tally.body(name));
            if seen.iter().all(|n| *n > 500) { Ok(()) } else { Err(tally) }
        });
        load
    }
}

#[allow(clippy::print_stdout, reason = "the rate belongs to the result")]
fn report(what: &str, tally: &weir_test::Tally) {
    println!(
        "{what}: {} responses in {:.2} s = {:.0}/s, {} errors, slowest {:?}, by server {:?}",
        tally.responses(),
        tally.took.as_secs_f64(),
        tally.rate(),
        tally.errors,
        tally.slowest,
        tally.bodies
    );
}

#[test]
fn heavy_a_killed_server_costs_no_request_and_is_used_again_when_it_is_back() {
    let mut three = Three::start(FAST_HEALTH);
    let load = three.load();
    let port = three.servers[0].port();
    three.servers[0].process().kill();
    wait_health(&three.weir, port, "down");
    let before = load.so_far();
    eventually(PATIENCE, "traffic goes on without it", || load.so_far().responses() > before.responses() + 2_000);
    let without = load.so_far();
    assert_eq!(without.body("a"), before.body("a"), "a killed server cannot have answered");

    three.servers[0] = Nginx::run_on(port, &named("a"));
    wait_health(&three.weir, port, "up");
    eventually(PATIENCE, "the server that came back serves", || load.so_far().body("a") > without.body("a") + 200);
    let tally = load.stop();
    report("kill -9 and back", &tally);
    tally.assert_all_ok();
}

#[test]
fn heavy_traffic_leaves_a_stopped_server_and_what_hung_there_is_retried() {
    // Probes by TCP succeed at a stopped server (the kernel accepts for it): only its silence tells.
    let mut three = Three::start(
        "[cluster.c.timeouts]\nresponse_head = \"300ms\"\n[cluster.c.outlier]\nconsecutive_failures = 5\nbase_ejection = \"30s\"\n",
    );
    let load = three.load();
    let port = three.servers[1].port();
    let at_stop = load.so_far();
    three.servers[1].process().signal_group(Signal::STOP);
    wait_health(&three.weir, port, "ejected");
    let took = load.so_far().took.saturating_sub(at_stop.took);
    let before = load.so_far();
    eventually(PATIENCE, "traffic goes on without it", || load.so_far().responses() > before.responses() + 2_000);
    let tally = load.stop();
    three.servers[1].process().signal_group(Signal::CONT);
    report(&format!("SIGSTOP (ejected after {took:?})"), &tally);
    tally.assert_all_ok();
    assert!(took < Duration::from_secs(3), "ejected only after {took:?}");
    // Two stopped attempts in a row at the very most, and one that works.
    assert!(tally.slowest < Duration::from_secs(3), "slowest {:?}", tally.slowest);
    assert!(three.weir.metric("weir_retries_total", &[]).unwrap() >= 5.0);
    assert_eq!(endpoint(&three.weir, port)["ejections"], 1);
}

#[test]
fn heavy_a_stopped_server_is_found_by_http_probes_and_is_used_again_when_it_goes_on() {
    let health = FAST_HEALTH.to_owned()
        + "http = \"/\"\n[cluster.c.timeouts]\nresponse_head = \"300ms\"\n[cluster.c.outlier]\nenabled = false\n";
    let mut three = Three::start(&health);
    let load = three.load();
    let port = three.servers[2].port();
    three.servers[2].process().signal_group(Signal::STOP);
    wait_health(&three.weir, port, "down");
    three.servers[2].process().signal_group(Signal::CONT);
    wait_health(&three.weir, port, "up");
    let before = load.so_far();
    eventually(PATIENCE, "it serves again", || load.so_far().body("c") > before.body("c") + 200);
    let tally = load.stop();
    report("SIGSTOP and CONT", &tally);
    tally.assert_all_ok();
}

#[test]
fn all_down_is_told_at_once() {
    // With a panic threshold the endpoints are tried all the same; without (the default), nobody is asked.
    for (panic, reason, end) in
        [("panic_threshold = \"50%\"\n", "connect_refused", "U:connect"), ("", "no_endpoint", "W:pick")]
    {
        let ports = [free_port(), free_port(), free_port()];
        let rest = panic.to_owned() + "[cluster.c.health]\nfall = 1\nrise = 1\n";
        let weir = start(&config(2, &(endpoints(&ports) + &rest)));
        for port in ports {
            wait_health(&weir, port, "down");
        }
        let (response, took) = timed(|| weir.get("/down"));
        assert_eq!((response.status, response.field("weir-reason")), (503, Some(reason)));
        assert!(took < AT_ONCE, "{took:?}");
        assert_eq!(how_it_ended(&weir, "/down"), (end.to_owned(), reason.to_owned()));
    }
}

#[test]
fn refused_connections_go_to_another_endpoint_and_mark_the_first_down_at_once() {
    let origin = Origin::named("ok");
    let gone = free_port();
    // No probe takes part: whatever is known is known from the traffic.
    let rest = "[cluster.c.health]\ninterval = \"1h\"\n";
    let server = Origin::start_on(gone, |_| Reply::text("gone"));
    let weir = start(&config(1, &(endpoints(&[gone, origin.port()]) + rest)));
    wait_health(&weir, gone, "up");
    drop(server);
    eventually(PATIENCE, "the port is closed", || TcpStream::connect((Ipv4Addr::LOCALHOST, gone)).is_err());
    let served_at_once = || {
        let (response, took) = timed(|| weir.get("/"));
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        assert!(took < AT_ONCE, "{took:?}");
    };
    let failures = || endpoint(&weir, gone)["failures"].as_u64().unwrap();
    // One of two requests meets it; that one refusal is enough.
    served_at_once();
    if failures() == 0 {
        served_at_once();
    }
    wait_health(&weir, gone, "down");
    assert_eq!(failures(), 1);
    for _ in 0..4 {
        served_at_once();
    }
    assert_eq!(failures(), 1, "one that is down is not tried");
}

#[test]
fn a_slow_head_is_a_504_for_a_post_and_retried_for_a_get() {
    let slow = Hostile::always(vec![Step::ReadHead, Step::Hang]);
    let rest = "balance = \"round_robin\"\n[cluster.c.timeouts]\nresponse_head = \"150ms\"\n[cluster.c.outlier]\nenabled = false\n";
    let alone = start(&config(1, &(endpoints(&[slow.port()]) + rest)));
    let (response, took) = timed(|| alone.get("/slow"));
    assert_eq!((response.status, response.field("weir-reason")), (504, Some("response_head_timeout")));
    assert!(took >= Duration::from_millis(150) && took < Duration::from_secs(2), "{took:?}");
    assert_eq!(how_it_ended(&alone, "/slow"), ("U:await".to_owned(), "response_head_timeout".to_owned()));
    // The only endpoint has been tried: there is no other for a second attempt.
    assert_eq!(log_line(&alone, "/slow")["status"], 504);

    let good = Origin::named("good");
    let both = start(&config(1, &(endpoints(&[slow.port(), good.port()]) + rest)));
    for n in 0..4 {
        let response = both.get(&format!("/get{n}"));
        assert_eq!((response.status, response.text().as_str()), (200, "good"));
    }
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let mut client = both.client();
        client.send_raw("POST /post HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        statuses.push(client.read_response().unwrap().status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 504, 504], "a POST is never sent twice");
}

/// A response that is cut: (what the endpoint sends, and the reason in the log).
fn cut(sent: &str, last: Step, reason: &str) {
    let server = Hostile::always(vec![Step::ReadHead, Step::send(sent), Step::Wait(Duration::from_millis(50)), last]);
    let weir = start(&config(1, &endpoints(&[server.port()])));
    let result = weir.client().get("/cut");
    assert!(
        matches!(&result, Err(ClientError::Truncated(_) | ClientError::Reset(_))),
        "{sent:?}: the client took it for complete: {result:?}"
    );
    let (end, said) = how_it_ended(&weir, "/cut");
    assert_eq!((end.as_str(), said.as_str()), ("U:relay", reason), "{sent:?}");
    assert_eq!(log_line(&weir, "/cut")["status"], 200);
}

#[test]
fn a_response_that_is_cut_never_looks_complete() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let within = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    cut(length, Step::HalfClose, "upstream_truncated");
    cut(length, Step::Reset, "upstream_reset");
    cut(chunked, Step::HalfClose, "upstream_truncated");
    cut(chunked, Step::Reset, "upstream_reset");
    cut(within, Step::HalfClose, "upstream_truncated");
    cut(within, Step::Reset, "upstream_reset");
    cut("HTTP/1.1 200 OK\r\n\r\nuntil close", Step::Reset, "upstream_reset");
    // Long enough to be moved by the kernel.
    let pumped = format!("HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n{}", "x".repeat(1_000_000));
    cut(&pumped, Step::HalfClose, "upstream_truncated");
    cut(&pumped, Step::Reset, "upstream_reset");
}

#[test]
fn a_broken_chunk_frame_never_looks_complete() {
    let server = Hostile::always(vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
        Step::Hang,
    ]);
    let weir = start(&config(1, &endpoints(&[server.port()])));
    let result = weir.client().get("/chunk");
    assert!(matches!(&result, Err(ClientError::Truncated(_) | ClientError::Reset(_))), "{result:?}");
    assert_eq!(how_it_ended(&weir, "/chunk"), ("U:relay".to_owned(), "bad_response_body".to_owned()));
}

#[test]
fn a_response_body_that_pauses_too_long_is_cut() {
    let server = Hostile::always(vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this"),
        Step::Hang,
    ]);
    let rest = "[cluster.c.timeouts]\nidle = \"200ms\"\n";
    let weir = start(&config(1, &(endpoints(&[server.port()]) + rest)));
    let (result, took) = timed(|| weir.client().get("/pause"));
    assert!(matches!(&result, Err(ClientError::Truncated(_) | ClientError::Reset(_))), "{result:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(how_it_ended(&weir, "/pause"), ("U:relay".to_owned(), "response_body_timeout".to_owned()));
}

#[test]
fn garbage_is_a_502() {
    for (name, step) in [
        ("noise", Step::Garbage { count: 3_000, seed: 3 }),
        ("text", Step::send("hello, this is not HTTP\r\n\r\n")),
        ("two lengths", Step::send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")),
        ("bad version", Step::send("HTTP/3.7 200 OK\r\n\r\n")),
    ] {
        let server = Hostile::always(vec![Step::ReadHead, step, Step::Hang]);
        let weir = start(&config(1, &endpoints(&[server.port()])));
        let response = weir.get("/garbage");
        assert_eq!((response.status, response.field("weir-reason")), (502, Some("bad_response")), "{name}");
        assert_eq!(how_it_ended(&weir, "/garbage"), ("U:await".to_owned(), "bad_response".to_owned()), "{name}");
    }
}

#[test]
fn a_close_or_reset_before_the_head_is_a_502_with_its_reason() {
    for (step, reason) in [(Step::HalfClose, "upstream_closed"), (Step::Reset, "upstream_reset")] {
        let server = Hostile::always(vec![Step::ReadHead, step]);
        let weir = start(&config(1, &endpoints(&[server.port()])));
        let mut client = weir.client();
        client.send_raw("POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        let response = client.read_response().unwrap();
        assert_eq!((response.status, response.field("weir-reason")), (502, Some(reason)));
        assert_eq!(how_it_ended(&weir, "/early"), ("U:await".to_owned(), reason.to_owned()));
        let posts = server.heads().iter().filter(|head| head.start_line.starts_with("POST")).count();
        assert_eq!(posts, 1, "a POST is never sent twice");
    }
}

#[test]
fn a_response_before_the_end_of_the_request_body_reaches_the_client() {
    let early = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
    for last in [Step::ReadUntilClosed, Step::HalfClose] {
        let server = Hostile::always(vec![Step::ReadHead, Step::send(early), last]);
        let weir = start(&config(1, &endpoints(&[server.port()])));
        let mut client = weir.client();
        client.send_raw("POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: 50000000\r\n\r\n").unwrap();
        client.send_raw(vec![b'x'; 100_000]).unwrap();
        let response = client.read_response().unwrap();
        assert_eq!((response.status, response.text().as_str()), (413, "big"));
    }
}

#[test]
fn an_endpoint_that_closes_each_connection_after_its_response_costs_nobody_a_request() {
    // No `Connection: close`: the close comes as a surprise, at the moment when the connection is used again.
    let closing = Hostile::start(|_| vec![Step::ReadHead, Step::ok("x")]);
    let weir = start(&config(2, &endpoints(&[closing.port()])));
    let gets = Load::start(&LoadOptions::gets(weir.port(), 4, 400));
    let post = "POST / HTTP/1.1\r\nHost: load\r\nContent-Length: 0\r\n\r\n".to_owned();
    let posts = Load::start(&LoadOptions { request: post, ..LoadOptions::gets(weir.port(), 4, 400) });
    eventually(PATIENCE, "1,000 of each", || gets.so_far().responses() >= 1_000 && posts.so_far().responses() >= 1_000);
    let (gets, posts) = (gets.stop(), posts.stop());
    gets.assert_all_ok();
    // The close can cross a POST on the wire; nobody can repeat that one. Each worker learns from the first close of an
    // idle connection that this endpoint keeps none, and gives no further POST an old one.
    report("POSTs to a closing endpoint", &posts);
    assert!(posts.errors == 0 && posts.status(200) + 2 >= posts.responses(), "{posts:#?}");
}

#[test]
fn a_post_avoids_old_connections_of_an_endpoint_that_announces_a_short_keep_alive() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: max=9, timeout=0\r\n\r\n";
    let server = Hostile::always(vec![Step::ReadHead, Step::send(response), Step::Repeat]);
    let health = "[cluster.c.health]\nenabled = false\n";
    let limit = health.to_owned() + "[cluster.c.pool]\nmax_connections = 1\n";
    // With the maximum reached, the old connection makes room.
    for rest in [health, limit.as_str()] {
        let weir = start(&config(1, &(endpoints(&[server.port()]) + rest)));
        let before = server.connections();
        let mut client = weir.client();
        for (method, connections) in [("GET", 1), ("GET", 1), ("POST", 2), ("PUT", 2), ("POST", 3)] {
            client.send_raw(format!("{method} / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n")).unwrap();
            assert_eq!(client.read_response().unwrap().status, 200);
            assert_eq!(server.connections() - before, connections, "{method}");
        }
    }
}

#[test]
fn a_restarting_server_closes_all_idle_connections_and_no_post_meets_one() {
    let origin = Origin::named("ok");
    let weir = start(&config(1, &endpoints(&[origin.port()])));
    let mut clients: Vec<Client> = (0..8).map(|_| weir.client()).collect();
    for round in 0..20 {
        for client in &mut clients {
            client.send_raw("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        }
        for client in &mut clients {
            assert_eq!(client.read_response().unwrap().status, 200, "round {round}");
        }
        origin.close_connections();
        // The server has closed; whether Weir has noticed by then is its own affair.
        eventually(PATIENCE, "the server has closed all", || origin.open_connections() == 0);
    }
}

#[test]
fn retries_take_no_turn_of_other_requests() {
    for balance in ["round_robin", "weighted_round_robin"] {
        let bad = Hostile::always(vec![Step::ReadHead, Step::Reset]);
        let good = [Origin::named("a"), Origin::named("b")];
        let quiet = "[cluster.c.health]\nenabled = false\n[cluster.c.outlier]\nenabled = false\n\
                     [cluster.c.retry]\nmin_per_second = 1000\n";
        let ports = endpoints(&[bad.port(), good[0].port(), good[1].port()]);
        let weir = start(&config(1, &(ports + &format!("balance = \"{balance}\"\n") + quiet)));
        for _ in 0..60 {
            assert_eq!(weir.get("/").status, 200);
        }
        // A third of the requests, not half of them; what it failed is shared by the others.
        assert_eq!((bad.heads().len(), good[0].answered(), good[1].answered()), (20, 30, 30), "{balance}");
    }
}

/// A listener whose queue of connections is full: the kernel answers no SYN any more.
struct Blackhole {
    listener: TcpListener,
    _held: Vec<std::thread::JoinHandle<()>>,
}

impl Blackhole {
    fn start() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        listen(&socket, 0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        // A queue of length 0 takes one connection; a few more make sure.
        let held = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(30));
                    // Kept until the listener is gone.
                    if let Ok(mut stream) = stream {
                        let _ = std::io::Read::read(&mut stream, &mut [0]);
                    }
                })
            })
            .collect();
        eventually(PATIENCE, "the queue is full", || {
            TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_err()
        });
        Self { listener, _held: held }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }
}

#[test]
fn an_endpoint_that_answers_no_connect_is_a_timeout() {
    let hole = Blackhole::start();
    let rest = "[cluster.c.timeouts]\nconnect = \"150ms\"\n[cluster.c.health]\nenabled = false\n[cluster.c.outlier]\nenabled = false\n";
    let alone = start(&config(1, &(endpoints(&[hole.port()]) + rest)));
    let (response, took) = timed(|| alone.get("/hole"));
    assert_eq!((response.status, response.field("weir-reason")), (503, Some("connect_timeout")));
    assert!(took >= Duration::from_millis(150) && took < Duration::from_secs(2), "{took:?}");
    assert_eq!(how_it_ended(&alone, "/hole").1, "connect_timeout");

    let good = Origin::named("good");
    let both = start(&config(1, &(endpoints(&[hole.port(), good.port()]) + rest)));
    for _ in 0..4 {
        let mut client = both.client();
        // Nothing was sent: even a POST goes to the other endpoint.
        client.send_raw("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        assert_eq!(client.read_response().unwrap().text(), "good");
    }
}

#[test]
fn heavy_ten_gibibytes_pass_in_flat_memory() {
    const SIZE: u64 = 10 << 30;
    let server = Hostile::always(vec![
        Step::ReadHead,
        Step::send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")),
        Step::Endless(vec![b'x'; 1 << 20]),
    ]);
    let mut weir = start(&config(1, &endpoints(&[server.port()])));
    let pid = weir.process().pid();
    let before = resident_kib(pid);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, weir.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /big HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let ((peak, got), took) = timed(|| discard(&mut stream, SIZE, pid));
    assert_eq!(got, SIZE);
    let rate = SIZE as f64 / took.as_secs_f64() / 1e9;
    println!("10 GiB in {took:?} = {rate:.2} GB/s; resident {before} KiB before, {peak} KiB at most meanwhile");
    assert!(peak < before + 8 * 1024, "resident memory grew from {before} KiB to {peak} KiB");
    assert!(took < Duration::from_mins(2), "{took:?}");
    assert_eq!(log_line(&weir, "/big")["end"], "-");
}

/// Reads a response and drops its body of `size` bytes: the peak of resident memory meanwhile, and the bytes that came.
fn discard(stream: &mut TcpStream, size: u64, pid: u32) -> (u64, u64) {
    use std::io::Read as _;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let (mut peak, mut got, mut since_look) = (0, 0, 0);
    let mut buffer = vec![0; 1 << 20];
    while got < size {
        let want = usize::try_from(size - got).unwrap_or(usize::MAX).min(buffer.len());
        match stream.read(&mut buffer[..want]).unwrap() {
            0 => break,
            n => {
                got += n as u64;
                since_look += n;
            }
        }
        if since_look > 64 << 20 {
            since_look = 0;
            peak = peak.max(resident_kib(pid));
        }
    }
    (peak, got)
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_child_process_that_dies_amid_responses_is_seen_as_cut_and_not_repeated() {
    // The response has begun: the client must be told the truth, not given a second copy.
    let server = Hostile::always(vec![
        Step::ReadHead,
        Step::Dribble {
            bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789".to_vec(),
            size: 20,
            every: Duration::from_millis(10),
        },
        Step::Reset,
    ]);
    let other = Origin::named("other");
    let weir = start(&config(1, &(endpoints(&[server.port(), other.port()]) + "balance = \"round_robin\"\n")));
    let results: Vec<_> = (0..2).map(|_| weir.client().get("/begun")).collect();
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1, "{results:?}");
    assert_eq!(other.answered(), 1);
}
