//! A server of the tests' own making, its pool, and what was logged.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a test's helpers fail with the test")]

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tracing::subscriber::DefaultGuard;
use weir_pool::{Builder, Manager, Pool};

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How it answers.
#[derive(Default, Debug)]
pub(crate) struct Server {
    pub(crate) connect_ms: AtomicU64,
    pub(crate) refuses: AtomicBool,
    pub(crate) hangs: AtomicBool,
    pub(crate) opened: AtomicU64,
    /// Connections with numbers below this are dead; the client knows that without asking, if so set. Checks of those that are not get
    /// no answer, if so set.
    pub(crate) dead_below: AtomicU64,
    pub(crate) knows: AtomicBool,
    pub(crate) checks_hang: AtomicBool,
    pub(crate) panics: AtomicBool,
    pub(crate) close_ms: AtomicU64,
}

impl Server {
    pub(crate) fn set(flag: &AtomicBool, value: bool) {
        flag.store(value, Ordering::SeqCst);
    }

    /// All that are open are dead.
    pub(crate) fn restart(&self) {
        self.dead_below.store(self.opened.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn is_dead(&self, number: u64) -> bool {
        number < self.dead_below.load(Ordering::SeqCst)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no route to \"test\"")
    }
}

impl std::error::Error for Failure {}

pub(crate) struct Client(pub(crate) Arc<Server>);

impl Manager for Client {
    type Connection = u64;
    type Error = Failure;

    async fn connect(&self) -> Result<u64, Failure> {
        if self.0.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        match self.0.connect_ms.load(Ordering::SeqCst) {
            0 => {}
            millis => pass(ms(millis)).await,
        }
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(Failure);
        }
        assert!(!self.0.panics.load(Ordering::SeqCst), "on purpose");
        Ok(self.0.opened.fetch_add(1, Ordering::SeqCst))
    }

    async fn check(&self, number: &mut u64) -> Result<(), Failure> {
        pass(ms(1)).await;
        if self.0.checks_hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.0.is_dead(*number) { Err(Failure) } else { Ok(()) }
    }

    fn is_broken(&self, number: &mut u64) -> bool {
        self.0.knows.load(Ordering::SeqCst) && self.0.is_dead(*number)
    }

    async fn close(&self, _: u64) {
        match self.0.close_ms.load(Ordering::SeqCst) {
            0 => {}
            millis => pass(ms(millis)).await,
        }
    }
}

/// A pool of ten on tokio's clock, of a server that answers at once.
pub(crate) fn pool(settings: impl FnOnce(Builder) -> Builder) -> (Pool<Client>, Arc<Server>) {
    let server = Arc::new(Server::default());
    let builder = settings(Pool::<Client>::builder().name("test").max_size(10).min_idle(0).tokio_clock(true));
    (builder.build(Client(Arc::clone(&server))).unwrap(), server)
}

/// Lets time pass on the paused clock.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await; // tidy: allow(sleep) virtual time: nothing waits for a machine
}

/// Waits for something to become true.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "not in time: {what}");
        pass(ms(2)).await;
    }
}

/// What is logged in this thread, as JSON.
pub(crate) struct Logged {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

#[derive(Clone)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Logged {
    /// From `level` on.
    pub(crate) fn from(level: tracing::Level) -> Self {
        use tracing_subscriber::fmt::format::FmtSpan;
        let text = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer(Arc::clone(&text));
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(level)
            .with_span_events(FmtSpan::CLOSE)
            .with_writer(move || writer.clone())
            .finish();
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// The lines of the crate so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.text.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["target"].as_str().unwrap().starts_with("weir_pool")).collect()
    }

    /// Those with this message.
    pub(crate) fn of(&self, message: &str) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line["fields"]["message"] == message);
        lines
    }
}
