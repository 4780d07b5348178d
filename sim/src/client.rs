//! Clients: they send real requests, read everything that comes, and know of every byte whether it is theirs.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use weir_core::hash::Rng;
use weir_core::{Address, Instant, Reason};
use weir_http::{BodyEvent, BodyReader, Limits, RequestMethodFacts, Slots, parse_response, write};
use weir_net::{Close, ConnId, ConnectOptions, Io, IoFault, ListenerId, Piece, Protocol};

use crate::ledger::{Book, Outcome};
use crate::pattern;
use crate::timers::Timers;

/// Pauses of one slow reader per response.
const PAUSES_MAX: u32 = 6;
/// Parts of a body that is sent slowly.
const PARTS: usize = 5;
/// Attempts to connect again after a refusal.
const CONNECTS_MAX: u32 = 20;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Connections at a time.
    pub connections: usize,
    /// Requests in all.
    pub requests: u32,
    /// Between a response and the next request.
    pub think: RangeInclusive<Duration>,
    /// Chances in 1,000 of the methods other than GET.
    pub post_permille: u64,
    /// See `post_permille`.
    pub head_permille: u64,
    /// Of bodies, how many are chunked.
    pub chunked_permille: u64,
    /// The largest request body; most are small.
    pub body_max: usize,
    /// Chance in 1,000 of sending several requests at once.
    pub pipelined_permille: u64,
    /// Chance in 1,000 of reading a response slowly.
    pub slow_reader_permille: u64,
    /// Chance in 1,000 of sending a body slowly.
    pub dribble_permille: u64,
    /// Chance in 1,000 of giving up on a request.
    pub abort_permille: u64,
    /// Chance in 1,000 of `Connection: close`.
    pub close_permille: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            connections: 4,
            requests: 40,
            think: Duration::ZERO..=Duration::from_millis(20),
            post_permille: 250,
            head_permille: 50,
            chunked_permille: 400,
            body_max: 20_000,
            pipelined_permille: 0,
            slow_reader_permille: 0,
            dribble_permille: 0,
            abort_permille: 0,
            close_permille: 50,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Due {
    Think,
    SendOn,
    ReadOn,
    Abort,
}

#[derive(Debug)]
struct Response {
    status: u16,
    of_origin: bool,
    reason: Option<Reason>,
    announced: usize,
    reader: BodyReader,
    received: usize,
    is_head: bool,
    keep_alive: bool,
}

#[derive(Debug, Default)]
struct Conn {
    open: bool,
    expected: VecDeque<u64>,
    bytes: Vec<u8>,
    /// A byte of the response to the first expected request has come.
    begun: bool,
    response: Option<Response>,
    outgoing: Vec<u8>,
    slow: bool,
    pauses: u32,
    closing: bool,
    timers: Timers<Due>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    to: Address,
    habits: Habits,
    book: Book,
    rng: Rng,
    left: u32,
    refused: u32,
    conns: BTreeMap<ConnId, Conn>,
}

impl Client {
    pub(crate) fn new(to: Address, habits: Habits, book: Book, seed: u64) -> Self {
        let left = habits.requests;
        Self { to, habits, book, rng: Rng::new(seed), left, refused: 0, conns: BTreeMap::new() }
    }

