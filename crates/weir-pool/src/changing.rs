//! One change of the settings at a time, with code of the user's in the middle of it: code that may call for a change itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// A lock that knows who holds it.
#[derive(Default, Debug)]
pub(crate) struct Changing {
    one: Mutex<()>,
    /// The thread that holds it. Only that thread writes its own id, so whoever finds its own holds it.
    who: Mutex<Option<ThreadId>>,
}

/// It is held until this is dropped.
pub(crate) struct Held<'a> {
    who: &'a Mutex<Option<ThreadId>>,
    _one: MutexGuard<'a, ()>,
}

impl Changing {
    /// Waits for its turn; `None` if this thread has it already, and would wait for ever.
    pub(crate) fn begin(&self) -> Option<Held<'_>> {
        let me = Some(thread::current().id());
        if *self.who.lock().unwrap_or_else(PoisonError::into_inner) == me {
            return None;
        }
        let one = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        *self.who.lock().unwrap_or_else(PoisonError::into_inner) = me;
        Some(Held { who: &self.who, _one: one })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.who.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
