//! The network and the kernels of all nodes: events in virtual time, segments under way, connections
//! being made and broken.
//!
//! Everything random comes from one generator and everything that happens passes through one queue
//! ordered by (time, order of scheduling), so that a seed fixes the whole run. Nothing here scans all
//! connections: the cost of an event does not depend on how many there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_core::hash::Rng;
use weir_core::{Address, Instant};

use super::config::{LATENCY_MIN, Link, NetConfig, draw_time, draw_up_to};
use super::fault::{Doom, Parties, Rules, Verdict};
use super::node::{Listener, Node, NodeId, NodeState, Ready};
use super::pair::{End, EndKey, Orphans, Owner, Pair, Pairs, Phase, Segment};
use super::trace::{Entry, Step, Trace};
use crate::{ConnId, ConnectOptions, IoFault, ListenerId};

/// The in-memory driver as a protocol sees it (see [`Io`](crate::Io)).
pub struct MemIo {
    pub(super) config: NetConfig,
    pub(super) rng: Rng,
    /// The world's time.
    pub(super) now: Instant,
    queue: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    scheduled: u64,
    pub(super) pairs: Pairs,
    pub(super) nodes: Vec<Node>,
    /// The node whose protocol is being called.
    pub(super) current: NodeId,
    /// Who listens where: node and position in its `listeners`.
    routes: BTreeMap<Address, Vec<(NodeId, usize)>>,
    /// Who ever listened there.
    homes: BTreeMap<Address, Vec<NodeId>>,
    pub(super) links: BTreeMap<(NodeId, NodeId), Link>,
    pub(super) rules: Rules,
    pub(super) trace: Trace,
    /// The bytes of the `on_data` that is due.
    pub(super) scratch: Vec<u8>,
    pub(super) orphans: Arc<Orphans>,
}

/// Something that happens at a moment. The number beside a node is its epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Event {
    Wake(NodeId, u32),
    /// The first segments in flight to this end arrive.
    Arrive(EndKey),
    /// The writer at this end hears that there is room.
    Writable(EndKey),
    /// The connection attempt of this client's end reaches the other side.
    Attempt(EndKey),
    /// The answer reaches the client.
    Answer(EndKey, Option<Failure>),
    ConnectTimeout(EndKey),
    Deadline(EndKey),
    Linger(EndKey),
    /// The network breaks the connection.
    Break(EndKey),
    /// A node, its epoch, the timer's key, which arming.
    Timer(NodeId, u32, u32, u64),
    Mail(NodeId, u32),
    Unstall(NodeId, u32),
}

/// [`IoFault`] with an order, so that events have one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Failure {
    Refused,
    Reset,
    TimedOut,
    Unreachable,
    Exhausted,
    Other,
}

// === impl MemIo: time and events ===

impl MemIo {
    pub(super) fn new(seed: u64, config: NetConfig) -> Self {
        Self {
            config,
            rng: Rng::new(seed),
            now: Instant::ZERO,
            queue: BinaryHeap::new(),
            scheduled: 0,
            pairs: Pairs::default(),
            nodes: Vec::new(),
            current: NodeId(0),
            routes: BTreeMap::new(),
            homes: BTreeMap::new(),
            links: BTreeMap::new(),
            rules: Rules::default(),
            trace: Trace::new(),
            scratch: Vec::new(),
            orphans: Arc::default(),
        }
    }

    pub(super) fn schedule(&mut self, at: Instant, event: Event) {
        self.scheduled += 1;
        self.queue
            .push(Reverse((at.max(self.now), self.scheduled, event)));
    }

    pub(super) fn schedule_after(&mut self, delay: Duration, event: Event) {
        self.schedule(self.now + delay, event);
    }

