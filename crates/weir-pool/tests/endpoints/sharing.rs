//! One total: it follows the weights, and is never exceeded whatever changes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_weight_moves_connections_and_traffic_never_above_the_total() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let load = Load::start(&pools, 36, ms(20));
    eventually("six each", || (net.server(1).open(), net.server(2).open()) == (6, 6)).await;
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 3)]).unwrap();
    eventually("as they weigh", || (net.server(1).open(), net.server(2).open()) == (3, 9)).await;
    let before = (net.server(1).uses(), net.server(2).uses());
    pass(Duration::from_secs(5)).await;
    let (first, second) = (net.server(1).uses() - before.0, net.server(2).uses() - before.1);
    let ratio = f64::from(second) / f64::from(first);
    assert!((2.7..=3.3).contains(&ratio), "{first} to {second}");
    pools.resize(4).unwrap();
    eventually("fewer in all", || (net.server(1).open(), net.server(2).open()) == (1, 3)).await;
    pools.set_endpoints(vec![endpoint(2, 3)]).unwrap();
    eventually("it is gone", || pools.snapshot().endpoints.len() == 1 && net.server(1).open() == 0).await;
    assert_eq!(load.failed(), 0);
    assert!(net.most_open() <= 12, "{}", net.most_open());
    assert_eq!(pools.resize(0).unwrap_err().setting(), "max_size");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_changes_loses_nobody_and_never_exceeds_the_total() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b.max_per_endpoint(6));
    pools.set_endpoints((1..=4).map(|port| endpoint(port, 1)).collect()).unwrap();
    up(&pools, 4).await;
    let load = Load::start(&pools, 50, ms(7));
    let mut draw = 1_u64;
    for round in 0..400_u64 {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let port = 1 + (draw >> 33) as u16 % 4;
        match (draw >> 40) % 4 {
            0 => drop(pools.eject(&address(port), ms(5 + (draw >> 50) % 60))),
            1 => drop(pools.restore(&address(port))),
            2 => {
                let weight = 1 + (draw >> 45) as u16 % 5;
                let list = (1..=4).filter(|other| *other != port || draw >> 60 > 4);
                let list = list.map(|other| endpoint(other, if other == port { weight } else { 2 }));
                pools.set_endpoints(list.collect()).unwrap();
            }
            _ => {}
        }
        pass(ms(1 + round % 13)).await;
        assert!(net.most_open() <= 12, "{} connections", net.most_open());
    }
    assert_eq!(load.failed(), 0);
    let served = load.served.load(Ordering::SeqCst);
    pass(ms(500)).await;
    assert!(load.served.load(Ordering::SeqCst) > served + 200, "everybody is still at it");
    drop(load);
    for port in 1..=4 {
        pools.restore(&address(port));
    }
    pools.set_endpoints((1..=4).map(|port| endpoint(port, 1)).collect()).unwrap();
    eventually("back to equal shares", || {
        pools.snapshot().endpoints.len() == 4 && (1..=4).all(|port| seen(&pools, port).pool.max_size == 3)
    })
    .await;
    assert_eq!(pools.snapshot().endpoints.iter().map(|e| e.in_flight + e.pool.pending).sum::<u32>(), 0);
    pools.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!((1..=4).map(|port| net.server(port).open()).sum::<u32>(), 0);
}
