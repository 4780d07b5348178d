use proptest::prelude::*;

use super::*;
use crate::LocalQuota;

const SEC: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn params() -> Params {
    Params { max_idle: 4, idle_timeout: 90 * SEC, peak_window: 8 * SEC, ..Params::default() }
}

/// Opens `n` connections at `now`; all are busy.
fn open(pool: &mut Pool<u32>, quota: &LocalQuota, n: u32, now: Instant) -> Vec<SlotId> {
    (0..n)
        .map(|conn| {
            let Acquire::Connect(slot) = pool.acquire(now, quota) else { panic!("should connect") };
            pool.connected(slot, conn, now, u64::from(conn));
            slot
        })
        .collect()
}

/// Sweeps and removes what it hands out.
fn sweep(pool: &mut Pool<u32>, quota: &LocalQuota, share: usize, now: Instant) -> Vec<(u32, CloseReason)> {
    let mut out = Vec::new();
    pool.sweep(now, share, &mut |slot, conn, reason| out.push((slot, conn, reason)));
    for &(slot, _, reason) in &out {
        assert!(pool.remove(slot, quota, reason));
    }
    out.into_iter().map(|(_, conn, reason)| (conn, reason)).collect()
}

#[test]
fn the_last_one_back_is_the_first_one_out() {
    let quota = LocalQuota::new(8);
    let mut pool = Pool::new(params());
    let slots = open(&mut pool, &quota, 3, at(0));
    for slot in &slots {
        assert_eq!(pool.release(*slot, at(1)), Released::Kept);
    }
    assert_eq!(pool.acquire(at(2), &quota), Acquire::Reuse(slots[2], 2));
    assert_eq!(pool.acquire(at(2), &quota), Acquire::Reuse(slots[1], 1));
}

#[test]
fn one_that_the_peer_closes_leaves_from_the_middle() {
    let quota = LocalQuota::new(8);
    let mut pool = Pool::new(params());
    let slots = open(&mut pool, &quota, 3, at(0));
    for slot in &slots {
        assert_eq!(pool.release(*slot, at(1)), Released::Kept);
    }
    assert!(pool.is_idle(slots[1]));
    assert!(pool.remove(slots[1], &quota, CloseReason::PeerClosed));
    assert!(!pool.remove(slots[1], &quota, CloseReason::PeerClosed), "the id is stale now");
    assert_eq!(pool.acquire(at(2), &quota), Acquire::Reuse(slots[2], 2));
    assert_eq!(pool.acquire(at(2), &quota), Acquire::Reuse(slots[0], 0));
    assert_eq!((quota.granted(), pool.closed(CloseReason::PeerClosed)), (2, 1));
}

#[test]
fn a_stale_id_is_ignored_even_when_its_slot_is_in_use_again() {
    let quota = LocalQuota::new(1);
    let mut pool = Pool::new(params());
    let old = open(&mut pool, &quota, 1, at(0))[0];
    assert!(pool.remove(old, &quota, CloseReason::Failed));
    let new = open(&mut pool, &quota, 1, at(1))[0];
    assert_eq!(new.index(), old.index());
    assert_eq!(pool.release(old, at(2)), Released::Close(CloseReason::Failed));
    assert_eq!(pool.conn(old), None);
    assert_eq!(pool.stats().busy, 1);
}

#[test]
fn idle_time_out_takes_the_oldest_and_names_its_time() {
    let quota = LocalQuota::new(8);
    let mut pool = Pool::new(params());
    let slots = open(&mut pool, &quota, 2, at(0));
    assert_eq!(pool.release(slots[1], at(1_000)), Released::Kept);
    assert_eq!(pool.release(slots[0], at(2_000)), Released::Kept);
    assert_eq!(pool.poll_timeout(), Some(at(91_000)));
    assert_eq!(sweep(&mut pool, &quota, 4, at(90_999)), []);
    assert_eq!(sweep(&mut pool, &quota, 4, at(91_000)), [(1, CloseReason::IdleTimeout)]);
    assert_eq!(pool.poll_timeout(), Some(at(92_000)));
}

