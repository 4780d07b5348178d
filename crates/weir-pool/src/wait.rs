//! Standing in line.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tracing::Span;
use weir_core::Instant;
use weir_pool_core::{Acquired, Loan, Refusal, Ticket};

use crate::lock::Locked;
use crate::log;
use crate::manager::Manager;
use crate::shared::{Entry, Shared, State};

/// What a caller gets: one pointer, or why not.
pub(crate) type Got<M> = Result<Loan<Entry<M>>, Refusal>;

/// How long a caller waits.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// As the pool says; the housekeeper ends the waiting.
    Common,
    /// Its own time; it ends the waiting itself.
    Own(Duration),
}

/// Waits for a connection, or for the end of the waiting. Dropping it leaves the line; what is kept for it by then goes to
/// the next.
pub(crate) struct Wait<'a, M: Manager> {
    shared: &'a Shared<M>,
    place: Place,
    limit: Limit,
    /// When the caller asked first, and its deadline, if this is not its first attempt: it goes to the front of the line.
    again: Option<(Instant, Instant)>,
    /// It is its first attempt here: it stands where it would if it had waited here.
    moved: bool,
    asked: Instant,
    deadline: Instant,
    /// From when it gets in line, if somebody wants to see it.
    span: Option<Box<Span>>,
}

enum Place {
    New,
    Line(Ticket),
    Done,
}

impl<'a, M: Manager> Wait<'a, M> {
    pub(crate) fn new(shared: &'a Shared<M>, limit: Limit, again: Option<(Instant, Instant)>) -> Self {
        Self {
            shared,
            place: Place::New,
            limit,
            again,
            moved: false,
            asked: Instant::ZERO,
            deadline: Instant::FAR,
            span: None,
        }
    }

    /// For a caller that has waited elsewhere: when it asked, and its deadline.
    pub(crate) fn moved(shared: &'a Shared<M>, limit: Limit, since: (Instant, Instant)) -> Self {
        let mut wait = Self::new(shared, limit, Some(since));
        wait.moved = true;
        wait
    }

    #[inline]
    fn begin(&mut self, cx: &Context<'_>) -> Poll<Got<M>> {
        let now = self.shared.clock.now();
        // A waker is the code of an executor: it is cloned outside the lock, beforehand if it will probably be needed.
        let line = &self.shared.line;
        let mut waker = line.load(Ordering::Relaxed).then(|| cx.waker().clone());
        loop {
            let mut state = self.shared.lock_unsettled();
            (self.asked, self.deadline) = self.again.unwrap_or_else(|| {
                let limit = match self.limit {
                    Limit::Common => state.acquire_timeout,
                    Limit::Own(limit) => limit,
                };
                (now, now + limit)
            });
            let mut acquired = state.broker.acquire(now);
            if matches!(acquired, Acquired::Wait) && state.aside.is_open() {
                // Nobody may wait while a connection is in a lane.
                state.settle(&self.shared.shortcut, now);
                acquired = state.broker.acquire(now);
            }
            match acquired {
                Acquired::Ready(mut loan) => {
                    state.mark(&mut loan);
                    let calls = state.broker.calls_housekeeper();
                    drop(state);
                    if waker.is_some() {
                        line.store(false, Ordering::Relaxed);
                    }
                    if calls {
                        self.shared.call();
                    }
                    self.place = Place::Done;
                    return Poll::Ready(Ok(loan));
                }
                Acquired::Wait => {
                    if let Some(waker) = waker.take() {
                        return self.join(state, now, waker);
                    }
                    drop(state);
                    line.store(true, Ordering::Relaxed);
                    waker = Some(cx.waker().clone());
                }
                Acquired::Refused(refusal) => return self.refused(state, refusal),
            }
        }
    }

