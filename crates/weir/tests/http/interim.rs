//! 100 (Continue) and the other interim responses.

use weir_test::{Hostile, Origin, Step};

use crate::setup::{Setup, answering, ask, assert_closed, front, front_of, pairs};

#[test]
fn rfc9110_10_1_1_the_endpoint_decides_about_100_continue() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let mut client = weir.client();
    client.send_raw("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").unwrap();
    assert_eq!(client.read_head().unwrap().start_line, "HTTP/1.1 100 Continue");
    client.send_raw("abc").unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.text().as_str(), response.interim.len()), ("a", 0));
    assert_eq!(origin.requests()[0].body, b"abc");
    assert_eq!(origin.requests()[0].field("expect"), Some("100-continue"));
    assert_eq!(client.get("/").unwrap().status, 200, "the connection goes on");
}

#[test]
fn rfc9110_10_1_1_a_final_answer_instead_of_100_closes() {
    let server = Hostile::always(vec![
        Step::ReadHead,
        Step::send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"),
        Step::Hang,
    ]);
    let weir = front(&server);
    let mut client = weir.client();
    client.send_raw("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.status, response.field("connection")), (417, Some("close")));
    assert_closed(&mut client);
}

#[test]
fn rfc9110_10_1_1_no_expectation_is_forwarded_without_a_body_or_from_http10() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let expect = "Host: h\r\nExpect: 100-continue\r\n";
    let response = ask(&weir, format!("PUT / HTTP/1.0\r\n{expect}Content-Length: 3\r\n\r\nabc"));
    assert_eq!((response.status, response.interim.len()), (200, 0));
    let response = ask(&weir, format!("GET / HTTP/1.1\r\n{expect}\r\n"));
    assert_eq!((response.status, response.interim.len()), (200, 0));
    assert!(origin.requests().iter().all(|request| request.field("expect").is_none()));
}

#[test]
fn rfc9110_10_1_1_other_expectations_are_refused() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let response = ask(&weir, "GET / HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\n\r\n");
    assert_eq!((response.status, origin.answered()), (417, 0));
}

#[test]
fn rfc9110_15_2_interim_responses_are_forwarded_in_order() {
    let bytes = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\
                 Connection: x-hop\r\nX-Hop: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
    let server = answering(bytes);
    let weir = front(&server);
    let mut client = weir.client();
    for _ in 0..2 {
        let response = client.get("/").unwrap();
        let lines: Vec<&str> = response.interim.iter().map(|head| head.start_line.as_str()).collect();
        assert_eq!(lines, ["HTTP/1.1 102 Processing", "HTTP/1.1 103 Early Hints"]);
        assert_eq!(pairs(&response.interim[1].fields), [("Link", "</a>; rel=preload"), ("Link", "</b>")]);
        assert_eq!(response.text(), "a");
    }
}

#[test]
fn rfc9110_15_2_http10_gets_no_interim_responses() {
    let server = answering(
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
    );
    let response = ask(&front(&server), "GET / HTTP/1.0\r\n\r\n");
    assert_eq!((response.text().as_str(), response.interim.len()), ("a", 0));
}

/// Interim responses that one request may have.
const BOUND: usize = 1_000;

#[test]
fn rfc9110_15_2_interim_responses_are_bounded() {
    let server = Hostile::always(vec![Step::ReadHead, Step::Endless(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec())]);
    let weir = front(&server);
    let mut client = weir.client();
    let response = client.get("/").unwrap();
    assert_eq!(response.status, 502);
    assert_eq!(response.interim.len(), BOUND);
}

#[test]
fn rfc9110_15_2_interim_responses_are_bounded_however_they_arrive() {
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n";
    for (count, version, status) in
        [(BOUND, "1.1", 200), (BOUND + 1, "1.1", 502), (BOUND, "1.0", 200), (BOUND + 1, "1.0", 502)]
    {
        let bytes = format!("{}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", interim.repeat(count));
        // Each one by itself, and all at once.
        let every = std::time::Duration::from_micros(20);
        let dribble = Step::Dribble { bytes: bytes.clone().into_bytes(), size: interim.len(), every };
        for step in [dribble, Step::send(bytes)] {
            let server = Hostile::always(vec![Step::ReadHead, step, Step::ReadUntilClosed]);
            let response = ask(&front(&server), format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n"));
            assert_eq!(response.status, status, "{count} before the response, HTTP/{version}");
            let relayed = if version == "1.0" { 0 } else { BOUND };
            assert_eq!(response.interim.len(), relayed, "{count} before the response, HTTP/{version}");
        }
    }
}

#[test]
fn rfc9110_15_2_an_interim_response_delays_no_time_out_for_ever() {
    let server = Hostile::always(vec![Step::ReadHead, Step::send("HTTP/1.1 102 Processing\r\n\r\n"), Step::Hang]);
    let weir = Setup::port(server.port()).table("timeouts", "response_head = \"200ms\"").run();
    let response = ask(&weir, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((response.status, response.interim.len()), (504, 1));
}
