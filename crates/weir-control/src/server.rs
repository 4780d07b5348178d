//! Accepts connections within bounds and ends them gracefully.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use weir_telemetry::event;

use crate::View;
use crate::routes::router;
use crate::stream::Patient;

/// Connections at a time. One more waits in the backlog until another ends.
pub const MAX_CONNECTIONS: usize = 256;
/// Bytes of a request head.
pub const MAX_HEAD_BYTES: usize = 16 * 1_024;
/// Fields of a request head.
pub const MAX_HEADERS: usize = 64;
/// From the end of one response (or from accept) to the next complete request head. Longer than the usual
/// scrape interval, so that scrapers keep their connection.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may leave a response unread.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connections may take to end after `shutdown`.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after a failed accept (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bounds, so that tests can choose smaller ones.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) connections: usize,
    pub(crate) head_timeout: Duration,
    pub(crate) write_timeout: Duration,
}

impl Bounds {
    pub(crate) const DEFAULT: Self =
        Self { connections: MAX_CONNECTIONS, head_timeout: HEAD_TIMEOUT, write_timeout: WRITE_TIMEOUT };
}

/// Serves the observation paths on `listener` until `shutdown` completes; then lets answers under way end
/// (at most [`SHUTDOWN_TIMEOUT`]). Needs a tokio runtime with I/O and time enabled; a current-thread one is
/// enough. Dropping the future closes everything at once.
///
/// # Errors
/// The listener cannot be used by the runtime. Failures to accept are not fatal: they are logged and counted.
pub async fn serve(
    listener: std::net::TcpListener,
    view: Arc<dyn View>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_within(Bounds::DEFAULT, listener, view, shutdown).await
}

pub(crate) async fn serve_within(
    bounds: Bounds,
    listener: std::net::TcpListener,
    view: Arc<dyn View>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_router(bounds, "metrics", listener, router(view), shutdown).await
}

/// Serves `service` within `bounds`; `name` names the listener in events.
pub(crate) async fn serve_router(
    bounds: Bounds,
    name: &'static str,
    listener: std::net::TcpListener,
    service: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(bounds.connections));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            // Keeps the set as small as the number of open connections.
            Some(_) = connections.join_next() => {}
            (stream, place) = accept(name, &listener, &places) => {
                connections.spawn(connection(bounds, stream, place, service.clone(), stopping.clone()));
            }
        }
    }
    drop(listener);
    // Connections hold receivers; with none left there is nobody to tell.
    let _ = stop.send(true);
    let _ = timeout(SHUTDOWN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// The next connection, with its place. Cancel safe: a connection is accepted only once a place is held,
/// and returned in the same poll.
async fn accept(
    name: &'static str,
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            continue;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                event::AcceptFailed { listener: name, error }.emit();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    bounds: Bounds,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    service: Router,
    mut stopping: watch::Receiver<bool>,
) {
    // Small answers at once; without it they are only slower.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(Patient::new(stream, bounds.write_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // A client that has said everything (`nc -N`) still gets its answer.
        .half_close(true)
        .header_read_timeout(bounds.head_timeout)
        .max_header_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(stream, TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "observation connection ended early");
    }
    drop(place);
}

/// Completes when the server stops.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is the same.
    let _ = stopping.wait_for(|stop| *stop).await;
}
