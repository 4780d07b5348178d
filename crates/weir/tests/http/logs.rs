//! The access log: what stands in a line, in both formats, and the file's way through a rotation.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use weir_test::{Origin, PATIENCE, Reply, eventually, free_port};

use crate::setup::{Setup, ask};

/// The lines of a log, once there are `count`.
fn lines(path: &Path, count: usize) -> Vec<String> {
    eventually(PATIENCE, &format!("{count} lines in the log"), || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() >= count && text.ends_with('\n') { Ok(lines) } else { Err(text) }
    })
}

const JSON: &str = "[access_log]\npath = \"{dir}/access.log\"";

#[test]
fn a_line_tells_the_whole_story() {
    let origin = Origin::start(|_| Reply::text("four"));
    let weir = Setup::port(origin.port()).listener("trusted = \"127.0.0.0/8\"").rest(JSON).run();
    let bytes = "POST /p?q=%20 HTTP/1.1\r\nHost: h.example\r\nContent-Length: 3\r\nUser-Agent: \"a\\b\"\r\n\
                 Referer: http://r/\r\nX-Forwarded-For: 9.9.9.9\r\nX-Request-ID: id-1\r\n\r\nabc";
    let mut client = weir.client();
    client.send_raw(bytes).unwrap();
    let response = client.read_response().unwrap();
    let line: Value = serde_json::from_str(&lines(&weir.dir().join("access.log"), 1)[0]).unwrap();
    let endpoint = format!("127.0.0.1:{}", origin.port());
    for (key, value) in [
        ("peer", Value::from(client.local_addr().to_string())),
        ("client", "9.9.9.9".into()),
        ("listener", "web".into()),
        ("method", "POST".into()),
        ("target", "/p?q=%20".into()),
        ("host", "h.example".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("bytes_in", bytes.len().into()),
        ("cluster", "web".into()),
        ("endpoint", endpoint.into()),
        ("attempts", 1.into()),
        ("end", "-".into()),
        ("reason", Value::Null),
        ("request_id", "id-1".into()),
        ("user_agent", "\"a\\b\"".into()),
        ("referer", "http://r/".into()),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    // Head and body as they went out.
    let head: usize = response.head.fields.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let sent = response.head.start_line.len() + 2 + head + 2 + 4;
    assert_eq!(line["bytes_out"], sent, "{line}");
    assert!(line["total_us"].as_u64().is_some_and(|total| total > 0), "{line}");
}

#[test]
fn errors_say_who_ended_it_and_why() {
    let route = "[[route]]\npath = \"/fixed\"\nrespond = { status = 403 }";
    let weir = Setup::port(free_port()).rest(&format!("{JSON}\n{route}")).run();
    ask(&weir, "GET /x?y HTTP/1.1\r\nHost: h\r\n\r\n");
    ask(&weir, "GET /fixed?z HTTP/1.1\r\nHost: h\r\nUser-Agent: ua\r\n\r\n");
    ask(&weir, "nonsense\r\n\r\n");
    let found: Vec<Value> =
        lines(&weir.dir().join("access.log"), 3).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |status: u16| found.iter().find(|line| line["status"] == status).unwrap();
    assert_eq!((&of(503)["reason"], &of(503)["target"]), (&Value::from("connect_refused"), &Value::from("/x?y")));
    assert_ne!(of(503)["end"], "-");
    assert_eq!((&of(403)["target"], &of(403)["user_agent"]), (&Value::from("/fixed?z"), &Value::from("ua")));
    assert_eq!((&of(403)["end"], &of(403)["client"]), (&Value::from("-"), &Value::from("127.0.0.1")));
    assert_eq!((&of(400)["reason"], &of(400)["method"]), (&Value::from("bad_request"), &Value::Null));
}

#[test]
fn combined_lines_are_those_of_other_servers() {
    let origin = Origin::named("a");
    let log = "[access_log]\npath = \"{dir}/access.log\"\nformat = \"combined\"";
    let weir = Setup::port(origin.port()).rest(log).run();
    ask(&weir, "GET /p?q HTTP/1.0\r\nHost: h\r\nReferer: r\"x\r\n\r\n");
    let line = &lines(&weir.dir().join("access.log"), 1)[0];
    let (before, rest) = line.split_once(" [").unwrap();
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!(before, "127.0.0.1 - -");
    // 22/Nov/2026:23:12:01 +0000
    assert!(time.len() == 26 && time.ends_with(" +0000"), "{time}");
    let (request, rest) = rest[1..].split_once("\" ").unwrap();
    assert_eq!(request, "GET /p?q HTTP/1.0");
    let (status, rest) = rest.split_once(' ').unwrap();
    let (bytes, rest) = rest.split_once(' ').unwrap();
    assert_eq!(status, "200");
    assert!(bytes.parse::<u32>().is_ok_and(|bytes| bytes > 50), "{bytes}");
    assert!(!rest[1..rest.len() - 1].contains("r\"x") && rest.ends_with(" \"-\""), "a quote is escaped: {rest}");
}

#[test]
fn usr1_opens_the_log_again() {
    let origin = Origin::named("a");
    let mut weir = Setup::port(origin.port()).rest(JSON).run();
    let (path, old) = (weir.dir().join("access.log"), weir.dir().join("access.log.1"));
    weir.get("/before");
    lines(&path, 1);
    std::fs::rename(&path, &old).unwrap();
    weir.get("/between");
    assert!(lines(&old, 2)[1].contains("/between"));
    weir.process().signal(Signal::USR1);
    eventually(PATIENCE, "the file is there again", || path.exists());
    weir.get("/after");
    assert!(lines(&path, 1)[0].contains("/after"));
    assert_eq!(lines(&old, 2).len(), 2);
}
