//! Moving bytes from one connection to another without showing them to the protocol.
//!
//! Small flows are copied through the worker's scratch buffer: two system calls, like a relay by hand.
//! A read that fills the scratch buffer shows a bulk flow; from then on, until the source runs dry,
//! pages go through a pipe with splice(2) and are not copied. A pump holds a pipe only while bytes are in
//! it, so idle tunnels cost no descriptors.
//!
//! Invariant: bytes are read from the source only when nothing is in transit, and never more than the
//! limit allows; `moved` counts what the sink's kernel has taken.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};

use super::fault::fault_of;
use super::write::{Buffers, write_bytes};
use crate::contract::{ConnId, IoFault, PumpEnd};

/// The pipe size asked for; the kernel may allow less (fs.pipe-max-size, fs.pipe-user-pages-soft).
const PIPE_BYTES: usize = 1 << 20;
/// What is asked for if that is refused.
const PIPE_BYTES_SMALL: usize = 256 * 1024;
/// Empty pipes kept per worker (two descriptors each).
const PIPES_KEPT: usize = 16;
/// Reads of one pump before other connections get their turn: at most 4 MiB, about a millisecond.
const READS_PER_TURN: usize = 4;

/// One running pump; it belongs to its source.
pub(super) struct Pump {
    pub(super) to: ConnId,
    /// Bytes that may still be read from the source.
    left: Option<u64>,
    pub(super) moved: u64,
    transit: Transit,
    /// How reading ended; reported when nothing is in transit.
    read_end: Option<PumpEnd>,
    /// The sink was closed or broke.
    pub(super) sink_fault: Option<IoFault>,
    /// It waits for the sink to become writable.
    pub(super) blocked: bool,
    bulk: bool,
    /// The kernel cannot splice this kind of socket.
    copy_only: bool,
}

enum Transit {
    Nothing,
    Held { bytes: Vec<u8>, at: usize },
    Piped { pipe: Pipe, len: usize },
}

/// Why a turn of a pump ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    Ended(PumpEnd),
    /// Everything there was has been moved.
    SourceDry,
    /// The sink's kernel buffer is full.
    SinkFull,
    /// There is more to do, but others are waiting.
    Yield,
}

/// What a turn works with.
pub(super) struct Tools<'a> {
    pub(super) scratch: &'a mut [u8],
    pub(super) pipes: &'a mut Pipes,
    pub(super) buffers: &'a mut Buffers,
    /// A short read means that the source is drained.
    pub(super) short_is_dry: bool,
    /// What an end of input on this source means, if not an end.
    pub(super) end_fault: Option<IoFault>,
}

impl Pump {
    pub(super) fn new(to: ConnId, limit: Option<u64>) -> Self {
        Self {
            to,
            left: limit,
            moved: 0,
            transit: Transit::Nothing,
            read_end: None,
            sink_fault: None,
            blocked: false,
            bulk: false,
            copy_only: false,
        }
    }

    /// Gives back what can be reused.
    pub(super) fn discard(self, buffers: &mut Buffers) {
        // A pipe with bytes in it is closed: they must not reach another connection.
        if let Transit::Held { bytes, .. } = self.transit {
            buffers.put(bytes);
        }
    }

    /// Moves what can be moved now.
    pub(super) fn turn(&mut self, source: BorrowedFd<'_>, sink: BorrowedFd<'_>, mut tools: Tools<'_>) -> Turn {
        if let Some(fault) = self.sink_fault {
            return Turn::Ended(PumpEnd::SinkFault(fault));
        }
        let mut dry = false;
        for _ in 0..READS_PER_TURN {
            match self.give(sink, &mut tools) {
                Ok(true) => {}
                Ok(false) => return Turn::SinkFull,
                Err(errno) => return Turn::Ended(PumpEnd::SinkFault(fault_of(errno))),
            }
            if let Some(end) = self.read_end {
                return Turn::Ended(end);
            }
            if self.left == Some(0) {
                return Turn::Ended(PumpEnd::Done);
            }
            if dry {
                return Turn::SourceDry;
            }
            let read = if self.bulk && !self.copy_only {
                self.read_pipe(source, &mut tools)
            } else {
                self.read_copy(source, sink, &mut tools)
            };
            match read {
                Ok(Read::Some) => {}
                Ok(Read::Last) => dry = tools.short_is_dry,
                Ok(Read::End) => {
                    self.read_end = Some(tools.end_fault.map_or(PumpEnd::Eof, PumpEnd::SourceFault));
                }
                Err(Fail::Source(Errno::AGAIN)) => {
                    self.bulk = false;
                    return Turn::SourceDry;
                }
                Err(Fail::Source(errno)) => {
                    self.read_end = Some(PumpEnd::SourceFault(fault_of(errno)));
                }
                Err(Fail::Sink(errno)) => return Turn::Ended(PumpEnd::SinkFault(fault_of(errno))),
            }
        }
        Turn::Yield
    }

