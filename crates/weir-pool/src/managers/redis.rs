//! Redis, by the `redis` crate.
//!
//! ```no_run
//! use redis::AsyncCommands as _;
//! use weir_pool::Pool;
//! use weir_pool::managers::redis::Redis;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::<Redis>::builder().max_size(20).build(Redis::new("redis://cache.example")?)?;
//! let mut conn = pool.acquire().await?;
//! let hits: u64 = conn.incr("hits", 1).await?;
//! # Ok(())
//! # }
//! ```
//!
//! One connection of the `redis` crate can be shared by many tasks; a pool of them is for what needs a connection to itself
//! (`MULTI` with `WATCH`, blocking commands, scripts that take long), and for more than one core of traffic.
//!
//! # What a user may leave behind
//! | left | the next user |
//! |---|---|
//! | an unanswered command: its future was dropped, or the driver's response time-out has passed | never meets it: the answer is waited for, for [`Redis::recovery`]; a connection with a blocking command (`BLPOP` …) is closed |
//! | `MULTI`, `WATCH`, `SELECT` | never meets them: `DISCARD`, `UNWATCH`, the pool's own database again |
//! | `SUBSCRIBE`, `MONITOR`, `AUTH`, `HELLO`, `CLIENT TRACKING` and the like | gets another connection: this one is closed |
//!
//! The commands say so themselves as they pass; nothing is asked of the server where nothing was left.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{
    Arg, AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline, RedisError,
    RedisFuture, RedisResult, Value,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::driver::{Driver, Pulse};
use super::{Credentials, CredentialsError};
use crate::manager::{Manager, Release};
use crate::words::plain;

/// How long a connection may take to come to rest, unless said otherwise.
const RECOVERY: Duration = Duration::from_millis(250);

/// What a connection runs over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Bytes of a server's first words that are remembered.
const WORDS: usize = 256;

/// A stream whose server is heard out. One that has no room says so and hangs up without listening: if that makes a write fail,
/// what it has said is still there to be read; and the driver takes it for the answer to a command that may fail, so its first
/// words are remembered.
struct Listening {
    stream: Box<dyn Stream>,
    words: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Listening {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        // Nobody else holds it once the connection is open.
        if let Some(words) = Arc::get_mut(&mut self.words) {
            *words = Mutex::default();
        } else {
            let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
            let room = WORDS.saturating_sub(words.len());
            words.extend(buf.filled()[before..].iter().take(room));
        }
        read
    }
}

impl AsyncWrite for Listening {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, buf) {
            Poll::Ready(Err(error))
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                Poll::Ready(Ok(buf.len()))
            }
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Opens connections to Redis. See the [module](self) for what it does about what users leave behind.
#[derive(Clone)]
pub struct Redis {
    info: ConnectionInfo,
    config: AsyncConnectionConfig,
    connector: Option<Arc<dyn Fn() -> Connecting + Send + Sync>>,
    credentials: Option<Credentials>,
    recovery: Duration,
}

impl Redis {
    /// By a URL, or what else tells where a server is.
    ///
    /// # Errors
    /// If it does not.
    pub fn new(info: impl IntoConnectionInfo) -> RedisResult<Self> {
        Ok(Self {
            info: info.into_connection_info()?,
            config: AsyncConnectionConfig::new(),
            connector: None,
            credentials: None,
            recovery: RECOVERY,
        })
    }

    /// The driver's settings. Among them is its time-out of responses, 500 ms if not set here: shorter than a blocking command
    /// may take.
    #[must_use]
    pub fn config(mut self, config: AsyncConnectionConfig) -> Self {
        self.config = config;
        self
    }

    /// Who logs in, asked at each connect; instead of user and password of the URL (which stay where the login has none: an empty
    /// user, no password).
    #[must_use]
    pub fn credentials(mut self, credentials: impl Into<Credentials>) -> Self {
        self.credentials = Some(credentials.into());
        self
    }

