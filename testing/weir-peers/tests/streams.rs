//! The pool over plain TCP and HTTP/1.1.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use weir_pool::managers::http1::{Http1, Http1Error};
use weir_pool::managers::tcp::Tcp;
use weir_pool::{Guard, Pool};
use weir_test::{Hostile, Origin, PATIENCE, Reply, Step};

type Http = Http1<Empty<Bytes>>;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A server, and the pool of one connection to it.
async fn tcp() -> (TcpListener, Pool<Tcp>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let pool = Pool::<Tcp>::builder().max_size(1).min_idle(0).build(Tcp::new(address)).unwrap();
    (listener, pool)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0
}

fn port(guard: &Guard<Tcp>) -> u16 {
    guard.get_ref().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_finished_exchange_leaves_a_connection_for_the_next() {
    let (listener, pool) = tcp().await;
    let mut guard = pool.acquire().await.unwrap();
    let mut server = accept(&listener).await;
    let first = port(&guard);
    guard.write_all(b"ping").await.unwrap();
    server.read_exact(&mut [0; 4]).await.unwrap();
    server.write_all(b"pong").await.unwrap();
    guard.read_exact(&mut [0; 4]).await.unwrap();
    guard.done();
    drop(guard);
    let guard = pool.acquire().await.unwrap();
    assert_eq!(port(&guard), first);
    // Not used: nothing to say.
    drop(guard);
    assert_eq!(port(&pool.acquire().await.unwrap()), first);
}

#[tokio::test]
async fn the_answer_to_one_never_meets_another() {
    let (listener, pool) = tcp().await;
    let mut guard = pool.acquire().await.unwrap();
    let _server = accept(&listener).await;
    let first = port(&guard);
    guard.write_all(b"ping").await.unwrap();
    // Given up.
    drop(guard);
    let guard = pool.acquire().await.unwrap();
    assert_ne!(port(&guard), first);
}

#[tokio::test]
async fn closed_or_unasked_for_is_seen_before_it_is_lent() {
    let (listener, pool) = tcp().await;
    for unasked in [false, true] {
        let guard = pool.acquire().await.unwrap();
        let mut server = accept(&listener).await;
        let first = port(&guard);
        drop(guard);
        if unasked {
            server.write_all(b"go away").await.unwrap();
        } else {
            drop(server);
        }
        // What loopback carries is there at once.
        let guard = pool.acquire().await.unwrap();
        assert_ne!(port(&guard), first, "unasked: {unasked}");
        guard.discard();
        let _ = accept(&listener).await;
    }
}

// === HTTP/1.1 ===

fn http(port: u16) -> Pool<Http> {
    let manager = Http::new(format!("127.0.0.1:{port}")).recovery(ms(200));
    Pool::<Http>::builder().max_size(1).min_idle(0).acquire_timeout(ms(5_000)).build(manager).unwrap()
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header("host", "test").body(Empty::new()).unwrap()
}

async fn body(guard: &mut Guard<Http>, path: &str) -> Bytes {
    let response = guard.send_request(get(path)).await.unwrap();
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn requests_share_a_connection() {
    let origin = Origin::named("a");
    let pool = http(origin.port());
    for number in 0..20 {
        let mut guard = pool.acquire().await.unwrap();
        assert_eq!(body(&mut guard, &format!("/{number}")).await, "a");
    }
    assert_eq!((origin.answered(), origin.connections()), (20, 1));
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_not_lent() {
    let origin = Origin::start(|_| Reply::text("bye").closing());
    let pool = http(origin.port());
    for _ in 0..5 {
        let mut guard = pool.acquire().await.unwrap();
        assert_eq!(body(&mut guard, "/").await, "bye");
    }
    assert_eq!(origin.connections(), 5);
}

#[tokio::test]
async fn an_answer_that_was_given_up_meets_nobody() {
    let origin = Origin::start(|request| Reply::text(request.target().repeat(1 << 20)));
    let pool = http(origin.port());
    for round in 0..5 {
        let mut guard = pool.acquire().await.unwrap();
        let response = guard.send_request(get("/first")).await.unwrap();
        assert_eq!(response.status(), 200);
        // Its body was not read.
        drop(response);
        drop(guard);
        let mut guard = pool.acquire().await.unwrap();
        assert!(body(&mut guard, "/next").await.starts_with(b"/next/next"), "round {round}");
        // One that is given up before its answer.
        let _ = timeout(Duration::from_micros(round * 200), guard.send_request(get("/third"))).await;
        drop(guard);
        let mut guard = pool.acquire().await.unwrap();
        assert!(body(&mut guard, "/last").await.starts_with(b"/last/last"), "round {round}");
    }
}

#[tokio::test]
async fn a_body_that_is_still_being_read_is_not_waited_for_longer_than_said() {
    // A head and half a body, and then silence.
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
    let server = Hostile::always(vec![Step::ReadHead, Step::send(head), Step::Hang]);
    let pool = http(server.port());
    let mut guard = pool.acquire().await.unwrap();
    let response = guard.send_request(get("/")).await.unwrap();
    drop(guard);
    let guard = pool.acquire().await.unwrap();
    assert!(!guard.is_closed());
    drop(response);
}

#[tokio::test]
async fn nobody_listens_is_an_error_with_its_cause() {
    let pool = {
        let manager = Http::new(format!("127.0.0.1:{}", weir_test::free_port()));
        Pool::<Http>::builder().acquire_timeout(ms(1_000)).build(manager).unwrap()
    };
    let error = pool.acquire().await.unwrap_err();
    assert!(matches!(error.cause(), Some(Http1Error::Io(_))), "{error}");
}