    /// When the next event is.
    pub(super) fn next_event_at(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next event and moves the time to it.
    pub(super) fn take_event(&mut self) -> Option<Event> {
        let Reverse((at, _, event)) = self.queue.pop()?;
        debug_assert!(at >= self.now, "time does not go back");
        self.now = at;
        Some(event)
    }

    /// What an event does to the network and the kernels; wake-ups are the world's business.
    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Wake(..) => {}
            Event::Arrive(key) => self.arrive(key),
            Event::Writable(key) => self.writable(key),
            Event::Attempt(key) => self.attempt(key),
            Event::Answer(key, failure) => self.answer(key, failure),
            Event::ConnectTimeout(key) => self.settle(key, Err(IoFault::TimedOut)),
            Event::Deadline(key) => self.check_deadline(key),
            Event::Linger(key) => self.check_linger(key),
            Event::Break(key) => self.break_pair(key),
            Event::Timer(node, epoch, timer, arming) => {
                if self.nodes[node.0 as usize].epoch == epoch {
                    self.push_ready(node, Ready::Timer(timer, arming));
                }
            }
            Event::Mail(node, epoch) => {
                let state = &mut self.nodes[node.0 as usize];
                if state.epoch == epoch && !state.mail_queued {
                    state.mail_queued = true;
                    self.push_ready(node, Ready::Mail);
                }
            }
            Event::Unstall(node, epoch) => {
                if self.nodes[node.0 as usize].epoch == epoch {
                    self.unstall(node);
                }
            }
        }
    }

    pub(super) fn note(&mut self, node: NodeId, step: Step, conn: Option<ConnId>, value: u64) {
        self.trace.add(Entry {
            at: self.now,
            node,
            step,
            conn,
            value,
        });
    }

    pub(super) fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize]
    }

    pub(super) fn node_mut(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node.0 as usize]
    }

    /// Closes what was detached and then dropped.
    pub(super) fn close_orphans(&mut self) {
        for key in self.orphans.take() {
            self.shut(key);
        }
    }
}

// === impl MemIo: readiness ===

impl MemIo {
    /// Has the end looked at in its node's next wake-up (or in the present one).
    pub(super) fn ready(&mut self, key: EndKey) {
        if let Some(end) = self.pairs.end_mut(key)
            && matches!(end.owner, Owner::Conn(_))
            && !end.is_queued
        {
            end.is_queued = true;
            let node = end.node;
            self.push_ready(node, Ready::End(key));
        }
    }

    pub(super) fn push_ready(&mut self, node: NodeId, item: Ready) {
        let state = self.node_mut(node);
        if state.state != NodeState::Dead {
            state.ready.push_back(item);
            self.wake(node);
        }
    }

    /// Schedules a wake-up unless one is coming.
    pub(super) fn wake(&mut self, node: NodeId) {
        let delay_max = self.config.wake_delay_max;
        let state = self.node_mut(node);
        if state.state == NodeState::Running && !state.wake_scheduled && !state.in_batch {
            state.wake_scheduled = true;
            let epoch = state.epoch;
            let delay = draw_up_to(&mut self.rng, delay_max);
            self.schedule_after(delay, Event::Wake(node, epoch));
        }
    }

    pub(super) fn unstall(&mut self, node: NodeId) {
        let state = self.node_mut(node);
        if state.state == NodeState::Stalled {
            state.state = NodeState::Running;
            self.note(node, Step::Unstalled, None, 0);
            if !self.node(node).ready.is_empty() {
                self.wake(node);
            }
        }
    }

    fn check_deadline(&mut self, key: EndKey) {
        let (now, late_max) = (self.now, self.config.timer_late_max);
        let Some(end) = self.pairs.end_mut(key) else {
            return;
        };
        end.deadline_check = None;
        match end.deadline {
            Some(at) if at <= now => self.ready(key),
            Some(at) => {
                end.deadline_check = Some(at);
                let late = draw_up_to(&mut self.rng, late_max);
                self.schedule(at + late, Event::Deadline(key));
            }
            None => {}
        }
    }
}

// === impl MemIo: listening and connecting ===