#[test]
fn one_that_is_too_old_is_not_handed_out_and_its_sweep_is_due_at_once() {
    let quota = LocalQuota::new(1);
    let params = Params { max_lifetime: Some(10 * SEC), lifetime_jitter: 0.0, ..params() };
    let mut pool = Pool::new(params);
    let slot = open(&mut pool, &quota, 1, at(0))[0];
    assert_eq!(pool.release(slot, at(1)), Released::Kept);
    assert_eq!(pool.poll_timeout(), Some(at(10_000)));
    assert_eq!(pool.acquire(at(10_000), &quota), Acquire::Full, "it still holds the only place");
    assert_eq!(pool.poll_timeout(), Some(Instant::ZERO));
    assert_eq!(sweep(&mut pool, &quota, 4, at(10_000)), [(0, CloseReason::Lifetime)]);
    assert!(matches!(pool.acquire(at(10_000), &quota), Acquire::Connect(_)));
}

#[test]
fn lifetime_and_uses_end_a_connection_at_its_return() {
    let quota = LocalQuota::new(8);
    let settings = Params { max_lifetime: Some(10 * SEC), lifetime_jitter: 0.0, max_uses: Some(2), ..params() };
    let mut pool = Pool::new(settings);
    let slots = open(&mut pool, &quota, 2, at(0));
    assert_eq!(pool.release(slots[0], at(10_000)), Released::Close(CloseReason::Lifetime));
    assert_eq!(quota.granted(), 2, "its place is held until it is removed");
    assert!(pool.remove(slots[0], &quota, CloseReason::Lifetime));
    assert_eq!(pool.release(slots[1], at(1)), Released::Kept);
    assert_eq!(pool.acquire(at(2), &quota), Acquire::Reuse(slots[1], 1));
    assert_eq!(pool.release(slots[1], at(3)), Released::Close(CloseReason::MaxUses));
}

#[test]
fn lifetimes_are_spread_below_the_maximum() {
    let settings = Params { max_lifetime: Some(100 * SEC), lifetime_jitter: 0.2, ..params() };
    let drawn: Vec<Duration> = (0..1_000).map(|seed| draw_expiry(&settings, at(0), seed) - Instant::ZERO).collect();
    assert!(drawn.iter().all(|d| (80 * SEC..=100 * SEC).contains(d)));
    assert!(drawn.iter().filter(|d| **d < 90 * SEC).count().abs_diff(500) < 60, "evenly");
}

