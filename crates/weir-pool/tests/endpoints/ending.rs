//! Nothing is left behind: cancelled callers, closed pools, settings that contradict each other.

use std::time::Duration;

use weir_pool::{Builder, EndpointPools, EndpointsBuilder, OutlierParams, Pool, Refused};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_cancelled_caller_leaves_nothing_behind() {
    let net = Net::default();
    let pools = net.pools(|b| b.max_size(2), |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let held = (pools.acquire().await.unwrap(), pools.acquire().await.unwrap());
    for round in 0..40 {
        let caller = {
            let pools = pools.clone();
            tokio::spawn(async move { drop(pools.acquire().await) })
        };
        pass(ms(1)).await;
        if round % 4 == 0 {
            pools.eject(&address(1 + round % 8 / 4), ms(3));
        }
        caller.abort();
        let _ = caller.await;
    }
    let loads = |pools: &EndpointPools<Client>| pools.snapshot().endpoints.iter().map(|e| e.in_flight).sum::<u32>();
    assert_eq!(loads(&pools), 2);
    drop(held);
    assert_eq!(loads(&pools), 0);
    up(&pools, 2).await;
    assert_eq!(pools.snapshot().endpoints.iter().map(|e| e.pool.pending).sum::<u32>(), 0);
    let again = (pools.acquire().await.unwrap(), pools.acquire().await.unwrap());
    assert_ne!(port(&again.0), port(&again.1));
}

#[tokio::test(start_paused = true)]
async fn closing_refuses_waits_and_says_what_is_left() {
    let net = Net::default();
    let pools = net.pools(|b| b.max_size(2), |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let held = (pools.acquire().await.unwrap(), pools.acquire().await.unwrap());
    let waiting = {
        let pools = pools.clone();
        tokio::spawn(async move { pools.acquire().await.unwrap_err().refused() })
    };
    pass(ms(10)).await;
    let left = pools.close(ms(100)).await.unwrap_err();
    assert_eq!((left.size(), left.closed), (2, true));
    assert_eq!(waiting.await.unwrap(), Refused::Closed);
    assert_eq!(pools.acquire().await.unwrap_err().refused(), Refused::Closed);
    drop(held);
    pools.close(Duration::from_secs(1)).await.unwrap();
    assert_eq!(net.server(1).open() + net.server(2).open(), 0);

    // The last handle closes too.
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints(vec![endpoint(1, 1)]).unwrap();
    up(&pools, 1).await;
    let held = pools.acquire().await.unwrap();
    drop(pools);
    pass(ms(10)).await;
    assert_eq!(net.server(1).open(), 1, "in use");
    drop(held);
    eventually("all is closed", || net.server(1).open() == 0).await;
}

fn outliers(consecutive_failures: u32, max_ejected: f64) -> OutlierParams {
    OutlierParams { consecutive_failures, max_ejected, ..OutlierParams::default() }
}

#[tokio::test(start_paused = true)]
async fn contradictions_are_refused() {
    let build = |pool: Builder, settings: fn(EndpointsBuilder) -> EndpointsBuilder| {
        let net = Net::default();
        let built = settings(EndpointPools::<Client>::builder(pool)).build(move |_| Client(net.server(1)));
        built.map(drop).unwrap_err().to_string()
    };
    let pool = || Pool::<Client>::builder().max_size(10);
    for (refused, why) in [
        (build(pool().min_idle(0), |b| b), "min_idle: 0"),
        (build(pool().min_idle(4), |b| b.max_per_endpoint(3)), "max_per_endpoint: 3 is less than min_idle (4)"),
        (build(pool(), |b| b.panic_threshold(1.5)), "panic_threshold: 1.5"),
        (build(pool(), |b| b.warm_up_max(Duration::ZERO)), "warm_up_max: 0ns"),
        (build(pool(), |b| b.outliers(outliers(0, 0.5))), "outliers: consecutive_failures: 0"),
        (build(pool(), |b| b.outliers(outliers(5, 2.0))), "outliers: max_ejected: 2"),
        (build(pool().max_size(0), |b| b), "max_size: 0"),
    ] {
        assert!(refused.starts_with(why), "{refused}");
    }
}
