//! The thread that writes the access log, and the handle to it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::{AccessLogWriter, BATCH_BYTES, Format, QUEUE_BATCHES, Target};
use crate::event;

/// A buffer that grew beyond this is not used again.
const KEEP_CAPACITY: usize = 4 * BATCH_BYTES;

/// A pipe that cannot take more (`WouldBlock`: somebody made it non-blocking) is tried this often, with
/// [`RETRY_PAUSE`] in between, before the batch counts as lost.
const RETRIES: u32 = 200;
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// The access log of the process.
#[derive(Clone, Debug)]
pub struct AccessLog {
    format: Format,
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) enum Message {
    Lines(Batch),
    /// Look at the flags of [`Shared`].
    Wake,
}

/// Lines on their way. Dropping a batch that was not written counts its lines as lost, wherever that
/// happens: with a full queue, after a failed write, or in the queue of a thread that has ended.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
    pub(super) back: SyncSender<Vec<u8>>,
    pub(super) shared: Arc<Shared>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.shared.dropped.fetch_add(self.lines, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    written: AtomicU64,
    dropped: AtomicU64,
    reopen: AtomicBool,
    stop: AtomicBool,
    ended: (std::sync::Mutex<bool>, std::sync::Condvar),
}

// === impl AccessLog ===

impl AccessLog {
    /// Opens the target and starts the writer thread.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread can be started.
    pub fn start(target: Target, format: Format) -> io::Result<Self> {
        let file = open(&target)?;
        Self::run(target, format, file)
    }

    fn run(target: Target, format: Format, file: File) -> io::Result<Self> {
        let (queue, incoming) = sync_channel(QUEUE_BATCHES);
        let shared = Arc::new(Shared::default());
        let sink = Sink::new(target, file, Arc::clone(&shared));
        thread::Builder::new().name("weir-access-log".into()).spawn(move || sink.run(incoming))?;
        Ok(Self { format, queue, shared })
    }

    /// A formatter for one worker.
    pub fn writer(&self) -> AccessLogWriter {
        AccessLogWriter::new(self.format, self.queue.clone(), Arc::clone(&self.shared))
    }

    /// Opens the file again by its path, after it was renamed (USR1). Returns at once; lines that are
    /// queued already go to the old or the new file. If the path cannot be opened, the old file is kept
    /// and an error is logged. Nothing happens for standard output.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        // A full queue wakes the thread as well.
        let _ = self.queue.try_send(Message::Wake);
    }

    /// Lines lost so far: the queue was full or writing failed.
    pub fn dropped_lines(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Lines written so far.
    pub fn written_lines(&self) -> u64 {
        self.shared.written.load(Ordering::Acquire)
    }

    /// Writes what is queued and ends the thread. Call it after the workers' writers were dropped or
    /// flushed; what comes later is counted as dropped. Returns `false` if the disk did not take
    /// everything within `timeout`; the thread is then left behind.
    pub fn shutdown(&self, timeout: Duration) -> bool {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.queue.try_send(Message::Wake);
        let (lock, condition) = &self.shared.ended;
        let guard = lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match condition.wait_timeout_while(guard, timeout, |ended| !*ended) {
            Ok((ended, _)) => *ended,
            Err(poisoned) => *poisoned.into_inner().0,
        }
    }
}

// === the thread ===

struct Sink {
    target: Target,
    file: File,
    shared: Arc<Shared>,
    /// Lines lost since writing began to fail.
    lost: u64,
    failing: bool,
    /// Whether the last write ended with a whole line.
    at_line_start: bool,
    /// [`RETRIES`], or fewer in tests.
    retries: u32,
}

impl Sink {
    fn new(target: Target, file: File, shared: Arc<Shared>) -> Self {
        Self { target, file, shared, lost: 0, failing: false, at_line_start: true, retries: RETRIES }
    }

    fn run(mut self, incoming: Receiver<Message>) {
        // Ends when told to, or when the last handle and the last writer are gone.
        while let Ok(message) = incoming.recv() {
            self.handle(message);
            if self.shared.stop.load(Ordering::Acquire) {
                while let Ok(message) = incoming.try_recv() {
                    self.handle(message);
                }
                break;
            }
        }
        // What came too late is counted as lost before `shutdown` returns.
        drop(incoming);
        let (lock, condition) = &self.shared.ended;
        *lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = true;
        condition.notify_all();
    }

    fn handle(&mut self, message: Message) {
        if self.shared.reopen.swap(false, Ordering::AcqRel) {
            self.reopen();
        }
        let Message::Lines(mut batch) = message else {
            return;
        };
        let written = self.write(&batch.bytes, batch.lines);
        let mut bytes = std::mem::take(&mut batch.bytes);
        bytes.clear();
        if bytes.capacity() <= KEEP_CAPACITY {
            // With enough buffers on their way back this one is freed.
            let _ = batch.back.try_send(bytes);
        }
        if written {
            // Last, so that whoever sees the count knows the buffer to be back.
            self.shared.written.fetch_add(std::mem::take(&mut batch.lines), Ordering::Release);
        }
    }

