use super::*;

const HOLD: Duration = Duration::from_millis(20);

/// A pool that is looked at every 50 ms.
struct Looked {
    demand: Demand,
    now: u64,
    busy_nanos: u64,
}

impl Looked {
    fn new() -> Self {
        let mut demand = Demand::new();
        demand.record(0, 0, HOLD, Instant::ZERO);
        Self { demand, now: 0, busy_nanos: 0 }
    }

    fn look(&mut self, millis: u64, busy: u32, waiting: u32) {
        self.look_with(millis, busy, HOLD, |_| waiting);
    }

    /// `waiting`: by how many milliseconds have passed.
    fn look_with(&mut self, millis: u64, busy: u32, hold: Duration, waiting: impl Fn(u64) -> u32) {
        for passed in (50..=millis).step_by(50) {
            self.now += 50;
            self.busy_nanos += u64::from(busy) * 50_000_000;
            self.demand.record(self.busy_nanos, waiting(passed), hold, Instant::from_millis(self.now));
        }
    }

    /// Rounded.
    fn demand(&self) -> u32 {
        (self.demand.get().as_milli() + 500) / 1_000
    }
}

#[test]
fn nothing_is_known_before_a_slice_is_full() {
    let mut pool = Looked::new();
    assert_eq!(pool.demand.get(), Amount::default());
    pool.look(50, 7, 0);
    assert_eq!(pool.demand(), 0);
    pool.look(50, 7, 0);
    assert_eq!(pool.demand(), 7);
}

#[test]
fn a_load_that_changes_much_is_known_after_a_tenth_of_a_second_whatever_was_before() {
    for (before, after) in [(8, 24), (24, 8), (2, 12), (30, 10)] {
        let mut pool = Looked::new();
        pool.look(60_000, before, 0);
        pool.look(200, after, 0);
        assert_eq!(pool.demand(), after, "{before} to {after}");
        pool.look(60_000, after, 0);
        assert_eq!(pool.demand(), after);
    }
}

#[test]
fn a_load_that_changes_a_little_is_known_after_half_a_minute() {
    let mut pool = Looked::new();
    pool.look(60_000, 20, 0);
    pool.look(200, 22, 0);
    assert_eq!(pool.demand(), 20);
    pool.look(30_000, 22, 0);
    assert_eq!(pool.demand(), 22);
}

#[test]
fn chance_does_not_move_it() {
    let mut pool = Looked::new();
    let mut said = std::collections::BTreeSet::new();
    for turn in 0..300 {
        pool.look(100, if turn % 2 == 0 { 16 } else { 24 }, 0);
        if turn > 60 {
            said.insert(pool.demand.get());
        }
    }
    assert!(said.len() == 1 && (19..=21).contains(&pool.demand()), "{said:?}");
}

/// A full pool sees its load at once, though no more connections are busy than it has.
#[test]
fn a_line_that_grows_is_load() {
    let mut pool = Looked::new();
    pool.look(60_000, 8, 0);
    // 24 connections' worth of callers come, 10 are served: 14 / 20 ms join the line.
    pool.look_with(100, 10, HOLD, |passed| (passed * 14 / 20) as u32);
    assert_eq!(pool.demand.said / 1_000, 24);
    // And 35 that have stood for a slice are cleared within DRAIN by nearly three connections more.
    assert_eq!(pool.demand(), 24);
    pool.look_with(100, 10, HOLD, |passed| 70 + (passed * 14 / 20) as u32);
    assert!((27..=31).contains(&pool.demand()), "{}", pool.demand());
}

#[test]
fn who_waits_counts_as_one_connection_at_most() {
    for (hold, expected) in [(Duration::ZERO, 15), (Duration::from_secs(3), 15), (DRAIN / 5, 11)] {
        let mut pool = Looked::new();
        pool.look_with(2_000, 10, hold, |_| 5);
        assert_eq!(pool.demand(), expected, "{hold:?}");
    }
}

#[test]
fn a_long_time_without_a_look_is_one_slice() {
    let mut pool = Looked::new();
    pool.look(5_000, 4, 0);
    pool.now += 60_000;
    pool.busy_nanos += 60 * 4_000_000_000;
    pool.look(400, 12, 0);
    assert_eq!(pool.demand(), 12);
}

/// Thirty callers that come back as soon as they are served, with 29 connections: no load grows, and one always waits.
#[test]
fn a_line_that_stands_calls_for_one_connection_more() {
    let mut pool = Looked::new();
    pool.look(1_900, 29, 1);
    assert_eq!(pool.demand(), 29);
    pool.look(60_000, 29, 1);
    assert_eq!(pool.demand(), 30);
    pool.look(100, 29, 0);
    assert_eq!(pool.demand(), 29);
}

/// The load that holds still is a little below what is in use.
#[test]
fn a_line_that_stands_calls_for_one_more_than_are_in_use() {
    let mut pool = Looked::new();
    for _ in 0..300 {
        pool.look(100, 28, 0);
        pool.look(100, 29, 0);
    }
    assert!((28_400..28_600).contains(&pool.demand.get().as_milli()), "{:?}", pool.demand.get());
    pool.look(2_100, 29, 1);
    assert!(pool.demand.get().as_milli() >= 30_000, "{:?}", pool.demand.get());
}
