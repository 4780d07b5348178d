//! What a pool logs, all of it in one place.
//!
//! | level | event |
//! |---|---|
//! | WARN | connects fail: the first, then one line in ten seconds with their number; a connection may have leaked (ten at once, then one in ten seconds); a caller's waker has panicked |
//! | INFO | connects succeed again; a connection reported as leaked has come back; the pool is closed, suspended, resumed, evicted |
//! | DEBUG | the pool begins; a connection is opened or closed, with its reason; a check fails; a caller gets nothing |
//!
//! Nothing is an error: the pool goes on by itself from all of it. Each line has the field `pool`. Callers who have to wait do that
//! in a span `weir_pool.acquire` (DEBUG), those whose connection must be made ready first in a span `weir_pool.prepare`; who gets a
//! connection at once has no span, and pays for none. The manager's code runs in `weir_pool.connect`, `weir_pool.check` and
//! `weir_pool.close`, so that what drivers log can be told apart.
//!
//! Subscribers are code of others: nothing here runs under the lock of a pool.

use std::fmt::Display;
use std::time::Duration;

use tracing::field::Empty;
use tracing::{Span, debug, debug_span, info, warn};
use weir_core::Instant;
use weir_pool_core::{CloseReason, Refusal};

use crate::borrowers::Borrower;
use crate::error::AcquireError;
use crate::pace::Pace;

/// What is remembered of connects that fail.
pub(crate) struct Connects {
    pace: Pace,
    /// In a row.
    failures: u64,
    since: Instant,
}

/// Connects failed for this long, and then one succeeded.
pub(crate) struct Recovered {
    failures: u64,
    after: Duration,
}

impl Connects {
    pub(crate) const fn new() -> Self {
        Self { pace: Pace::new(1), failures: 0, since: Instant::ZERO }
    }

    /// One has failed: how many have since that was told last, if it is to be told now.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<u64> {
        if self.failures == 0 {
            self.since = now;
        }
        self.failures += 1;
        self.pace.tell(now)
    }

    /// One has succeeded.
    pub(crate) fn succeeded(&mut self, now: Instant) -> Option<Recovered> {
        let failures = std::mem::take(&mut self.failures);
        (failures > 0).then(|| {
            self.pace.reset();
            Recovered { failures, after: now.since(self.since) }
        })
    }
}

pub(crate) fn began(pool: &str, max_size: u32) {
    debug!(pool, max_size, "pool begins");
}

/// `what`: closed, suspended, resumed, evicted.
pub(crate) fn told(pool: &str, what: &str) {
    info!(pool, "pool is {what}");
}

/// An endpoint's pool, and for how long it is left out because of its failures; `None` if that is over.
pub(crate) fn judged(pool: &str, time: Option<Duration>) {
    if let Some(time) = time {
        warn!(pool, seconds = time.as_secs_f64(), "left out: uses failed one after another");
    } else {
        info!(pool, "no longer left out because of failures");
    }
}

pub(crate) fn connect_failed(pool: &str, failures: Option<u64>, error: &dyn Display) {
    if let Some(failures) = failures {
        warn!(pool, failures, error = display(error), "connect failed");
    } else {
        debug!(pool, error = display(error), "connect failed");
    }
}

pub(crate) fn connected(pool: &str, slot: u32, took: Duration, recovered: Option<&Recovered>) {
    if let Some(Recovered { failures, after }) = recovered {
        info!(pool, failures, after_secs = after.as_secs_f64(), "connects succeed again");
    }
    debug!(pool, slot, took_secs = took.as_secs_f64(), "connection opened");
}

pub(crate) fn disconnected(pool: &str, slot: u32, reason: CloseReason) {
    debug!(pool, slot, reason = reason.as_str(), "connection closed");
}

/// Found when it was looked at, or made ready for a user.
pub(crate) fn found_dead(pool: &str, error: &dyn Display) {
    debug!(pool, error = display(error), "connection is dead");
}

/// The others of its batch have been woken all the same.
pub(crate) fn waker_panicked(pool: &str) {
    warn!(pool, "the waker of a caller has panicked");
}

pub(crate) fn missed<E>(pool: &str, error: &AcquireError<E>) {
    let waited_secs = error.waited().as_secs_f64();
    debug!(pool, waited_secs, why = ?error.refused(), state = display(error.snapshot()), "no connection for a caller");
}

/// `leaks`: how many since that was told last.
pub(crate) fn leaked(pool: &str, slot: u32, held: Duration, leaks: u64, borrower: Option<&Borrower>) {
    let held_secs = held.as_secs_f64();
    let Some(borrower) = borrower else {
        // It is kept for a caller in line whose task is not run.
        warn!(pool, slot, held_secs, leaks, "connection may have leaked: kept for a caller that does not fetch it");
        return;
    };
    warn!(
        pool,
        slot,
        held_secs,
        leaks,
        acquired_at = display(borrower.acquired_at),
        span = borrower.span,
        span_id = borrower.span_id,
        backtrace = borrower.backtrace.as_ref().map(display),
        "connection may have leaked"
    );
}

pub(crate) fn came_back(pool: &str, borrower: &Borrower) {
    info!(
        pool,
        slot = borrower.slot,
        held_secs = borrower.held.as_secs_f64(),
        acquired_at = display(borrower.acquired_at),
        span = borrower.span,
        span_id = borrower.span_id,
        "connection reported as leaked has come back"
    );
}

/// The span of a caller that has to wait; `None`, after a relaxed load, if nobody subscribes to that level.
pub(crate) fn waiting(pool: &str) -> Option<Box<Span>> {
    let span = debug_span!("weir_pool.acquire", pool, outcome = Empty);
    (!span.is_disabled()).then(|| Box::new(span))
}

/// How the waiting has ended.
pub(crate) fn waited<C>(span: &Span, got: &Result<C, Refusal>) {
    let outcome = match got {
        Ok(_) => "served",
        Err(Refusal::TimedOut) => "timed_out",
        Err(Refusal::Down) => "down",
        Err(Refusal::LineFull) => "line_full",
        Err(Refusal::Overload) => "overload",
        Err(Refusal::Closed) => "closed",
        Err(Refusal::TurnedAway) => "turned_away",
    };
    span.record("outcome", outcome);
}

/// The span of opening a connection.
pub(crate) fn connecting(pool: &str, slot: u32) -> Span {
    debug_span!("weir_pool.connect", pool, slot)
}

/// The span of looking whether an idle connection is alive.
pub(crate) fn checking(pool: &str, slot: u32) -> Span {
    debug_span!("weir_pool.check", pool, slot)
}

/// The span of closing a connection.
pub(crate) fn closing(pool: &str, slot: u32, reason: CloseReason) -> Span {
    debug_span!("weir_pool.close", pool, slot, reason = reason.as_str())
}

/// The span of making a connection ready for a caller.
pub(crate) fn preparing(pool: &str) -> Span {
    debug_span!("weir_pool.prepare", pool)
}
