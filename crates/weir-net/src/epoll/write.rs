//! Sending: one system call per message, and a queue for what the kernel does not take.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

use crate::contract::Piece;

/// Pieces given to the kernel in one call.
const VECTOR: usize = 16;
/// Lent bytes are gathered into chunks of about this size.
const CHUNK: usize = 32 * 1024;
/// Chunks kept for reuse per worker: at most 2 MiB.
const POOL: usize = 64;

const FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// Empty buffers of [`CHUNK`] bytes for reuse.
#[derive(Default)]
pub(super) struct Buffers {
    free: Vec<Vec<u8>>,
}

impl Buffers {
    pub(super) fn get(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK))
    }

    /// Takes back a buffer; one of another size (given by a protocol) is freed.
    pub(super) fn put(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == CHUNK && self.free.len() < POOL {
            buffer.clear();
            self.free.push(buffer);
        }
    }
}

/// Bytes that the kernel has not taken, in order.
#[derive(Default)]
pub(super) struct Stuck {
    chunks: VecDeque<Chunk>,
    len: usize,
}

struct Chunk {
    bytes: Vec<u8>,
    at: usize,
}

/// How far a flush came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flushed {
    /// Nothing is left.
    All,
    /// The kernel's buffer is full; some bytes may have gone.
    Blocked {
        /// Bytes that went.
        written: usize,
    },
}

