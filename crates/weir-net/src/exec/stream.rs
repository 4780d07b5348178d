//! A byte stream in memory between a protocol (the host) and a future (the guest).
//!
//! The guest sees tokio's `AsyncRead` and `AsyncWrite`. The host pushes the bytes that were lent to it
//! and takes what the guest wrote. Both directions are bounded: the guest waits when its output is full;
//! the host is told to pause its connection when the input is.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Makes a stream whose directions hold about `bound` bytes each (input: and one read buffer more, since
/// lent bytes must be taken).
pub fn stream(bound: usize) -> (HostStream, GuestStream) {
    let shared = Rc::new(RefCell::new(Shared { bound: bound.max(1), ..Shared::default() }));
    (HostStream { shared: Rc::clone(&shared) }, GuestStream { shared })
}

/// What the host should do about its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamState {
    /// More input is welcome.
    Open,
    /// The guest has not read what is there: pause the connection, and ask again after the guests ran.
    Full,
    /// The guest is gone: nobody will read.
    Gone,
}

/// The protocol's end.
#[derive(Debug)]
pub struct HostStream {
    shared: Rc<RefCell<Shared>>,
}

/// The guest's end. Cancel safe: no byte is lost when a read or write is dropped.
#[derive(Debug)]
pub struct GuestStream {
    shared: Rc<RefCell<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    bound: usize,
    input: VecDeque<u8>,
    input_ended: bool,
    fault: Option<io::ErrorKind>,
    reader: Option<Waker>,
    output: Vec<u8>,
    output_ended: bool,
    writer: Option<Waker>,
    guest_gone: bool,
}

impl HostStream {
    /// Gives `bytes` to the guest.
    pub fn push(&self, bytes: &[u8]) -> StreamState {
        let mut shared = self.shared.borrow_mut();
        if !shared.guest_gone {
            shared.input.extend(bytes);
            wake(&mut shared.reader);
        }
        shared.state()
    }

    /// Whether more input is welcome.
    pub fn state(&self) -> StreamState {
        self.shared.borrow().state()
    }

    /// The peer has half-closed: the guest reads an end after what it has.
    pub fn end(&self) {
        let mut shared = self.shared.borrow_mut();
        shared.input_ended = true;
        wake(&mut shared.reader);
    }

    /// The connection broke: the guest's reads and writes fail with `kind` from now on.
    pub fn fail(&self, kind: io::ErrorKind) {
        let mut shared = self.shared.borrow_mut();
        shared.fault = Some(kind);
        shared.input.clear();
        shared.output.clear();
        wake(&mut shared.reader);
        wake(&mut shared.writer);
    }

    /// What the guest has written, for [`Piece::Owned`](crate::Piece::Owned). To be left here while the
    /// connection has unsent bytes: that is what holds the guest back.
    pub fn take_output(&self) -> Vec<u8> {
        let mut shared = self.shared.borrow_mut();
        wake(&mut shared.writer);
        std::mem::take(&mut shared.output)
    }

    /// Whether the guest has ended its output (shut it down, or is gone) and everything was taken.
    pub fn output_ended(&self) -> bool {
        let shared = self.shared.borrow();
        shared.output.is_empty() && (shared.output_ended || shared.guest_gone)
    }
}

impl Drop for HostStream {
    fn drop(&mut self) {
        self.fail(io::ErrorKind::ConnectionAborted);
    }
}

impl Drop for GuestStream {
    fn drop(&mut self) {
        let mut shared = self.shared.borrow_mut();
        shared.guest_gone = true;
        shared.input = VecDeque::new();
    }
}

impl Shared {
    fn state(&self) -> StreamState {
        if self.guest_gone {
            StreamState::Gone
        } else if self.input.len() >= self.bound {
            StreamState::Full
        } else {
            StreamState::Open
        }
    }
}

impl AsyncRead for GuestStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.borrow_mut();
        if let Some(kind) = shared.fault {
            return Poll::Ready(Err(kind.into()));
        }
        if shared.input.is_empty() && !shared.input_ended && into.remaining() > 0 {
            shared.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while into.remaining() > 0 && !shared.input.is_empty() {
            let (front, _) = shared.input.as_slices();
            let n = front.len().min(into.remaining());
            into.put_slice(&front[..n]);
            shared.input.drain(..n);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = self.shared.borrow_mut();
        if let Some(kind) = shared.fault {
            return Poll::Ready(Err(kind.into()));
        }
        if shared.output_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = shared.bound.saturating_sub(shared.output.len());
        if room == 0 && !bytes.is_empty() {
            shared.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = room.min(bytes.len());
        shared.output.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The host takes the output after every batch.
        match self.shared.borrow().fault {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.borrow_mut().output_ended = true;
        Poll::Ready(Ok(()))
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(guest: &mut GuestStream, room: usize) -> Poll<io::Result<Vec<u8>>> {
        let mut bytes = vec![0; room];
        let mut into = ReadBuf::new(&mut bytes);
        let poll = Pin::new(guest).poll_read(&mut Context::from_waker(Waker::noop()), &mut into);
        poll.map_ok(|()| into.filled().to_vec())
    }

    fn write(guest: &mut GuestStream, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(guest).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
    }

    #[test]
    fn both_directions_are_bounded_and_end() {
        let (host, mut guest) = stream(4);
        assert!(read(&mut guest, 8).is_pending());
        assert_eq!(host.push(b"abc"), StreamState::Open);
        assert_eq!(host.push(b"def"), StreamState::Full);
        assert!(matches!(read(&mut guest, 5), Poll::Ready(Ok(bytes)) if bytes == b"abcde"));
        assert_eq!(host.state(), StreamState::Open);
        host.end();
        assert!(matches!(read(&mut guest, 5), Poll::Ready(Ok(bytes)) if bytes == b"f"));
        assert!(matches!(read(&mut guest, 5), Poll::Ready(Ok(bytes)) if bytes.is_empty()));

        assert!(matches!(write(&mut guest, b"123456"), Poll::Ready(Ok(4))));
        assert!(write(&mut guest, b"56").is_pending());
        assert_eq!(host.take_output(), b"1234");
        assert!(matches!(write(&mut guest, b"56"), Poll::Ready(Ok(2))));
        assert!(Pin::new(&mut guest).poll_shutdown(&mut Context::from_waker(Waker::noop())).is_ready());
        assert!(!host.output_ended());
        assert_eq!(host.take_output(), b"56");
        assert!(host.output_ended());
        assert!(matches!(write(&mut guest, b"x"), Poll::Ready(Err(_))));
        drop(guest);
        assert_eq!(host.push(b"x"), StreamState::Gone);
    }

    #[test]
    fn a_broken_connection_fails_the_guest() {
        let (host, mut guest) = stream(4);
        host.push(b"abc");
        host.fail(io::ErrorKind::ConnectionReset);
        assert!(
            matches!(read(&mut guest, 5), Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset)
        );
        assert!(matches!(write(&mut guest, b"x"), Poll::Ready(Err(_))));
        let (host, mut guest) = stream(4);
        drop(host);
        assert!(matches!(read(&mut guest, 5), Poll::Ready(Err(_))));
    }
}
