//! Unix sockets on both sides, IPv6, dual stack.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

use weir_test::{Client, Origin, PATIENCE, TempDir, eventually, free_port};

use crate::setup::Setup;

/// A GET over any stream, closing after it; the whole answer.
fn get(mut stream: impl std::io::Read + std::io::Write) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_listener_may_be_a_unix_socket() {
    let origin = Origin::named("through a file");
    let bind = "[\"unix:{dir}/front.sock\", \"127.0.0.1:{port}\"]";
    let weir = Setup::port(origin.port()).bind(bind).listener("mode = \"0600\"").run();
    let path = weir.dir().join("front.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let answer = get(UnixStream::connect(&path).unwrap());
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nthrough a file"), "{answer}");
    // There is no address to forward; what such a peer says about its own client is believed.
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 9.9.9.9\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let requests = origin.requests();
    assert_eq!(requests[0].field("x-forwarded-for"), None);
    assert_eq!(requests[0].field("x-forwarded-proto"), Some("http"));
    assert_eq!(requests[1].field("x-forwarded-for"), Some("9.9.9.9"));
}

#[test]
fn the_file_of_a_unix_listener_goes_away_with_it() {
    let origin = Origin::named("a");
    let bind = "[\"unix:{dir}/front.sock\", \"127.0.0.1:{port}\"]";
    let mut weir = Setup::port(origin.port()).bind(bind).run();
    let path = weir.dir().join("front.sock");
    assert!(path.exists());
    assert!(weir.stop_gracefully(PATIENCE).success());
    assert!(!path.exists());
}

#[test]
fn an_endpoint_may_be_a_unix_socket() {
    let dir = TempDir::new("unix-endpoint");
    let path = dir.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile").is_err() {
                        return;
                    }
                }
            });
        }
    });
    let weir = Setup::of(format!("unix:{}", path.display())).run();
    let mut client = weir.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").unwrap().text(), "file");
    }
}

#[test]
fn ipv6_and_dual_stack() {
    let origin = Origin::named("a");
    let (v6, dual) = (free_port(), free_port());
    let bind = format!("[\"[::1]:{v6}\", \"[::]:{dual}\", \"127.0.0.1:{{port}}\"]");
    let weir = Setup::port(origin.port()).bind(&bind).run();
    for (to, seen) in [
        (TcpStream::connect((Ipv6Addr::LOCALHOST, v6)), "::1"),
        (TcpStream::connect((Ipv6Addr::LOCALHOST, dual)), "::1"),
        // An IPv4 client of a dual-stack socket is told as IPv4.
        (TcpStream::connect((Ipv4Addr::LOCALHOST, dual)), "127.0.0.1"),
    ] {
        assert!(get(to.unwrap()).ends_with("\r\n\r\na"));
        assert_eq!(origin.requests().pop().unwrap().field("x-forwarded-for"), Some(seen));
    }
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, v6)).is_err(), "[::1] takes no IPv4");
    drop(weir);
    // IPv6 only: an IPv4 client is refused.
    let bind = format!("[\"[::]:{dual}\", \"127.0.0.1:{{port}}\"]");
    let _weir = Setup::port(origin.port()).bind(&bind).listener("ipv6_only = true").run();
    eventually(PATIENCE, "IPv6 is served", || Client::try_connect((Ipv6Addr::LOCALHOST, dual)).is_ok());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, dual)).is_err());
}
