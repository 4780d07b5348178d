//! A case for each finding, and what must never be said.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// A pool of ten under half its load.
fn calm() -> Figures {
    Figures {
        max_size: 10,
        busy: 5,
        idle: 5,
        waiting_max: 1_000,
        hold: Some(MS * 5),
        hold_baseline: Some(MS * 5),
        use_age: MS * 3,
        oldest_use: MS * 12,
        wait_p99: Duration::from_micros(300),
        arrival_rate: 1_000.0,
        served_rate: 1_000.0,
        served_baseline: Some(1_000.0),
        connect_time: Some(MS * 20),
        ..Figures::default()
    }
}

/// The same with all in use and a line.
fn pressed() -> Figures {
    Figures { busy: 10, idle: 0, waiting: 7, oldest_wait: MS * 30, wait_p99: MS * 30, ..calm() }
}

#[track_caller]
fn check(figures: &Figures, expected: &[&str]) {
    let explanation = figures.explain();
    let said: Vec<String> = explanation.findings().iter().map(ToString::to_string).collect();
    assert_eq!(said, expected, "\n{explanation}");
}

#[test]
fn healthy() {
    check(
        &calm(),
        &[
            "nothing limits the pool: 5 of 10 in use, the load needs 5.0 on average and could be 2.0 times as large before the \
           line grows without end; p99 of the wait 300 us",
        ],
    );
    let new = Figures { max_size: 10, ..Figures::default() };
    check(&new, &["nothing limits the pool: 0 of 10 in use; p99 of the wait 0 s"]);
    assert!(new.explain().is_healthy());
    assert_eq!(new.explain().to_string(), "nothing limits the pool: 0 of 10 in use; p99 of the wait 0 s");
    // All in use for a moment, and nobody waits.
    assert!(Figures { busy: 10, idle: 0, ..calm() }.explain().is_healthy());
    // Slower than ever, but there is room: the pool is not what limits.
    assert!(Figures { hold: Some(MS * 9), ..calm() }.explain().is_healthy());
    // Connects fail in the background, and there are idle ones.
    assert!(Figures { failing_for: Some(MS * 900), ..calm() }.explain().is_healthy());
}

#[test]
fn suspended() {
    let figures = Figures { suspended: true, waiting: 3, ..calm() };
    check(&figures, &["the pool is suspended; 3 callers wait"]);
    assert_eq!(
        figures.explain().to_string(),
        "the pool is suspended; 3 callers wait\n  remedy: resume the pool when the work on the database is done"
    );
}

#[test]
fn connects_fail() {
    let figures = Figures {
        busy: 0,
        idle: 0,
        opening: 1,
        waiting: 20,
        hold: None,
        failing_for: Some(MS * 3_400),
        last_error: Some("connection refused".to_owned()),
        next_attempt: Some(MS * 700),
        refused: RefusedCounts { down: 12, ..RefusedCounts::default() },
        ..calm()
    };
    check(
        &figures,
        &[
            "no connection can be opened for 3.4 s now (last: connection refused); none is left, 20 callers wait, 12 were refused \
           of late; next attempt in 700 ms",
        ],
    );
    check(
        &Figures { failing_for: Some(MS * 100), busy: 2, waiting: 1, ..pressed() },
        &["no connection can be opened for 100 ms now; 2 in use are all that is left, 1 caller waits"],
    );
}

#[test]
fn connects_hang() {
    let figures = Figures { opening: 4, hung: 3, busy: 2, use_age: MS, ..pressed() };
    check(&figures, &["3 of 4 connects in flight get no answer (usual: 20 ms); 7 callers wait"]);
}

#[test]
fn leak_suspected() {
    check(
        &Figures { leak_suspects: 2, oldest_use: MS * 94_000, use_age: MS * 18_802, ..pressed() },
        &["2 connections seem never to come back: in use for up to 94 s, where 5 ms is usual (10 of 10 in use)"],
    );
    // Without a threshold in the settings, and while the rest of the pool is well.
    check(
        &Figures { oldest_use: MS * 900_000, ..calm() },
        &["1 connection seems never to come back: in use for up to 15 min, where 5 ms is usual (5 of 10 in use)"],
    );
    assert!(Figures { oldest_use: MS * 9_000, ..calm() }.explain().is_healthy());
    // Somebody keeps one for good, and the rest is too small: both are told, and the one does not make the others' uses long.
    let listener = Figures {
        oldest_use: MS * 600_000,
        use_age: MS * 60_002,
        arrival_rate: 1_900.0,
        served_rate: 1_800.0,
        ..pressed()
    };
    let names: Vec<&str> = listener.explain().findings().iter().map(Finding::name).collect();
    assert_eq!(names, ["leak_suspected", "beyond_size"]);
}

