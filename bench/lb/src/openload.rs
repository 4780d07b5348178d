//! The open-loop generator: requests are due at fixed moments, whether earlier ones are answered or
//! not, and latency counts from the moment a request was due (no coordinated omission).
//!
//! One thread, one epoll, one periodic timerfd whose every tick makes one request due on the next
//! connection in turn. A connection with a request outstanding keeps the due moment and sends when the
//! answer is there.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::Outcome;
use crate::calm::Calm;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
/// Token of the timer; connections are numbered from 0.
const TIMER: u64 = u64::MAX;
/// Due moments that one connection keeps before further ones are counted as errors.
const MAX_BACKLOG: usize = 1_000;
/// After the last due moment, answers are waited for this long.
const DRAIN: Duration = Duration::from_secs(5);
/// Largest latency recorded, in microseconds.
const MAX_MICROS: u64 = 60_000_000;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Port of 127.0.0.1.
    pub port: u16,
    /// Connections, opened before the load starts.
    pub connections: u32,
    /// Requests per second over all connections.
    pub rate: u32,
    /// Seconds that are not recorded.
    pub warm_up_secs: u32,
    /// Seconds that are.
    pub secs: u32,
}

struct Conn {
    stream: TcpStream,
    /// When the outstanding request was due.
    outstanding: Option<Instant>,
    backlog: VecDeque<Instant>,
    reader: Reader,
}

/// Prints `ready` once connected, then runs and prints one JSON object.
///
/// # Errors
/// If connecting or the system fails; failed requests are counted, not errors.
pub fn run(load: &Load) -> Outcome {
    if load.rate == 0 || load.connections == 0 {
        return Err("open loop: rate and connections are at least 1".to_owned());
    }
    let fail = |what: &str, e: rustix::io::Errno| format!("open loop: {what}: {e}");
    let queue = epoll::create(CreateFlags::CLOEXEC).map_err(|e| fail("epoll", e))?;
    let mut conns = connect(load, &queue)?;
    println!("ready");
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
        .map_err(|e| fail("timerfd", e))?;
    epoll::add(&queue, &timer, EventData::new_u64(TIMER), EventFlags::IN).map_err(|e| fail("epoll", e))?;
    let interval = Duration::from_secs(1) / load.rate;
    let spec = Timespec { tv_sec: interval.as_secs() as i64, tv_nsec: i64::from(interval.subsec_nanos()) };
    let start = Instant::now();
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: spec, it_value: spec })
        .map_err(|e| fail("timerfd", e))?;

    let total = u64::from(load.rate) * u64::from(load.warm_up_secs + load.secs);
    let record_from = start + Duration::from_secs(u64::from(load.warm_up_secs));
    let mut tally = Tally::new(record_from)?;
    let end = start + Duration::from_secs(u64::from(load.warm_up_secs + load.secs)) + DRAIN;
    let mut next = 0_u64;
    let mut events = Vec::with_capacity(1_024);
    let mut scratch = vec![0; 64 * 1_024];
    while (next < total || conns.iter().any(|conn| conn.outstanding.is_some())) && Instant::now() < end {
        events.clear();
        match epoll::wait(&queue, spare_capacity(&mut events), Some(&Timespec { tv_sec: 1, tv_nsec: 0 })) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(fail("epoll_wait", e)),
        }
        for event in &events {
            let token = event.data.u64();
            if token == TIMER {
                let mut ticks = [0; 8];
                let _ = rustix::io::read(&timer, &mut ticks);
            } else if let Some(conn) = conns.get_mut(token as usize) {
                conn.read(&mut scratch, &mut tally);
            }
        }
        let now = Instant::now();
        while next < total {
            let due = start + Duration::from_nanos(next * 1_000_000_000 / u64::from(load.rate));
            if due > now {
                break;
            }
            let at = (next % u64::from(load.connections)) as usize;
            conns[at].due(due, &mut tally);
            next += 1;
        }
    }
    tally.unanswered = conns.iter().map(|conn| conn.backlog.len() as u64 + u64::from(conn.outstanding.is_some())).sum();
    tally.print(load, total);
    Ok(())
}

fn connect(load: &Load, queue: impl std::os::fd::AsFd) -> Outcome<Vec<Conn>> {
    let mut conns = Vec::with_capacity(load.connections as usize);
    for number in 0..load.connections {
        let fail = |e: std::io::Error| format!("open loop: connection {number}: {e}");
        let stream = TcpStream::connect(("127.0.0.1", load.port)).map_err(fail)?;
        stream.set_nodelay(true).map_err(fail)?;
        stream.set_nonblocking(true).map_err(fail)?;
        epoll::add(queue.as_fd(), &stream, EventData::new_u64(u64::from(number)), EventFlags::IN)
            .map_err(|e| fail(e.into()))?;
        conns.push(Conn { stream, outstanding: None, backlog: VecDeque::new(), reader: Reader::default() });
    }
    Ok(conns)
}

