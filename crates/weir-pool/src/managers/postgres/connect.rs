//! Opening a connection, with the stream read along. What `tokio_postgres::Config::connect` does with several hosts,
//! session attributes and socket options is done here, because there the stream cannot be chosen.

use std::any::TypeId;
use std::future::{Future, poll_fn};
use std::hash::BuildHasher as _;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::PostgresError;
use super::wire::{Ledger, Watched};
use crate::managers::driver;

/// A socket to a server: what a TLS connector is given.
#[derive(Debug)]
pub struct Socket(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! forward {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.0 {
            Kind::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Kind::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_shutdown(cx))
    }
}

/// The stream that a TLS connector has to take: `T: MakeTlsConnect<Wire>`. Connectors that take any stream do.
pub type Wire = Watched<Socket>;

/// What drives a connection until it is given to its task.
type Drive = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

/// Where a connection leads, for a request to cancel.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    at: At,
    /// The name that TLS is to check; none if the address is a number.
    name: Option<String>,
}

#[derive(Clone, Debug)]
enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// An open connection.
pub(crate) struct Opened {
    client: Client,
    drive: Drive,
    ledger: Arc<Ledger>,
    address: Address,
}

impl Opened {
    /// The client, what drives it, its ledger and its address.
    pub(crate) fn split(self) -> (Client, driver::Drive, Arc<Ledger>, Address) {
        let Self { client, drive, ledger, address } = self;
        let drive = async move {
            if let Err(error) = drive.await {
                tracing::debug!(error = %PostgresError::from(error), "connection to PostgreSQL ended");
            }
        };
        (client, Box::pin(drive), ledger, address)
    }
}

/// Tries the hosts in their order (or at random, if the settings say so) until one takes the connection.
pub(crate) async fn connect<T: Tls>(config: &Config, tls: &T) -> Result<Opened, PostgresError> {
    let mut addresses = addresses(config).await?;
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        shuffle(&mut addresses);
    }
    let mut error = PostgresError::Config("no host is given, or none of its addresses is known");
    for address in addresses {
        match connect_one(config, address, tls).await {
            Ok(opened) => return Ok(opened),
            Err(failure) => error = failure,
        }
    }
    Err(error)
}

