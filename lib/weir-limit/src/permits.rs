//! Permits: a cap of things in flight with a bounded FIFO of waiters.
//!
//! # Why this approach
//! Below the cap, which is the normal state, a permit must cost one atomic operation and no lock. At the
//! cap a lock is cheap beside the wait that follows. So one 64-bit word holds everything that decides
//! the fast path, and a mutex guards the line of waiters:
//!
//! ```text
//! bits 63..32  the cap (u32::MAX = unlimited)
//! bit  31      somebody waits
//! bits 30..0   permits held
//! ```
//!
//! Because the three live in one word, a compare-and-swap sees a change of any of them: nobody
//! overtakes a waiter, nobody slips through while the cap shrinks, and a release that finds the bit
//! clear cannot miss a waiter, because setting the bit makes its swap fail.
//!
//! # Invariants
//! 1. A permit is granted only while fewer than the cap are held. (A cap made smaller at run time takes
//!    nothing away: what is held beyond it drains.)
//! 2. The bit is set exactly while the line is not empty. It changes only under the lock.
//! 3. While the bit is set, at least the cap is held; so each waiter is reached by a later release.
//! 4. Waiters are served in the order in which they came (FIFO). `try_acquire` fails while somebody
//!    waits, so a newcomer does not overtake.
//!
//! A permit handed to a waiter never becomes free in between: the count does not move.

use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

/// Most permits of an unlimited [`Permits`], and the highest cap that has an effect: 2³¹ − 1.
pub const PERMITS_MAX: u32 = HELD_MASK as u32;

/// A cap of things in flight, shared by all workers, with a bounded FIFO of waiters.
///
/// `W` says who waits, such as a worker and a connection token: a small value that is given back
/// when the permit is handed over, so that the caller can tell its owner.
///
/// ```
/// use weir_limit::{Enqueued, Permits};
///
/// let permits = Permits::new(Some(1), 16);
/// assert!(permits.try_acquire());
/// assert!(!permits.try_acquire(), "the only place is taken");
///
/// let Enqueued::Waiting(_ticket) = permits.enqueue("exchange 7") else { unreachable!() };
/// // The permit goes straight to the head of the line; it was never free in between.
/// assert_eq!(permits.release(), Some("exchange 7"));
/// assert_eq!(permits.in_flight(), 1);
///
/// assert_eq!(permits.release(), None);
/// assert_eq!(permits.in_flight(), 0);
/// ```
pub struct Permits<W> {
    word: CachePadded<AtomicU64>,
    line: Mutex<Line<W>>,
}

/// What became of [`Permits::enqueue`].
#[derive(PartialEq, Eq, Debug)]
#[must_use]
pub enum Enqueued<W> {
    /// A place had become free meanwhile: the caller holds a permit. The waiter is given back.
    Acquired(W),
    /// The waiter is in line. Keep the ticket to be able to cancel.
    Waiting(Ticket),
    /// The line is full. The waiter is given back.
    Full(W),
}

/// What became of [`Permits::cancel`].
#[derive(PartialEq, Eq, Debug)]
#[must_use]
pub enum Cancel<W> {
    /// The waiter has left the line and gets no permit.
    Removed(W),
    /// The permit has already been handed to this waiter (the message may still be on its way): the
    /// caller holds a permit and must release it, and must ignore the message.
    AlreadyGranted,
}

/// A place in the line of one [`Permits`]. Good for one [`Permits::cancel`]; just drop it when the
/// permit arrives.
#[derive(PartialEq, Eq, Debug)]
pub struct Ticket(u64);

const ONE_CAP: u64 = 1 << 32;
const WAITING: u64 = 1 << 31;
const HELD_MASK: u64 = WAITING - 1;
const UNLIMITED: u32 = u32::MAX;

struct Line<W> {
    /// In order of arrival; the numbers ascend.
    waiters: VecDeque<(u64, W)>,
    next_number: u64,
    bound: usize,
}

