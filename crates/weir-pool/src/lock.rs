//! The lock of a pool: for sections of some tens of nanoseconds that several processors may want at once.
//!
//! Who finds it taken waits a little and tries again; a mutex of the operating system is the last resort. While the lock is
//! *crowded*, which means that others take it again and again without a pause, it waits much longer ([`CROWDED_WAIT`]): everything
//! under the lock has to come over from the other processor's cache, and that costs more than the section itself (measured: 13 cache
//! lines for an acquire and release, 30 to 170 ns each). Turns of some microseconds instead of one section bring several times
//! as many sections. Who waits in the pool's line is not concerned: its place was taken under the lock.
//!
//! Whether it is crowded is learnt: it is, after the lock was found taken many times in short order, until in one of the long waits
//! others took it seldom. After such a mistake it takes more of the former to try again.
//!
//! Source of the idea: T. E. Anderson, "The Performance of Spin Lock Alternatives for Shared-Memory Multiprocessors", 1990, section
//! on delay after noticing a busy lock; D. Dice et al., "Lock Cohorting", 2012, on turns.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::sync::{Mutex, MutexGuard};

/// The first wait of one who finds the lock taken; each one after it is twice as long.
const WAIT: Duration = Duration::from_nanos(100);
const WAITS: u32 = 6;
/// A wait while the lock is crowded, and how many before the mutex is asked.
const CROWDED_WAIT: Duration = Duration::from_micros(10);
const CROWDED_WAITS: u32 = 8;
/// Others take it less often in such a wait: it is not crowded. Half of what is seen where a cache line takes longest to come over.
const CROWDED_TURNS: u32 = 15;
/// It is crowded if it is found taken more often than once in so many turns …
const SELDOM: u32 = 32;
/// … and that so many times more often than it should. After a mistake twice as many, up to the greatest.
const TIMES: u32 = 16;
const TIMES_MAX: u32 = 1 << 12;

/// See the module.
pub(crate) struct Lock<T> {
    mutex: Mutex<Inner<T>>,
    /// How often it was taken. Written under the lock, read by those who wait.
    turns: AtomicU32,
    crowded: AtomicBool,
}

struct Inner<T> {
    /// The turn at which it was last found taken.
    found: u32,
    /// How often more than it should; times [`SELDOM`].
    excess: u32,
    /// So many times are enough.
    enough: u32,
    value: T,
}

/// The lock is held.
pub(crate) struct Locked<'a, T>(MutexGuard<'a, Inner<T>>);

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            mutex: Mutex::new(Inner { found: 0, excess: 0, enough: TIMES, value }),
            turns: AtomicU32::new(0),
            crowded: AtomicBool::new(false),
        }
    }

    /// Takes it. A panic under it does not poison it.
    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, T> {
        if cfg!(weir_loom) {
            // The models try every order of threads; waiting adds nothing to them.
            return self.taken(self.mutex.lock().unwrap_or_else(PoisonError::into_inner));
        }
        match self.mutex.try_lock() {
            Ok(guard) => self.taken(guard),
            Err(_) => self.wait(),
        }
    }

    #[inline]
    fn taken<'a>(&self, guard: MutexGuard<'a, Inner<T>>) -> Locked<'a, T> {
        // Nobody else writes it.
        self.turns.store(self.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        Locked(guard)
    }

    #[cold]
    fn wait(&self) -> Locked<'_, T> {
        if self.crowded.load(Ordering::Relaxed) {
            return self.wait_long();
        }
        for round in 0..WAITS {
            spin(WAIT * (1 << round));
            if let Ok(mut guard) = self.mutex.try_lock() {
                self.found_taken(&mut guard);
                return self.taken(guard);
            }
        }
        let mut guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        self.found_taken(&mut guard);
        self.taken(guard)
    }

    fn wait_long(&self) -> Locked<'_, T> {
        for _ in 0..CROWDED_WAITS {
            let before = self.turns.load(Ordering::Relaxed);
            spin(CROWDED_WAIT);
            let turns = self.turns.load(Ordering::Relaxed).wrapping_sub(before);
            if let Ok(mut guard) = self.mutex.try_lock() {
                self.judge(&mut guard, turns);
                return self.taken(guard);
            }
        }
        let mut guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        guard.found = self.turns.load(Ordering::Relaxed);
        self.taken(guard)
    }

    fn found_taken(&self, inner: &mut Inner<T>) {
        let turn = self.turns.load(Ordering::Relaxed);
        let since = turn.wrapping_sub(inner.found);
        inner.found = turn;
        inner.excess = (inner.excess + SELDOM).saturating_sub(since);
        if inner.excess >= inner.enough * SELDOM {
            inner.excess = 0;
            self.crowded.store(true, Ordering::Relaxed);
        }
    }

    /// Others took it so often in a long wait.
    fn judge(&self, inner: &mut Inner<T>, turns: u32) {
        inner.found = self.turns.load(Ordering::Relaxed);
        if turns >= CROWDED_TURNS {
            inner.enough = TIMES;
        } else if self.crowded.swap(false, Ordering::Relaxed) {
            inner.enough = (inner.enough * 2).min(TIMES_MAX);
        }
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> DerefMut for Locked<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.value
    }
}

