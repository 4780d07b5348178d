//! A worker on a thread of its own whose protocol does what the test says and reports what happens.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender as Channel, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_core::{Address, Instant};
use weir_net::epoll::{EpollIo, Worker, WorkerConfig};
use weir_net::{ConnId, ConnectOptions, Io, IoFault, ListenerId, Piece, Protocol, PumpEnd, Sender};

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the protocol was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Accepted(ConnId, ListenerId, Option<SocketAddr>),
    Connected(ConnId, Result<(), IoFault>),
    Data(ConnId, Vec<u8>),
    Eof(ConnId),
    Drained(ConnId),
    Pumped(ConnId, u64, PumpEnd),
    Reset(ConnId, IoFault),
    Deadline(ConnId, Instant),
    Timer(u32, Instant),
}

impl Event {
    pub fn conn(&self) -> Option<ConnId> {
        match *self {
            Self::Accepted(conn, ..)
            | Self::Connected(conn, _)
            | Self::Data(conn, _)
            | Self::Eof(conn)
            | Self::Drained(conn)
            | Self::Pumped(conn, ..)
            | Self::Reset(conn, _)
            | Self::Deadline(conn, _) => Some(conn),
            Self::Timer(..) => None,
        }
    }
}

type Order = Box<dyn FnOnce(&mut EpollIo) + Send>;
type Hook = Box<dyn FnMut(&mut EpollIo, &Event) + Send>;

struct Puppet {
    events: Channel<Event>,
    hook: Hook,
}

impl Puppet {
    fn tell(&mut self, io: &mut EpollIo, event: Event) {
        (self.hook)(io, &event);
        // The test may have ended.
        let _ = self.events.send(event);
    }
}

impl Protocol<EpollIo> for Puppet {
    type Message = Order;

    fn on_accepted(&mut self, io: &mut EpollIo, conn: ConnId, listener: ListenerId, peer: Option<SocketAddr>) {
        self.tell(io, Event::Accepted(conn, listener, peer));
    }
    fn on_connected(&mut self, io: &mut EpollIo, conn: ConnId, result: Result<(), IoFault>) {
        self.tell(io, Event::Connected(conn, result));
    }
    fn on_data(&mut self, io: &mut EpollIo, conn: ConnId, data: &[u8]) {
        self.tell(io, Event::Data(conn, data.to_vec()));
    }
    fn on_eof(&mut self, io: &mut EpollIo, conn: ConnId) {
        self.tell(io, Event::Eof(conn));
    }
    fn on_drained(&mut self, io: &mut EpollIo, conn: ConnId) {
        self.tell(io, Event::Drained(conn));
    }
    fn on_pumped(&mut self, io: &mut EpollIo, from: ConnId, moved: u64, end: PumpEnd) {
        self.tell(io, Event::Pumped(from, moved, end));
    }
    fn on_reset(&mut self, io: &mut EpollIo, conn: ConnId, fault: IoFault) {
        self.tell(io, Event::Reset(conn, fault));
    }
    fn on_deadline(&mut self, io: &mut EpollIo, conn: ConnId) {
        let at = io.clock();
        self.tell(io, Event::Deadline(conn, at));
    }
    fn on_timer(&mut self, io: &mut EpollIo, key: u32) {
        let at = io.clock();
        self.tell(io, Event::Timer(key, at));
    }
    fn on_message(&mut self, io: &mut EpollIo, order: Order) {
        order(io);
    }
}

/// A running worker.
pub struct Running {
    pub orders: Sender<Order>,
    pub events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn start() -> Self {
        Self::with_hook(|_, _| {})
    }

    /// `hook` runs inside every callback.
    pub fn with_hook(hook: impl FnMut(&mut EpollIo, &Event) + Send + 'static) -> Self {
        Self::bounded(100_000, hook)
    }

