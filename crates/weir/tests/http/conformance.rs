//! What is left of RFC 9110 and 9112 beside the other modules, and the check of the table that lists it all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use weir_test::{Hostile, Origin, PATIENCE, Reply, Step, eventually};

use crate::setup::{answering, ask, assert_closed, front, front_of};

#[test]
fn rfc9110_4_2_1_an_empty_host_is_refused() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    for head in
        ["GET http:///a HTTP/1.1\r\nHost: h", "GET http://:80/a HTTP/1.1\r\nHost: h", "GET /a HTTP/1.1\r\nHost:"]
    {
        assert_eq!(ask(&weir, format!("{head}\r\n\r\n")).status, 400, "{head}");
    }
    assert_eq!(origin.answered(), 0);
}

#[test]
fn rfc9110_7_7_content_and_what_describes_it_are_not_touched() {
    let fields = [
        ("Cache-Control", "no-transform"),
        ("Content-Encoding", "gzip"),
        ("Content-Type", "text/html; charset=latin1"),
        ("Content-Language", "de"),
        ("Content-Range", "bytes 0-3/10"),
        ("ETag", "W/\"a\""),
        ("Last-Modified", "Tue, 15 Nov 1994 08:12:31 GMT"),
        ("Vary", "Accept"),
        ("Server", "origin"),
    ];
    let origin = Origin::start(move |_| {
        let mut reply = Reply::text("\u{1f}\u{8b}<>");
        reply.status = 206;
        fields.iter().fold(reply, |reply, (name, value)| reply.with(name, *value))
    });
    let weir = front_of(&origin);
    let conditions = "Range: bytes=0-3\r\nIf-Range: \"a\"\r\nIf-None-Match: \"b\"\r\nIf-Modified-Since: then\r\nAccept-Encoding: br\r\n";
    let response = ask(&weir, format!("GET / HTTP/1.1\r\nHost: h\r\n{conditions}\r\n"));
    assert_eq!((response.status, response.text().as_str()), (206, "\u{1f}\u{8b}<>"));
    for (name, value) in fields {
        assert_eq!(response.field(name), Some(value), "{name}");
    }
    let request = &origin.requests()[0];
    for line in conditions.split_terminator("\r\n") {
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(request.field(name), Some(value), "{name}");
    }
}

#[test]
fn rfc9110_8_6_length_goes_with_what_it_is_true_of() {
    for (bytes, length) in [
        // Not in a 204, whatever the endpoint says.
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", None),
        ("HTTP/1.1 204 No Content\r\n\r\n", None),
        // Metadata in a 304.
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Some("5")),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", None),
        ("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", Some("0")),
    ] {
        let server = answering(bytes);
        let weir = front(&server);
        let mut client = weir.client();
        for _ in 0..2 {
            let response = client.get("/").unwrap();
            assert_eq!(
                (response.field("content-length"), response.field("transfer-encoding")),
                (length, None),
                "{bytes}"
            );
        }
    }
}

#[test]
fn rfc9110_9_1_methods_are_case_sensitive_and_open() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    for method in ["get", "PURGE", "M-SEARCH", "X!~"] {
        assert_eq!(ask(&weir, format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n")).status, 200);
        assert_eq!(origin.requests().pop().unwrap().method(), method);
    }
}

#[test]
fn rfc9110_9_3_2_head_has_no_body_whatever_the_fields_say() {
    for fields in ["Content-Length: 5", "Transfer-Encoding: chunked", "X: 1"] {
        let server = answering(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
        let weir = front(&server);
        let mut client = weir.client();
        for _ in 0..2 {
            client.send_raw("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            let response = client.read_response_to("HEAD").unwrap();
            let length = fields.starts_with('C').then_some("5");
            assert_eq!((response.status, response.field("content-length")), (200, length), "{fields}");
        }
        assert_eq!(server.connections(), 1, "{fields}");
    }
}

#[test]
fn rfc9110_9_3_6_connect_is_not_served() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let mut client = weir.client();
    client.send_raw("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(client.read_response_to("CONNECT").unwrap().status, 501);
    // What follows is the bytes of a tunnel that there is not: never a request.
    let _ = client.read_to_end();
    assert_eq!(origin.connections(), 0);
}

#[test]
fn rfc9110_9_3_7_an_options_that_ends_here_has_a_length() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let mut client = weir.client();
    client.send_raw("OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n").unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.status, response.field("content-length")), (200, Some("0")));
    assert_eq!(client.get("/").unwrap().status, 200, "the connection goes on");
}

