//! Header fields on their way: spelling, order, hop-by-hop, forwarding fields, ids, Via, edits.

use weir_test::{Origin, Request, Weir};

use crate::setup::{Setup, answering, ask, front, front_of, pairs};

/// What the origin gets of a request with these header lines.
#[track_caller]
fn forwarded(weir: &Weir, origin: &Origin, lines: &str) -> Request {
    let response = ask(weir, format!("GET / HTTP/1.1\r\nHost: h.example\r\n{lines}\r\n"));
    assert_eq!(response.status, 200, "{}", response.text());
    origin.requests().pop().unwrap()
}

/// A listener that adds nothing of its own.
const BARE: &str = "x_forwarded = false\nrequest_id = false\nvia = \"off\"";

#[test]
fn rfc9110_5_3_spelling_order_and_repetition_of_fields_are_kept() {
    let lines = "X-b: 1\r\nx-A: 2\r\nCookie: c=1\r\nX-B: 3\r\naccept: */*\r\nCOOKIE: d=2\r\nX-Empty:\r\n";
    let expected = [
        ("X-b", "1"),
        ("x-A", "2"),
        ("Cookie", "c=1"),
        ("X-B", "3"),
        ("accept", "*/*"),
        ("COOKIE", "d=2"),
        ("X-Empty", ""),
    ];
    let origin = Origin::named("a");
    let weir = Setup::port(origin.port()).listener(BARE).run();
    let request = forwarded(&weir, &origin, lines);
    assert_eq!(pairs(&request.head.fields)[0], ("Host", "h.example"), "Host comes first");
    assert_eq!(pairs(&request.head.fields)[1..], expected);

    let response = format!(
        "HTTP/1.1 200 Fine By Me\r\nSet-Cookie: a=1\r\n{lines}set-cookie: b=2\r\nDate: then\r\n\
                            Content-Length: 0\r\n\r\n"
    );
    let got = front(&answering(&response)).get("/");
    let mut want = vec![("Set-Cookie", "a=1")];
    want.extend(expected);
    want.extend([("set-cookie", "b=2"), ("Date", "then"), ("Content-Length", "0")]);
    assert_eq!((got.reason.as_str(), pairs(&got.head.fields)), ("Fine By Me", want));
}

#[test]
fn rfc9110_5_1_unknown_fields_and_odd_values_are_forwarded() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let request = forwarded(&weir, &origin, "X!#$%&'*+-.^_`|~1: a  b\t\"c, d;e=\\\"\r\nX-Pad: \t v \t\r\n");
    assert_eq!(request.field("X!#$%&'*+-.^_`|~1"), Some("a  b\t\"c, d;e=\\\""));
    assert_eq!(request.field("X-Pad"), Some("v"));
}

#[test]
fn rfc9110_7_6_1_connection_and_what_it_nominates_stay_here() {
    let lines = "Connection: keep-alive, X-One , x-two\r\nX-One: 1\r\nX-TWO: 2\r\nX-Three: 3\r\nKeep-Alive: timeout=5\r\n\
                 Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\n";
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let request = forwarded(&weir, &origin, lines);
    for gone in ["connection", "x-one", "x-two", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade"] {
        assert_eq!(request.head.all(gone), [""; 0], "{gone}");
    }
    assert_eq!(request.field("x-three"), Some("3"));

    let lines = "Connection: X-One, keep-alive\r\nX-One: 1\r\nX-Three: 3\r\nKeep-Alive: timeout=5\r\n\
                 Upgrade: h2c\r\nProxy-Connection: close\r\nTE: gzip\r\n";
    let response = front(&answering(&format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n"))).get("/");
    for gone in ["connection", "x-one", "keep-alive", "proxy-connection", "te", "upgrade"] {
        assert_eq!(response.head.all(gone), [""; 0], "{gone}");
    }
    assert_eq!(response.field("x-three"), Some("3"));
}

#[test]
fn rfc9110_7_6_1_host_and_length_cannot_be_nominated_away() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let bytes = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: host, content-length\r\n\r\nabc";
    assert_eq!(ask(&weir, bytes).status, 200);
    let request = &origin.requests()[0];
    assert_eq!((request.field("host"), request.body.as_slice()), (Some("h"), &b"abc"[..]));
}

#[test]
fn rfc9110_10_1_4_te_is_forwarded_as_trailers_or_not_at_all() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let request = forwarded(&weir, &origin, "TE: gzip;q=0.5, Trailers\r\nConnection: TE\r\n");
    assert_eq!((request.field("te"), request.field("connection")), (Some("trailers"), Some("TE")));
    let request = forwarded(&weir, &origin, "TE: gzip\r\nConnection: TE\r\n");
    assert_eq!((request.field("te"), request.field("connection")), (None, None));
}