    /// Whether everything was asked and answered.
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.conns.is_empty()
    }

    /// Asks for nothing more.
    pub(crate) fn retire(&mut self) {
        self.left = 0;
    }

    /// Resets every connection, and asks for nothing more.
    pub(crate) fn hang_up<I: Io>(&mut self, io: &mut I) {
        self.left = 0;
        for conn in self.conns.keys().copied().collect::<Vec<_>>() {
            self.leave(io, conn, Close::Reset);
        }
    }

    fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.rng.below(1_000) < permille
    }

    fn think(&mut self) -> Duration {
        let range = &self.habits.think;
        let span = range.end().saturating_sub(*range.start()).as_nanos() as u64;
        *range.start() + Duration::from_nanos(self.rng.below(span + 1))
    }

    fn connect<I: Io>(&mut self, io: &mut I) {
        let conn = io.connect(&self.to, &ConnectOptions { timeout: Duration::from_secs(10) });
        self.conns.insert(conn, Conn::default());
    }

    /// Asks for the next thing, or leaves.
    fn ask<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let count = if self.chance(self.habits.pipelined_permille) { 2 + self.rng.below(3) as u32 } else { 1 };
        let count = count.min(self.left);
        if count == 0 {
            self.conns.remove(&conn);
            io.close(conn, Close::Now);
            return;
        }
        let mut out = Vec::new();
        let mut ids = VecDeque::new();
        let mut close = false;
        for _ in 0..count {
            self.left -= 1;
            close = ids.len() as u32 + 1 == count && self.chance(self.habits.close_permille);
            ids.push_back(self.write_request(io.now(), close, &mut out));
        }
        let dribble = self.chance(self.habits.dribble_permille);
        let slow = self.chance(self.habits.slow_reader_permille);
        let abort = self.chance(self.habits.abort_permille).then(|| Duration::from_micros(self.rng.below(200_000)));
        let Some(state) = self.conns.get_mut(&conn) else { return };
        state.expected = ids;
        state.slow = slow;
        state.pauses = 0;
        state.closing = close;
        state.outgoing = if dribble { out.split_off(out.len() / PARTS) } else { Vec::new() };
        if let Some(after) = abort {
            state.timers.arm(io, conn, io.now() + after, Due::Abort);
        }
        if dribble {
            state.timers.arm(io, conn, io.now() + Duration::from_millis(5), Due::SendOn);
        }
        let _ = io.send(conn, &mut [Piece::Lent(&out)]);
    }

    fn write_request(&mut self, now: Instant, close: bool, out: &mut Vec<u8>) -> u64 {
        let method = match self.rng.below(1_000) {
            n if n < self.habits.post_permille => "POST",
            n if n < self.habits.post_permille + self.habits.head_permille => "HEAD",
            _ => "GET",
        };
        let len = if method == "POST" {
            let most = if self.rng.below(4) == 0 { self.habits.body_max } else { self.habits.body_max.min(2_000) };
            self.rng.below(most as u64 + 1) as usize
        } else {
            0
        };
        let id = self.book.borrow_mut().begin(method, len, now);
        write::request_line(out, method, format!("/r/{id}").as_bytes(), None);
        write::field(out, "Host", b"shop.example");
        if close {
            write::field(out, "Connection", b"close");
        }
        if method != "POST" {
            write::end_head(out);
            return id;
        }
        let body = pattern::body(id, len);
        if self.chance(self.habits.chunked_permille) {
            write::transfer_encoding_chunked(out);
            write::end_head(out);
            let mut rest = &body[..];
            while !rest.is_empty() {
                let n = (1 + self.rng.below(5_000) as usize).min(rest.len());
                let (line, used) = write::chunk_head(n);
                out.extend_from_slice(&line[..used]);
                out.extend_from_slice(&rest[..n]);
                out.extend_from_slice(write::CRLF);
                rest = &rest[n..];
            }
            out.extend_from_slice(write::LAST_CHUNK);
        } else {
            write::content_length(out, len as u64);
            write::end_head(out);
            out.extend_from_slice(&body);
        }
        id
    }

    /// Takes responses apart, as far as they go.
    fn read<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        loop {
            let Some(state) = self.conns.get_mut(&conn) else { return };
            if state.bytes.is_empty() {
                return;
            }
            let Some(&id) = state.expected.front() else {
                let text = format!("a client got {:?}, but asked for nothing", String::from_utf8_lossy(&state.bytes));
                self.book.borrow_mut().violation(text);
                state.bytes.clear();
                return;
            };
            state.begun = true;
            if state.response.is_none() && !Self::read_head(state, id, &self.book) {
                return;
            }
            if !Self::read_body(state, id, &self.book) {
                return;
            }
            self.complete(io, conn, id);
        }
    }

    fn read_head(state: &mut Conn, id: u64, book: &Book) -> bool {
        let is_head = book.borrow().entries[id as usize].method == "HEAD";
        loop {
            let bytes = state.bytes.clone();
            let mut slots = Slots::new();
            let facts = RequestMethodFacts { head: is_head, connect: false };
            let head = match parse_response(&bytes, &mut slots, &Limits::default(), facts) {
                Ok(Some(head)) => head,
                Ok(None) => return false,
                Err(reject) => {
                    let text = format!("request {id} got a malformed response: {}", reject.detail);
                    book.borrow_mut().violation(text);
                    state.bytes.clear();
                    return false;
                }
            };
            let used = head.len;
            if head.status < 200 {
                state.bytes.drain(..used);
                continue;
            }
            let field = |name: &str| {
                let found = head.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
                found.map(|field| String::from_utf8_lossy(field.value).into_owned())
            };
            let whose = field("x-id");
            if whose.as_ref().is_some_and(|whose| *whose != id.to_string()) {
                book.borrow_mut().violation(format!("request {id} got the response of request {whose:?}"));
            }
            let code = field("weir-reason");
            let reason =
                code.as_ref().and_then(|code| Reason::ALL.iter().find(|reason| reason.as_str() == code)).copied();
            if whose.is_none() {
                let proper =
                    reason.map_or(head.status < 500 && code.is_none(), |reason| reason.status() == head.status);
                if !proper {
                    let text = format!("request {id} got a {} of Weir's with the reason {code:?}", head.status);
                    book.borrow_mut().violation(text);
                }
            }
            state.response = Some(Response {
                status: head.status,
                of_origin: whose.is_some(),
                reason,
                announced: field("x-len").and_then(|len| len.parse().ok()).unwrap_or(0),
                reader: BodyReader::new(head.framing),
                received: 0,
                is_head,
                keep_alive: head.keep_alive,
            });
            state.bytes.drain(..used);
            return true;
        }
    }

    /// Whether the response is complete.
    fn read_body(state: &mut Conn, id: u64, book: &Book) -> bool {
        let Some(response) = &mut state.response else { return false };
        let mut used = 0;
        let done = loop {
            match response.reader.feed(&state.bytes[used..], &Limits::default()) {
                Ok((n, BodyEvent::Data(data))) => {
                    let whole = id | pattern::RESPONSE;
                    if response.of_origin && !pattern::matches(whole, response.received, data) {
                        book.borrow_mut().violation(format!("the response body of request {id} is not its own"));
                    }
                    response.received += data.len();
                    used += n;
                }
                Ok((n, BodyEvent::Trailers(_))) => used += n,
                Ok((n, BodyEvent::End)) => {
                    used += n;
                    break true;
                }
                Ok((n, BodyEvent::NeedMore)) => {
                    used += n;
                    break false;
                }
                Err(reject) => {
                    let text = format!("the response body of request {id} is malformed: {}", reject.detail);
                    book.borrow_mut().violation(text);
                    break false;
                }
            }
        };
        state.bytes.drain(..used);
        done
    }

    fn complete<I: Io>(&mut self, io: &mut I, conn: ConnId, id: u64) {
        let think = self.think();
        let Some(state) = self.conns.get_mut(&conn) else { return };
        let Some(response) = state.response.take() else { return };
        {
            let mut book = self.book.borrow_mut();
            if response.of_origin && !response.is_head && response.received != response.announced {
                let (got, of) = (response.received, response.announced);
                book.violation(format!("request {id} got {got} bytes of {of} as a complete response"));
            }
            let outcome = if response.of_origin {
                Outcome::Served(response.status)
            } else {
                Outcome::Refused(response.status, response.reason)
            };
            book.end(id, io.now(), outcome);
        }
        state.expected.pop_front();
        state.begun = false;
        if !response.keep_alive {
            return self.leave(io, conn, Close::Now);
        }
        if state.expected.is_empty() {
            state.timers.cancel(io, conn, Due::Abort);
            if state.closing && response.status < 400 {
                self.book.borrow_mut().violation(format!("request {id} said close; its response does not"));
            }
            state.timers.arm(io, conn, io.now() + think, Due::Think);
        }
    }

    /// Closes a connection; what was asked on it and not answered is the client's own loss.
    fn leave<I: Io>(&mut self, io: &mut I, conn: ConnId, how: Close) {
        let Some(state) = self.conns.remove(&conn) else { return };
        for id in state.expected {
            self.book.borrow_mut().end(id, io.now(), Outcome::Abandoned);
        }
        io.close(conn, how);
        self.again(io);
    }

    /// The other side has ended the connection.
    fn ended<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let Some(state) = self.conns.remove(&conn) else { return };
        for (position, id) in state.expected.into_iter().enumerate() {
            let outcome = match (position, state.begun) {
                (0, true) => Outcome::Cut,
                (0, false) => Outcome::Dropped,
                _ => Outcome::Abandoned,
            };
            self.book.borrow_mut().end(id, io.now(), outcome);
        }
        self.again(io);
    }

    fn again<I: Io>(&mut self, io: &mut I) {
        if self.left > 0 {
            self.connect(io);
        }
    }
}