#[test]
fn rfc9110_15_unknown_statuses_are_forwarded() {
    for status in [209, 299, 399, 418, 499, 599, 999] {
        let server = answering(&format!("HTTP/1.1 {status} Own Words\r\nContent-Length: 1\r\n\r\na"));
        let response = front(&server).get("/");
        assert_eq!(response.head.start_line, format!("HTTP/1.1 {status} Own Words"));
    }
    let server = answering("HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(front(&server).get("/").status, 502);
}

#[test]
fn rfc9112_4_an_empty_reason_keeps_its_space() {
    for line in ["HTTP/1.1 200 ", "HTTP/1.1 200"] {
        let server = answering(&format!("{line}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(front(&server).get("/").head.start_line, "HTTP/1.1 200 ");
    }
}

#[test]
fn rfc9112_9_2_a_response_that_nobody_asked_for_is_nobodys() {
    let server = Hostile::always(vec![Step::ReadHead, Step::ok("asked"), Step::ok("unasked"), Step::ReadUntilClosed]);
    let weir = front(&server);
    for n in 1..=3 {
        assert_eq!(weir.get("/").text(), "asked");
        eventually(PATIENCE, "the connection is given up", || server.open_connections() == 0);
        assert_eq!(server.connections(), n);
    }
}

#[test]
fn rfc9112_9_3_1_a_408_of_an_idle_endpoint_is_nobodys() {
    let late = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let every = std::time::Duration::from_millis(50);
    let server = Hostile::always(vec![Step::ReadHead, Step::ok("a"), Step::Wait(every), Step::send(late)]);
    let weir = front(&server);
    for _ in 0..3 {
        assert_eq!(weir.get("/").text(), "a");
        eventually(PATIENCE, "the connection is given up", || server.open_connections() == 0);
    }
}

#[test]
fn rfc9112_9_6_a_close_after_an_error_is_announced() {
    let origin = Origin::named("a");
    let weir = front_of(&origin);
    let mut client = weir.client();
    client.send_raw("GET / HTTP/1.1\r\n\r\n").unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.status, response.field("connection")), (400, Some("close")));
    assert_closed(&mut client);
}

// === The table ===

const TABLE: &str = "docs/internals/rfc-conformance.md";
/// Where tests that the table may name are.
const PLACES: [&str; 4] =
    ["crates/weir/tests/http", "lib/weir-http/tests", "lib/weir-route/src", "crates/weir-proxy/src"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Names of all test functions below a folder, each with its file.
fn tests_in(folder: &Path, found: &mut BTreeMap<String, PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for (_, rest) in text.split("#[test]").skip(1).filter_map(|rest| rest.split_once("fn ")) {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.insert(name, path.clone());
            }
        }
    }
}

#[test]
fn every_test_in_the_table_exists_and_every_rfc_test_is_in_the_table() {
    let table = std::fs::read_to_string(root().join(TABLE)).unwrap();
    let mut existing = BTreeMap::new();
    for place in PLACES {
        tests_in(&root().join(place), &mut existing);
    }
    let mut named = BTreeSet::new();
    let mut rows = 0;
    for row in table.lines().filter(|line| line.starts_with("| 9")) {
        rows += 1;
        // Section | requirement | how Weir meets it | tests; a test is the only thing in backticks in the last column.
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "a row without a test: {row}");
        for name in names {
            assert!(existing.contains_key(name), "{TABLE} names `{name}`, which is no test: {row}");
            named.insert(name.to_owned());
        }
    }
    assert!(rows > 60, "{rows} rows");
    let unlisted: Vec<&String> =
        existing.keys().filter(|name| name.starts_with("rfc911") && !named.contains(*name)).collect();
    assert!(unlisted.is_empty(), "tests that {TABLE} does not name: {unlisted:?}");
}
