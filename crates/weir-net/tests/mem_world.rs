//! The in-memory world's own promises: the same seed gives the same run, faults do what they say, bytes
//! are neither lost nor made up, nothing leaks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests: a panic is the failure")]

use std::time::Duration;

use proptest::prelude::*;
use weir_core::{Address, Instant};
use weir_net::mem::peer::{Peer, Script};
use weir_net::mem::{Checked, Fault, NetConfig, NodeId, NodeState, Rule, Scope, World};
use weir_net::{Close, ConnId, ConnectOptions, Io, IoFault, ListenerId, Piece, Protocol, PumpEnd};

type Node = Checked<Peer<()>, ()>;

const LISTENER: ListenerId = ListenerId(0);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

fn world(config: NetConfig, script: Script) -> (World<()>, NodeId, NodeId, Address) {
    let mut world = World::new(1, config);
    let client = world.add_node(Node::new(Peer::client()));
    let server = world.add_node(Node::new(Peer::server([script])));
    let address = std::net::SocketAddr::new(world.ip(server), 80);
    let address = world.listen(server, LISTENER, address);
    (world, client, server, address)
}

fn connect(world: &mut World<()>, client: NodeId, to: &Address, script: Script) -> usize {
    world.with_node(client, |node: &mut Node, io| node.with(io, |peer, io| peer.connect(io, to, 10 * SECOND, script)))
}

fn record<T>(world: &mut World<()>, node: NodeId, which: usize, get: fn(&weir_net::mem::peer::Record) -> T) -> T {
    world.with_node(node, |node: &mut Node, _| get(&node.inner().records()[which]))
}