#[test]
fn nothing_is_trimmed_at_return_nor_within_the_peak_window() {
    let quota = LocalQuota::new(100);
    let mut pool = Pool::new(params());
    let slots = open(&mut pool, &quota, 40, at(0));
    for slot in slots {
        assert_eq!(pool.release(slot, at(100)), Released::Kept);
    }
    for second in 1..8 {
        assert_eq!(sweep(&mut pool, &quota, 4, at(second * 1_000)), [], "the peak of 40 needs them");
    }
    // Then the surplus of 36 goes by quarters, oldest first, once a second.
    let mut left = Vec::new();
    for tick in 0..80 {
        let closed = sweep(&mut pool, &quota, 4, at(9_200 + tick * 250));
        assert!(closed.iter().all(|(_, reason)| *reason == CloseReason::Trimmed));
        if tick == 0 {
            let oldest: Vec<u32> = closed.iter().map(|(conn, _)| *conn).collect();
            assert_eq!(oldest, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        } else if tick % 4 != 0 {
            assert_eq!(closed, [], "once a second");
        }
        left.push(pool.stats().idle);
    }
    assert_eq!(left.iter().step_by(4).take(4).collect::<Vec<_>>(), [&31, &24, &19, &15]);
    assert_eq!(left.last(), Some(&4), "the share of max_idle stays");
}

#[test]
fn warm_up_reaches_min_idle_and_pauses_after_a_failure() {
    let quota = LocalQuota::new(8);
    let mut pool: Pool<u32> = Pool::new(Params { min_idle: 2, ..params() });
    assert_eq!(pool.want_warm(at(0)), 2);
    let (first, second) = (pool.warm(&quota).unwrap(), pool.warm(&quota).unwrap());
    assert_eq!(pool.want_warm(at(0)), 0);
    pool.connected(first, 1, at(5), 0);
    assert!(pool.is_idle(first));
    assert_eq!(pool.stats().peak, 0, "warming is no demand");
    pool.connect_failed(second, &quota);
    assert_eq!(pool.want_warm(at(10)), 0);
    assert_eq!(pool.want_warm(at(1_009)), 0);
    assert_eq!(pool.want_warm(at(1_010)), 1);
    assert_eq!(pool.acquire(at(1_010), &quota), Acquire::Reuse(first, 1));
    assert_eq!(pool.want_warm(at(1_010)), 2);
}

#[test]
fn trimming_leaves_what_warm_up_would_open_again() {
    let quota = LocalQuota::new(100);
    let mut pool: Pool<u32> = Pool::new(Params { min_idle: 3, ..params() });
    for conn in 0..3 {
        let slot = pool.warm(&quota).unwrap();
        pool.connected(slot, conn, at(0), 0);
    }
    for tick in 0..60 {
        assert_eq!(sweep(&mut pool, &quota, 0, at(tick * 1_000)), []);
        assert_eq!(pool.want_warm(at(tick * 1_000)), 0);
    }
}

/// Otherwise they would be closed and opened again, for ever.
#[test]
fn the_idle_time_out_leaves_the_minimum() {
    let quota = LocalQuota::new(100);
    let settings =
        Params { min_idle: 2, idle_timeout: 5 * SEC, max_lifetime: Some(60 * SEC), lifetime_jitter: 0.0, ..params() };
    let mut pool = Pool::new(settings);
    let slots = open(&mut pool, &quota, 4, at(0));
    for slot in &slots {
        assert_eq!(pool.release(*slot, at(1_000)), Released::Kept);
    }
    assert_eq!(pool.poll_timeout(), Some(at(6_000)));
    let timed_out = CloseReason::IdleTimeout;
    assert_eq!(sweep(&mut pool, &quota, 100, at(6_000)), [(0, timed_out), (1, timed_out)]);
    for second in 6..60 {
        assert_eq!(pool.poll_timeout(), Some(at(60_000)), "only their lifetimes are left");
        assert_eq!(sweep(&mut pool, &quota, 100, at(second * 1_000)), []);
        assert_eq!(pool.want_warm(at(second * 1_000)), 0);
    }
    // They are good for use, here and in another pool, however long they were idle.
    assert_eq!(pool.acquire(at(59_000), &quota), Acquire::Reuse(slots[3], 3));
    assert_eq!(pool.release(slots[3], at(59_000)), Released::Kept);
    let (_, token, _) = pool.take_idle(at(59_000)).unwrap();
    assert_eq!(token, 2);
    assert_eq!(sweep(&mut pool, &quota, 100, at(60_000)), [(3, CloseReason::Lifetime)]);
    assert_eq!(pool.want_warm(at(60_000)), 2);
}

#[test]
fn a_drain_empties_the_pool_whatever_state_a_connection_is_in() {
    let quota = LocalQuota::new(8);
    let mut pool = Pool::new(params());
    let slots = open(&mut pool, &quota, 2, at(0));
    assert_eq!(pool.release(slots[0], at(1)), Released::Kept);
    let warming = pool.warm(&quota).unwrap();
    pool.drain();
    pool.connected(warming, 7, at(2), 0);
    assert_eq!(pool.poll_timeout(), Some(Instant::ZERO));
    let drained = CloseReason::Drained;
    assert_eq!(sweep(&mut pool, &quota, 4, at(2)), [(0, drained), (7, drained)]);
    assert_eq!(pool.release(slots[1], at(3)), Released::Close(drained));
    assert!(pool.remove(slots[1], &quota, drained));
    assert!(pool.is_empty());
    assert_eq!((quota.granted(), pool.poll_timeout()), (0, None));
}

#[test]
fn a_moved_connection_keeps_its_age_its_uses_and_its_place() {
    let quota = LocalQuota::new(1);
    let settings = Params { max_lifetime: Some(10 * SEC), lifetime_jitter: 0.0, max_uses: Some(3), ..params() };
    let (mut from, mut to) = (Pool::new(settings.clone()), Pool::new(settings));
    let slot = open(&mut from, &quota, 1, at(0))[0];
    assert_eq!(from.release(slot, at(1)), Released::Kept);
    let (stale, conn, meta) = from.take_idle(at(2)).unwrap();
    assert_eq!((stale, conn, meta.uses(), meta.opened()), (slot, 0, 1, at(0)));
    assert!(from.is_empty() && from.take_idle(at(2)).is_none());
    let slot = to.adopt(conn, meta, at(3));
    assert_eq!(quota.granted(), 1);
    assert_eq!(to.release(slot, at(4)), Released::Kept);
    assert_eq!(to.acquire(at(5), &quota), Acquire::Reuse(slot, 0));
    assert_eq!(to.release(slot, at(6)), Released::Close(CloseReason::MaxUses));
    assert!(to.remove(slot, &quota, CloseReason::MaxUses));
    assert_eq!(quota.granted(), 0);
}

// === against a naive model ===

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    Warm,
    Connected(usize),
    ConnectFailed(usize),
    Release(usize),
    Fail(usize),
    PeerCloses(usize),
    Advance(u64),
    Sweep,
    Drain,
    Move,
}