impl<W> Permits<W> {
    /// `max` places (`None` = unlimited) and at most `queue_bound` waiters. With `Some(0)` nobody gets
    /// a permit until the cap is raised.
    pub fn new(max: Option<u32>, queue_bound: u32) -> Self {
        let line = Line { waiters: VecDeque::new(), next_number: 0, bound: queue_bound as usize };
        Self { word: CachePadded::new(AtomicU64::new(u64::from(encode_max(max)) * ONE_CAP)), line: Mutex::new(line) }
    }

    /// Takes a permit if there is a place and nobody waits. One atomic read-modify-write when nobody
    /// interferes; never locks, never blocks.
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        self.word
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |word| {
                (word & WAITING == 0 && has_place(word)).then_some(word + 1)
            })
            .is_ok()
    }

    /// Gets in line after a failed [`Permits::try_acquire`], or takes the permit that became free
    /// meanwhile.
    pub fn enqueue(&self, waiter: W) -> Enqueued<W> {
        let mut line = self.lock();
        if line.waiters.is_empty() {
            // The bit is clear, so the fast paths still move the word. Either a place is free and is
            // taken, or the bit is set while none is: from then on each release comes by the line.
            let may_wait = line.bound > 0;
            let before = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                if has_place(word) { Some(word + 1) } else { may_wait.then_some(word | WAITING) }
            });
            match before {
                Ok(word) if has_place(word) => return Enqueued::Acquired(waiter),
                Ok(_) => {}
                Err(_) => return Enqueued::Full(waiter),
            }
        } else if line.waiters.len() >= line.bound {
            return Enqueued::Full(waiter);
        }
        let number = line.next_number;
        line.next_number += 1;
        line.waiters.push_back((number, waiter));
        self.check_invariants(&line);
        Enqueued::Waiting(Ticket(number))
    }

    /// Leaves the line, for example because the wait took too long. Costs a binary search and moves at
    /// most half of the line.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is good for one cancel")]
    pub fn cancel(&self, ticket: Ticket) -> Cancel<W> {
        let mut line = self.lock();
        let Ok(at) = line.waiters.binary_search_by_key(&ticket.0, |&(number, _)| number) else {
            return Cancel::AlreadyGranted;
        };
        let Some((_, waiter)) = line.waiters.remove(at) else {
            return Cancel::AlreadyGranted;
        };
        self.clear_bit_if_empty(&line);
        self.check_invariants(&line);
        Cancel::Removed(waiter)
    }

    /// Gives a permit back. When a waiter is returned, the permit has passed to it: tell it. One
    /// atomic read-modify-write when nobody waits and nobody interferes.
    #[must_use = "the waiter returned holds the permit now and must be told"]
    pub fn release(&self) -> Option<W> {
        let fast = self
            .word
            .fetch_update(Ordering::Release, Ordering::Relaxed, |word| (word & WAITING == 0).then(|| one_less(word)));
        if fast.is_ok() {
            return None;
        }
        let mut line = self.lock();
        let word = self.word.load(Ordering::Acquire);
        // With the bit set and the lock held nothing else moves the word; with the bit clear (the
        // line emptied meanwhile) the fast paths do, and the swap below copes with that.
        let passes_on = word & WAITING != 0 && held(word) <= cap(word);
        let waiter = if passes_on { line.waiters.pop_front() } else { None };
        if waiter.is_some() {
            self.clear_bit_if_empty(&line);
        } else {
            self.update(one_less);
        }
        self.check_invariants(&line);
        waiter.map(|(_, waiter)| waiter)
    }

    /// Permits held.
    pub fn in_flight(&self) -> u32 {
        held(self.word.load(Ordering::Relaxed)) as u32
    }

    /// Waiters in line. Locks only while there are some.
    pub fn waiting(&self) -> u32 {
        if self.word.load(Ordering::Relaxed) & WAITING == 0 {
            return 0;
        }
        self.lock().waiters.len() as u32
    }

    /// The cap; `None` = unlimited.
    pub fn max(&self) -> Option<u32> {
        match (self.word.load(Ordering::Relaxed) / ONE_CAP) as u32 {
            UNLIMITED => None,
            max => Some(max),
        }
    }

    /// Changes the cap. The waiters returned, in their order, now hold a permit each: tell them.
    /// Permits held beyond a smaller cap stay until they are released.
    #[must_use = "the waiters returned hold permits now and must be told"]
    pub fn set_max(&self, max: Option<u32>) -> Vec<W> {
        let mut line = self.lock();
        let max = u64::from(encode_max(max)) * ONE_CAP;
        self.update(|word| max | (word & (ONE_CAP - 1)));
        let mut granted = Vec::new();
        // While the line is not empty the bit is set: only this thread moves the word.
        while !line.waiters.is_empty() && has_place(self.word.load(Ordering::Acquire)) {
            if let Some((_, waiter)) = line.waiters.pop_front() {
                self.update(|word| word + 1);
                granted.push(waiter);
            }
        }
        if !granted.is_empty() {
            self.clear_bit_if_empty(&line);
        }
        self.check_invariants(&line);
        granted
    }

    /// Changes how many may wait. Waiters beyond a smaller bound stay in line.
    pub fn set_queue_bound(&self, queue_bound: u32) {
        self.lock().bound = queue_bound as usize;
    }

    /// Every step under the lock leaves the line whole, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Line<W>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear_bit_if_empty(&self, line: &Line<W>) {
        if line.waiters.is_empty() {
            self.word.fetch_and(!WAITING, Ordering::AcqRel);
        }
    }

    fn update(&self, change: impl Fn(u64) -> u64) {
        let changed = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| Some(change(word)));
        debug_assert!(changed.is_ok());
    }

    fn check_invariants(&self, line: &Line<W>) {
        if cfg!(debug_assertions) {
            let word = self.word.load(Ordering::Acquire);
            let waits = word & WAITING != 0;
            assert_eq!(waits, !line.waiters.is_empty(), "the bit says whether somebody waits");
            assert!(!waits || !has_place(word), "nobody waits beside a free place");
        }
    }
}