impl MemIo {
    pub(super) fn listen(&mut self, node: NodeId, id: ListenerId, mut address: Address) -> Address {
        if let Address::Inet(inet) = &mut address
            && inet.port() == 0
        {
            inet.set_port(self.node_mut(node).take_port());
        }
        let state = self.node_mut(node);
        let position = state.listeners.len();
        state.listeners.push(Listener {
            id,
            address: address.clone(),
            open: true,
            accepting: true,
            backlog: std::collections::VecDeque::new(),
            is_queued: false,
        });
        self.routes
            .entry(address.clone())
            .or_default()
            .push((node, position));
        let homes = self.homes.entry(address.clone()).or_default();
        if !homes.contains(&node) {
            homes.push(node);
        }
        address
    }

    pub(super) fn start_connect(&mut self, to: &Address, options: &ConnectOptions) -> ConnId {
        let node = self.current;
        let capacity = self.draw_window();
        let mut client = End::new(Owner::Nobody, node, Phase::Connecting, capacity);
        if to.inet().is_some() {
            let state = self.node_mut(node);
            client.local = Some(SocketAddr::new(state.ip, state.take_port()));
        }
        let server = End::new(Owner::Nobody, node, Phase::Open, 0);
        let key = self.pairs.insert(Pair {
            ends: [client, server],
            address: to.clone(),
            bytes_left: None,
        });
        let full = self.node(node).connections() >= self.config.connections_max;
        let conn = self.node_mut(node).open_slot(key);
        if let Some(end) = self.pairs.end_mut(key) {
            end.owner = Owner::Conn(conn);
        }
        if full {
            self.schedule(self.now, Event::Answer(key, Some(Failure::Exhausted)));
            return conn;
        }
        let parties = Parties {
            client: node,
            server: None,
            address: to,
        };
        let extra = self.rules.connect_delay(&mut self.rng, self.now, parties);
        let delay = draw_time(&mut self.rng, &self.config.latency).max(LATENCY_MIN);
        self.schedule_after(delay.saturating_add(extra), Event::Attempt(key));
        self.schedule_after(options.timeout, Event::ConnectTimeout(key));
        conn
    }

    /// A connection attempt arrives: a listener takes it, or the answer is a failure, or none comes.
    fn attempt(&mut self, key: EndKey) {
        let Some(pair) = self.pairs.get(key) else {
            return;
        };
        let client = &pair.ends[0];
        if client.phase != Phase::Connecting {
            return;
        }
        let (from, address) = (client.node, pair.address.clone());
        let server = self.choose_listener(from, &address);
        let parties = Parties {
            client: from,
            server: server.ok().map(|(node, _)| node),
            address: &address,
        };
        let verdict = match self.rules.connect(&mut self.rng, self.now, parties) {
            Verdict::Pass => server.err().unwrap_or(Verdict::Pass),
            verdict => verdict,
        };
        match (verdict, server) {
            (Verdict::Fail(fault), _) => {
                let delay = draw_time(&mut self.rng, &self.config.latency).max(LATENCY_MIN);
                self.schedule_after(delay, Event::Answer(key, Some(fault.into())));
            }
            (Verdict::Pass, Ok((node, position))) => {
                let listener = &self.node(node).listeners[position];
                if listener.backlog.len() < self.config.backlog_max {
                    let id = listener.id;
                    self.establish(key, node, position, id);
                } else {
                    self.schedule_after(self.config.retry_after, Event::Attempt(key));
                }
            }
            _ => self.schedule_after(self.config.retry_after, Event::Attempt(key)),
        }
    }