fn asks() -> Script {
    Script::silent().send(b"ask;")
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_does_not() {
    let run = |seed: u64| {
        let mut world = World::new(seed, NetConfig::rough(7));
        let answer = vec![b'a'; 5_000];
        let script = Script::respond(b";", Duration::from_millis(3), &answer);
        let server = world.add_node(Node::new(Peer::server([script])));
        let address = world.listen(server, LISTENER, std::net::SocketAddr::new(world.ip(server), 80));
        let rule = Rule::new(Scope::Everywhere, Fault::ResetWithin(SECOND)).chance(300);
        world.inject(rule).keep();
        for _ in 0..20 {
            let client = world.add_node(Node::new(Peer::client()));
            connect(&mut world, client, &address, asks().until_bytes(5_000).again());
        }
        world.run_until(Instant::from_millis(500));
        (world.trace().hash(), world.trace().count())
    };
    let first = run(11);
    assert!(first.1 > 500, "much happens: {first:?}");
    for seed in 11..27 {
        let one = run(seed);
        assert_eq!(one, run(seed), "seed {seed}");
        assert_ne!(one.0, run(seed + 100).0, "seed {seed}");
    }
}

#[test]
fn refused_swallowed_and_delayed_attempts() {
    let (mut world, client, _, address) = world(NetConfig::calm(), Script::silent());
    let to = Scope::To(address.clone());
    let guard = world.inject(Rule::new(to.clone(), Fault::FailConnect(IoFault::Unreachable)));
    let failed = connect(&mut world, client, &address, asks());
    world.run_for(SECOND);
    assert_eq!(record(&mut world, client, failed, |r| r.failed.map(|f| f.1)), Some(IoFault::Unreachable));
    guard.clear();

    let guard = world.inject(Rule::new(to.clone(), Fault::BlackholeConnect));
    let started = world.now();
    let late = connect(&mut world, client, &address, asks());
    world.run_for(20 * SECOND);
    let failed = record(&mut world, client, late, |r| r.failed);
    assert_eq!(failed, Some((started + 10 * SECOND, IoFault::TimedOut)));
    let saved = connect(&mut world, client, &address, asks());
    world.run_for(3 * SECOND);
    guard.clear();
    world.run_for(2 * SECOND);
    assert!(record(&mut world, client, saved, |r| r.connected_at).is_some(), "tried again");

    let delay = Duration::from_millis(400);
    world.inject(Rule::new(to, Fault::DelayConnect(delay..=delay))).keep();
    let started = world.now();
    let slow = connect(&mut world, client, &address, asks());
    world.run_for(SECOND);
    let connected = record(&mut world, client, slow, |r| r.connected_at);
    assert_eq!(connected, Some(started + delay + Duration::from_micros(100)));
}

#[test]
fn a_connection_breaks_after_exactly_so_many_bytes() {
    let script = Script::silent().send(&[7; 1_000]);
    let (mut world, client, server, address) = world(NetConfig::calm(), script);
    world.inject(Rule::new(Scope::Everywhere, Fault::ResetAfterBytes(300..=300))).keep();
    let conn = connect(&mut world, client, &address, Script::silent());
    world.run_for(SECOND);
    assert_eq!(record(&mut world, client, conn, |r| r.received.len()), 300);
    assert_eq!(record(&mut world, client, conn, |r| r.failed.map(|f| f.1)), Some(IoFault::Reset));
    assert_eq!(record(&mut world, server, 0, |r| r.failed.map(|f| f.1)), Some(IoFault::Reset));
    assert_eq!(world.connections_total(), 0);
}

#[test]
fn a_stalled_node_accepts_in_its_kernel_and_answers_when_it_goes_on() {
    let script = Script::respond(b";", Duration::ZERO, b"ok");
    let (mut world, client, server, address) = world(NetConfig::calm(), script);
    world.stall_for(server, 5 * SECOND);
    let conn = connect(&mut world, client, &address, asks());
    world.run_for(4 * SECOND);
    assert!(record(&mut world, client, conn, |r| r.connected_at).is_some());
    assert!(record(&mut world, client, conn, |r| r.received.is_empty()));
    world.run_for(2 * SECOND);
    assert_eq!(record(&mut world, client, conn, |r| r.received.clone()), b"ok");
}

#[test]
fn a_killed_node_ends_its_connections_refuses_and_comes_back() {
    let script = Script::silent().until_bytes(4).pause();
    let (mut world, client, server, address) = world(NetConfig::calm(), script);
    let clean = connect(&mut world, client, &address, asks());
    let unread = connect(&mut world, client, &address, asks().wait(SECOND).send(b"unread"));
    world.run_for(2 * SECOND);
    world.kill(server);
    assert_eq!(world.state(server), NodeState::Dead);
    world.run_for(SECOND);
    assert!(record(&mut world, client, clean, |r| r.eof_at).is_some());
    assert_eq!(record(&mut world, client, unread, |r| r.failed.map(|f| f.1)), Some(IoFault::Reset));
    let refused = connect(&mut world, client, &address, asks());
    world.run_for(SECOND);
    assert_eq!(record(&mut world, client, refused, |r| r.failed.map(|f| f.1)), Some(IoFault::Refused));
    world.restart(server, Node::new(Peer::server([Script::silent().send(b"back")])));
    world.listen(server, LISTENER, address.clone());
    let again = connect(&mut world, client, &address, asks());
    world.run_for(SECOND);
    assert_eq!(record(&mut world, client, again, |r| r.received.clone()), b"back");
}

#[test]
fn a_partition_holds_bytes_until_it_heals_or_the_sender_gives_up() {
    let script = Script::respond(b";", Duration::ZERO, b"ok");
    let (mut world, client, server, address) = world(NetConfig::calm(), script);
    let conn = connect(&mut world, client, &address, Script::silent().wait(SECOND).send(b"ask;"));
    world.run_for(SECOND / 2);
    let partition = world.partition(&[client], &[server]);
    world.run_for(MINUTE);
    assert!(record(&mut world, client, conn, |r| r.received.is_empty() && r.failed.is_none()));
    let cut_off = connect(&mut world, client, &address, asks());
    world.run_for(MINUTE);
    assert_eq!(record(&mut world, client, cut_off, |r| r.failed.map(|f| f.1)), Some(IoFault::TimedOut));
    partition.clear();
    world.run_for(2 * SECOND);
    assert_eq!(record(&mut world, client, conn, |r| r.received.clone()), b"ok");

    let _forever = world.partition(&[client], &[server]);
    world.with_node(client, |node: &mut Node, io| {
        node.with(io, |peer, io| peer.go_on(io, conn, asks()));
    });
    world.run_for(20 * MINUTE);
    assert_eq!(record(&mut world, client, conn, |r| r.failed.map(|f| f.1)), Some(IoFault::TimedOut));
}

#[test]
fn a_slow_link_keeps_its_rate() {
    let (mut world, client, _, address) = world(NetConfig::calm(), Script::silent().send(&vec![1; 50_000]));
    world.inject(Rule::new(Scope::Everywhere, Fault::Slow { bytes_per_second: 10_000 })).keep();
    let conn = connect(&mut world, client, &address, Script::silent());
    world.run_for(20 * SECOND);
    let at = record(&mut world, client, conn, |r| r.arrivals.last().map(|last| last.0)).unwrap();
    assert!(at >= Instant::from_millis(5_000) && at <= Instant::from_millis(5_010), "{at:?}");
}

#[test]
fn listeners_of_one_address_share_the_connections() {
    let (mut world, client, first, address) = world(NetConfig::calm(), Script::silent());
    let second = world.add_node(Node::new(Peer::server([Script::silent()])));
    world.listen(second, LISTENER, address.clone());
    for _ in 0..100 {
        connect(&mut world, client, &address, Script::silent());
    }
    world.run_for(SECOND);
    let [a, b] = [world.connections(first), world.connections(second)];
    assert_eq!(a + b, 100);
    assert!(a > 25 && b > 25, "{a} and {b}");
}

#[test]
fn a_full_backlog_makes_clients_wait() {
    let config = NetConfig { backlog_max: 2, ..NetConfig::calm() };
    let (mut world, client, server, address) = world(config, Script::silent());
    world.with_node(server, |node: &mut Node, io| {
        node.with(io, |_, io| io.set_accepting(LISTENER, false));
    });
    let conns: Vec<usize> = (0..4).map(|_| connect(&mut world, client, &address, Script::silent())).collect();
    world.run_for(30 * SECOND);
    let outcome = |world: &mut World<()>, conn| record(world, client, conn, |r| r.failed.map(|f| f.1));
    let timed_out = conns.iter().filter(|c| outcome(&mut world, **c) == Some(IoFault::TimedOut)).count();
    assert_eq!(timed_out, 2);
}

// === random endpoints ===

#[derive(Clone, Copy, Debug)]
enum Act {
    Send(usize),
    Pause,
    Resume,
    ShutdownWrite,
    Close(Close),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1_usize..40_000).prop_map(Act::Send),
        2 => Just(Act::Pause),
        3 => Just(Act::Resume),
        1 => Just(Act::ShutdownWrite),
        4 => (0_u64..50).prop_map(Act::Wait),
        1 => prop_oneof![
            Just(Act::Close(Close::Now)),
            Just(Act::Close(Close::Linger(SECOND))),
            Just(Act::Close(Close::Reset)),
        ],
    ]
}

