use proptest::prelude::*;

use super::*;

const A: EndpointId = EndpointId(0);
const B: EndpointId = EndpointId(1);
const FAILED: Result<(), ProbeFailure> = Err(ProbeFailure::Status(500));

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn exact() -> Params {
    Params { jitter: 0.0, ..Params::default() }
}

fn ids(n: u32) -> Vec<EndpointId> {
    (0..n).map(EndpointId).collect()
}

fn outputs(checker: &mut Checker) -> Vec<Output> {
    std::iter::from_fn(|| checker.poll_output()).collect()
}

/// Lets time pass to the next start of a probe (one that is pending was started at 0) and answers it.
fn answer(checker: &mut Checker, result: Result<(), ProbeFailure>) -> (Instant, Vec<Output>) {
    let (mut now, mut seen) = (at(0), Vec::new());
    for _ in 0..10 {
        while let Some(output) = checker.poll_output() {
            if let Output::StartProbe(probe, _) = output {
                checker.handle_probe_result(probe, now, result);
                seen.extend(outputs(checker));
                return (now, seen);
            }
            seen.push(output);
        }
        now = checker.poll_timeout().unwrap();
        checker.handle_timeout(now);
    }
    panic!("no probe was started");
}

#[test]
fn first_probes_go_at_once_and_in_parallel_and_decide_alone() {
    let mut checker = Checker::new(exact());
    checker.set_endpoints(&[A, B], at(5), 1);
    let probes: Vec<ProbeId> = outputs(&mut checker)
        .into_iter()
        .map(|output| match output {
            Output::StartProbe(probe, ProbeKind::Tcp) => probe,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(probes.iter().map(|probe| probe.endpoint).collect::<Vec<_>>(), [A, B]);
    assert!(checker.is_usable(A, at(5)) && checker.is_usable(B, at(5)));
    checker.handle_probe_result(probes[0], at(10), Ok(()));
    assert_eq!(outputs(&mut checker), [Output::Changed(A, Health::Up)]);
    assert!(checker.is_usable(B, at(10)), "not all first answers are in");
    checker.handle_probe_result(probes[1], at(20), FAILED);
    assert_eq!(outputs(&mut checker), [Output::Changed(B, Health::Down), Output::Settled]);
    assert!(checker.is_settled() && checker.is_usable(A, at(20)) && !checker.is_usable(B, at(20)));
    assert_eq!(checker.last_failure(B), Some(ProbeFailure::Status(500)));
}

#[test]
fn the_grace_of_the_start_ends_after_two_seconds() {
    let mut checker = Checker::new(Params { timeout: Duration::from_secs(5), ..exact() });
    checker.set_endpoints(&[], at(0), 1);
    checker.set_endpoints(&[A], at(1_000), 1);
    let _ = outputs(&mut checker);
    assert!(checker.is_usable(A, at(2_999)));
    assert!(!checker.is_usable(A, at(3_000)));
    assert_eq!(checker.poll_timeout(), Some(at(3_000)));
    checker.handle_timeout(at(3_000));
    assert_eq!(outputs(&mut checker), [Output::Settled]);
    assert_eq!(checker.health(A), Health::Unknown);
}

#[test]
fn one_that_joins_later_gets_no_traffic_before_its_first_success() {
    let mut checker = Checker::new(exact());
    checker.set_endpoints(&[A], at(0), 1);
    let _ = outputs(&mut checker);
    checker.set_endpoints(&[A, B], at(100), 2);
    assert!(checker.is_usable(A, at(100)) && !checker.is_usable(B, at(100)));
    let [Output::StartProbe(probe, _)] = outputs(&mut checker)[..] else { panic!("one probe") };
    assert_eq!(probe.endpoint, B);
    checker.handle_probe_result(probe, at(101), Ok(()));
    assert!(checker.is_usable(B, at(101)));
}

#[test]
fn rise_and_fall_count_answers_in_a_row_at_the_fast_interval() {
    let mut checker = Checker::new(exact());
    checker.set_endpoints(&[A], at(0), 1);
    let changed = |health| vec![Output::Changed(A, health)];
    assert_eq!(answer(&mut checker, Ok(())).1, [Output::Changed(A, Health::Up), Output::Settled]);
    assert_eq!(answer(&mut checker, FAILED), (at(10_000), vec![]), "settled: the interval");
    assert_eq!(answer(&mut checker, FAILED), (at(11_000), vec![]), "changing: the fast one");
    assert_eq!(answer(&mut checker, Ok(())), (at(12_000), vec![]), "not in a row");
    assert_eq!(answer(&mut checker, FAILED), (at(22_000), vec![]));
    assert_eq!(answer(&mut checker, FAILED), (at(23_000), vec![]));
    assert_eq!(answer(&mut checker, FAILED), (at(24_000), changed(Health::Down)), "fall 3");
    assert_eq!(answer(&mut checker, Ok(())), (at(34_000), vec![]));
    assert_eq!(answer(&mut checker, Ok(())), (at(35_000), changed(Health::Up)), "rise 2");
    assert_eq!(checker.last_failure(A), None);
}

/// A server that starts shortly after Weir is found within the fast interval, not the whole one.
#[test]
fn one_that_has_never_been_up_is_probed_fast_for_half_a_minute() {
    let mut checker = Checker::new(exact());
    checker.set_endpoints(&[A], at(0), 1);
    assert_eq!(answer(&mut checker, FAILED).1, [Output::Changed(A, Health::Down), Output::Settled]);
    for second in 1..=30 {
        assert_eq!(answer(&mut checker, FAILED), (at(second * 1_000), vec![]));
    }
    assert_eq!(answer(&mut checker, FAILED), (at(40_000), vec![]), "it may never come");

    // Once it was up, it is like any other.
    let mut checker = Checker::new(exact());
    checker.set_endpoints(&[A], at(0), 1);
    let _ = answer(&mut checker, FAILED);
    assert_eq!(answer(&mut checker, Ok(())), (at(1_000), vec![]));
    assert_eq!(answer(&mut checker, Ok(())), (at(2_000), vec![Output::Changed(A, Health::Up)]));
    for second in [12, 13] {
        assert_eq!(answer(&mut checker, FAILED), (at(second * 1_000), vec![]));
    }
    assert_eq!(answer(&mut checker, FAILED), (at(14_000), vec![Output::Changed(A, Health::Down)]));
    assert_eq!(answer(&mut checker, FAILED), (at(24_000), vec![]));
}

#[test]
fn the_earliest_way_up_is_the_successes_that_are_still_needed() {
    let mut checker = Checker::new(Params { rise: 3, ..exact() });
    assert_eq!(checker.earliest_up(A), None, "not one of them");
    checker.set_endpoints(&[A], at(0), 1);
    assert_eq!(checker.earliest_up(A), Some(at(0)), "the first answer decides alone");
    let _ = answer(&mut checker, Ok(()));
    assert_eq!(checker.earliest_up(A), None, "it is up");
    checker.handle_refused(A, at(3_000));
    assert_eq!(checker.earliest_up(A), Some(at(4_000 + 2_000)), "three from the next probe on");
    let _ = answer(&mut checker, Ok(()));
    assert_eq!(checker.earliest_up(A), Some(at(5_000 + 1_000)), "two more");
    checker.handle_timeout(at(5_000));
    assert_eq!(checker.earliest_up(A), Some(at(5_000 + 1_000)), "under way");
    checker.set_params(Params { enabled: false, ..exact() }, at(5_100));
    assert_eq!(checker.earliest_up(A), None);
}

#[test]
fn a_probe_without_an_answer_fails_and_its_late_answer_is_ignored() {
    let mut checker = Checker::new(Params { fall: 1, ..exact() });
    checker.set_endpoints(&[A], at(0), 1);
    let _ = answer(&mut checker, Ok(()));
    checker.handle_timeout(at(10_000));
    let [Output::StartProbe(late, _)] = outputs(&mut checker)[..] else { panic!("one probe") };
    assert_eq!(checker.poll_timeout(), Some(at(12_000)));
    checker.handle_timeout(at(12_000));
    let expected = [Output::AbandonProbe(late), Output::Changed(A, Health::Down)];
    assert_eq!(outputs(&mut checker), expected);
    checker.handle_timeout(at(20_000));
    let [Output::StartProbe(next, _)] = outputs(&mut checker)[..] else { panic!("one probe") };
    checker.handle_probe_result(late, at(20_001), Ok(()));
    assert_eq!(checker.in_flight(), 1, "the late answer is not taken for the next one's");
    checker.handle_probe_result(next, at(20_002), FAILED);
    assert_eq!(checker.in_flight(), 0);
}

#[test]
fn a_probe_that_was_never_polled_is_dropped_not_abandoned() {
    let mut checker = Checker::new(Params { fast_interval: Duration::from_secs(3), ..exact() });
    checker.set_endpoints(&[A], at(0), 1);
    checker.handle_timeout(at(2_000));
    assert_eq!(outputs(&mut checker), [Output::Changed(A, Health::Down), Output::Settled]);
}

#[test]
fn a_refused_connection_takes_it_down_at_once_and_probes_soon() {
    let mut checker = Checker::new(exact());
    checker.set_endpoints(&[A], at(0), 1);
    let _ = answer(&mut checker, Ok(()));
    checker.handle_refused(A, at(3_000));
    assert_eq!(outputs(&mut checker), [Output::Changed(A, Health::Down)]);
    assert_eq!(checker.last_failure(A), Some(ProbeFailure::Refused));
    checker.handle_refused(A, at(3_500));
    assert_eq!(answer(&mut checker, Ok(())), (at(4_000), vec![]), "a storm does not put it off");
    checker.handle_refused(A, at(4_500));
    assert_eq!(answer(&mut checker, Ok(())), (at(5_000), vec![]), "counted from zero");
    assert_eq!(answer(&mut checker, Ok(())), (at(6_000), vec![Output::Changed(A, Health::Up)]));
}

/// Guards against counting a probe that this machine could not make: failures in a row stay what they were, and it is
/// made again after the fast interval.
#[test]
fn a_probe_that_could_not_be_made_counts_neither_way() {
    let params = Params { rise: 2, fall: 2, ..exact() };
    let fast = params.fast_interval;
    let mut checker = Checker::new(params);
    checker.set_endpoints(&[A], at(0), 1);
    let mut results =
        [Some(Ok(())), None, Some(FAILED), None, None, Some(Ok(())), Some(FAILED), None, Some(FAILED)].iter();
    let (mut now, mut states) = (at(0), Vec::new());
    let mut lost_at = None;
    while results.len() > 0 {
        while let Some(output) = checker.poll_output() {
            match output {
                Output::StartProbe(probe, _) => {
                    if let Some(lost) = lost_at.take() {
                        assert_eq!(now, lost + fast, "the next one comes after the fast interval");
                    }
                    let Some(result) = results.next() else { break };
                    if let Some(result) = result {
                        checker.handle_probe_result(probe, now, *result);
                    } else {
                        checker.handle_probe_lost(probe, now);
                        lost_at = Some(now);
                        // A second word on it changes nothing.
                        checker.handle_probe_result(probe, now, FAILED);
                    }
                }
                Output::Changed(_, health) => states.push((results.len(), health)),
                _ => {}
            }
        }
        if let Some(next) = checker.poll_timeout() {
            now = now.max(next);
            checker.handle_timeout(now);
        }
    }
    while let Some(output) = checker.poll_output() {
        if let Output::Changed(_, health) = output {
            states.push((results.len(), health));
        }
    }
    // Up with the first answer; down with the second failure in a row, though one was lost between the two.
    assert_eq!(states, [(8, Health::Up), (0, Health::Down)]);
}

#[test]
fn switched_off_all_are_up_and_nothing_is_probed() {
    let mut checker = Checker::new(Params { enabled: false, ..exact() });
    checker.set_endpoints(&[A], at(0), 1);
    assert_eq!(outputs(&mut checker), [Output::Changed(A, Health::Up), Output::Settled]);
    checker.handle_refused(A, at(1));
    assert_eq!((outputs(&mut checker), checker.poll_timeout()), (vec![], None));
    // On: what was up stays up until its probes say otherwise. Off again: up.
    checker.set_params(Params { fall: 1, ..exact() }, at(2));
    assert!(checker.is_usable(A, at(2)));
    assert_eq!(answer(&mut checker, FAILED), (at(1_002), vec![Output::Changed(A, Health::Down)]));
    checker.handle_timeout(at(11_002));
    let [Output::StartProbe(probe, _)] = outputs(&mut checker)[..] else { panic!("one probe") };
    checker.set_params(Params { enabled: false, ..exact() }, at(11_003));
    let expected = [Output::AbandonProbe(probe), Output::Changed(A, Health::Up)];
    assert_eq!(outputs(&mut checker), expected);
}

#[test]
fn at_most_64_probes_of_a_cluster_are_in_flight() {
    let mut checker = Checker::new(exact());
    checker.set_endpoints(&ids(100), at(0), 1);
    let started = outputs(&mut checker);
    assert_eq!((started.len(), checker.in_flight()), (64, PROBES_IN_FLIGHT_MAX));
    assert_eq!(checker.poll_timeout(), Some(at(2_000)), "what waits for a place is not due");
    let Output::StartProbe(first, _) = started[0] else { panic!() };
    checker.handle_probe_result(first, at(7), Ok(()));
    let next = outputs(&mut checker);
    assert!(matches!(next[..], [Output::Changed(A, Health::Up), Output::StartProbe(probe, _)]
        if probe.endpoint == EndpointId(64)));
}

#[test]
fn one_that_leaves_is_abandoned_and_forgotten() {
    let mut checker = Checker::new(exact());
    checker.set_endpoints(&[A, B], at(0), 1);
    let [Output::StartProbe(a, _), Output::StartProbe(b, _)] = outputs(&mut checker)[..] else { panic!() };
    checker.set_endpoints(&[B], at(1), 1);
    assert_eq!(outputs(&mut checker), [Output::AbandonProbe(a)]);
    checker.handle_probe_result(a, at(2), Ok(()));
    checker.handle_probe_result(b, at(3), Ok(()));
    assert_eq!(outputs(&mut checker), [Output::Changed(B, Health::Up), Output::Settled]);
    assert_eq!(checker.health(A), Health::Unknown);
}

#[test]
fn intervals_are_spread_by_the_jitter() {
    let mut entry = Entry::new(true, at(0), 7);
    let second = Duration::from_secs(1);
    let drawn: Vec<Duration> = (0..2_000).map(|_| entry.draw(second, 0.1)).collect();
    assert!(drawn.iter().all(|d| (second * 9 / 10..=second * 11 / 10).contains(d)));
    assert!(drawn.iter().filter(|d| **d < second).count().abs_diff(1_000) < 100, "evenly");
    assert_eq!(entry.draw(Duration::ZERO, f64::NAN), INTERVAL_MIN);
    let _ = entry.draw(Duration::MAX, 0.5);
}

// === a small world in simulated time ===

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Probes of this endpoint are now answered so, after so many milliseconds (beyond 300: never).
    Behave(u32, bool, u64),
    Refuse(u32),
    Endpoints(u32, u32),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..8_u32, any::<bool>(), 0..400_u64).prop_map(|(id, ok, delay)| Event::Behave(id, ok, delay)),
        1 => (0..8_u32).prop_map(Event::Refuse),
        1 => (0..4_u32, 0..6_u32).prop_map(|(first, n)| Event::Endpoints(first, n)),
        4 => (0..4_000_u64).prop_map(Event::Pass),
    ]
}

