//! The clock of a pool: nanoseconds since its start, from the processor's counter where that is reliable. Reading the
//! system's clock takes about a quarter of the whole cost of an uncontended acquire and release; the counter a third of that.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant as TokioInstant;
use weir_core::Instant;

/// A century, in which no timer fires.
const FAR: Duration = Duration::from_hours(100 * 365 * 24);

/// Now, in nanoseconds of Unix time: for those outside the process.
pub(crate) fn unix_nanos() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Clone, Debug)]
pub(crate) enum Clock {
    #[cfg(not(weir_loom))]
    Counter { clock: quanta::Clock, start: u64 },
    /// Tokio's own, which tests can pause.
    Tokio(TokioInstant),
    /// For the models, which must find the same each time.
    #[cfg(weir_loom)]
    Still,
}

impl Clock {
    /// Tokio's own, or the counter.
    pub(crate) fn new(tokio: bool) -> Self {
        if tokio { Self::tokio() } else { Self::counter() }
    }

    #[cfg(not(weir_loom))]
    fn counter() -> Self {
        let clock = quanta::Clock::new();
        let start = clock.raw();
        Self::Counter { clock, start }
    }

    #[cfg(weir_loom)]
    fn counter() -> Self {
        Self::Still
    }

    fn tokio() -> Self {
        Self::Tokio(TokioInstant::now())
    }

    /// Now.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match self {
            #[cfg(not(weir_loom))]
            Self::Counter { clock, start } => Instant::from_nanos(clock.delta_as_nanos(*start, clock.raw())),
            Self::Tokio(start) => Instant::ZERO + start.elapsed(),
            #[cfg(weir_loom)]
            Self::Still => Instant::ZERO,
        }
    }

    /// A moment on tokio's clock. The two may drift apart by parts per million: a timer that is early is set again.
    pub(crate) fn at(&self, at: Instant) -> TokioInstant {
        let now = TokioInstant::now();
        now + (at - self.now()).min(FAR)
    }
}
