//! The reader of PostgreSQL's messages, beside a model of it that keeps all bytes and takes whole messages off their front.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::managers::postgres::wire::{IDLE, Ledger, Watched};

/// The code of a request for TLS.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();
/// First byte of a TLS record.
const TLS_HANDSHAKE: u8 = 0x16;

/// Lets a client and a server exchange bytes over a stream that is read along. The input is a sequence of pieces: a byte that
/// says who speaks (bit 0: the client), how the socket behaves (bit 1: it takes nothing; bit 2: one byte at a time), a byte for how many
/// bytes follow, and these.
///
/// # Panics
/// When what the reader has counted is not what the model counts, at the end of any piece.
pub fn postgres_wire(input: &[u8]) {
    let ledger = Arc::new(Ledger::new());
    let mut stream = Watched::socket(Socket::default(), Arc::clone(&ledger));
    let mut model = Model { status: IDLE, ..Model::default() };
    let mut cx = Context::from_waker(Waker::noop());
    let mut rest = input;
    while let [how, length, after @ ..] = rest {
        let (bytes, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        let (stuck, single) = (how & 2 != 0, how & 4 != 0);
        if how & 1 != 0 {
            stream.get_mut().stuck = stuck;
            stream.get_mut().takes = if single { 1 } else { usize::MAX };
            let mut left = bytes;
            while !left.is_empty() {
                match Pin::new(&mut stream).poll_write(&mut cx, left) {
                    Poll::Ready(Ok(count)) => {
                        model.stuck = false;
                        model.client_says(&left[..count]);
                        left = &left[count..];
                    }
                    Poll::Ready(Err(error)) => unreachable!("the socket has no errors: {error}"),
                    Poll::Pending => {
                        model.stuck = true;
                        break;
                    }
                }
            }
        } else {
            stream.get_mut().inbox = bytes.to_vec();
            model.server_says(bytes);
            while !stream.get_ref().inbox.is_empty() {
                let mut space = [0; 64];
                let mut buf = ReadBuf::new(if single { &mut space[..1] } else { &mut space });
                assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut buf).is_ready());
            }
        }
        assert_eq!(ledger.figures(), model.figures(), "after {} bytes", input.len() - rest.len());
    }
    assert_eq!(ledger.is_idle(), model.status == IDLE);
    assert_eq!(ledger.sent(), model.counts[0]);
    ledger.settle();
}

/// What lies below: says what it is told to say, and forgets what it hears.
#[derive(Default)]
struct Socket {
    inbox: Vec<u8>,
    stuck: bool,
    takes: usize,
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let step = self.inbox.len().min(buf.remaining());
        buf.put_slice(&self.inbox[..step]);
        self.inbox.drain(..step);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.stuck { Poll::Pending } else { Poll::Ready(Ok(buf.len().min(self.takes))) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The protocol as the documentation has it, without thrift.
#[derive(Default)]
struct Model {
    client: Vec<u8>,
    server: Vec<u8>,
    /// The client is past its opening.
    opened: bool,
    /// It has begun TLS without asking.
    blind: bool,
    /// A request for TLS is at the front.
    asks_tls: bool,
    /// The server answers a request for TLS.
    answers_tls: bool,
    counts: [u64; 4],
    status: u8,
    copies: bool,
    stuck: bool,
}

impl Model {
    fn figures(&self) -> ([u64; 4], u8, [bool; 2]) {
        (self.counts, self.status, [self.copies, self.stuck])
    }

    fn client_says(&mut self, bytes: &[u8]) {
        self.client.extend_from_slice(bytes);
        while !self.blind && !self.opened {
            if self.client.first() == Some(&TLS_HANDSHAKE) {
                self.blind = true;
                return;
            }
            let Some(head) = self.client.first_chunk::<8>() else { return };
            let (asks, length) = (head[4..] == SSL_REQUEST, length(&head[..4]).max(8));
            if asks && !self.asks_tls {
                // The next byte of the server is its answer; what it has said before is none.
                (self.asks_tls, self.answers_tls) = (true, true);
                self.server.clear();
            }
            if self.client.len() < length {
                return;
            }
            self.client.drain(..length);
            (self.opened, self.asks_tls) = (!asks, false);
        }
        while !self.blind
            && let Some((tag, _)) = message(&mut self.client)
        {
            if tag != 0 {
                self.counts[0] += 1;
                self.counts[1] += u64::from(matches!(tag, b'S' | b'Q' | b'F'));
            }
        }
    }

    fn server_says(&mut self, bytes: &[u8]) {
        self.server.extend_from_slice(bytes);
        if self.answers_tls && !self.server.is_empty() {
            self.server.remove(0);
            self.answers_tls = false;
        }
        while let Some((tag, first)) = message(&mut self.server) {
            match tag {
                b'Z' => {
                    self.status = first;
                    self.copies = false;
                    self.counts[2] += 1;
                }
                b'G' => {
                    self.copies = true;
                    self.counts[3] += 1;
                }
                _ => {}
            }
        }
    }
}

fn length(word: &[u8]) -> usize {
    word.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
}

/// Takes a whole message off the front: its tag and the first byte of its body.
fn message(bytes: &mut Vec<u8>) -> Option<(u8, u8)> {
    let head = bytes.first_chunk::<5>()?;
    let (tag, length) = (head[0], length(&head[1..]).max(4) + 1);
    if bytes.len() < length {
        return None;
    }
    let first = if length > 5 { bytes[5] } else { 0 };
    bytes.drain(..length);
    Some((tag, first))
}