/// Waits without touching anything that others use.
fn spin(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[cfg(all(test, not(weir_loom)))]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn whatever_way_it_is_taken_nobody_else_has_it() {
        const THREADS: u64 = 4;
        const TURNS: u64 = 20_000;
        for crowded in [false, true] {
            let lock = Lock::new(0_u64);
            lock.crowded.store(crowded, Ordering::Relaxed);
            let start = Barrier::new(THREADS as usize);
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        start.wait();
                        for _ in 0..TURNS {
                            let mut count = lock.lock();
                            let seen = *count;
                            std::hint::spin_loop();
                            *count = seen + 1;
                        }
                    });
                }
            });
            assert_eq!(*lock.lock(), THREADS * TURNS);
            assert_eq!(lock.turns.load(Ordering::Relaxed), (THREADS * TURNS + 1) as u32);
        }
    }

    /// The turn of a caller who found it taken, after `others` took it since the last such turn.
    fn found_after(lock: &Lock<()>, others: u32) {
        for _ in 0..others {
            drop(lock.lock());
        }
        let mut guard = lock.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        lock.found_taken(&mut guard);
    }

    #[test]
    fn it_is_crowded_after_it_was_found_taken_often() {
        let lock = Lock::new(());
        for _ in 0..1_000 {
            found_after(&lock, SELDOM);
        }
        assert!(!lock.crowded.load(Ordering::Relaxed), "once in so many turns is seldom");
        for _ in 0..TIMES {
            found_after(&lock, 1);
        }
        assert!(!lock.crowded.load(Ordering::Relaxed), "not yet often enough");
        found_after(&lock, 1);
        found_after(&lock, 1);
        assert!(lock.crowded.load(Ordering::Relaxed));
    }

    #[test]
    fn it_is_not_crowded_any_more_when_others_take_it_seldom_and_is_then_harder_to_convince() {
        let lock = Lock::new(());
        lock.crowded.store(true, Ordering::Relaxed);
        let judge = |turns| {
            let mut guard = lock.mutex.lock().unwrap();
            lock.judge(&mut guard, turns);
            guard.enough
        };
        assert_eq!((judge(CROWDED_TURNS), lock.crowded.load(Ordering::Relaxed)), (TIMES, true));
        assert_eq!((judge(CROWDED_TURNS - 1), lock.crowded.load(Ordering::Relaxed)), (2 * TIMES, false));
        for _ in 0..20 {
            lock.crowded.store(true, Ordering::Relaxed);
            judge(0);
        }
        assert_eq!(judge(0), TIMES_MAX);
    }

    #[test]
    fn a_holder_that_is_slow_is_waited_for_by_the_mutex() {
        for crowded in [false, true] {
            let lock = Lock::new(());
            lock.crowded.store(crowded, Ordering::Relaxed);
            let held = lock.lock();
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| drop(lock.lock()));
                spin(Duration::from_millis(20));
                assert!(!waiting.is_finished());
                drop(held);
            });
        }
    }
}
