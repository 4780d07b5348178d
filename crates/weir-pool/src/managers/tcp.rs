//! Plain TCP, for protocols that have no manager.
//!
//! The pool cannot know where an exchange ends: its user says so ([`TcpConnection::done`]). A connection that was read or
//! written since comes back in the middle of something, and is closed; so one that was given up (a dropped future, an
//! error, a panic) never meets the next user.
//!
//! ```no_run
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//! use weir_pool::Pool;
//! use weir_pool::managers::tcp::Tcp;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::<Tcp>::builder().build(Tcp::new("echo.example:7"))?;
//! let mut conn = pool.acquire().await?;
//! conn.write_all(b"ping").await?;
//! let mut answer = [0; 4];
//! conn.read_exact(&mut answer).await?;
//! conn.done();
//! # Ok(())
//! # }
//! ```

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::manager::{Manager, Release};

/// Opens TCP connections to one address. Resolved at each connect.
#[derive(Clone, Debug)]
pub struct Tcp {
    address: Arc<str>,
}

impl Tcp {
    /// To `host:port`.
    pub fn new(address: impl Into<Arc<str>>) -> Self {
        Self { address: address.into() }
    }
}

impl Manager for Tcp {
    type Connection = TcpConnection;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<TcpConnection> {
        let stream = TcpStream::connect(&*self.address).await?;
        stream.set_nodelay(true)?;
        Ok(TcpConnection { stream, done: true })
    }

    /// All that can be known without knowing the protocol: it is open, and silent.
    async fn check(&self, connection: &mut TcpConnection) -> io::Result<()> {
        if connection.is_silent() { Ok(()) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
    }

    /// Closed by the other side, or bytes lie in it that nobody has asked for: one system call.
    fn is_broken(&self, connection: &mut TcpConnection) -> bool {
        !connection.is_silent()
    }

    fn on_release(&self, connection: &mut TcpConnection) -> Release {
        if connection.done { Release::Keep } else { Release::Close }
    }
}

/// A TCP connection. It is read and written as a stream; say [`TcpConnection::done`] at the end of each exchange.
#[derive(Debug)]
pub struct TcpConnection {
    stream: TcpStream,
    /// Nothing was read or written since the last exchange.
    done: bool,
}

impl TcpConnection {
    /// The exchange is over: what comes next may be another user's.
    pub fn done(&mut self) {
        self.done = true;
    }

    /// The stream, for its addresses and options.
    pub fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    /// The stream. It counts as used.
    pub fn get_mut(&mut self) -> &mut TcpStream {
        self.done = false;
        &mut self.stream
    }

    fn is_silent(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        // The socket does not block: that there is nothing is an error, and the good case.
        SockRef::from(&self.stream).peek(&mut byte).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for TcpConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(TcpConnection::get_mut(&mut self)).poll_read(cx, buf)
    }
}

impl AsyncWrite for TcpConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(TcpConnection::get_mut(&mut self)).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(TcpConnection::get_mut(&mut self)).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(TcpConnection::get_mut(&mut self)).poll_shutdown(cx)
    }
}
