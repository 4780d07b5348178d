//! A pool at one moment, for people.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A pool at one moment. `Display` is one line of text.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The pool's name.
    pub name: Arc<str>,
    /// Connections at most, now: the maximum, or the share of a budget if that is less.
    pub max_size: u32,
    /// What the budget allows; `None` without one.
    pub share: Option<u32>,
    /// In use.
    pub active: u32,
    /// Idle, those included that are being checked.
    pub idle: u32,
    /// Being opened.
    pub opening: u32,
    /// Those of `opening` that take much longer than usual.
    pub hung: u32,
    /// Being closed: they count until they are.
    pub closing: u32,
    /// Callers in line.
    pub pending: u32,
    /// How long a connection was held on average of late; zero if unknown.
    pub hold: Duration,
    /// How long the connections in use have been held on average.
    pub age: Duration,
    /// How long a connect takes; `None` before one has succeeded.
    pub connect_time: Option<Duration>,
    /// For how long connects have been failing.
    pub failing_for: Option<Duration>,
    /// Callers wait although connections may be idle.
    pub suspended: bool,
    /// Nobody gets a connection any more.
    pub closed: bool,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_size, active, idle, opening, hung, closing, pending, .. } = self;
        write!(f, "{active} of {max_size} in use")?;
        if *active > 0 {
            write!(f, " (for {:.3} s on average)", self.age.as_secs_f64())?;
        }
        if self.share == Some(self.max_size) {
            write!(f, " (as the budget allows)")?;
        }
        write!(f, ", {idle} idle, {opening} being opened")?;
        if *hung > 0 {
            write!(f, " ({hung} without an answer)")?;
        }
        if *closing > 0 {
            write!(f, ", {closing} being closed")?;
        }
        write!(f, ", {pending} callers waiting")?;
        if let Some(failing) = self.failing_for {
            write!(f, ", connects failing for {:.1} s", failing.as_secs_f64())?;
        }
        if self.suspended {
            write!(f, ", suspended")?;
        }
        Ok(())
    }
}
