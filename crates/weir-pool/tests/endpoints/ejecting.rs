//! An endpoint is ejected: it is empty, its callers go elsewhere, and it comes back.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use weir_pool::{Refused, Standing};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn an_ejected_endpoint_is_empty_within_a_second_and_gets_nobody() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1), endpoint(3, 1)]).unwrap();
    up(&pools, 3).await;
    let load = Load::start(&pools, 24, ms(20));
    pass(Duration::from_secs(2)).await;
    assert!(net.server(1).open() >= 3, "{}", pools.snapshot());
    assert!(pools.eject(&address(1), Duration::from_secs(10)));
    let (begun, uses) = (Instant::now(), net.server(1).uses());
    eventually("it is empty", || net.server(1).open() == 0).await;
    assert!(begun.elapsed() <= ms(1_000), "{:?}", begun.elapsed());
    // The others have its share.
    eventually("the others have grown", || net.server(2).open() + net.server(3).open() == 12).await;
    pass(Duration::from_secs(5)).await;
    assert_eq!(net.server(1).uses(), uses, "no caller since");
    assert_eq!((net.server(1).open(), seen(&pools, 1).standing), (0, Standing::Out));
    assert!(seen(&pools, 1).ejected_for.is_some());
    assert_eq!(load.failed(), 0);
    // Its time is over: it warms up and gets its share back.
    pass(Duration::from_secs(6)).await;
    eventually("it is back", || net.server(1).open() >= 3 && net.server(1).uses() > uses + 100).await;
    assert_eq!((load.failed(), net.most_open() <= 12), (0, true), "{} at once", net.most_open());
    assert!(load.served.load(Ordering::SeqCst) > 3_000);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_within_a_call_and_its_place_is_known() {
    let net = Net::default();
    let pools = net.pools(|b| b.leak_after(Some(ms(200))), |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let line = line!() + 1;
    let seen = pools.with(async |_| {
        let before = (pools.in_use(), pools.leaks().len());
        pass(ms(300)).await;
        (before.0, before.1, pools.leaks().len())
    });
    let (in_use, before, after) = seen.await.unwrap();
    assert_eq!((in_use.len(), in_use[0].acquired_at.line(), before, after), (1, line, 0, 1));
    assert_eq!((pools.in_use().len(), pools.leaks().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_at_an_ejected_endpoint_is_closed_when_it_comes_back() {
    let net = Net::default();
    let pools = net.pools(|b| b.max_size(2), |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let held = pools.acquire_where(|endpoint| endpoint.address == address(1)).await.unwrap();
    assert!(pools.eject(&address(1), Duration::from_mins(1)));
    let other = pools.acquire().await.unwrap();
    assert_eq!(port(&other), 2);
    pass(Duration::from_secs(30)).await;
    assert_eq!((net.server(1).open(), net.server(2).open()), (1, 1), "its place is its user's");
    assert_eq!(seen(&pools, 1).pool.active, 1);
    drop(held);
    eventually("it is closed, and its place is the other's", || seen(&pools, 2).pool.max_size == 2).await;
    assert_eq!(net.server(1).open(), 0);
    assert!(net.most_open() <= 2, "{}", net.most_open());
}

#[tokio::test(start_paused = true)]
async fn those_in_line_at_an_ejected_endpoint_go_on_in_their_order() {
    let net = Net::default();
    let pools = net.pools(|b| b.max_size(2).acquire_timeout(Duration::from_secs(3)), |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    let mut held = vec![pools.acquire().await.unwrap(), pools.acquire().await.unwrap()];
    held.sort_by_key(port);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (pools, order) = (pools.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let guard = pools.acquire().await;
            if let Ok(guard) = &guard {
                order.lock().unwrap().push((number, port(guard)));
                pass(ms(10)).await;
            }
            guard.is_ok()
        }));
        pass(ms(10)).await;
    }
    let waiting = |port| seen(&pools, port).pool.pending;
    assert_eq!((waiting(1), waiting(2)), (10, 10), "the balancer has spread them");
    assert!(pools.eject(&address(1), Duration::from_mins(1)));
    eventually("all wait at the other", || waiting(2) == 20).await;
    drop(held.pop());
    for task in tasks {
        assert!(task.await.unwrap());
    }
    let order = order.lock().unwrap().clone();
    assert_eq!(order, (0..20).map(|number| (number, 2)).collect::<Vec<_>>(), "as if they had waited there");
    assert_eq!(pools.snapshot().moves, 10);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_moves_on_keeps_its_deadline() {
    for own in [false, true] {
        let net = Net::default();
        let pools = net.pools(|b| b.max_size(2).acquire_timeout(ms(1_000)), |b| b);
        pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
        up(&pools, 2).await;
        let _held = [pools.acquire().await.unwrap(), pools.acquire().await.unwrap()];
        let begun = Instant::now();
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let pools = pools.clone();
                tokio::spawn(
                    async move { if own { pools.acquire_timeout(ms(1_000)).await } else { pools.acquire().await } },
                )
            })
            .collect();
        pass(ms(600)).await;
        pools.eject(&address(1), Duration::from_mins(1));
        for caller in callers {
            let error = caller.await.unwrap().unwrap_err();
            assert_eq!(error.refused(), Refused::TimedOut);
            assert!(error.waited() >= ms(1_000) && begun.elapsed() <= ms(1_050), "{error}: {:?}", begun.elapsed());
        }
        assert_eq!(pools.snapshot().moves, 2);
        assert_eq!(seen(&pools, 2).pool.pending, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn if_all_are_ejected_all_are_used_and_it_shows() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints(vec![endpoint(1, 1), endpoint(2, 1)]).unwrap();
    up(&pools, 2).await;
    for port in [1, 2] {
        pools.eject(&address(port), Duration::from_secs(30));
    }
    assert!(pools.snapshot().panic && pools.snapshot().to_string().contains("panic"));
    up(&pools, 2).await;
    drop(pools.acquire().await.unwrap());
    assert!(pools.restore(&address(2)));
    up(&pools, 1).await;
    assert!(!pools.snapshot().panic);
    assert_eq!(port(&pools.acquire().await.unwrap()), 2);

    let never = net.pools(|b| b, |b| b.panic_threshold(0.0));
    never.set_endpoints(vec![endpoint(3, 1)]).unwrap();
    up(&never, 1).await;
    never.eject(&address(3), Duration::from_secs(30));
    let begun = Instant::now();
    assert_eq!(never.acquire().await.unwrap_err().refused(), Refused::TimedOut);
    assert!(begun.elapsed() >= ms(3_000), "it might have come back");
    assert!(!never.restore(&address(9)), "there is none");
}
