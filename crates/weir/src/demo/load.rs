//! Steady load: an open loop. Requests are due at fixed moments, whether earlier ones are answered or not, and their time
//! counts from the moment they were due: a stall is not hidden by a client that waits politely.
//!
//! One engine loop with a fixed set of keep-alive connections. A request that is due while every connection is busy
//! waits in a bounded backlog; what does not fit there counts as an error.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_core::{Address, Instant};
use weir_http::{BodyEvent, BodyReader, Limits, RequestMethodFacts, Slots, parse_response, write};
use weir_net::epoll::{EpollIo, Worker, WorkerConfig};
use weir_net::{Close, ConnId, ConnectOptions, Io, IoFault, ListenerId, Piece, Protocol, Sender, Sent};
use weir_telemetry::{Counter, Gauge, Histogram};

/// Most connections of the clients.
pub(crate) const CONNECTIONS: u32 = 50;
/// Requests that are due and have no connection yet.
const BACKLOG: usize = 10_000;
/// A request without a complete response for so long has failed.
const PATIENCE: Duration = Duration::from_secs(15);
/// At the end, responses under way are awaited for this long.
const LAST_RESPONSES: Duration = Duration::from_secs(3);
/// A connection that could not be opened is tried again after this.
const RECONNECT: Duration = Duration::from_millis(100);
/// What the clients ask for, in turn.
const PATHS: [&str; 4] = ["/", "/items", "/items/7", "/cart?user=42"];

/// The timer of the next request.
const DUE: u32 = 0;
/// The timer of connections to be opened again.
const OPEN: u32 = 1;
/// The timer of the last moment.
const END: u32 = 2;

/// What the clients have seen so far. Written by the load's thread only.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Responses with status 2xx.
    pub(crate) answered: Counter,
    /// Responses with another status.
    pub(crate) refused: Counter,
    /// Connections lost with a request on them, or that could not be opened.
    pub(crate) lost: Counter,
    /// No response in time, or no room to wait for a connection.
    pub(crate) late: Counter,
    /// Requests due and not answered.
    pub(crate) waiting: Gauge,
    /// From the moment a request was due to its complete response.
    pub(crate) time: Histogram,
}

impl Seen {
    /// Everything that a client would call an error.
    pub(crate) fn errors(&self) -> u64 {
        self.refused.get() + self.lost.get() + self.late.get()
    }
}

/// Running load. Ends with [`Load::end`].
#[derive(Debug)]
pub(crate) struct Load {
    sender: Sender<()>,
    thread: JoinHandle<()>,
    ended: Arc<AtomicBool>,
    seen: Arc<Seen>,
}

impl Load {
    /// Starts `rate` requests a second to `target`.
    pub(crate) fn start(target: SocketAddr, rate: u32) -> std::io::Result<Self> {
        let connections = CONNECTIONS.min(rate.max(1));
        let mut worker = Worker::new(&WorkerConfig { mailbox_len_max: 4, connections_max: CONNECTIONS as usize + 1 })?;
        let (sender, seen, ended) = (worker.sender(), Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let mut clients = Clients::new(target, rate, connections, Arc::clone(&seen));
        let tell = Arc::clone(&ended);
        let thread = std::thread::Builder::new().name("demo-clients".to_owned()).spawn(move || {
            if let Err(error) = worker.run(&mut clients) {
                tracing::error!(%error, "the clients failed");
            }
            tell.store(true, Ordering::Release);
        })?;
        Ok(Self { sender, thread, ended, seen })
    }

    /// What the clients have seen.
    pub(crate) fn seen(&self) -> &Arc<Seen> {
        &self.seen
    }

    /// Sends no more requests, waits for the responses under way, and ends.
    pub(crate) fn end(self) {
        if !self.ended.load(Ordering::Acquire) {
            let _ = self.sender.post(());
        }
        let _ = self.thread.join();
    }
}

#[derive(Debug)]
enum State {
    Connecting,
    Idle,
    /// A request that was due at this moment is on its way.
    Head(Instant),
    Body(Instant, BodyReader, u16),
}

#[derive(Debug)]
struct Conn {
    id: ConnId,
    state: State,
    inbox: Vec<u8>,
    keep_alive: bool,
}

struct Clients {
    target: Address,
    host: String,
    interval: Duration,
    next: Instant,
    connections: u32,
    conns: Vec<Option<Conn>>,
    /// Longest idle first, so that none is idle for long.
    idle: VecDeque<ConnId>,
    due: VecDeque<Instant>,
    missing: u32,
    sent: usize,
    ending: bool,
    limits: Limits,
    seen: Arc<Seen>,
}

impl Clients {
    fn new(target: SocketAddr, rate: u32, connections: u32, seen: Arc<Seen>) -> Self {
        Self {
            target: Address::Inet(target),
            host: target.to_string(),
            interval: Duration::from_secs(1) / rate.max(1),
            next: Instant::ZERO,
            connections,
            conns: Vec::new(),
            idle: VecDeque::new(),
            due: VecDeque::new(),
            missing: 0,
            sent: 0,
            ending: false,
            limits: Limits::default(),
            seen,
        }
    }

    fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.index as usize)?.as_mut().filter(|conn| conn.id == id)
    }

    fn open(&mut self, io: &mut EpollIo) {
        let id = io.connect(&self.target, &ConnectOptions { timeout: PATIENCE });
        let index = id.index as usize;
        if index >= self.conns.len() {
            self.conns.resize_with(index + 1, || None);
        }
        self.conns[index] = Some(Conn { id, state: State::Connecting, inbox: Vec::new(), keep_alive: true });
    }

    /// Gives requests that are due to idle connections.
    fn dispatch(&mut self, io: &mut EpollIo) {
        while let Some(&due) = self.due.front() {
            let Some(id) = self.idle.pop_front() else { return };
            let path = PATHS[self.sent % PATHS.len()];
            let host = self.host.clone();
            let Some(conn) = self.conn(id) else { continue };
            let mut out = Vec::with_capacity(128);
            write::request_line(&mut out, "GET", path.as_bytes(), None);
            write::field(&mut out, "Host", host.as_bytes());
            write::field(&mut out, "User-Agent", b"weir-demo");
            write::end_head(&mut out);
            conn.state = State::Head(due);
            conn.inbox.clear();
            self.due.pop_front();
            self.sent += 1;
            io.set_deadline(id, Some(io.now() + PATIENCE));
            if let Sent::Failed { .. } = io.send(id, &mut [Piece::Owned(out)]) {
                io.close(id, Close::Now);
                self.lose(io, id);
            }
        }
    }

    /// The connection is gone; if a request was on it, that is an error that a client sees.
    fn lose(&mut self, io: &mut EpollIo, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.index as usize).and_then(|entry| entry.take_if(|conn| conn.id == id))
        else {
            return;
        };
        match conn.state {
            State::Head(_) | State::Body(..) => {
                self.seen.lost.inc();
                self.seen.waiting.dec();
            }
            State::Connecting => self.seen.lost.inc(),
            State::Idle => self.idle.retain(|other| *other != id),
        }
        self.open_later(io);
    }

    fn open_later(&mut self, io: &mut EpollIo) {
        self.missing += 1;
        io.set_timer(OPEN, Some(io.now() + RECONNECT));
    }

    /// Reads as much of the response as is there.
    fn advance(&mut self, io: &mut EpollIo, id: ConnId) {
        let limits = self.limits;
        let Some(conn) = self.conn(id) else { return };
        match read_response(conn, &limits) {
            Err(()) => {
                io.close(id, Close::Now);
                self.lose(io, id);
            }
            Ok(None) => {}
            Ok(Some((due, status))) => {
                conn.state = State::Idle;
                let keep_alive = conn.keep_alive;
                io.set_deadline(id, None);
                self.seen.waiting.dec();
                self.seen.time.observe(u32::try_from(io.now().since(due).as_micros()).unwrap_or(u32::MAX));
                if (200..300).contains(&status) {
                    self.seen.answered.inc();
                } else {
                    self.seen.refused.inc();
                }
                if keep_alive {
                    self.idle.push_back(id);
                } else {
                    io.close(id, Close::Now);
                    self.conns[id.index as usize] = None;
                    self.open(io);
                }
                self.dispatch(io);
                self.stop_if_done(io);
            }
        }
    }

    fn stop_if_done(&mut self, io: &mut EpollIo) {
        if self.ending && self.seen.waiting.get() <= 0 {
            io.stop();
        }
    }
}

