//! The life of a request through the whole of Weir, on rough networks.

use std::time::Duration;

use weir_sim::{Habits, Manners, Sim, for_each_seed};

#[test]
fn life_of_a_request() {
    for_each_seed("life_of_a_request", 32, |seed| {
        let mut sim = Sim::rough(seed);
        let manners = Manners {
            body_max: if seed % 4 == 0 { 300_000 } else { 20_000 },
            interim_permille: 100,
            early_permille: 0,
            until_close_permille: 50,
            closes_after: (seed % 3 == 0).then_some(2..=9),
            ..Manners::default()
        };
        let orders = sim.service("orders", 3, &manners);
        let text = format!(
            r"
            {}
            [cluster.orders.health]
            enabled = false
            ",
            sim.front_of(orders)
        );
        sim.weir(1 + seed as usize % 3, &text);
        let habits = Habits {
            pipelined_permille: 100,
            slow_reader_permille: 50,
            dribble_permille: 50,
            body_max: if seed % 5 == 0 { 600_000 } else { 20_000 },
            ..Habits::default()
        };
        sim.clients(2, &habits);
        sim.play_to_the_end(Duration::from_mins(10));
        sim.check();
        sim.check_all_served();
    });
}
