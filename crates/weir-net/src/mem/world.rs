//! The world: nodes with their protocols, the clock, and the loop that runs them.

use std::any::Any;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_core::{Address, Instant};

use super::config::{Link, NetConfig, draw_up_to};
use super::fault::{Fault, Guard, Rule, Scope};
use super::net::{Event, MemIo};
use super::node::{Node, NodeId, NodeState};
use super::pair::Call;
use super::trace::{Step, Trace};
use crate::{ListenerId, Mailbox, Protocol, Sender, Wake};

/// Callbacks per wake-up; what is left waits for the next one.
const BATCH_MAX: usize = 1_024;

/// A deterministic world of nodes that talk over a simulated network in virtual time.
///
/// Each node is one worker that runs one [`Protocol`] over [`MemIo`]; a process with several workers is
/// several nodes that listen on the same addresses. Every node takes the same type of message.
///
/// The same seed, configuration, protocols and calls give the same run, event by event (compare
/// [`Trace::hash`]), provided that protocols take no randomness, time or order (of a `HashMap`, say) from
/// elsewhere and that only this thread posts messages. A panic while the world exists prints the seed
/// and the last events.
pub struct World<M> {
    seed: u64,
    io: MemIo,
    hosts: Vec<Host<M>>,
    bells: Arc<Bells>,
    messages: Vec<M>,
}

struct Host<M> {
    protocol: Option<Box<dyn Hosted<M>>>,
    mailbox: Option<Mailbox<M>>,
}

/// A protocol that can be looked at by its own type.
trait Hosted<M>: Protocol<MemIo, Message = M> {
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<M, P: Protocol<MemIo, Message = M> + 'static> Hosted<M> for P {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Which mailboxes were posted to since the world looked.
#[derive(Default)]
struct Bells {
    any: AtomicBool,
    rung: Mutex<Vec<(NodeId, u32)>>,
}

struct Bell {
    node: NodeId,
    epoch: u32,
    bells: Arc<Bells>,
}

impl Wake for Bell {
    fn wake(&self) {
        self.bells.rung.lock().unwrap_or_else(PoisonError::into_inner).push((self.node, self.epoch));
        self.bells.any.store(true, Ordering::Release);
    }
}

// === impl World: set-up ===

impl<M: Send + 'static> World<M> {
    /// An empty world.
    pub fn new(seed: u64, config: NetConfig) -> Self {
        Self { seed, io: MemIo::new(seed, config), hosts: Vec::new(), bells: Arc::default(), messages: Vec::new() }
    }

    /// Adds a node and starts its protocol. Its address is `10.0.0.1` for the first one, and so on.
    pub fn add_node<P: Protocol<MemIo, Message = M> + 'static>(&mut self, protocol: P) -> NodeId {
        let id = NodeId(self.hosts.len() as u32);
        self.io.nodes.push(Node::new(id));
        self.hosts.push(Host { protocol: None, mailbox: None });
        self.start(id, Box::new(protocol));
        id
    }

    /// Has `node` listen; with port 0, on a free one. Gives the address. Several nodes may listen on one
    /// address: connections are spread over them. An unspecified IP address means the node's own.
    pub fn listen(&mut self, node: NodeId, listener: ListenerId, address: impl Into<Address>) -> Address {
        self.io.listen(node, listener, address.into())
    }

    /// The node's IP address.
    pub fn ip(&self, node: NodeId) -> IpAddr {
        self.io.node(node).ip
    }

    /// Gives the node another IP address (several workers of one machine share theirs).
    pub fn set_ip(&mut self, node: NodeId, ip: IpAddr) {
        self.io.node_mut(node).ip = ip;
    }

    /// Sets the network between two nodes (or of a node with itself).
    pub fn set_link(&mut self, a: NodeId, b: NodeId, link: Link) {
        self.io.links.insert((a.min(b), a.max(b)), link);
    }

    /// The sending end of the node's mailbox. After a restart, a new one is needed.
    ///
    /// # Panics
    /// If the node is dead.
    pub fn sender(&self, node: NodeId) -> Sender<M> {
        let mailbox = self.hosts[node.0 as usize].mailbox.as_ref();
        assert!(mailbox.is_some(), "{node:?} is dead");
        #[expect(clippy::unwrap_used, reason = "asserted just above, with a message of its own")]
        mailbox.unwrap().sender()
    }
}

// === impl World: running ===