    /// Opens the streams instead of plain TCP or a Unix socket: for TLS.
    #[must_use]
    pub fn connector<F, S>(mut self, connect: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: Stream,
    {
        self.connector = Some(Arc::new(move || {
            let connecting = connect();
            Box::pin(async move { Ok(Box::new(connecting.await?) as Box<dyn Stream>) })
        }));
        self
    }

    /// How long a connection may take to come to rest before its next use, within that one's deadline; 250 ms if not set. One
    /// that takes longer is closed.
    #[must_use]
    pub fn recovery(mut self, limit: Duration) -> Self {
        self.recovery = limit;
        self
    }

    async fn stream(&self) -> Result<Box<dyn Stream>, RedisPoolError> {
        if let Some(connector) = &self.connector {
            return Ok(connector().await?);
        }
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            ConnectionAddr::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            _ => Err(RedisPoolError::Address),
        }
    }

    async fn rest(connection: &mut RedisConnection) -> Result<(), RedisPoolError> {
        if connection.left.pending.load(Ordering::SeqCst) > 0 {
            // Answered after all that was asked before; whatever the answer is.
            heard(connection.inner.send_packed_command(&::redis::cmd("PING")).await)?;
            connection.left.pending.store(0, Ordering::SeqCst);
        }
        if connection.left.multi {
            heard(connection.inner.send_packed_command(&::redis::cmd("DISCARD")).await)?;
        }
        if connection.left.watch {
            connection.inner.send_packed_command(&::redis::cmd("UNWATCH")).await?;
        }
        if connection.left.select {
            let database = connection.inner.get_db();
            connection.inner.send_packed_command(::redis::cmd("SELECT").arg(database)).await?;
        }
        connection.left = Left::default();
        Ok(())
    }
}

/// Why a connection was not opened: what the server said before it hung up, if it did.
fn refusal(words: &Mutex<Vec<u8>>, error: RedisError) -> RedisPoolError {
    let words = words.lock().unwrap_or_else(PoisonError::into_inner);
    let line = words.split(|byte| matches!(byte, b'\r' | b'\n')).next().and_then(|line| line.strip_prefix(b"-"));
    match line {
        Some(line) if error.is_io_error() => RedisPoolError::Refused(plain(&String::from_utf8_lossy(line))),
        _ => error.into(),
    }
}

/// Takes an error of the server for an answer, which it is.
fn heard(answer: RedisResult<Value>) -> RedisResult<()> {
    match answer {
        Err(error) if error.is_unrecoverable_error() || error.is_timeout() || error.is_io_error() => Err(error),
        _ => Ok(()),
    }
}

impl Manager for Redis {
    type Connection = RedisConnection;
    type Error = RedisPoolError;

    async fn connect(&self) -> Result<RedisConnection, RedisPoolError> {
        let mut settings = self.info.redis_settings().clone();
        if let Some(credentials) = &self.credentials {
            let login = credentials.current().await?;
            if !login.user.is_empty() {
                settings = settings.set_username(login.user);
            }
            if let Some(password) = login.password {
                settings = settings.set_password(password);
            }
        }
        let words = Arc::new(Mutex::new(Vec::new()));
        let stream = Listening { stream: self.stream().await?, words: Arc::clone(&words) };
        let opened = MultiplexedConnection::new_with_config(&settings, stream, self.config.clone()).await;
        let (inner, drive) = opened.map_err(|error| refusal(&words, error))?;
        let driver = Driver::spawn(Box::pin(drive), Arc::new(Pulse::new()));
        Ok(RedisConnection { inner, driver, left: Left::default() })
    }

    async fn check(&self, connection: &mut RedisConnection) -> Result<(), RedisPoolError> {
        connection.inner.send_packed_command(&::redis::cmd("PING")).await?;
        Ok(())
    }

    fn is_broken(&self, connection: &mut RedisConnection) -> bool {
        connection.driver.is_over()
    }

    async fn on_acquire(&self, connection: &mut RedisConnection) -> Result<(), RedisPoolError> {
        connection.driver.has_looked().await;
        if connection.driver.is_over() { Err(RedisPoolError::Closed) } else { Ok(()) }
    }

    fn on_release(&self, connection: &mut RedisConnection) -> Release {
        let Left { pending, blocks, multi, watch, select, foreign } = &connection.left;
        let unanswered = pending.load(Ordering::SeqCst) > 0;
        if *foreign || (*blocks && unanswered) {
            Release::Close
        } else if unanswered || *multi || *watch || *select {
            Release::Reset
        } else {
            Release::Keep
        }
    }

