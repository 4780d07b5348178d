//! At most one line a second from a source that may repeat itself thousands of times.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Lets one of many through per second and counts the others.
#[derive(Debug)]
pub(super) struct Limiter {
    /// Second of the last line, plus one; 0 = none yet.
    last: AtomicU64,
    held_back: AtomicU64,
}

impl Limiter {
    pub(super) const fn new() -> Self {
        Self { last: AtomicU64::new(0), held_back: AtomicU64::new(0) }
    }

    /// `Some(n)`: write a line, `n` were held back since the one before. `None`: hold back.
    pub(super) fn admit(&self) -> Option<u64> {
        static START: OnceLock<Instant> = OnceLock::new();
        self.admit_at(START.get_or_init(Instant::now).elapsed().as_secs())
    }

    fn admit_at(&self, second: u64) -> Option<u64> {
        let last = self.last.load(Ordering::Relaxed);
        let now = second + 1;
        if now > last && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second() {
        let limiter = Limiter::new();
        assert_eq!(limiter.admit_at(0), Some(0));
        assert_eq!(limiter.admit_at(0), None);
        assert_eq!(limiter.admit_at(0), None);
        assert_eq!(limiter.admit_at(1), Some(2));
        assert_eq!(limiter.admit_at(7), Some(0));
    }
}
