//! Smooth weighted round robin: nginx's sequence, also under several workers, and its state over rebuilds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::{ask, member, members};
use proptest::prelude::*;
use weir_balance::{Algorithm, Ask, Avoid, Balancer, Member, Params, build};
use weir_core::hash::splitmix64;

fn smooth(members: &[Member], previous: Option<&dyn Balancer>) -> Arc<dyn Balancer> {
    build(&Params { algorithm: Algorithm::WeightedRoundRobin, ..Params::default() }, members.to_vec(), previous)
}

fn pick(balancer: &dyn Balancer, worker: usize) -> usize {
    balancer.pick(&Ask { worker, ..ask(0) }).unwrap()
}

/// The rule of nginx, written down once more.
fn nginx(weights: &[u16], picks: usize) -> Vec<usize> {
    let total: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
    let mut current = vec![0_i64; weights.len()];
    (0..picks)
        .map(|_| {
            for (current, &weight) in current.iter_mut().zip(weights) {
                *current += i64::from(weight);
            }
            let best = (0..current.len()).rev().max_by_key(|&at| current[at]).unwrap();
            current[best] -= total;
            best
        })
        .collect()
}

#[test]
fn five_one_one_is_a_a_b_a_c_a_a() {
    let balancer = smooth(&members(&[5, 1, 1]), None);
    let picks: String = (0..14).map(|nth| ["a", "b", "c"][pick(&*balancer, nth * 31)]).collect();
    assert_eq!(picks, "aabacaaaabacaa", "whichever worker asks");
}

#[test]
fn one_member_and_a_common_divisor() {
    let balancer = smooth(&members(&[u16::MAX]), None);
    assert_eq!((0..5).map(|worker| pick(&*balancer, worker)).collect::<Vec<_>>(), [0; 5]);
    // 65,530 : 13,106 is 5 : 1.
    let balancer = smooth(&members(&[65_530, 13_106]), None);
    assert_eq!((0..6).map(|_| pick(&*balancer, 0)).collect::<Vec<_>>(), nginx(&[5, 1], 6));
}

#[test]
fn a_long_period_is_exact_for_each_worker() {
    // 19,983 picks: beyond what is worked out at build time.
    let weights = [10_007, 9_973, 3];
    let balancer = smooth(&members(&weights), None);
    assert_eq!((0..500).map(|_| pick(&*balancer, 0)).collect::<Vec<_>>(), nginx(&weights, 500), "worker 0");
    for worker in [1, 15, usize::MAX] {
        let mut counts = [0_u16; 3];
        (0..19_983).for_each(|_| counts[pick(&*balancer, worker)] += 1);
        assert_eq!(counts, weights, "worker {worker}");
    }
}

#[test]
fn workers_start_at_different_places() {
    let weights = [10_007, 9_973, 9_941, 9_929];
    let balancer = smooth(&members(&weights), None);
    let first: Vec<_> = (0..16).map(|worker| pick(&*balancer, worker)).collect();
    for at in 0..4 {
        assert!(first.contains(&at), "nobody begins with {at}: {first:?}");
    }
}