    /// One of the listeners of `address` that can be reached from `from`, as `SO_REUSEPORT` spreads them.
    fn choose_listener(
        &mut self,
        from: NodeId,
        address: &Address,
    ) -> Result<(NodeId, usize), Verdict> {
        let mut candidates = self.routes.get(address).cloned().unwrap_or_default();
        if let Some(inet) = address.inet() {
            let any = match inet {
                SocketAddr::V4(_) => SocketAddr::from(([0; 4], inet.port())),
                SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], inet.port())),
            };
            let here = self.routes.get(&Address::Inet(any)).into_iter().flatten();
            candidates.extend(here.filter(|(node, _)| self.nodes[node.0 as usize].ip == inet.ip()));
        }
        let parted = |node| {
            self.rules.parted(
                self.now,
                Parties {
                    client: from,
                    server: Some(node),
                    address,
                },
            )
        };
        if candidates.is_empty() {
            let homes = self.homes.get(address).map_or(&[][..], Vec::as_slice);
            return Err(
                if !homes.is_empty() && homes.iter().all(|home| parted(*home)) {
                    Verdict::Swallow
                } else if homes.is_empty() && address.inet().is_none() {
                    // A Unix socket's file appears with its first listener and stays.
                    Verdict::Fail(IoFault::Unreachable)
                } else {
                    Verdict::Fail(IoFault::Refused)
                },
            );
        }
        candidates.retain(|(node, _)| !parted(*node));
        let chosen = self.rng.below(candidates.len() as u64) as usize;
        candidates.get(chosen).copied().ok_or(Verdict::Swallow)
    }

    fn establish(&mut self, key: EndKey, node: NodeId, position: usize, id: ListenerId) {
        let capacity = self.draw_window();
        let answer_at = self.now + draw_time(&mut self.rng, &self.config.latency).max(LATENCY_MIN);
        let Some(pair) = self.pairs.get_mut(key) else {
            return;
        };
        let parties = Parties {
            client: pair.ends[0].node,
            server: Some(node),
            address: &pair.address,
        };
        let doom: Doom = self.rules.doom(&mut self.rng, self.now, parties);
        let local = pair.address.inet();
        // Nothing overtakes the answer.
        pair.ends[0].last_arrival = answer_at;
        pair.ends[1] = End::new(Owner::Backlog(id), node, Phase::Open, capacity);
        pair.ends[1].local = local;
        pair.bytes_left = doom.after_bytes.filter(|bytes| *bytes > 0);
        let break_at = if doom.after_bytes == Some(0) {
            Some(answer_at)
        } else {
            doom.at
        };
        self.schedule(answer_at, Event::Answer(key, None));
        if let Some(at) = break_at {
            self.schedule(at, Event::Break(key));
        }
        self.node_mut(node).listeners[position]
            .backlog
            .push_back(key.peer());
        self.offer(node, position);
    }

    /// Has the listener's backlog looked at if the node accepts from it.
    pub(super) fn offer(&mut self, node: NodeId, position: usize) {
        let listener = &mut self.node_mut(node).listeners[position];
        if listener.accepting && !listener.backlog.is_empty() && !listener.is_queued {
            listener.is_queued = true;
            self.push_ready(node, Ready::Accept(position));
        }
    }

    fn answer(&mut self, key: EndKey, failure: Option<Failure>) {
        if failure.is_none() && self.is_parted(key) {
            self.schedule_after(self.config.retry_after, Event::Answer(key, failure));
            return;
        }
        self.settle(key, failure.map_or(Ok(()), |failure| Err(failure.into())));
    }

    /// The result of a connection attempt is known, unless it was before.
    fn settle(&mut self, key: EndKey, result: Result<(), IoFault>) {
        if let Some(end) = self.pairs.end_mut(key)
            && end.phase == Phase::Connecting
        {
            end.phase = Phase::Answered(result);
            self.ready(key);
        }
    }

    /// Closes listening sockets: all of `node`, or those of one listener.
    pub(super) fn close_listeners(&mut self, node: NodeId, only: Option<ListenerId>) {
        for position in 0..self.node(node).listeners.len() {
            let listener = &mut self.node_mut(node).listeners[position];
            if !listener.open || only.is_some_and(|id| id != listener.id) {
                continue;
            }
            listener.open = false;
            listener.accepting = false;
            let waiting = std::mem::take(&mut listener.backlog);
            let address = listener.address.clone();
            if let Some(routes) = self.routes.get_mut(&address) {
                routes.retain(|route| *route != (node, position));
                if routes.is_empty() {
                    self.routes.remove(&address);
                }
            }
            for key in waiting {
                self.abort(key);
            }
        }
    }

    fn draw_window(&mut self) -> usize {
        let (low, high) = (*self.config.window.start(), *self.config.window.end());
        (low + self.rng.below((high.saturating_sub(low) + 1) as u64) as usize).max(1)
    }
}