#[test]
fn long_use() {
    check(
        &Figures { use_age: MS * 2_100, oldest_use: MS * 4_000, ..pressed() },
        &[
            "all 10 connections are in use, and for 2.1 s on average already (the longest for 4 s), where 5 ms is usual; 7 callers \
           wait",
        ],
    );
    check(
        &Figures { use_age: MS * 2_100, oldest_use: MS * 4_000, hold: None, hold_baseline: None, ..pressed() },
        &[
            "all 10 connections are in use, and for 2.1 s on average already (the longest for 4 s), and no use has ended of late; \
           7 callers wait",
        ],
    );
}

#[test]
fn saturated() {
    let figures = Figures {
        hold: Some(MS * 18),
        use_age: MS * 17,
        arrival_rate: 1_400.0,
        served_rate: 1_050.0,
        served_baseline: Some(1_000.0),
        ..pressed()
    };
    check(
        &figures,
        &[
            "the database is saturated: a connection is held for 18 ms, 3.6 times the 5 ms of calmer times, and 1050 uses per second \
           are served, where 1000 were then",
        ],
    );
    assert!(figures.explain().findings()[0].remedy().contains("Do not enlarge"));
    // Without a baseline there is nothing to be slower than.
    for hold_baseline in [None, Some(Duration::ZERO)] {
        let unknown = Figures { hold_baseline, ..figures.clone() };
        assert_ne!(unknown.explain().findings()[0].name(), "saturated");
    }
    // Slower but carrying more is a load that grew, not a database that stands.
    let more = Figures { served_rate: 1_390.0, ..figures };
    assert_eq!(more.explain().findings()[0].name(), "beyond_size");
}

#[test]
fn line_full_goes_with_its_cause() {
    let figures = Figures {
        waiting: 1_000,
        arrival_rate: 3_000.0,
        served_rate: 2_000.0,
        served_baseline: Some(1_900.0),
        refused: RefusedCounts { line_full: 31, ..RefusedCounts::default() },
        ..pressed()
    };
    check(
        &figures,
        &[
            "the line is full: 1000 of 1000 callers wait, 31 were refused of late",
            "the load needs more than the pool: 3000 acquires per second x 5 ms each = 15.0 connections on average, it has 10; \
             1000 callers wait, p99 of the wait 30 ms",
        ],
    );
}

#[test]
fn limited() {
    check(
        &Figures { granted: Some((6, Grantor::Budget)), busy: 6, arrival_rate: 1_500.0, ..pressed() },
        &[
            "the shared budget grants 6 of 10 connections, and all are in use; the load needs 7.5 on average; 7 callers wait",
        ],
    );
    check(
        &Figures { granted: Some((6, Grantor::Quota)), busy: 6, waiting: 1, ..pressed() },
        &[
            "the quota of this process grants 6 of 10 connections, and all are in use; the load needs 5.0 on average; 1 caller waits",
        ],
    );
}

#[test]
fn beyond_size() {
    let figures = Figures { arrival_rate: 2_840.0, served_rate: 2_000.0, served_baseline: Some(1_500.0), ..pressed() };
    check(
        &figures,
        &[
            "the load needs more than the pool: 2840 acquires per second x 5 ms each = 14.2 connections on average, it has 10; \
           7 callers wait, p99 of the wait 30 ms",
        ],
    );
    let remedy = figures.explain().findings()[0].remedy();
    assert!(remedy.starts_with("enlarge the pool from 10 to 18 "), "{remedy}");
    check(
        &Figures { arrival_rate: 1_800.0, served_rate: 1_800.0, ..figures },
        &[
            "the load needs nearly all of the pool: 1800 acquires per second x 5 ms each = 9.0 connections on average, it has 10; \
           7 callers wait, p99 of the wait 30 ms",
        ],
    );
}

