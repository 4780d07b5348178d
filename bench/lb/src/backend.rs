//! The backend: one thread, one epoll, a fixed response, nothing else, so that it is never what limits.
//!
//! It counts requests by the empty line that ends a head (all load is GET without a body). A second port
//! tells the count to whoever connects: `requests\n`. Both are served by the same loop, so the count is
//! exact for one moment.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::Outcome;

/// Events taken per wake-up.
const BATCH: usize = 512;
/// Largest read at once.
const READ_BYTES: usize = 64 * 1024;
/// Requests of one connection that may wait for an answer; the load sends one at a time.
const MAX_OWED: usize = 1_024;

struct Conn {
    stream: TcpStream,
    /// How much of the end of a head the bytes so far have matched (0 to 3).
    matched: usize,
    /// Responses owed, the current one included.
    owed: usize,
    /// Bytes of the current response that are sent.
    sent: usize,
    /// The client wants the connection closed after the response.
    closing: bool,
    /// The current response is the one that says so, and the last.
    last: bool,
    writable_wanted: bool,
}

/// The two responses: they differ in `Connection: close`, without which a client would take the end of the
/// connection for a fault.
struct Responses {
    keeping: Vec<u8>,
    closing: Vec<u8>,
}

impl Responses {
    fn new(body_bytes: usize) -> Self {
        let with = |field: &str| {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{field}Content-Length: {body_bytes}\r\n\r\n");
            let mut bytes = head.into_bytes();
            bytes.resize(bytes.len() + body_bytes, b'x');
            bytes
        };
        Self { keeping: with(""), closing: with("Connection: close\r\n") }
    }
}

/// Serves until the process is ended.
///
/// # Errors
/// If the sockets cannot be set up.
pub fn serve(port: u16, control: u16, body_bytes: usize) -> Outcome {
    let io = |what: &str| {
        let what = what.to_owned();
        move |e: std::io::Error| format!("backend on port {port}: {what}: {e}")
    };
    let listener = listen(port).map_err(io("listen"))?;
    let control = listen(control).map_err(io("control port"))?;
    let queue = epoll::create(CreateFlags::CLOEXEC).map_err(|e| io("epoll")(e.into()))?;
    for socket in [&listener, &control] {
        let data = EventData::new_u64(socket.as_raw_fd() as u64);
        epoll::add(&queue, socket, data, EventFlags::IN).map_err(|e| io("epoll")(e.into()))?;
    }
    let responses = Responses::new(body_bytes);
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut scratch = vec![0; READ_BYTES];
    let mut events = Vec::with_capacity(BATCH);
    let mut requests = 0_u64;
    loop {
        events.clear();
        match epoll::wait(&queue, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(io("epoll_wait")(e.into())),
        }
        for event in &events {
            let fd = event.data.u64() as usize;
            if fd == listener.as_raw_fd() as usize {
                accept(&listener, &queue, &mut conns);
            } else if fd == control.as_raw_fd() as usize {
                if let Ok((mut asker, _)) = control.accept() {
                    let _ = asker.write_all(format!("{requests}\n").as_bytes());
                }
            } else if let Some(slot) = conns.get_mut(fd) {
                let keep =
                    slot.as_mut().is_some_and(|conn| step(conn, &queue, fd, &responses, &mut scratch, &mut requests));
                if !keep {
                    *slot = None;
                }
            }
        }
    }
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketType, bind, ipproto, listen, socket, sockopt};
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let socket = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    // The standard library's backlog of 128 would drop the bursts of 5,000 connects.
    listen(&socket, 4_096)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(listener: &TcpListener, queue: impl std::os::fd::AsFd, conns: &mut Vec<Option<Conn>>) {
    while let Ok((stream, _)) = listener.accept() {
        let fd = stream.as_raw_fd() as usize;
        let ready = stream.set_nonblocking(true).is_ok() && stream.set_nodelay(true).is_ok();
        if !ready || epoll::add(queue.as_fd(), &stream, EventData::new_u64(fd as u64), EventFlags::IN).is_err() {
            continue;
        }
        if conns.len() <= fd {
            conns.resize_with(fd + 1, || None);
        }
        conns[fd] =
            Some(Conn { stream, matched: 0, owed: 0, sent: 0, closing: false, last: false, writable_wanted: false });
    }
}

/// Reads, counts and answers; `false` when the connection is over.
fn step(
    conn: &mut Conn,
    queue: impl std::os::fd::AsFd,
    fd: usize,
    responses: &Responses,
    scratch: &mut [u8],
    requests: &mut u64,
) -> bool {
    match conn.stream.read(scratch) {
        Ok(0) => return false,
        Ok(n) => {
            let heads = count_heads(&scratch[..n], &mut conn.matched);
            *requests += heads as u64;
            conn.owed += heads;
            conn.closing |= asks_to_close(&scratch[..n]);
            if conn.owed > MAX_OWED {
                return false;
            }
        }
        Err(e) if e.kind() == ErrorKind::WouldBlock || e.kind() == ErrorKind::Interrupted => {}
        Err(_) => return false,
    }
    while conn.owed > 0 {
        if conn.sent == 0 {
            conn.last = conn.closing;
        }
        let response = if conn.last { &responses.closing } else { &responses.keeping };
        match conn.stream.write(&response[conn.sent..]) {
            Ok(n) => {
                conn.sent += n;
                if conn.sent == response.len() {
                    conn.sent = 0;
                    conn.owed -= 1;
                    if conn.last {
                        return false;
                    }
                }
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
    }
    let wanted = conn.owed > 0;
    if wanted != conn.writable_wanted {
        conn.writable_wanted = wanted;
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        return epoll::modify(queue, &conn.stream, EventData::new_u64(fd as u64), flags).is_ok();
    }
    true
}

/// Ends of heads (`CR LF CR LF`) in `bytes`; `matched` carries a part of one to the next read.
fn count_heads(bytes: &[u8], matched: &mut usize) -> usize {
    const END: &[u8; 4] = b"\r\n\r\n";
    let mut found = 0;
    for &byte in bytes {
        if byte == END[*matched] {
            *matched += 1;
            if *matched == END.len() {
                *matched = 0;
                found += 1;
            }
        } else {
            *matched = usize::from(byte == b'\r');
        }
    }
    found
}

/// Only the two spellings that wrk and the balancers send are looked for.
fn asks_to_close(bytes: &[u8]) -> bool {
    let needles: [&[u8]; 2] = [b"onnection: close", b"onnection: Close"];
    bytes.windows(16).any(|window| needles.contains(&window))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_counted_across_reads() {
        let mut matched = 0;
        assert_eq!(count_heads(b"GET / HTTP/1.1\r\nA: b\r\n\r\nGET", &mut matched), 1);
        assert_eq!(count_heads(b" / HTTP/1.1\r\n\r", &mut matched), 0);
        assert_eq!(count_heads(b"\n", &mut matched), 1);
        assert_eq!(count_heads(b"\r\r\n\r\n", &mut matched), 1);
    }

    #[test]
    fn a_wish_to_close_is_seen() {
        assert!(asks_to_close(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n"));
        assert!(!asks_to_close(b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"));
    }
}
