use proptest::prelude::*;

use super::*;

fn at(secs: u64) -> Instant {
    Instant::from_millis(secs * 1_000)
}

fn ids(n: u32) -> Vec<EndpointId> {
    (0..n).map(EndpointId).collect()
}

fn detector(n: u32, max_ejected: f64) -> Detector {
    let mut detector = Detector::new(OutlierParams { max_ejected, ..OutlierParams::default() });
    detector.set_endpoints(&ids(n), at(0));
    detector
}

fn fail(detector: &mut Detector, endpoint: u32, times: u32, now: Instant) {
    for _ in 0..times {
        detector.handle_failure(EndpointId(endpoint), now);
    }
}

fn outputs(detector: &mut Detector) -> Vec<Output> {
    std::iter::from_fn(|| detector.poll_output()).collect()
}

fn eject(endpoint: u32, until: u64, nth: u32) -> Output {
    Output::Eject { endpoint: EndpointId(endpoint), until: at(until), nth }
}

fn restore(endpoint: u32) -> Output {
    Output::Restore { endpoint: EndpointId(endpoint) }
}

#[test]
fn only_failures_in_a_row_eject() {
    let mut detector = detector(3, 0.5);
    fail(&mut detector, 1, 4, at(1));
    detector.handle_success(EndpointId(1), at(1));
    fail(&mut detector, 1, 4, at(2));
    assert_eq!(outputs(&mut detector), []);
    fail(&mut detector, 1, 1, at(3));
    assert_eq!(outputs(&mut detector), [eject(1, 13, 1)]);
    assert!(detector.is_ejected(EndpointId(1)));
}

/// gRFC A50: min(`base_ejection_time` × multiplier, max(`base_ejection_time`, `max_ejection_time`)).
#[test]
fn ejections_in_a_row_grow_to_the_maximum() {
    let mut detector = detector(3, 0.5);
    let mut now = at(0);
    for nth in 1..=40_u64 {
        fail(&mut detector, 1, 5, now);
        let expected = Duration::from_secs((10 * nth).min(300));
        let until = now + expected;
        let nth = nth.min(30) as u32;
        assert_eq!(outputs(&mut detector), [Output::Eject { endpoint: EndpointId(1), until, nth }]);
        assert_eq!(detector.poll_timeout(), Some(until));
        detector.handle_timeout(until);
        assert_eq!(outputs(&mut detector), [restore(1)]);
        now = until + Duration::from_secs(1);
    }
}

/// gRFC A50: at each interval (10 s) in which an address is not ejected, its multiplier falls by one.
#[test]
fn clean_time_makes_the_next_ejection_shorter() {
    let mut detector = detector(3, 0.5);
    for start in [0, 15, 40] {
        fail(&mut detector, 1, 5, at(start));
        detector.handle_timeout(detector.poll_timeout().unwrap());
    }
    // Three ejections in a row (the third until 70), then 25 s clean: two steps back.
    let _ = outputs(&mut detector);
    fail(&mut detector, 1, 5, at(95));
    assert_eq!(outputs(&mut detector), [eject(1, 95 + 20, 2)]);
    // An hour clean: from the start.
    detector.handle_timeout(at(115));
    fail(&mut detector, 1, 5, at(4_000));
    assert_eq!(outputs(&mut detector), [eject(1, 4_010, 1)], "restored and ejected again between polls");
}

#[test]
fn a_success_sent_before_does_not_end_an_ejection() {
    let mut detector = detector(3, 0.5);
    fail(&mut detector, 1, 5, at(0));
    detector.handle_success(EndpointId(1), at(1));
    fail(&mut detector, 1, 50, at(2));
    detector.handle_timeout(at(9));
    assert_eq!(outputs(&mut detector), [eject(1, 10, 1)]);
    detector.handle_timeout(at(10));
    fail(&mut detector, 1, 4, at(11));
    assert_eq!(outputs(&mut detector), [restore(1)], "failures while ejected do not count");
}

/// How many of `n` go when all fail, by share: at least one always stays, one of two or three may go.
#[test]
fn the_share_is_safe_in_small_clusters() {
    for (n, share, expected) in [
        (1, 1.0, 0),
        (2, 0.1, 1),
        (2, 0.5, 1),
        (2, 1.0, 1),
        (3, 0.0, 1),
        (3, 0.5, 1),
        (3, 0.7, 2),
        (3, 1.0, 2),
        (4, 0.1, 0),
        (4, 0.5, 2),
        (5, 0.2, 1),
        (5, 0.5, 2),
        (5, 1.0, 4),
        (10, 0.3, 3),
        (10, f64::NAN, 0),
    ] {
        let mut detector = detector(n, share);
        for endpoint in 0..n {
            fail(&mut detector, endpoint, 5, at(1));
        }
        assert_eq!(detector.ejected(), expected, "{n} endpoints, share {share}");
        assert_eq!(detector.refused(), u64::from(n) - expected as u64);
    }
}

#[test]
fn a_refused_ejection_is_tried_again_at_the_next_failure() {
    let mut detector = detector(2, 0.5);
    fail(&mut detector, 0, 5, at(0));
    fail(&mut detector, 1, 5, at(1));
    assert_eq!(outputs(&mut detector), [eject(0, 10, 1)]);
    detector.handle_timeout(at(10));
    fail(&mut detector, 1, 1, at(11));
    assert_eq!(outputs(&mut detector), [restore(0), eject(1, 21, 1)]);
}

