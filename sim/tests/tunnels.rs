//! Bytes both ways: after an upgrade, and on TCP listeners.

use std::time::Duration;

use weir_net::IoFault;
use weir_net::mem::Fault;
use weir_sim::{Manners, Sim, TunnelEnd, Tunnels, for_each_seed};

fn world(seed: u64) -> (Sim, weir_sim::Service) {
    let mut sim = Sim::rough(seed);
    let echo = sim.service("echo", 3, &Manners::default());
    let text = format!(
        r#"
        [[listener]]
        name = "http"
        bind = "192.0.2.1:80"
        cluster = "echo"
        [[listener]]
        name = "tcp"
        protocol = "tcp"
        bind = "192.0.2.1:81"
        cluster = "bytes"
        [cluster.echo]
        endpoints = {}
        health = {{ enabled = false }}
        timeouts = {{ tunnel_idle = "20s" }}
        [cluster.bytes]
        endpoints = {}
        health = {{ enabled = false }}
        timeouts = {{ tunnel_idle = "20s", connect = "500ms" }}
        "#,
        sim.endpoints(echo),
        sim.echo_endpoints(echo)
    );
    sim.weir(1 + seed as usize % 3, &text);
    (sim, echo)
}

fn both_ways(sim: &mut Sim, abort_permille: u64) {
    for upgrade in [false, true] {
        sim.tunnels(&Tunnels { upgrade, connections: 4, count: 16, bytes_max: 200_000, abort_permille });
    }
}

#[test]
fn tunnels_carry_every_byte_both_ways() {
    for_each_seed("tunnels_carry_every_byte_both_ways", 16, |seed| {
        let (mut sim, _) = world(seed);
        both_ways(&mut sim, 0);
        sim.play_to_the_end(Duration::from_mins(30));
        sim.check();
        let ends = sim.tunnel_ends();
        assert!(ends.iter().all(|end| *end == TunnelEnd::Whole), "{ends:?}");
    });
}

#[test]
fn a_tunnel_that_lost_bytes_does_not_end_as_if_it_were_whole() {
    for_each_seed("a_tunnel_that_lost_bytes_does_not_end_as_if_it_were_whole", 24, |seed| {
        let (mut sim, echo) = world(seed);
        both_ways(&mut sim, 20);
        let _resets = sim.break_network(echo, 0, Fault::ResetAfterBytes(0..=200_000), 500);
        let _refused = sim.break_connects(echo, 1, Fault::FailConnect(IoFault::Refused), 500);
        sim.play_to_the_end(Duration::from_mins(30));
        sim.check();
        let ends = sim.tunnel_ends();
        assert!(!ends.contains(&TunnelEnd::Short), "{ends:?}");
        assert!(ends.contains(&TunnelEnd::Whole), "{ends:?}");
    });
}
