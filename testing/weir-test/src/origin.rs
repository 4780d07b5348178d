//! A well-behaved HTTP/1.1 server whose answers a test chooses.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{ClientError, Head, PATIENCE, response};

/// Connections at a time; more are closed at once.
const MAX_CONNECTIONS: usize = 4_096;
/// Requests remembered for [`Origin::requests`]; later ones are only counted.
const MAX_REMEMBERED: usize = 10_000;

/// A request as it arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Request line and fields.
    pub head: Head,
    /// The body, without chunk framing.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// Number of the connection, from 0 in the order of arrival.
    pub connection: usize,
}

impl Request {
    /// The method.
    pub fn method(&self) -> &str {
        self.head.start_line.split(' ').next().unwrap_or_default()
    }

    /// The request target.
    pub fn target(&self) -> &str {
        self.head.start_line.split(' ').nth(1).unwrap_or_default()
    }

    /// See [`Head::field`].
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Fields; `Content-Length` is added.
    pub fields: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Whether to close after it (`Connection: close` is added).
    pub close: bool,
}

impl Reply {
    /// A 200 with this body.
    pub fn text(body: impl Into<String>) -> Self {
        Self { status: 200, fields: Vec::new(), body: body.into().into_bytes(), close: false }
    }

    /// An empty answer with this status.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::text("") }
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// Closes the connection after the answer.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    fn bytes(&self, method: &str) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {} Chosen\r\n", self.status).into_bytes();
        for (name, value) in &self.fields {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if self.status != 204 && self.status != 304 {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(if self.close { b"Connection: close\r\n\r\n" } else { b"\r\n" });
        if method != "HEAD" && self.status != 204 && self.status != 304 {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

/// A running server on 127.0.0.1; stops when dropped.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Shared {
    handler: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
    stopping: AtomicBool,
    accepted: AtomicUsize,
    answered: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    open: Mutex<Vec<(usize, TcpStream)>>,
}

impl Origin {
    /// Starts a server that answers every request with what `handler` returns. The handler may block.
    ///
    /// # Panics
    /// If no socket can be had.
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(0, handler)
    }

    /// Starts a server that answers 200 with its own name.
    pub fn named(name: &str) -> Self {
        let name = name.to_owned();
        Self::start(move |_| Reply::text(name.clone()))
    }

    /// Starts a server on a certain port of 127.0.0.1: for an endpoint that comes back.
    ///
    /// # Panics
    /// If the port cannot be bound.
    pub fn start_on(port: u16, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener =
            TcpListener::bind(("127.0.0.1", port)).unwrap_or_else(|e| panic!("cannot listen on port {port}: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("no local address: {e}"));
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            stopping: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            requests: Mutex::default(),
            open: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || accept_loop(&listener, &for_thread));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        lock(&self.shared.open).len()
    }

    /// Requests answered so far.
    pub fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// The requests seen so far (the first 10,000).
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// Closes every open connection, as a restarting server does; new ones are accepted.
    pub fn close_connections(&self) {
        for (_, stream) in lock(&self.shared.open).iter() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes the accepting thread, which then closes the listener.
        let _ = TcpStream::connect(self.address);
        self.close_connections();
    }
}

fn accept_loop(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(handle) = stream.try_clone() else {
            continue;
        };
        let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
        {
            let mut open = lock(&shared.open);
            if open.len() >= MAX_CONNECTIONS {
                continue;
            }
            // Under the lock: who stops the server closes those that are in the list by then.
            if shared.stopping.load(Ordering::Acquire) {
                return;
            }
            open.push((number, handle));
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            serve(stream, number, &shared);
            lock(&shared.open).retain(|(n, _)| *n != number);
        });
    }
}

fn serve(mut stream: TcpStream, connection: usize, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    loop {
        // A request that never ends keeps a test's thread for at most this long; idle connections wait on.
        let Ok(head) = response::read_head(&mut stream, &mut buffer) else {
            return;
        };
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let Ok((body, trailers)) = read_body(&mut stream, &mut buffer, &head) else {
            return;
        };
        let _ = stream.set_read_timeout(None);
        let request = Request { head, body, trailers, connection };
        let reply = (shared.handler)(&request);
        let close = reply.close || request.field("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        let bytes = reply.bytes(request.method());
        {
            let mut requests = lock(&shared.requests);
            if requests.len() < MAX_REMEMBERED {
                requests.push(request);
            }
        }
        shared.answered.fetch_add(1, Ordering::Relaxed);
        if stream.write_all(&bytes).is_err() || close {
            return;
        }
    }
}

fn read_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, head: &Head) -> Result<response::Body, ClientError> {
    if head.field("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")) {
        let sent = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        sent.map_err(|e| ClientError::from_io(&e, &[]))?;
    }
    if head.field("transfer-encoding").is_none() && head.field("content-length").is_none() {
        return Ok(response::Body::default());
    }
    response::read_framed(stream, buffer, head)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A handler that panics fails its test through the missing answer; what is behind the lock is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, eventually};

    #[test]
    fn answers_on_one_connection_and_remembers() {
        let origin = Origin::start(|request| Reply::text(request.target()).with("X-Test", "1"));
        let mut client = Client::local(origin.port());
        assert_eq!(client.get("/a").unwrap().text(), "/a");
        client
            .send_raw("POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\nT: 1\r\n\r\n")
            .unwrap();
        let response = client.read_response().unwrap();
        assert_eq!((response.text().as_str(), response.field("x-test")), ("/b", Some("1")));
        let requests = origin.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(
            (requests[1].body.as_slice(), requests[1].trailers.len(), requests[1].connection),
            (b"xyz".as_slice(), 1, 0)
        );
        assert_eq!((origin.connections(), origin.answered()), (1, 2));
    }

    #[test]
    fn a_dropped_server_refuses() {
        let origin = Origin::named("a");
        let address = origin.address();
        let mut client = Client::connect(address);
        assert_eq!(client.get("/").unwrap().text(), "a");
        drop(origin);
        assert_eq!(
            client.get("/").map(|_| ()).map_err(|e| matches!(e, ClientError::Closed | ClientError::Reset(_))),
            Err(true)
        );
        eventually(PATIENCE, "the port refuses", || TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_head_request_gets_no_body() {
        let origin = Origin::named("body");
        let mut client = Client::local(origin.port());
        client.send_raw("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let response = client.read_response_to("HEAD").unwrap();
        assert_eq!((response.field("content-length"), response.body.len()), (Some("4"), 0));
        assert_eq!(client.get("/").unwrap().text(), "body");
    }
}
