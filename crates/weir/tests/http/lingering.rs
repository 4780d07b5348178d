//! The end of a connection that Weir closes: who reads slowly gets all of the last response.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use rustix::process::Signal;
use weir_test::{PATIENCE, Weir, eventually};

use crate::setup::Setup;

/// Size of an answer: as much as a configuration may hold.
const BODY: usize = 1 << 20;
/// Answers that a client asks for at once, of which the last ends the connection. The kernel keeps a few MiB for a client
/// that reads nothing; how much is its affair. So one of these numbers has Weir close a connection on which the end of
/// the last answer is stuck.
const ANSWERS: std::ops::RangeInclusive<usize> = 2..=6;
/// Longer than a closed connection waits for a sign of life when there is nothing left to send (2 s).
const PAUSE: Duration = Duration::from_millis(3_200);
/// The smallest that there is.
const WINDOW: usize = 4 * 1024;

fn large_answer(rest: &str) -> Weir {
    let route = format!("[[route]]\npath = \"/big\"\nrespond = {{ status = 200, body = \"{}\" }}", "b".repeat(BODY));
    // Nobody is asked: the answer is Weir's own, whole in the queue at once.
    Setup::of("127.0.0.1:9").rest(&route).rest(rest).run()
}

/// A client with a small window that has asked so often, the last time with `Connection: close`, and has read nothing but
/// the first byte.
fn begin(weir: &Weir, answers: usize) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, WINDOW).unwrap();
    connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, weir.port()))).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut requests = "GET /big HTTP/1.1\r\nHost: h\r\n\r\n".repeat(answers - 1);
    requests.push_str("GET /big HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(requests.as_bytes()).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}

/// Reads the rest: whole answers, the last of which says that it is, then the end of the stream. Returns their number.
#[track_caller]
fn read_rest(mut stream: TcpStream) -> usize {
    let mut bytes = Vec::new();
    let result = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).rposition(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(result.is_ok() && bytes.len() - end == BODY, "cut after {} bytes: {result:?}", bytes.len());
    let begin = bytes[..end].windows(5).rposition(|five| five == b"HTTP/").unwrap_or(0);
    assert!(
        String::from_utf8_lossy(&bytes[begin..end]).to_ascii_lowercase().contains("connection: close"),
        "the last answer says so"
    );
    // The first byte of all was read before.
    1 + bytes.windows(5).filter(|five| *five == b"HTTP/").count()
}

/// Guards against giving a reader that pauses no longer for the last bytes than a client that has all of them has for
/// its FIN.
#[test]
fn a_slow_reader_of_the_last_response_gets_all_of_it() {
    let weir = large_answer("");
    let clients: Vec<_> = ANSWERS.map(|answers| (begin(&weir, answers), answers)).collect();
    std::thread::park_timeout(PAUSE);
    for (client, answers) in clients {
        assert_eq!(read_rest(client), answers);
    }
}

/// Guards against a graceful stop that counts clients and not connections: a response whose client is forgotten already,
/// since all of it is given to the connection, would be cut by the end of the process.
#[test]
fn a_stop_waits_for_the_last_bytes_of_a_closed_connection() {
    for answers in ANSWERS {
        let mut weir = large_answer("[process]\nworkers = 1\nshutdown_timeout = \"20s\"");
        let client = begin(&weir, answers);
        weir.process().signal(Signal::TERM);
        weir.process().wait_log("stopping", PATIENCE);
        // Time for a stop that does not wait to be one.
        std::thread::park_timeout(Duration::from_millis(300));
        // What waits behind a response that is not read when the stop begins is not begun any more.
        assert!((2..=answers).contains(&read_rest(client)));
        assert_eq!(weir.process().wait_exit(PATIENCE).code(), Some(0));
    }
}

/// And against one that waits longer than it may.
#[test]
fn a_stop_waits_for_the_last_bytes_no_longer_than_its_deadline() {
    for answers in ANSWERS {
        let mut weir = large_answer("[process]\nworkers = 1\nshutdown_timeout = \"300ms\"");
        let client = begin(&weir, answers);
        let code = weir.stop_gracefully(PATIENCE).code();
        // 0: the kernel had taken all of it, and Weir need not wait.
        assert!(code == Some(3) || code == Some(0) && answers == *ANSWERS.start(), "{answers} answers: {code:?}");
        drop(client);
    }
}

/// Guards against connections that stay behind: after the last byte and the client's FIN nothing is left.
#[test]
fn a_closed_connection_leaves_no_descriptor_behind() {
    let mut weir = large_answer("");
    let pid = weir.process().pid();
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = open();
    let clients: Vec<_> = ANSWERS.map(|answers| (begin(&weir, answers), answers)).collect();
    assert!(open() > before);
    for (client, answers) in clients {
        assert_eq!(read_rest(client), answers);
    }
    eventually(PATIENCE, "the descriptors are closed", || if open() <= before { Ok(()) } else { Err(open()) });
}