    /// Takes `connections_max` connections at most.
    pub fn bounded(connections_max: usize, hook: impl FnMut(&mut EpollIo, &Event) + Send + 'static) -> Self {
        let (ready, orders) = channel();
        let (events, received) = channel();
        let thread = std::thread::spawn(move || {
            let mut worker = Worker::new(&WorkerConfig { mailbox_len_max: 100_000, connections_max }).unwrap();
            ready.send(worker.sender()).unwrap();
            worker.run(&mut Puppet { events, hook: Box::new(hook) }).unwrap();
        });
        Self { orders: orders.recv().unwrap(), events: received, thread: Some(thread) }
    }

    /// Runs `order` on the worker and waits for its result.
    pub fn ask<R: Send + 'static>(&self, order: impl FnOnce(&mut EpollIo) -> R + Send + 'static) -> R {
        let (answer, result) = channel();
        assert!(self.orders.post(Box::new(move |io| answer.send(order(io)).unwrap())).is_ok());
        result.recv_timeout(PATIENCE).expect("the worker did not answer")
    }

    /// Listens on a free port of the loopback interface.
    pub fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        self.ask(move |io| {
            io.add_listener(ListenerId(7), OwnedFd::from(listener)).unwrap();
        });
        addr
    }

    pub fn connect(&self, to: SocketAddr) -> ConnId {
        self.connect_to(Address::Inet(to), PATIENCE)
    }

    pub fn connect_to(&self, to: Address, timeout: Duration) -> ConnId {
        self.ask(move |io| io.connect(&to, &ConnectOptions { timeout }))
    }

    pub fn send(&self, conn: ConnId, bytes: &[u8]) -> weir_net::Sent {
        let bytes = bytes.to_vec();
        self.ask(move |io| io.send(conn, &mut [Piece::Owned(bytes)]))
    }

    /// The next event.
    pub fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("no event")
    }

    /// Nothing has been reported so far. What is on its way in the kernel is waited for by one round
    /// through the loop, which is after the loopback interface has delivered.
    pub fn nothing(&self) {
        self.round();
        self.round();
        if let Ok(event) = self.events.try_recv() {
            panic!("unexpected {event:?}");
        }
    }

    /// Waits until the loop has gone round; nothing else may be reported.
    pub fn round(&self) {
        self.round_among(|event| panic!("unexpected {event:?}"));
    }

    /// Waits until the loop has gone round; `other` gets what else is reported.
    pub fn round_among(&self, mut other: impl FnMut(Event)) {
        self.ask(move |io| io.set_timer(99, Some(io.now())));
        loop {
            match self.next() {
                Event::Timer(99, _) => return,
                event => other(event),
            }
        }
    }

    pub fn accepted(&self) -> ConnId {
        match self.next() {
            Event::Accepted(conn, ..) => conn,
            other => panic!("expected an accepted connection: {other:?}"),
        }
    }

    pub fn connected(&self, conn: ConnId) {
        assert_eq!(self.next(), Event::Connected(conn, Ok(())));
    }

    /// Reads `len` bytes of one connection.
    pub fn data(&self, conn: ConnId, len: usize) -> Vec<u8> {
        let mut got = Vec::new();
        while got.len() < len {
            match self.next() {
                Event::Data(from, bytes) if from == conn => got.extend_from_slice(&bytes),
                other => panic!("expected data: {other:?}"),
            }
        }
        assert_eq!(got.len(), len);
        got
    }

    /// A connection accepted by this worker, with its other end.
    pub fn pair(&self) -> (ConnId, TcpStream) {
        let addr = self.listen();
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let conn = self.accepted();
        self.ask(|io| io.stop_listening(ListenerId(7)));
        (conn, stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.orders.post(Box::new(Io::stop));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the worker panicked");
        }
    }
}

/// `len` bytes that show where they belong.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut rng = weir_core::hash::Rng::new(len as u64);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Reads exactly `len` bytes.
pub fn read_exactly(stream: &mut impl Read, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Writes `bytes` from a thread of its own, then half-closes.
pub fn write_all_later(stream: &TcpStream, bytes: Vec<u8>) -> JoinHandle<()> {
    let mut stream = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        stream.write_all(&bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    })
}
