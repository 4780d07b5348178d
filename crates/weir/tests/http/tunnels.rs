//! Tunnels are counted until they end, however they end; and what times a request does not time the tunnel behind it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;
use weir_test::{Client, Hostile, PATIENCE, Step, Weir, eventually};

use crate::setup::{Setup, front};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: test/1\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: test/1\r\nConnection: upgrade\r\n\r\n";

fn open_tunnel(weir: &Weir) -> Client {
    let mut client = weir.client();
    client.send_raw(ASK).unwrap();
    assert!(client.read_head().unwrap().start_line.starts_with("HTTP/1.1 101 "));
    client
}

fn wait_open(weir: &Weir, count: f64, what: &str) {
    eventually(PATIENCE, what, || match weir.metric("weir_tunnels_open", &[]) {
        Some(n) if (n - count).abs() < 0.5 => Ok(()),
        other => Err(other),
    });
}

/// Guards against a gauge that only some of a tunnel's ends count down, or that one of them counts down twice.
#[test]
fn every_way_to_end_is_counted_once() {
    type End = fn(Client);
    fn closes(client: Client) {
        drop(client);
    }
    fn half_closes_and_waits(mut client: Client) {
        client.half_close();
        let _ = client.read_to_end();
    }
    fn half_closes_and_resets(mut client: Client) {
        client.half_close();
        client.reset();
    }
    fn speaks_and_waits(mut client: Client) {
        client.send_raw("end").unwrap();
        let _ = client.read_to_end();
    }
    fn reads_the_end_then_speaks(mut client: Client) {
        assert_eq!(client.read_to_end(), Ok(Vec::new()));
        client.send_raw("end").unwrap();
        let _ = client.read_to_end();
        client.half_close();
    }
    let quiet = vec![Step::ReadUntilClosed];
    let ways: Vec<(&str, Vec<Step>, End)> = vec![
        ("the client closes", quiet.clone(), closes),
        ("the client half-closes, the endpoint follows", quiet.clone(), half_closes_and_waits),
        ("the client resets", quiet.clone(), Client::reset),
        ("the client half-closes and resets", vec![Step::ReadUntilClosed, Step::Hang], half_closes_and_resets),
        ("the endpoint closes", vec![Step::ReadBytes(3)], speaks_and_waits),
        ("the endpoint resets", vec![Step::ReadBytes(3), Step::Reset], speaks_and_waits),
        ("the endpoint closes at once", vec![], half_closes_and_waits),
        ("the endpoint resets at once", vec![Step::Reset], half_closes_and_waits),
        // Its direction has ended: no pump reads there any more, and the reset comes as an event of its own.
        (
            "the endpoint half-closes and resets",
            vec![Step::HalfClose, Step::ReadBytes(3), Step::Reset],
            reads_the_end_then_speaks,
        ),
        ("nothing moves", vec![Step::Hang], |mut client| drop(client.read_to_end())),
    ];
    let scripts: Vec<Vec<Step>> =
        ways.iter().map(|(_, steps, _)| [vec![Step::ReadHead, Step::send(SWITCH)], steps.clone()].concat()).collect();
    let server = Hostile::start(move |number| scripts[number].clone());
    let weir = Setup::port(server.port()).table("timeouts", "tunnel_idle = \"2s\"").run();
    for (number, (name, _, end)) in ways.into_iter().enumerate() {
        let client = open_tunnel(&weir);
        eventually(PATIENCE, "it is counted", || weir.metric("weir_tunnels_total", &[]) == Some(number as f64 + 1.0));
        end(client);
        wait_open(&weir, 0.0, name);
    }
}

/// Guards against a gauge that keeps the tunnels which end while Weir stops.
#[test]
fn a_tunnel_that_ends_during_a_stop_is_counted_once() {
    let switch = vec![Step::ReadHead, Step::send(SWITCH), Step::ReadUntilClosed];
    let server = Hostile::always(switch);
    let mut weir = front(&server);
    let (first, last) = (open_tunnel(&weir), open_tunnel(&weir));
    wait_open(&weir, 2.0, "two tunnels");
    weir.process().signal(Signal::TERM);
    weir.process().wait_log("stopping", PATIENCE);
    first.reset();
    wait_open(&weir, 1.0, "one of them ended");
    assert!(weir.process().is_running(), "the other one goes on");
    drop(last);
    assert_eq!(weir.process().wait_exit(PATIENCE).code(), Some(0));
}