/// What a reader of rules 1, 3 and 4 expects of one endpoint.
#[derive(Default)]
struct Expected {
    health: Health,
    in_a_row: u32,
    in_flight: Option<ProbeId>,
    started: Option<Instant>,
}

impl Expected {
    fn answered(&mut self, ok: bool, params: &Params) {
        let (says, needed) = if ok { (Health::Up, params.rise) } else { (Health::Down, params.fall) };
        self.in_a_row = if self.health == says { 0 } else { self.in_a_row + 1 };
        if self.in_a_row >= needed || (self.health == Health::Unknown && self.in_a_row == 1) {
            self.health = says;
            self.in_a_row = 0;
        }
    }
}

struct World {
    checker: Checker,
    params: Params,
    now: Instant,
    expected: BTreeMap<EndpointId, Expected>,
    told: BTreeMap<EndpointId, Health>,
    behaviour: BTreeMap<EndpointId, (bool, u64)>,
    /// Started, and neither answered nor abandoned.
    open: BTreeSet<ProbeId>,
    /// Answers on their way.
    answers: BTreeSet<(Instant, ProbeId, bool)>,
}

impl World {
    fn run_until(&mut self, end: Instant) {
        loop {
            self.obey();
            let answer = self.answers.first().copied();
            let timeout = self.checker.poll_timeout();
            let next = answer.map(|(due, ..)| due).into_iter().chain(timeout).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            assert!(next >= self.now, "time-outs lie ahead");
            self.now = next;
            match answer {
                Some((due, probe, ok)) if due <= next => {
                    self.answers.pop_first();
                    assert!(self.open.remove(&probe), "answered twice");
                    let result = if ok { Ok(()) } else { FAILED };
                    self.checker.handle_probe_result(probe, self.now, result);
                    let expected = self.expected.get_mut(&probe.endpoint);
                    if let Some(expected) = expected.filter(|e| e.in_flight == Some(probe)) {
                        expected.in_flight = None;
                        expected.answered(ok, &self.params);
                    }
                }
                _ => self.checker.handle_timeout(self.now),
            }
        }
        self.now = end;
    }

