//! What the bytes on a connection say about its state: how many requests are unanswered, and whether a transaction is open.
//!
//! `tokio-postgres` answers its users in order, but does not tell whether an answer is still to come, nor the transaction
//! status that the server sends with each `ReadyForQuery`. Both stand in the messages, so the stream beneath it is read along: a
//! tag and a length per message, no copy. With TLS, what is read along is the stream above it.
//!
//! A request that a user has made but the driver has not yet sent is not on the wire. It has woken the driver, though, which is
//! counted ([`Pulse`]). All is quiet if the driver has looked since it was last woken, nothing is stuck on its way out, and
//! every request is answered.
//!
//! Formats: PostgreSQL documentation, "Frontend/Backend Protocol", Message Formats.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::managers::driver::Pulse;

/// No transaction is open.
pub(crate) const IDLE: u8 = b'I';
/// The length and code of the request for TLS, which comes before the first message.
const SSL_REQUEST: u32 = 80_877_103;
/// First byte of a TLS record: TLS was begun without asking.
const TLS_HANDSHAKE: u8 = 0x16;

/// What is known of a connection. Written by the task that drives it, read by whoever holds it.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Of the driver.
    pulse: Arc<Pulse>,
    /// Messages sent; those of them that ask for a `ReadyForQuery`; and those `ReadyForQuery`.
    sent: AtomicU64,
    asked: AtomicU64,
    answered: AtomicU64,
    /// Requests that the server was never going to answer: within COPY it ignores a `Sync`.
    void: AtomicU64,
    status: AtomicU8,
    /// The server takes data for COPY.
    copies: AtomicBool,
    /// The socket does not take what is to be sent.
    stuck: AtomicBool,
    /// The bytes below are of no use: TLS is on, and read along above.
    encrypted: AtomicBool,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            pulse: Arc::new(Pulse::new()),
            sent: zero(),
            asked: zero(),
            answered: zero(),
            void: zero(),
            status: AtomicU8::new(IDLE),
            copies: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            encrypted: AtomicBool::new(false),
        }
    }

    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Nothing is on its way, in either direction.
    pub(crate) fn is_quiet(&self) -> bool {
        // `looked` first: what is read after it is of that look, or of a later one, before which `woken` has grown.
        let looked = self.pulse.looked();
        let unanswered = self.unanswered();
        let stuck = self.stuck.load(Ordering::SeqCst) || self.copies.load(Ordering::SeqCst);
        self.pulse.woken() == looked && unanswered == self.void.load(Ordering::SeqCst) && !stuck
    }

    /// The driver is gone.
    pub(crate) fn is_over(&self) -> bool {
        self.pulse.looked() == u64::MAX
    }

    /// No transaction is open, as far as the server has said.
    pub(crate) fn is_idle(&self) -> bool {
        self.status.load(Ordering::SeqCst) == IDLE
    }

    /// Messages sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Messages sent, requests, answers, requests that are void; transaction status; whether COPY takes data, and whether bytes
    /// are stuck.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn figures(&self) -> ([u64; 4], u8, [bool; 2]) {
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let Self { sent, asked, answered, void, status, copies, stuck, .. } = self;
        (
            [count(sent), count(asked), count(answered), count(void)],
            status.load(Ordering::SeqCst),
            [copies.load(Ordering::SeqCst), stuck.load(Ordering::SeqCst)],
        )
    }

    fn unanswered(&self) -> u64 {
        self.asked.load(Ordering::SeqCst).wrapping_sub(self.answered.load(Ordering::SeqCst))
    }

    /// A request that was made after all others has been answered: what is unanswered now never will be.
    pub(crate) fn settle(&self) {
        self.void.store(self.unanswered(), Ordering::SeqCst);
    }

    /// The bytes below are of no use from now on.
    pub(crate) fn encrypt(&self) {
        self.encrypted.store(true, Ordering::SeqCst);
    }

    fn message_sent(&self, tag: u8) {
        self.sent.fetch_add(1, Ordering::SeqCst);
        // Sync, Query, FunctionCall.
        if matches!(tag, b'S' | b'Q' | b'F') {
            self.asked.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn message_received(&self, tag: u8, first: u8) {
        match tag {
            // ReadyForQuery.
            b'Z' => {
                self.status.store(first, Ordering::SeqCst);
                self.copies.store(false, Ordering::SeqCst);
                self.answered.fetch_add(1, Ordering::SeqCst);
            }
            // CopyInResponse: the Sync that came with the statement is ignored, the one at the end of the data is not.
            b'G' => {
                self.copies.store(true, Ordering::SeqCst);
                self.void.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
    }
}

/// Where one direction of the stream stands.
#[derive(Debug)]
struct Reader {
    head: [u8; 8],
    have: usize,
    /// Bytes of the message that are still to come.
    left: u32,
    first: Option<u8>,
    state: Reading,
    /// The client has asked for TLS: the server answers with one byte.
    asked_for_tls: bool,
}

#[derive(PartialEq, Eq, Debug)]
enum Reading {
    /// The client's first message: length and code, no tag.
    Opening,
    /// The server's answer to a request for TLS: one byte.
    TlsAnswer,
    Tagged,
    /// TLS, or what is no message.
    Blind,
}

impl Reader {
    fn new(state: Reading) -> Self {
        Self { head: [0; 8], have: 0, left: 0, first: None, state, asked_for_tls: false }
    }

    /// Takes bytes in; tells the tag and the first byte of the body of each message that is complete.
    fn take(&mut self, mut bytes: &[u8], mut message: impl FnMut(u8, u8)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let step = bytes.len().min(self.left as usize);
                let (body, rest) = bytes.split_at(step);
                self.first = self.first.or(body.first().copied());
                self.left -= step as u32;
                bytes = rest;
                self.end(&mut message);
                continue;
            }
            let wanted = match self.state {
                Reading::Opening => 8,
                Reading::TlsAnswer => 1,
                Reading::Tagged => 5,
                Reading::Blind => return,
            };
            if self.have == 0 && self.state == Reading::Opening && bytes[0] == TLS_HANDSHAKE {
                self.state = Reading::Blind;
                return;
            }
            let step = bytes.len().min(wanted - self.have);
            let (head, rest) = bytes.split_at(step);
            self.head[self.have..self.have + step].copy_from_slice(head);
            self.have += step;
            bytes = rest;
            if self.have == wanted {
                self.have = 0;
                self.read_head(&mut message);
            }
        }
    }

    fn read_head(&mut self, message: &mut impl FnMut(u8, u8)) {
        let word =
            |at: usize| u32::from_be_bytes([self.head[at], self.head[at + 1], self.head[at + 2], self.head[at + 3]]);
        match self.state {
            Reading::Opening => {
                let (length, code) = (word(0), word(4));
                if code == SSL_REQUEST {
                    self.asked_for_tls = true;
                } else {
                    self.state = Reading::Tagged;
                }
                self.left = length.saturating_sub(8);
                // The first byte of its length is no tag, whatever it is.
                self.head[0] = 0;
            }
            Reading::TlsAnswer => self.state = Reading::Tagged,
            Reading::Tagged => {
                self.first = None;
                self.left = word(1).saturating_sub(4);
                self.end(message);
            }
            Reading::Blind => {}
        }
    }

    fn end(&mut self, message: &mut impl FnMut(u8, u8)) {
        // The message at the opening has no tag and tells nothing; its body is over when its state is `Tagged` and no tag was
        // read.
        if self.left == 0 && self.state == Reading::Tagged && self.head[0] != 0 {
            message(self.head[0], self.first.unwrap_or(0));
        }
    }
}

/// A stream that is read along.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    ledger: Arc<Ledger>,
    /// Above TLS.
    inner: bool,
    /// Its end is not over before the server has ended it too.
    lingers: bool,
    to_server: Reader,
    from_server: Reader,
}

