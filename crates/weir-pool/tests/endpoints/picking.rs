//! Who goes where.

use std::time::Duration;

use tokio::time::Instant;
use weir_pool::{Algorithm, BalanceParams, Endpoint, Refused};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn any_algorithm_picks_and_a_key_stays_where_it_is() {
    for row in weir_balance_rows() {
        let net = Net::default();
        let params = BalanceParams { algorithm: row, ..BalanceParams::default() };
        let pools = net.pools(|b| b, |b| b.balance(params));
        pools.set_endpoints((1..=3).map(|port| endpoint(port, 1)).collect()).unwrap();
        up(&pools, 3).await;
        for key in 0..60 {
            drop(pools.acquire_for(weir_balance::hash_key(&[key])).await.unwrap());
        }
        for port in 1..=3 {
            assert!(net.server(port).uses() > 2, "{row:?}: {} uses of {port}", net.server(port).uses());
        }
        if matches!(row, Algorithm::Maglev | Algorithm::RingHash | Algorithm::IpHash) {
            let first = port(&pools.acquire_for(7).await.unwrap());
            for _ in 0..20 {
                assert_eq!(port(&pools.acquire_for(7).await.unwrap()), first, "{row:?}");
            }
            pools.eject(&address(first), Duration::from_mins(1));
            assert_ne!(port(&pools.acquire_for(7).await.unwrap()), first);
        }
    }
}

fn weir_balance_rows() -> Vec<Algorithm> {
    weir_balance::ALGORITHMS.iter().map(|row| row.algorithm).collect()
}

#[tokio::test(start_paused = true)]
async fn tags_tell_a_primary_from_its_replicas() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    let tagged = |port, role: &str| {
        let mut endpoint = endpoint(port, 1);
        endpoint.tags.insert("role".into(), role.into());
        endpoint
    };
    pools.set_endpoints(vec![tagged(1, "primary"), tagged(2, "replica"), tagged(3, "replica")]).unwrap();
    up(&pools, 3).await;
    let is =
        |role: &'static str| move |endpoint: &Endpoint| endpoint.tags.get("role").is_some_and(|tag| &**tag == role);
    let mut guards = Vec::new();
    for _ in 0..4 {
        guards.push(pools.acquire_where(is("replica")).await.unwrap());
    }
    let at = |port_| guards.iter().filter(|guard| port(guard) == port_).count();
    assert_eq!((at(1), at(2), at(3)), (0, 2, 2), "the lighter one each time");
    assert_eq!(port(&pools.acquire_where(is("primary")).await.unwrap()), 1);
    let begun = Instant::now();
    assert_eq!(pools.acquire_where(is("witness")).await.unwrap_err().refused(), Refused::TimedOut);
    assert!(begun.elapsed() >= ms(3_000));
}

#[tokio::test(start_paused = true)]
async fn if_one_line_is_full_another_is_tried() {
    let net = Net::default();
    let round_robin = BalanceParams { algorithm: Algorithm::RoundRobin, ..BalanceParams::default() };
    let pools = net.pools(|b| b.max_size(2).waiters_max(1), |b| b.balance(round_robin));
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let held = (pools.acquire().await.unwrap(), pools.acquire().await.unwrap());
    let first = {
        let pools = pools.clone();
        tokio::spawn(async move { pools.acquire_where(|endpoint| endpoint.address == address(1)).await.is_ok() })
    };
    eventually("one waits", || seen(&pools, 1).pool.pending == 1).await;
    let second = {
        let pools = pools.clone();
        // Whoever's turn it is: there is room at one of them only.
        tokio::spawn(async move { pools.acquire().await.is_ok() })
    };
    eventually("another waits", || seen(&pools, 2).pool.pending == 1).await;
    let error = pools.acquire().await.unwrap_err();
    assert_eq!(error.refused(), Refused::LineFull, "{error}");
    drop(held);
    assert!(first.await.unwrap() && second.await.unwrap());
}
