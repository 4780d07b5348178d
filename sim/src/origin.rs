//! Origins: servers behind Weir, with manners good and bad. They speak real HTTP/1.1 and write into the book what they
//! were asked and what they did.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use weir_core::hash::Rng;
use weir_http::{BodyEvent, BodyReader, Framing, Limits, Method, Slots, parse_request, write};
use weir_net::{Close, ConnId, Io, IoFault, ListenerId, Piece, Protocol};

use crate::ledger::{Book, Misdeed};
use crate::pattern;
use crate::timers::Timers;

/// Listeners of an origin.
pub(crate) const HTTP: ListenerId = ListenerId(0);
/// The one that sends back what it gets.
pub(crate) const ECHO: ListenerId = ListenerId(1);

/// An echo stops reading with so much unsent.
const ECHO_UNSENT_MAX: usize = 64 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// How an origin behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    /// From the request's last byte to the response's first.
    pub service_time: RangeInclusive<Duration>,
    /// The largest response body; most are small.
    pub body_max: usize,
    /// Connections are closed after so many requests.
    pub closes_after: Option<RangeInclusive<u32>>,
    /// Whether `Connection: close` says so before.
    pub announces_close: bool,
    /// Idle connections are closed after this: at a bad moment, if it is about as long as the pauses of traffic.
    pub idle_close: Option<RangeInclusive<Duration>>,
    /// Chance in 1,000 of a 103 before the response.
    pub interim_permille: u64,
    /// Chance in 1,000 that a request with a body is answered before its body was read.
    pub early_permille: u64,
    /// Whether it then keeps the connection and reads the rest of that body, instead of closing.
    pub early_keeps: bool,
    /// Chance in 1,000 of a body that ends with the connection.
    pub until_close_permille: u64,
    /// Chance in 1,000 of a 503 of the origin's own.
    pub unavailable_permille: u64,
    /// Chance in 1,000 of one of `misdeeds`.
    pub misdeed_permille: u64,
    /// What it may do wrong.
    pub misdeeds: Vec<Misdeed>,
    /// Whether it answers each new connection with a 429 and resets it, before it has read anything.
    pub turns_away: bool,
    /// What it says to probes.
    pub healthy: bool,
}

