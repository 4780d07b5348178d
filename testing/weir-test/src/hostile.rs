//! A server that follows a script per connection: what real networks and broken programs do.

use std::io::{Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Head, response};

/// Heads remembered for [`Hostile::heads`].
const MAX_REMEMBERED: usize = 10_000;

/// One step of a connection's script. After the last step the connection is closed in the ordinary way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Reads one request head and remembers it; ends the script if the peer closes first.
    ReadHead,
    /// Reads this many bytes and drops them; ends the script if the peer closes first.
    ReadBytes(usize),
    /// Reads and drops everything until the peer closes.
    ReadUntilClosed,
    /// Sends bytes at once.
    Send(Vec<u8>),
    /// Sends bytes in pieces of `size`, with `every` between two pieces.
    Dribble {
        /// What to send.
        bytes: Vec<u8>,
        /// Bytes per piece.
        size: usize,
        /// Pause after each piece.
        every: Duration,
    },
    /// Sends the same bytes until the peer takes no more.
    Endless(Vec<u8>),
    /// Sends this many bytes of noise, the same for the same seed.
    Garbage {
        /// How many bytes.
        count: usize,
        /// Chooses them.
        seed: u64,
    },
    /// Does nothing for a while.
    Wait(Duration),
    /// Does nothing, and reads nothing, until the server is dropped.
    Hang,
    /// Sends FIN and goes on with the script.
    HalfClose,
    /// Closes with RST.
    Reset,
    /// Goes back to the first step.
    Repeat,
}

impl Step {
    /// [`Step::Send`] of text.
    pub fn send(text: impl Into<String>) -> Self {
        Self::Send(text.into().into_bytes())
    }

    /// [`Step::Send`] of a complete 200 with this body.
    pub fn ok(body: &str) -> Self {
        Self::send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }
}

/// A running server on 127.0.0.1; dropping it ends every script.
pub struct Hostile {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Hostile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hostile").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Shared {
    script: Box<dyn Fn(usize) -> Vec<Step> + Send + Sync>,
    accepted: AtomicUsize,
    heads: Mutex<Vec<Head>>,
    /// Whether the server is dropped, and the connections to shut down then.
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    open: Vec<(usize, TcpStream)>,
}