async fn addresses(config: &Config) -> Result<Vec<Address>, PostgresError> {
    let (hosts, numbers, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(numbers.len());
    if !hosts.is_empty() && !numbers.is_empty() && hosts.len() != numbers.len() {
        return Err(PostgresError::Config("host and hostaddr differ in number"));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(PostgresError::Config("hosts and ports differ in number"));
    }
    let mut addresses = Vec::new();
    let mut failure = None;
    for index in 0..count {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        match (hosts.get(index), numbers.get(index)) {
            (Some(Host::Unix(folder)), _) => {
                let path = folder.join(format!(".s.PGSQL.{port}"));
                addresses.push(Address { at: At::Unix(path), name: None });
            }
            (host, Some(ip)) => {
                let name = host.and_then(name_of);
                addresses.push(Address { at: At::Tcp((*ip, port).into()), name });
            }
            (Some(Host::Tcp(host)), None) => match lookup_host((host.as_str(), port)).await {
                Ok(found) => addresses.extend(found.map(|at| Address { at: At::Tcp(at), name: Some(host.clone()) })),
                Err(error) => failure = Some(error),
            },
            (None, None) => {}
        }
    }
    match failure {
        Some(error) if addresses.is_empty() => Err(error.into()),
        _ => Ok(addresses),
    }
}

fn name_of(host: &Host) -> Option<String> {
    match host {
        Host::Tcp(name) => Some(name.clone()),
        Host::Unix(_) => None,
    }
}

/// Random enough to spread clients over hosts.
fn shuffle(addresses: &mut [Address]) {
    let random = std::hash::RandomState::new();
    for last in (1..addresses.len()).rev() {
        let other = random.hash_one(last) % (last as u64 + 1);
        addresses.swap(last, other as usize);
    }
}

async fn connect_one<T: Tls>(config: &Config, address: Address, tls: &T) -> Result<Opened, PostgresError> {
    let ledger = Arc::new(Ledger::new());
    let socket = Watched::socket(socket(config, &address.at).await?, Arc::clone(&ledger));
    let Some(name) = name_for_tls::<T>(config, &address)? else {
        let mut config = config.clone();
        config.ssl_mode(SslMode::Disable);
        let (client, drive) = config.connect_raw(socket, NoTls).await?;
        return finish(&config, Opened { client, drive: Box::pin(drive), ledger, address }).await;
    };
    let connector = tls.clone().make_tls_connect(&name).map_err(|error| PostgresError::Tls(error.into()))?;
    let connector = WatchedTls { connector, ledger: Arc::clone(&ledger) };
    let (client, drive) = config.connect_raw(socket, connector).await?;
    finish(config, Opened { client, drive: Box::pin(drive), ledger, address }).await
}

/// The name to check if TLS is to be tried. A Unix socket has none: a demand for TLS cannot be met there.
fn name_for_tls<T: Tls>(config: &Config, address: &Address) -> Result<Option<String>, PostgresError> {
    let without = TypeId::of::<T>() == TypeId::of::<NoTls>();
    match (config.get_ssl_mode(), &address.name) {
        (SslMode::Disable, _) => Ok(None),
        (SslMode::Prefer, name) => Ok(name.clone().filter(|_| !without)),
        (_, _) if without => Err(PostgresError::Config("sslmode=require needs a TLS connector")),
        (_, Some(name)) => Ok(Some(name.clone())),
        (_, None) => Err(PostgresError::Config("sslmode=require needs a host name to check")),
    }
}

async fn socket(config: &Config, at: &At) -> Result<Socket, PostgresError> {
    let limit = config.get_connect_timeout().copied();
    match at {
        At::Unix(path) => Ok(Socket(Kind::Unix(within(limit, UnixStream::connect(path)).await?))),
        At::Tcp(at) => {
            let stream = within(limit, TcpStream::connect(at)).await?;
            stream.set_nodelay(true)?;
            let options = SockRef::from(&stream);
            if let Some(timeout) = config.get_tcp_user_timeout() {
                options.set_tcp_user_timeout(Some(*timeout))?;
            }
            if config.get_keepalives() {
                let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
                if let Some(interval) = config.get_keepalives_interval() {
                    keepalive = keepalive.with_interval(interval);
                }
                if let Some(retries) = config.get_keepalives_retries() {
                    keepalive = keepalive.with_retries(retries);
                }
                options.set_tcp_keepalive(&keepalive)?;
            }
            Ok(Socket(Kind::Tcp(stream)))
        }
    }
}

async fn within<T>(limit: Option<Duration>, connect: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match limit {
        Some(limit) => {
            tokio::time::timeout(limit, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        None => connect.await,
    }
}

/// Looks whether the server is what `target_session_attrs` asks for.
async fn finish(config: &Config, mut opened: Opened) -> Result<Opened, PostgresError> {
    let wanted = match config.get_target_session_attrs() {
        TargetSessionAttrs::ReadWrite => "off",
        TargetSessionAttrs::ReadOnly => "on",
        _ => return Ok(opened),
    };
    let rows = ask(&mut opened).await?;
    let is = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    if is == Some(wanted) { Ok(opened) } else { Err(PostgresError::SessionAttributes) }
}

/// Asks while nobody drives the connection yet.
async fn ask(opened: &mut Opened) -> Result<Vec<SimpleQueryMessage>, PostgresError> {
    let Opened { client, drive, .. } = opened;
    let mut asked = std::pin::pin!(client.simple_query("SHOW transaction_read_only"));
    poll_fn(|cx| match drive.as_mut().poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
        Poll::Ready(Ok(())) => Poll::Ready(Err(PostgresError::Closed)),
        Poll::Pending => asked.as_mut().poll(cx).map_err(PostgresError::from),
    })
    .await
}

/// Asks the server to give up what `client`'s connection does. Returns when the server has passed that on, so that it cannot
/// hit what is asked later.
pub(crate) async fn cancel<T: Tls>(
    config: &Config,
    client: &Client,
    to: &Address,
    tls: &T,
) -> Result<(), PostgresError> {
    let token = client.cancel_token();
    let socket = Watched::lingering(socket(config, &to.at).await?);
    match name_for_tls::<T>(config, to)? {
        None => token.cancel_query_raw(socket, NoTls).await?,
        Some(name) => {
            let connector = tls.clone().make_tls_connect(&name).map_err(|error| PostgresError::Tls(error.into()))?;
            token.cancel_query_raw(socket, connector).await?;
        }
    }
    Ok(())
}

// === TLS ===

/// What makes a TLS connection of a socket: any connector for `tokio-postgres` that takes any stream, or [`NoTls`].
/// Implemented for all of them.
pub trait Tls:
    MakeTlsConnect<Wire, Stream: Send + 'static, TlsConnect: SendConnect> + Clone + Send + Sync + 'static
{
}

impl<T> Tls for T where
    T: MakeTlsConnect<Wire, Stream: Send + 'static, TlsConnect: SendConnect> + Clone + Send + Sync + 'static
{
}

/// One handshake of a [`Tls`], which may move between threads. Implemented for all of them.
pub trait SendConnect: TlsConnect<Wire, Future: Send + 'static> + Send + 'static {}

impl<C> SendConnect for C where C: TlsConnect<Wire, Future: Send + 'static> + Send + 'static {}

/// Reads along within TLS.
struct WatchedTls<C> {
    connector: C,
    ledger: Arc<Ledger>,
}

impl<C: SendConnect> TlsConnect<Wire> for WatchedTls<C> {
    type Stream = Watched<C::Stream>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: Wire) -> Self::Future {
        let Self { connector, ledger } = self;
        ledger.encrypt();
        let handshake = connector.connect(stream);
        Box::pin(async move { handshake.await.map(|stream| Watched::within_tls(stream, ledger)) })
    }
}

impl<S: TlsStream + Unpin> TlsStream for Watched<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.get_ref().channel_binding()
    }
}
