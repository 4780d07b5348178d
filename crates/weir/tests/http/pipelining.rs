//! Clients that send ahead without reading: what they send stays with them and what they are owed stays at the
//! endpoint, so that neither grows in Weir.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use weir_test::{Client, Hostile, Origin, PATIENCE, Reply, Step, eventually};

use crate::setup::{Setup, front_of, resident_kib};

/// What Weir may grow by, in KiB: far less than what these clients send or are owed.
const GROWTH_KIB: u64 = 16 * 1024;

/// Waits until a count has not moved for a while, or is at its end.
fn wait_for_standstill(count: impl Fn() -> usize, end: usize) -> usize {
    let (mut last, mut since) = (count(), Instant::now());
    eventually(PATIENCE, "nothing moves any more", || {
        let now = count();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if now == end || since.elapsed() > Duration::from_millis(700) { Ok(now) } else { Err(now) }
    })
}

/// Guards against serving on while the client does not read: its responses would pile up without a bound.
#[test]
fn responses_that_are_not_read_stop_the_requests_behind_them() {
    // Much more than the kernel keeps for a connection.
    const REQUESTS: usize = 4_000;
    const BODY: usize = 16 * 1024;
    let padding = "x".repeat(BODY);
    let origin = Origin::start(move |request| Reply::text(format!("{}{padding}", request.target())));
    let mut weir = front_of(&origin);
    let before = resident_kib(&mut weir);
    let mut client = weir.client();
    let mut writer = client.stream().try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for n in 0..REQUESTS {
            writer.write_all(format!("GET /{n}/ HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
        }
    });
    let answered = wait_for_standstill(|| origin.answered(), REQUESTS);
    let grown = resident_kib(&mut weir).saturating_sub(before);
    assert!(answered < REQUESTS, "all {REQUESTS} requests were served to a client that reads nothing");
    assert!(grown < GROWTH_KIB, "resident memory grew by {grown} KiB with {answered} responses unread");
    // Now it reads, and gets every response, in order.
    for n in 0..REQUESTS {
        let response = client.read_response().unwrap();
        assert!(response.text().starts_with(&format!("/{n}/x")), "response {n}: {}", &response.text()[..20]);
        assert_eq!(response.body.len(), BODY + format!("/{n}/").len());
    }
    writing.join().unwrap();
    assert_eq!(client.get("/after/").unwrap().status, 200);
}

/// Guards against reading on after each response while much is stashed already: a client that sends faster than it is
/// served would have all it sends in Weir's memory.
#[test]
fn requests_sent_faster_than_served_wait_in_the_kernel() {
    const SERVED: usize = 1_500;
    const SENT: usize = 96 << 20;
    let state = Arc::new((Mutex::new(0), Condvar::new()));
    let inner = Arc::clone(&state);
    let origin = Origin::start(move |_| {
        let mut served = inner.0.lock().unwrap();
        while *served >= SERVED {
            // The rest is held until the end of the test.
            served = inner.1.wait(served).unwrap();
        }
        *served += 1;
        Reply::text("x")
    });
    let mut weir = front_of(&origin);
    let before = resident_kib(&mut weir);
    let mut client = weir.client();
    let mut writer = client.stream().try_clone().unwrap();
    let written = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&written);
    let writing = std::thread::spawn(move || {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Padding: {}\r\n\r\n", "p".repeat(8 * 1024));
        for _ in 0..SENT / request.len() {
            if writer.write_all(request.as_bytes()).is_err() {
                return;
            }
            *counter.lock().unwrap() += request.len();
        }
    });
    for n in 0..SERVED {
        assert_eq!(client.read_response().unwrap().status, 200, "response {n}");
    }
    let sent = wait_for_standstill(|| *written.lock().unwrap(), SENT);
    let grown = resident_kib(&mut weir).saturating_sub(before);
    assert!(
        grown < GROWTH_KIB,
        "resident memory grew by {grown} KiB: {sent} bytes were taken, {SERVED} requests served"
    );
    let _ = client.stream().shutdown(std::net::Shutdown::Both);
    writing.join().unwrap();
    *state.0.lock().unwrap() = 0;
    state.1.notify_all();
}

/// Guards against interim responses that pile up before a client that does not read: they have no number.
#[test]
fn interim_responses_that_are_not_read_stay_at_the_endpoint() {
    const INTERIM: usize = 1_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let timeouts = "response_head = \"1m\"";
    let mut weir = Setup::port(listener.local_addr().unwrap().port()).table("timeouts", timeouts).run();
    let before = resident_kib(&mut weir);
    let mut client = weir.client();
    client.send_raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let (mut endpoint, _) = listener.accept().unwrap();
    let sent = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&sent);
    let writing = std::thread::spawn(move || {
        let interim = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "l".repeat(30_000));
        for _ in 0..INTERIM {
            endpoint.write_all(interim.as_bytes()).unwrap();
            *counter.lock().unwrap() += 1;
        }
        endpoint.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        endpoint
    });
    let taken = wait_for_standstill(|| *sent.lock().unwrap(), INTERIM);
    let grown = resident_kib(&mut weir).saturating_sub(before);
    assert!(grown < GROWTH_KIB, "resident memory grew by {grown} KiB: {taken} interim responses were taken");
    assert!(taken < INTERIM, "all {INTERIM} interim responses were taken for a client that reads nothing");
    for _ in 0..INTERIM {
        assert!(client.read_head().unwrap().start_line.starts_with("HTTP/1.1 103 "));
    }
    assert_eq!(client.read_response().unwrap().text(), "ok");
    writing.join().unwrap();
}

/// Guards against a pause for the sake of the stash while the stash holds a part of the running request: its end would
/// never be read.
#[test]
fn a_trailer_section_longer_than_the_stash_is_read_to_its_end() {
    let body = "3\r\nabc\r\n";
    let trailers = |range: std::ops::Range<u32>| -> String {
        range.map(|n| format!("T{n}: {}", "t".repeat(10_000))).collect::<Vec<_>>().join("\r\n") + "\r\n"
    };
    // More than the stash holds comes at once, and not all of it.
    let (first, second) = (format!("0\r\n{}", trailers(0..5)), format!("{}\r\n", trailers(5..20)));
    let size = body.len() + first.len() + second.len();
    let server = Hostile::always(vec![Step::ReadHead, Step::ReadBytes(size), Step::ok("all")]);
    let limits = "[listener.limits]\ntrailer_size = \"256KiB\"\n[listener.timeouts]\nidle = \"5s\"";
    let weir = Setup::port(server.port()).listener(limits).run();
    let mut client = weir.client();
    client.send_raw(format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).unwrap();
    eventually(PATIENCE, "the request is at the endpoint", || server.heads().len() == 1);
    client.send_raw(first).unwrap();
    std::thread::park_timeout(Duration::from_millis(100));
    client.send_raw(second).unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "all"));
}

/// Guards against a client that half-closes behind what it sent ahead: all of it is answered, then comes the end.
#[test]
fn what_was_sent_ahead_of_a_half_close_is_answered() {
    const REQUESTS: usize = 2_000;
    let origin = Origin::start(|request| Reply::text(request.target()));
    let weir = front_of(&origin);
    let mut client: Client = weir.client();
    let mut writer: TcpStream = client.stream().try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let all: Vec<String> = (0..REQUESTS).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
        writer.write_all(all.concat().as_bytes()).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    for n in 0..REQUESTS {
        assert_eq!(client.read_response().unwrap().text(), format!("/{n}"));
    }
    writing.join().unwrap();
    assert_eq!(client.read_to_end(), Ok(Vec::new()));
}