    fn join(&mut self, mut state: Locked<'_, State<M>>, now: Instant, waker: Waker) -> Poll<Got<M>> {
        if self.again.is_none()
            && let Err(refusal) = state.broker.admit(self.deadline, now)
        {
            return self.refused(state, refusal);
        }
        let deadline = matches!(self.limit, Limit::Common).then_some(self.deadline);
        let joined = if self.moved {
            state.broker.join_since(waker, self.asked, deadline, now)
        } else if self.again.is_some() {
            state.broker.rejoin(waker, deadline, now)
        } else {
            state.broker.join(waker, deadline, now)
        };
        let Ok(ticket) = joined else { return self.refused(state, Refusal::LineFull) };
        state.broker.must_end_by(ticket, self.deadline);
        self.place = Place::Line(ticket);
        let calls = state.broker.calls_housekeeper();
        drop(state);
        if calls {
            self.shared.call();
        }
        self.span = log::waiting(&self.shared.name);
        Poll::Pending
    }

    #[cold]
    fn refused(&mut self, mut state: Locked<'_, State<M>>, refusal: Refusal) -> Poll<Got<M>> {
        let calls = state.broker.calls_housekeeper();
        drop(state);
        if calls {
            self.shared.call();
        }
        self.place = Place::Done;
        Poll::Ready(Err(refusal))
    }

    fn look(&mut self, ticket: Ticket, cx: &Context<'_>) -> Poll<Got<M>> {
        // Wakers are the code of an executor: they are cloned and dropped outside the lock.
        let mut spare: Option<Waker> = None;
        loop {
            let mut state = self.shared.lock();
            match state.broker.fetch(ticket) {
                None => {
                    let known = state.broker.waiting_mut(ticket).filter(|waker| !waker.will_wake(cx.waker()));
                    match (known, &mut spare) {
                        (Some(known), Some(spare)) => std::mem::swap(known, spare),
                        // Moved to another task: once more, with its waker.
                        (Some(_), None) => {
                            drop(state);
                            spare = Some(cx.waker().clone());
                            continue;
                        }
                        (None, _) => {}
                    }
                    drop(state);
                    return Poll::Pending;
                }
                Some(Ok(mut loan)) => {
                    state.mark(&mut loan);
                    drop(state);
                    self.place = Place::Done;
                    return Poll::Ready(Ok(loan));
                }
                Some(Err(refusal)) => {
                    drop(state);
                    self.place = Place::Done;
                    return Poll::Ready(Err(refusal));
                }
            }
        }
    }

    #[cold]
    fn look_in_span(&mut self, ticket: Ticket, cx: &Context<'_>) -> Poll<Got<M>> {
        let Some(span) = self.span.take() else { return self.look(ticket, cx) };
        let got = span.in_scope(|| self.look(ticket, cx));
        match &got {
            Poll::Ready(got) => log::waited(&span, got),
            Poll::Pending => self.span = Some(span),
        }
        got
    }

    /// Whether its time is the caller's own.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.limit, Limit::Own(_))
    }

    /// When the caller asked first, and when its time is over.
    pub(crate) fn times(&self) -> (Instant, Instant) {
        (self.asked, self.deadline)
    }

    /// Leaves the line because the caller's own time is over.
    pub(crate) fn end(mut self: Pin<&mut Self>) {
        if let Place::Line(ticket) = std::mem::replace(&mut self.place, Place::Done) {
            if let Some(span) = self.span.take() {
                log::waited::<()>(&span, &Err(Refusal::TimedOut));
            }
            let late = self.shared.update(|state, now, wake| {
                let own = state.take_waker(ticket);
                wake.extend(state.broker.leave_late(ticket, now));
                own
            });
            drop(late);
        }
    }
}

impl<M: Manager> Future for Wait<'_, M> {
    type Output = Got<M>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.place {
            Place::New => self.begin(cx),
            Place::Line(ticket) if self.span.is_none() => self.look(ticket, cx),
            Place::Line(ticket) => self.look_in_span(ticket, cx),
            Place::Done => Poll::Pending,
        }
    }
}

impl<M: Manager> Drop for Wait<'_, M> {
    fn drop(&mut self) {
        let Place::Line(ticket) = self.place else { return };
        let gone = self.shared.update(|state, now, wake| {
            let own = state.take_waker(ticket);
            wake.extend(state.broker.leave(ticket, now));
            own
        });
        drop(gone);
    }
}