#[test]
fn rfc9112_3_2_2_host_is_written_anew_from_an_absolute_target() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    for (target, host, path) in [
        ("http://real.example/p?q=1", "real.example", "/p?q=1"),
        ("HTTP://real.example:8080", "real.example:8080", "/"),
        ("http://real.example?q", "real.example", "/?q"),
        ("https://[::1]:1/", "[::1]:1", "/"),
    ] {
        assert_eq!(ask(&weir, format!("GET {target} HTTP/1.1\r\nHost: other.example\r\n\r\n")).status, 200);
        let request = origin.requests().pop().unwrap();
        assert_eq!((request.target(), request.field("host")), (path, Some(host)), "{target}");
    }
}

#[test]
fn rfc9112_3_2_4_options_for_the_whole_server() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    for target in ["*", "http://h.example"] {
        assert_eq!(ask(&weir, format!("OPTIONS {target} HTTP/1.1\r\nHost: h.example\r\n\r\n")).status, 200);
        let request = origin.requests().pop().unwrap();
        assert_eq!((request.target(), request.field("host")), ("*", Some("h.example")), "{target}");
    }
}

#[test]
fn forwarding_fields_of_strangers_are_replaced() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let lines = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
                 X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Request-ID: mine\r\n";
    let request = forwarded(&weir, &origin, lines);
    for (name, value) in [
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("h.example")),
        ("x-forwarded-port", None),
        ("x-real-ip", Some("127.0.0.1")),
        ("forwarded", None),
    ] {
        assert_eq!(request.field(name), value, "{name}");
    }
    let id = request.field("x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

#[test]
fn forwarding_fields_of_trusted_peers_are_appended_to() {
    let origin = Origin::named("a");
    let setup = || Setup::port(origin.port());
    let weir = setup().listener("trusted = \"127.0.0.0/8\"\nforwarded = true").run();
    let lines = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\nX-Forwarded-Proto: https\r\n\
                 X-Forwarded-Host: front\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 1.1.1.1\r\n\
                 Forwarded: for=1.1.1.1;proto=https\r\nX-Request-ID: kept-1\r\n";
    let request = forwarded(&weir, &origin, lines);
    for (name, value) in [
        ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "front"),
        ("x-forwarded-port", "443"),
        ("x-real-ip", "1.1.1.1"),
        ("forwarded", "for=1.1.1.1;proto=https, for=127.0.0.1;host=\"h.example\";proto=http"),
        ("x-request-id", "kept-1"),
    ] {
        assert_eq!(request.field(name), Some(value), "{name}");
    }
    // Trusted but silent: as for a stranger.
    let request = forwarded(&weir, &origin, "");
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.field("forwarded"), Some("for=127.0.0.1;host=\"h.example\";proto=http"));
    // Switched off, a trusted peer's fields pass through.
    let weir = setup().listener(&format!("trusted = \"127.0.0.0/8\"\n{BARE}")).run();
    let request = forwarded(&weir, &origin, lines);
    assert_eq!(request.head.all("x-forwarded-for"), ["1.1.1.1", "2.2.2.2, 3.3.3.3"]);
    assert_eq!(request.field("x-request-id"), Some("kept-1"));
    assert_eq!(request.field("forwarded"), Some("for=1.1.1.1;proto=https"));
}

#[test]
fn forwarding_fields_that_are_off_are_still_taken_from_strangers() {
    let origin = Origin::named("a");
    let weir = Setup::port(origin.port()).listener(BARE).run();
    let request = forwarded(&weir, &origin, "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6\r\n");
    for name in ["x-forwarded-for", "forwarded", "x-real-ip", "via", "x-request-id", "x-forwarded-proto"] {
        assert_eq!(request.head.all(name), [""; 0], "{name}");
    }
}