/// The script of some acts, and the bytes that it sends unless it fails.
fn script(acts: &[Act], salt: u8) -> (Script, Vec<u8>) {
    let (mut script, mut sent) = (Script::silent(), Vec::new());
    let mut is_ended = false;
    for act in acts {
        script = match act {
            Act::Send(len) => {
                let bytes: Vec<u8> = (sent.len()..sent.len() + len).map(|at| (at ^ (at >> 8)) as u8 ^ salt).collect();
                if !is_ended {
                    sent.extend_from_slice(&bytes);
                }
                script.send(&bytes)
            }
            Act::Pause => script.pause(),
            Act::Resume => script.resume(),
            Act::Wait(millis) => script.wait(Duration::from_millis(*millis)),
            Act::ShutdownWrite => {
                is_ended = true;
                script.shutdown_write()
            }
            Act::Close(how) => return (script.resume().close(*how), sent),
        };
    }
    // A clean end: everything is read before anything is closed.
    let end = script.resume().until_drained().shutdown_write().until_eof().close(Close::Now);
    (end, sent)
}

/// Pumps between each accepted connection and one that it makes, in both directions.
struct Tunnel {
    to: Address,
    limit: Option<u64>,
    other: std::collections::BTreeMap<ConnId, ConnId>,
}

impl Tunnel {
    fn pump(&self, io: &mut impl Io, from: ConnId) {
        if let Some(to) = self.other.get(&from) {
            assert!(io.pump(from, *to, self.limit));
        }
    }

    fn end(&mut self, io: &mut impl Io, conn: ConnId, how: Close) {
        if let Some(other) = self.other.remove(&conn) {
            self.other.remove(&other);
            io.close(conn, how);
            io.close(other, how);
        }
    }
}

impl<I: Io> Protocol<I> for Tunnel {
    type Message = ();

    fn on_accepted(&mut self, io: &mut I, conn: ConnId, _: ListenerId, _: Option<std::net::SocketAddr>) {
        let other = io.connect(&self.to, &ConnectOptions { timeout: SECOND });
        io.pause(conn);
        self.other.insert(conn, other);
        self.other.insert(other, conn);
    }

