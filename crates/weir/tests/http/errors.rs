//! Weir's own error answers: limits, time-outs, faults of endpoints, custom pages, reasons.

use weir_test::{Hostile, Origin, PATIENCE, Step, eventually, free_port};

use crate::setup::{Setup, answering, ask, assert_closed, front, front_of};

#[test]
fn limits_of_a_request_have_their_own_statuses() {
    let origin = Origin::named("a");
    let limits = "[listener.limits]\nhead_size = \"2KiB\"\nfields = 10\ntarget_size = \"128B\"";
    let weir = Setup::port(origin.port()).listener(limits).run();
    let many = "X-Many: 1\r\n".repeat(11);
    for (status, bytes) in [
        (431, format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(3_000))),
        // Not even complete.
        (431, format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(3_000))),
        (431, format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n")),
        (414, format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(200))),
        (414, format!("GET /{}", "x".repeat(200))),
        (505, "GET / HTTP/2.0\r\nHost: h\r\n\r\n".to_owned()),
        (501, "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n".to_owned()),
        (501, "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned()),
        (400, "nonsense\r\n\r\n".to_owned()),
    ] {
        let mut client = weir.client();
        client.send_raw(&bytes).unwrap();
        let response = client.read_response().unwrap();
        assert_eq!(response.status, status, "{bytes}");
        assert_eq!(response.field("connection"), Some("close"), "{bytes}");
        assert_closed(&mut client);
    }
    assert_eq!(origin.answered(), 0);
    assert_eq!(weir.get("/").status, 200);
}

#[test]
fn rfc9110_15_5_9_a_head_that_does_not_come_is_a_408() {
    let origin = Origin::named("a");
    let weir = Setup::port(origin.port()).listener("[listener.timeouts]\nhead = \"200ms\"").run();
    let mut client = weir.client();
    client.send_raw("GET / HTTP/1.1\r\nHost:").unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.status, response.field("connection")), (408, Some("close")));
    assert_closed(&mut client);
    // Nobody waits for an answer on a connection that never sent a byte.
    let mut silent = weir.client();
    assert_closed(&mut silent);
    // A second head that stalls, behind an answered request.
    let mut client = weir.client();
    assert_eq!(client.get("/").unwrap().status, 200);
    client.send_raw("GET /").unwrap();
    assert_eq!(client.read_response().unwrap().status, 408);
}

