//! Keep-alive on both sides, pipelining, HTTP/1.0, half-close.

use weir_test::{Hostile, Origin, PATIENCE, Reply, Step, eventually};

use crate::setup::{Setup, answering, ask, assert_closed, front, front_of};

#[test]
fn rfc9112_9_3_both_connections_carry_many_requests() {
    let origin = Origin::start(|request| Reply::text(request.target()));
    let weir = front_of(&origin);
    let mut client = weir.client();
    for n in 0..50 {
        let response = client.get(&format!("/{n}")).unwrap();
        assert_eq!((response.text(), response.field("connection")), (format!("/{n}"), None));
    }
    assert_eq!((origin.connections(), origin.answered()), (1, 50));
}

#[test]
fn rfc9112_9_3_the_clients_close_ends_the_clients_connection_only() {
    let origin = Origin::named("a");
    let weir = Setup::port(origin.port()).rest("[process]\nworkers = 1").run();
    for _ in 0..3 {
        let mut client = weir.client();
        client.send_raw("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let response = client.read_response().unwrap();
        assert_eq!((response.text().as_str(), response.field("connection")), ("a", Some("close")));
        assert_closed(&mut client);
    }
    assert_eq!(origin.connections(), 1, "the connection to the endpoint goes on");
    assert!(origin.requests().iter().all(|request| request.field("connection").is_none()));
}

#[test]
fn rfc9112_9_6_nothing_is_served_behind_a_close() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let mut client = weir.client();
    let first = "GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    client.send_raw(format!("{first}GET /2 HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap();
    assert_eq!(client.read_response().unwrap().text(), "a");
    assert_closed(&mut client);
    assert_eq!(origin.answered(), 1);
}

#[test]
fn rfc9112_9_3_an_endpoints_close_is_not_the_clients() {
    let origin = Origin::start(|_| Reply::text("a").closing());
    let weir = front_of(&origin);
    let mut client = weir.client();
    for _ in 0..3 {
        let response = client.get("/").unwrap();
        assert_eq!((response.text().as_str(), response.field("connection")), ("a", None));
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn rfc9112_9_3_2_pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|request| Reply::text(request.target()));
    let weir = front_of(&origin);
    let mut client = weir.client();
    let count = 200;
    // Bodies between them: each request has to end where it says.
    let put = |n| format!("PUT /{n} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    let bytes: Vec<String> = (0..count).map(put).collect();
    client.send_raw(bytes.concat()).unwrap();
    for n in 0..count {
        assert_eq!(client.read_response().unwrap().text(), format!("/{n}"));
    }
    assert!(origin.requests().iter().all(|request| request.body == b"abc"));
}

#[test]
fn rfc9112_9_3_2_answers_of_weirs_own_keep_their_place_in_the_pipeline() {
    let origin = Origin::start(|request| Reply::text(request.target()));
    let route = "[[route]]\npath = \"/fixed\"\nrespond = { body = \"fixed\" }";
    let weir = Setup::port(origin.port()).rest(route).run();
    let mut client = weir.client();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let bytes: String = (0..300).map(|n| if n % 3 == 0 { get("/a") } else { get("/fixed") }).collect();
    client.send_raw(bytes).unwrap();
    for n in 0..300 {
        assert_eq!(client.read_response().unwrap().text(), if n % 3 == 0 { "/a" } else { "fixed" }, "response {n}");
    }
}

#[test]
fn rfc9112_9_6_a_half_closed_client_gets_its_responses() {
    let origin = Origin::start(|request| Reply::text(request.target()));
    let weir = front_of(&origin);
    let mut client = weir.client();
    client.send_raw("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    client.half_close();
    assert_eq!(client.read_response().unwrap().text(), "/1");
    assert_closed(&mut client);
}

#[test]
fn rfc9112_9_6_a_half_closed_client_gets_the_responses_to_all_it_pipelined() {
    let origin = Origin::start(|request| Reply::text(request.target()));
    let weir = front_of(&origin);
    let mut client = weir.client();
    for n in 0..5 {
        client.send_raw(format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap();
    }
    client.half_close();
    for n in 0..5 {
        assert_eq!(client.read_response().unwrap().text(), format!("/{n}"));
    }
    assert_closed(&mut client);
}

#[test]
fn rfc9112_8_half_a_request_at_the_end_of_a_connection_is_dropped() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let mut client = weir.client();
    client.send_raw("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n").unwrap();
    client.half_close();
    assert_eq!(client.read_response().unwrap().text(), "a");
    assert_closed(&mut client);
    assert_eq!(origin.answered(), 1);
}

#[test]
fn rfc9112_9_3_http10_closes_unless_it_asks() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let mut client = weir.client();
    client.send_raw("GET / HTTP/1.0\r\n\r\n").unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.text().as_str(), response.field("connection")), ("a", Some("close")));
    assert_closed(&mut client);

    let mut client = weir.client();
    for _ in 0..2 {
        client.send_raw("GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let response = client.read_response().unwrap();
        assert_eq!((response.text().as_str(), response.field("connection")), ("a", Some("keep-alive")));
        assert_eq!(response.field("content-length"), Some("1"));
    }
}

