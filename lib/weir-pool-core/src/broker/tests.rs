//! The broker in a small world of its own: callers that come, wait, leave and forget, a server that is quick, slow, away or
//! silent, an owner who resizes, evicts and suspends, and a clock that jumps.

use std::collections::{BTreeMap, VecDeque};

use weir_core::hash::splitmix64;

use super::*;
use crate::LocalQuota;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

type Small = Broker<u32, u32, LocalQuota>;

fn broker(max: u32, params: impl FnOnce(&mut BrokerParams)) -> Small {
    let mut settings = BrokerParams::default();
    settings.keep.idle_timeout = Duration::from_mins(10);
    settings.open.connect_timeout = ms(1_000);
    params(&mut settings);
    Broker::new(settings, LocalQuota::new(max), 7)
}

/// Does what the housekeeper is told, with connects that succeed at once; returns whom to wake.
fn keep(broker: &mut Small, now: Instant) -> Vec<u32> {
    let mut todo = Todo::default();
    broker.handle_timeout(now, &mut todo);
    let mut wake = std::mem::take(&mut todo.wake);
    for slot in todo.open {
        broker.connected(slot, slot.index(), now, &mut wake);
    }
    for (slot, _, reason) in todo.close {
        broker.closed(slot, reason);
    }
    wake
}

