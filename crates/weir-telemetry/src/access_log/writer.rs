//! The worker's end of the access log.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};

use super::thread::{Batch, Message, Shared};
use super::{BATCH_BYTES, Format, combined, json};
use crate::Record;

/// Buffers that may be on their way back to a worker.
pub(super) const RETURNS: usize = 8;

/// Formats lines into a buffer of its worker's own. Give each worker one
/// ([`AccessLog::writer`](super::AccessLog::writer)).
#[derive(Debug)]
pub struct AccessLogWriter {
    format: Format,
    buffer: Vec<u8>,
    lines: u64,
    queue: SyncSender<Message>,
    back_sender: SyncSender<Vec<u8>>,
    back: Receiver<Vec<u8>>,
    shared: Arc<Shared>,
    clock: combined::ClockCache,
}

impl AccessLogWriter {
    pub(super) fn new(format: Format, queue: SyncSender<Message>, shared: Arc<Shared>) -> Self {
        let (back_sender, back) = std::sync::mpsc::sync_channel(RETURNS);
        Self {
            format,
            buffer: Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 8),
            lines: 0,
            queue,
            back_sender,
            back,
            shared,
            clock: combined::ClockCache::default(),
        }
    }

    /// Appends the line of `record`; hands the buffer over when it is full. Never blocks.
    pub fn log(&mut self, record: &Record<'_>) {
        match self.format {
            Format::Json => json::line(&mut self.buffer, record, &mut self.clock),
            Format::Combined => combined::line(&mut self.buffer, record, &mut self.clock),
        }
        self.lines += 1;
        if self.buffer.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Whether lines wait to be handed over. While they do, the worker calls [`AccessLogWriter::flush`]
    /// within about a second (a timer, or the end of a batch of events).
    pub fn pending(&self) -> bool {
        self.lines > 0
    }

    /// Hands over what is there. Never blocks: with a full queue the lines are dropped and counted.
    pub fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        let bytes = std::mem::take(&mut self.buffer);
        let (back, shared) = (self.back_sender.clone(), Arc::clone(&self.shared));
        match self.queue.try_send(Message::Lines(Batch { bytes, lines, back, shared })) {
            Ok(()) => self.buffer = self.back.try_recv().unwrap_or_default(),
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                if let Message::Lines(mut batch) = message {
                    self.buffer = std::mem::take(&mut batch.bytes);
                    self.buffer.clear();
                }
            }
        }
        if self.buffer.capacity() == 0 {
            // Only until as many buffers travel as the disk needs.
            self.buffer.reserve(BATCH_BYTES + BATCH_BYTES / 8);
        }
    }
}

impl Drop for AccessLogWriter {
    fn drop(&mut self) {
        self.flush();
    }
}