impl<M: Send + 'static> World<M> {
    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.io.now
    }

    /// Lets one event happen. `false` if there is none.
    pub fn step(&mut self) -> bool {
        self.settle();
        let Some(event) = self.io.take_event() else {
            return false;
        };
        match event {
            Event::Wake(node, epoch) => self.wake(node, epoch),
            event => self.io.handle(event),
        }
        self.settle();
        true
    }

    /// Lets everything happen up to and including `until`, which is then the time.
    pub fn run_until(&mut self, until: Instant) {
        self.settle();
        while self.io.next_event_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.io.now = self.io.now.max(until);
    }

    /// [`run_until`](Self::run_until) so much later.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now() + span);
    }

    /// Runs until nothing is left to happen, at most for `limit`. Whether it came to rest.
    pub fn run_until_idle(&mut self, limit: Duration) -> bool {
        self.run_until_true(limit, |_| false);
        self.io.next_event_at().is_none()
    }

    /// Runs until `condition` holds (looked at after each event), at most for `limit`. Whether it holds.
    pub fn run_until_true(&mut self, limit: Duration, mut condition: impl FnMut(&Self) -> bool) -> bool {
        let until = self.now() + limit;
        loop {
            self.settle();
            if condition(self) {
                return true;
            }
            match self.io.next_event_at() {
                Some(at) if at <= until => {
                    self.step();
                }
                Some(_) => {
                    self.io.now = until;
                    return condition(self);
                }
                None => return false,
            }
        }
    }

    /// Calls into a node's protocol, as if a callback were due on it now.
    ///
    /// # Panics
    /// If the node is dead or its protocol is not a `P`.
    pub fn with_node<P: 'static, R>(&mut self, node: NodeId, call: impl FnOnce(&mut P, &mut MemIo) -> R) -> R {
        self.enter(node);
        let protocol = self.hosts[node.0 as usize].protocol.as_mut();
        // Through the box: the box itself is a different `Any`.
        let protocol = protocol.and_then(|protocol| (**protocol).as_any().downcast_mut::<P>());
        assert!(protocol.is_some(), "{node:?} is dead or runs another protocol");
        #[expect(clippy::unwrap_used, reason = "asserted just above, with a message of its own")]
        let result = call(protocol.unwrap(), &mut self.io);
        self.leave(node);
        self.settle();
        result
    }

    fn wake(&mut self, node: NodeId, epoch: u32) {
        let state = self.io.node_mut(node);
        if state.epoch != epoch {
            return;
        }
        state.wake_scheduled = false;
        if state.state != NodeState::Running {
            return;
        }
        self.enter(node);
        for _ in 0..BATCH_MAX {
            let Some(call) = self.io.next_call(node) else {
                break;
            };
            self.call(node, call);
        }
        if let Some(protocol) = self.hosts[node.0 as usize].protocol.as_mut() {
            protocol.on_batch(&mut self.io);
        }
        self.leave(node);
    }

    fn enter(&mut self, node: NodeId) {
        self.io.current = node;
        let now = self.io.now;
        let state = self.io.node_mut(node);
        state.read_clock(now);
        state.in_batch = true;
    }

    fn leave(&mut self, node: NodeId) {
        let state = self.io.node_mut(node);
        state.in_batch = false;
        if state.stop_wanted {
            self.deliver_last(node);
            self.kill(node);
        } else if !state.ready.is_empty() {
            self.io.wake(node);
        }
    }

    /// What is left in the mailbox of a node that stops (rule 7 of the contract).
    fn deliver_last(&mut self, node: NodeId) {
        let Host { protocol: Some(protocol), mailbox: Some(mailbox) } = &mut self.hosts[node.0 as usize] else {
            return;
        };
        mailbox.close(&mut self.messages);
        for message in self.messages.drain(..) {
            self.io.note(node, Step::Message, None, 0);
            protocol.on_message(&mut self.io, message);
        }
    }

    fn call(&mut self, node: NodeId, call: Call) {
        let host = &mut self.hosts[node.0 as usize];
        let Some(protocol) = host.protocol.as_mut() else {
            return;
        };
        let io = &mut self.io;
        match call {
            Call::Accepted(conn, listener, peer) => {
                io.note(node, Step::Accepted, Some(conn), u64::from(listener.0));
                protocol.on_accepted(io, conn, listener, peer);
            }
            Call::Connected(conn, result) => {
                io.note(node, Step::Connected, Some(conn), u64::from(result.is_err()));
                protocol.on_connected(io, conn, result);
            }
            Call::Data(conn) => {
                let bytes = std::mem::take(&mut io.scratch);
                io.note(node, Step::Data, Some(conn), bytes.len() as u64);
                protocol.on_data(io, conn, &bytes);
                io.scratch = bytes;
            }
            Call::Eof(conn) => {
                io.note(node, Step::Eof, Some(conn), 0);
                protocol.on_eof(io, conn);
            }
            Call::Drained(conn) => {
                io.note(node, Step::Drained, Some(conn), 0);
                protocol.on_drained(io, conn);
            }
            Call::Pumped(conn, moved, end) => {
                io.note(node, Step::Pumped, Some(conn), moved);
                protocol.on_pumped(io, conn, moved, end);
            }
            Call::Reset(conn, fault) => {
                io.note(node, Step::Reset, Some(conn), 0);
                protocol.on_reset(io, conn, fault);
            }
            Call::Deadline(conn) => {
                io.note(node, Step::Deadline, Some(conn), 0);
                protocol.on_deadline(io, conn);
            }
            Call::Timer(key) => {
                io.note(node, Step::Timer, None, u64::from(key));
                protocol.on_timer(io, key);
            }
            Call::Messages => {
                if let Some(mailbox) = &host.mailbox {
                    mailbox.take_all(&mut self.messages);
                }
                for message in self.messages.drain(..) {
                    io.note(node, Step::Message, None, 0);
                    protocol.on_message(io, message);
                }
            }
        }
    }

    /// Takes note of what was done beside the event queue: messages posted, detached connections
    /// dropped.
    fn settle(&mut self) {
        self.io.close_orphans();
        if !self.bells.any.swap(false, Ordering::AcqRel) {
            return;
        }
        let rung = std::mem::take(&mut *self.bells.rung.lock().unwrap_or_else(PoisonError::into_inner));
        for (node, epoch) in rung {
            let delay = draw_up_to(&mut self.io.rng, self.io.config.mail_delay_max);
            self.io.schedule_after(delay, Event::Mail(node, epoch));
        }
    }

    fn start(&mut self, node: NodeId, mut protocol: Box<dyn Hosted<M>>) {
        let epoch = self.io.node(node).epoch;
        let bell = Bell { node, epoch, bells: Arc::clone(&self.bells) };
        let mailbox = Mailbox::new(self.io.config.mailbox_max, Box::new(bell));
        self.enter(node);
        self.io.note(node, Step::Start, None, 0);
        protocol.on_start(&mut self.io);
        self.hosts[node.0 as usize] = Host { protocol: Some(protocol), mailbox: Some(mailbox) };
        self.leave(node);
        self.settle();
    }
}