#[test]
fn the_last_one_that_serves_is_never_ejected() {
    let mut detector = detector(3, 1.0);
    detector.handle_usable(EndpointId(0), false, at(0));
    detector.handle_usable(EndpointId(1), false, at(0));
    fail(&mut detector, 2, 50, at(1));
    assert_eq!(outputs(&mut detector), []);
    // And if the last one goes down while another is ejected, that one comes back.
    detector.handle_usable(EndpointId(1), true, at(2));
    fail(&mut detector, 2, 5, at(3));
    assert_eq!(outputs(&mut detector), [eject(2, 13, 1)]);
    detector.handle_usable(EndpointId(1), false, at(4));
    assert_eq!(outputs(&mut detector), [restore(2)]);
}

#[test]
fn one_that_is_out_anyway_is_not_ejected_besides() {
    let mut detector = detector(3, 0.5);
    detector.handle_usable(EndpointId(0), false, at(0));
    fail(&mut detector, 0, 50, at(0));
    detector.handle_usable(EndpointId(0), true, at(1));
    fail(&mut detector, 0, 4, at(1));
    assert_eq!(detector.ejected(), 0);
    fail(&mut detector, 0, 1, at(1));
    assert_eq!(detector.ejected(), 1);
}

#[test]
fn a_cluster_that_shrinks_gets_its_first_to_end_back() {
    let mut detector = detector(4, 0.5);
    fail(&mut detector, 0, 5, at(0));
    fail(&mut detector, 1, 5, at(3));
    assert_eq!(outputs(&mut detector), [eject(0, 10, 1), eject(1, 13, 1)]);
    detector.set_endpoints(&ids(2), at(4));
    assert_eq!(outputs(&mut detector), [restore(0)]);
    detector.set_endpoints(&[EndpointId(1), EndpointId(1)], at(5));
    assert_eq!(outputs(&mut detector), [restore(1)]);
    detector.set_endpoints(&[], at(6));
    assert_eq!((detector.ejected(), detector.poll_timeout()), (0, None));
}

#[test]
fn switched_off_it_restores_all_and_ejects_none() {
    let mut detector = detector(4, 0.5);
    fail(&mut detector, 0, 5, at(0));
    let _ = outputs(&mut detector);
    detector.set_params(OutlierParams { enabled: false, ..OutlierParams::default() }, at(1));
    fail(&mut detector, 1, 50, at(2));
    detector.handle_consecutive(EndpointId(2), 50, at(2));
    assert_eq!(outputs(&mut detector), [restore(0)]);
}

#[test]
fn the_counter_of_the_data_path_ejects_at_the_threshold() {
    let mut detector = detector(2, 0.5);
    let counter = ConsecutiveFailures::new();
    for _ in 0..9 {
        let count = counter.record_failure();
        if ConsecutiveFailures::should_report(count, 5) {
            detector.handle_consecutive(EndpointId(0), count, at(1));
        }
    }
    assert_eq!(outputs(&mut detector), [eject(0, 11, 1)]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Fail(u32),
    Succeed(u32),
    Usable(u32, bool),
    Endpoints(u32, u32),
    Advance(u64),
    Poll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..7_u32).prop_map(Step::Fail),
        2 => (0..7_u32).prop_map(Step::Succeed),
        2 => (0..7_u32, any::<bool>()).prop_map(|(id, usable)| Step::Usable(id, usable)),
        1 => (0..4_u32, 0..5_u32).prop_map(|(first, n)| Step::Endpoints(first, n)),
        3 => (0..30_u64).prop_map(Step::Advance),
        3 => Just(Step::Poll),
    ]
}

proptest! {
    /// The invariants checked at each entry point hold (share, one always serves, bounded queue), outputs
    /// alternate per endpoint and agree with the state, and no ejection outlasts its time.
    #[test]
    fn what_the_owner_is_told_is_what_holds(
        steps in proptest::collection::vec(step(), 0..300),
        max_ejected in 0.0..1.0_f64,
    ) {
        let params = OutlierParams { consecutive_failures: 2, max_ejected, ..OutlierParams::default() };
        let mut detector = Detector::new(params.clone());
        detector.set_endpoints(&ids(5), at(0));
        let mut told: BTreeMap<EndpointId, Instant> = BTreeMap::new();
        let mut now = at(0);
        for step in steps {
            match step {
                Step::Fail(id) => detector.handle_failure(EndpointId(id), now),
                Step::Succeed(id) => detector.handle_success(EndpointId(id), now),
                Step::Usable(id, usable) => detector.handle_usable(EndpointId(id), usable, now),
                Step::Endpoints(first, n) => {
                    let set: Vec<EndpointId> = (first..first + n).map(EndpointId).collect();
                    detector.set_endpoints(&set, now);
                    told.retain(|id, _| set.contains(id));
                }
                Step::Advance(secs) => {
                    now = now + Duration::from_secs(secs);
                    detector.handle_timeout(now);
                    prop_assert!(detector.poll_timeout().is_none_or(|next| next > now));
                }
                Step::Poll => {
                    while let Some(output) = detector.poll_output() {
                        match output {
                            Output::Eject { endpoint, until, nth } => {
                                prop_assert!(until > now && nth >= 1);
                                prop_assert!(until <= now + params.max_ejection);
                                told.insert(endpoint, until);
                            }
                            Output::Restore { endpoint } => {
                                prop_assert!(told.remove(&endpoint).is_some(), "restored without an ejection");
                            }
                        }
                    }
                    for id in ids(9) {
                        prop_assert_eq!(detector.is_ejected(id), told.contains_key(&id));
                    }
                }
            }
        }
    }
}
