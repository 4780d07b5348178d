//! How connections end: closed, reset, lingering, broken by the network, killed with their process.

use std::time::Duration;

use super::net::{Event, MemIo};
use super::node::{NodeId, NodeState};
use super::pair::{EndKey, Owner, Segment};
use super::trace::Step;
use crate::contract::{FLUSH_FACTOR, IoFault};

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
    pub(super) fn break_pair(&mut self, key: EndKey) {
        if let Some(end) = self.pairs.end(key) {
            let node = end.node;
            self.note(node, Step::Broken, None, 0);
            self.break_end(key, IoFault::Reset);
            self.break_end(key.peer(), IoFault::Reset);
        }
    }

    /// Begins the life after `Close::Linger`. The end has no token any more.
    pub(super) fn start_linger(&mut self, key: EndKey, patience: Duration) {
        let Some(end) = self.pairs.end_mut(key) else {
            return;
        };
        let until = self.now + patience_with(end.stuck.is_empty(), patience);
        end.owner = Owner::Lingering(until, patience);
        let node = end.node;
        self.node_mut(node).lingering.insert(key);
        self.schedule(until, Event::Linger(key));
        self.linger(key);
    }

    /// Goes on with a lingering end: writes, half-closes, discards.
    pub(super) fn linger(&mut self, key: EndKey) {
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
        let mut look = None;
        if (end.stuck.len(), end.fin_sent) != before {
            let until = now + patience_with(end.stuck.is_empty(), patience);
            end.owner = Owner::Lingering(until, patience);
            // Earlier than before, from here on; a later time is seen by the look that is scheduled already.
            look = end.stuck.is_empty().then_some(until);
        }
        end.used -= end.received.len();
        end.received.clear();
        if end.fin_sent && end.fin_received {
            return self.bury(key);
        }
        if let Some(until) = look {
            self.schedule(until, Event::Linger(key));
        }
        self.unblock(key.peer());
    }

    pub(super) fn check_linger(&mut self, key: EndKey) {
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

/// How long a lingering end waits for its peer's next sign of life.
fn patience_with(nothing_to_write: bool, patience: Duration) -> Duration {
    if nothing_to_write { patience } else { patience.saturating_mul(FLUSH_FACTOR) }
}
