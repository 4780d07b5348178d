//! When a cluster without a usable endpoint says that it may have one again.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_cluster::{Cluster, Output, Settings};
use weir_core::{Address, Endpoint, Instant, Weight};
use weir_health::{ProbeFailure, ProbeId};

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn endpoint(port: u16, weight: u16) -> Endpoint {
    let address = Address::parse(&format!("10.0.0.1:{port}")).unwrap();
    let name = address.to_string().into();
    Endpoint { name, address, weight: Weight::new(weight), zone: None, priority: 0, tags: BTreeMap::default() }
}

fn cluster(health: weir_health::Params) -> Cluster<()> {
    Cluster::new(Settings {
        balance: weir_balance::Params::default(),
        health,
        outlier: weir_resilience::OutlierParams::default(),
        limit: weir_limit::Params::default(),
        max_connections: 10,
        workers: 1,
        panic_threshold: 0.0,
        attach: Box::new(|_| ()),
    })
}

fn probes(cluster: &mut Cluster<()>) -> Vec<ProbeId> {
    let outputs = std::iter::from_fn(|| cluster.poll_output());
    outputs.filter_map(|output| if let Output::StartProbe(id, _) = output { Some(id) } else { None }).collect()
}

#[test]
fn it_is_the_first_of_the_next_probes_that_may_bring_one_back() {
    let health = weir_health::Params {
        interval: secs(20),
        fast_interval: secs(5),
        jitter: 0.0,
        ..weir_health::Params::default()
    };
    let mut cluster = cluster(health);
    assert_eq!(cluster.snapshot().comeback_in(at(0)), None, "no endpoint, no probe");
    // One that never gets traffic brings nobody back.
    cluster.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1), endpoint(3, 0)], at(0), 1);
    assert_eq!(cluster.snapshot().comeback_in(at(0)), None, "they are tried");
    let ids = probes(&mut cluster);
    for (id, second) in ids.iter().zip([0, 1, 1]) {
        cluster.handle_probe_result(*id, Err(ProbeFailure::Refused), at(second));
    }
    // Down; probed again 5 s after the start of the last one; two successes, 5 s apart.
    let snapshot = cluster.snapshot();
    assert_eq!(snapshot.comeback_in(at(2)), Some(secs(8)));
    assert_eq!(snapshot.comeback_in(at(11)), Some(secs(0)), "over");
    cluster.handle_timeout(at(5));
    for id in probes(&mut cluster) {
        let result = if id.endpoint == ids[2].endpoint { Ok(()) } else { Err(ProbeFailure::Refused) };
        cluster.handle_probe_result(id, result, at(5));
    }
    assert!(Arc::ptr_eq(&snapshot, &cluster.snapshot()), "nothing is published for that");
    assert_eq!(snapshot.comeback_in(at(5)), Some(secs(10)));

    for second in [10, 15] {
        cluster.handle_timeout(at(second));
        for id in probes(&mut cluster) {
            cluster.handle_probe_result(id, Ok(()), at(second));
        }
    }
    assert_eq!(cluster.snapshot().comeback_in(at(15)), None, "there is somebody");
}
