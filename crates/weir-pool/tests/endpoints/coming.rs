//! Endpoints come, cannot be reached, die and come back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use weir_pool::{Refused, Standing};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn callers_before_the_first_connection_wait_for_it() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    let caller = {
        let pools = pools.clone();
        tokio::spawn(async move { pools.acquire().await.map(|guard| port(&guard)) })
    };
    pass(ms(100)).await;
    net.server(1).connect_ms.store(50, Ordering::SeqCst);
    let begun = Instant::now();
    pools.set_endpoints(vec![endpoint(1, 1)]).unwrap();
    assert_eq!(caller.await.unwrap().unwrap(), 1);
    assert!(begun.elapsed() <= ms(60), "{:?}", begun.elapsed());
    let twice = pools.set_endpoints(vec![endpoint(2, 1), endpoint(2, 3)]).unwrap_err();
    assert_eq!(twice.to_string(), "192.0.2.1:2 is in the list twice");
    assert_eq!(pools.snapshot().endpoints.len(), 1, "nothing has changed");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_gets_nobody_before_it_is_warm() {
    let net = Net::default();
    let pools = net.pools(|b| b.min_idle(3), |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let load = Load::start(&pools, 24, ms(20));
    pass(Duration::from_secs(1)).await;
    let newcomer = net.server(3);
    newcomer.connect_ms.store(700, Ordering::SeqCst);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1), endpoint(3, 1)]).unwrap();
    let mut warm_at_first_use = None;
    eventually("it is used", || {
        if newcomer.uses() == 0 {
            warm_at_first_use = Some(newcomer.opened.load(Ordering::SeqCst));
            return false;
        }
        true
    })
    .await;
    assert_eq!(warm_at_first_use, Some(3), "its connections were open before");
    eventually("it has its share", || seen(&pools, 3).pool.max_size == 4).await;
    assert_eq!(load.failed(), 0);
    assert!(net.most_open() <= 12, "{}", net.most_open());
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_cannot_be_reached_never_gets_anybody() {
    for hangs in [false, true] {
        let net = Net::default();
        let pools = net.pools(|b| b, |b| b);
        pools.set_endpoints(vec![endpoint(1, 1)]).unwrap();
        up(&pools, 1).await;
        let load = Load::start(&pools, 24, ms(20));
        net.server(2).refuses.store(true, Ordering::SeqCst);
        net.server(2).hangs.store(hangs, Ordering::SeqCst);
        pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 5)]).unwrap();
        pass(Duration::from_mins(1)).await;
        assert_eq!((net.server(2).uses(), load.failed()), (0, 0));
        let seen = seen(&pools, 2);
        assert!(seen.standing != Standing::Up && seen.in_flight == 0, "{seen}");
        assert_eq!(net.server(1).open(), 11, "the other is short of one place, for trying: {}", pools.snapshot());
        net.server(2).recover();
        net.server(2).hangs.store(false, Ordering::SeqCst);
        eventually("it takes part", || net.server(2).uses() > 100).await;
        assert!(net.most_open() <= 12, "{}", net.most_open());
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_dies_is_left_out_until_a_connect_succeeds() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let load = Load::start(&pools, 24, ms(20));
    pass(Duration::from_secs(1)).await;
    net.server(1).fail();
    eventually("it is out", || seen(&pools, 1).standing == Standing::Down).await;
    let uses = net.server(1).uses();
    pass(Duration::from_secs(20)).await;
    assert_eq!(net.server(1).uses(), uses);
    assert_eq!(load.failed(), 0, "callers were served elsewhere");
    assert!(seen(&pools, 1).pool.failing_for.is_some());
    net.server(1).recover();
    let begun = Instant::now();
    eventually("it is back", || net.server(1).uses() > uses + 10).await;
    assert!(begun.elapsed() <= ms(1_500), "within one step of back-off: {:?}", begun.elapsed());
    assert!(net.most_open() <= 12, "{}", net.most_open());
}

#[tokio::test(start_paused = true)]
async fn if_all_are_away_callers_wait_then_are_refused_with_the_cause() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    drop((pools.acquire().await.unwrap(), pools.acquire().await.unwrap()));
    for port in [1, 2] {
        net.server(port).fail();
    }
    // A short fail-over costs nothing but time.
    let caller = {
        let pools = pools.clone();
        tokio::spawn(async move { pools.acquire().await.map(drop) })
    };
    pass(ms(1_000)).await;
    net.server(2).recover();
    assert!(caller.await.unwrap().is_ok());
    net.server(2).fail();
    let begun = Instant::now();
    let error = pools.acquire().await.unwrap_err();
    assert_eq!(error.refused(), Refused::TimedOut, "{error}");
    assert!(begun.elapsed() <= ms(3_050), "{:?}", begun.elapsed());
    assert_eq!(error.cause().unwrap().0, "connection refused");
    eventually("it is known to be down", || pools.snapshot().down).await;
    let begun = Instant::now();
    let error = pools.acquire().await.unwrap_err();
    assert_eq!((error.refused(), begun.elapsed()), (Refused::Down, Duration::ZERO));
    assert!(error.to_string().contains("connection refused"), "{error}");
    net.server(1).recover();
    eventually("it serves again", || pools.snapshot().usable() == 1).await;
    assert_eq!(port(&pools.acquire().await.unwrap()), 1);
}