/// The moment the request was due and the status, when the response is complete. `Err`: it is not HTTP.
fn read_response(conn: &mut Conn, limits: &Limits) -> Result<Option<(Instant, u16)>, ()> {
    while let State::Head(due) = conn.state {
        let (len, status, framing) = {
            let mut slots = Slots::new();
            let facts = RequestMethodFacts::default();
            let Some(head) = parse_response(&conn.inbox, &mut slots, limits, facts).map_err(|_| ())? else {
                return Ok(None);
            };
            conn.keep_alive = head.keep_alive;
            (head.len, head.status, head.framing)
        };
        conn.inbox.drain(..len);
        if status >= 200 {
            conn.state = State::Body(due, BodyReader::new(framing), status);
        }
    }
    let State::Body(due, reader, status) = &mut conn.state else { return Err(()) };
    let mut at = 0;
    let complete = loop {
        let (n, event) = reader.feed(&conn.inbox[at..], limits).map_err(|_| ())?;
        at += n;
        match event {
            BodyEvent::NeedMore => break false,
            BodyEvent::End => break true,
            BodyEvent::Data(_) | BodyEvent::Trailers(_) => {}
        }
    };
    conn.inbox.drain(..at);
    Ok(complete.then_some((*due, *status)))
}

impl Protocol<EpollIo> for Clients {
    type Message = ();

    fn on_start(&mut self, io: &mut EpollIo) {
        for _ in 0..self.connections {
            self.open(io);
        }
        self.next = io.now();
        io.set_timer(DUE, Some(self.next));
    }

    fn on_accepted(&mut self, io: &mut EpollIo, id: ConnId, _: ListenerId, _: Option<SocketAddr>) {
        io.close(id, Close::Reset);
    }

    fn on_connected(&mut self, io: &mut EpollIo, id: ConnId, result: Result<(), IoFault>) {
        if result.is_err() {
            self.lose(io, id);
        } else if let Some(conn) = self.conn(id) {
            conn.state = State::Idle;
            self.idle.push_back(id);
            self.dispatch(io);
        }
    }

    fn on_data(&mut self, io: &mut EpollIo, id: ConnId, data: &[u8]) {
        let Some(conn) = self.conn(id) else { return };
        conn.inbox.extend_from_slice(data);
        self.advance(io, id);
    }

    fn on_eof(&mut self, io: &mut EpollIo, id: ConnId) {
        io.close(id, Close::Now);
        self.lose(io, id);
        self.stop_if_done(io);
    }

    fn on_reset(&mut self, io: &mut EpollIo, id: ConnId, _: IoFault) {
        self.lose(io, id);
        self.stop_if_done(io);
    }

    fn on_deadline(&mut self, io: &mut EpollIo, id: ConnId) {
        io.close(id, Close::Now);
        if self.conn(id).is_some() {
            self.conns[id.index as usize] = None;
            self.seen.late.inc();
            self.seen.waiting.dec();
            self.open_later(io);
        }
        self.stop_if_done(io);
    }

    fn on_timer(&mut self, io: &mut EpollIo, key: u32) {
        match key {
            DUE if !self.ending => {
                while self.next <= io.now() {
                    if self.due.len() < BACKLOG {
                        self.due.push_back(self.next);
                        self.seen.waiting.inc();
                    } else {
                        self.seen.late.inc();
                    }
                    self.next = self.next + self.interval;
                }
                io.set_timer(DUE, Some(self.next));
                self.dispatch(io);
            }
            OPEN => {
                for _ in 0..std::mem::take(&mut self.missing) {
                    self.open(io);
                }
            }
            END => io.stop(),
            _ => {}
        }
    }

    fn on_message(&mut self, io: &mut EpollIo, (): ()) {
        self.ending = true;
        // Requests that were never sent are nobody's error.
        self.seen.waiting.add(-(self.due.len() as i64));
        self.due.clear();
        io.set_timer(END, Some(io.now() + LAST_RESPONSES));
        self.stop_if_done(io);
    }
}
