//! The same seed gives the same run, event by event: otherwise no failure could be played again.

use std::time::Duration;

use weir_sim::{Habits, Manners, Misdeed, Sim, for_each_seed};

fn play(seed: u64) -> (u64, usize) {
    let mut sim = Sim::rough(seed);
    let manners = Manners {
        misdeed_permille: 50,
        misdeeds: vec![Misdeed::ResetBefore, Misdeed::Truncated],
        closes_after: Some(1..=20),
        ..Manners::default()
    };
    let orders = sim.service("orders", 3, &manners);
    let text = format!(
        "[[listener]]\nbind = \"192.0.2.1:80\"\ncluster = \"orders\"\n\
         [cluster.orders]\nendpoints = {}\nbalance = \"power_of_two\"\npool = {{ max_connections = 3 }}\n\
         health = {{ interval = \"300ms\", fast_interval = \"100ms\", timeout = \"200ms\" }}",
        sim.endpoints(orders)
    );
    sim.weir(3, &text);
    sim.clients(2, &Habits { abort_permille: 20, ..Habits::default() });
    sim.play(Duration::from_millis(300));
    sim.kill(orders, 0);
    sim.play_to_the_end(Duration::from_mins(10));
    sim.check();
    let requests = sim.book().requests();
    (sim.trace_hash(), requests)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for_each_seed("the_same_seed_gives_the_same_run", 8, |seed| {
        let (first, second) = (play(seed), play(seed));
        assert_eq!(first, second);
        assert!(first.1 >= 80, "only {} requests", first.1);
        assert_ne!(first.0, play(seed + 1_000_000).0, "another seed gives another run");
    });
}