impl<W> fmt::Debug for Permits<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits")
            .field("max", &self.max())
            .field("in_flight", &self.in_flight())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

const fn encode_max(max: Option<u32>) -> u32 {
    match max {
        None => UNLIMITED,
        // u32::MAX itself is beyond PERMITS_MAX: as good as unlimited.
        Some(max) => max,
    }
}

const fn held(word: u64) -> u64 {
    word & HELD_MASK
}

/// The cap that counts: never more than the field of held permits can express.
const fn cap(word: u64) -> u64 {
    let max = word / ONE_CAP;
    if max > HELD_MASK { HELD_MASK } else { max }
}

const fn has_place(word: u64) -> bool {
    held(word) < cap(word)
}

/// A release without an acquire is a bug of the caller; it must not spill into the other fields.
fn one_less(word: u64) -> u64 {
    debug_assert!(held(word) > 0, "released more often than acquired");
    if held(word) == 0 { word } else { word - 1 }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket<W: fmt::Debug>(enqueued: Enqueued<W>) -> Ticket {
        match enqueued {
            Enqueued::Waiting(ticket) => ticket,
            other => panic!("should wait: {other:?}"),
        }
    }

    #[test]
    fn unlimited_never_refuses() {
        let permits = Permits::<()>::new(None, 0);
        for _ in 0..10_000 {
            assert!(permits.try_acquire());
        }
        assert_eq!((permits.in_flight(), permits.max()), (10_000, None));
    }

    #[test]
    fn a_full_line_refuses_and_a_line_of_none_still_takes_a_free_place() {
        let permits = Permits::new(Some(1), 0);
        assert_eq!(permits.enqueue(1), Enqueued::Acquired(1));
        assert_eq!(permits.enqueue(2), Enqueued::Full(2));
        permits.set_queue_bound(1);
        let _ticket = ticket(permits.enqueue(3));
        assert_eq!(permits.enqueue(4), Enqueued::Full(4));
        assert_eq!(permits.waiting(), 1);
    }

    #[test]
    fn a_newcomer_does_not_overtake_a_waiter() {
        let permits = Permits::new(Some(1), 8);
        assert!(permits.try_acquire());
        let _first = ticket(permits.enqueue(1));
        let _second = ticket(permits.enqueue(2));
        assert_eq!(permits.release(), Some(1));
        assert!(!permits.try_acquire());
        assert_eq!(permits.release(), Some(2));
        assert_eq!(permits.release(), None);
        assert!(permits.try_acquire());
    }

    #[test]
    fn a_smaller_cap_drains_before_it_grants() {
        let permits = Permits::new(Some(3), 8);
        for _ in 0..3 {
            assert!(permits.try_acquire());
        }
        let waiter = ticket(permits.enqueue(1));
        assert!(permits.set_max(Some(1)).is_empty());
        assert_eq!(permits.release(), None, "3 held, cap 1");
        assert_eq!(permits.release(), None, "2 held, cap 1");
        assert_eq!(permits.release(), Some(1), "1 held, cap 1: passed on");
        assert_eq!(permits.cancel(waiter), Cancel::AlreadyGranted);
        assert_eq!(permits.in_flight(), 1);
    }

    #[test]
    fn a_larger_cap_grants_in_order() {
        let permits = Permits::new(Some(0), 8);
        let _tickets = [1, 2, 3].map(|n| ticket(permits.enqueue(n)));
        assert_eq!(permits.set_max(Some(2)), [1, 2]);
        assert_eq!(permits.set_max(None), [3]);
        assert_eq!((permits.in_flight(), permits.waiting()), (3, 0));
        assert!(permits.try_acquire());
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Acquire,
        Release,
        Cancel(usize),
        SetMax(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => Just(Step::Acquire),
            5 => Just(Step::Release),
            2 => (0..8_usize).prop_map(Step::Cancel),
            1 => (0..5_u32).prop_map(Step::SetMax),
        ];
        proptest::collection::vec(step, 0..300)
    }

    proptest! {
        /// Against a naive model: a count, a cap and a list.
        #[test]
        fn agrees_with_a_naive_model(steps in steps(), max in 0..4_u32, bound in 0..4_u32) {
            let permits = Permits::new(Some(max), bound);
            let (mut cap, mut in_flight) = (max, 0_u32);
            let mut line: Vec<(u64, Ticket)> = Vec::new();
            for (name, step) in (0_u64..).zip(steps) {
                match step {
                    Step::Acquire => {
                        let free = in_flight < cap && line.is_empty();
                        prop_assert_eq!(permits.try_acquire(), free);
                        if free {
                            in_flight += 1;
                            continue;
                        }
                        match permits.enqueue(name) {
                            Enqueued::Waiting(ticket) => line.push((name, ticket)),
                            Enqueued::Full(given) => {
                                prop_assert_eq!(given, name);
                                prop_assert!(line.len() >= bound as usize);
                            }
                            Enqueued::Acquired(_) => prop_assert!(false, "no place was free"),
                        }
                    }
                    Step::Release if in_flight > 0 => {
                        let passes_on = !line.is_empty() && in_flight <= cap;
                        let expected = passes_on.then(|| line.remove(0).0);
                        in_flight -= u32::from(!passes_on);
                        prop_assert_eq!(permits.release(), expected);
                    }
                    Step::Cancel(at) if at < line.len() => {
                        let (waiter, ticket) = line.remove(at);
                        prop_assert_eq!(permits.cancel(ticket), Cancel::Removed(waiter));
                    }
                    Step::SetMax(max) => {
                        cap = max;
                        let granted = (cap.saturating_sub(in_flight) as usize).min(line.len());
                        in_flight += granted as u32;
                        let expected: Vec<u64> = line.drain(..granted).map(|(waiter, _)| waiter).collect();
                        prop_assert_eq!(permits.set_max(Some(max)), expected);
                    }
                    Step::Release | Step::Cancel(_) => {}
                }
                prop_assert_eq!(permits.in_flight(), in_flight);
                prop_assert_eq!(permits.waiting() as usize, line.len());
            }
        }
    }
}