// === impl MemIo: segments ===

impl MemIo {
    /// Sends a segment to `to` from its peer.
    fn put(&mut self, to: EndKey, segment: Segment) {
        let Some(pair) = self.pairs.get(to) else {
            return;
        };
        let [client, server] = [pair.ends[0].node, pair.ends[1].node];
        let (mut delay, mut rate) = match self.links.get(&(client.min(server), client.max(server)))
        {
            Some(link) => (
                draw_time(&mut self.rng, &link.latency),
                link.bytes_per_second,
            ),
            None => (
                draw_time(&mut self.rng, &self.config.latency),
                self.config.bytes_per_second,
            ),
        };
        if !self.rules.is_empty() {
            let parties = Parties {
                client,
                server: Some(server),
                address: &pair.address,
            };
            let (extra, limit) = self.rules.segment(&mut self.rng, self.now, parties);
            delay = delay.saturating_add(extra);
            rate = [rate, limit].into_iter().flatten().min();
        }
        let Some(end) = self.pairs.end_mut(to) else {
            return;
        };
        let len = match &segment {
            Segment::Data(bytes) => bytes.len(),
            Segment::Fin | Segment::Rst => 0,
        };
        let mut at = (self.now + delay.max(LATENCY_MIN)).max(end.last_arrival);
        if let Some(rate) = rate {
            at =
                at + Duration::from_nanos((len as u64).saturating_mul(1_000_000_000) / rate.max(1));
        }
        end.last_arrival = at;
        end.used += len;
        end.in_flight.push_back((at, segment));
        if !end.arrival_scheduled {
            end.arrival_scheduled = true;
            self.schedule(at, Event::Arrive(to));
        }
    }

    fn arrive(&mut self, to: EndKey) {
        let parted = self.is_parted(to);
        let now = self.now;
        let Some(end) = self.pairs.end_mut(to) else {
            return;
        };
        end.arrival_scheduled = false;
        if parted {
            return self.hold(to);
        }
        end.held_since = None;
        loop {
            let Some(end) = self.pairs.end_mut(to) else {
                return;
            };
            match end.in_flight.front() {
                Some((at, _)) if *at <= now => {}
                Some((at, _)) => {
                    let at = *at;
                    if !std::mem::replace(&mut end.arrival_scheduled, true) {
                        self.schedule(at, Event::Arrive(to));
                    }
                    return;
                }
                None => return,
            }
            match end.in_flight.pop_front() {
                Some((_, Segment::Data(bytes))) => self.receive(to, &bytes),
                Some((_, Segment::Fin)) => {
                    end.fin_received = true;
                    self.linger(to);
                    self.ready(to);
                }
                Some((_, Segment::Rst)) => self.break_end(to, IoFault::Reset),
                None => return,
            }
        }
    }

    /// What is in flight meets a partition: it is sent again later, but for resets.
    fn hold(&mut self, to: EndKey) {
        let (now, retry_after, give_up_after) =
            (self.now, self.config.retry_after, self.config.give_up_after);
        let Some(end) = self.pairs.end_mut(to) else {
            return;
        };
        end.in_flight
            .retain(|(_, segment)| !matches!(segment, Segment::Rst));
        if end.in_flight.is_empty() {
            return;
        }
        let since = *end.held_since.get_or_insert(now);
        if now.since(since) < give_up_after {
            end.arrival_scheduled = true;
            self.schedule_after(retry_after, Event::Arrive(to));
            return;
        }
        end.in_flight.clear();
        end.used = end.received.len();
        self.break_end(to.peer(), IoFault::TimedOut);
    }

