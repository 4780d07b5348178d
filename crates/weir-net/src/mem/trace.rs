//! What happened, in order: a hash over everything (two runs of one seed must agree) and the last
//! events in readable form, printed when a test fails.

use std::collections::VecDeque;
use std::fmt;

use weir_core::Instant;
use weir_core::hash::splitmix64;

use super::NodeId;
use crate::ConnId;

/// How many of the last events are kept for a failure's message.
const TAIL_MAX: usize = 200;

/// What an event of the trace is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Step {
    /// `on_start`.
    Start,
    /// `on_accepted`; the value is the listener.
    Accepted,
    /// `on_connected`; the value is 0 for success.
    Connected,
    /// `on_data`; the value is the length.
    Data,
    /// `on_eof`.
    Eof,
    /// `on_drained`.
    Drained,
    /// `on_pumped`; the value is the number of bytes.
    Pumped,
    /// `on_reset`.
    Reset,
    /// `on_deadline`.
    Deadline,
    /// `on_timer`; the value is the key.
    Timer,
    /// `on_message`.
    Message,
    /// `Io::connect`.
    Connect,
    /// `Io::send`; the value is the length.
    Send,
    /// `Io::shutdown_write`.
    ShutdownWrite,
    /// `Io::close`; the value tells how.
    Close,
    /// `Io::pump`; the value is the limit.
    Pump,
    /// `Io::detach`.
    Detach,
    /// `Io::attach`.
    Attach,
    /// A node was killed or stopped.
    Killed,
    /// A node was stalled.
    Stalled,
    /// A node goes on.
    Unstalled,
    /// The network broke a connection.
    Broken,
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// On which node.
    pub node: NodeId,
    /// What.
    pub step: Step,
    /// For which connection, if any.
    pub conn: Option<ConnId>,
    /// Depends on the step.
    pub value: u64,
}

/// The record of a world.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    count: u64,
    tail: VecDeque<Entry>,
    /// Whether everything is kept instead of the last events.
    full: bool,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self { hash: 0, count: 0, tail: VecDeque::with_capacity(TAIL_MAX), full: false }
    }

    pub(super) fn keep_all(&mut self) {
        self.full = true;
    }

    pub(super) fn add(&mut self, entry: Entry) {
        let conn = entry.conn.map_or(u64::MAX, |conn| u64::from(conn.index) << 32 | u64::from(conn.generation));
        let what = u64::from(entry.step as u8) << 32 | u64::from(entry.node.0);
        for word in [entry.at.as_nanos(), what, conn, entry.value] {
            self.hash = splitmix64(self.hash ^ word);
        }
        self.count += 1;
        if !self.full && self.tail.len() == TAIL_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(entry);
    }

    /// A hash over all events so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last events, oldest first (all of them after `World::trace_everything`).
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.tail.iter()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14.6} ms  node {}  {:?}", self.at.as_nanos() as f64 / 1e6, self.node.0, self.step)?;
        if let Some(conn) = self.conn {
            write!(f, " {}.{}", conn.index, conn.generation)?;
        }
        write!(f, " {}", self.value)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.tail.len() as u64;
        if kept < self.count {
            writeln!(f, "… {} earlier events", self.count - kept)?;
        }
        self.tail.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}
