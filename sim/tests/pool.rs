//! Limits per endpoint over several workers: places, connections, queues, connections that move between workers.

use std::time::Duration;

use weir_core::Reason;
use weir_net::mem::{Fault, NetConfig, Pieces};
use weir_sim::{Habits, Manners, Sim, for_each_seed};

const MOMENT: Duration = Duration::from_millis(1);

/// Many impatient connections before few places.
fn crowd() -> Habits {
    Habits { connections: 8, requests: 60, think: Duration::ZERO..=Duration::from_millis(3), ..Habits::default() }
}

#[test]
fn places_are_never_more_than_allowed() {
    for_each_seed("places_are_never_more_than_allowed", 16, |seed| {
        let mut sim = Sim::rough(seed);
        let orders = sim.service("orders", 2, &Manners::default());
        let text = format!(
            r#"
            {}
            [cluster.orders.health]
            enabled = false
            [cluster.orders.limit]
            max_requests = {}
            queue_timeout = "30s"
            "#,
            sim.front_of(orders),
            1 + seed % 3
        );
        sim.weir(1 + seed as usize % 4, &text);
        sim.clients(2, &crowd());
        sim.play_to_the_end(Duration::from_mins(10));
        sim.check();
        sim.check_all_served();
        sim.check_in_flight(1 + seed as u32 % 3);
    });
}

#[test]
fn connections_move_between_workers() {
    for_each_seed("connections_move_between_workers", 32, |seed| {
        let mut sim = Sim::rough(seed);
        let manners = Manners {
            closes_after: (seed % 2 == 0).then_some(3..=12),
            announces_close: seed % 4 == 0,
            ..Manners::default()
        };
        let orders = sim.service("orders", 1 + seed as usize % 2, &manners);
        let text = format!(
            r#"
            {}
            health = {{ enabled = false }}
            outlier = {{ enabled = false }}
            pool = {{ max_connections = {} }}
            retry = {{ attempts = 10, min_per_second = 100000 }}
            limit = {{ queue_timeout = "30s" }}
            "#,
            sim.front_of(orders),
            1 + seed % 3
        );
        sim.weir(2 + seed as usize % 3, &text);
        sim.clients(2, &Habits { post_permille: if seed % 2 == 0 { 0 } else { 250 }, ..crowd() });
        sim.play_to_the_end(Duration::from_mins(10));
        sim.check();
        sim.check_all_served();
    });
}

/// Guards against places that are granted to somebody who has just left, connections on their way to such a one, and debts
/// to him: each must go on to the next who waits. Without that a place less is there each time, until nobody is served.
#[test]
fn who_leaves_the_line_takes_no_place_along() {
    for_each_seed("who_leaves_the_line_takes_no_place_along", 16, |seed| {
        let mut sim = Sim::rough(seed);
        let manners = Manners { closes_after: (seed % 3 == 0).then_some(1..=4), ..Manners::default() };
        let orders = sim.service("orders", 1, &manners);
        let text = format!(
            r#"
            {}
            health = {{ enabled = false }}
            outlier = {{ enabled = false }}
            pool = {{ max_connections = {} }}
            limit = {{ max_requests = {}, queue_timeout = "{}ms" }}
            "#,
            sim.front_of(orders),
            1 + seed % 2,
            1 + seed % 2,
            // About as long as it takes to be served: time-outs and grants cross.
            [5, 10, 20, 40][seed as usize % 4]
        );
        sim.weir(2 + seed as usize % 7, &text);
        sim.clients(2, &Habits { abort_permille: 300, requests: 150, ..crowd() });
        sim.play_to_the_end(Duration::from_mins(10));
        sim.check();
        sim.check_reasons(&[Reason::PoolWaitTimeout, Reason::UpstreamReset, Reason::UpstreamClosed]);
    });
}

/// Guards against connections that hold a place and serve nobody: those opened ahead of demand by one worker while another
/// one waits, and those too old to be used again that have not been closed yet. Nobody waits for housekeeping.
#[test]
fn idle_connections_elsewhere_keep_nobody_waiting() {
    for_each_seed("idle_connections_elsewhere_keep_nobody_waiting", 16, |seed| {
        // No request is longer than a window: what takes time is the wait.
        let net = NetConfig { window: 65_536..=65_536, pieces: Pieces::Whole, ..NetConfig::rough(seed) };
        let mut sim = Sim::new(seed, net);
        // Two connections at most, and never more than two requests.
        let is_warm = seed % 2 == 0;
        let manners = Manners {
            closes_after: is_warm.then_some(1..=1),
            service_time: if is_warm { Duration::from_secs(1)..=Duration::from_secs(2) } else { MOMENT..=5 * MOMENT },
            ..Manners::default()
        };
        let orders = sim.service("orders", 1, &manners);
        let pool = if is_warm { "min_idle = 2" } else { "idle_timeout = \"5ms\"" };
        let text = format!(
            r#"
            {}
            health = {{ enabled = false }}
            outlier = {{ enabled = false }}
            pool = {{ max_connections = 2, {pool} }}
            retry = {{ attempts = 10, min_per_second = 100000 }}
            limit = {{ queue_timeout = "30s" }}
            "#,
            sim.front_of(orders),
        );
        sim.weir(3 + seed as usize % 4, &text);
        let think = Duration::ZERO..=Duration::from_millis(300);
        sim.clients(2, &Habits { connections: 1, requests: 100, post_permille: 0, think, ..Habits::default() });
        sim.play_to_the_end(Duration::from_mins(10));
        sim.check();
        sim.check_all_served();
        sim.check_reached_within(Duration::from_millis(400));
    });
}