    fn receive(&mut self, to: EndKey, bytes: &[u8]) {
        let Some(pair) = self.pairs.get_mut(to) else {
            return;
        };
        let mut keep = bytes.len();
        let mut is_last = false;
        if let Some(left) = &mut pair.bytes_left {
            keep = keep.min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= keep as u64;
            is_last = *left == 0;
        }
        let Some(end) = self.pairs.end_mut(to) else {
            return;
        };
        match end.owner {
            Owner::Gone | Owner::Nobody => {
                // RFC 9293 section 3.10.7.1: data for a closed connection is answered with a reset.
                end.used -= bytes.len();
                self.put(to.peer(), Segment::Rst);
            }
            Owner::Lingering(..) => {
                end.used -= bytes.len();
                self.unblock(to.peer());
            }
            _ if end.broken.is_some() || end.write_dead.is_some() => end.used -= bytes.len(),
            _ => {
                end.received.extend(&bytes[..keep]);
                end.used -= bytes.len() - keep;
                self.ready(to);
            }
        }
        if is_last {
            self.break_pair(to);
        }
    }

    /// How many of `wanted` bytes the kernel takes now; if not all, the writer is told when to go on.
    pub(super) fn admit(&mut self, from: EndKey, wanted: usize) -> usize {
        let room = self.pairs.end(from.peer()).map_or(0, End::room);
        let fits = wanted.min(room);
        let mut taken = fits;
        if fits > 1 && self.rng.below(1_000) < u64::from(self.config.short_write_permille) {
            taken = 1 + self.rng.below(fits as u64) as usize;
        }
        if taken < wanted
            && let Some(end) = self.pairs.end_mut(from)
        {
            end.write_blocked = true;
            if taken < fits {
                self.schedule_after(LATENCY_MIN, Event::Writable(from));
            }
        }
        taken
    }

    /// Sends bytes that were admitted.
    pub(super) fn transmit(&mut self, from: EndKey, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(self.config.pieces.cut(&mut self.rng, bytes.len()));
            self.put(from.peer(), Segment::Data(piece.to_vec()));
            bytes = rest;
        }
    }

    pub(super) fn send_fin(&mut self, from: EndKey) {
        if let Some(end) = self.pairs.end_mut(from)
            && !end.fin_sent
            && end.broken.is_none()
        {
            end.fin_sent = true;
            self.put(from.peer(), Segment::Fin);
        }
    }

    /// Writes stuck bytes as far as there is room.
    pub(super) fn flush(&mut self, from: EndKey) {
        let Some(end) = self.pairs.end(from) else {
            return;
        };
        let taken = self.admit(from, end.stuck.len());
        let Some(end) = self.pairs.end_mut(from) else {
            return;
        };
        let bytes: Vec<u8> = end.stuck.drain(..taken).collect();
        self.transmit(from, &bytes);
    }

    /// The reader has made room: tells a writer that waits for it.
    pub(super) fn unblock(&mut self, writer: EndKey) {
        let Some(reader) = self.pairs.end(writer.peer()) else {
            return;
        };
        // Room for a few bytes is not worth a wake-up (Linux: a third of the buffer).
        let enough = reader.used <= reader.capacity / 4 * 3;
        if let Some(end) = self.pairs.end_mut(writer)
            && end.write_blocked
            && enough
        {
            end.write_blocked = false;
            let delay = draw_time(&mut self.rng, &self.config.latency).max(LATENCY_MIN);
            self.schedule_after(delay, Event::Writable(writer));
        }
    }

    fn writable(&mut self, key: EndKey) {
        if let Some(end) = self.pairs.end_mut(key) {
            end.write_blocked = false;
            self.linger(key);
            self.ready(key);
        }
    }

    fn is_parted(&self, key: EndKey) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let Some(pair) = self.pairs.get(key) else {
            return false;
        };
        let [client, server] = [&pair.ends[0], &pair.ends[1]];
        if server.owner == Owner::Nobody {
            return false;
        }
        let parties = Parties {
            client: client.node,
            server: Some(server.node),
            address: &pair.address,
        };
        self.rules.parted(self.now, parties)
    }
}

