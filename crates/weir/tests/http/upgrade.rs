//! Upgrades: a tunnel after the 101 and only then.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use tungstenite::Message;
use weir_test::{Hostile, Origin, PATIENCE, Step, Weir, eventually};

use crate::setup::{Setup, answering, ask, assert_closed, front, front_of};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: test/1\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: test/1\r\nConnection: upgrade\r\n\r\n";

/// A WebSocket server that returns every message; ends with the last connection.
fn websocket_echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // The ready probe of a fixture is no WebSocket client.
                let Ok(mut socket) = tungstenite::accept(stream) else { return };
                while let Ok(message) = socket.read() {
                    if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn rfc9110_7_8_websockets_work_end_to_end() {
    let weir = Setup::port(websocket_echo()).run();
    let stream = weir.client().stream().try_clone().unwrap();
    let (mut socket, response) = tungstenite::client("ws://h.example/chat?x=1", stream).unwrap();
    assert_eq!(response.status(), 101);
    for message in [Message::text("hello"), Message::binary(vec![7; 70_000]), Message::text("x".repeat(300_000))] {
        // Sent from another thread: larger than the socket buffers, and the echo comes back meanwhile.
        let expected = message.clone();
        socket.send(message).unwrap();
        assert!(socket.read().unwrap() == expected);
    }
    let open = || weir.metric("weir_tunnels_open", &[]);
    assert_eq!(open(), Some(1.0), "{}", weir.metrics());
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    drop(socket);
    eventually(PATIENCE, "the tunnel is closed", || open() == Some(0.0));
}

#[test]
fn rfc9110_7_8_bytes_sent_early_by_either_side_arrive() {
    let server = Hostile::always(vec![
        Step::ReadHead,
        Step::send(format!("{SWITCH}early from the server|")),
        Step::ReadBytes("early from the client".len()),
        Step::send("got it"),
        Step::ReadUntilClosed,
    ]);
    let weir = front(&server);
    let mut client = weir.client();
    client.send_raw(format!("{ASK}early from the client")).unwrap();
    let head = client.read_head().unwrap();
    assert_eq!(head.start_line, "HTTP/1.1 101 Switching Protocols");
    assert_eq!((head.field("upgrade"), head.field("connection")), (Some("test/1"), Some("upgrade")));
    assert_eq!(client.read_bytes(28).unwrap(), b"early from the server|got it");
    let request = &server.heads()[0];
    assert_eq!((request.field("upgrade"), request.field("connection")), (Some("test/1"), Some("upgrade")));
}

#[test]
fn a_tunnel_half_closes_in_each_direction() {
    // The client ends first; what the server still sends arrives.
    let server = Hostile::always(vec![Step::ReadHead, Step::send(SWITCH), Step::ReadUntilClosed, Step::send("late")]);
    let weir = front(&server);
    let mut client = weir.client();
    client.send_raw(ASK).unwrap();
    client.read_head().unwrap();
    client.send_raw("last").unwrap();
    client.half_close();
    assert_eq!(client.read_to_end().unwrap(), b"late");
    // The server ends first.
    let (sender, receiver) = std::sync::mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let n = stream.read(&mut head).unwrap();
        assert!(head[..n].ends_with(b"\r\n\r\n"));
        stream.write_all(SWITCH.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        sender.send(rest).unwrap();
    });
    let weir = Setup::port(port).run();
    let mut client = weir.client();
    client.send_raw(ASK).unwrap();
    client.read_head().unwrap();
    assert_eq!(client.read_to_end().unwrap(), b"");
    client.send_raw("still here").unwrap();
    client.half_close();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), b"still here");
}

