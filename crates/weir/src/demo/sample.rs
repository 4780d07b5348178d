//! A sample server: a small HTTP/1.1 server on an engine loop of its own, with a delay, and (if wanted) with a
//! life that ends: its sockets are closed, connections to it are refused, and after a while it is back at its port.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_core::hash::Rng;
use weir_core::{Address, Instant};
use weir_http::{BodyEvent, BodyReader, Limits, Slots, parse_request, write};
use weir_net::epoll::{EpollIo, Worker, WorkerConfig};
use weir_net::{
    Close, ConnId, Io, IoFault, ListenError, ListenOptions, ListenerId, Piece, Protocol, Sender, Sent, bind_listener,
};

/// Connections of one server at a time.
const CONNECTIONS: usize = 4_096;
/// After the last response, a client has this long to close.
const LINGER: Duration = Duration::from_secs(1);
/// How often a server whose port somebody else has taken tries again.
const REBIND: Duration = Duration::from_millis(200);
/// Responses take between 3/4 and 5/4 of the delay.
const SPREAD_PERCENT: u64 = 50;
/// The timer of the end of a life.
const DEATH: u32 = 0;

/// What a server is like.
#[derive(Clone, Debug)]
pub(crate) struct Character {
    /// Name in the configuration and in the response.
    pub(crate) name: &'static str,
    /// In words.
    pub(crate) nature: &'static str,
    /// How long a response takes.
    pub(crate) delay: Duration,
    /// When it dies; `None`: never.
    pub(crate) mortal: Option<Lives>,
}

/// The rhythm of a server that dies and comes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lives {
    /// How long the first life lasts.
    pub(crate) first: Duration,
    /// How long it is gone.
    pub(crate) gone: Duration,
    /// How long later lives last.
    pub(crate) later: Duration,
}

/// A running sample server. Ends with [`Sample::end`].
#[derive(Debug)]
pub(crate) struct Sample {
    control: Arc<Control>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Control {
    ending: AtomicBool,
    /// Reaches the loop of the present life.
    loop_of_life: Mutex<Option<Sender<()>>>,
}

impl Sample {
    /// Binds the port and starts to serve.
    pub(crate) fn start(character: Character, address: SocketAddr) -> Result<Self, SampleError> {
        let worker = bind(address)?;
        let control = Arc::new(Control::default());
        let theirs = Arc::clone(&control);
        let thread = std::thread::Builder::new()
            .name(format!("demo-{}", character.name))
            .spawn(move || live(&character, address, &theirs, worker))?;
        Ok(Self { control, thread })
    }

    /// Closes everything and waits for the thread.
    pub(crate) fn end(self) {
        self.control.ending.store(true, Ordering::Release);
        if let Some(sender) = &*self.control.loop_of_life.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = sender.post(());
        }
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

/// Why a server cannot serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SampleError {
    /// The port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system has no descriptors or threads left.
    #[error("starting a sample server: {0}")]
    System(#[from] std::io::Error),
}

fn bind(address: SocketAddr) -> Result<Worker<()>, SampleError> {
    let options = ListenOptions { backlog: None, ipv6_only: true, unix_mode: 0o600 };
    let bound = bind_listener(&Address::Inet(address), 1, &options)?;
    let mut worker = Worker::new(&WorkerConfig { mailbox_len_max: 1, connections_max: CONNECTIONS })?;
    for socket in bound.sockets {
        worker.add_listener(ListenerId(0), socket)?;
    }
    Ok(worker)
}

/// One life after the other.
fn live(character: &Character, address: SocketAddr, control: &Control, first: Worker<()>) {
    let mut next = Some(first);
    let mut life = character.mortal.map(|lives| lives.first);
    while let Some(mut worker) = next.take() {
        *control.loop_of_life.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker.sender());
        // An end that was asked for before the sender was there.
        if control.ending.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = worker.run(&mut Server::new(character, life)) {
            tracing::error!(server = character.name, %error, "a sample server failed");
            return;
        }
        // Closes the listener and every connection, whatever is under way on them.
        drop(worker);
        let Some(lives) = character.mortal else { return };
        if control.ending.load(Ordering::Acquire) {
            return;
        }
        tracing::warn!("{} was killed: its connections are cut and new ones are refused", character.name);
        next = wait_for_return(address, control, lives.gone);
        life = Some(lives.later);
        if next.is_some() {
            tracing::info!("{} runs again", character.name);
        }
    }
}

/// Back at the same port after `gone`; `None` when asked to end.
fn wait_for_return(address: SocketAddr, control: &Control, gone: Duration) -> Option<Worker<()>> {
    let mut until = std::time::Instant::now() + gone;
    loop {
        if control.ending.load(Ordering::Acquire) {
            return None;
        }
        let left = until.saturating_duration_since(std::time::Instant::now());
        if !left.is_zero() {
            std::thread::park_timeout(left);
            continue;
        }
        match bind(address) {
            Ok(worker) => return Some(worker),
            Err(error) => {
                tracing::debug!(%error, "the port of a sample server is taken");
                until += REBIND;
            }
        }
    }
}

/// What a connection is doing.
#[derive(Debug)]
enum State {
    Head,
    Body(BodyReader),
    /// The response is due at the connection's deadline.
    Thinking,
}

#[derive(Debug)]
struct Conn {
    id: ConnId,
    inbox: Vec<u8>,
    state: State,
    keep_alive: bool,
    head_only: bool,
    delayed: bool,
    target: Vec<u8>,
}

struct Server {
    name: &'static str,
    delay: Duration,
    life: Option<Duration>,
    rng: Rng,
    conns: Vec<Option<Conn>>,
    limits: Limits,
}

impl Server {
    fn new(character: &Character, life: Option<Duration>) -> Self {
        let rng = Rng::new(u64::from(std::process::id()));
        let Character { name, delay, .. } = *character;
        Self { name, delay, life, rng, conns: Vec::new(), limits: Limits::default() }
    }

    fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.index as usize)?.as_mut().filter(|conn| conn.id == id)
    }

    fn forget(&mut self, id: ConnId) {
        if self.conn(id).is_some() {
            self.conns[id.index as usize] = None;
        }
    }

    /// Reads as much of the next request as is there.
    fn advance(&mut self, io: &mut EpollIo, id: ConnId) {
        let limits = self.limits;
        let Some(conn) = self.conn(id) else { return };
        match read_request(conn, &limits) {
            Err(()) => {
                let refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                io.send(id, &mut [Piece::Lent(refusal)]);
                self.forget(id);
                io.close(id, Close::Linger(LINGER));
            }
            Ok(false) => {}
            Ok(true) => {
                conn.state = State::Thinking;
                io.pause(id);
                if conn.delayed {
                    let at = io.now() + self.draw_delay();
                    io.set_deadline(id, Some(at));
                } else {
                    self.respond(io, id);
                }
            }
        }
    }

    fn draw_delay(&mut self) -> Duration {
        let base = u64::try_from(self.delay.as_micros()).unwrap_or(u64::MAX);
        let spread = base * SPREAD_PERCENT / 100;
        Duration::from_micros(base - spread / 2 + self.rng.below(spread.max(1)))
    }

    fn respond(&mut self, io: &mut EpollIo, id: ConnId) {
        let name = self.name;
        let Some(conn) = self.conn(id) else { return };
        let body = format!("{name} says hello: {}\n", String::from_utf8_lossy(&conn.target));
        let mut out = Vec::with_capacity(160 + body.len());
        write::status_line(&mut out, 200, b"OK");
        write::field(&mut out, "Content-Type", b"text/plain; charset=utf-8");
        write::field(&mut out, "X-Server", name.as_bytes());
        write::content_length(&mut out, body.len() as u64);
        if !conn.keep_alive {
            write::field(&mut out, "Connection", b"close");
        }
        write::end_head(&mut out);
        if !conn.head_only {
            out.extend_from_slice(body.as_bytes());
        }
        conn.state = State::Head;
        let keep_alive = conn.keep_alive;
        let sent = io.send(id, &mut [Piece::Owned(out)]);
        if !keep_alive || matches!(sent, Sent::Failed { .. }) {
            self.forget(id);
            io.close(id, Close::Linger(LINGER));
            return;
        }
        io.resume(id);
        self.advance(io, id);
    }
}

/// Whether a whole request has been read. The body is discarded. `Err`: it is not HTTP.
fn read_request(conn: &mut Conn, limits: &Limits) -> Result<bool, ()> {
    if matches!(conn.state, State::Head) {
        let (len, framing) = {
            let mut slots = Slots::new();
            let Some(head) = parse_request(&conn.inbox, &mut slots, limits).map_err(|_| ())? else { return Ok(false) };
            conn.keep_alive = head.keep_alive;
            conn.head_only = head.method.as_str() == "HEAD";
            conn.target = head.target.path.to_vec();
            conn.delayed = conn.target != b"/health";
            (head.len, head.framing)
        };
        conn.inbox.drain(..len);
        conn.state = State::Body(BodyReader::new(framing));
    }
    let State::Body(reader) = &mut conn.state else { return Ok(false) };
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
    Ok(complete)
}

impl Protocol<EpollIo> for Server {
    type Message = ();

    fn on_start(&mut self, io: &mut EpollIo) {
        let at: Option<Instant> = self.life.map(|life| io.now() + life);
        io.set_timer(DEATH, at);
    }

    fn on_accepted(&mut self, _: &mut EpollIo, id: ConnId, _: ListenerId, _: Option<SocketAddr>) {
        let index = id.index as usize;
        if index >= self.conns.len() {
            self.conns.resize_with(index + 1, || None);
        }
        self.conns[index] = Some(Conn {
            id,
            inbox: Vec::new(),
            state: State::Head,
            keep_alive: true,
            head_only: false,
            delayed: true,
            target: Vec::new(),
        });
    }

    fn on_connected(&mut self, _: &mut EpollIo, _: ConnId, _: Result<(), IoFault>) {}

    fn on_data(&mut self, io: &mut EpollIo, id: ConnId, data: &[u8]) {
        let Some(conn) = self.conn(id) else { return };
        conn.inbox.extend_from_slice(data);
        if !matches!(conn.state, State::Thinking) {
            self.advance(io, id);
        }
    }

    fn on_eof(&mut self, io: &mut EpollIo, id: ConnId) {
        self.forget(id);
        io.close(id, Close::Now);
    }

    fn on_reset(&mut self, _: &mut EpollIo, id: ConnId, _: IoFault) {
        self.forget(id);
    }

    fn on_deadline(&mut self, io: &mut EpollIo, id: ConnId) {
        self.respond(io, id);
    }

    fn on_timer(&mut self, io: &mut EpollIo, _: u32) {
        io.stop();
    }

    fn on_message(&mut self, io: &mut EpollIo, (): ()) {
        io.stop();
    }
}