fn ready(acquired: Acquired<u32>) -> Loan<u32> {
    match acquired {
        Acquired::Ready(loan) => loan,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_comes_back_goes_to_the_first_in_line_and_to_no_newcomer() {
    let mut broker = broker(1, |_| {});
    assert_eq!(keep(&mut broker, at(0)), []);
    assert_eq!(broker.acquire(at(0)), Acquired::Wait);
    let ann = broker.join(1, None, at(0)).unwrap();
    assert!(broker.calls_housekeeper());
    assert_eq!(keep(&mut broker, at(0)), [1]);
    let loan = broker.fetch(ann).unwrap().unwrap();
    let slot = loan.slot();
    let bob = broker.join(2, None, at(0)).unwrap();
    let eve = broker.join(3, None, at(0)).unwrap();
    assert_eq!(broker.release(loan, at(5)), (Some(2), ms(5)));
    assert_eq!(broker.acquire(at(5)), Acquired::Wait, "it is kept for bob");
    assert_eq!(broker.fetch(eve), None);
    // Bob has gone: it is eve's.
    assert_eq!(broker.leave(bob, at(6)), Some(3));
    let loan = broker.fetch(eve).unwrap().unwrap();
    assert_eq!((loan.slot(), loan.quiet()), (slot, ms(1)), "in use until a moment ago");
    assert_eq!(broker.release(loan, at(7)).0, None);
    assert_eq!(ready(broker.acquire(at(9))).slot(), slot);
    let stats = broker.stats(at(10));
    assert_eq!((stats.pool.opened, stats.unwaited, stats.uses), (1, 1, 2));
    assert_eq!((stats.used_nanos, stats.busy_nanos), (6_000_000, 8_000_000), "kept for bob and in use, 1 ms each");
    assert_eq!((broker.waits().count(), broker.waits().max()), (3, ms(6)));
}

#[test]
fn the_housekeeper_ends_the_waiting_of_those_whose_time_is_over() {
    let mut broker = broker(0, |_| {});
    let own = broker.join(1, None, at(0)).unwrap();
    let first = broker.join(2, Some(at(10)), at(0)).unwrap();
    let second = broker.join(3, Some(at(20)), at(0)).unwrap();
    let mut todo = Todo::default();
    assert_eq!(broker.handle_timeout(at(1), &mut todo), Some(at(10)));
    assert_eq!(broker.handle_timeout(at(10), &mut todo), Some(at(20)));
    assert_eq!(todo.wake, [2]);
    assert_eq!(broker.fetch(first), Some(Err(Refusal::TimedOut)));
    assert_eq!((broker.fetch(own), broker.fetch(second)), (None, None));
    assert_eq!(broker.handle_timeout(at(25), &mut todo), None, "one with a timer of its own is not the housekeeper's");
}

/// Who comes back to the front of the line asked later than some behind it, maybe; and a time-out may be made shorter.
#[test]
fn a_time_out_is_kept_behind_one_with_a_later_deadline() {
    let mut broker = broker(0, |_| {});
    let first = broker.join(1, Some(at(50)), at(0)).unwrap();
    let late = broker.rejoin(2, Some(at(400)), at(10)).unwrap();
    let soon = broker.join(3, Some(at(30)), at(20)).unwrap();
    let mut todo = Todo::default();
    assert_eq!(broker.handle_timeout(at(20), &mut todo), Some(at(30)));
    assert_eq!(broker.handle_timeout(at(30), &mut todo), Some(at(50)));
    assert_eq!(broker.fetch(soon), Some(Err(Refusal::TimedOut)));
    assert_eq!(broker.handle_timeout(at(50), &mut todo), Some(at(400)));
    assert_eq!((broker.fetch(first), broker.fetch(late)), (Some(Err(Refusal::TimedOut)), None));
    assert_eq!(todo.wake, [3, 1]);
}

#[test]
fn what_was_kept_for_one_who_left_is_not_known_to_be_alive() {
    let mut broker = broker(1, |_| {});
    let ann = broker.join(1, None, at(0)).unwrap();
    keep(&mut broker, at(0));
    let loan = broker.fetch(ann).unwrap().unwrap();
    assert_eq!(broker.release(loan, at(10)), (None, ms(10)));
    broker.suspend();
    let bob = broker.join(2, None, at(20)).unwrap();
    let mut wake = Vec::new();
    broker.resume(at(5_000), &mut wake);
    assert_eq!(wake, [2]);
    assert_eq!(broker.leave(bob, at(5_001)), None);
    let Acquired::Ready(loan) = broker.acquire(at(5_002)) else { panic!("it is idle again") };
    assert_eq!(loan.quiet(), ms(4_992));
    assert_eq!(broker.stats(at(5_002)).uses, 1, "bob's was no use");
}

#[test]
fn who_ends_its_own_waiting_is_passed_over() {
    let mut broker = broker(0, |_| {});
    for n in 1..2_000 {
        broker.join(n, None, at(0)).unwrap();
    }
    let late = broker.join(0, Some(at(60_000)), at(0)).unwrap();
    let later = broker.join(1, Some(at(61_000)), at(0)).unwrap();
    let mut todo = Todo::default();
    assert_eq!(broker.handle_timeout(at(59_000), &mut todo), Some(at(60_000)));
    assert_eq!(broker.handle_timeout(at(60_000), &mut todo), Some(at(61_000)));
    assert_eq!(todo.wake, [0]);
    assert_eq!((broker.fetch(late), broker.fetch(later)), (Some(Err(Refusal::TimedOut)), None));
    assert_eq!((broker.stats(at(60_000)).timed_out, broker.stats(at(60_000)).waiting), (1, 2_000));
}

#[test]
fn who_holds_one_for_long_is_reported_once() {
    let mut broker = broker(1, |params| params.leak_after = Some(ms(100)));
    let caller = broker.join(1, None, at(0)).unwrap();
    keep(&mut broker, at(0));
    let slot = broker.fetch(caller).unwrap().unwrap().slot();
    let mut leaks = Vec::new();
    for millis in (0..1_000).step_by(10) {
        let mut todo = Todo::default();
        let next = broker.handle_timeout(at(millis), &mut todo).unwrap();
        assert!(next <= at(millis + 10), "looked at in time");
        leaks.extend(todo.leaks);
    }
    assert_eq!(leaks, [(slot, at(0))]);
}

#[test]
fn hung_connects_that_hold_every_place_are_given_up_one_at_a_time() {
    let mut broker = broker(2, |_| {});
    for caller in 0..4 {
        broker.join(caller, None, at(0)).unwrap();
    }
    let (mut open, mut abandoned) = (Vec::new(), 0);
    for millis in 0..5_000 {
        let mut todo = Todo::default();
        broker.handle_timeout(at(millis), &mut todo);
        open.extend(todo.open);
        for slot in todo.abandon {
            abandoned += 1;
            assert!(open.contains(&slot));
            broker.connect_failed(slot, at(millis));
            open.retain(|other| *other != slot);
        }
        assert!(open.len() <= 2);
    }
    assert!((3..=12).contains(&abandoned), "{abandoned}");
    let mut wake = Vec::new();
    broker.connected(open[0], 9, at(5_000), &mut wake);
    assert_eq!(wake, [0], "whoever answers in the end is used");
}

/// What a caller of the world does.
#[derive(Debug)]
enum Caller {
    Waiting { ticket: Ticket, deadline: Instant },
    Using { loan: Loan<u32>, until: Instant, ends: End },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Well,
    Badly,
    Detached,
}

#[test]
fn who_is_turned_away_stands_elsewhere_as_long_as_it_has_waited() {
    let mut here = broker(0, |_| {});
    let mut there = broker(1, |_| {});
    let early = here.join(1, Some(at(3_000)), at(0)).unwrap();
    let late = here.join(2, None, at(20)).unwrap();
    let mut tickets = BTreeMap::new();
    tickets.insert(10, there.join(10, None, at(0)).unwrap());
    tickets.insert(11, there.join(11, None, at(10)).unwrap());
    tickets.insert(12, there.join(12, None, at(30)).unwrap());
    let mut wake = Vec::new();
    here.bar(&mut wake);
    assert_eq!(wake, [1, 2]);
    assert_eq!(here.acquire(at(40)), Acquired::Refused(Refusal::TurnedAway));
    for ticket in [early, late] {
        assert_eq!(here.fetch(ticket), Some(Err(Refusal::TurnedAway)));
    }
    // In whatever order they come.
    tickets.insert(2, there.join_since(2, at(20), None, at(40)).unwrap());
    tickets.insert(1, there.join_since(1, at(0), Some(at(3_000)), at(40)).unwrap());
    let mut woken = keep(&mut there, at(40));
    while let Some(loan) = woken.last().and_then(|who| there.fetch(tickets[who])) {
        woken.extend(there.release(loan.unwrap(), at(41)).0);
        if woken.len() == 5 {
            break;
        }
    }
    assert_eq!(woken, [10, 1, 11, 2, 12]);
    here.unbar();
    assert_eq!(here.acquire(at(50)), Acquired::Wait);
}

#[test]
fn a_pool_that_is_emptied_gives_up_its_connects_and_blames_nobody() {
    let mut broker = broker(3, |params| params.keep.min_idle = 3);
    let mut todo = Todo::default();
    broker.handle_timeout(at(0), &mut todo);
    broker.handle_timeout(at(10), &mut todo);
    assert!(todo.open.len() >= 2, "{:?}", todo.open);
    let [first, second] = [todo.open[0], todo.open[1]];
    let mut wake = Vec::new();
    broker.connected(first, 7, at(10), &mut wake);
    assert_eq!(broker.evidence().idle, 1);
    broker.bar(&mut wake);
    broker.quota().set_max(0);
    broker.empty();
    broker.handle_timeout(at(11), &mut todo);
    assert_eq!(todo.close.len(), 1);
    assert!(todo.abandon.contains(&second));
    for slot in std::mem::take(&mut todo.abandon) {
        broker.connect_failed(slot, at(12));
    }
    for (slot, _, reason) in std::mem::take(&mut todo.close) {
        broker.closed(slot, reason);
    }
    assert_eq!(broker.evidence(), crate::Evidence::default(), "empty, and not failing");
}

#[test]
fn what_was_being_opened_when_the_maximum_fell_does_not_stay() {
    let mut broker = broker(2, |params| params.keep.min_idle = 2);
    let mut todo = Todo::default();
    broker.handle_timeout(at(0), &mut todo);
    broker.handle_timeout(at(10), &mut todo);
    assert_eq!(todo.open.len(), 2);
    broker.quota().set_max(1);
    broker.resized(at(11));
    let mut wake = Vec::new();
    for slot in std::mem::take(&mut todo.open) {
        broker.connected(slot, 7, at(12), &mut wake);
    }
    broker.handle_timeout(at(12), &mut todo);
    assert_eq!((todo.close.len(), broker.evidence().idle), (1, 1));
}

struct World {
    seed: u64,
    now: Instant,
    broker: Small,
    callers: BTreeMap<u32, Caller>,
    /// In the order in which they joined, for the check of the order.
    line: VecDeque<u32>,
    connects: Vec<(SlotId, Instant, bool)>,
    closes: Vec<(SlotId, Instant, CloseReason)>,
    checks: Vec<(Loan<u32>, Instant, bool)>,
    held: BTreeMap<SlotId, u32>,
    next: u32,
    visit_at: Option<Instant>,
    max_now: u32,
    served: u32,
    timed_out: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let max = 1 + (splitmix64(seed) % 12) as u32;
        let broker = broker(max, |params| {
            params.keep.min_idle = max / 3;
            params.keep.idle_timeout = ms(300);
            params.keep.max_lifetime = Some(ms(2_000));
            params.keep.max_uses = Some(50);
            params.keepalive = Some(ms(100));
            params.leak_after = Some(ms(500));
            params.open.connect_timeout = ms(400);
            params.open.down_after = ms(800);
        });
        Self {
            seed,
            now: Instant::from_millis(1_000_000),
            broker,
            callers: BTreeMap::new(),
            line: VecDeque::new(),
            connects: Vec::new(),
            closes: Vec::new(),
            checks: Vec::new(),
            held: BTreeMap::new(),
            next: 0,
            visit_at: Some(Instant::ZERO),
            max_now: max,
            served: 0,
            timed_out: 0,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_add(1);
        splitmix64(self.seed) % below
    }

    fn step(&mut self) {
        if self.broker.is_suspended() && self.draw(20) == 0 {
            self.suspend();
        }
        match self.draw(100) {
            0..40 => self.caller_comes(),
            40..46 => self.caller_leaves(),
            46..80 => self.time_passes(),
            80 => self.resize(),
            81 if self.draw(10) == 0 => self.broker.evict_all(),
            82 if self.draw(5) == 0 => self.suspend(),
            83 if self.draw(5) == 0 => self.now = self.now + ms(self.seed % 3_000),
            _ => {}
        }
        self.world_goes_on();
        self.housekeeper();
        self.check();
    }

    fn caller_comes(&mut self) {
        let who = self.next;
        self.next += 1;
        match self.broker.acquire(self.now) {
            Acquired::Ready(loan) => self.lend(who, loan),
            Acquired::Wait => {
                let deadline = self.now + ms(400);
                let ticket = self.broker.join(who, Some(deadline), self.now).unwrap();
                self.callers.insert(who, Caller::Waiting { ticket, deadline });
                self.line.push_back(who);
            }
            Acquired::Refused(refusal) => assert_eq!(refusal, Refusal::Down),
        }
    }

    fn lend(&mut self, who: u32, loan: Loan<u32>) {
        assert!(self.held.insert(loan.slot(), who).is_none(), "{loan:?} is lent twice");
        assert_eq!(*loan, loan.slot().index(), "each connection in its place");
        let mut until = self.now + ms(self.draw(20));
        let ends = match self.draw(40) {
            0 => End::Badly,
            1 => End::Detached,
            2 => {
                // One that forgets to give it back.
                until = until + ms(900);
                End::Well
            }
            _ => End::Well,
        };
        self.callers.insert(who, Caller::Using { loan, until, ends });
        self.served += 1;
    }

    fn caller_leaves(&mut self) {
        let waiting: Vec<u32> = self.line.iter().copied().collect();
        if waiting.is_empty() {
            return;
        }
        let who = waiting[self.draw(waiting.len() as u64) as usize];
        if let Some(Caller::Waiting { ticket, .. }) = self.callers.remove(&who) {
            self.line.retain(|other| *other != who);
            let woken = self.broker.leave(ticket, self.now);
            self.wake(woken);
        }
    }

    fn time_passes(&mut self) {
        let step = Duration::from_micros(1 + self.draw(8_000));
        self.now = self.now + step;
    }

    fn resize(&mut self) {
        self.max_now = 1 + self.draw(12) as u32;
        self.broker.quota().set_max(self.max_now);
        let mut params = self.broker.params().clone();
        params.keep.min_idle = self.max_now / 3;
        self.broker.set_params(params);
        self.broker.resized(self.now);
    }

    fn suspend(&mut self) {
        if self.broker.is_suspended() {
            let mut wake = Vec::new();
            self.broker.resume(self.now, &mut wake);
            self.wake(wake);
        } else {
            self.broker.suspend();
        }
    }

    fn wake(&mut self, woken: impl IntoIterator<Item = u32>) {
        for who in woken {
            let Some(Caller::Waiting { ticket, .. }) = self.callers.get(&who) else { continue };
            let got = self.broker.fetch(*ticket).expect("woken for something");
            if let Ok(loan) = got {
                let first = self.line.front().copied();
                assert_eq!(first, Some(who), "first come, first served");
                self.line.pop_front();
                self.lend(who, loan);
            } else {
                assert_eq!(got, Err(Refusal::TimedOut));
                self.line.retain(|other| *other != who);
                self.callers.remove(&who);
                self.timed_out += 1;
            }
        }
    }

    /// Uses, connects, closes and checks that end by now.
    fn world_goes_on(&mut self) {
        let now = self.now;
        let is_over = |caller: &Caller| matches!(caller, Caller::Using { until, .. } if *until <= now);
        let over: Vec<u32> = self.callers.iter().filter(|(_, caller)| is_over(caller)).map(|(who, _)| *who).collect();
        for who in over {
            let Some(Caller::Using { loan, ends, .. }) = self.callers.remove(&who) else { unreachable!() };
            self.held.remove(&loan.slot());
            let woken = match ends {
                End::Well => self.broker.release(loan, now).0,
                End::Badly => {
                    self.broker.discard(loan, CloseReason::Failed, now);
                    None
                }
                End::Detached => {
                    let index = loan.slot().index();
                    assert_eq!(self.broker.detach(loan, now), index);
                    None
                }
            };
            self.wake(woken);
        }
        let mut wake = Vec::new();
        for (slot, _, well) in take_due(&mut self.connects, now) {
            if well {
                self.broker.connected(slot, slot.index(), now, &mut wake);
            } else {
                self.broker.connect_failed(slot, now);
            }
        }
        for (slot, _, reason) in take_due(&mut self.closes, now) {
            self.broker.closed(slot, reason);
        }
        for (loan, _, well) in take_due(&mut self.checks, now) {
            if well {
                self.broker.alive(loan, now, &mut wake);
            } else {
                self.broker.dead(loan.slot());
            }
        }
        self.wake(wake);
    }

    fn housekeeper(&mut self) {
        // It comes when called, and when it said it would; never otherwise.
        if !self.broker.calls_housekeeper() && self.visit_at.is_none_or(|at| self.now < at) {
            return;
        }
        let mut todo = Todo::default();
        let granted = self.broker.quota().granted();
        self.visit_at = self.broker.handle_timeout(self.now, &mut todo);
        if !todo.open.is_empty() {
            assert!(granted + todo.open.len() as u32 <= self.max_now, "above the maximum");
        }
        for slot in todo.open {
            // Quick, refused, slow or silent, in phases of the server.
            let (takes, well) = match (self.now.as_millis() / 500 % 4, self.draw(20)) {
                (2, _) => (ms(1), false),
                (3, 0..10) => (ms(400), false),
                (_, 0) => (ms(300), true),
                _ => (ms(5), true),
            };
            self.connects.push((slot, self.now + takes, well));
        }
        for slot in todo.abandon {
            let before = self.connects.len();
            self.connects.retain(|(other, ..)| *other != slot);
            assert_eq!(self.connects.len() + 1, before, "only a connect in flight is given up");
            self.broker.connect_failed(slot, self.now);
        }
        for (slot, _, reason) in todo.close {
            assert!(!self.held.contains_key(&slot), "closed in use");
            let takes = ms(self.draw(10));
            self.closes.push((slot, self.now + takes, reason));
        }
        for loan in todo.check {
            assert!(!self.held.contains_key(&loan.slot()), "looked at in use");
            let well = self.draw(10) != 0;
            self.checks.push((loan, self.now + ms(2), well));
        }
        self.wake(todo.wake);
    }

    fn check(&self) {
        let stats = self.broker.stats(self.now);
        assert_eq!(stats.pool.busy as usize, self.held.len(), "in use is what is held");
        assert_eq!((stats.waiting as usize, stats.served), (self.line.len(), 0));
        for caller in self.callers.values() {
            if let Caller::Waiting { deadline, .. } = caller {
                assert!(*deadline > self.now, "waits beyond its time");
            }
        }
        if !self.broker.is_suspended() {
            assert!(stats.waiting == 0 || stats.pool.idle == 0, "idle connections while callers wait");
        }
    }

    /// Everybody goes; nothing is left.
    fn end(&mut self) {
        if self.broker.is_suspended() {
            self.suspend();
        }
        for _ in 0..2_000 {
            self.now = self.now + ms(5);
            self.world_goes_on();
            self.housekeeper();
        }
        assert!(self.callers.is_empty() && self.held.is_empty());
        let mut wake = Vec::new();
        self.broker.shut(&mut wake);
        assert_eq!(wake, []);
        for _ in 0..200 {
            self.now = self.now + ms(5);
            self.world_goes_on();
            self.housekeeper();
        }
        assert!(self.broker.is_empty());
        assert_eq!(self.broker.quota().granted(), 0, "a place has leaked");
    }
}

fn take_due<S, T>(list: &mut Vec<(S, Instant, T)>, now: Instant) -> Vec<(S, Instant, T)> {
    list.extract_if(.., |(_, at, _)| *at <= now).collect()
}

/// Replay one: `WEIR_SEED=17 cargo test -p weir-pool-core a_world_of_callers`.
#[test]
#[expect(clippy::disallowed_methods, reason = "the seed to replay is the test's argument")]
fn a_world_of_callers() {
    let seeds = match std::env::var("WEIR_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..256_u64,
    };
    let (mut served, mut timed_out) = (0, 0);
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed.wrapping_mul(0x1000_0000_01B3));
            for _ in 0..4_000 {
                world.step();
            }
            world.end();
            (world.served, world.timed_out)
        });
        let Ok((of_seed, late)) = result else { panic!("seed {seed}: replay with WEIR_SEED={seed}") };
        served += of_seed;
        timed_out += late;
    }
    assert!(served > 1_000 && timed_out > 10, "the world is alive: {served} served, {timed_out} timed out");
}

/// To look at it is not to use it.
#[test]
fn what_is_not_taken_has_been_idle_since_it_was() {
    let mut broker = broker(1, |params| {
        params.keep.idle_timeout = ms(1_000);
        params.keep.max_uses = Some(3);
    });
    broker.warm_up(1, Instant::FAR);
    keep(&mut broker, at(0));
    for millis in (100..1_000).step_by(100) {
        assert_eq!(broker.try_acquire(at(millis), |_| false), None);
        broker.check_invariants();
    }
    let stats = broker.stats(at(999));
    assert_eq!((stats.pool.idle, stats.pool.busy, stats.pool.reused, stats.uses), (1, 0, 0, 0));
    keep(&mut broker, at(1_001));
    assert_eq!((broker.live(), broker.closed_for(CloseReason::IdleTimeout)), (0, 1));
}
