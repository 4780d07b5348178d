//! The access log: one line per request, formatted by the worker, written by one thread.
//!
//! # Path of a line
//! ```text
//! worker: AccessLogWriter ── batch of up to 32 KiB ──▶ queue (64 batches) ──▶ writer thread ──▶ file
//!             ▲                                                                  │
//!             └──────────────── empty buffer, to be filled again ◀───────────────┘
//! ```
//! Why a thread: a write to a full disk or a slow pipe may block for seconds, and a worker must never wait.
//! When the queue is full the batch is dropped and its lines are counted (`weir_access_log_dropped_lines_total`).
//! In the steady state nothing is allocated: buffers travel in a circle.
mod combined;
mod json;
mod text;
mod thread;
mod writer;

use std::path::PathBuf;

pub use thread::AccessLog;
pub use writer::AccessLogWriter;

/// A worker hands its buffer over when it holds this many bytes.
pub const BATCH_BYTES: usize = 32 * 1_024;

/// Batches that may wait for the disk; together with [`BATCH_BYTES`] about 2 MiB.
pub const QUEUE_BATCHES: usize = 64;

/// The longest line is cut off by shortening what the client sent: each text of a line keeps at most this
/// many bytes.
pub const FIELD_BYTES: usize = 8 * 1_024;

/// Where lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, created if missing and opened for appending.
    File(PathBuf),
}

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// One JSON object a line, with all phase times and the end code.
    Json,
    /// The combined format of Apache httpd and nginx.
    Combined,
}