impl Conn {
    fn due(&mut self, at: Instant, tally: &mut Tally) {
        if self.outstanding.is_none() {
            self.send(at, tally);
        } else if self.backlog.len() < MAX_BACKLOG {
            self.backlog.push_back(at);
        } else {
            tally.errors += 1;
        }
    }

    fn send(&mut self, due: Instant, tally: &mut Tally) {
        // 31 bytes always fit into the empty send buffer of a connection with nothing outstanding.
        match self.stream.write(REQUEST) {
            Ok(n) if n == REQUEST.len() => self.outstanding = Some(due),
            _ => tally.errors += 1,
        }
    }

    fn read(&mut self, scratch: &mut [u8], tally: &mut Tally) {
        match self.stream.read(scratch) {
            Ok(n) if n > 0 => match self.reader.feed(&scratch[..n]) {
                Progress::More => {}
                Progress::Done { ok } => {
                    if let Some(due) = self.outstanding.take() {
                        tally.record(due, ok);
                    }
                    if let Some(next) = self.backlog.pop_front() {
                        self.send(next, tally);
                    }
                }
                Progress::Broken => self.broken(tally),
            },
            Err(e) if e.kind() == ErrorKind::WouldBlock || e.kind() == ErrorKind::Interrupted => {}
            _ => self.broken(tally),
        }
    }

    fn broken(&mut self, tally: &mut Tally) {
        tally.errors += u64::from(self.outstanding.take().is_some());
        // Later sends on it fail and are counted one by one.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

struct Tally {
    record_from: Instant,
    micros: Histogram<u64>,
    calm: Calm,
    completed: u64,
    errors: u64,
    unanswered: u64,
}

impl Tally {
    fn new(record_from: Instant) -> Outcome<Self> {
        let micros = Histogram::new_with_bounds(1, MAX_MICROS, 3).map_err(|e| format!("histogram: {e}"))?;
        Ok(Self { record_from, micros, calm: Calm::default(), completed: 0, errors: 0, unanswered: 0 })
    }

    fn record(&mut self, due: Instant, ok: bool) {
        if due < self.record_from {
            return;
        }
        if ok {
            self.completed += 1;
            let micros = due.elapsed().as_micros() as u64;
            self.micros.saturating_record(micros);
            self.calm.record(due.duration_since(self.record_from), micros);
        } else {
            self.errors += 1;
        }
    }

    fn print(self, load: &Load, total: u64) {
        let ms = |quantile: f64| self.micros.value_at_quantile(quantile) as f64 / 1_000.0;
        let calm = self.calm.quantile(0.99);
        let json = serde_json::json!({
            "due": total,
            "recorded": self.completed,
            "achieved_per_sec": self.completed as f64 / f64::from(load.secs.max(1)),
            "errors": self.errors + self.unanswered,
            "p50_ms": ms(0.5),
            "p99_ms": ms(0.99),
            "p99_calm_ms": calm.map(|micros| f64::from(micros) / 1_000.0),
            "p999_ms": ms(0.999),
            "max_ms": self.micros.max() as f64 / 1_000.0,
        });
        println!("{json}");
    }
}

/// Reads responses with `Content-Length`; anything else is broken.
#[derive(Default)]
struct Reader {
    head: Vec<u8>,
    /// Bytes of the body still to come; `None` within the head.
    body_left: Option<usize>,
    ok: bool,
}

enum Progress {
    More,
    Done { ok: bool },
    Broken,
}

impl Reader {
    fn feed(&mut self, mut bytes: &[u8]) -> Progress {
        if self.body_left.is_none() {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else {
                return if self.head.len() > 16 * 1_024 { Progress::Broken } else { Progress::More };
            };
            bytes = &bytes[(end + 4).saturating_sub(before).min(bytes.len())..];
            let Some((ok, length)) = parse_head(&self.head[..end]) else {
                return Progress::Broken;
            };
            self.head.clear();
            (self.ok, self.body_left) = (ok, Some(length));
        }
        let left = self.body_left.unwrap_or_default();
        if bytes.len() > left {
            return Progress::Broken;
        }
        if bytes.len() == left {
            self.body_left = None;
            return Progress::Done { ok: self.ok };
        }
        self.body_left = Some(left - bytes.len());
        Progress::More
    }
}

fn parse_head(head: &[u8]) -> Option<(bool, usize)> {
    let text = std::str::from_utf8(head).ok()?;
    let ok = text.get(..12)? == "HTTP/1.1 200";
    let length = text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })?;
    Some((ok, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_read_in_any_cut() {
        let bytes = b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-length: 3\r\n\r\nxyz";
        for cut in 0..bytes.len() {
            let mut reader = Reader::default();
            assert!(cut == 0 || matches!(reader.feed(&bytes[..cut]), Progress::More), "{cut}");
            assert!(matches!(reader.feed(&bytes[cut..]), Progress::Done { ok: true }), "{cut}");
        }
        assert!(matches!(
            Reader::default().feed(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
            Progress::Done { ok: false }
        ));
        assert!(matches!(Reader::default().feed(b"HTTP/1.1 200 OK\r\n\r\n"), Progress::Broken));
    }
}