impl<I: Io> Protocol<I> for Client {
    type Message = ();

    fn on_start(&mut self, io: &mut I) {
        for _ in 0..self.habits.connections {
            self.connect(io);
        }
    }

    fn on_accepted(&mut self, io: &mut I, conn: ConnId, _: ListenerId, _: Option<SocketAddr>) {
        io.close(conn, Close::Reset);
    }

    fn on_connected(&mut self, io: &mut I, conn: ConnId, result: Result<(), IoFault>) {
        if result.is_err() {
            self.conns.remove(&conn);
            self.refused += 1;
            if self.refused > CONNECTS_MAX {
                self.left = 0;
            }
            return self.again(io);
        }
        let think = self.think();
        if let Some(state) = self.conns.get_mut(&conn) {
            state.open = true;
            state.timers.arm(io, conn, io.now() + think, Due::Think);
        }
    }

    fn on_data(&mut self, io: &mut I, conn: ConnId, data: &[u8]) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        state.bytes.extend_from_slice(data);
        if state.slow && state.pauses < PAUSES_MAX {
            state.pauses += 1;
            io.pause(conn);
            state.timers.arm(io, conn, io.now() + Duration::from_millis(150), Due::ReadOn);
        }
        self.read(io, conn);
    }

    fn on_eof(&mut self, io: &mut I, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if let (Some(&id), Some(response)) = (state.expected.front(), &mut state.response)
            && response.reader.on_eof().is_ok()
        {
            if response.of_origin {
                let text = format!("request {id}: a response until close came to an HTTP/1.1 client");
                self.book.borrow_mut().violation(text);
            }
            self.complete(io, conn, id);
        }
        self.ended(io, conn);
        io.close(conn, Close::Now);
    }

    fn on_reset(&mut self, io: &mut I, conn: ConnId, _fault: IoFault) {
        self.ended(io, conn);
    }

    fn on_deadline(&mut self, io: &mut I, conn: ConnId) {
        while let Some(due) = self.conns.get_mut(&conn).and_then(|state| state.timers.due(io, conn)) {
            match due {
                Due::Think => self.ask(io, conn),
                Due::Abort => self.leave(io, conn, Close::Reset),
                Due::ReadOn => io.resume(conn),
                Due::SendOn => {
                    let Some(state) = self.conns.get_mut(&conn) else { return };
                    let n = state.outgoing.len().div_ceil(PARTS - 1);
                    let rest = state.outgoing.split_off(n);
                    let part = std::mem::replace(&mut state.outgoing, rest);
                    if !part.is_empty() {
                        let _ = io.send(conn, &mut [Piece::Owned(part)]);
                        state.timers.arm(io, conn, io.now() + Duration::from_millis(40), Due::SendOn);
                    }
                }
            }
        }
    }
}
