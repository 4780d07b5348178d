//! Members, a grantor and a network between them, in virtual time: whatever is lost, late, doubled, cut off or killed, all members
//! together never have more than the total.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod world;

use std::time::Duration;

use world::{Chaos, World};

const LEASE: Duration = Duration::from_secs(10);

/// Seeds of the simulation.
const SEEDS: u64 = 100;

#[test]
fn the_sum_never_exceeds_the_total() {
    let mut seen = world::Seen::default();
    for seed in 0..SEEDS {
        let mut world = World::new(seed, Chaos::ALL);
        for _ in 0..240 * 50 {
            world.step();
            assert!(world.sum() <= world::TOTAL, "seed {seed}: {}", world.explain());
        }
        // When all is well again, all of it is used again.
        world.calm();
        world.run(Duration::from_secs(60 + 10 + 5));
        // One connection or another may be on its way from one to the other at any time.
        let all = (0..5 * 50).any(|_| {
            world.step();
            assert!(world.sum() <= world::TOTAL, "seed {seed}: {}", world.explain());
            world.granted() == world::TOTAL
        });
        assert!(all, "seed {seed}: {}", world.explain());
        seen.add(&world.seen);
    }
    // The simulation has been where it hurts.
    for (what, count) in seen.rows() {
        assert!(count >= SEEDS, "{what}: {count}");
    }
}

/// The simulation finds what breaks the rules: a network that refuses in place of a grantor that runs.
#[test]
fn a_false_proof_is_found_out() {
    let broken = (0..SEEDS).any(|seed| {
        let mut world = World::new(seed, Chaos { lying_refusals: true, ..Chaos::ALL });
        (0..240 * 50).any(|_| {
            world.step();
            world.sum() > world::TOTAL
        })
    });
    assert!(broken);
}

/// And uses that last longer than half a lease, across a partition.
#[test]
fn uses_that_outlast_the_lease_are_found_out() {
    let broken = (0..SEEDS).any(|seed| {
        let mut world = World::new(seed, Chaos { long_uses: true, ..Chaos::ALL });
        (0..240 * 50).any(|_| {
            world.step();
            world.sum() > world::TOTAL
        })
    });
    assert!(broken);
}

#[test]
fn shares_follow_the_load_within_ten_seconds() {
    for seed in 0..10 {
        let mut world = World::with_loads(seed, Chaos::NONE, &[8, 24]);
        world.run(Duration::from_secs(80));
        let shares = world.shares();
        assert!((10..=14).contains(&shares[0]) && shares[0] + shares[1] == world::TOTAL, "{shares:?}");
        world.set_loads(&[24, 8]);
        world.run(Duration::from_secs(10));
        let shares = world.shares();
        assert!((10..=14).contains(&shares[1]) && shares[0] + shares[1] == world::TOTAL, "{shares:?}");
    }
}

#[test]
fn what_a_departed_or_killed_member_had_comes_back() {
    for gently in [true, false] {
        let mut world = World::with_loads(7, Chaos::NONE, &[30, 30]);
        world.run(Duration::from_secs(80));
        assert_eq!(world.shares(), [20, 20]);
        if gently {
            world.leave(0);
            world.run(Duration::from_secs(6));
            assert_eq!(world.shares(), [40]);
        } else {
            world.kill(0);
            world.run(LEASE + Duration::from_secs(3));
            assert_eq!(world.shares(), [39], "its floor is kept");
            world.run(6 * LEASE);
            assert_eq!(world.shares(), [40]);
        }
    }
}

#[test]
fn a_grantor_that_is_away_takes_nothing_and_one_that_is_back_takes_nothing() {
    let mut world = World::with_loads(3, Chaos::NONE, &[10, 30]);
    world.run(Duration::from_secs(80));
    let shares = world.shares();
    world.kill_grantor();
    world.run(Duration::from_mins(5));
    assert_eq!(world.shares(), shares);
    world.start_grantor();
    for _ in 0..30 {
        world.run(Duration::from_secs(1));
        let now = world.shares();
        assert!(now.iter().zip(&shares).all(|(now, before)| now.abs_diff(*before) <= 2), "{now:?} {shares:?}");
        assert_eq!(now.iter().sum::<u32>(), world::TOTAL);
    }
}

#[test]
fn a_member_that_is_cut_off_falls_back_to_its_floor_and_the_others_get_the_rest() {
    let mut world = World::with_loads(5, Chaos::NONE, &[30, 30]);
    world.run(Duration::from_secs(80));
    world.cut_off(0, true);
    world.run(LEASE + Duration::from_secs(3));
    assert_eq!(world.shares(), [1, 39]);
    world.run(6 * LEASE);
    assert_eq!(world.shares(), [0, 40]);
    world.cut_off(0, false);
    world.run(Duration::from_secs(10));
    assert_eq!(world.shares(), [20, 20]);
}
