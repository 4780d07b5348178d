//! rustls without I/O of its own, as a state machine on the engine: a TLS echo.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use common::{PATIENCE, pattern};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use weir_net::epoll::{EpollIo, Worker, WorkerConfig};
use weir_net::{Close, ConnId, Io, IoFault, ListenerId, Piece, Protocol, Sent};

struct Echo {
    config: Arc<ServerConfig>,
    sessions: HashMap<ConnId, ServerConnection>,
}

impl Echo {
    /// Sends what the session has to say; the source waits while it is stuck.
    fn flush(&mut self, io: &mut EpollIo, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let mut out = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut out).unwrap();
        }
        if !out.is_empty() && io.send(conn, &mut [Piece::Owned(out)]) == Sent::Stuck {
            io.pause(conn);
        }
    }
}

impl Protocol<EpollIo> for Echo {
    type Message = ();

    fn on_accepted(&mut self, _: &mut EpollIo, conn: ConnId, _: ListenerId, _: Option<SocketAddr>) {
        self.sessions.insert(conn, ServerConnection::new(Arc::clone(&self.config)).unwrap());
    }

    fn on_connected(&mut self, _: &mut EpollIo, _: ConnId, _: Result<(), IoFault>) {}

    fn on_data(&mut self, io: &mut EpollIo, conn: ConnId, mut data: &[u8]) {
        while !data.is_empty() {
            let Some(session) = self.sessions.get_mut(&conn) else {
                return;
            };
            session.read_tls(&mut data).unwrap();
            let state = session.process_new_packets().unwrap();
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            session.reader().read_exact(&mut plain).unwrap();
            session.writer().write_all(&plain).unwrap();
            if state.peer_has_closed() {
                session.send_close_notify();
            }
            self.flush(io, conn);
        }
    }

    fn on_drained(&mut self, io: &mut EpollIo, conn: ConnId) {
        io.resume(conn);
    }

    fn on_eof(&mut self, io: &mut EpollIo, conn: ConnId) {
        self.sessions.remove(&conn);
        io.close(conn, Close::Linger(PATIENCE));
        io.stop();
    }

    fn on_reset(&mut self, _: &mut EpollIo, conn: ConnId, fault: IoFault) {
        panic!("{conn:?}: {fault:?}");
    }

    fn on_deadline(&mut self, _: &mut EpollIo, _: ConnId) {}
}

#[test]
fn echo_through_tls() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let worker = std::thread::spawn(move || {
        let mut worker = Worker::new(&WorkerConfig { mailbox_len_max: 1, connections_max: 10 }).unwrap();
        worker.add_listener(ListenerId(0), OwnedFd::from(listener)).unwrap();
        worker.run(&mut Echo { config: Arc::new(server), sessions: HashMap::new() }).unwrap();
    });

    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let session = ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    for len in [1, 16_384, 16_385, 1_000_000] {
        let bytes = pattern(len);
        let mut got = vec![0; len];
        for (part, into) in bytes.chunks(100_000).zip(got.chunks_mut(100_000)) {
            stream.write_all(part).unwrap();
            stream.read_exact(into).unwrap();
        }
        assert!(got == bytes);
    }
    assert_eq!(stream.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    stream.conn.send_close_notify();
    stream.conn.complete_io(&mut stream.sock).unwrap();
    let mut rest = Vec::new();
    // Ends by close_notify, not by a bare end of the connection.
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    drop(stream);
    worker.join().unwrap();
}
