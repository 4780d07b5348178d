//! The network and the kernels of all nodes: the state, the events in virtual time, and what is ready.
//!
//! Everything random comes from one generator and everything that happens passes through one queue
//! ordered by (time, order of scheduling), so that a seed fixes the whole run. Nothing here scans all
//! connections: the cost of an event does not depend on how many there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use weir_core::hash::Rng;
use weir_core::{Address, Instant};

use super::config::{Link, NetConfig, draw_up_to};
use super::fault::Rules;
use super::node::{Node, NodeId, NodeState, Ready};
use super::pair::{EndKey, Orphans, Owner, Pairs};
use super::trace::{Entry, Step, Trace};
use crate::{ConnId, IoFault};

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
    pub(super) routes: BTreeMap<Address, Vec<(NodeId, usize)>>,
    /// Who ever listened there.
    pub(super) homes: BTreeMap<Address, Vec<NodeId>>,
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
        self.queue.push(Reverse((at.max(self.now), self.scheduled, event)));
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
        self.trace.add(Entry { at: self.now, node, step, conn, value });
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
