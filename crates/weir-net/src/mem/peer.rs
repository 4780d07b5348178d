//! Scripted clients and servers: bytes and conditions, no protocol.
//!
//! A [`Script`] is a list of steps that runs on each of a [`Peer`]'s connections; a [`Record`] of each
//! connection tells what came when.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_core::{Address, Instant};

use crate::{Close, ConnId, ConnectOptions, Io, IoFault, ListenerId, Piece, Protocol};

/// What a peer does on a connection, step by step.
#[derive(Clone, Debug, Default)]
pub struct Script {
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Send(Arc<[u8]>),
    Wait(Duration),
    UntilBytes(usize),
    UntilContains(Arc<[u8]>),
    UntilEof,
    UntilDrained,
    Pause,
    Resume,
    ShutdownWrite,
    Close(Close),
    Again,
}

/// What happened on one connection of a peer.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its token (stale once it has ended).
    pub conn: ConnId,
    /// The listener it came in by; `None` for a connection that this peer made.
    pub listener: Option<ListenerId>,
    /// The other end's address.
    pub peer: Option<SocketAddr>,
    /// When it was accepted, or `connect` was called.
    pub started_at: Instant,
    /// When `connect` succeeded (or it was accepted).
    pub connected_at: Option<Instant>,
    /// Everything received.
    pub received: Vec<u8>,
    /// When how many bytes came.
    pub arrivals: Vec<(Instant, usize)>,
    /// When the other end half-closed.
    pub eof_at: Option<Instant>,
    /// When and how it failed: connecting, or by a reset.
    pub failed: Option<(Instant, IoFault)>,
    /// When this peer closed it.
    pub closed_at: Option<Instant>,
    /// How often the script went through [`Script::again`].
    pub rounds: usize,
}

/// A protocol that runs scripts.
#[derive(Debug)]
pub struct Peer<M> {
    /// For accepted connections; the last one for all that follow.
    accept: Vec<Script>,
    accepted: usize,
    running: BTreeMap<ConnId, Running>,
    records: Vec<Record>,
    message: PhantomData<fn() -> M>,
}

#[derive(Debug)]
struct Running {
    record: usize,
    script: Script,
    next: usize,
    /// Bytes of the record that conditions have used up.
    used: usize,
    is_waiting: bool,
}

// === impl Script ===

impl Script {
    /// Does nothing: reads everything, answers nothing, closes nothing.
    pub fn silent() -> Self {
        Self::default()
    }

    /// Answers each time `request_end` has come (and forgets what came before it), `delay` later.
    pub fn respond(request_end: &[u8], delay: Duration, response: &[u8]) -> Self {
        Self::silent().until_contains(request_end).wait(delay).send(response).again()
    }

    /// Sends `bytes`.
    #[must_use]
    pub fn send(self, bytes: &[u8]) -> Self {
        self.then(Step::Send(bytes.into()))
    }

    /// Sends `len` bytes that follow from `seed` and mean nothing.
    #[must_use]
    pub fn garbage(self, seed: u64, len: usize) -> Self {
        let mut rng = weir_core::hash::Rng::new(seed);
        let bytes: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
        self.send(&bytes)
    }

    /// Does nothing for `span`.
    #[must_use]
    pub fn wait(self, span: Duration) -> Self {
        self.then(Step::Wait(span))
    }

    /// Waits for `count` more bytes and uses them up.
    #[must_use]
    pub fn until_bytes(self, count: usize) -> Self {
        self.then(Step::UntilBytes(count))
    }

    /// Waits for these bytes and uses up everything to their end.
    #[must_use]
    pub fn until_contains(self, bytes: &[u8]) -> Self {
        self.then(Step::UntilContains(bytes.into()))
    }

    /// Waits for the other end's half-close.
    #[must_use]
    pub fn until_eof(self) -> Self {
        self.then(Step::UntilEof)
    }

    /// Waits until nothing is stuck.
    #[must_use]
    pub fn until_drained(self) -> Self {
        self.then(Step::UntilDrained)
    }

    /// Stops reading.
    #[must_use]
    pub fn pause(self) -> Self {
        self.then(Step::Pause)
    }

    /// Goes on reading.
    #[must_use]
    pub fn resume(self) -> Self {
        self.then(Step::Resume)
    }

    /// Half-closes.
    #[must_use]
    pub fn shutdown_write(self) -> Self {
        self.then(Step::ShutdownWrite)
    }

    /// Closes.
    #[must_use]
    pub fn close(self, how: Close) -> Self {
        self.then(Step::Close(how))
    }

    /// Goes back to the first step. A script without a waiting step before this stops here.
    #[must_use]
    pub fn again(self) -> Self {
        self.then(Step::Again)
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn waits(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(step, Step::Wait(_) | Step::UntilContains(_))
                || matches!(step, Step::UntilBytes(count) if *count > 0)
        })
    }
}

// === impl Peer ===

impl<M> Peer<M> {
    /// A peer that only makes connections; what is accepted is read and not answered.
    pub fn client() -> Self {
        Self::server(Vec::new())
    }

    /// A peer that runs the first script on the first connection that it accepts, and so on; the last
    /// one on all that follow.
    pub fn server(scripts: impl Into<Vec<Script>>) -> Self {
        Self {
            accept: scripts.into(),
            accepted: 0,
            running: BTreeMap::new(),
            records: Vec::new(),
            message: PhantomData,
        }
    }