    async fn reset(&self, connection: &mut RedisConnection) -> Result<(), RedisPoolError> {
        timeout(self.recovery, Self::rest(connection)).await.unwrap_or(Err(RedisPoolError::Busy(self.recovery)))
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { info, config: _, connector: _, credentials, recovery } = self;
        f.debug_struct("Redis")
            .field("addr", info.addr())
            .field("credentials", credentials)
            .field("recovery", recovery)
            .finish_non_exhaustive()
    }
}

// === the connection ===

/// A connection to Redis. It takes all commands of the `redis` crate (`AsyncCommands`, `cmd`, `pipe`, scripts).
pub struct RedisConnection {
    inner: MultiplexedConnection,
    driver: Driver,
    left: Left,
}

/// What its users have left behind so far.
#[derive(Default)]
struct Left {
    /// Commands without an answer.
    pending: Arc<AtomicU32>,
    /// One that takes as long as it likes was among the commands.
    blocks: bool,
    multi: bool,
    watch: bool,
    /// The database is not the pool's.
    select: bool,
    /// What cannot be undone.
    foreign: bool,
}

impl Left {
    /// Takes note of what a command leaves behind.
    fn note(&mut self, command: &Cmd) {
        let mut words = command.args_iter().map(|word| match word {
            Arg::Simple(word) => word.to_ascii_uppercase(),
            _ => Vec::new(),
        });
        let name = words.next().unwrap_or_default();
        match name.as_slice() {
            b"MULTI" => self.multi = true,
            b"EXEC" | b"DISCARD" => (self.multi, self.watch) = (false, false),
            b"WATCH" => self.watch = true,
            b"UNWATCH" => self.watch = false,
            b"SELECT" => self.select = true,
            b"BLPOP" | b"BRPOP" | b"BLMOVE" | b"BLMPOP" | b"BRPOPLPUSH" | b"BZPOPMIN" | b"BZPOPMAX" | b"BZMPOP"
            | b"XREAD" | b"XREADGROUP" | b"WAIT" | b"WAITAOF" => self.blocks = true,
            b"SUBSCRIBE" | b"PSUBSCRIBE" | b"SSUBSCRIBE" | b"MONITOR" | b"AUTH" | b"HELLO" | b"RESET" | b"QUIT"
            | b"READONLY" | b"READWRITE" | b"ASKING" | b"SYNC" | b"PSYNC" => self.foreign = true,
            b"CLIENT" => {
                let what = words.next().unwrap_or_default();
                self.foreign |=
                    matches!(what.as_slice(), b"REPLY" | b"TRACKING" | b"CACHING" | b"NO-EVICT" | b"NO-TOUCH");
            }
            _ => {}
        }
    }

    fn ask(&self) -> Asked {
        self.pending.fetch_add(1, Ordering::SeqCst);
        Asked(Arc::clone(&self.pending))
    }
}

/// A command that is unanswered until it says otherwise.
struct Asked(Arc<AtomicU32>);

impl Asked {
    fn answered<T>(self, answer: &RedisResult<T>) {
        // After the driver's time-out the answer is still to come.
        if !answer.as_ref().is_err_and(RedisError::is_timeout) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.left.note(command);
        let asked = self.left.ask();
        let answer = self.inner.req_packed_command(command);
        Box::pin(async move {
            let answer = answer.await;
            asked.answered(&answer);
            answer
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        pipeline.cmd_iter().for_each(|command| self.left.note(command));
        let asked = self.left.ask();
        let answers = self.inner.req_packed_commands(pipeline, offset, count);
        Box::pin(async move {
            let answers = answers.await;
            asked.answered(&answers);
            answers
        })
    }

    fn get_db(&self) -> i64 {
        self.inner.get_db()
    }
}

impl std::fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisConnection").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Why there is no connection, or it is dead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisPoolError {
    /// Of the driver or the server.
    #[error("Redis: {}", plain(&.0.to_string()))]
    Redis(#[from] RedisError),
    /// The server hung up, and said why.
    #[error("Redis: {0}")]
    Refused(String),
    /// Of the network.
    #[error("cannot reach Redis: {0}")]
    Io(#[from] io::Error),
    /// Nobody knows who logs in.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// TLS needs [`Redis::connector`].
    #[error("neither TCP nor a Unix socket: give the manager a connector")]
    Address,
    /// It was closed by the server.
    #[error("connection to Redis closed")]
    Closed,
    /// A command of its last user goes on.
    #[error("connection to Redis still busy with its last user's command after {0:?}")]
    Busy(Duration),
}
