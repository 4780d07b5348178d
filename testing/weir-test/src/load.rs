//! A steady load over keep-alive connections, with a full account of what the clients saw.
//!
//! Each connection has a thread and a schedule of its own: requests start at fixed intervals, and one that is late
//! is followed at once by the next (so a pause of the server is made up for, not hidden). A connection that the server
//! closes between two requests is opened again without an error, as every client does; everything else that is not
//! a complete response is an error.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Client, ClientError};

/// Errors remembered with their text; more are only counted.
const MAX_REMEMBERED: usize = 50;

/// What to send, how often.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The port of 127.0.0.1.
    pub port: u16,
    /// Connections, each with a thread.
    pub connections: usize,
    /// Requests per second over all connections; 0 = as fast as they are answered.
    pub per_second: u32,
    /// The bytes of each request.
    pub request: String,
    /// How long a client waits for a response.
    pub patience: Duration,
}

impl LoadOptions {
    /// GETs of `/` at this rate over this many connections, with a patience of ten seconds.
    pub fn gets(port: u16, connections: usize, per_second: u32) -> Self {
        let request = "GET / HTTP/1.1\r\nHost: load\r\n\r\n".to_owned();
        Self { port, connections, per_second, request, patience: Duration::from_secs(10) }
    }
}

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Responses by body (its first 32 bytes).
    pub bodies: BTreeMap<String, u64>,
    /// Requests without a complete response.
    pub errors: u64,
    /// The first of them, each with the time since the start of the load.
    pub examples: Vec<(Duration, String)>,
    /// The longest time from a request to its complete response.
    pub slowest: Duration,
    /// How long the load has run.
    pub took: Duration,
}

impl Tally {
    /// Responses of any status.
    pub fn responses(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Responses with this status.
    pub fn status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// Responses with this body.
    pub fn body(&self, body: &str) -> u64 {
        self.bodies.get(body).copied().unwrap_or(0)
    }

    /// Responses per second.
    pub fn rate(&self) -> f64 {
        self.responses() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Requires that every request had a complete response with status 200.
    ///
    /// # Panics
    /// With what was seen else.
    #[track_caller]
    pub fn assert_all_ok(&self) {
        assert!(self.errors == 0 && self.responses() > 0 && self.responses() == self.status(200), "{self:#?}");
    }
}

/// A running load; ends when it is dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    threads: Vec<JoinHandle<()>>,
    begun: Instant,
}

impl Load {
    /// Starts it.
    pub fn start(options: &LoadOptions) -> Self {
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Tally::default())));
        let begun = Instant::now();
        let threads = (0..options.connections)
            .map(|number| {
                let (stop, tally, options) = (Arc::clone(&stop), Arc::clone(&tally), options.clone());
                std::thread::spawn(move || Connection { options, stop, tally, begun, client: None }.run(number))
            })
            .collect();
        Self { stop, tally, threads, begun }
    }

    /// What was seen so far.
    pub fn so_far(&self) -> Tally {
        let mut tally = lock(&self.tally).clone();
        tally.took = self.begun.elapsed();
        tally
    }

    /// Ends the load after the responses under way, and returns what was seen.
    pub fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.begun.elapsed();
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            let ended = thread.join();
            assert!(ended.is_ok(), "a thread of the load panicked");
        }
        let mut tally = lock(&self.tally).clone();
        tally.took = took;
        tally
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Connection {
    options: LoadOptions,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    begun: Instant,
    client: Option<Client>,
}

impl Connection {
    fn run(mut self, number: usize) {
        let interval = match self.options.per_second {
            0 => Duration::ZERO,
            rate => Duration::from_secs(self.options.connections as u64) / rate,
        };
        // The connections take turns.
        let mut due = self.begun + interval.mul_f64(number as f64 / self.options.connections as f64);
        while !self.stop.load(Ordering::Relaxed) {
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::park_timeout(wait);
                continue;
            }
            due += interval;
            self.one();
        }
    }

    fn one(&mut self) {
        let begun = Instant::now();
        let fresh = self.client.is_none();
        let mut result = self.exchange();
        if !fresh && matches!(&result, Err(ClientError::Closed)) {
            // Closed between two requests: nothing of this one was lost.
            result = self.exchange();
        }
        let took = begun.elapsed();
        let mut tally = lock(&self.tally);
        tally.slowest = tally.slowest.max(took);
        match result {
            Ok((status, body)) => {
                *tally.statuses.entry(status).or_default() += 1;
                *tally.bodies.entry(body).or_default() += 1;
            }
            Err(error) => {
                tally.errors += 1;
                if tally.examples.len() < MAX_REMEMBERED {
                    tally.examples.push((self.begun.elapsed(), error.to_string()));
                }
            }
        }
    }

    fn exchange(&mut self) -> Result<(u16, String), ClientError> {
        let mut client = if let Some(client) = self.client.take() {
            client
        } else {
            let client = Client::try_connect(("127.0.0.1", self.options.port));
            let mut client = client.map_err(|e| ClientError::Io(e.to_string()))?;
            client.set_timeout(self.options.patience);
            client
        };
        client.send_raw(&self.options.request)?;
        let response = client.read_response()?;
        let closes = response.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !closes && !response.until_close {
            self.client = Some(client);
        }
        let shown = &response.body[..response.body.len().min(32)];
        Ok((response.status, String::from_utf8_lossy(shown).into_owned()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hostile, Origin, PATIENCE, Step, eventually};

    #[test]
    fn every_response_is_counted() {
        let origin = Origin::named("a");
        let load = Load::start(&LoadOptions::gets(origin.port(), 4, 400));
        eventually(PATIENCE, "100 responses", || load.so_far().responses() >= 100);
        let tally = load.stop();
        tally.assert_all_ok();
        assert_eq!((tally.body("a"), origin.answered() as u64), (tally.responses(), tally.responses()));
    }

    #[test]
    fn a_cut_response_is_an_error_and_an_idle_close_is_not() {
        let cut = Hostile::always(vec![Step::ReadHead, Step::send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")]);
        let load = Load::start(&LoadOptions::gets(cut.port(), 1, 0));
        eventually(PATIENCE, "errors", || load.so_far().errors >= 3);
        assert_eq!(load.stop().responses(), 0);

        let closing = Hostile::always(vec![Step::ReadHead, Step::ok("x")]);
        let load = Load::start(&LoadOptions::gets(closing.port(), 1, 50));
        eventually(PATIENCE, "responses", || load.so_far().responses() >= 5);
        load.stop().assert_all_ok();
    }
}