    /// Connects and then runs `script`. Gives the position of its record.
    pub fn connect<I: Io>(&mut self, io: &mut I, to: &Address, timeout: Duration, script: Script) -> usize {
        let conn = io.connect(to, &ConnectOptions { timeout });
        self.begin(io, conn, None, to.inet(), script)
    }

    /// Adds steps to the end of a connection's script, and runs on.
    pub fn go_on<I: Io>(&mut self, io: &mut I, record: usize, script: Script) {
        let conn = self.records[record].conn;
        let is_connected = self.records[record].connected_at.is_some();
        if let Some(running) = self.running.get_mut(&conn)
            && running.record == record
        {
            running.script.steps.extend(script.steps);
            if is_connected {
                self.advance(io, conn);
            }
        }
    }

    /// Replaces the scripts of connections that are accepted from now on.
    pub fn set_scripts(&mut self, scripts: impl Into<Vec<Script>>) {
        self.accept = scripts.into();
        self.accepted = 0;
    }

    /// All connections so far, in the order in which they began.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Connections that have not ended.
    pub fn open(&self) -> usize {
        self.running.len()
    }

    fn begin<I: Io>(
        &mut self,
        io: &I,
        conn: ConnId,
        listener: Option<ListenerId>,
        peer: Option<SocketAddr>,
        script: Script,
    ) -> usize {
        let record = self.records.len();
        self.records.push(Record {
            conn,
            listener,
            peer,
            started_at: io.now(),
            connected_at: listener.map(|_| io.now()),
            received: Vec::new(),
            arrivals: Vec::new(),
            eof_at: None,
            failed: None,
            closed_at: None,
            rounds: 0,
        });
        self.running.insert(conn, Running { record, script, next: 0, used: 0, is_waiting: false });
        record
    }

    fn record_mut(&mut self, conn: ConnId) -> Option<&mut Record> {
        let running = self.running.get(&conn)?;
        self.records.get_mut(running.record)
    }

    /// Takes the steps that can be taken now.
    fn advance<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        while let Some(running) = self.running.get_mut(&conn) {
            let record = &mut self.records[running.record];
            let Some(step) = running.script.steps.get(running.next) else {
                return;
            };
            let fresh = &record.received[running.used..];
            match step {
                Step::Send(bytes) => {
                    // How it went shows in what the other end records.
                    let _ = io.send(conn, &mut [Piece::Lent(bytes)]);
                }
                Step::Wait(span) => {
                    if !running.is_waiting {
                        running.is_waiting = true;
                        let until = io.now() + *span;
                        io.set_deadline(conn, Some(until));
                    }
                    return;
                }
                Step::UntilBytes(count) if fresh.len() < *count => return,
                Step::UntilBytes(count) => running.used += count,
                Step::UntilContains(bytes) => match find(fresh, bytes) {
                    Some(at) => running.used += at + bytes.len(),
                    None => return,
                },
                Step::UntilEof if record.eof_at.is_none() => return,
                Step::UntilDrained if io.unsent(conn) > 0 => return,
                Step::UntilEof | Step::UntilDrained => {}
                Step::Pause => io.pause(conn),
                Step::Resume => io.resume(conn),
                Step::ShutdownWrite => io.shutdown_write(conn),
                Step::Close(how) => {
                    record.closed_at = Some(io.now());
                    io.close(conn, *how);
                    self.running.remove(&conn);
                    return;
                }
                Step::Again => {
                    if !running.script.waits() {
                        return;
                    }
                    record.rounds += 1;
                    running.next = 0;
                    continue;
                }
            }
            running.next += 1;
        }
    }
}

impl<I: Io, M: Send + 'static> Protocol<I> for Peer<M> {
    type Message = M;

    fn on_accepted(&mut self, io: &mut I, conn: ConnId, listener: ListenerId, peer: Option<SocketAddr>) {
        let script = self.accept.get(self.accepted).or(self.accept.last()).cloned().unwrap_or_default();
        self.accepted += 1;
        self.begin(io, conn, Some(listener), peer, script);
        self.advance(io, conn);
    }

    fn on_connected(&mut self, io: &mut I, conn: ConnId, result: Result<(), IoFault>) {
        let now = io.now();
        let Some(record) = self.record_mut(conn) else {
            return;
        };
        match result {
            Ok(()) => {
                record.connected_at = Some(now);
                self.advance(io, conn);
            }
            Err(fault) => {
                record.failed = Some((now, fault));
                self.running.remove(&conn);
            }
        }
    }

    fn on_data(&mut self, io: &mut I, conn: ConnId, data: &[u8]) {
        let now = io.now();
        if let Some(record) = self.record_mut(conn) {
            record.received.extend_from_slice(data);
            record.arrivals.push((now, data.len()));
            self.advance(io, conn);
        }
    }

    fn on_eof(&mut self, io: &mut I, conn: ConnId) {
        let now = io.now();
        if let Some(record) = self.record_mut(conn) {
            record.eof_at = Some(now);
            self.advance(io, conn);
        }
    }

    fn on_drained(&mut self, io: &mut I, conn: ConnId) {
        self.advance(io, conn);
    }

    fn on_reset(&mut self, io: &mut I, conn: ConnId, fault: IoFault) {
        let now = io.now();
        if let Some(record) = self.record_mut(conn) {
            record.failed = Some((now, fault));
        }
        self.running.remove(&conn);
    }

    fn on_deadline(&mut self, io: &mut I, conn: ConnId) {
        if let Some(running) = self.running.get_mut(&conn) {
            running.is_waiting = false;
            running.next += 1;
            self.advance(io, conn);
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