impl Default for Manners {
    /// Good ones: answers within some milliseconds, keeps connections, closes none.
    fn default() -> Self {
        Self {
            service_time: Duration::from_micros(100)..=Duration::from_millis(5),
            body_max: 20_000,
            closes_after: None,
            announces_close: true,
            idle_close: None,
            interim_permille: 0,
            early_permille: 0,
            early_keeps: false,
            until_close_permille: 0,
            unavailable_permille: 0,
            misdeed_permille: 0,
            misdeeds: Vec::new(),
            turns_away: false,
            healthy: true,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Due {
    Answer,
    IdleClose,
    Surplus,
}

#[derive(Debug)]
struct Current {
    id: u64,
    reader: BodyReader,
    received: usize,
    is_whole: bool,
    is_head: bool,
    is_probe: bool,
    early: bool,
    /// Answered early; what is left of the body is read and dropped.
    answered: bool,
    interim_sent: bool,
}

#[derive(Debug, Default)]
struct Conn {
    echo: bool,
    bytes: Vec<u8>,
    current: Option<Current>,
    served: u32,
    limit: Option<u32>,
    timers: Timers<Due>,
    /// A response that nobody asked for, to be sent.
    surplus: Vec<u8>,
    half_closed: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Origin {
    index: usize,
    book: Book,
    pub(crate) manners: Manners,
    rng: Rng,
    conns: BTreeMap<ConnId, Conn>,
}

impl Origin {
    pub(crate) fn new(index: usize, book: Book, manners: Manners, seed: u64) -> Self {
        let rng = Rng::new(seed ^ (index as u64 + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93));
        Self { index, book, manners, rng, conns: BTreeMap::new() }
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.conns.len()
    }

    fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.rng.below(1_000) < permille
    }

    fn gone(&mut self, conn: ConnId) {
        if let Some(Conn { current: Some(current), .. }) = self.conns.remove(&conn)
            && !current.is_probe
            && !current.answered
        {
            self.book.borrow_mut().leave_service(self.index);
        }
    }

    fn close<I: Io>(&mut self, io: &mut I, conn: ConnId, how: Close) {
        self.gone(conn);
        io.close(conn, how);
    }

    /// Takes what has come apart, as far as it goes.
    fn read<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        loop {
            let Some(state) = self.conns.get_mut(&conn) else { return };
            if state.current.is_none() && !self.read_head(io, conn) {
                return;
            }
            if !self.read_body(io, conn) {
                return;
            }
        }
    }

    /// Whether there is a request now.
    fn read_head<I: Io>(&mut self, io: &mut I, conn: ConnId) -> bool {
        let Some(state) = self.conns.get_mut(&conn) else { return false };
        if state.bytes.is_empty() {
            return false;
        }
        state.timers.cancel(io, conn, Due::IdleClose);
        let bytes = state.bytes.clone();
        let mut slots = Slots::new();
        let head = match parse_request(&bytes, &mut slots, &Limits::default()) {
            Ok(Some(head)) => head,
            Ok(None) => return false,
            Err(reject) => {
                self.book.borrow_mut().violation(format!("an origin got a malformed request: {}", reject.detail));
                self.close(io, conn, Close::Reset);
                return false;
            }
        };
        if head.upgrade.is_some() {
            let mut out = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n".to_vec();
            state.echo = true;
            out.extend_from_slice(&bytes[head.len..]);
            let _ = io.send(conn, &mut [Piece::Lent(&out)]);
            return false;
        }
        let is_probe = head.target.path == b"/health";
        let id = std::str::from_utf8(head.target.path)
            .ok()
            .and_then(|path| path.strip_prefix("/r/"))
            .and_then(|id| id.parse::<u64>().ok())
            .filter(|id| (*id as usize) < self.book.borrow().entries.len());
        let Some(id) = id.or(is_probe.then_some(0)) else {
            self.book.borrow_mut().violation(format!(
                "an origin was asked for {:?}, which no client asked for",
                String::from_utf8_lossy(head.target.path)
            ));
            self.close(io, conn, Close::Reset);
            return false;
        };
        if !is_probe {
            let mut book = self.book.borrow_mut();
            let entry = &mut book.entries[id as usize];
            entry.arrivals.push((io.now(), self.index));
            if entry.method != head.method.as_str() {
                book.violation(format!("request {id} arrived as {}", head.method.as_str()));
            }
            book.enter_service(self.index);
        }
        let has_body = head.framing != Framing::None;
        state.current = Some(Current {
            id,
            reader: BodyReader::new(head.framing),
            received: 0,
            is_whole: false,
            is_head: head.method == Method::Head,
            is_probe,
            early: false,
            answered: false,
            interim_sent: false,
        });
        state.bytes = bytes[head.len..].to_vec();
        if has_body
            && !is_probe
            && self.chance(self.manners.early_permille)
            && let Some(Conn { current: Some(current), timers, .. }) = self.conns.get_mut(&conn)
        {
            current.early = true;
            timers.arm(io, conn, io.now(), Due::Answer);
        }
        true
    }

    /// Whether to go on (with the next request).
    fn read_body<I: Io>(&mut self, io: &mut I, conn: ConnId) -> bool {
        let service = self.draw(&self.manners.service_time.clone());
        let Some(Conn { current: Some(current), bytes, timers, .. }) = self.conns.get_mut(&conn) else { return false };
        if current.is_whole {
            if !bytes.is_empty() {
                self.book.borrow_mut().violation(format!("bytes behind request {} before its response", current.id));
                bytes.clear();
            }
            return false;
        }
        let mut used = 0;
        loop {
            match current.reader.feed(&bytes[used..], &Limits::default()) {
                Ok((n, BodyEvent::Data(data))) => {
                    if !pattern::matches(current.id, current.received, data) {
                        self.book.borrow_mut().violation(format!("the body of request {} is not its own", current.id));
                    }
                    current.received += data.len();
                    used += n;
                }
                Ok((n, BodyEvent::Trailers(_))) => used += n,
                Ok((n, BodyEvent::End)) => {
                    used += n;
                    current.is_whole = true;
                    break;
                }
                Ok((n, BodyEvent::NeedMore)) => {
                    used += n;
                    break;
                }
                Err(reject) => {
                    self.book.borrow_mut().violation(format!("malformed body at an origin: {}", reject.detail));
                    self.close(io, conn, Close::Reset);
                    return false;
                }
            }
        }
        bytes.drain(..used);
        if !current.is_whole {
            return false;
        }
        if !current.is_probe {
            let mut book = self.book.borrow_mut();
            let entry = &mut book.entries[current.id as usize];
            entry.executions += 1;
            if entry.body_len != current.received {
                let text =
                    format!("request {} arrived with {} bytes of {}", current.id, current.received, entry.body_len);
                book.violation(text);
            }
        }
        if current.answered {
            self.served(io, conn);
            return true;
        }
        if !current.early {
            let at = io.now() + if current.is_probe { Duration::ZERO } else { service };
            timers.arm(io, conn, at, Due::Answer);
        }
        !bytes.is_empty()
    }

    fn draw(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let span = range.end().saturating_sub(*range.start()).as_nanos() as u64;
        *range.start() + Duration::from_nanos(self.rng.below(span + 1))
    }

    fn answer<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let Some(Conn { current: Some(current), .. }) = self.conns.get(&conn) else { return };
        if current.is_probe {
            let status = if self.manners.healthy { "200 OK" } else { "500 Ill" };
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            let _ = io.send(conn, &mut [Piece::Lent(text.as_bytes())]);
            self.close(io, conn, Close::Linger(LINGER));
            return;
        }
        let (id, is_head, early, interim_sent) = (current.id, current.is_head, current.early, current.interim_sent);
        if self.chance(self.manners.misdeed_permille) && !self.manners.misdeeds.is_empty() {
            let at = self.rng.below(self.manners.misdeeds.len() as u64) as usize;
            let misdeed = self.manners.misdeeds[at];
            // A body to break off is needed.
            if !(misdeed.begins() && is_head) {
                self.book.borrow_mut().entries[id as usize].misdeeds.push(misdeed);
                return self.misbehave(io, conn, id, is_head, misdeed);
            }
        }
        if !interim_sent && self.chance(self.manners.interim_permille) {
            let _ = io.send(conn, &mut [Piece::Lent(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")]);
            if let Some(Conn { current: Some(current), timers, .. }) = self.conns.get_mut(&conn) {
                current.interim_sent = true;
                timers.arm(io, conn, io.now() + Duration::from_millis(1), Due::Answer);
            }
            return;
        }
        let status = if self.chance(self.manners.unavailable_permille) { 503 } else { 200 };
        let until_close = !is_head && self.chance(self.manners.until_close_permille);
        let ends_early = early && !self.manners.early_keeps;
        let closes = until_close || ends_early || self.ends_with(conn);
        let announced = closes && (self.manners.announces_close || ends_early);
        let framing = if until_close { How::UntilClose } else { self.framing(is_head) };
        let len = self.body_len();
        let message = self.message(id, status, len, framing, announced, is_head);
        let _ = io.send(conn, &mut [Piece::Owned(message)]);
        self.book.borrow_mut().leave_service(self.index);
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if let Some(current) = &mut state.current {
            current.answered = true;
            if !closes && !state.half_closed && !current.is_whole {
                return;
            }
        }
        if closes || state.half_closed {
            return self.close(io, conn, Close::Linger(LINGER));
        }
        self.served(io, conn);
        self.read(io, conn);
    }

    /// A request has been answered and read to its end.
    fn served<I: Io>(&mut self, io: &mut I, conn: ConnId) {
        let idle = self.manners.idle_close.clone().map(|range| self.draw(&range));
        let Some(state) = self.conns.get_mut(&conn) else { return };
        state.current = None;
        state.served += 1;
        if let Some(idle) = idle {
            state.timers.arm(io, conn, io.now() + idle, Due::IdleClose);
        }
    }

    fn ends_with(&mut self, conn: ConnId) -> bool {
        let Some(range) = self.manners.closes_after.clone() else { return false };
        let drawn = *range.start() + self.rng.below(u64::from(range.end() - range.start() + 1)) as u32;
        let Some(state) = self.conns.get_mut(&conn) else { return false };
        state.served + 1 >= *state.limit.get_or_insert(drawn)
    }

    fn body_len(&mut self) -> usize {
        let most = match self.rng.below(8) {
            0 => 0,
            1..=5 => 2_000.min(self.manners.body_max),
            _ => self.manners.body_max,
        };
        self.rng.below(most as u64 + 1) as usize
    }

    fn framing(&mut self, is_head: bool) -> How {
        match self.rng.below(3) {
            0 if !is_head => How::Chunked,
            1 if !is_head => How::ChunkedWithTrailers,
            _ => How::Length,
        }
    }

    fn message(&mut self, id: u64, status: u16, len: usize, how: How, close: bool, is_head: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 256);
        write::status_line(&mut out, status, b"Whatever");
        write::field(&mut out, "X-Id", id.to_string().as_bytes());
        write::field(&mut out, "X-Len", len.to_string().as_bytes());
        if close {
            write::field(&mut out, "Connection", b"close");
        }
        let body = pattern::body(id | pattern::RESPONSE, len);
        match how {
            How::Length => write::content_length(&mut out, len as u64),
            How::Chunked | How::ChunkedWithTrailers => write::transfer_encoding_chunked(&mut out),
            How::UntilClose => {}
        }
        write::end_head(&mut out);
        if is_head {
            return out;
        }
        match how {
            How::Length | How::UntilClose => out.extend_from_slice(&body),
            How::Chunked | How::ChunkedWithTrailers => {
                let mut rest = &body[..];
                while !rest.is_empty() {
                    let n = (1 + self.rng.below(10_000) as usize).min(rest.len());
                    let (line, used) = write::chunk_head(n);
                    out.extend_from_slice(&line[..used]);
                    out.extend_from_slice(&rest[..n]);
                    out.extend_from_slice(write::CRLF);
                    rest = &rest[n..];
                }
                if how == How::ChunkedWithTrailers {
                    out.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
                } else {
                    out.extend_from_slice(write::LAST_CHUNK);
                }
            }
        }
        out
    }

    fn misbehave<I: Io>(&mut self, io: &mut I, conn: ConnId, id: u64, is_head: bool, misdeed: Misdeed) {
        match misdeed {
            Misdeed::ResetBefore => self.close(io, conn, Close::Reset),
            Misdeed::CloseBefore => self.close(io, conn, Close::Linger(LINGER)),
            Misdeed::Garbage => {
                let _ = io.send(conn, &mut [Piece::Lent(b"\x16\x03\x01 what is this\r\n\r\n")]);
                self.close(io, conn, Close::Linger(LINGER));
            }
            Misdeed::StallBefore => {}
            Misdeed::Surplus => {
                let len = self.body_len();
                let mut message = self.message(id, 200, len, How::Length, false, is_head);
                message.extend_from_slice(b"\r\n");
                let _ = io.send(conn, &mut [Piece::Owned(message)]);
                self.book.borrow_mut().leave_service(self.index);
                self.served(io, conn);
                let surplus = self.message(id, 200, 0, How::Length, false, false);
                let Some(state) = self.conns.get_mut(&conn) else { return };
                state.surplus = surplus;
                state.timers.arm(io, conn, io.now() + Duration::from_millis(1), Due::Surplus);
            }
            Misdeed::Truncated | Misdeed::ResetWithin | Misdeed::StallWithin => {
                let len = 2 + self.body_len();
                let mut message = self.message(id, 200, len, How::Length, false, false);
                let missing = 1 + self.rng.below(len as u64 - 1) as usize;
                message.truncate(message.len() - missing);
                let _ = io.send(conn, &mut [Piece::Owned(message)]);
                match misdeed {
                    Misdeed::Truncated => self.close(io, conn, Close::Linger(LINGER)),
                    Misdeed::ResetWithin => self.close(io, conn, Close::Reset),
                    _ => {}
                }
            }
        }
    }

    fn echo<I: Io>(io: &mut I, conn: ConnId, data: &[u8]) {
        let _ = io.send(conn, &mut [Piece::Lent(data)]);
        if io.unsent(conn) > ECHO_UNSENT_MAX {
            io.pause(conn);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum How {
    Length,
    Chunked,
    ChunkedWithTrailers,
    UntilClose,
}

impl<I: Io> Protocol<I> for Origin {
    type Message = ();

    fn on_accepted(&mut self, io: &mut I, conn: ConnId, listener: ListenerId, _peer: Option<SocketAddr>) {
        if self.manners.turns_away {
            let _ = io.send(conn, &mut [Piece::Lent(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")]);
            return io.close(conn, Close::Reset);
        }
        self.conns.insert(conn, Conn { echo: listener == ECHO, ..Conn::default() });
    }

    fn on_connected(&mut self, _io: &mut I, _conn: ConnId, _result: Result<(), IoFault>) {}

    fn on_data(&mut self, io: &mut I, conn: ConnId, data: &[u8]) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if state.echo {
            return Self::echo(io, conn, data);
        }
        state.bytes.extend_from_slice(data);
        self.read(io, conn);
    }

    fn on_eof(&mut self, io: &mut I, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        state.half_closed = true;
        if state.echo || state.current.is_none() {
            self.close(io, conn, Close::Linger(LINGER));
        } else if state
            .current
            .as_ref()
            .is_some_and(|current| !current.is_whole && (!current.early || current.answered))
        {
            // An incomplete request: not to be executed.
            self.close(io, conn, Close::Now);
        }
    }

    fn on_drained(&mut self, io: &mut I, conn: ConnId) {
        if self.conns.get(&conn).is_some_and(|state| state.echo) {
            io.resume(conn);
        }
    }

    fn on_reset(&mut self, _io: &mut I, conn: ConnId, _fault: IoFault) {
        self.gone(conn);
    }

    fn on_deadline(&mut self, io: &mut I, conn: ConnId) {
        while let Some(due) = self.conns.get_mut(&conn).and_then(|state| state.timers.due(io, conn)) {
            match due {
                Due::Answer => self.answer(io, conn),
                Due::Surplus => {
                    let surplus = self.conns.get_mut(&conn).map(|state| std::mem::take(&mut state.surplus));
                    let _ = io.send(conn, &mut [Piece::Owned(surplus.unwrap_or_default())]);
                }
                // What is still on its way arrives; a request that is on its way, too, does not.
                Due::IdleClose if io.unsent(conn) > 0 => self.close(io, conn, Close::Linger(LINGER)),
                Due::IdleClose => self.close(io, conn, Close::Now),
            }
        }
    }
}