/// Guards against the route's deadline, or the time-out between two bytes of a body, taking a tunnel's time-out's place
/// once bytes have moved.
#[test]
fn a_tunnel_lives_by_its_own_time_out_alone() {
    let every = Duration::from_millis(500);
    let server = Hostile::always(vec![
        Step::ReadHead,
        Step::send(SWITCH),
        Step::Dribble { bytes: b"0123456789".to_vec(), size: 1, every },
    ]);
    let weir = Setup::port(server.port())
        .table("timeouts", "tunnel_idle = \"2s\"\nidle = \"100ms\"")
        .listener("[listener.timeouts]\nidle = \"100ms\"")
        .rest("[[route]]\npath = \"/ws\"\ncluster = \"web\"\ndeadline = \"1s\"")
        .run();
    let mut client = open_tunnel(&weir);
    assert_eq!(client.read_bytes(10).unwrap(), b"0123456789");
}

/// An endpoint that sends more interim responses than the kernel keeps for a client that does not read, then `last`. The
/// client begins to read them when it has been behind for a while, and has read them all.
fn behind_many_interim_responses(last: &'static str) -> (Weir, Client, TcpStream) {
    const INTERIM: usize = 1_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let weir = Setup::port(listener.local_addr().unwrap().port())
        .table("timeouts", "tunnel_idle = \"1h\"\nidle = \"100ms\"\nresponse_head = \"30s\"")
        .run();
    let mut client = weir.client();
    client.send_raw(ASK).unwrap();
    let (mut endpoint, _) = listener.accept().unwrap();
    let mut head = [0; 4096];
    let n = endpoint.read(&mut head).unwrap();
    assert!(head[..n].ends_with(b"\r\n\r\n"));
    let interim = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "l".repeat(25_000));
    let writing = std::thread::spawn(move || {
        for _ in 0..INTERIM {
            endpoint.write_all(interim.as_bytes()).unwrap();
        }
        endpoint.write_all(last.as_bytes()).unwrap();
        endpoint
    });
    std::thread::park_timeout(Duration::from_millis(500));
    for _ in 0..INTERIM {
        assert!(client.read_head().unwrap().start_line.starts_with("HTTP/1.1 103 "));
    }
    (weir, client, writing.join().unwrap())
}

/// Guards against the drained client of a running request getting the time-out between two bytes of a body, while what
/// is awaited is a response head.
#[test]
fn a_client_that_has_read_its_interim_responses_still_awaits_the_head() {
    let (_weir, mut client, mut endpoint) = behind_many_interim_responses("");
    std::thread::park_timeout(Duration::from_millis(700));
    endpoint.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "late"));
}

/// Guards against the same of a tunnel.
#[test]
fn a_tunnel_whose_client_has_caught_up_may_be_quiet() {
    let (weir, mut client, mut endpoint) = behind_many_interim_responses(SWITCH);
    assert!(client.read_head().unwrap().start_line.starts_with("HTTP/1.1 101 "));
    wait_open(&weir, 1.0, "the tunnel is open");
    std::thread::park_timeout(Duration::from_millis(700));
    endpoint.write_all(b"late").unwrap();
    assert_eq!(client.read_bytes(4).unwrap(), b"late");
}

/// Guards against a body that keeps moving putting off the route's deadline for ever.
#[test]
fn a_deadline_ends_a_response_that_keeps_moving() {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", u64::MAX / 2);
    let server = Hostile::always(vec![Step::ReadHead, Step::send(head), Step::Endless(vec![b'x'; 1 << 16])]);
    let weir = Setup::port(server.port())
        .rest("[[route]]\npath = \"/moves\"\ncluster = \"web\"\ndeadline = \"700ms\"")
        .rest("[access_log]\npath = \"{dir}/access.log\"")
        .run();
    let mut client = weir.client();
    client.send_raw("GET /moves HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    client.read_head().unwrap();
    // The reader is fast: something has moved whenever the deadline is looked at.
    let mut stream = client.stream().try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
    });
    eventually(PATIENCE, "the response is cut", || reading.is_finished());
    let log = eventually(PATIENCE, "a line in the log", || {
        std::fs::read_to_string(weir.dir().join("access.log")).ok().filter(|text| text.contains("/moves"))
    });
    assert!(log.contains("\"reason\":\"deadline\""), "{log}");
}
