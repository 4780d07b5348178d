//! Listening and connecting: from `Io::connect` over the listener's backlog to both ends being open.

use std::collections::VecDeque;
use std::net::SocketAddr;

use weir_core::Address;

use super::config::{LATENCY_MIN, draw_time};
use super::fault::{Doom, Parties, Verdict};
use super::net::{Event, Failure, MemIo};
use super::node::{Listener, NodeId, Ready};
use super::pair::{End, EndKey, Owner, Pair, Phase};
use crate::{ConnId, ConnectOptions, IoFault, ListenerId};

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
            backlog: VecDeque::new(),
            is_queued: false,
        });
        self.routes.entry(address.clone()).or_default().push((node, position));
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
        let key = self.pairs.insert(Pair { ends: [client, server], address: to.clone(), bytes_left: None });
        let full = self.node(node).connections() >= self.config.connections_max;
        let conn = self.node_mut(node).open_slot(key);
        if let Some(end) = self.pairs.end_mut(key) {
            end.owner = Owner::Conn(conn);
        }
        if full {
            self.schedule(self.now, Event::Answer(key, Some(Failure::Exhausted)));
            return conn;
        }
        let parties = Parties { client: node, server: None, address: to };
        let extra = self.rules.connect_delay(&mut self.rng, self.now, parties);
        let delay = draw_time(&mut self.rng, &self.config.latency).max(LATENCY_MIN);
        self.schedule_after(delay.saturating_add(extra), Event::Attempt(key));
        self.schedule_after(options.timeout, Event::ConnectTimeout(key));
        conn
    }

    /// A connection attempt arrives: a listener takes it, or the answer is a failure, or none comes.
    pub(super) fn attempt(&mut self, key: EndKey) {
        let Some(pair) = self.pairs.get(key) else {
            return;
        };
        let client = &pair.ends[0];
        if client.phase != Phase::Connecting {
            return;
        }
        let (from, address) = (client.node, pair.address.clone());
        let server = self.choose_listener(from, &address);
        let parties = Parties { client: from, server: server.ok().map(|(node, _)| node), address: &address };
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
    fn choose_listener(&mut self, from: NodeId, address: &Address) -> Result<(NodeId, usize), Verdict> {
        let mut candidates = self.routes.get(address).cloned().unwrap_or_default();
        if let Some(inet) = address.inet() {
            let any = match inet {
                SocketAddr::V4(_) => SocketAddr::from(([0; 4], inet.port())),
                SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], inet.port())),
            };
            let here = self.routes.get(&Address::Inet(any)).into_iter().flatten();
            candidates.extend(here.filter(|(node, _)| self.nodes[node.0 as usize].ip == inet.ip()));
        }
        let parted = |node| self.rules.parted(self.now, Parties { client: from, server: Some(node), address });
        if candidates.is_empty() {
            let homes = self.homes.get(address).map_or(&[][..], Vec::as_slice);
            return Err(if !homes.is_empty() && homes.iter().all(|home| parted(*home)) {
                Verdict::Swallow
            } else if homes.is_empty() && address.inet().is_none() {
                // A Unix socket's file appears with its first listener and stays.
                Verdict::Fail(IoFault::Unreachable)
            } else {
                Verdict::Fail(IoFault::Refused)
            });
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
        let parties = Parties { client: pair.ends[0].node, server: Some(node), address: &pair.address };
        let doom: Doom = self.rules.doom(&mut self.rng, self.now, parties);
        let local = pair.address.inet();
        // Nothing overtakes the answer.
        pair.ends[0].last_arrival = answer_at;
        pair.ends[1] = End::new(Owner::Backlog(id), node, Phase::Open, capacity);
        pair.ends[1].local = local;
        pair.bytes_left = doom.after_bytes.filter(|bytes| *bytes > 0);
        let break_at = if doom.after_bytes == Some(0) { Some(answer_at) } else { doom.at };
        self.schedule(answer_at, Event::Answer(key, None));
        if let Some(at) = break_at {
            self.schedule(at, Event::Break(key));
        }
        self.node_mut(node).listeners[position].backlog.push_back(key.peer());
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

    pub(super) fn answer(&mut self, key: EndKey, failure: Option<Failure>) {
        if failure.is_none() && self.is_parted(key) {
            self.schedule_after(self.config.retry_after, Event::Answer(key, failure));
            return;
        }
        self.settle(key, failure.map_or(Ok(()), |failure| Err(failure.into())));
    }

    /// The result of a connection attempt is known, unless it was before.
    pub(super) fn settle(&mut self, key: EndKey, result: Result<(), IoFault>) {
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