    fn obey(&mut self) {
        while let Some(output) = self.checker.poll_output() {
            match output {
                Output::StartProbe(probe, _) => {
                    let expected = self.expected.get_mut(&probe.endpoint).expect("of the set");
                    assert_eq!(expected.in_flight, None, "two in flight");
                    if let Some(last) = expected.started {
                        let floor = self.params.fast_interval.mul_f64(1.0 - self.params.jitter);
                        assert!(self.now - last >= floor, "probed too often");
                    }
                    assert!(self.open.insert(probe), "started twice");
                    expected.in_flight = Some(probe);
                    expected.started = Some(self.now);
                    let (ok, delay) = self.behaviour.get(&probe.endpoint).copied().unwrap_or((true, 1));
                    if delay <= 300 {
                        let due = self.now + Duration::from_millis(delay);
                        self.answers.insert((due, probe, ok));
                    }
                }
                Output::AbandonProbe(probe) => {
                    self.answers.retain(|(_, of, _)| *of != probe);
                    assert!(self.open.remove(&probe), "abandoned, but not open");
                    // Otherwise its endpoint has left (and perhaps come back as a new one).
                    let expected = self.expected.get_mut(&probe.endpoint);
                    if let Some(expected) = expected.filter(|e| e.in_flight == Some(probe)) {
                        expected.in_flight = None;
                        assert!(self.now - expected.started.unwrap() >= self.params.timeout);
                        expected.answered(false, &self.params);
                    }
                }
                Output::Changed(id, health) => {
                    assert_ne!(self.told.insert(id, health), Some(health), "told twice");
                }
                Output::Settled => assert!(self.checker.is_settled()),
            }
        }
        for (id, expected) in &self.expected {
            assert_eq!(self.checker.health(*id), expected.health, "{id:?} changed without evidence");
            assert_eq!(self.told.get(id).copied().unwrap_or_default(), expected.health);
            let usable = self.checker.is_usable(*id, self.now);
            match expected.health {
                Health::Up => assert!(usable),
                Health::Unknown => assert!(!usable || !self.checker.is_settled()),
                _ => assert!(!usable),
            }
        }
    }

