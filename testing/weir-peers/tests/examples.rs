//! The examples of `weir-pool` run, and say what they are meant to say.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;

use weir_test::{Mariadb, Origin, PATIENCE, Postgres, Process, Redis, TempDir};

/// Runs an example to its end; what it has written.
fn run(program: &str, argument: &str) -> String {
    let dir = TempDir::new("pool-example");
    let mut command = Command::new(program);
    command.arg(argument);
    let mut process = Process::spawn("example", command, dir.path());
    let status = process.wait_exit(PATIENCE);
    assert!(status.success(), "{status}\n{}{}", process.stdout(), process.stderr());
    process.stdout()
}

fn has_lines(output: &str, lines: &[&str]) {
    for line in lines {
        assert!(output.lines().any(|said| said == *line), "{line:?} is not in\n{output}");
    }
}

#[test]
fn postgres() {
    let server = Postgres::run(&[]);
    let output = run(env!("CARGO_BIN_EXE_pool-example-postgres"), &server.url());
    has_lines(&output, &["2 items", "in a transaction: false", "given up: true, the next answer: 42"]);
}

#[test]
fn mysql() {
    let server = Mariadb::run(&[]);
    let output = run(env!("CARGO_BIN_EXE_pool-example-mysql"), &server.url());
    let lines = ["apple, pear", "left of the last user: None", "given up: true, the next answer: Some(42)"];
    has_lines(&output, &lines);
}

#[test]
fn redis() {
    let server = Redis::run(&[]);
    let output = run(env!("CARGO_BIN_EXE_pool-example-redis"), &server.url());
    let lines =
        ["apple", "hits: 1", "the pool's own database again: Some(\"apple\")", "given up: true, the next answer: PONG"];
    has_lines(&output, &lines);
}

#[test]
fn tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
                    if stream.write_all(line.as_bytes()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    let output = run(env!("CARGO_BIN_EXE_pool-example-tcp"), &address);
    has_lines(&output, &["one", "two, on the same connection: true", "four, on the same connection: false"]);
}

#[test]
fn http1() {
    let origin = Origin::named("api");
    let output = run(env!("CARGO_BIN_EXE_pool-example-http1"), &format!("127.0.0.1:{}", origin.port()));
    has_lines(&output, &["/: 200 OK, 3 bytes", "/again: 200 OK, 3 bytes"]);
    assert_eq!(origin.answered(), 2);
    assert_eq!(origin.connections(), 1, "one connection for both");
}
