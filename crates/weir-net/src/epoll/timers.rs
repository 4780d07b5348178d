//! The worker's own timers: few, keyed by small numbers, in a sorted set.

use std::collections::{BTreeMap, BTreeSet};

use weir_core::Instant;

#[derive(Default)]
pub(super) struct Timers {
    by_key: BTreeMap<u32, Instant>,
    by_time: BTreeSet<(Instant, u32)>,
}

impl Timers {
    pub(super) fn set(&mut self, key: u32, at: Option<Instant>) {
        if let Some(old) = self.by_key.remove(&key) {
            self.by_time.remove(&(old, key));
        }
        if let Some(at) = at {
            self.by_key.insert(key, at);
            self.by_time.insert((at, key));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// How many timers are due.
    pub(super) fn count_due(&self, now: Instant) -> usize {
        match self.by_time.first() {
            Some(&(at, _)) if at <= now => self.by_time.range(..=(now, u32::MAX)).count(),
            _ => 0,
        }
    }

    /// Takes one timer that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<u32> {
        let (at, key) = self.by_time.first().copied()?;
        if at > now {
            return None;
        }
        self.set(key, None);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arming_again_moves_a_timer() {
        let at = Instant::from_millis;
        let mut timers = Timers::default();
        timers.set(1, Some(at(10)));
        timers.set(2, Some(at(5)));
        timers.set(1, Some(at(3)));
        assert_eq!(timers.next(), Some(at(3)));
        assert_eq!(timers.pop(at(2)), None);
        assert_eq!((timers.pop(at(9)), timers.pop(at(9)), timers.pop(at(99))), (Some(1), Some(2), None));
        timers.set(3, Some(at(1)));
        timers.set(3, None);
        assert_eq!(timers.next(), None);
    }
}
