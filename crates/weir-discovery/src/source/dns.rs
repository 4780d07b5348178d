//! `dns`: the addresses of a host name, looked up at start and again when the records expire.
//!
//! The thin shell around [`Schedule`]: sleeps until it wants to ask, asks, hands in the answer and
//! passes on what it makes of it. At most [`crate::CONCURRENT_LOOKUPS`] names are looked up at a time.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant as Clock;
use weir_core::hash::splitmix64;
use weir_core::{Address, Instant};

use super::{Context, Event, Following, Row, Source, Spec};
use crate::{Outcome, Schedule};

pub(crate) const ROW: Row = Row {
    name: "dns",
    summary: "The addresses of a host name, looked up again when its records expire.",
    follow: |source, context| Box::pin(follow(source, context)) as Following,
};

async fn follow(source: Source, context: Context) {
    let Spec::Dns { host, port } = source.spec else {
        return;
    };
    let started = Clock::now();
    let now = || Instant::ZERO + started.elapsed();
    let known = source.known.map(|known| known.iter().filter_map(|address| Some(address.inet()?.ip())).collect());
    let seed = splitmix64(context.seed ^ splitmix64(u64::from(source.id.0)));
    let mut schedule = Schedule::new(context.schedule, seed, known, now());
    loop {
        let due = schedule.poll_timeout();
        tokio::time::sleep_until(started + due.since(Instant::ZERO)).await;
        if !schedule.handle_timeout(now()) {
            continue;
        }
        let answer = match context.lookups.acquire().await {
            Ok(_permit) => context.resolver.lookup(&host).await,
            // The semaphore is never closed.
            Err(_) => return,
        };
        let event = match schedule.handle_answer(now(), answer) {
            None => continue,
            Some(Outcome::Addresses(ips)) => {
                let addresses: Arc<[_]> = ips.iter().map(|&ip| Address::Inet(SocketAddr::new(ip, port))).collect();
                tracing::info!(%host, ?addresses, "resolved");
                Event::Addresses(addresses)
            }
            Some(Outcome::Failed { error, has_addresses }) => {
                tracing::warn!(%host, %error, has_addresses, "cannot be resolved; keeping the last answer and trying on");
                Event::Failed { reason: error.to_string().into(), has_addresses }
            }
        };
        if !context.send(source.id, event).await {
            return;
        }
    }
}
