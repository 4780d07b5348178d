//! Deadlines of the connections: a hashed timer wheel of two levels (Varghese and Lauck 1987, schemes 6
//! and 7), with the links kept beside the slab.
//!
//! - Each slot of the slab is in at most one bucket, so there are no stale entries and no allocation
//!   per deadline. Arming, moving and disarming are a few stores.
//! - Level 0 has [`BUCKETS`] buckets of 2^20 ns (1.05 ms), level 1 as many of 2^30 ns (1.07 s, 18 min in
//!   all). A deadline further away sits in the last bucket and is armed again from there.
//! - An entry comes due at the first tick that starts at or after its deadline: never early.
//! - The owner re-arms lazily: it compares the entry with the real deadline when it comes due, so that
//!   moving a deadline later costs nothing here.

use weir_core::Instant;

/// Buckets per level.
const BUCKETS: usize = 1024;
const LEVELS: usize = 2;
const SHIFT: [u32; LEVELS] = [20, 30];
const WORDS: usize = BUCKETS / 64;
const NIL: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
    /// The tick of the entry's level at which it comes due.
    tick: u32,
    /// `level * BUCKETS + tick % BUCKETS`, or [`NIL`].
    bucket: u32,
}

const UNLINKED: Link = Link { prev: NIL, next: NIL, tick: 0, bucket: NIL };

struct Level {
    heads: Box<[u32; BUCKETS]>,
    occupied: [u64; WORDS],
    /// The first tick that has not been processed.
    cursor: u64,
    len: usize,
}

/// The wheel. Entries are slot numbers.
pub(super) struct Wheel {
    links: Vec<Link>,
    levels: [Level; LEVELS],
}

impl Wheel {
    /// An empty wheel whose past ends at `now`.
    pub(super) fn new(now: Instant) -> Self {
        let level = |shift: u32| Level {
            heads: Box::new([NIL; BUCKETS]),
            occupied: [0; WORDS],
            cursor: now.as_nanos() >> shift,
            len: 0,
        };
        Self { links: Vec::new(), levels: SHIFT.map(level) }
    }

    /// Whether `index` has an entry that comes due no later than a deadline at `at` needs.
    pub(super) fn covers(&self, index: u32, at: Instant) -> bool {
        let Some(link) = self.links.get(index as usize).filter(|link| link.bucket != NIL) else {
            return false;
        };
        let level = link.bucket as usize / BUCKETS;
        let cursor = self.levels[level].cursor;
        // The low half of the tick is kept; it lies within one turn after the cursor.
        let ahead = u64::from(link.tick.wrapping_sub(cursor as u32));
        ((cursor + ahead) << SHIFT[level]) <= at.as_nanos().saturating_add(1 << SHIFT[0])
    }