impl<S> Watched<S> {
    /// The socket itself.
    pub(crate) fn socket(stream: S, ledger: Arc<Ledger>) -> Self {
        Self::new(stream, ledger, false)
    }

    /// A socket for a request to cancel: the server ends it when it has passed the request on.
    pub(crate) fn lingering(stream: S) -> Self {
        Self { lingers: true, ..Self::new(stream, Arc::new(Ledger::new()), false) }
    }

    /// What is within TLS.
    pub(crate) fn within_tls(stream: S, ledger: Arc<Ledger>) -> Self {
        ledger.encrypt();
        Self::new(stream, ledger, true)
    }

    fn new(stream: S, ledger: Arc<Ledger>, inner: bool) -> Self {
        let (to_server, from_server) = (Reader::new(Reading::Opening), Reader::new(Reading::Tagged));
        Self { stream, ledger, inner, lingers: false, to_server, from_server }
    }

    /// The stream itself.
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    fn is_watching(&self) -> bool {
        self.inner || !self.ledger.encrypted.load(Ordering::SeqCst)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.is_watching() {
            let ledger = &this.ledger;
            this.from_server.take(&buf.filled()[before..], |tag, first| ledger.message_received(tag, first));
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        if this.is_watching() {
            let ledger = &this.ledger;
            ledger.stuck.store(written.is_pending(), Ordering::SeqCst);
            if let Poll::Ready(Ok(count)) = &written {
                this.to_server.take(&buf[..*count], |tag, _| ledger.message_sent(tag));
                if std::mem::take(&mut this.to_server.asked_for_tls) {
                    // Whatever the server has said before it was asked is no part of its answer.
                    this.from_server = Reader::new(Reading::TlsAnswer);
                }
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        let mut bytes = [0; 64];
        while self.lingers {
            let mut buf = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                // An end that is not orderly is one all the same.
                _ => self.lingers = false,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake as _, Waker};

    use proptest::prelude::*;

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    fn opening(code: u32, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    /// What is told when `bytes` come in pieces that end at `cuts`.
    fn told(mut reader: Reader, bytes: &[u8], cuts: &[usize]) -> Vec<(u8, u8)> {
        let mut told = Vec::new();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            reader.take(&bytes[pair[0]..pair[1]], |tag, first| told.push((tag, first)));
        }
        told
    }

    #[test]
    fn the_opening_tells_nothing() {
        let bytes = [opening(SSL_REQUEST, b""), opening(196_608, b"user\0a\0\0"), message(b'S', b"")].concat();
        assert_eq!(told(Reader::new(Reading::Opening), &bytes, &[]), [(b'S', 0)]);
        let bytes = [b"N".to_vec(), message(b'Z', b"T")].concat();
        assert_eq!(told(Reader::new(Reading::TlsAnswer), &bytes, &[]), [(b'Z', b'T')]);
        assert_eq!(told(Reader::new(Reading::Opening), &[TLS_HANDSHAKE, 3, 1, 0, 0, 0, 0, 0, 9, 9], &[]), []);
    }

    #[test]
    fn the_length_of_a_long_opening_is_no_tag() {
        let mut reader = Reader::new(Reading::Opening);
        let mut told = 0;
        reader.take(&[b'S', 0, 0, 16, 0, 3, 0, 0], |_, _| told += 1);
        let chunk = vec![0; 1 << 20];
        while reader.left > 0 {
            reader.take(&chunk[..chunk.len().min(reader.left as usize)], |_, _| told += 1);
        }
        assert_eq!(told, 0);
    }

    #[test]
    fn quiet_means_looked_at_answered_and_not_stuck() {
        let ledger = Ledger::new();
        let look = |within: &dyn Fn()| {
            let begun = ledger.pulse().begin_look(Waker::noop());
            within();
            ledger.pulse().end_look(begun);
        };
        assert!(!ledger.is_quiet(), "nobody has looked yet");
        look(&|| {
            ledger.message_sent(b'P');
            ledger.message_sent(b'S');
        });
        assert!(!ledger.is_quiet(), "unanswered");
        look(&|| ledger.message_received(b'Z', b'T'));
        assert!(ledger.is_quiet() && !ledger.is_idle());
        ledger.pulse().wake_by_ref();
        assert!(!ledger.is_quiet(), "woken, and nobody has looked");
        look(&|| {});
        assert!(ledger.is_quiet());
        // COPY: a Sync with the statement, which is ignored, and one at the end.
        look(&|| ledger.message_sent(b'S'));
        look(&|| ledger.message_received(b'G', 0));
        assert!(!ledger.is_quiet(), "data are expected");
        look(&|| ledger.message_sent(b'S'));
        look(&|| ledger.message_received(b'Z', b'I'));
        assert!(ledger.is_quiet() && ledger.is_idle());
        ledger.stuck.store(true, Ordering::SeqCst);
        assert!(!ledger.is_quiet());
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            messages in proptest::collection::vec((1_u8.., proptest::collection::vec(any::<u8>(), 0..40)), 0..20),
            cuts in proptest::collection::vec(any::<usize>(), 0..30),
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
            let expected: Vec<(u8, u8)> =
                messages.iter().map(|(tag, body)| (*tag, body.first().copied().unwrap_or(0))).collect();
            prop_assert_eq!(told(Reader::new(Reading::Tagged), &bytes, &cuts), expected);
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200), cuts in proptest::collection::vec(any::<usize>(), 0..10)) {
            told(Reader::new(Reading::Opening), &bytes, &cuts);
        }
    }
}
