//! The housekeeper: one task per pool that does what the machine asks for. It opens and closes connections, ends the waiting of
//! those whose time is over, and looks whether idle connections are alive. Connects, closes and checks run in tasks of
//! their own, each bounded in time, so that one that hangs holds up nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;

use tracing::Instrument as _;
use weir_core::Instant;
use weir_pool_core::{CloseReason, Loan, SlotId, Todo};

use crate::error::Failure;
use crate::log;
use crate::manager::Manager;
use crate::shared::{Entry, Extras, Shared, Step, wake_all};
use crate::sync::{AbortHandle, Counted, sleep_until, spawn, timeout};

/// Runs until the pool is closed and empty. Whatever ends it, `end` goes with it: also if the runtime never comes to run it.
pub(crate) async fn keep<M: Manager>(shared: Counted<Shared<M>>, end: End<M>) {
    let _end = end;
    let mut todo = Todo::default();
    let mut opening: HashMap<SlotId, (AbortHandle, Instant)> = HashMap::new();
    loop {
        let next = visit(&shared, &mut todo);
        opening.retain(|_, (task, _)| !task.is_finished());
        for slot in todo.open.drain(..) {
            let task = spawn(open(Connecting { shared: Counted::clone(&shared), slot, ended: false }));
            opening.insert(slot, (task.abort_handle(), shared.clock.now()));
        }
        for slot in todo.abandon.drain(..) {
            if let Some((task, since)) = opening.remove(&slot) {
                task.abort();
                shared.connect_failed(&Failure::NoAnswer(shared.clock.now().since(since)));
            }
        }
        for (slot, entry, reason) in todo.close.drain(..) {
            spawn(close(Closing { shared: Counted::clone(&shared), slot, reason }, entry));
        }
        for loan in todo.check.drain(..) {
            let checking = Checking { shared: Counted::clone(&shared), slot: loan.slot(), ended: false };
            spawn(check(checking, loan));
        }
        for (slot, since) in todo.leaks.drain(..) {
            report_leak(&shared, slot, since);
        }
        wake_all(&shared.name, todo.wake.drain(..));
        if is_over(&shared) {
            return;
        }
        let next = next.unwrap_or(Instant::FAR).min(shared.remember());
        tokio::select! {
            biased;
            () = shared.housekeeper.notified() => {}
            () = sleep_until(shared.clock.at(next)) => {}
        }
    }
}

fn visit<M: Manager>(shared: &Shared<M>, todo: &mut Todo<Entry<M>, Waker>) -> Option<Instant> {
    let now = shared.clock.now();
    let mut state = shared.lock();
    let before = shared.evidence(&state);
    let next = state.broker.handle_timeout(now, todo);
    let changed = shared.evidence(&state) != before;
    drop(state);
    shared.tell(changed);
    next
}

fn is_over<M: Manager>(shared: &Shared<M>) -> bool {
    let state = shared.lock();
    let over = state.broker.is_shut() && state.broker.is_empty();
    drop(state);
    if over {
        shared.emptied.notify_waiters();
    }
    over
}

fn report_leak<M: Manager>(shared: &Shared<M>, slot: SlotId, since: Instant) {
    let now = shared.clock.now();
    let mut state = shared.lock();
    state.leaks += 1;
    let (borrower, told) = state.borrowers.leaked(slot, now);
    drop(state);
    if let Some(leaks) = told {
        log::leaked(&shared.name, slot.index(), now.since(since), leaks, borrower.as_ref());
    }
}

/// A connect in flight. If it does not come to its end (abandoned, panicked, the runtime ends), it has failed.
struct Connecting<M: Manager> {
    shared: Counted<Shared<M>>,
    slot: SlotId,
    ended: bool,
}

