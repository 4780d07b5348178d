//! What a pool that is one of several tells whoever tends them: that its evidence has changed, and that uses of it fail one after
//! another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use weir_resilience::outlier::ConsecutiveFailures;

use crate::sync::Notify;

pub(crate) struct Watch {
    /// Calls whoever tends the pools.
    changed: Arc<Notify>,
    row: ConsecutiveFailures,
    /// So many in a row are reported.
    threshold: u32,
    /// What is to be reported; 0 = nothing.
    reported: AtomicU32,
}

impl Watch {
    /// `threshold` 0 = failures are not reported.
    pub(crate) fn new(changed: Arc<Notify>, threshold: u32) -> Self {
        Self { changed, row: ConsecutiveFailures::new(), threshold, reported: AtomicU32::new(0) }
    }

    /// The evidence has changed.
    pub(crate) fn call(&self) {
        self.changed.notify_one();
    }

    /// A use has ended well.
    #[inline]
    pub(crate) fn succeeded(&self) {
        self.row.record_success();
    }

    /// A use has failed, or could not begin because the other end did not answer.
    #[cold]
    pub(crate) fn failed(&self) {
        let count = self.row.record_failure();
        if ConsecutiveFailures::should_report(count, self.threshold) {
            self.reported.store(count, Ordering::Release);
            self.changed.notify_one();
        }
    }

    /// Failures in a row that have been reported since the last look.
    pub(crate) fn take_reported(&self) -> Option<u32> {
        // Mostly there is nothing.
        (self.reported.load(Ordering::Relaxed) != 0)
            .then(|| self.reported.swap(0, Ordering::Acquire))
            .filter(|count| *count > 0)
    }

    /// Nothing is held against it any more.
    pub(crate) fn forgive(&self) {
        self.row.reset();
        self.reported.store(0, Ordering::Release);
    }
}