    fn set_endpoints(&mut self, set: &[EndpointId], seed: u64) {
        self.expected.retain(|id, _| set.contains(id));
        self.told.retain(|id, _| set.contains(id));
        for id in set {
            self.expected.entry(*id).or_default();
        }
        self.checker.set_endpoints(set, self.now, seed);
    }
}

proptest! {
    /// No change of state without the evidence that rise and fall demand, never two probes of one endpoint
    /// in flight, never two starts closer than the fast interval, and what the owner was told is what
    /// holds; with slow, silent, flapping and leaving endpoints.
    #[test]
    fn state_follows_evidence(
        events in proptest::collection::vec(event(), 1..60),
        rise in 1..4_u32,
        fall in 1..4_u32,
        seed in any::<u64>(),
    ) {
        let millis = Duration::from_millis;
        let params = Params {
            interval: millis(1_000), fast_interval: millis(200), timeout: millis(300), rise, fall, ..Params::default()
        };
        let mut world = World {
            checker: Checker::new(params.clone()),
            params,
            now: at(0),
            expected: BTreeMap::new(),
            told: BTreeMap::new(),
            behaviour: BTreeMap::new(),
            open: BTreeSet::new(),
            answers: BTreeSet::new(),
        };
        world.set_endpoints(&ids(5), seed);
        for event in events {
            match event {
                Event::Behave(id, ok, delay) => { world.behaviour.insert(EndpointId(id), (ok, delay)); }
                Event::Refuse(id) => {
                    world.checker.handle_refused(EndpointId(id), world.now);
                    if let Some(expected) = world.expected.get_mut(&EndpointId(id)) {
                        (expected.health, expected.in_a_row) = (Health::Down, 0);
                    }
                }
                Event::Endpoints(first, n) => {
                    let set: Vec<EndpointId> = (first..first + n).map(EndpointId).collect();
                    world.set_endpoints(&set, seed);
                }
                Event::Pass(millis) => {
                    let end = world.now + Duration::from_millis(millis);
                    world.run_until(end);
                }
            }
        }
    }

    /// An endpoint that behaves in one way for long enough is known to: within the interval, the time-outs of
    /// the probes and the fast intervals between them.
    #[test]
    fn a_lasting_change_is_found_in_time(up in any::<bool>(), delay in 0..400_u64, seed in any::<u64>()) {
        let millis = Duration::from_millis;
        let params = Params {
            interval: millis(1_000), fast_interval: millis(200), timeout: millis(300), ..Params::default()
        };
        let mut checker = Checker::new(params.clone());
        checker.set_endpoints(&[A], at(0), seed);
        let _ = answer(&mut checker, if up { FAILED } else { Ok(()) });
        let mut now = at(0);
        while checker.health(A) != if up { Health::Up } else { Health::Down } {
            now = checker.poll_timeout().unwrap();
            prop_assert!(now <= at(1_100 + 3 * 300 + 2 * 220 + START_GRACE.as_millis() as u64));
            checker.handle_timeout(now);
            while let Some(output) = checker.poll_output() {
                if let Output::StartProbe(probe, _) = output && (up || delay <= 300) {
                    let result = if up { Ok(()) } else { FAILED };
                    checker.handle_probe_result(probe, now + millis(delay.min(299)), result);
                }
            }
        }
        prop_assert!(now <= at(1_100 + 3 * 300 + 2 * 220));
    }
}