impl Stuck {
    /// Bytes in the queue.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues what remains of `pieces` after the first `skip` bytes, and leaves them empty.
    pub(super) fn push(&mut self, pieces: &mut [Piece<'_>], mut skip: usize, buffers: &mut Buffers) {
        for piece in pieces {
            let skipped = skip.min(len_of(piece));
            skip -= skipped;
            match std::mem::replace(piece, Piece::Lent(&[])) {
                Piece::Lent(bytes) => self.push_copy(&bytes[skipped..], buffers),
                Piece::Owned(bytes) => {
                    // A short rest is cheaper to copy than to carry as a chunk of its own.
                    if bytes.len() - skipped <= 1024 {
                        self.push_copy(&bytes[skipped..], buffers);
                    } else {
                        self.len += bytes.len() - skipped;
                        self.chunks.push_back(Chunk { bytes, at: skipped });
                    }
                }
            }
        }
    }

    /// Queues a copy of `bytes`.
    pub(super) fn push_copy(&mut self, mut bytes: &[u8], buffers: &mut Buffers) {
        self.len += bytes.len();
        while !bytes.is_empty() {
            let room = self.chunks.back().map_or(0, |last| last.bytes.capacity() - last.bytes.len());
            if room == 0 {
                self.chunks.push_back(Chunk { bytes: buffers.get(), at: 0 });
                continue;
            }
            let Some(last) = self.chunks.back_mut() else {
                return;
            };
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            last.bytes.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Writes as much as the kernel takes.
    pub(super) fn flush(&mut self, fd: BorrowedFd<'_>, buffers: &mut Buffers) -> Result<Flushed, Errno> {
        let mut written = 0;
        while !self.is_empty() {
            let mut vector = [IoSlice::new(&[]); VECTOR];
            let mut offered = 0;
            let used = self.chunks.len().min(VECTOR);
            for (slot, chunk) in vector.iter_mut().zip(&self.chunks) {
                *slot = IoSlice::new(&chunk.bytes[chunk.at..]);
                offered += slot.len();
            }
            match call(fd, &vector[..used]) {
                Ok(n) => {
                    written += n;
                    self.consume(n, buffers);
                    if n < offered {
                        return Ok(Flushed::Blocked { written });
                    }
                }
                Err(Errno::AGAIN) => return Ok(Flushed::Blocked { written }),
                Err(errno) => return Err(errno),
            }
        }
        Ok(Flushed::All)
    }

    /// Drops everything.
    pub(super) fn clear(&mut self, buffers: &mut Buffers) {
        self.len = 0;
        self.chunks.drain(..).for_each(|chunk| buffers.put(chunk.bytes));
    }

    fn consume(&mut self, mut n: usize, buffers: &mut Buffers) {
        self.len -= n;
        while let Some(first) = self.chunks.front_mut() {
            let left = first.bytes.len() - first.at;
            if n < left {
                first.at += n;
                return;
            }
            n -= left;
            if let Some(chunk) = self.chunks.pop_front() {
                buffers.put(chunk.bytes);
            }
        }
    }
}

/// Gives `pieces` to the kernel: the number of bytes taken, and the error that ended it, if any.
pub(super) fn write_pieces(fd: BorrowedFd<'_>, pieces: &[Piece<'_>]) -> (usize, Option<Errno>) {
    // Most messages are one piece: no vector to fill.
    if let [only] = pieces {
        let bytes = bytes_of(only);
        return match bytes.len() {
            0 => (0, None),
            offered => match write_bytes(fd, bytes) {
                Ok(n) => (n, (n < offered).then_some(Errno::AGAIN)),
                Err(errno) => (0, Some(errno)),
            },
        };
    }
    let mut written = 0;
    for group in pieces.chunks(VECTOR) {
        let mut vector = [IoSlice::new(&[]); VECTOR];
        let (mut used, mut offered) = (0, 0);
        for bytes in group.iter().map(bytes_of).filter(|bytes| !bytes.is_empty()) {
            vector[used] = IoSlice::new(bytes);
            used += 1;
            offered += bytes.len();
        }
        if used == 0 {
            continue;
        }
        match call(fd, &vector[..used]) {
            Ok(n) => {
                written += n;
                if n < offered {
                    return (written, Some(Errno::AGAIN));
                }
            }
            Err(errno) => return (written, Some(errno)),
        }
    }
    (written, None)
}

/// One non-blocking call.
pub(super) fn write_bytes(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        let result = send(fd, bytes, FLAGS);
        if result != Err(Errno::INTR) {
            return result;
        }
    }
}

pub(super) fn len_of(piece: &Piece<'_>) -> usize {
    bytes_of(piece).len()
}

/// Leaves the pieces empty, as after a successful send.
pub(super) fn empty(pieces: &mut [Piece<'_>]) {
    for piece in pieces {
        *piece = Piece::Lent(&[]);
    }
}

fn call(fd: BorrowedFd<'_>, vector: &[IoSlice<'_>]) -> Result<usize, Errno> {
    loop {
        let result = match vector {
            [only] => send(fd, only, FLAGS),
            several => sendmsg(fd, several, &mut SendAncillaryBuffer::default(), FLAGS),
        };
        if result != Err(Errno::INTR) {
            return result;
        }
    }
}

fn bytes_of<'a>(piece: &'a Piece<'_>) -> &'a [u8] {
    match piece {
        Piece::Lent(bytes) => bytes,
        Piece::Owned(bytes) => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn stuck_bytes_keep_their_order_through_partial_writes() {
        let (writer, mut reader) = UnixStream::pair().unwrap();
        let mut buffers = Buffers::default();
        let mut stuck = Stuck::default();
        let mut expected = Vec::new();
        for n in 0..200_u32 {
            let bytes: Vec<u8> = (0..n * 37 % 9_000).map(|i| (i + n) as u8).collect();
            let skip = bytes.len() / 3;
            expected.extend_from_slice(&bytes[skip..]);
            let piece = if n % 2 == 0 { Piece::Owned(bytes) } else { Piece::Lent(&bytes) };
            stuck.push(&mut [Piece::Lent(&[]), piece], skip, &mut buffers);
        }
        assert_eq!(stuck.len(), expected.len());
        let mut got = Vec::new();
        let mut blocked = 0;
        loop {
            let state = stuck.flush(writer.as_fd(), &mut buffers).unwrap();
            if state == Flushed::All {
                break;
            }
            blocked += 1;
            let mut part = vec![0; 50_000];
            let n = reader.read(&mut part).unwrap();
            got.extend_from_slice(&part[..n]);
        }
        drop(writer);
        reader.read_to_end(&mut got).unwrap();
        assert!(blocked > 0 && got == expected);
        assert!(stuck.is_empty() && buffers.free.len() <= POOL && !buffers.free.is_empty());
    }

    #[test]
    fn more_pieces_than_one_vector_holds_go_in_order() {
        let (writer, mut reader) = UnixStream::pair().unwrap();
        let texts: Vec<String> = (0..100).map(|n| if n % 7 == 0 { String::new() } else { format!("{n},") }).collect();
        let pieces: Vec<Piece<'_>> = texts.iter().map(|text| Piece::Lent(text.as_bytes())).collect();
        let expected = texts.concat();
        assert_eq!(write_pieces(writer.as_fd(), &pieces), (expected.len(), None));
        drop(writer);
        let mut got = String::new();
        reader.read_to_string(&mut got).unwrap();
        assert_eq!(got, expected);
    }
}