    fn on_connected(&mut self, io: &mut I, conn: ConnId, result: Result<(), IoFault>) {
        match result {
            Err(_) => self.end(io, conn, Close::Reset),
            Ok(()) => {
                if let Some(first) = self.other.get(&conn).copied() {
                    io.resume(first);
                    self.pump(io, first);
                    self.pump(io, conn);
                }
            }
        }
    }

    fn on_data(&mut self, io: &mut I, conn: ConnId, data: &[u8]) {
        // Between two pumps with a limit.
        if let Some(to) = self.other.get(&conn) {
            let _ = io.send(*to, &mut [Piece::Lent(data)]);
            self.pump(io, conn);
        }
    }

    fn on_eof(&mut self, io: &mut I, conn: ConnId) {
        if let Some(to) = self.other.get(&conn) {
            io.shutdown_write(*to);
        }
    }

    fn on_pumped(&mut self, io: &mut I, from: ConnId, _: u64, end: PumpEnd) {
        match end {
            PumpEnd::Done => {}
            PumpEnd::Eof => self.on_eof(io, from),
            PumpEnd::SourceFault(_) | PumpEnd::SinkFault(_) => self.end(io, from, Close::Reset),
        }
    }

    fn on_reset(&mut self, io: &mut I, conn: ConnId, _: IoFault) {
        self.end(io, conn, Close::Reset);
    }

    fn on_deadline(&mut self, _: &mut I, _: ConnId) {}
}

/// What is between the two endpoints.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    /// A tunnel of pumps without a limit.
    Pump,
    /// A tunnel of pumps of so many bytes.
    Pumps(u64),
}

/// Lets two endpoints act, with a tunnel between them or without.
fn play(seed: u64, left: &[Act], right: &[Act], tunnel: Between) {
    let is_clean = !left.iter().chain(right).any(|act| matches!(act, Act::Close(_)));
    let ((left, left_sent), (right, right_sent)) = (script(left, 0), script(right, 0x5A));
    let mut world = World::new(seed, NetConfig::rough(seed));
    let server = world.add_node(Node::new(Peer::server([right])));
    let client = world.add_node(Node::new(Peer::client()));
    let mut address = world.listen(server, LISTENER, std::net::SocketAddr::new(world.ip(server), 1));
    let limit = match tunnel {
        Between::Pumps(limit) => Some(limit),
        Between::Nothing | Between::Pump => None,
    };
    let middle = (!matches!(tunnel, Between::Nothing)).then(|| {
        let protocol = Tunnel { to: address.clone(), limit, other: std::collections::BTreeMap::new() };
        let middle = world.add_node(Checked::<_, ()>::new(protocol));
        address = world.listen(middle, LISTENER, std::net::SocketAddr::new(world.ip(middle), 2));
        middle
    });
    let conn = connect(&mut world, client, &address, left);
    assert!(world.run_until_idle(10 * MINUTE), "comes to rest");
    let received = |world: &mut World<()>, node| {
        world.with_node(node, |node: &mut Node, _| {
            node.inner().records().first().map_or(Vec::new(), |record| record.received.clone())
        })
    };
    let (there, back) = (received(&mut world, server), received(&mut world, client));
    assert!(left_sent.starts_with(&there), "{} of {} bytes arrived", there.len(), left_sent.len());
    assert!(right_sent.starts_with(&back), "{} of {} bytes came back", back.len(), right_sent.len());
    if is_clean {
        assert!(there == left_sent, "{} of {} bytes arrived", there.len(), left_sent.len());
        assert!(back == right_sent, "{} of {} bytes came back", back.len(), right_sent.len());
        assert_eq!(record(&mut world, client, conn, |r| r.failed), None);
    }
    // Whoever still holds a connection is closed by force; then nothing is left.
    for node in [Some(client), Some(server), middle].into_iter().flatten() {
        if is_clean && Some(node) != middle {
            assert_eq!(world.connections(node), 0, "closed cleanly");
        }
        world.kill(node);
    }
    assert!(world.run_until_idle(MINUTE));
    assert_eq!(world.connections_total(), 0, "no connection leaks");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_are_a_prefix_and_all_of_them_after_a_clean_close(
        seed in any::<u64>(),
        left in proptest::collection::vec(act(), 0..12),
        right in proptest::collection::vec(act(), 0..12),
        tunnel in prop_oneof![
            Just(Between::Nothing),
            Just(Between::Pump),
            (1_u64..5_000).prop_map(Between::Pumps),
        ],
    ) {
        play(seed, &left, &right, tunnel);
    }
}