// === impl MemIo: ends of connections ===

impl MemIo {
    /// Takes the end from its protocol: its token is stale, its pumps are over.
    pub(super) fn unhook(&mut self, key: EndKey) {
        let connections_max = self.config.connections_max;
        let Some(end) = self.pairs.end_mut(key) else {
            return;
        };
        let Owner::Conn(conn) = end.owner else { return };
        let node = end.node;
        let pump = end.pump.take();
        let sources = std::mem::take(&mut end.pumped_by);
        end.deadline = None;
        end.owner = Owner::Gone;
        if let Some(pump) = pump
            && let Some(sink) = self.pairs.end_mut(pump.to)
        {
            sink.pumped_by.retain(|source| *source != key);
        }
        for source in sources {
            self.ready(source);
        }
        let was_full = self.node(node).connections() >= connections_max;
        self.node_mut(node).close_slot(conn);
        if was_full {
            for position in 0..self.node(node).listeners.len() {
                self.offer(node, position);
            }
        }
    }

    /// Closes an end without a token as close(2) does: with a reset if input was left unread,
    /// otherwise with the end of data.
    pub(super) fn shut(&mut self, key: EndKey) {
        let Some(end) = self.pairs.end(key) else {
            return;
        };
        if !end.received.is_empty() && end.broken.is_none() {
            return self.abort(key);
        }
        self.send_fin(key);
        self.bury(key);
    }

    /// Closes an end without a token with a reset.
    pub(super) fn abort(&mut self, key: EndKey) {
        let discards = self.draw_discard();
        let is_broken = self.pairs.end(key).is_none_or(|end| end.broken.is_some());
        if !is_broken
            && let Some(peer) = self.pairs.end_mut(key.peer())
            && peer.owner != Owner::Nobody
        {
            if discards {
                // What the kernel had not sent yet is dropped; how much that is, nobody knows.
                let kept = self.rng.below(peer.in_flight.len() as u64 + 1) as usize;
                for (_, segment) in peer.in_flight.drain(kept..) {
                    if let Segment::Data(bytes) = segment {
                        peer.used -= bytes.len();
                    }
                }
            }
            self.put(key.peer(), Segment::Rst);
        }
        self.bury(key);
    }

    fn bury(&mut self, key: EndKey) {
        let Some(end) = self.pairs.end_mut(key) else {
            return;
        };
        end.owner = Owner::Gone;
        end.used -= end.received.len();
        end.received.clear();
        end.stuck.clear();
        let node = end.node;
        self.node_mut(node).lingering.remove(&key);
        self.pairs.tidy(key);
    }

    /// The connection is broken at this end.
    pub(super) fn break_end(&mut self, key: EndKey, fault: IoFault) {
        let discards = self.draw_discard();
        let Some(end) = self.pairs.end_mut(key) else {
            return;
        };
        if end.is_gone() || end.broken.is_some() {
            return;
        }
        end.broken = Some(fault);
        end.in_flight.clear();
        if discards {
            end.received.clear();
        }
        end.used = end.received.len();
        end.stuck.clear();
        end.drain_due = false;
        if matches!(end.owner, Owner::Lingering(..)) {
            return self.bury(key);
        }
        let sources = end.pumped_by.clone();
        self.ready(key);
        for source in sources {
            self.ready(source);
        }
    }