#[test]
fn who_comes_first_is_served_first() {
    for_each_seed("who_comes_first_is_served_first", 12, |seed| {
        let mut sim = Sim::new(seed, NetConfig::calm());
        let slow =
            Manners { service_time: Duration::from_millis(10)..=Duration::from_millis(20), ..Manners::default() };
        let orders = sim.service("orders", 1, &slow);
        let places = 1 + seed % 3;
        let text = format!(
            r#"
            {}
            health = {{ enabled = false }}
            pool = {{ max_connections = {} }}
            limit = {{ max_requests = {places}, queue_timeout = "30s" }}
            "#,
            sim.front_of(orders),
            if seed % 2 == 0 { places } else { 100 },
        );
        sim.weir(1 + seed as usize % 4, &text);
        sim.clients(2, &crowd());
        sim.play_to_the_end(Duration::from_mins(10));
        sim.check();
        sim.check_all_served();
        sim.check_first_come_first_served(Duration::from_millis(3));
    });
}

#[test]
fn waits_end_in_time() {
    for_each_seed("waits_end_in_time", 16, |seed| {
        let mut sim = Sim::rough(seed);
        let slow =
            Manners { service_time: Duration::from_millis(50)..=Duration::from_millis(400), ..Manners::default() };
        let orders = sim.service("orders", 1, &slow);
        let limit = if seed % 2 == 0 { "limit" } else { "pool" };
        let text = format!(
            r#"
            {}
            health = {{ enabled = false }}
            outlier = {{ enabled = false }}
            pool = {{ max_connections = {} }}
            limit = {{ max_requests = {}, queue = {}, queue_timeout = "600ms" }}
            "#,
            sim.front_of(orders),
            if limit == "pool" { 2 } else { 100 },
            if limit == "pool" { 100 } else { 2 },
            2 + seed % 20
        );
        sim.weir(1 + seed as usize % 3, &text);
        sim.clients(2, &crowd());
        sim.play_to_the_end(Duration::from_mins(10));
        sim.check();
        sim.check_reasons(&[Reason::PoolQueueFull, Reason::PoolWaitTimeout]);
        sim.check_duration_of(Reason::PoolWaitTimeout, Duration::from_millis(600)..=Duration::from_millis(800));
    });
}

#[test]
fn waiting_for_a_place_and_then_for_a_connection_is_one_wait() {
    for_each_seed("waiting_for_a_place_and_then_for_a_connection_is_one_wait", 12, |seed| {
        let mut sim = Sim::rough(seed);
        let orders = sim.service("orders", 1, &Manners::default());
        let text = format!(
            r#"
            {}
            health = {{ enabled = false }}
            outlier = {{ enabled = false }}
            timeouts = {{ connect = "10s" }}
            pool = {{ max_connections = 2 }}
            limit = {{ queue_timeout = "600ms" }}
            "#,
            sim.front_of(orders)
        );
        sim.weir(1 + seed as usize % 3, &text);
        // Who has a place and leaves gives it to the next, but its connect goes on: there is no connection for that one.
        let _hole = sim.break_connects(orders, 0, Fault::BlackholeConnect, 1_000);
        let impatient = Habits { post_permille: 0, abort_permille: 200, ..crowd() };
        sim.clients(2, &impatient);
        sim.play_to_the_end(Duration::from_mins(10));
        sim.play(Duration::from_secs(20));
        sim.check();
        sim.check_reasons(&[Reason::PoolWaitTimeout, Reason::ConnectTimeout]);
        sim.check_duration_of(Reason::PoolWaitTimeout, Duration::from_millis(600)..=Duration::from_millis(800));
    });
}

#[test]
fn slow_readers_hold_the_flow_back() {
    for_each_seed("slow_readers_hold_the_flow_back", 12, |seed| {
        let window = 8_192..=16_384;
        let net = NetConfig { window, pieces: Pieces::Mixed, ..NetConfig::rough(seed) };
        let mut sim = Sim::new(seed, net);
        let manners = Manners { body_max: 1_000_000, ..Manners::default() };
        let films = sim.service("films", 2, &manners);
        let text = format!(
            r#"
            [[listener]]
            bind = "192.0.2.1:80"
            cluster = "films"
            [cluster.films]
            endpoints = {}
            health = {{ enabled = false }}
            "#,
            sim.endpoints(films)
        );
        sim.weir(2, &text);
        let slow = Habits {
            connections: 3,
            requests: 10,
            slow_reader_permille: 1_000,
            body_max: 1_000_000,
            ..Habits::default()
        };
        sim.clients(1, &slow);
        sim.play_to_the_end(Duration::from_mins(20));
        sim.check();
        sim.check_all_served();
    });
}