#[test]
fn a_request_body_that_stalls_is_a_408() {
    let origin = Origin::named("a");
    let weir = Setup::port(origin.port()).listener("[listener.timeouts]\nidle = \"200ms\"").run();
    let response = ask(&weir, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    assert_eq!((response.status, response.field("connection")), (408, Some("close")));
    eventually(PATIENCE, "the endpoint's connection is closed", || origin.open_connections() == 0);
    assert_eq!(origin.answered(), 0);
}

#[test]
fn rfc9110_15_6_faults_of_endpoints_have_stable_reasons() {
    let hang = Hostile::always(vec![Step::ReadHead, Step::Hang]);
    let reset = Hostile::always(vec![Step::ReadHead, Step::Reset]);
    let closes = Hostile::always(vec![Step::ReadHead]);
    let garbage = answering("SSH-2.0-OpenSSH_9\r\n\r\n");
    let timeouts = "response_head = \"200ms\"";
    for (port, status, reason) in [
        (free_port(), 503, "connect_refused"),
        (hang.port(), 504, "response_head_timeout"),
        (reset.port(), 502, "upstream_reset"),
        (closes.port(), 502, "upstream_closed"),
        (garbage.port(), 502, "bad_response"),
    ] {
        let weir = Setup::port(port).table("timeouts", timeouts).run();
        let mut client = weir.client();
        let response = client.get("/").unwrap();
        assert_eq!((response.status, response.field("weir-reason")), (status, Some(reason)));
        assert!(response.text().contains(reason), "{}", response.text());
        // The client's connection is not at fault.
        let response = client.get("/").unwrap();
        assert_eq!(response.status, status, "{reason}");
    }
}

#[test]
fn rfc9112_6_3_framing_faults_of_endpoints_are_502() {
    for head in [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1x",
        "Content-Length: -1",
        "Content-Length: 1, 2",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: xchunked",
        "X-Folded: a\r\n b",
        "X-Space : a",
        "X-Nul: a\0b",
        "X-Bare: a\rb",
    ] {
        let server = answering(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n0\r\n\r\n"));
        let weir = front(&server);
        let response = weir.get("/");
        assert_eq!((response.status, response.field("weir-reason")), (502, Some("bad_response")), "{head}");
        eventually(PATIENCE, "the endpoint's connection is closed", || server.open_connections() == 0);
    }
}

#[test]
fn a_503_says_when_to_try_again() {
    let hang = Hostile::always(vec![Step::ReadHead, Step::Hang]);
    let weir = Setup::port(hang.port()).table("limit", "max_requests = 1\nqueue = 0").run();
    let mut first = weir.client();
    first.send_raw("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    eventually(PATIENCE, "the first is with the endpoint", || hang.heads().len() == 1);
    let response = weir.get("/2");
    assert_eq!((response.status, response.field("retry-after")), (503, Some("1")));
    assert_eq!(response.field("weir-reason"), Some("pool_queue_full"));
}

/// With nobody to serve, it takes at least until the next probe; overload passes soon (above).
#[test]
fn a_503_for_want_of_endpoints_says_when_one_may_be_back() {
    // One success is needed, of the next probe; or three, the last of which is more than the most that is said away.
    for (rise, seconds) in [(1, 2..=20), (3, 30..=30)] {
        let health = format!("interval = \"20s\"\nfast_interval = \"20s\"\njitter = 0.0\nrise = {rise}");
        let weir = Setup::port(free_port()).table("health", &health).run();
        let after = eventually(PATIENCE, "the endpoint is down", || {
            let response = weir.get("/");
            let told = response.field("retry-after").map(str::to_owned);
            told.filter(|_| response.field("weir-reason") == Some("no_endpoint"))
        });
        let after: u32 = after.parse().unwrap();
        assert!(seconds.contains(&after), "{after} of {seconds:?}");
    }
}

#[test]
fn a_connection_too_many_is_told() {
    let origin = Origin::named("a");
    let weir = Setup::port(origin.port()).listener("max_connections = 1").run();
    let mut first = weir.client();
    eventually(PATIENCE, "the only place is ours", || {
        first = weir.client();
        first.get("/").ok().filter(|response| response.status == 200)
    });
    let response = weir.get("/");
    assert_eq!((response.status, response.field("weir-reason")), (503, Some("too_many_connections")));
    assert_eq!((response.field("retry-after"), response.field("connection")), (Some("1"), Some("close")));
}

#[test]
fn error_bodies_are_the_listeners() {
    let pages = "[listener.error_pages]\n503 = { body = \"<p>gone</p>\", content_type = \"text/html\" }\n404 = { body = \"{}\" }";
    let route = "[[route]]\nhost = \"known\"\npath = \"/nothing\"\nrespond = { status = 404, body = \"mine\" }";
    let weir = Setup::port(free_port()).listener(&format!("reason_header = false\n{pages}")).rest(route).run();
    let response = weir.get("/");
    assert_eq!((response.status, response.text().as_str()), (503, "<p>gone</p>"));
    assert_eq!((response.field("content-type"), response.field("weir-reason")), (Some("text/html"), None));
    // A fixed response is the route's, not an error of Weir's.
    assert_eq!(ask(&weir, "GET /nothing HTTP/1.1\r\nHost: known\r\n\r\n").text(), "mine");
}

#[test]
fn a_deadline_of_a_route_is_a_504() {
    let hang = Hostile::always(vec![Step::ReadHead, Step::Hang]);
    let route = "[[route]]\npath = \"/slow\"\ncluster = \"web\"\ndeadline = \"200ms\"";
    let weir = Setup::port(hang.port()).rest(route).run();
    let response = weir.get("/slow");
    assert_eq!((response.status, response.field("weir-reason")), (504, Some("deadline")));
}

#[test]
fn rfc9110_9_3_2_errors_to_head_have_no_body() {
    let weir = Setup::port(free_port()).run();
    let mut client = weir.client();
    for _ in 0..2 {
        client.send_raw("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let response = client.read_response_to("HEAD").unwrap();
        assert_eq!((response.status, response.body.len()), (503, 0));
        assert!(response.field("content-length").is_some_and(|length| length != "0"));
    }
}

#[test]
fn nothing_of_a_bad_request_reaches_an_endpoint() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let mut client = weir.client();
    client.send_raw("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").unwrap();
    assert_eq!(client.read_response().unwrap().status, 400);
    assert_closed(&mut client);
    assert_eq!(origin.connections(), 0, "the head was not sent before its body was looked at");
}
