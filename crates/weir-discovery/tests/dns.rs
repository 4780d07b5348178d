//! Names followed through a real name server on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use common::{NameServer, Says};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use weir_core::Address;
use weir_discovery::{
    Event, Families, LookupError, Resolver, ScheduleParams, Settings, Source, SourceId, Spec, Update, run,
};

/// Far longer than any wait should take; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Intervals short enough that a test takes as long as its TTLs.
const QUICK: ScheduleParams = ScheduleParams {
    ttl_floor: Duration::from_millis(30),
    ttl_ceiling: Duration::from_millis(200),
    backoff_floor: Duration::from_millis(20),
    backoff_ceiling: Duration::from_millis(50),
};

fn settings(server: &NameServer, schedule: ScheduleParams) -> Settings {
    Settings { nameserver: Some(server.address), families: Families::Ipv4First, schedule, seed: 1 }
}

fn dns(id: u32, host: &str) -> Source {
    Source { id: SourceId(id), spec: Spec::Dns { host: host.into(), port: 8080 }, known: None }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn addresses(texts: &[&str]) -> Arc<[Address]> {
    texts.iter().map(|text| Address::parse(text).unwrap()).collect()
}

fn start(sources: Vec<Source>, settings: Settings) -> (Receiver<Update>, JoinHandle<()>) {
    let (sender, updates) = mpsc::channel(16);
    (updates, tokio::spawn(run(sources, settings, sender)))
}

async fn next(updates: &mut Receiver<Update>) -> Update {
    timeout(PATIENCE, updates.recv()).await.expect("an update in time").expect("still running")
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await; // tidy: allow(sleep) polls a level under a deadline
        }
    };
    timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn a_change_of_address_is_seen_after_the_ttl() {
    let server = NameServer::start().await;
    server.set("app.test", Says::Addresses(ips(&["10.0.0.2", "10.0.0.1"]), 1));
    // The constants of production: the TTL of one second is what is waited for.
    let (mut updates, _running) = start(vec![dns(7, "app.test")], settings(&server, ScheduleParams::default()));
    let first = next(&mut updates).await;
    assert_eq!(
        first,
        Update { source: SourceId(7), event: Event::Addresses(addresses(&["10.0.0.1:8080", "10.0.0.2:8080"])) }
    );
    let seen = tokio::time::Instant::now();
    server.set("app.test", Says::Addresses(ips(&["10.0.0.3"]), 1));
    assert_eq!(next(&mut updates).await.event, Event::Addresses(addresses(&["10.0.0.3:8080"])));
    assert!(seen.elapsed() >= Duration::from_millis(900), "not asked before the TTL ended");
    assert!(server.queries("app.test") <= 4, "asked once per TTL: {}", server.queries("app.test"));
}

#[tokio::test]
async fn servfail_keeps_the_last_answer_and_goes_on_trying() {
    let server = NameServer::start().await;
    server.set("app.test", Says::Addresses(ips(&["10.0.0.1"]), 0));
    let (mut updates, _running) = start(vec![dns(0, "app.test")], settings(&server, QUICK));
    let good = Event::Addresses(addresses(&["10.0.0.1:8080"]));
    assert_eq!(next(&mut updates).await.event, good);
    server.set("app.test", Says::ServFail);
    let failed = next(&mut updates).await.event;
    let Event::Failed { reason, has_addresses: true } = failed else { panic!("{failed:?}") };
    assert!(!reason.is_empty());
    let before = server.queries("app.test");
    eventually("it asks again and again", || server.queries("app.test") > before + 4).await;
    assert!(updates.try_recv().is_err(), "nothing is announced while it fails");
    server.set("app.test", Says::Addresses(ips(&["10.0.0.1"]), 0));
    assert_eq!(next(&mut updates).await.event, good, "works again, and says so");
}

#[tokio::test]
async fn a_name_that_vanishes_keeps_its_addresses_and_one_that_appears_is_found() {
    let server = NameServer::start().await;
    server.set("gone.test", Says::Addresses(ips(&["10.0.0.1"]), 0));
    let (mut updates, _running) = start(vec![dns(0, "gone.test")], settings(&server, QUICK));
    next(&mut updates).await;
    // The name exists, but without addresses.
    server.set("gone.test", Says::Addresses(Vec::new(), 0));
    assert!(matches!(next(&mut updates).await.event, Event::Failed { has_addresses: true, .. }));

    // NXDOMAIN at first.
    let (mut updates, _running) = start(vec![dns(1, "late.test")], settings(&server, QUICK));
    assert!(matches!(next(&mut updates).await.event, Event::Failed { has_addresses: false, .. }));
    server.set("late.test", Says::Addresses(ips(&["10.0.0.9"]), 0));
    assert_eq!(next(&mut updates).await.event, Event::Addresses(addresses(&["10.0.0.9:8080"])));
}

