//! HTTP/1.1 to one server, by `hyper`.
//!
//! ```no_run
//! use http_body_util::Empty;
//! use hyper::Request;
//! use hyper::body::Bytes;
//! use weir_pool::Pool;
//! use weir_pool::managers::http1::Http1;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::<Http1<Empty<Bytes>>>::builder().build(Http1::<Empty<Bytes>>::new("api.example:80"))?;
//! let mut conn = pool.acquire().await?;
//! let request = Request::get("/health").header("host", "api.example").body(Empty::new())?;
//! let response = conn.send_request(request).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a user may leave behind
//! A request without an answer, or an answer that was not read to its end: `hyper` closes the connection where it cannot go on
//! with it. The next user gets one that is ready for a request: that is waited for, for [`Http1::recovery`], else it is closed.
//!
//! HTTP/1.1 has no question that means nothing, so whether an idle connection is alive is known only as far as its server has
//! said so: keep [`Builder::idle_timeout`](crate::Builder::idle_timeout) below the server's keep-alive time, and be ready to
//! repeat what is idempotent when a connection ends as it is used.

use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::driver::{Driver, Pulse};
use crate::manager::{Manager, Release};

/// How long a connection may take to be ready for the next request, unless said otherwise.
const RECOVERY: Duration = Duration::from_millis(250);

/// What a connection runs over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Opens connections to one HTTP/1.1 server; `B` is the body of requests.
pub struct Http1<B> {
    connect: Arc<dyn Fn() -> Connecting + Send + Sync>,
    recovery: Duration,
    body: PhantomData<fn(B)>,
}

impl<B> Http1<B> {
    /// To `host:port`, without TLS. Resolved at each connect.
    pub fn new(address: impl Into<Arc<str>>) -> Self {
        let address = address.into();
        Self::with_connector(move || {
            let address = Arc::clone(&address);
            async move {
                let stream = TcpStream::connect(&*address).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
        })
    }

    /// Over streams that `connect` opens: for TLS, or a Unix socket.
    pub fn with_connector<F, S>(connect: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: Stream,
    {
        let connect = Arc::new(move || {
            let connecting = connect();
            let boxed: Connecting = Box::pin(async move { Ok(Box::new(connecting.await?) as Box<dyn Stream>) });
            boxed
        });
        Self { connect, recovery: RECOVERY, body: PhantomData }
    }

    /// How long a connection may take to be ready for the next request, within the deadline of its user; 250 ms if not set.
    #[must_use]
    pub fn recovery(mut self, limit: Duration) -> Self {
        self.recovery = limit;
        self
    }
}

impl<B> Manager for Http1<B>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    type Connection = Http1Connection<B>;
    type Error = Http1Error;

    async fn connect(&self) -> Result<Http1Connection<B>, Http1Error> {
        let stream = (self.connect)().await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let drive = async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP connection ended");
            }
        };
        Ok(Http1Connection { sender, driver: Driver::spawn(Box::pin(drive), Arc::new(Pulse::new())) })
    }

    /// All that can be known: it is open, and ready.
    async fn check(&self, connection: &mut Http1Connection<B>) -> Result<(), Http1Error> {
        connection.driver.has_looked().await;
        Ok(connection.sender.ready().await?)
    }

    fn is_broken(&self, connection: &mut Http1Connection<B>) -> bool {
        connection.sender.is_closed()
    }

    async fn on_acquire(&self, connection: &mut Http1Connection<B>) -> Result<(), Http1Error> {
        connection.driver.has_looked().await;
        if connection.sender.is_closed() { Err(Http1Error::Closed) } else { Ok(()) }
    }

    fn on_release(&self, connection: &mut Http1Connection<B>) -> Release {
        if connection.sender.is_ready() { Release::Keep } else { Release::Reset }
    }

    async fn reset(&self, connection: &mut Http1Connection<B>) -> Result<(), Http1Error> {
        match timeout(self.recovery, connection.sender.ready()).await {
            Ok(ready) => Ok(ready?),
            Err(_) => Err(Http1Error::Busy(self.recovery)),
        }
    }
}

impl<B> fmt::Debug for Http1<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1").field("recovery", &self.recovery).finish_non_exhaustive()
    }
}

/// A connection to an HTTP/1.1 server: hyper's [`SendRequest`], and the task that drives it.
pub struct Http1Connection<B> {
    sender: SendRequest<B>,
    driver: Driver,
}

impl<B> Deref for Http1Connection<B> {
    type Target = SendRequest<B>;

    fn deref(&self) -> &SendRequest<B> {
        &self.sender
    }
}

impl<B> DerefMut for Http1Connection<B> {
    fn deref_mut(&mut self) -> &mut SendRequest<B> {
        &mut self.sender
    }
}

impl<B> fmt::Debug for Http1Connection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1Connection").field("closed", &self.sender.is_closed()).finish_non_exhaustive()
    }
}

/// Why there is no connection, or it is dead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Http1Error {
    /// Of hyper.
    #[error("HTTP connection: {0}")]
    Hyper(#[from] hyper::Error),
    /// Of the network.
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    /// It was closed by the server.
    #[error("HTTP connection closed")]
    Closed,
    /// An exchange of its last user goes on.
    #[error("HTTP connection still busy with its last user's exchange after {0:?}")]
    Busy(Duration),
}
