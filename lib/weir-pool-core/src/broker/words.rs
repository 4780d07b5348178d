//! What goes in and out of a broker.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use weir_core::Instant;

use crate::admission::AdmissionParams;
use crate::opener::OpenParams;
use crate::slot::{CloseReason, SlotId};
use crate::{Params, Stats};

/// How callers wait and what is watched.
#[derive(Clone, PartialEq, Debug)]
pub struct BrokerParams {
    /// How connections are kept. `max_idle` and `max_connections` are the quota's business.
    pub keep: Params,
    /// How they are opened.
    pub open: OpenParams,
    /// Most callers in line; more are refused at once.
    pub waiters_max: u32,
    /// An idle connection is looked at after this; `None` = never.
    pub keepalive: Option<Duration>,
    /// A use longer than this is reported, once; `None` = never.
    pub leak_after: Option<Duration>,
    /// Callers are refused early if the line stands; `None` = never.
    pub admission: Option<AdmissionParams>,
}

impl Default for BrokerParams {
    fn default() -> Self {
        Self {
            keep: Params::default(),
            open: OpenParams::default(),
            waiters_max: 1 << 20,
            keepalive: None,
            leak_after: None,
            admission: None,
        }
    }
}

/// A connection lent to a caller; it comes back as it is, by [`Broker::release`](crate::Broker::release) or its like. One pointer:
/// it is passed in a register.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a connection that is not given back holds its place for ever"]
pub struct Loan<C>(pub(super) Box<Lent<C>>);

/// A connection with what is known of it: what a [`Loan`] points to.
#[derive(PartialEq, Eq, Debug)]
pub struct Lent<C> {
    pub(super) slot: SlotId,
    /// Since when it is lent (or was, last).
    pub(super) since: Instant,
    /// When it was last known to be alive: at its last use, check or connect.
    pub(super) alive: Instant,
    pub(super) conn: C,
}

impl<C> Loan<C> {
    /// Its slot.
    #[inline]
    pub fn slot(&self) -> SlotId {
        self.0.slot
    }

    /// Since when it is lent.
    #[inline]
    pub fn since(&self) -> Instant {
        self.0.since
    }

    /// When it was last known to be alive: at its last use, check or connect.
    #[inline]
    pub fn alive(&self) -> Instant {
        self.0.alive
    }

    /// What it points to.
    #[inline]
    pub fn lent(&self) -> &Lent<C> {
        &self.0
    }

    /// What it points to, for an owner who keeps pointers. [`Loan::from_box`] undoes it.
    #[inline]
    pub fn into_box(self) -> Box<Lent<C>> {
        self.0
    }

    /// Undoes [`Loan::into_box`].
    #[inline]
    pub fn from_box(lent: Box<Lent<C>>) -> Self {
        Self(lent)
    }

    /// For how long nothing had shown that it is alive when it was lent: since its last use, check or connect. Zero if it came
    /// straight from another use.
    #[inline]
    pub fn quiet(&self) -> Duration {
        self.0.since.since(self.0.alive)
    }
}

impl<C> Deref for Loan<C> {
    type Target = C;

    #[inline]
    fn deref(&self) -> &C {
        &self.0.conn
    }
}

impl<C> DerefMut for Loan<C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut C {
        &mut self.0.conn
    }
}

/// Why a caller gets nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// The pool is closed.
    Closed,
    /// No connection is open, and connects have been failing for long.
    Down,
    /// Too many wait already.
    LineFull,
    /// Its time is over.
    TimedOut,
    /// The pool takes no callers for now, but another one may: [`Broker::bar`](crate::Broker::bar).
    TurnedAway,
    /// It would be served too late, or the line stands ([`Admission`](crate::Admission)).
    Overload,
}

/// What came of [`Broker::acquire`](crate::Broker::acquire).
#[derive(PartialEq, Eq, Debug)]
#[must_use]
pub enum Acquired<C> {
    /// A connection.
    Ready(Loan<C>),
    /// [`Broker::join`](crate::Broker::join) the line.
    Wait,
    /// Nothing.
    Refused(Refusal),
}

/// What the housekeeper has to do. Lists are appended to; the owner empties them.
#[derive(Debug)]
pub struct Todo<C, W> {
    /// Open a connection for each: [`Broker::connected`](crate::Broker::connected) or
    /// [`Broker::connect_failed`](crate::Broker::connect_failed) follow.
    pub open: Vec<SlotId>,
    /// Give up these connects, which hang: `connect_failed` follows when they have ended.
    pub abandon: Vec<SlotId>,
    /// Close these: [`Broker::closed`](crate::Broker::closed) follows when they are.
    pub close: Vec<(SlotId, C, CloseReason)>,
    /// See whether these are alive: [`Broker::alive`](crate::Broker::alive) or [`Broker::dead`](crate::Broker::dead) follow.
    pub check: Vec<Loan<C>>,
    /// These have been lent for longer than `leak_after`: since when.
    pub leaks: Vec<(SlotId, Instant)>,
    /// Tell these callers to look again ([`Broker::fetch`](crate::Broker::fetch)).
    pub wake: Vec<W>,
}

impl<C, W> Default for Todo<C, W> {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            abandon: Vec::new(),
            close: Vec::new(),
            check: Vec::new(),
            leaks: Vec::new(),
            wake: Vec::new(),
        }
    }
}

/// Figures of a moment, and sums since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BrokerStats {
    /// The connections.
    pub pool: Stats,
    /// Callers in line.
    pub waiting: u32,
    /// Callers for whom a connection is kept that they have not fetched yet.
    pub served: u32,
    /// Connects in flight that hang.
    pub hung: u32,
    /// Connections lent to callers who did not have to wait.
    pub unwaited: u64,
    /// Callers whose time ended in line.
    pub timed_out: u64,
    /// Callers refused because the pool was closed, the server down, the line full, or by admission.
    pub refused: u64,
    /// Those of `refused` who were told that the server is down.
    pub refused_down: u64,
    /// Those of `refused` who found the line full.
    pub refused_full: u64,
    /// Those of `refused` who were refused early, by admission.
    pub refused_shed: u64,
    /// Uses that have ended.
    pub uses: u64,
    /// How long all of them took together.
    pub used_nanos: u64,
    /// As `used_nanos`, with the uses in progress up to now: its growth over a time is the mean number in use.
    pub busy_nanos: u64,
    /// The mean time a connection was held of late; zero if unknown.
    pub hold: Duration,
    /// How long the connections in use have been held on average; zero if none is.
    pub age: Duration,
    /// How long the first in line has been waiting; zero if nobody is.
    pub oldest_wait: Duration,
    /// While connects fail: when the next attempt is due, if one is wanted.
    pub next_attempt: Option<Instant>,
    /// The usual time to connect; `None` if unknown.
    pub connect_time: Option<Duration>,
    /// Since when connects have been failing.
    pub failing_since: Option<Instant>,
}
