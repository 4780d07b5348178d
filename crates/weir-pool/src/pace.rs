//! How often something may be logged. What happens often is told at a slow pace, with how often it has happened: a log that repeats
//! itself hides what else is in it, and fills disks while a database is away.

use std::time::Duration;

use weir_core::Instant;

/// Between two lines about the same thing.
const EVERY: Duration = Duration::from_secs(10);

/// The pace of one kind of line: at most `burst` of them at once, then one in ten seconds.
#[derive(Debug)]
pub(crate) struct Pace {
    burst: u32,
    /// Lines that may be written now.
    left: u32,
    /// When one more may be.
    next: Instant,
    untold: u64,
}

impl Pace {
    pub(crate) const fn new(burst: u32) -> Self {
        Self { burst, left: burst, next: Instant::ZERO, untold: 0 }
    }

    /// It has happened: how often, that time included, since it was told last; `None` if it is not to be told now.
    pub(crate) fn tell(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if now >= self.next {
            // Each of the ten seconds gone by allows one more, up to the burst.
            let gone = now.since(self.next).as_nanos() / EVERY.as_nanos() + 1;
            self.left = u32::try_from(gone).unwrap_or(u32::MAX).saturating_add(self.left).min(self.burst);
            self.next = now + EVERY;
        }
        self.left = self.left.checked_sub(1)?;
        Some(std::mem::take(&mut self.untold))
    }

    /// It has ended: the next time is told at once.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn the_first_is_told_and_then_one_in_ten_seconds_with_its_count() {
        let mut pace = Pace::new(1);
        assert_eq!(pace.tell(at(0)), Some(1));
        for millis in 1..1_000 {
            assert_eq!(pace.tell(at(millis * 10)), None);
        }
        assert_eq!(pace.tell(at(10_000)), Some(1_000));
        assert_eq!(pace.tell(at(19_999)), None);
        assert_eq!(pace.tell(at(60_000)), Some(2), "no credit beyond the burst");
        assert_eq!(pace.tell(at(60_001)), None);
        pace.reset();
        assert_eq!(pace.tell(at(60_002)), Some(1));
    }

    #[test]
    fn a_burst_is_told_whole() {
        let mut pace = Pace::new(3);
        assert_eq!([0, 1, 2, 3].map(|millis| pace.tell(at(millis)).is_some()), [true, true, true, false]);
        assert_eq!(pace.tell(at(10_000)), Some(2));
        assert_eq!(pace.tell(at(10_001)), None);
        assert_eq!([0, 1, 2, 3].map(|millis| pace.tell(at(60_000 + millis)).is_some()), [true, true, true, false]);
    }
}
