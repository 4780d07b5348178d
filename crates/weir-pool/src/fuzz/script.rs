//! A server that says what a script has, and a runtime in virtual time to meet it in.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Ends a piece: the next one is said after the client has said something again.
const END: u8 = 0xfe;
/// Nothing that is tried with a script takes longer than this, in virtual time.
const LIMIT: Duration = Duration::from_mins(1);

/// The server's side of a connection.
#[derive(Clone)]
pub(super) struct Script {
    pieces: VecDeque<Vec<u8>>,
    /// Of the first piece that was said.
    at: usize,
    /// Bytes at a time at most.
    step: usize,
    /// The client may read of the first piece.
    open: bool,
    /// It hangs up when all is said.
    ends: bool,
    reader: Option<Waker>,
}

impl Script {
    /// The first byte says how: bit 0: it speaks first; bit 1: it hangs up at the end; the others: bytes at a time.
    pub(super) fn new(input: &[u8]) -> Self {
        let (how, said) = input.split_first().unwrap_or((&0, &[]));
        Self {
            pieces: said.split(|byte| *byte == END).map(<[u8]>::to_vec).collect(),
            at: 0,
            step: usize::from(how >> 2) * 16 + 1,
            open: how & 1 != 0,
            ends: how & 2 != 0,
            reader: None,
        }
    }
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(piece) = this.pieces.front().filter(|_| this.open) {
            let rest = &piece[this.at..];
            let step = rest.len().min(this.step).min(buf.remaining());
            if step > 0 {
                buf.put_slice(&rest[..step]);
                this.at += step;
                return Poll::Ready(Ok(()));
            }
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            this.pieces.pop_front();
            (this.at, this.open) = (0, false);
        }
        if this.pieces.is_empty() && this.ends {
            return Poll::Ready(Ok(()));
        }
        this.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Script {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.open = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs to the end, which has to come within [`LIMIT`]; time passes at once when there is nothing else to do.
pub(super) fn run(script: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { unreachable!("it needs nothing of the system") };
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, script).await });
    assert!(ended.is_ok(), "it hangs");
}