    /// Writes what is in transit; `true` if nothing is left.
    fn give(&mut self, sink: BorrowedFd<'_>, tools: &mut Tools<'_>) -> Result<bool, Errno> {
        loop {
            let done = match &mut self.transit {
                Transit::Nothing => return Ok(true),
                Transit::Held { bytes, at } => match write_bytes(sink, &bytes[*at..]) {
                    Ok(n) => {
                        *at += n;
                        self.moved += n as u64;
                        *at == bytes.len()
                    }
                    Err(Errno::AGAIN) => return Ok(false),
                    Err(errno) => return Err(errno),
                },
                Transit::Piped { pipe, len } => {
                    // Without MORE: the kernel would hold back a last partial segment for 200 ms.
                    match splice(&pipe.reader, None, sink, None, *len, SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE)) {
                        Ok(n) => {
                            *len -= n.min(*len);
                            self.moved += n as u64;
                            // Nothing taken without an error: as good as full.
                            if n == 0 {
                                return Ok(false);
                            }
                            *len == 0
                        }
                        Err(Errno::AGAIN) => return Ok(false),
                        Err(Errno::INTR) => false,
                        Err(errno) => return Err(errno),
                    }
                }
            };
            if done {
                match std::mem::replace(&mut self.transit, Transit::Nothing) {
                    Transit::Nothing => {}
                    Transit::Held { bytes, .. } => tools.buffers.put(bytes),
                    Transit::Piped { pipe, .. } => tools.pipes.put(pipe),
                }
            }
        }
    }

    fn read_pipe(&mut self, source: BorrowedFd<'_>, tools: &mut Tools<'_>) -> Result<Read, Fail> {
        let Some(pipe) = tools.pipes.get() else {
            self.copy_only = true;
            return Ok(Read::Some);
        };
        let want = self.want(pipe.size);
        let flags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);
        match splice(source, None, &pipe.writer, None, want, flags) {
            Ok(0) => {
                tools.pipes.put(pipe);
                Ok(Read::End)
            }
            Ok(n) => {
                self.took(n);
                self.transit = Transit::Piped { pipe, len: n };
                Ok(Read::Some)
            }
            Err(errno) => {
                tools.pipes.put(pipe);
                match errno {
                    Errno::INTR => Ok(Read::Some),
                    Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => {
                        self.copy_only = true;
                        Ok(Read::Some)
                    }
                    errno => Err(Fail::Source(errno)),
                }
            }
        }
    }

    fn read_copy(&mut self, source: BorrowedFd<'_>, sink: BorrowedFd<'_>, tools: &mut Tools<'_>) -> Result<Read, Fail> {
        let want = self.want(tools.scratch.len());
        let n = match recv(source, &mut tools.scratch[..want], RecvFlags::DONTWAIT) {
            Ok((n, _)) => n,
            Err(Errno::INTR) => return Ok(Read::Some),
            Err(errno) => return Err(Fail::Source(errno)),
        };
        if n == 0 {
            return Ok(Read::End);
        }
        self.took(n);
        self.bulk = n == tools.scratch.len();
        let given = match write_bytes(sink, &tools.scratch[..n]) {
            Ok(given) => given,
            Err(Errno::AGAIN) => 0,
            Err(errno) => return Err(Fail::Sink(errno)),
        };
        self.moved += given as u64;
        if given < n {
            let mut bytes = tools.buffers.get();
            bytes.extend_from_slice(&tools.scratch[given..n]);
            self.transit = Transit::Held { bytes, at: 0 };
        }
        Ok(if n < want { Read::Last } else { Read::Some })
    }

    fn want(&self, room: usize) -> usize {
        self.left.map_or(room, |left| usize::try_from(left).unwrap_or(usize::MAX).min(room))
    }

    fn took(&mut self, n: usize) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(n as u64);
        }
    }
}

enum Read {
    /// Something, or nothing this time.
    Some,
    /// Less than there was room for.
    Last,
    End,
}

enum Fail {
    Source(Errno),
    Sink(Errno),
}

/// A pipe with nothing in it.
pub(super) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    size: usize,
}

/// Empty pipes for reuse.
#[derive(Default)]
pub(super) struct Pipes {
    free: Vec<Pipe>,
}

impl Pipes {
    /// An empty pipe; `None` if descriptors ran out.
    fn get(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK.union(PipeFlags::CLOEXEC)).ok()?;
        let size = fcntl_setpipe_size(&writer, PIPE_BYTES)
            .or_else(|_| fcntl_setpipe_size(&writer, PIPE_BYTES_SMALL))
            .or_else(|_| fcntl_getpipe_size(&writer))
            .ok()?;
        Some(Pipe { reader, writer, size })
    }

    fn put(&mut self, pipe: Pipe) {
        if self.free.len() < PIPES_KEPT {
            self.free.push(pipe);
        }
    }
}
