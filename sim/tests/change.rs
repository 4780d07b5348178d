//! Weir changes while it works: it is drained, its endpoints are replaced.

use std::time::Duration;

use weir_core::Reason;
use weir_sim::{Habits, Manners, Sim, for_each_seed};

#[test]
fn a_drain_finishes_what_is_in_flight() {
    for_each_seed("a_drain_finishes_what_is_in_flight", 16, |seed| {
        let mut sim = Sim::rough(seed);
        let manners = Manners {
            service_time: Duration::from_millis(1)..=Duration::from_millis(300),
            body_max: if seed % 2 == 0 { 200_000 } else { 5_000 },
            ..Manners::default()
        };
        let orders = sim.service("orders", 2, &manners);
        let text = format!(
            "[[listener]]\nbind = \"192.0.2.1:80\"\ncluster = \"orders\"\n[listener.timeouts]\nhead = \"2s\"\n\
             [cluster.orders]\nendpoints = {}\nhealth = {{ enabled = false }}",
            sim.endpoints(orders)
        );
        sim.weir(1 + seed as usize % 3, &text);
        let habits = Habits { requests: 100_000, slow_reader_permille: 200, body_max: 100_000, ..Habits::default() };
        sim.clients(2, &habits);
        sim.play(Duration::from_millis(300 + seed * 7));
        let in_flight = sim.in_flight();
        sim.drain();
        sim.play(Duration::from_secs(20));
        assert_eq!(sim.workers_running(), 0, "every worker has stopped");
        sim.check_finished(&in_flight);
        sim.retire_clients();
        sim.play_to_the_end(Duration::from_mins(10));
        sim.check();
    });
}

#[test]
fn workers_that_stop_take_no_place_with_them() {
    for_each_seed("workers_that_stop_take_no_place_with_them", 24, |seed| {
        let mut sim = Sim::rough(seed);
        let manners = Manners { service_time: Duration::ZERO..=Duration::from_millis(2), ..Manners::default() };
        let orders = sim.service("orders", 1 + seed as usize % 2, &manners);
        let text = format!(
            "[[listener]]\nbind = \"192.0.2.1:80\"\ncluster = \"orders\"\n[listener.timeouts]\nhead = \"2s\"\n\
             [cluster.orders]\nendpoints = {}\nhealth = {{ enabled = false }}\noutlier = {{ enabled = false }}\n\
             pool = {{ max_connections = {} }}\nlimit = {{ queue_timeout = \"20s\" }}",
            sim.endpoints(orders),
            1 + seed % 3
        );
        sim.weir(3 + seed as usize % 3, &text);
        let think = Duration::ZERO..=Duration::from_millis(3);
        sim.clients(2, &Habits { requests: 100_000, connections: 12, think, ..Habits::default() });
        sim.play(Duration::from_millis(200 + seed * 7));
        // Clients leave while a place or a connection is on its way to a worker, which then has nothing to stay for.
        sim.drain();
        sim.play(Duration::from_millis(1 + seed % 5));
        sim.hang_up();
        sim.play(Duration::from_secs(20));
        assert_eq!(sim.workers_running(), 0, "every worker has stopped");
        sim.check();
    });
}

#[test]
fn endpoints_are_replaced_under_load() {
    for_each_seed("endpoints_are_replaced_under_load", 16, |seed| {
        let mut sim = Sim::rough(seed);
        let orders = sim.service("orders", 5, &Manners::default());
        let limits = match seed % 3 {
            0 => "",
            1 => "limit = { max_requests = 2, queue_timeout = \"20s\" }",
            _ => "pool = { max_connections = 2 }\nlimit = { queue_timeout = \"20s\" }",
        };
        let text = format!(
            "[[listener]]\nbind = \"192.0.2.1:80\"\ncluster = \"orders\"\n\
             [cluster.orders]\nendpoints = {}\nhealth = {{ enabled = false }}\n{limits}",
            sim.endpoints(orders)
        );
        sim.weir(1 + seed as usize % 3, &text);
        sim.clients(2, &Habits { requests: 150, connections: 6, ..Habits::default() });
        for round in 0..6 {
            sim.play(Duration::from_millis(100 + 13 * seed));
            let first = ((seed + round) % 5) as usize;
            sim.reconfigure(0, orders, &[first, (first + 1) % 5, (first + 2) % 5]);
        }
        sim.play_to_the_end(Duration::from_mins(10));
        sim.check();
        sim.check_reasons(&[Reason::PoolWaitTimeout]);
        sim.check_all_served();
        sim.check_excluded(0, Duration::from_secs(25));
    });
}

/// Guards against messages about an endpoint that has left: a place granted there, a connection on its way to another
/// worker, the room that a closed one makes. Requests that went there before still need all of these.
#[test]
fn endpoints_leave_while_their_connections_move() {
    for_each_seed("endpoints_leave_while_their_connections_move", 16, |seed| {
        let mut sim = Sim::rough(seed);
        let manners = Manners { closes_after: (seed % 4 == 0).then_some(1..=6), ..Manners::default() };
        let orders = sim.service("orders", 3, &manners);
        let text = format!(
            "[[listener]]\nbind = \"192.0.2.1:80\"\ncluster = \"orders\"\n\
             [cluster.orders]\nendpoints = {}\nhealth = {{ enabled = false }}\noutlier = {{ enabled = false }}\n\
             retry = {{ attempts = 10, min_per_second = 100000 }}\n\
             pool = {{ max_connections = {} }}\nlimit = {{ queue_timeout = \"20s\" }}",
            sim.endpoints(orders),
            1 + seed % 3
        );
        sim.weir(3 + seed as usize % 6, &text);
        let think = Duration::ZERO..=Duration::from_millis(3);
        let abort_permille = if seed % 2 == 0 { 0 } else { 200 };
        sim.clients(
            3,
            &Habits { requests: 150, connections: 8, think, post_permille: 0, abort_permille, ..Habits::default() },
        );
        for round in 0..60 {
            sim.play(Duration::from_micros(500 + 1_300 * (seed + round) % 9_000));
            let first = ((seed + round) % 3) as usize;
            sim.reconfigure(0, orders, &[first, (first + 1) % 3][..=round as usize % 2]);
        }
        sim.play_to_the_end(Duration::from_mins(10));
        sim.check();
        sim.check_all_served();
    });
}