/// A connection as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Conn {
    slot: SlotId,
    token: u32,
    opened: Instant,
    idle_since: Instant,
    uses: u32,
    epoch: u32,
}

/// Plain lists, in the order of time.
#[derive(Default, Debug)]
struct Model {
    /// Slot, whether warm, epoch.
    connecting: Vec<(SlotId, bool, u32)>,
    busy: Vec<Conn>,
    /// Oldest first.
    idle: Vec<Conn>,
    doomed: Vec<(Conn, CloseReason)>,
    epoch: u32,
}

impl Model {
    fn places(&self) -> usize {
        self.connecting.len() + self.busy.len() + self.idle.len() + self.doomed.len()
    }

    fn worn(&self, conn: &Conn, settings: &Params, now: Instant) -> Option<CloseReason> {
        if conn.epoch != self.epoch {
            Some(CloseReason::Drained)
        } else if settings.max_lifetime.is_some_and(|lifetime| now >= conn.opened + lifetime) {
            Some(CloseReason::Lifetime)
        } else {
            None
        }
    }

    /// Dooms what was idle for too long, oldest first, down to the minimum.
    fn doom_timed_out(&mut self, settings: &Params, now: Instant) {
        let too_long = |conn: &Conn| now >= conn.idle_since + settings.idle_timeout;
        while self.idle.len() > settings.min_idle as usize && self.idle.first().is_some_and(too_long) {
            self.doomed.push((self.idle.remove(0), CloseReason::IdleTimeout));
        }
    }

    /// The newest or oldest fit one out of the idle ones; unfit ones on the way are doomed.
    fn take(&mut self, settings: &Params, now: Instant, newest: bool) -> Option<Conn> {
        loop {
            let at = if newest { self.idle.len().checked_sub(1)? } else { 0 };
            let conn = *self.idle.get(at)?;
            if let Some(reason) = self.worn(&conn, settings, now) {
                self.doomed.push((self.idle.remove(at), reason));
                continue;
            }
            if now >= conn.idle_since + settings.idle_timeout {
                self.doom_timed_out(settings, now);
            }
            if let Some(at) = self.idle.iter().position(|one| one.token == conn.token) {
                return Some(self.idle.remove(at));
            }
        }
    }
}

fn step() -> impl Strategy<Value = (bool, Step)> {
    let which = 0..64_usize;
    let step = prop_oneof![
        10 => Just(Step::Acquire),
        1 => Just(Step::Warm),
        9 => which.clone().prop_map(Step::Connected),
        1 => which.clone().prop_map(Step::ConnectFailed),
        8 => which.clone().prop_map(Step::Release),
        1 => which.clone().prop_map(Step::Fail),
        1 => which.prop_map(Step::PeerCloses),
        4 => (0..3_000_u64).prop_map(Step::Advance),
        2 => Just(Step::Sweep),
        1 => Just(Step::Drain),
        1 => Just(Step::Move),
    ];
    (any::<bool>(), step)
}

