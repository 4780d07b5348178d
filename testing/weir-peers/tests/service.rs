//! A pool as a service of `tower`, over plain TCP.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpListener;
use tower::{Service as _, ServiceExt as _};
use weir_pool::managers::tcp::Tcp;
use weir_pool::{Pool, PoolService, Refused};

async fn pool(size: u32, millis: u64) -> (TcpListener, Pool<Tcp>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let manager = Tcp::new(listener.local_addr().unwrap().to_string());
    let limit = Duration::from_millis(millis);
    let pool = Pool::<Tcp>::builder().max_size(size).min_idle(0).acquire_timeout(limit).validation_timeout(limit);
    (listener, pool.build(manager).unwrap())
}

#[tokio::test]
async fn ready_means_that_it_has_a_connection() {
    let (_listener, pool) = pool(1, 20_000).await;
    let mut first = PoolService::new(pool.clone());
    let mut second = first.clone();
    first.ready().await.unwrap();
    assert_eq!(pool.snapshot().active, 1, "held for it");
    let pending = poll_fn(|cx| Poll::Ready(second.poll_ready(cx).is_pending())).await;
    assert!(pending, "there is none for the second");
    assert_eq!(pool.snapshot().pending, 1);
    let guard = first.call(()).await.unwrap();
    drop(guard);
    second.ready().await.unwrap();
    // Not called: dropping it gives the connection back.
    drop(second);
    assert_eq!((pool.snapshot().active, pool.snapshot().idle), (0, 1));
    // It can be used again, with all that tower has for services.
    let limited = tower::limit::ConcurrencyLimit::new(first, 1);
    drop(limited.oneshot(()).await.unwrap());
}

#[tokio::test]
async fn services_are_served_in_the_order_in_which_they_came() {
    let (_listener, pool) = pool(1, 20_000).await;
    let mut services: Vec<_> = (0..5).map(|_| PoolService::new(pool.clone())).collect();
    services[0].ready().await.unwrap();
    for service in &mut services[1..] {
        assert!(poll_fn(|cx| Poll::Ready(service.poll_ready(cx).is_pending())).await);
    }
    for index in 0..4 {
        drop(services[index].call(()).await.unwrap());
        for (later, service) in services.iter_mut().enumerate().skip(index + 2) {
            let pending = poll_fn(|cx| Poll::Ready(service.poll_ready(cx).is_pending())).await;
            assert!(pending, "{later} before {}", index + 1);
        }
        services[index + 1].ready().await.unwrap();
    }
}

#[tokio::test]
async fn a_time_out_is_an_answer_and_a_closed_pool_an_end() {
    let (_listener, pool) = pool(1, 100).await;
    let held = pool.acquire().await.unwrap();
    let mut service = PoolService::new(pool.clone());
    service.ready().await.unwrap();
    let error = service.call(()).await.unwrap_err();
    assert_eq!(error.refused(), Refused::TimedOut);
    drop(held);
    // The service goes on.
    service.ready().await.unwrap();
    drop(service.call(()).await.unwrap());
    // Without having been ready.
    drop(service.call(()).await.unwrap());
    pool.close(Duration::from_secs(20)).await.unwrap();
    assert_eq!(service.ready().await.unwrap_err().refused(), Refused::Closed);
}