#[test]
fn rfc9110_7_6_3_via_is_appended_on_requests() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let request = forwarded(&weir, &origin, "Via: 1.0 fred, 1.1 p.example\r\n");
    assert_eq!(request.head.all("via"), ["1.0 fred, 1.1 p.example", "1.1 weir"]);
    ask(&weir, "GET / HTTP/1.0\r\nHost: h\r\n\r\n");
    assert_eq!(origin.requests().pop().unwrap().field("via"), Some("1.0 weir"), "the version received");
    let weir = Setup::port(origin.port()).listener("via = \"edge-7\"").run();
    assert_eq!(forwarded(&weir, &origin, "").field("via"), Some("1.1 edge-7"));
}

#[test]
fn rfc9110_7_6_a_loop_ends() {
    // A listener whose endpoint is itself: the Via fields of each turn add up until the head is too large.
    let weir = Setup::of("127.0.0.1:{port}").run();
    let response = weir.get("/");
    assert!(matches!(response.status, 431 | 502 | 503), "{}", response.status);
}

#[test]
fn trace_context_is_passed_on() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request =
        forwarded(&weir, &origin, &format!("traceparent: {parent}\r\ntracestate: a=1\r\ntracestate: b=2\r\n"));
    assert_eq!((request.field("traceparent"), request.head.all("tracestate")), (Some(parent), vec!["a=1", "b=2"]));
}

#[test]
fn rfc9110_6_6_1_a_date_is_added_where_there_is_none() {
    let is_date = |value: Option<&str>| value.is_some_and(|value| value.len() == 29 && value.ends_with(" GMT"));
    let server = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let response = front(&server).get("/");
    assert!(response.status == 200 && is_date(response.field("date")), "{:?}", response.head);
    let kept = "Tue, 15 Nov 1994 08:12:31 GMT";
    let server = answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\ndate: {kept}\r\n\r\n"));
    let weir = front(&server);
    assert_eq!(weir.get("/").field("date"), Some(kept));
    // Weir's own answers have one too.
    assert!(is_date(ask(&weir, "BAD\r\n\r\n").field("date")));
}

#[test]
fn rfc9110_7_6_2_max_forwards_is_counted_down() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let with = |method: &str, value: &str| {
        let response = ask(&weir, format!("{method} / HTTP/1.1\r\nHost: h\r\nMax-Forwards: {value}\r\n\r\n"));
        (response.status, origin.requests().pop().map(|request| request.field("max-forwards").unwrap().to_owned()))
    };
    let forwarded_as = |value: &str| (200, Some(value.to_owned()));
    assert_eq!(with("OPTIONS", "10"), forwarded_as("9"));
    assert_eq!(with("TRACE", "1"), forwarded_as("0"));
    assert_eq!(with("GET", "0"), forwarded_as("0"), "of no weight with other methods");
    assert_eq!(with("OPTIONS", "99999999999999999999"), forwarded_as("4294967294"));
    let before = origin.answered();
    assert_eq!((with("OPTIONS", "0").0, with("TRACE", "0").0), (200, 501));
    assert_eq!(origin.answered(), before, "neither went on");
}

#[test]
fn routes_set_add_and_remove_fields() {
    let origin = Origin::start(|_| weir_test::Reply::text("").with("Server", "secret").with("X-Keep", "1"));
    let route = "[[route]]\npath_prefix = \"/edit\"\ncluster = \"web\"\n[route.request_headers]\n\
                 set = { X-Set = \"new\", Host = \"inner.example\" }\nadd = { X-Add = [\"a\", \"b\"] }\nremove = [\"x-gone\", \"cookie\"]\n\
                 [route.response_headers]\nset = { X-Env = \"test\" }\nremove = [\"Server\"]\n";
    let weir = Setup::port(origin.port()).rest(route).run();
    let bytes =
        "GET /edit HTTP/1.1\r\nHost: h\r\nX-Set: old\r\nx-set: older\r\nX-Add: z\r\nX-Gone: 1\r\nCookie: a=b\r\n\r\n";
    let response = ask(&weir, bytes);
    let request = origin.requests().pop().unwrap();
    assert_eq!(request.head.all("x-set"), ["new"]);
    assert_eq!(request.head.all("x-add"), ["z", "a", "b"]);
    assert_eq!(request.head.all("host"), ["inner.example"]);
    assert_eq!((request.head.all("x-gone").len(), request.head.all("cookie").len()), (0, 0));
    assert_eq!((response.field("server"), response.field("x-env")), (None, Some("test")));
    assert_eq!(response.field("x-keep"), Some("1"));
}