impl Hostile {
    /// Starts a server; `script` gives the steps of connection 0, 1, 2 …
    ///
    /// # Panics
    /// If no socket can be had.
    pub fn start(script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("cannot listen: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("no local address: {e}"));
        let shared = Arc::new(Shared {
            script: Box::new(script),
            accepted: AtomicUsize::new(0),
            heads: Mutex::default(),
            state: Mutex::default(),
            stopped: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || accept_loop(&listener, &for_thread));
        Self { address, shared }
    }

    /// A server with the same script for every connection.
    pub fn always(steps: Vec<Step>) -> Self {
        Self::start(move |_| steps.clone())
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

    /// Connections whose script runs now.
    pub fn open_connections(&self) -> usize {
        lock(&self.shared.state).open.len()
    }

    /// The heads that [`Step::ReadHead`] has read so far (the first 10,000).
    pub fn heads(&self) -> Vec<Head> {
        lock(&self.shared.heads).clone()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.shared.state);
            state.stopping = true;
            for (_, stream) in &state.open {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.shared.stopped.notify_all();
        // Wakes the accepting thread, which then closes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept_loop(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let number = {
            let mut state = lock(&shared.state);
            if state.stopping {
                return;
            }
            let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
            if let Ok(handle) = stream.try_clone() {
                state.open.push((number, handle));
            }
            number
        };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let steps = (shared.script)(number);
            // A script ends early when the peer goes away: that is the peer's choice, not an error.
            let end = Run { stream: &stream, buffer: Vec::new(), shared: &shared }.steps(&steps);
            if end == End::Reset {
                let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            } else {
                let _ = stream.shutdown(Shutdown::Both);
            }
            // Both handles have to be closed for the kernel to act on the linger setting.
            lock(&shared.state).open.retain(|(n, _)| *n != number);
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Goes,
    Over,
    Reset,
}

struct Run<'a> {
    stream: &'a TcpStream,
    buffer: Vec<u8>,
    shared: &'a Shared,
}

impl Run<'_> {
    fn steps(&mut self, steps: &[Step]) -> End {
        loop {
            for step in steps.iter().take_while(|step| **step != Step::Repeat) {
                match self.step(step) {
                    End::Goes => {}
                    end => return end,
                }
            }
            // A script of nothing but `Repeat` would spin.
            if !steps.contains(&Step::Repeat) || steps.first() == Some(&Step::Repeat) || self.is_stopping() {
                return End::Over;
            }
        }
    }

    fn step(&mut self, step: &Step) -> End {
        match step {
            Step::ReadHead => match response::read_head(&mut self.stream, &mut self.buffer) {
                Ok(head) => {
                    let mut heads = lock(&self.shared.heads);
                    if heads.len() < MAX_REMEMBERED {
                        heads.push(head);
                    }
                    End::Goes
                }
                Err(_) => End::Over,
            },
            Step::ReadBytes(count) => self.read_bytes(*count),
            Step::ReadUntilClosed => {
                self.read_bytes(usize::MAX);
                End::Goes
            }
            Step::Send(bytes) => self.send(bytes),
            Step::Dribble { bytes, size, every } => {
                for piece in bytes.chunks((*size).max(1)) {
                    if self.send(piece) == End::Over || self.wait(*every) == End::Over {
                        return End::Over;
                    }
                }
                End::Goes
            }
            Step::Endless(bytes) => loop {
                if bytes.is_empty() || self.send(bytes) == End::Over {
                    return End::Over;
                }
            },
            Step::Garbage { count, seed } => self.send(&noise(*count, *seed)),
            Step::Wait(duration) => self.wait(*duration),
            Step::Hang => self.wait(Duration::from_hours(1)),
            Step::HalfClose => {
                let _ = self.stream.shutdown(Shutdown::Write);
                End::Goes
            }
            Step::Reset => End::Reset,
            Step::Repeat => End::Goes,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> End {
        if self.stream.write_all(bytes).is_ok() { End::Goes } else { End::Over }
    }

    fn read_bytes(&mut self, count: usize) -> End {
        let held = self.buffer.len().min(count);
        self.buffer.drain(..held);
        let mut left = count - held;
        let mut chunk = [0; 16 * 1024];
        while left > 0 {
            let want = left.min(chunk.len());
            match self.stream.read(&mut chunk[..want]) {
                Ok(n) if n > 0 => left -= n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                _ => return End::Over,
            }
        }
        End::Goes
    }

    /// Waits, but not for a server that is dropped.
    fn wait(&self, duration: Duration) -> End {
        let end = Instant::now() + duration;
        let mut state = lock(&self.shared.state);
        while !state.stopping {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return End::Goes;
            }
            state = self.shared.stopped.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        End::Over
    }

    fn is_stopping(&self) -> bool {
        lock(&self.shared.state).stopping
    }
}

/// Xorshift64* (Vigna 2016): reproducible noise without a dependency.
fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(count);
    while out.len() < count {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let word = state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
        out.extend_from_slice(&word[..word.len().min(count - out.len())]);
    }
    out
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, ClientError, PATIENCE, eventually};

    fn ask(steps: Vec<Step>) -> (Hostile, Client) {
        let server = Hostile::always(steps);
        let mut client = Client::local(server.port());
        client.send_raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        (server, client)
    }

    #[test]
    fn a_script_can_answer_on_and_on() {
        let (server, mut client) = ask(vec![Step::ReadHead, Step::ok("a"), Step::Repeat]);
        assert_eq!(client.read_response().unwrap().text(), "a");
        assert_eq!(client.get("/second").unwrap().text(), "a");
        assert_eq!(server.heads()[1].start_line, "GET /second HTTP/1.1");
    }

    #[test]
    fn reset_half_close_and_truncation_are_seen_as_such() {
        let (_server, mut client) = ask(vec![Step::ReadHead, Step::Reset]);
        assert_eq!(client.read_response(), Err(ClientError::Reset(Vec::new())));
        let (_server, mut client) = ask(vec![Step::ReadHead]);
        assert_eq!(client.read_response(), Err(ClientError::Closed));
        let (_server, mut client) = ask(vec![Step::ReadHead, Step::send("HTTP/1.1 2"), Step::HalfClose, Step::Hang]);
        assert_eq!(client.read_response(), Err(ClientError::Truncated(b"HTTP/1.1 2".to_vec())));
    }

    #[test]
    fn dribble_and_noise_arrive_whole() {
        let bytes = noise(1_000, 7);
        let steps = vec![
            Step::ReadHead,
            Step::Dribble { bytes: bytes.clone(), size: 100, every: Duration::from_millis(1) },
            Step::Garbage { count: 13, seed: 7 },
        ];
        let (_server, mut client) = ask(steps);
        let got = client.read_to_end().unwrap();
        assert_eq!(got[..1_000], bytes);
        assert_eq!(got[1_000..], bytes[..13]);
    }

    #[test]
    fn hanging_scripts_end_with_the_server() {
        let (server, mut client) = ask(vec![Step::ReadHead, Step::Hang]);
        eventually(PATIENCE, "the head is read", || server.heads().len() == 1);
        client.set_timeout(Duration::from_millis(20));
        assert_eq!(client.read_response(), Err(ClientError::TimedOut(Vec::new())));
        client.set_timeout(PATIENCE);
        drop(server);
        assert_eq!(client.read_response(), Err(ClientError::Closed));
    }

    #[test]
    fn an_endless_body_ends_with_the_client() {
        let (server, mut client) = ask(vec![Step::ReadHead, Step::Endless(vec![b'x'; 1 << 16])]);
        assert_eq!(client.read_bytes(1 << 20).unwrap().len(), 1 << 20);
        client.reset();
        eventually(PATIENCE, "the script has ended", || server.open_connections() == 0);
    }
}