// === impl World: faults ===

impl<M: Send + 'static> World<M> {
    /// Puts a rule in force for as long as the guard lives.
    pub fn inject(&mut self, rule: Rule) -> Guard {
        self.io.rules.add(rule)
    }

    /// Lets nothing pass between the two sets of nodes for as long as the guard lives.
    pub fn partition(&mut self, left: &[NodeId], right: &[NodeId]) -> Guard {
        self.inject(Rule::new(Scope::Across(left.to_vec(), right.to_vec()), Fault::Partition))
    }

    /// Lifts all rules.
    pub fn clear_faults(&mut self) {
        self.io.rules.clear();
    }

    /// Stops the node as SIGSTOP does: its kernel goes on, its protocol does not.
    pub fn stall(&mut self, node: NodeId) {
        let state = self.io.node_mut(node);
        if state.state == NodeState::Running {
            state.state = NodeState::Stalled;
            self.io.note(node, Step::Stalled, None, 0);
        }
    }

    /// Stalls the node for `span`.
    pub fn stall_for(&mut self, node: NodeId, span: Duration) {
        self.stall(node);
        let epoch = self.io.node(node).epoch;
        self.io.schedule_after(span, Event::Unstall(node, epoch));
    }

    /// Undoes [`stall`](Self::stall).
    pub fn unstall(&mut self, node: NodeId) {
        self.io.unstall(node);
    }

    /// Kills the node as SIGKILL does: its connections are closed (with a reset where input was unread),
    /// its listeners are gone, its mailbox and timers too.
    pub fn kill(&mut self, node: NodeId) {
        if self.io.node(node).state != NodeState::Dead {
            self.io.kill(node);
            let host = &mut self.hosts[node.0 as usize];
            host.mailbox = None;
            host.protocol = None;
            self.settle();
        }
    }

    /// Starts a dead node again with a new protocol and no listeners.
    ///
    /// # Panics
    /// If the node is not dead.
    pub fn restart<P: Protocol<MemIo, Message = M> + 'static>(&mut self, node: NodeId, protocol: P) {
        let state = self.io.node_mut(node);
        assert!(state.state == NodeState::Dead, "{node:?} still runs");
        state.state = NodeState::Running;
        self.start(node, Box::new(protocol));
    }
}

// === impl World: looking at it ===

impl<M: Send + 'static> World<M> {
    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether the node runs.
    pub fn state(&self, node: NodeId) -> NodeState {
        self.io.node(node).state
    }

    /// Valid tokens of the node.
    pub fn connections(&self, node: NodeId) -> usize {
        self.io.node(node).connections()
    }

    /// Connections of the world of which at least one end is not closed.
    pub fn connections_total(&self) -> usize {
        self.io.pairs.len()
    }

    /// What has happened.
    pub fn trace(&self) -> &Trace {
        &self.io.trace
    }

    /// Keeps every event of the trace from now on, instead of the last ones.
    pub fn trace_everything(&mut self) {
        self.io.trace.keep_all();
    }
}

impl<M> Drop for World<M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the only way to say how to repeat a failed test")]
            {
                eprintln!("{}world seed {}, time {:?}", self.io.trace, self.seed, self.io.now);
            }
        }
    }
}