#[test]
fn a_client_that_ends_before_the_101_ends_its_side_of_the_tunnel() {
    let server = Hostile::always(vec![
        Step::ReadHead,
        Step::Wait(Duration::from_millis(100)),
        Step::send(SWITCH),
        Step::ReadUntilClosed,
        Step::send("seen"),
    ]);
    let weir = front(&server);
    let mut client = weir.client();
    client.send_raw(ASK).unwrap();
    client.half_close();
    assert_eq!(client.read_head().unwrap().start_line, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(client.read_to_end().unwrap(), b"seen");
}

#[test]
fn rfc9110_7_8_a_refused_upgrade_stays_http() {
    let origin = Origin::named("plain");
    let weir = front_of(&origin);
    let mut client = weir.client();
    // The second request is already there when the first is refused.
    client.send_raw(format!("{ASK}GET /next HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap();
    for _ in 0..2 {
        let response = client.read_response().unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "plain"));
    }
    assert_eq!(client.get("/more").unwrap().text(), "plain");
    assert_eq!(origin.requests()[1].field("upgrade"), None);
}

#[test]
fn rfc9110_15_5_22_a_426_says_what_to_upgrade_to() {
    let refusal =
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: test/2\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n";
    let server = answering(refusal);
    let response = front(&server).get("/");
    assert_eq!((response.status, response.field("upgrade")), (426, Some("test/2")));
    assert_eq!(response.field("connection"), Some("upgrade"));
}

#[track_caller]
fn refused_as_bad_gateway(weir: &Weir, request: &str) {
    let response = ask(weir, request);
    assert_eq!((response.status, response.field("weir-reason")), (502, Some("bad_response")), "{request}");
}

#[test]
fn rfc9110_15_2_2_a_101_that_nobody_asked_for_is_a_502() {
    let server = Hostile::always(vec![Step::ReadHead, Step::send(SWITCH), Step::Hang]);
    let weir = front(&server);
    refused_as_bad_gateway(&weir, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    // Upgrade without the connection option, and of an HTTP/1.0 client, is no request for one.
    refused_as_bad_gateway(&weir, "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: test/1\r\n\r\n");
    refused_as_bad_gateway(&weir, "GET / HTTP/1.0\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: test/1\r\n\r\n");
    assert!(server.heads().iter().all(|head| head.field("upgrade").is_none() && head.field("connection").is_none()));
    // And a 101 that does not say what to switch to.
    let bare = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    let server = Hostile::always(vec![Step::ReadHead, Step::send(bare), Step::Hang]);
    refused_as_bad_gateway(&front(&server), ASK);
}

#[test]
fn an_upgrade_with_a_body_does_not_tunnel() {
    let origin = Origin::named("plain");
    let weir = front_of(&origin);
    let head = "POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: test/1\r\n";
    assert_eq!(ask(&weir, format!("{head}Content-Length: 3\r\n\r\nabc")).text(), "plain");
    let request = &origin.requests()[0];
    assert_eq!(
        (request.field("upgrade"), request.field("connection"), request.body.as_slice()),
        (None, None, &b"abc"[..])
    );
}

#[test]
fn an_idle_tunnel_is_closed() {
    let server = Hostile::always(vec![Step::ReadHead, Step::send(SWITCH), Step::ReadUntilClosed]);
    let weir = Setup::port(server.port()).table("timeouts", "tunnel_idle = \"200ms\"").run();
    let mut client = weir.client();
    client.send_raw(ASK).unwrap();
    client.read_head().unwrap();
    assert_closed(&mut client);
    eventually(PATIENCE, "the server's side is closed", || server.open_connections() == 0);
}

#[test]
fn a_tunnel_that_moves_is_not_idle() {
    let every = Duration::from_millis(100);
    let server = Hostile::always(vec![
        Step::ReadHead,
        Step::send(SWITCH),
        Step::Dribble { bytes: vec![b'x'; 10], size: 1, every },
    ]);
    let weir = Setup::port(server.port()).table("timeouts", "tunnel_idle = \"400ms\"").run();
    let mut client = weir.client();
    client.send_raw(ASK).unwrap();
    client.read_head().unwrap();
    assert_eq!(client.read_bytes(10).unwrap(), vec![b'x'; 10]);
}
