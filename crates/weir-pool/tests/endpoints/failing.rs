//! Endpoints whose uses fail, or that answer nothing, are left out by themselves, and come back when they answer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use weir_pool::metrics::Pools;
use weir_pool::{EndpointPools, OutlierParams, Standing};

use crate::world::*;

/// Uses an endpoint's connection `times` times, and says that it has failed.
async fn fail(pools: &EndpointPools<Client>, at: u16, times: u32, discard: bool) {
    for _ in 0..times {
        let mut guard = pools.acquire_where(|endpoint| endpoint.address == address(at)).await.unwrap();
        if discard {
            guard.discard();
        } else {
            guard.report_failure();
            // Once for each use.
            guard.report_failure();
        }
    }
}

async fn succeed(pools: &EndpointPools<Client>, at: u16) {
    drop(pools.acquire_where(|endpoint| endpoint.address == address(at)).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_leave_an_endpoint_out_for_a_time_that_grows() {
    for discard in [false, true] {
        let net = Net::default();
        let pools = net.pools(|b| b, |b| b);
        pools.set_endpoints((1..=3).map(|port| endpoint(port, 1)).collect()).unwrap();
        up(&pools, 3).await;
        let watched = Pools::new();
        watched.add_endpoints(&pools).unwrap();
        // A success ends the row.
        fail(&pools, 1, 4, discard).await;
        succeed(&pools, 1).await;
        fail(&pools, 1, 4, discard).await;
        pass(ms(50)).await;
        assert_eq!((seen(&pools, 1).standing, seen(&pools, 1).outlier), (Standing::Up, false));
        for nth in 1..=3 {
            fail(&pools, 1, if nth == 1 { 1 } else { 5 }, discard).await;
            let begun = Instant::now();
            eventually("it is left out", || seen(&pools, 1).outlier).await;
            eventually("it is empty", || net.server(1).open() == 0).await;
            assert!(begun.elapsed() <= ms(1_000), "{:?}", begun.elapsed());
            let left_out = seen(&pools, 1);
            assert_eq!((left_out.standing, left_out.outlier_ejections), (Standing::Out, nth), "{left_out}");
            assert!(left_out.to_string().contains("after failures"), "{left_out}");
            let text = watched.exposition().to_string();
            let of = format!("{{db_client_connection_pool_name=\"{}\"", left_out.pool.name);
            let ejections = format!("weir_client_pool_ejections_total{of}}} {nth}\n");
            for sample in [ejections, format!("weir_client_pool_standing{of},standing=\"out\"}} 1\n")] {
                assert!(text.contains(&sample), "{sample} in\n{text}");
            }
            assert_eq!(text.matches("standing=\"up\"} 1\n").count(), 2, "{text}");
            let uses = net.server(1).uses();
            eventually("it is taken back", || !seen(&pools, 1).outlier).await;
            assert_eq!(net.server(1).uses(), uses);
            let took = begun.elapsed();
            assert!(took >= ms(1_000 * nth) && took <= ms(1_000 * nth + 100), "{took:?}");
            let checks = net.server(1).checks();
            up(&pools, 3).await;
            assert!(checks < net.server(1).checks(), "it has answered");
        }
        assert!(net.most_open() <= 12, "{}", net.most_open());
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_accepts_and_does_not_answer_gets_nobody_again_before_it_answers() {
    let net = Net::default();
    let pools = net.pools(|b| b.connect_timeout(ms(500)), |b| b);
    pools.set_endpoints((1..=3).map(|port| endpoint(port, 1)).collect()).unwrap();
    up(&pools, 3).await;
    let load = Load::start(&pools, 24, ms(20));
    pass(Duration::from_secs(1)).await;
    net.server(1).mute(true);
    eventually("it is left out", || seen(&pools, 1).outlier).await;
    let failed = load.failed_uses();
    assert!((5..=24).contains(&failed), "{failed}: as many as it takes, and those of the others that were there");
    // Those who were there by then give up in their time.
    pass(ms(250)).await;
    let (failed, uses) = (load.failed_uses(), net.server(1).uses());
    assert!(failed <= 24, "{failed}");
    assert_eq!(net.server(1).open(), 0, "{}", pools.snapshot());
    pass(Duration::from_mins(1)).await;
    assert_eq!((load.failed_uses(), net.server(1).uses(), load.failed()), (failed, uses, 0), "nobody since");
    let out = seen(&pools, 1);
    assert!(!out.outlier && out.standing == Standing::Down, "its time is over, but it does not answer: {out}");
    net.server(1).mute(false);
    let begun = Instant::now();
    eventually("it is back", || net.server(1).uses() > uses + 100).await;
    assert!(begun.elapsed() <= ms(2_500), "within one step of back-off: {:?}", begun.elapsed());
    eventually("it has its share", || (1..=3).all(|port| seen(&pools, port).pool.max_size == 4)).await;
    assert!(net.most_open() <= 12, "{}", net.most_open());
}

#[tokio::test(start_paused = true)]
async fn checks_of_idle_connections_that_fail_are_enough() {
    let net = Net::default();
    let pools = net.pools(
        |b| b.min_idle(2).keepalive(Some(Duration::from_secs(30))).validation_timeout(ms(500)),
        |b| b.outliers(OutlierParams { consecutive_failures: 2, ..outliers() }),
    );
    pools.set_endpoints((1..=2).map(|port| endpoint(port, 1)).collect()).unwrap();
    up(&pools, 2).await;
    net.server(1).mute(true);
    let begun = Instant::now();
    eventually_within(Duration::from_mins(2), "it is left out without a caller", || seen(&pools, 1).outlier).await;
    assert!(begun.elapsed() <= Duration::from_mins(1), "{:?}", begun.elapsed());
    assert_eq!(port(&pools.acquire().await.unwrap()), 2);
}

#[tokio::test(start_paused = true)]
async fn callers_whose_time_ends_where_nothing_comes_back_are_enough() {
    let net = Net::default();
    let pools = net.pools(|b| b.max_size(2).acquire_timeout(Duration::from_secs(2)), |b| b);
    pools.set_endpoints((1..=2).map(|port| endpoint(port, 1)).collect()).unwrap();
    up(&pools, 2).await;
    // One user at each of them; the second one's connection comes back again and again.
    let stuck = pools.acquire_where(|endpoint| endpoint.address == address(1)).await.unwrap();
    let ask = |at: u16| {
        let pools = pools.clone();
        tokio::spawn(async move {
            let guard = pools.acquire_where(move |endpoint| endpoint.address == address(at)).await;
            if guard.is_ok() {
                pass(ms(500)).await;
            }
            guard.is_ok()
        })
    };
    let second: Vec<_> = (0..20).map(|_| ask(2)).collect();
    pass(ms(100)).await;
    let first: Vec<_> = (0..5).map(|_| ask(1)).collect();
    eventually("the first is left out", || seen(&pools, 1).outlier).await;
    let mut served = (0, 0);
    for caller in first {
        served.0 += u32::from(caller.await.unwrap());
    }
    for caller in second {
        served.1 += u32::from(caller.await.unwrap());
    }
    assert!(served.0 == 0 && (4..=5).contains(&served.1), "{served:?}");
    assert_eq!(
        seen(&pools, 2).outlier_ejections,
        0,
        "most have waited in vain there, too, but some were served meanwhile"
    );
    assert_eq!(seen(&pools, 1).pool.active, 1, "its user has it");
    drop(stuck);
    eventually("it has another", || net.server(1).opened.load(Ordering::SeqCst) == 2).await;
    up(&pools, 2).await;

    // Short times of callers' own say nothing.
    let net = Net::default();
    let pools = net.pools(|b| b.max_size(2), |b| b);
    pools.set_endpoints((1..=2).map(|port| endpoint(port, 1)).collect()).unwrap();
    up(&pools, 2).await;
    let held = (pools.acquire().await.unwrap(), pools.acquire().await.unwrap());
    for _ in 0..20 {
        assert!(pools.acquire_timeout(ms(10)).await.is_err());
    }
    assert_eq!(pools.snapshot().usable(), 2);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn never_all_of_them_are_left_out_and_at_most_as_many_as_may_be() {
    let net = Net::default();
    let pools = net.pools(|b| b, |b| b);
    pools.set_endpoints((1..=4).map(|port| endpoint(port, 1)).collect()).unwrap();
    up(&pools, 4).await;
    for port in 1..=4 {
        fail(&pools, port, 5, false).await;
        pass(ms(20)).await;
    }
    let outliers = pools.snapshot().endpoints.iter().filter(|seen| seen.outlier).count();
    assert_eq!((outliers, pools.snapshot().usable()), (2, 2), "half of them: {}", pools.snapshot());
    // The operator takes out the others: the failing ones are better than none.
    for port in 3..=4 {
        pools.eject(&address(port), Duration::from_mins(1));
    }
    eventually("they are taken back", || pools.snapshot().usable() > 0).await;
    assert!(port(&pools.acquire().await.unwrap()) <= 2);

    let alone = net.pools(|b| b, |b| b);
    alone.set_endpoints(vec![endpoint(9, 1)]).unwrap();
    up(&alone, 1).await;
    fail(&alone, 9, 30, false).await;
    pass(ms(100)).await;
    assert_eq!(alone.snapshot().usable(), 1, "the only one");
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_restore_one_that_fails_and_its_ejection_outlives_it() {
    let net = Net::default();
    let long =
        OutlierParams { base_ejection: Duration::from_mins(1), max_ejection: Duration::from_mins(5), ..outliers() };
    let pools = net.pools(|b| b, |b| b.outliers(long.clone()));
    pools.set_endpoints((1..=3).map(|port| endpoint(port, 1)).collect()).unwrap();
    up(&pools, 3).await;
    fail(&pools, 1, 5, true).await;
    eventually("it is left out", || seen(&pools, 1).outlier).await;
    assert!(pools.restore(&address(1)));
    up(&pools, 3).await;
    fail(&pools, 1, 5, true).await;
    eventually("it is left out", || seen(&pools, 1).outlier).await;
    pools.eject(&address(1), Duration::from_mins(5));
    pass(Duration::from_mins(2)).await;
    let out = seen(&pools, 1);
    assert_eq!((out.standing, out.outlier), (Standing::Out, false), "{out}");
    assert!(out.ejected_for.is_some());

    // Switched off.
    let off = OutlierParams { enabled: false, ..outliers() };
    let pools = net.pools(|b| b, |b| b.outliers(off));
    pools.set_endpoints((1..=3).map(|port| endpoint(port, 1)).collect()).unwrap();
    up(&pools, 3).await;
    fail(&pools, 1, 50, false).await;
    pass(ms(100)).await;
    assert_eq!(pools.snapshot().usable(), 3);
}

/// What pools have unless told otherwise, for one setting to be changed.
fn outliers() -> OutlierParams {
    OutlierParams { base_ejection: Duration::from_secs(1), ..OutlierParams::default() }
}