    /// Puts `index` in the bucket of `at` (or of an earlier moment, if `at` is far away).
    pub(super) fn arm(&mut self, index: u32, at: Instant) {
        self.disarm(index);
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, UNLINKED);
        }
        let fine = at.as_nanos().div_ceil(1 << SHIFT[0]).max(self.levels[0].cursor);
        let (level, tick) = if fine - self.levels[0].cursor < BUCKETS as u64 {
            (0, fine)
        } else {
            // Level 1 comes due when its second begins; the owner then arms it on level 0. The second of
            // the deadline is at least the one at the cursor, since level 0 covers one whole second.
            let cursor = self.levels[1].cursor;
            (1, (at.as_nanos() >> SHIFT[1]).clamp(cursor, cursor + BUCKETS as u64 - 1))
        };
        self.link(index, level, tick);
    }

    /// Takes the entry of `index` out.
    pub(super) fn disarm(&mut self, index: u32) {
        let Some(&link) = self.links.get(index as usize) else {
            return;
        };
        if link.bucket == NIL {
            return;
        }
        let (level, bucket) = (link.bucket as usize / BUCKETS, link.bucket as usize % BUCKETS);
        if link.prev == NIL {
            self.levels[level].heads[bucket] = link.next;
            if link.next == NIL {
                self.levels[level].occupied[bucket / 64] &= !(1 << (bucket % 64));
            }
        } else {
            self.links[link.prev as usize].next = link.next;
        }
        if link.next != NIL {
            self.links[link.next as usize].prev = link.prev;
        }
        self.levels[level].len -= 1;
        self.links[index as usize] = UNLINKED;
    }

    /// Moves every entry that is due at `now` out of the wheel into `due`.
    pub(super) fn expire(&mut self, now: Instant, due: &mut Vec<u32>) {
        for (level, shift) in SHIFT.into_iter().enumerate() {
            let current = now.as_nanos() >> shift;
            if current < self.levels[level].cursor {
                continue;
            }
            if self.levels[level].len > 0 {
                // After a long sleep one turn visits every bucket; more would visit them again.
                let ticks = (current - self.levels[level].cursor + 1).min(BUCKETS as u64);
                for ahead in 0..ticks {
                    let bucket = ((self.levels[level].cursor + ahead) % BUCKETS as u64) as usize;
                    self.empty(level, bucket, due);
                }
            }
            self.levels[level].cursor = current + 1;
        }
    }

    /// When `expire` should be called next.
    pub(super) fn next(&self) -> Option<Instant> {
        (0..LEVELS).filter_map(|level| self.next_of(level)).min()
    }

    fn next_of(&self, level: usize) -> Option<Instant> {
        let Level { occupied, cursor, len, .. } = &self.levels[level];
        if *len == 0 {
            return None;
        }
        let start = (cursor % BUCKETS as u64) as usize;
        // The word of the cursor is looked at twice: from the cursor on, and at the end below it.
        for step in 0..=WORDS {
            let word = (start / 64 + step) % WORDS;
            let mut bits = occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == WORDS {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let bucket = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (bucket + BUCKETS - start) % BUCKETS;
                return Some(Instant::from_nanos((cursor + ahead as u64) << SHIFT[level]));
            }
        }
        None
    }

    fn link(&mut self, index: u32, level: usize, tick: u64) {
        let bucket = (tick % BUCKETS as u64) as usize;
        let head = self.levels[level].heads[bucket];
        self.links[index as usize] =
            Link { prev: NIL, next: head, tick: tick as u32, bucket: (level * BUCKETS + bucket) as u32 };
        if head != NIL {
            self.links[head as usize].prev = index;
        }
        let level = &mut self.levels[level];
        level.heads[bucket] = index;
        level.occupied[bucket / 64] |= 1 << (bucket % 64);
        level.len += 1;
    }

    fn empty(&mut self, level: usize, bucket: usize, due: &mut Vec<u32>) {
        let mut index = std::mem::replace(&mut self.levels[level].heads[bucket], NIL);
        self.levels[level].occupied[bucket / 64] &= !(1 << (bucket % 64));
        while index != NIL {
            due.push(index);
            self.levels[level].len -= 1;
            index = std::mem::replace(&mut self.links[index as usize], UNLINKED).next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;
    use weir_core::hash::Rng;

    /// Drives the wheel as its owner does: lazily, sleeping until `next`.
    #[test]
    fn against_a_sorted_model_nothing_is_early_lost_or_late() {
        for seed in 0..40 {
            let mut rng = Rng::new(seed);
            let mut now = Instant::from_nanos(rng.below(1 << 34));
            let mut wheel = Wheel::new(now);
            let mut model: BTreeMap<u32, Instant> = BTreeMap::new();
            for _ in 0..3_000 {
                match rng.below(10) {
                    0..=4 => {
                        let index = rng.below(50) as u32;
                        let scale =
                            [1_000_000, 1_000_000_000, 90_000_000_000, 3_000_000_000_000][rng.below(4) as usize];
                        let at = now + Duration::from_nanos(rng.below(scale));
                        model.insert(index, at);
                        if !wheel.covers(index, at) {
                            wheel.arm(index, at);
                        }
                    }
                    5 => {
                        let index = rng.below(50) as u32;
                        model.remove(&index);
                        if rng.below(2) == 0 {
                            wheel.disarm(index);
                        }
                    }
                    _ => {
                        let jump = [500_000, 3_000_000, 2_000_000_000, 200_000_000_000][rng.below(4) as usize];
                        let target = now + Duration::from_nanos(rng.below(jump));
                        while let Some(next) = wheel.next().filter(|&next| next <= target) {
                            now = now.max(next);
                            expire(&mut wheel, &mut model, now);
                        }
                        now = now.max(target);
                        expire(&mut wheel, &mut model, now);
                        for (&index, &at) in &model {
                            assert!(
                                now.since(at) < Duration::from_millis(3),
                                "seed {seed}: {index} late by {:?}",
                                now - at
                            );
                        }
                    }
                }
                let linked: usize = wheel.levels.iter().map(|level| level.len).sum();
                assert_eq!(linked, wheel.links.iter().filter(|link| link.bucket != NIL).count());
            }
        }
    }

    fn expire(wheel: &mut Wheel, model: &mut BTreeMap<u32, Instant>, now: Instant) {
        let mut due = Vec::new();
        wheel.expire(now, &mut due);
        for index in due {
            match model.get(&index) {
                None => {}
                Some(&at) if at <= now => {
                    model.remove(&index);
                }
                Some(&at) => wheel.arm(index, at),
            }
        }
    }

    #[test]
    fn an_idle_minute_costs_two_visits_per_connection() {
        let mut now = Instant::from_millis(10_000);
        let mut wheel = Wheel::new(now);
        let deadline = now + Duration::from_mins(1);
        for index in 0..100 {
            wheel.arm(index, deadline);
        }
        let (mut visits, mut sleeps) = (0, 0);
        while let Some(next) = wheel.next() {
            assert!(next > now || sleeps == 0);
            now = now.max(next);
            sleeps += 1;
            let mut due = Vec::new();
            wheel.expire(now, &mut due);
            visits += due.len();
            due.into_iter().filter(|_| now < deadline).for_each(|index| wheel.arm(index, deadline));
        }
        assert!(now >= deadline && now.since(deadline) < Duration::from_millis(2));
        assert_eq!((visits, sleeps), (200, 2));
    }
}
