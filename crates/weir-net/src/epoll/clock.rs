//! One clock for the whole process, so that moments of different workers can be compared.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_core::{Instant, WallTime};

/// How long an offset between monotonic and wall-clock time is trusted: the wall clock may be stepped.
const WALL_TRUST: Duration = Duration::from_secs(1);

static EPOCH: OnceLock<std::time::Instant> = OnceLock::new();

/// The monotonic clock of the process. It starts (nearly at zero) when it is first read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Reads the clock.
    pub fn now(self) -> Instant {
        let elapsed = EPOCH.get_or_init(std::time::Instant::now).elapsed();
        // One, so that `Instant::ZERO` stays free to mean "before everything".
        Instant::from_nanos(1) + elapsed
    }

    /// Reads the wall clock. A clock set before 1970 reads as 1970.
    pub fn wall(self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Wall-clock time derived from the monotonic one; compared with the real wall clock once a second.
#[derive(Debug, Default)]
pub(super) struct Wall {
    at: Instant,
    wall: WallTime,
}

impl Wall {
    /// The wall-clock time that matches `now`.
    pub(super) fn matching(&self, now: Instant) -> WallTime {
        self.wall + now.since(self.at)
    }

    /// To be called once per wake-up.
    pub(super) fn refresh(&mut self, clock: Clock, now: Instant) {
        if self.at == Instant::ZERO || now.since(self.at) >= WALL_TRUST {
            self.wall = clock.wall();
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_follows_the_monotonic_clock_between_comparisons() {
        let clock = Clock;
        let mut wall = Wall::default();
        let start = clock.now();
        wall.refresh(clock, start);
        let base = wall.matching(start);
        assert!(base.as_secs() > 1_600_000_000);
        assert_eq!(wall.matching(start + Duration::from_millis(5)), base + Duration::from_millis(5));
        let real = clock.wall().as_nanos();
        assert!(real.abs_diff(base.as_nanos()) < 5_000_000_000);
    }

    #[test]
    fn all_threads_read_the_same_clock() {
        let before = Clock.now();
        let other = std::thread::spawn(|| Clock.now()).join().unwrap();
        assert!(before <= other && other <= Clock.now());
        assert!(before > Instant::ZERO);
    }
}