#[test]
fn rfc9112_7_1_http10_gets_a_chunked_body_without_chunks() {
    let server =
        answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n");
    let weir = front(&server);
    let mut client = weir.client();
    client.send_raw("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.text().as_str(), response.until_close), ("abcde", true));
    assert_eq!((response.field("transfer-encoding"), response.field("connection")), (None, Some("close")));
}

#[test]
fn rfc9112_8_http10_sees_a_reset_where_a_chunked_body_is_cut() {
    let server = Hostile::always(vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
    ]);
    let weir = front(&server);
    let mut client = weir.client();
    client.send_raw("GET / HTTP/1.0\r\n\r\n").unwrap();
    let result = client.read_response();
    assert!(matches!(result, Err(weir_test::ClientError::Reset(_))), "{result:?}");
}

#[test]
fn rfc9112_2_3_each_side_gets_weirs_own_version() {
    let server = answering("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na");
    let weir = front(&server);
    let response = ask(&weir, "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(response.head.start_line, "HTTP/1.1 200 OK");
    assert_eq!(server.heads()[0].start_line, "GET / HTTP/1.1");
    // An HTTP/1.0 endpoint that does not say keep-alive closes: no second request on that connection.
    assert_eq!(ask(&weir, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").text(), "a");
    assert_eq!(server.connections(), 2);
}

#[test]
fn rfc9112_9_5_an_idle_client_is_closed_in_silence() {
    let origin = Origin::named("a");
    let weir = Setup::port(origin.port()).listener("[listener.timeouts]\nkeep_alive = \"100ms\"").run();
    let mut client = weir.client();
    assert_eq!(client.get("/").unwrap().text(), "a");
    assert_closed(&mut client);
}

#[test]
fn rfc9112_9_5_an_endpoint_that_closed_while_idle_costs_no_error() {
    let origin = Origin::named("a");
    let weir = Setup::port(origin.port()).table("retry", "attempts = 3").run();
    for _ in 0..10 {
        assert_eq!(weir.get("/").status, 200);
        origin.close_connections();
        eventually(PATIENCE, "the origin has closed", || origin.open_connections() == 0);
        // Not repeatable: it must meet a live connection.
        let response = ask(&weir, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(response.status, 200);
    }
}

#[test]
fn rfc9110_9_2_2_what_is_not_idempotent_is_never_sent_twice() {
    let servers = [Hostile::always(vec![Step::ReadHead]), Hostile::always(vec![Step::ReadHead])];
    let endpoints = format!("127.0.0.1:{}\", \"127.0.0.1:{}", servers[0].port(), servers[1].port());
    let weir = Setup::of(endpoints).table("retry", "attempts = 3").run();
    let arrived = || servers[0].heads().len() + servers[1].heads().len();
    assert_eq!(ask(&weir, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").status, 502);
    assert_eq!(arrived(), 1);
    assert_eq!(ask(&weir, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").status, 502);
    assert_eq!(arrived(), 3, "a GET is tried at the other endpoint");
}