async fn open<M: Manager>(mut connecting: Connecting<M>) {
    let shared = Counted::clone(&connecting.shared);
    let slot = connecting.slot;
    let (limit, prove) = {
        let state = shared.lock();
        (state.settings.connect_timeout(), state.broker.is_barred())
    };
    let begun = shared.clock.now();
    let connect = async {
        let mut conn = shared.manager.connect().await?;
        if prove {
            // Nobody is sent there yet: one that accepts connections, but does not answer, is not to get anybody.
            shared.manager.check(&mut conn).await?;
        }
        Ok(conn)
    };
    match timeout(limit, connect.instrument(log::connecting(&shared.name, slot.index()))).await {
        Ok(Ok(conn)) => {
            connecting.ended = true;
            let (took, recovered) = shared.update(|state, now, wake| {
                let entry = Entry {
                    ledger: None,
                    conn,
                    shared: Counted::clone(&shared),
                    opened: now,
                    checked: now,
                    needs_reset: false,
                    needs_check: false,
                    preparing: false,
                    evicted: false,
                    watched: false,
                    extras: Extras::default(),
                };
                state.broker.connected(slot, entry, now, wake);
                (now.since(begun), state.connects.succeeded(now))
            });
            log::connected(&shared.name, slot.index(), took, recovered.as_ref());
            shared.connected.notify_waiters();
        }
        Ok(Err(error)) => {
            shared.connect_failed(&Failure::Error(Arc::new(error)));
        }
        Err(_) => shared.connect_failed(&Failure::NoAnswer(limit)),
    }
}

impl<M: Manager> Drop for Connecting<M> {
    fn drop(&mut self) {
        if !self.ended {
            if std::thread::panicking() {
                self.shared.connect_failed(&Failure::Panicked);
            }
            self.shared.update(|state, now, _| state.broker.connect_failed(self.slot, now));
            self.shared.connected.notify_waiters();
        }
    }
}

/// A connection being closed; its place is free when this is dropped.
struct Closing<M: Manager> {
    shared: Counted<Shared<M>>,
    slot: SlotId,
    reason: CloseReason,
}

async fn close<M: Manager>(closing: Closing<M>, entry: Entry<M>) {
    let limit = closing.shared.lock().settings.close_timeout;
    // A connection that does not let itself be closed is dropped.
    let span = log::closing(&closing.shared.name, closing.slot.index(), closing.reason);
    let _ = timeout(limit, closing.shared.manager.close(entry.conn).instrument(span)).await;
}

impl<M: Manager> Drop for Closing<M> {
    fn drop(&mut self) {
        self.shared.update(|state, _, _| state.broker.closed(self.slot, self.reason));
        log::disconnected(&self.shared.name, self.slot.index(), self.reason);
    }
}

/// A connection being looked at. If that does not come to a good end, it is dead.
struct Checking<M: Manager> {
    shared: Counted<Shared<M>>,
    slot: SlotId,
    ended: bool,
}

async fn check<M: Manager>(mut checking: Checking<M>, mut entry: Loan<Entry<M>>) {
    let shared = Counted::clone(&checking.shared);
    let limit = shared.lock().settings.validation_timeout;
    if shared.manager.is_broken(&mut entry.conn) {
        return;
    }
    let span = log::checking(&shared.name, entry.slot().index());
    match timeout(limit, shared.manager.check(&mut entry.conn).instrument(span)).await {
        Ok(Ok(())) => {
            checking.ended = true;
            shared.went_well(Step::Check as u8);
            shared.update(|state, now, wake| {
                entry.checked = now;
                state.broker.alive(entry, now, wake);
            });
        }
        Ok(Err(error)) => shared.failed(Failure::Error(Arc::new(error))),
        Err(_) => shared.failed(Failure::NoAnswer(limit)),
    }
}

impl<M: Manager> Drop for Checking<M> {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.update(|state, _, _| state.broker.dead(self.slot));
        }
    }
}

/// The end of the housekeeper, orderly or with its runtime: nobody will be served any more, and the connections go.
pub(crate) struct End<M: Manager>(pub(crate) Counted<Shared<M>>);

impl<M: Manager> Drop for End<M> {
    fn drop(&mut self) {
        self.0.shut();
        self.0.end();
    }
}