#[test]
fn connects_slow() {
    check(
        &Figures { busy: 5, opening: 2, connect_time: Some(MS * 300), use_age: MS * 2, ..pressed() },
        &["opening is slow: a connect takes 300 ms, a use 5 ms; 2 in flight, 7 callers wait"],
    );
}

#[test]
fn burst() {
    check(
        &Figures { waiting: 40, ..pressed() },
        &[
            "a burst: 40 callers wait though the load needs 5.0 of 10 connections on average; p99 of the wait 30 ms; the line is \
           served in about 20 ms",
        ],
    );
    // It is over, and some had no patience.
    check(
        &Figures { wait_p99: MS * 100, refused: RefusedCounts { timed_out: 1, ..RefusedCounts::default() }, ..calm() },
        &[
            "a burst: nobody waits though the load needs 5.0 of 10 connections on average; p99 of the wait 100 ms, 1 was refused of \
           late",
        ],
    );
    check(
        &Figures { hold: None, hold_baseline: None, use_age: MS, ..pressed() },
        &["a burst: 7 callers wait for 10 connections, and no use has ended of late; p99 of the wait 30 ms"],
    );
}

#[test]
fn the_heaviest_goes_first() {
    let all = Figures {
        suspended: true,
        failing_for: Some(MS * 1_000),
        hung: 1,
        opening: 1,
        leak_suspects: 1,
        oldest_use: MS * 60_000,
        use_age: MS * 9_000,
        hold: Some(MS * 50),
        waiting: 1_000,
        arrival_rate: 5_000.0,
        ..pressed()
    };
    let names: Vec<&str> = all.explain().findings().iter().map(Finding::name).collect();
    let expected =
        ["suspended", "connects_fail", "connects_hang", "leak_suspected", "long_use", "saturated", "line_full"];
    assert_eq!(names, expected);
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), (0_u64..100_000_000).prop_map(Duration::from_micros)]
}

prop_compose! {
    fn figures()(
        (max_size, busy, idle, opening, hung, waiting, waiting_max) in
            (0_u32..50, 0_u32..50, 0_u32..3, 0_u32..5, 0_u32..5, 0_u32..2_000, 0_u32..1_000),
        granted in proptest::option::of((0_u32..50, prop_oneof![Just(Grantor::Quota), Just(Grantor::Budget)])),
        (hold, hold_baseline, connect_time, failing_for) in (
            proptest::option::of(durations()), proptest::option::of(durations()),
            proptest::option::of(durations()), proptest::option::of(durations()),
        ),
        (use_age, oldest_use, wait_p99) in (durations(), durations(), durations()),
        (arrival_rate, served_rate) in (0.0_f64..1e6, 0.0_f64..1e6),
        served_baseline in proptest::option::of(0.0_f64..1e6),
        (timed_out, line_full, leak_suspects, suspended) in (0_u64..3, 0_u64..3, 0_u32..3, any::<bool>()),
    ) -> Figures {
        Figures {
            max_size, granted, busy, idle, opening, hung, waiting, waiting_max, hold, hold_baseline, use_age, oldest_use,
            wait_p99, arrival_rate, served_rate, served_baseline, connect_time, failing_for, leak_suspects, suspended,
            refused: RefusedCounts { timed_out, line_full, ..RefusedCounts::default() },
            ..Figures::default()
        }
    }
}

proptest! {
    /// The invariants of the module are asserted within `explain`; whatever the figures, there are words, and no panic.
    #[test]
    fn whatever_the_figures(figures in figures()) {
        let explanation = figures.explain();
        prop_assert!(!explanation.findings().is_empty());
        for finding in explanation.findings() {
            let said = finding.to_string();
            prop_assert!(!said.contains("NaN") && !said.contains("inf "), "{said}");
            prop_assert!(!finding.remedy().is_empty());
        }
    }

    /// A pool whose callers wait, or went away with nothing, is never called healthy.
    #[test]
    fn those_who_wait_are_told_why(figures in figures()) {
        let healthy = figures.explain().is_healthy();
        prop_assert!(!(healthy && figures.waiting > 0), "{figures:?}");
        prop_assert!(!(healthy && figures.refused.total() > 0), "{figures:?}");
    }
}