    /// Whether all of it was written.
    fn write(&mut self, bytes: &[u8], lines: u64) -> bool {
        match self.end_broken_line().and_then(|()| self.write_all(bytes)) {
            Ok(()) => {
                if self.failing {
                    self.failing = false;
                    event::AccessLogRecovered { lost_lines: std::mem::take(&mut self.lost) }.emit();
                }
                true
            }
            Err(error) => {
                // Some lines of the batch may have been written; they count as lost with the others.
                self.lost += lines;
                if !self.failing {
                    self.failing = true;
                    event::AccessLogFailed { error: &error }.emit();
                }
                false
            }
        }
    }

    /// After a write that stopped in the middle of a line, the next line starts on a line of its own.
    fn end_broken_line(&mut self) -> io::Result<()> {
        if self.at_line_start { Ok(()) } else { self.write_all(b"\n") }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut retries = self.retries;
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.at_line_start = bytes.get(n - 1) == Some(&b'\n');
                    bytes = bytes.get(n..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && retries > 0 => {
                    retries -= 1;
                    thread::park_timeout(RETRY_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn reopen(&mut self) {
        if self.target == Target::Stdout {
            return;
        }
        match open(&self.target) {
            Ok(file) => {
                self.file = file;
                self.at_line_start = true;
                event::AccessLogReopened.emit();
            }
            Err(error) => event::AccessLogNotReopened { error: &error }.emit(),
        }
    }
}

fn open(target: &Target) -> io::Result<File> {
    match target {
        // A descriptor of its own: no lock and no line buffer of the standard library in between.
        Target::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        Target::File(path) => OpenOptions::new().append(true).create(true).open(path),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read as _};
    use std::os::fd::OwnedFd;

    use super::*;

    fn pipe() -> (PipeReader, File) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, File::from(OwnedFd::from(writer)))
    }

    fn batch(shared: &Arc<Shared>, text: &[u8]) -> (Batch, Receiver<Vec<u8>>) {
        let (back, returned) = sync_channel(1);
        (Batch { bytes: text.to_vec(), lines: 1, back, shared: Arc::clone(shared) }, returned)
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_but_blocks_nobody() {
        const BATCHES: usize = 2 * QUEUE_BATCHES;
        let (mut reader, file) = pipe();
        let log = AccessLog::run(Target::Stdout, Format::Json, file).unwrap();
        let line = [vec![b'x'; BATCH_BYTES], b"\n".to_vec()].concat();
        let mut accepted = 0;
        for _ in 0..BATCHES {
            if log.queue.try_send(Message::Lines(batch(&log.shared, &line).0)).is_ok() {
                accepted += 1;
            }
        }
        assert!(log.dropped_lines() > 0, "the queue is bounded");
        assert!(!log.shutdown(Duration::from_millis(1)), "nobody reads yet");
        let AccessLog { queue, shared, .. } = log.clone();
        drop((log, queue));
        // Now everything that was accepted arrives whole.
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        assert_eq!(text.len(), accepted * line.len());
        assert_eq!(shared.written.load(Ordering::Relaxed), accepted as u64);
    }

    #[test]
    fn a_line_after_a_broken_one_starts_anew() {
        let (mut reader, file) = pipe();
        rustix::io::ioctl_fionbio(&file, true).unwrap();
        let shared = Arc::new(Shared::default());
        let mut sink = Sink::new(Target::Stdout, file, Arc::clone(&shared));
        sink.retries = 1;
        let long = vec![b'x'; 1 << 20];
        sink.handle(Message::Lines(batch(&shared, &long).0));
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 1);
        let mut part = vec![0; long.len()];
        let taken = reader.read(&mut part).unwrap();
        sink.handle(Message::Lines(batch(&shared, b"next\n").0));
        assert_eq!(shared.written.load(Ordering::Relaxed), 1);
        drop(sink);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        part.truncate(taken);
        part.extend_from_slice(&rest);
        let text = String::from_utf8(part).unwrap();
        assert!(text.ends_with("x\nnext\n"), "{}", &text[text.len() - 16..]);
    }

    #[test]
    fn buffers_come_back_empty_unless_they_grew_too_large() {
        let (_reader, file) = pipe();
        let shared = Arc::default();
        let mut sink = Sink::new(Target::Stdout, file, Arc::clone(&shared));
        let (message, returned) = batch(&shared, b"line\n");
        sink.handle(Message::Lines(message));
        assert!(returned.try_recv().unwrap().is_empty());
        let (mut message, returned) = batch(&shared, b"line\n");
        message.bytes.reserve(2 * KEEP_CAPACITY);
        sink.handle(Message::Lines(message));
        assert!(returned.try_recv().is_err());
    }
}
