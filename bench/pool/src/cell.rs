//! One cell: a peer, a use, tasks over connections. It runs in a process of its own, so that peers do not disturb each other
//! and one that hangs can be ended.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Outcome;

/// What a task does with a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Use {
    /// One task, acquire, touch, release, without a pause: the bare cost.
    Alone,
    /// Acquire, touch, release, then the next task's turn: many callers, hardly ever a line.
    Noop,
    /// Acquire, touch, the next task's turn, release: the connection is held while others run, so that callers stand in line.
    Hold,
    /// Acquire, a request and its answer over a socket, release.
    Socket,
}

/// The uses, in the order of the tables, with their titles.
pub const USES: &[(&str, Use, &str)] = &[
    ("alone", Use::Alone, "Alone: one task, acquire and release, nothing else"),
    ("noop", Use::Noop, "No-op: acquire, touch, release, next task"),
    ("hold", Use::Hold, "Held for a turn: acquire, touch, next task, release"),
    ("socket", Use::Socket, "A request and its answer over a socket"),
];

impl Use {
    /// The use of a name.
    ///
    /// # Errors
    /// If there is none.
    pub fn parse(text: &str) -> Outcome<Self> {
        let names = || USES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(" ");
        USES.iter()
            .find(|(name, ..)| *name == text)
            .map(|(_, it, _)| *it)
            .ok_or_else(|| format!("there is no use {text:?}; there are: {}", names()))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        USES.iter().find(|(_, it, _)| *it == self).map_or("", |(name, ..)| name)
    }
}

/// A cell to be run.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// What the tasks do.
    pub use_of: Use,
    /// How many.
    pub tasks: usize,
    /// Connections.
    pub size: u32,
    /// Runs before the clock.
    pub warm_up: Duration,
    /// On the clock.
    pub window: Duration,
    /// The stub server, where the use needs it.
    pub server: Option<SocketAddr>,
}

/// What was seen in a cell, before any arithmetic. A harness in another language writes the same.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
pub struct Raw {
    /// Length of the window.
    pub elapsed_nanos: u64,
    /// Time on processors of the whole process in the window.
    pub cpu_nanos: u64,
    /// Uses that ended in the window, by task.
    pub per_task: Vec<u64>,
    /// Waits that ended in the window: nanoseconds, and how many.
    pub waits: Vec<(u64, u64)>,
    /// Nanoseconds that those have waited who still do at the end.
    pub open_waits: Vec<u64>,
    /// Allocations in a short window of its own, and the uses that ended in it.
    pub allocations: Option<(u64, u64)>,
    /// Acquires and uses that failed.
    pub errors: u64,
    /// What the first failure said.
    pub error: Option<String>,
    /// Connections that were open when the clock started.
    pub open: u64,
    /// Most that were open at once, ever.
    pub peak: u64,
}
