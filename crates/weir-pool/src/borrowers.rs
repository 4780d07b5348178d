//! Who holds a connection, and since when: known where leaks are looked for (`leak_after`), and only there.
//!
//! An acquire notes where it was called, in which span, and on request how it got there. That is kept beside the pool's machine, by
//! slot, and goes when the connection comes back. A pool that does not look for leaks keeps nothing and pays nothing: the
//! connection carries a mark whether something is to be forgotten when it comes back.

use std::backtrace::Backtrace;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use weir_core::Instant;
use weir_pool_core::SlotId;

use crate::pace::Pace;

/// Leaks told at once, before only one in ten seconds is.
const BURST: u32 = 10;

/// Who holds a connection. `Display` is one line of text, without the backtrace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Borrower {
    /// The place in the pool: a small number that connections use one after the other.
    pub slot: u32,
    /// For how long it has been held.
    pub held: Duration,
    /// Where the pool was asked for it.
    pub acquired_at: &'static Location<'static>,
    /// The name of the span in which that was, if there was one and somebody subscribes to it.
    pub span: Option<&'static str>,
    /// The id of that span, as the subscriber counts.
    pub span_id: Option<u64>,
    /// How the caller got there, with [`Builder::leak_backtrace`](crate::Builder::leak_backtrace).
    pub backtrace: Option<Arc<Backtrace>>,
    /// Whether it has been reported as a possible leak.
    pub leaked: bool,
}

impl fmt::Display for Borrower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {} held for {:.3} s, acquired at {}", self.slot, self.held.as_secs_f64(), self.acquired_at)?;
        if let Some(span) = self.span {
            write!(f, " in span {span}")?;
        }
        if self.leaked {
            write!(f, ", reported as leaked")?;
        }
        Ok(())
    }
}

/// What is noted of a caller before the lock is taken: reading a span and a stack is code of others.
pub(crate) struct Caller {
    acquired_at: &'static Location<'static>,
    span: Option<(&'static str, Option<u64>)>,
    backtrace: Option<Arc<Backtrace>>,
}

impl Caller {
    pub(crate) fn note(acquired_at: &'static Location<'static>, with_backtrace: bool) -> Self {
        let span = tracing::Span::current();
        // Its name and number only: holding the span would keep it open for as long as the leak.
        let span = span.metadata().map(|metadata| (metadata.name(), span.id().map(|id| id.into_u64())));
        // Its frames are named when somebody reads it.
        let backtrace = with_backtrace.then(|| Arc::new(Backtrace::force_capture()));
        Self { acquired_at, span, backtrace }
    }
}

struct Noted {
    caller: Caller,
    since: Instant,
    leaked: bool,
    /// A warning has been logged, so its end is too.
    told: bool,
}

/// Those who hold connections, by slot.
pub(crate) struct Borrowers {
    by_slot: Vec<Option<Noted>>,
    pace: Pace,
}

impl Borrowers {
    pub(crate) const fn new() -> Self {
        Self { by_slot: Vec::new(), pace: Pace::new(BURST) }
    }

    pub(crate) fn lent(&mut self, slot: SlotId, caller: Caller, since: Instant) {
        let index = slot.index() as usize;
        if index >= self.by_slot.len() {
            self.by_slot.resize_with(index + 1, || None);
        }
        if let Some(place) = self.by_slot.get_mut(index) {
            *place = Some(Noted { caller, since, leaked: false, told: false });
        }
    }

    /// It has come back: who had it, if that was logged as a leak.
    pub(crate) fn back(&mut self, slot: SlotId, now: Instant) -> Option<Borrower> {
        let noted = self.by_slot.get_mut(slot.index() as usize)?.take()?;
        noted.told.then(|| describe(slot.index(), &noted, now))
    }

    /// It may have leaked: who has it, if that is known, and how many may have leaked since that was told last (`None`: do not tell).
    pub(crate) fn leaked(&mut self, slot: SlotId, now: Instant) -> (Option<Borrower>, Option<u64>) {
        let told = self.pace.tell(now);
        let noted = self.by_slot.get_mut(slot.index() as usize).and_then(Option::as_mut);
        let borrower = noted.map(|noted| {
            (noted.leaked, noted.told) = (true, told.is_some());
            describe(slot.index(), noted, now)
        });
        (borrower, told)
    }

    pub(crate) fn all(&self, now: Instant) -> Vec<Borrower> {
        let noted = self.by_slot.iter().enumerate();
        noted.filter_map(|(slot, noted)| Some(describe(slot as u32, noted.as_ref()?, now))).collect()
    }

    /// How many may have leaked, and for how long the first of all has been held.
    pub(crate) fn summary(&self, now: Instant) -> (u32, Duration) {
        let noted = || self.by_slot.iter().flatten();
        let leaked = noted().filter(|noted| noted.leaked).count() as u32;
        (leaked, noted().map(|noted| now.since(noted.since)).max().unwrap_or_default())
    }
}

fn describe(slot: u32, noted: &Noted, now: Instant) -> Borrower {
    Borrower {
        slot,
        held: now.since(noted.since),
        acquired_at: noted.caller.acquired_at,
        span: noted.caller.span.map(|(name, _)| name),
        span_id: noted.caller.span.and_then(|(_, id)| id),
        backtrace: noted.caller.backtrace.clone(),
        leaked: noted.leaked,
    }
}