    /// The network breaks the connection: both ends see a reset.
    fn break_pair(&mut self, key: EndKey) {
        if let Some(end) = self.pairs.end(key) {
            let node = end.node;
            self.note(node, Step::Broken, None, 0);
            self.break_end(key, IoFault::Reset);
            self.break_end(key.peer(), IoFault::Reset);
        }
    }

    /// Begins the life after `Close::Linger`. The end has no token any more.
    pub(super) fn start_linger(&mut self, key: EndKey, patience: Duration) {
        let until = self.now + patience;
        let Some(end) = self.pairs.end_mut(key) else {
            return;
        };
        end.owner = Owner::Lingering(until, patience);
        let node = end.node;
        self.node_mut(node).lingering.insert(key);
        self.schedule(until, Event::Linger(key));
        self.linger(key);
    }

    /// Goes on with a lingering end: writes, half-closes, discards.
    fn linger(&mut self, key: EndKey) {
        let now = self.now;
        let Some(end) = self.pairs.end(key) else {
            return;
        };
        let Owner::Lingering(_, patience) = end.owner else {
            return;
        };
        let before = (end.stuck.len(), end.fin_sent);
        if !end.stuck.is_empty() && !end.write_blocked {
            self.flush(key);
        }
        if self.pairs.end(key).is_some_and(|end| end.stuck.is_empty()) {
            self.send_fin(key);
        }
        let Some(end) = self.pairs.end_mut(key) else {
            return;
        };
        if (end.stuck.len(), end.fin_sent) != before {
            end.owner = Owner::Lingering(now + patience, patience);
        }
        end.used -= end.received.len();
        end.received.clear();
        if end.fin_sent && end.fin_received {
            return self.bury(key);
        }
        self.unblock(key.peer());
    }

    fn check_linger(&mut self, key: EndKey) {
        let Some(end) = self.pairs.end(key) else {
            return;
        };
        let Owner::Lingering(until, _) = end.owner else {
            return;
        };
        if until > self.now {
            self.schedule(until, Event::Linger(key));
        } else if end.stuck.is_empty() {
            self.shut(key);
        } else {
            self.abort(key);
        }
    }

    /// Ends everything that a process held, as the kernel does when it is gone.
    pub(super) fn kill(&mut self, node: NodeId) {
        self.note(node, Step::Killed, None, 0);
        self.close_listeners(node, None);
        let state = self.node_mut(node);
        state.state = NodeState::Dead;
        state.epoch = state.epoch.wrapping_add(1);
        state.stop_wanted = false;
        state.wake_scheduled = false;
        state.mail_queued = false;
        state.timers.clear();
        state.listeners.clear();
        let open: Vec<EndKey> = state.slots.iter().filter_map(|slot| slot.1).collect();
        let lingering = std::mem::take(&mut state.lingering);
        for key in open {
            self.unhook(key);
            self.shut(key);
        }
        for key in lingering {
            self.shut(key);
        }
        self.node_mut(node).ready.clear();
    }

    fn draw_discard(&mut self) -> bool {
        self.rng.below(1_000) < u64::from(self.config.reset_discards_permille)
    }
}

impl From<IoFault> for Failure {
    fn from(fault: IoFault) -> Self {
        match fault {
            IoFault::Refused => Self::Refused,
            IoFault::Reset => Self::Reset,
            IoFault::TimedOut => Self::TimedOut,
            IoFault::Unreachable => Self::Unreachable,
            IoFault::Exhausted => Self::Exhausted,
            IoFault::Other => Self::Other,
        }
    }
}

impl From<Failure> for IoFault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused => Self::Refused,
            Failure::Reset => Self::Reset,
            Failure::TimedOut => Self::TimedOut,
            Failure::Unreachable => Self::Unreachable,
            Failure::Exhausted => Self::Exhausted,
            Failure::Other => Self::Other,
        }
    }
}