#[test]
fn threads_together_count_exactly() {
    const THREADS: usize = 4;
    const PERIODS: usize = 1_000;
    let weights = [5, 1, 1, 9];
    let balancer = smooth(&members(&weights), None);
    let counts: Vec<_> = weights.iter().map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let (balancer, counts) = (&balancer, &counts);
            scope.spawn(move || {
                for _ in 0..16 * PERIODS {
                    counts[pick(&**balancer, worker)].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let counts: Vec<_> = counts.into_iter().map(AtomicUsize::into_inner).collect();
    assert_eq!(counts, weights.map(|weight| usize::from(weight) * THREADS * PERIODS));
}

#[test]
fn threads_on_one_rotation_of_a_long_period_lose_no_pick() {
    const THREADS: usize = 4;
    // Every thread claims to be worker 0; those that find it busy move to another rotation, and each
    // rotation by itself is within two picks of the weights.
    let weights = [10_007, 9_973, 3];
    let balancer = smooth(&members(&weights), None);
    let counts: Vec<_> = weights.iter().map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..19_983 {
                    counts[pick(&*balancer, 0)].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    for (count, weight) in counts.into_iter().map(AtomicUsize::into_inner).zip(weights) {
        let expected = THREADS * usize::from(weight);
        assert!(count.abs_diff(expected) <= 2 * 16, "{count}, not {expected}");
    }
}

#[test]
fn a_member_that_leaves_does_not_restart_the_sequence() {
    let all = members(&[5, 1, 1]);
    let balancer = smooth(&all, None);
    for _ in 0..3 {
        pick(&*balancer, 0);
    }
    // a a b was given; c, then a's are due. Without b, c comes within the next picks and a does not
    // get two in a row first, as it would from the start.
    let rest = vec![all[0].clone(), all[2].clone()];
    let next = smooth(&rest, Some(&*balancer));
    let fresh = smooth(&rest, None);
    let picks = |balancer: &dyn Balancer| (0..6).map(|_| pick(balancer, 0)).collect::<Vec<_>>();
    let (next, fresh) = (picks(&*next), picks(&*fresh));
    assert_eq!(fresh, nginx(&[5, 1], 6));
    assert_ne!(next, fresh, "it goes on rather than starting anew");
    assert!(next[..3].contains(&1), "c is soon due: {next:?}");
}

#[test]
fn a_new_member_does_not_restart_a_long_period() {
    let all = members(&[10_007, 9_973, 3, 500]);
    let balancer = smooth(&all[..3], None);
    // An odd number of picks: a is ahead, so b is next.
    for _ in 0..7 {
        pick(&*balancer, 2);
    }
    let due = pick(&*smooth(&all[..3], Some(&*balancer)), 2);
    let mut twin = smooth(&all[..3], None);
    for _ in 0..7 {
        pick(&*twin, 2);
    }
    twin = smooth(&all, Some(&*twin));
    let picks: Vec<_> = (0..2).map(|_| pick(&*twin, 2)).collect();
    assert!(picks.contains(&due), "{picks:?} without {due}");
}

/// One member fails every request; what it fails is served by the others in proportion to their
/// weights, not by the one after it.
#[test]
fn retries_of_one_member_spread_over_the_others() {
    for algorithm in [Algorithm::WeightedRoundRobin, Algorithm::RoundRobin] {
        for weights in [vec![5_u16, 1, 1], vec![2; 4], vec![3, 1, 2], vec![10_007, 9_973, 9_941, 9_929]] {
            const REQUESTS: usize = 6_000;
            let members = members(&weights);
            let balancer = build(&Params { algorithm, ..Params::default() }, members.clone(), None);
            let mut avoid = Avoid::NONE;
            avoid.add(members[0].id);
            let mut served = vec![0_usize; members.len()];
            for _ in 0..REQUESTS {
                let at = match pick(&*balancer, 0) {
                    0 => balancer.pick(&Ask { avoid, ..ask(0) }).unwrap(),
                    at => at,
                };
                served[at] += 1;
            }
            let weight = |at: usize| {
                if algorithm == Algorithm::RoundRobin { 1.0 } else { f64::from(weights[at]) }
            };
            let total: f64 = (1..members.len()).map(weight).sum();
            assert_eq!(served[0], 0);
            for at in 1..members.len() {
                let expected = REQUESTS as f64 * weight(at) / total;
                assert!((served[at] as f64 - expected).abs() <= 4.0, "{algorithm:?} {weights:?}: {served:?}");
            }
        }
    }
}

/// Whatever fails and is picked for once more in between, all other requests get the sequence as if nothing had.
#[test]
fn retries_take_no_turn_of_other_requests() {
    for algorithm in [Algorithm::WeightedRoundRobin, Algorithm::RoundRobin] {
        for weights in [vec![5_u16, 1, 1], vec![1, 1, 1], vec![3, 1, 2], vec![10_007, 9_973, 9_941, 9_929]] {
            let members = members(&weights);
            let new = || build(&Params { algorithm, ..Params::default() }, members.clone(), None);
            let (disturbed, calm) = (new(), new());
            for nth in 0..500_u64 {
                let first = pick(&*disturbed, 0);
                assert_eq!(first, pick(&*calm, 0), "{algorithm:?} {weights:?}: pick {nth}");
                let mut avoid = Avoid::NONE;
                if nth % 5 == 0 {
                    // Its connection had gone stale: it may come to the same member again.
                    avoid.note_retry();
                    disturbed.pick(&Ask { avoid, ..ask(0) }).unwrap();
                }
                avoid.add(members[first].id);
                // One, two or no retries.
                for _ in 0..splitmix64(nth) % 3 {
                    let second = disturbed.pick(&Ask { avoid, ..ask(0) }).unwrap();
                    assert_ne!(second, first);
                    avoid.add(members[second].id);
                }
            }
        }
    }
}

proptest! {
    /// nginx's sequence for any weights, over whole periods and across workers.
    #[test]
    fn the_sequence_is_that_of_nginx(weights in proptest::collection::vec(1_u16..=40, 1..=8), seed: u64) {
        let balancer = smooth(&members(&weights), None);
        let picks: Vec<_> = (0..400).map(|nth| pick(&*balancer, splitmix64(seed ^ nth) as usize)).collect();
        prop_assert_eq!(picks, nginx(&weights, 400));
    }

    /// Rebuilds over lists that grow and shrink keep everybody within four picks of the share that the
    /// lists at the time gave them, however many rebuilds there are.
    #[test]
    fn lags_are_carried_over(weights in proptest::collection::vec(1_u16..=9, 3..=6), between in 1_usize..30) {
        const REBUILDS: usize = 40;
        let mut all = members(&weights);
        all.push(member(99, 4));
        let mut balancer = smooth(&all, None);
        let mut given = vec![0.0_f64; all.len()];
        let mut due = vec![0.0_f64; all.len()];
        for nth in 0..REBUILDS {
            let present = &all[..all.len() - nth % 2];
            balancer = smooth(present, Some(&*balancer));
            let total: f64 = present.iter().map(|member| f64::from(member.weight.get())).sum();
            for _ in 0..between {
                given[pick(&*balancer, 0)] += 1.0;
            }
            for (due, member) in due.iter_mut().zip(present) {
                *due += between as f64 * f64::from(member.weight.get()) / total;
            }
        }
        // The one that comes and goes has no lag while it is away; it is not part of the claim.
        for at in 0..weights.len() {
            prop_assert!((given[at] - due[at]).abs() <= 4.0, "{given:?} {due:?}");
        }
    }
}
