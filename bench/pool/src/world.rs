//! What the pools of every peer hold: a stand-in for a connection to a database, and the stand-in for the database.
//!
//! A connection is a counter, with a socket to the [stub server](crate::stub) where the use is a request. How long a connect
//! takes, and whether it ever ends, is set from outside.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Bytes of a request, and of its answer.
pub const MESSAGE: usize = 100;

/// The database, as far as a pool can tell.
#[derive(Debug, Default)]
pub struct World {
    /// The stub server, if connections have a socket.
    server: Option<SocketAddr>,
    connect_micros: AtomicU64,
    silent: AtomicBool,
    opened: AtomicU64,
    open: AtomicU64,
    peak: AtomicU64,
}

impl World {
    /// One whose connects are done at once.
    pub fn new(server: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self { server, ..Self::default() })
    }

    /// How long a connect takes from now on.
    pub fn set_connect_time(&self, time: Duration) {
        self.connect_micros.store(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether connects that begin from now on never end.
    pub fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    fn connect_time(&self) -> Duration {
        Duration::from_micros(self.connect_micros.load(Ordering::Relaxed))
    }

    /// How many connections were opened in all.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// How many are open.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// The most that were ever open at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

/// An open connection; counted until it is dropped.
#[derive(Debug)]
struct Open(Arc<World>);

impl Open {
    fn new(world: &Arc<World>) -> Self {
        world.opened.fetch_add(1, Ordering::Relaxed);
        let open = world.open.fetch_add(1, Ordering::Relaxed) + 1;
        world.peak.fetch_max(open, Ordering::Relaxed);
        Self(Arc::clone(world))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn no_socket() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "this connection has no socket")
}

/// A connection of an asynchronous pool.
#[derive(Debug)]
pub struct Conn {
    uses: u64,
    stream: Option<tokio::net::TcpStream>,
    buffer: [u8; MESSAGE],
    _open: Open,
}

impl Conn {
    /// Opens one.
    ///
    /// # Errors
    /// Of the socket.
    pub async fn connect(world: &Arc<World>) -> io::Result<Self> {
        if world.silent.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        let time = world.connect_time();
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        let stream = match world.server {
            Some(server) => {
                let stream = tokio::net::TcpStream::connect(server).await?;
                stream.set_nodelay(true)?;
                Some(stream)
            }
            None => None,
        };
        Ok(Self { uses: 0, stream, buffer: [b'q'; MESSAGE], _open: Open::new(world) })
    }

    /// The use that costs nothing: it shows that the connection is there.
    #[inline]
    pub fn touch(&mut self) {
        self.uses = std::hint::black_box(self.uses + 1);
    }

    /// A request and its answer.
    ///
    /// # Errors
    /// Of the socket.
    pub async fn request(&mut self) -> io::Result<()> {
        let stream = self.stream.as_mut().ok_or_else(no_socket)?;
        stream.write_all(&self.buffer).await?;
        stream.read_exact(&mut self.buffer).await?;
        Ok(())
    }
}

/// A connection of a pool of threads.
#[derive(Debug)]
pub struct BlockingConn {
    uses: u64,
    stream: Option<std::net::TcpStream>,
    buffer: [u8; MESSAGE],
    _open: Open,
}

impl BlockingConn {
    /// Opens one.
    ///
    /// # Errors
    /// Of the socket.
    #[expect(clippy::disallowed_methods, reason = "a connect that takes its time")]
    pub fn connect(world: &Arc<World>) -> io::Result<Self> {
        // For ever, also when the database is back: what hangs, hangs.
        if world.silent.load(Ordering::Relaxed) {
            loop {
                std::thread::park();
            }
        }
        let time = world.connect_time();
        if !time.is_zero() {
            std::thread::sleep(time);
        }
        let stream = match world.server {
            Some(server) => {
                let stream = std::net::TcpStream::connect(server)?;
                stream.set_nodelay(true)?;
                Some(stream)
            }
            None => None,
        };
        Ok(Self { uses: 0, stream, buffer: [b'q'; MESSAGE], _open: Open::new(world) })
    }

    /// As [`Conn::touch`].
    #[inline]
    pub fn touch(&mut self) {
        self.uses = std::hint::black_box(self.uses + 1);
    }

    /// As [`Conn::request`].
    ///
    /// # Errors
    /// Of the socket.
    pub fn request(&mut self) -> io::Result<()> {
        use std::io::{Read as _, Write as _};
        let stream = self.stream.as_mut().ok_or_else(no_socket)?;
        stream.write_all(&self.buffer)?;
        stream.read_exact(&mut self.buffer)
    }
}