/// `list[at]`, wherever `at` falls; `None` if the list is empty.
fn index<T>(list: &[T], at: usize) -> Option<usize> {
    (!list.is_empty()).then(|| at % list.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Two pools on one quota do exactly what two pairs of plain lists do: never above the quota, never
    /// a connection twice, LIFO out, FIFO ageing, uses and lifetimes honoured, quotas balanced at the end.
    #[test]
    fn agrees_with_a_naive_model(
        steps in proptest::collection::vec(step(), 0..400),
        max in 0..12_u32,
        min_idle in 0..3_u32,
        max_uses in proptest::option::of(1..6_u32),
        lifetime in proptest::option::of(1_000..20_000_u64),
    ) {
        let settings = Params {
            min_idle,
            max_uses,
            max_lifetime: lifetime.map(Duration::from_millis),
            lifetime_jitter: 0.0,
            idle_timeout: 5 * SEC,
            ..params()
        };
        let quota = LocalQuota::new(max);
        let mut pools = [Pool::new(settings.clone()), Pool::new(settings.clone())];
        let mut models = [Model::default(), Model::default()];
        let (mut now, mut next_conn) = (at(1), 0_u32);
        for (second, step) in steps {
            let which = usize::from(second);
            let (pool, model) = (&mut pools[which], &mut models[which]);
            match step {
                Step::Acquire => {
                    let expected = model.take(&settings, now, true);
                    let granted = quota.granted();
                    match (pool.acquire(now, &quota), expected) {
                        (Acquire::Reuse(slot, conn), Some(mut is)) => {
                            prop_assert_eq!((slot, conn), (is.slot, is.token));
                            is.uses += 1;
                            prop_assert!(max_uses.is_none_or(|max| is.uses <= max));
                            model.busy.push(is);
                        }
                        (Acquire::Connect(slot), None) => {
                            prop_assert!(granted < max);
                            model.connecting.push((slot, false, model.epoch));
                        }
                        (Acquire::Full, None) => prop_assert_eq!(granted, max),
                        (got, expected) => prop_assert!(false, "{:?} instead of {:?}", got, expected),
                    }
                }
                Step::Warm => {
                    let granted = quota.granted();
                    let slot = pool.warm(&quota);
                    prop_assert_eq!(slot.is_some(), granted < max);
                    model.connecting.extend(slot.map(|slot| (slot, true, model.epoch)));
                }
                Step::Connected(i) => if let Some(i) = index(&model.connecting, i) {
                    let (slot, warm, epoch) = model.connecting.remove(i);
                    let conn = Conn {
                        slot, token: next_conn, opened: now, idle_since: now, uses: u32::from(!warm), epoch,
                    };
                    next_conn += 1;
                    pool.connected(slot, conn.token, now, 9);
                    match (warm, epoch == model.epoch) {
                        (false, _) => model.busy.push(conn),
                        (true, true) => model.idle.push(conn),
                        (true, false) => model.doomed.push((conn, CloseReason::Drained)),
                    }
                }
                Step::ConnectFailed(i) => if let Some(i) = index(&model.connecting, i) {
                    pool.connect_failed(model.connecting.remove(i).0, &quota);
                }
                Step::Release(i) => if let Some(i) = index(&model.busy, i) {
                    let conn = model.busy.remove(i);
                    let used_up = max_uses.is_some_and(|max| conn.uses >= max);
                    let reason = model.worn(&conn, &settings, now).or(used_up.then_some(CloseReason::MaxUses));
                    let expected = reason.map_or(Released::Kept, Released::Close);
                    prop_assert_eq!(pool.release(conn.slot, now), expected);
                    match reason {
                        Some(reason) => prop_assert!(pool.remove(conn.slot, &quota, reason)),
                        None => model.idle.push(Conn { idle_since: now, ..conn }),
                    }
                }
                Step::Fail(i) => if let Some(i) = index(&model.busy, i) {
                    prop_assert!(pool.remove(model.busy.remove(i).slot, &quota, CloseReason::Failed));
                }
                Step::PeerCloses(i) => if let Some(i) = index(&model.idle, i) {
                    prop_assert!(pool.remove(model.idle.remove(i).slot, &quota, CloseReason::PeerClosed));
                }
                Step::Advance(millis) => now = now + Duration::from_millis(millis),
                Step::Sweep => {
                    let total = model.places() - model.doomed.len();
                    let (mut out, mut idle_before) = (Vec::new(), model.idle.len());
                    pool.sweep(now, 2, &mut |slot, conn, reason| out.push((slot, conn, reason)));
                    let mut trimmed = 0;
                    for (slot, conn, reason) in out {
                        prop_assert!(pool.remove(slot, &quota, reason));
                        if let Some(i) = model.doomed.iter().position(|(c, _)| c.token == conn) {
                            prop_assert_eq!(model.doomed.remove(i).1, reason);
                            continue;
                        }
                        let i = model.idle.iter().position(|c| c.token == conn);
                        prop_assert!(i.is_some(), "closed one that was not idle");
                        let is = model.idle.remove(i.unwrap());
                        if reason == CloseReason::Trimmed {
                            trimmed += 1;
                            prop_assert_eq!(i, Some(0), "the oldest first");
                        } else if reason == CloseReason::IdleTimeout {
                            prop_assert!(now >= is.idle_since + settings.idle_timeout);
                            prop_assert!(idle_before > min_idle as usize, "the minimum stays");
                            idle_before -= 1;
                        } else {
                            prop_assert_eq!(model.worn(&is, &settings, now), Some(reason));
                        }
                    }
                    prop_assert!(model.doomed.is_empty());
                    prop_assert!(model.idle.iter().all(|c| model.worn(c, &settings, now).is_none()));
                    let too_long = |c: &Conn| now >= c.idle_since + settings.idle_timeout;
                    prop_assert!(model.idle.len() <= min_idle as usize || !model.idle.iter().any(too_long));
                    if trimmed > 0 {
                        prop_assert!(model.idle.len() >= min_idle as usize);
                        prop_assert!(total - trimmed >= 2 && model.places() >= 2, "the share stays");
                    }
                    prop_assert!(pool.poll_timeout().is_none_or(|next| next > now), "all that is due is done");
                }
                Step::Drain => {
                    pool.drain();
                    model.epoch += 1;
                    model.doomed.extend(model.idle.drain(..).map(|conn| (conn, CloseReason::Drained)));
                }
                Step::Move => {
                    let taken = pool.take_idle(now);
                    let expected = model.take(&settings, now, false);
                    prop_assert_eq!(taken.as_ref().map(|t| t.1), expected.map(|c| c.token));
                    if let (Some((_, token, meta)), Some(mut conn)) = (taken, expected) {
                        let (to, model) = (&mut pools[1 - which], &mut models[1 - which]);
                        conn.slot = to.adopt(token, meta, now);
                        conn.uses += 1;
                        conn.epoch = model.epoch;
                        model.busy.push(conn);
                    }
                }
            }
            prop_assert!(quota.granted() <= max);
            prop_assert_eq!(quota.granted() as usize, models[0].places() + models[1].places());
            for (pool, model) in pools.iter().zip(&models) {
                let stats = pool.stats();
                prop_assert_eq!(stats.idle as usize, model.idle.len());
                prop_assert_eq!(stats.busy as usize, model.busy.len());
                prop_assert_eq!(stats.connecting as usize, model.connecting.len());
                prop_assert_eq!(stats.closing as usize, model.doomed.len());
                prop_assert!(stats.peak as usize >= model.busy.len());
            }
        }
        for (pool, model) in pools.iter_mut().zip(&mut models) {
            let connecting = model.connecting.drain(..).map(|c| c.0);
            let slots = connecting.chain(model.busy.drain(..).map(|c| c.slot));
            for slot in slots.chain(model.idle.drain(..).map(|c| c.slot)) {
                prop_assert!(pool.remove(slot, &quota, CloseReason::Shutdown));
            }
            for (conn, reason) in model.doomed.drain(..) {
                prop_assert!(pool.remove(conn.slot, &quota, reason));
            }
            prop_assert!(pool.is_empty());
        }
        prop_assert_eq!(quota.granted(), 0);
    }
}

#[test]
fn the_age_at_which_the_peer_closes_is_learned_from_the_pools_own_connections() {
    let quota = LocalQuota::new(8);
    let mut pool = Pool::new(params());
    let slots = open(&mut pool, &quota, 3, at(0));
    for slot in &slots {
        assert_eq!(pool.release(*slot, at(1_000)), Released::Kept);
    }
    assert!(!pool.is_near_close(at(80_000)), "nothing is known");
    pool.peer_closed(slots[0], at(5_000));
    assert!(pool.remove(slots[0], &quota, CloseReason::PeerClosed));
    assert!(!pool.is_near_close(at(3_999)) && pool.is_near_close(at(4_000)));

    // It serves after a longer rest: the peer waits longer than it seemed.
    assert_eq!(pool.acquire(at(9_000), &quota), Acquire::Reuse(slots[2], 2));
    assert!(pool.is_near_close(at(9_000)), "the other one has rested as long");
    assert_eq!(pool.release(slots[2], at(9_000)), Released::Kept);
    assert!(!pool.is_near_close(at(14_999)) && pool.is_near_close(at(15_000)));

    pool.peer_announced(Some(SEC * 4));
    assert!(!pool.is_near_close(at(11_999)) && pool.is_near_close(at(12_000)));
    pool.drain();
    assert!(!pool.is_near_close(at(80_000)), "none is idle");
    let slots = open(&mut pool, &quota, 1, at(80_000));
    assert_eq!(pool.release(slots[0], at(80_000)), Released::Kept);
    assert!(!pool.is_near_close(at(160_000)), "a drained pool knows nothing");
}