#[tokio::test]
async fn a_known_answer_is_not_announced_again() {
    let server = NameServer::start().await;
    server.set("app.test", Says::Addresses(ips(&["10.0.0.1"]), 0));
    let source = Source { known: Some(addresses(&["10.0.0.1:8080"])), ..dns(0, "app.test") };
    let (mut updates, _running) = start(vec![source], settings(&server, QUICK));
    eventually("it has asked", || server.queries("app.test") > 2).await;
    server.set("app.test", Says::Addresses(ips(&["10.0.0.2"]), 0));
    assert_eq!(next(&mut updates).await.event, Event::Addresses(addresses(&["10.0.0.2:8080"])), "the first update");
}

#[tokio::test]
async fn families_choose_the_addresses() {
    let server = NameServer::start().await;
    server.set("both.test", Says::Addresses(ips(&["10.0.0.1", "2001:db8::1"]), 5));
    server.set("six.test", Says::Addresses(ips(&["2001:db8::6"]), 5));
    server.set("four.test", Says::Addresses(ips(&["10.0.0.4"]), 5));
    let cases = [
        (Families::Ipv4First, "both.test", vec!["10.0.0.1"]),
        (Families::Ipv4First, "six.test", vec!["2001:db8::6"]),
        (Families::Ipv6First, "both.test", vec!["2001:db8::1"]),
        (Families::Ipv6First, "four.test", vec!["10.0.0.4"]),
        (Families::Both, "both.test", vec!["10.0.0.1", "2001:db8::1"]),
        (Families::Both, "four.test", vec!["10.0.0.4"]),
    ];
    for (families, host, expected) in cases {
        let answer = Resolver::new(Some(server.address), families).lookup(host).await.unwrap();
        assert_eq!(answer.addresses, ips(&expected), "{families:?} {host}");
        assert_eq!(answer.ttl, Duration::from_secs(5));
    }
}

#[tokio::test]
async fn localhost_hosts_file_and_literals_need_no_name_server() {
    // Nobody listens on the discard port.
    let resolver = Resolver::new(Some(SocketAddr::from(([127, 0, 0, 1], 9))), Families::Ipv4First);
    assert_eq!(resolver.lookup("localhost").await.unwrap().addresses, ips(&["127.0.0.1"]));
    assert_eq!(resolver.lookup("::1").await.unwrap().addresses, ips(&["::1"]));
    assert_eq!(resolver.lookup("192.0.2.7").await.unwrap().addresses, ips(&["192.0.2.7"]));
    // Whatever names this machine's hosts file has.
    let text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    for line in lines.filter(|line| line.starts_with(|first: char| first.is_ascii_digit())) {
        let mut words = line.split_whitespace();
        let (Some(ip), Some(host)) = (words.next(), words.next()) else {
            continue;
        };
        let found = resolver.lookup(host).await.unwrap().addresses;
        assert!(found.contains(&ip.parse().unwrap()), "{host}: {found:?}");
    }
}

#[tokio::test]
async fn malformed_names_are_errors() {
    let resolver = Resolver::new(Some(SocketAddr::from(([127, 0, 0, 1], 9))), Families::Ipv4First);
    for host in ["", "a..b", &"x".repeat(64), &"long.".repeat(100)] {
        assert!(resolver.lookup(host).await.is_err(), "{host:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_name_server_is_given_up_in_time() {
    let server = NameServer::start().await;
    server.set("mute.test", Says::Nothing);
    let resolver = Resolver::new(Some(server.address), Families::Ipv4First);
    assert!(matches!(resolver.lookup("mute.test").await, Err(LookupError::Timeout | LookupError::Failed(_))));
}

#[tokio::test]
async fn it_ends_with_its_receiver_and_with_its_future() {
    let server = NameServer::start().await;
    server.set("app.test", Says::Addresses(ips(&["10.0.0.1"]), 0));
    let list = Source { id: SourceId(1), spec: Spec::Static(addresses(&["10.0.0.5:80", "10.0.0.4:80"])), known: None };

    let (mut updates, running) = start(vec![list, dns(2, "app.test")], settings(&server, QUICK));
    let mut seen = [next(&mut updates).await, next(&mut updates).await];
    seen.sort_by_key(|update| update.source);
    assert_eq!(seen[0].event, Event::Addresses(addresses(&["10.0.0.4:80", "10.0.0.5:80"])));
    assert!(!running.is_finished());
    drop(updates);
    timeout(PATIENCE, running).await.expect("ends when nobody listens").unwrap();

    let (mut updates, running) = start(vec![dns(3, "app.test")], settings(&server, QUICK));
    next(&mut updates).await;
    running.abort();
    // The sender of the source is gone too, so the channel ends.
    let end = async { while updates.recv().await.is_some() {} };
    timeout(PATIENCE, end).await.expect("no source outlives the future");
}
