//! The h2 crate as a guest: a server over the in-memory stream on the local executor, driven by the
//! engine's callbacks, against an h2 client on a tokio socket.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use common::pattern;
use weir_net::epoll::{EpollIo, Worker, WorkerConfig};
use weir_net::exec::{GuestStream, HostStream, LocalExecutor, StreamState, stream};
use weir_net::{Close, ConnId, Io, IoFault, ListenerId, Piece, Protocol};

const STREAM_BYTES: usize = 64 * 1024;
const BODY: usize = 1_000_000;

struct Host {
    executor: LocalExecutor,
    streams: HashMap<ConnId, HostStream>,
}

impl Protocol<EpollIo> for Host {
    type Message = ();

    fn on_accepted(&mut self, _: &mut EpollIo, conn: ConnId, _: ListenerId, _: Option<SocketAddr>) {
        let (host, guest) = stream(STREAM_BYTES);
        self.streams.insert(conn, host);
        self.executor.spawn(serve(guest, self.executor.clone())).unwrap();
    }

    fn on_connected(&mut self, _: &mut EpollIo, _: ConnId, _: Result<(), IoFault>) {}

    fn on_data(&mut self, io: &mut EpollIo, conn: ConnId, data: &[u8]) {
        if self.streams[&conn].push(data) == StreamState::Full {
            io.pause(conn);
        }
    }

    fn on_eof(&mut self, _: &mut EpollIo, conn: ConnId) {
        self.streams[&conn].end();
    }

    fn on_reset(&mut self, io: &mut EpollIo, conn: ConnId, _: IoFault) {
        self.streams.remove(&conn);
        io.stop();
    }

    fn on_deadline(&mut self, _: &mut EpollIo, _: ConnId) {}

    fn on_batch(&mut self, io: &mut EpollIo) {
        self.executor.run_ready(1_000);
        let mut ended = Vec::new();
        for (&conn, host) in &self.streams {
            if io.unsent(conn) == 0 {
                let output = host.take_output();
                if !output.is_empty() {
                    io.send(conn, &mut [Piece::Owned(output)]);
                }
            }
            if host.state() != StreamState::Full {
                io.resume(conn);
            }
            if host.output_ended() {
                ended.push(conn);
            }
        }
        // Taking output has let writers go on.
        self.executor.run_ready(1_000);
        for conn in ended {
            self.streams.remove(&conn);
            io.close(conn, Close::Linger(Duration::from_secs(1)));
            io.stop();
        }
    }
}

/// Answers each request with its body, reversed in nothing but direction.
async fn serve(guest: GuestStream, executor: LocalExecutor) {
    let mut connection = h2::server::handshake(guest).await.unwrap();
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request.unwrap();
        executor
            .spawn(async move {
                assert_eq!(request.uri().path(), "/echo");
                let mut body = request.into_body();
                let mut out = respond.send_response(http::Response::new(()), false).unwrap();
                while let Some(chunk) = body.data().await {
                    let mut chunk = chunk.unwrap();
                    body.flow_control().release_capacity(chunk.len()).unwrap();
                    while !chunk.is_empty() {
                        out.reserve_capacity(chunk.len());
                        let room = std::future::poll_fn(|cx| out.poll_capacity(cx)).await.unwrap().unwrap();
                        out.send_data(chunk.split_to(room.min(chunk.len())), false).unwrap();
                    }
                }
                out.send_data(Bytes::new(), true).unwrap();
            })
            .unwrap();
    }
}

async fn ask(client: &mut h2::client::SendRequest<Bytes>, body: Vec<u8>) -> Vec<u8> {
    let request = http::Request::post("http://localhost/echo").body(()).unwrap();
    let (response, mut out) = client.clone().ready().await.unwrap().send_request(request, false).unwrap();
    let sending = tokio::spawn(async move {
        let mut body = Bytes::from(body);
        while !body.is_empty() {
            out.reserve_capacity(body.len());
            let room = std::future::poll_fn(|cx| out.poll_capacity(cx)).await.unwrap().unwrap();
            out.send_data(body.split_to(room.min(body.len())), false).unwrap();
        }
        out.send_data(Bytes::new(), true).unwrap();
    });
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    let mut incoming = response.into_body();
    let mut got = Vec::new();
    while let Some(chunk) = incoming.data().await {
        let chunk = chunk.unwrap();
        incoming.flow_control().release_capacity(chunk.len()).unwrap();
        got.extend_from_slice(&chunk);
    }
    sending.await.unwrap();
    got
}

#[test]
fn h2_request_and_response_with_bodies() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let worker = std::thread::spawn(move || {
        let mut worker = Worker::new(&WorkerConfig { mailbox_len_max: 1, connections_max: 10 }).unwrap();
        worker.add_listener(ListenerId(0), OwnedFd::from(listener)).unwrap();
        let executor = LocalExecutor::new(worker.waker(), 100);
        worker.run(&mut Host { executor: executor.clone(), streams: HashMap::new() }).unwrap();
        executor.run_ready(100);
        executor.tasks()
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
        let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
        let driver = tokio::spawn(connection);
        assert!(ask(&mut client, Vec::new()).await.is_empty());
        // Three at once, larger than every window and every buffer on the way.
        let bodies = [pattern(BODY), pattern(BODY / 2), pattern(10)];
        let asked = bodies.clone().map(|body| {
            let mut client = client.clone();
            tokio::spawn(async move { ask(&mut client, body).await })
        });
        for (answer, body) in asked.into_iter().zip(bodies) {
            assert!(answer.await.unwrap() == body);
        }
        drop(client);
        driver.await.unwrap().unwrap();
    });
    assert_eq!(worker.join().unwrap(), 0, "every guest has ended");
}
