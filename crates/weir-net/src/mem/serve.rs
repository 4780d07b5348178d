//! The engine's part of a node: turns what is ready into callbacks, one at a time, by the contract's
//! rules.
//!
//! Each look at a connection yields at most one callback and queues the connection again, as the
//! callback may have changed anything: closed it, paused it, started a pump.

use weir_core::Instant;

use super::net::MemIo;
use super::node::{NodeId, Ready};
use super::pair::{Call, EndKey, Owner, Phase, Pump};
use crate::{ConnId, IoFault, PumpEnd};

/// The largest read, and the largest step of a pump.
const READ_MAX: usize = 65_536;

impl MemIo {
    /// The next callback that is due on `node`.
    pub(super) fn next_call(&mut self, node: NodeId) -> Option<Call> {
        loop {
            let call = match self.take_ready(node)? {
                Ready::End(key) => self.serve(node, key),
                Ready::Accept(position) => self.accept(node, position),
                Ready::Timer(timer, arming) => self.take_timer(node, timer, arming),
                Ready::Mail => {
                    self.node_mut(node).mail_queued = false;
                    Some(Call::Messages)
                }
            };
            if call.is_some() {
                return call;
            }
        }
    }

    fn take_ready(&mut self, node: NodeId) -> Option<Ready> {
        let shuffle = self.config.shuffle;
        let len = self.node(node).ready.len();
        if shuffle && len > 1 {
            let chosen = self.rng.below(len as u64) as usize;
            return self.node_mut(node).ready.swap_remove_back(chosen);
        }
        self.node_mut(node).ready.pop_front()
    }

    fn take_timer(&mut self, node: NodeId, timer: u32, arming: u64) -> Option<Call> {
        let timers = &mut self.node_mut(node).timers;
        if timers.get(&timer).is_some_and(|(_, current)| *current == arming) {
            timers.remove(&timer);
            return Some(Call::Timer(timer));
        }
        None
    }

    fn accept(&mut self, node: NodeId, position: usize) -> Option<Call> {
        let is_full = self.node(node).connections() >= self.config.connections_max;
        let listener = self.node_mut(node).listeners.get_mut(position)?;
        listener.is_queued = false;
        if !listener.accepting || is_full {
            return None;
        }
        let key = listener.backlog.pop_front()?;
        let id = listener.id;
        self.offer(node, position);
        let conn = self.node_mut(node).open_slot(key);
        self.pairs.end_mut(key)?.owner = Owner::Conn(conn);
        let peer = self.pairs.end(key.peer())?.local;
        self.ready(key);
        Some(Call::Accepted(conn, id, peer))
    }

    /// Looks at a connection: deadline, writing, pump or reading, break, in this order.
    fn serve(&mut self, node: NodeId, key: EndKey) -> Option<Call> {
        let now = self.node(node).now;
        let end = self.pairs.end_mut(key)?;
        let Owner::Conn(conn) = end.owner else {
            return None;
        };
        if end.node != node {
            return None;
        }
        end.is_queued = false;
        match end.phase {
            Phase::Connecting => return None,
            Phase::Answered(result) => {
                end.phase = Phase::Open;
                end.has_news_for_pumps = true;
                if result.is_ok() {
                    self.ready(key);
                } else {
                    self.unhook(key);
                    self.shut(key);
                }
                return Some(Call::Connected(conn, result));
            }
            Phase::Open => {}
        }
        if end.deadline.is_some_and(|at: Instant| at <= now) {
            end.deadline = None;
            self.ready(key);
            return Some(Call::Deadline(conn));
        }
        if self.write(key) {
            self.ready(key);
            return Some(Call::Drained(conn));
        }
        let end = self.pairs.end_mut(key)?;
        if let Some(pump) = end.pump {
            return self.step_pump(key, conn, pump);
        }
        if !end.paused
            && let Some(call) = self.read(key, conn)
        {
            self.ready(key);
            return Some(call);
        }
        let fault = self.pairs.end(key)?.broken?;
        self.unhook(key);
        self.shut(key);
        Some(Call::Reset(conn, fault))
    }

    /// Goes on with stuck bytes and the half-close behind them. Whether `on_drained` is due.
    fn write(&mut self, key: EndKey) -> bool {
        let Some(end) = self.pairs.end(key) else {
            return false;
        };
        if end.broken.is_some() {
            return false;
        }
        if !end.stuck.is_empty() {
            if end.write_blocked {
                return false;
            }
            self.flush(key);
            if let Some(end) = self.pairs.end_mut(key) {
                end.has_news_for_pumps = true;
            }
        }
        let Some(end) = self.pairs.end_mut(key) else {
            return false;
        };
        if !end.stuck.is_empty() {
            return false;
        }
        let drained = std::mem::take(&mut end.drain_due);
        if end.fin_wanted {
            self.send_fin(key);
        } else if std::mem::take(&mut end.has_news_for_pumps) && !end.pumped_by.is_empty() {
            for source in end.pumped_by.clone() {
                self.ready(source);
            }
        }
        drained
    }

    fn read(&mut self, key: EndKey, conn: ConnId) -> Option<Call> {
        let end = self.pairs.end_mut(key)?;
        if !end.received.is_empty() {
            let len = self.config.pieces.cut(&mut self.rng, end.received.len().min(READ_MAX));
            let mut scratch = std::mem::take(&mut self.scratch);
            self.take_received(key, len, &mut scratch);
            self.scratch = scratch;
            return Some(Call::Data(conn));
        }
        if end.fin_received && !end.eof_told {
            end.eof_told = true;
            return Some(Call::Eof(conn));
        }
        None
    }

    /// Moves the first `len` received bytes to `into`, and tells the writer of the room.
    fn take_received(&mut self, key: EndKey, len: usize, into: &mut Vec<u8>) {
        into.clear();
        let Some(end) = self.pairs.end_mut(key) else {
            return;
        };
        let (front, back) = end.received.as_slices();
        let split = len.min(front.len());
        into.extend_from_slice(&front[..split]);
        into.extend_from_slice(&back[..len - split]);
        end.received.drain(..len);
        end.used -= len;
        self.unblock(key.peer());
    }

    /// Moves what a pump can move now.
    fn step_pump(&mut self, from: EndKey, conn: ConnId, pump: Pump) -> Option<Call> {
        if pump.limit == Some(pump.moved) {
            return Some(self.end_pump(from, conn, PumpEnd::Done));
        }
        if let Some(fault) = self.sink_fault(pump.to) {
            return Some(self.end_pump(from, conn, PumpEnd::SinkFault(fault)));
        }
        let sink = self.pairs.end(pump.to)?;
        if sink.phase != Phase::Open || sink.write_blocked {
            return None;
        }
        if !sink.stuck.is_empty() {
            // They go first; `write` of the sink calls this pump again.
            self.ready(pump.to);
            return None;
        }
        let source = self.pairs.end_mut(from)?;
        let left = pump.limit.map_or(u64::MAX, |limit| limit - pump.moved);
        let wanted = source.received.len().min(READ_MAX).min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            if source.fin_received {
                source.eof_told = true;
                return Some(self.end_pump(from, conn, PumpEnd::Eof));
            }
            let fault = source.broken?;
            let call = self.end_pump(from, conn, PumpEnd::SourceFault(fault));
            self.unhook(from);
            self.shut(from);
            return Some(call);
        }
        let taken = self.admit(pump.to, wanted);
        let mut bytes = std::mem::take(&mut self.scratch);
        self.take_received(from, taken, &mut bytes);
        self.transmit(pump.to, &bytes);
        self.scratch = bytes;
        if let Some(pump) = self.pairs.end_mut(from)?.pump.as_mut() {
            pump.moved += taken as u64;
        }
        self.ready(from);
        None
    }

    /// Why a pump cannot write to `to`, if so.
    fn sink_fault(&mut self, to: EndKey) -> Option<IoFault> {
        let Some(sink) = self.pairs.end(to) else {
            return Some(IoFault::Reset);
        };
        if !matches!(sink.owner, Owner::Conn(_)) || sink.fin_wanted {
            return Some(IoFault::Reset);
        }
        self.write_fault(to)
    }

    /// Why writing to an end fails, if it does. The kernel tells of a break once: when writing has
    /// met it, reading may end as if the peer had closed (as on Linux), or fail as well.
    pub(super) fn write_fault(&mut self, key: EndKey) -> Option<IoFault> {
        let as_eof = self.config.shuffle && self.rng.below(2) == 0;
        let end = self.pairs.end_mut(key)?;
        if end.write_dead.is_some() {
            return end.write_dead;
        }
        let fault = end.broken?;
        end.write_dead = Some(fault);
        if as_eof {
            end.broken = None;
            end.fin_received = true;
            end.fin_sent = true;
            self.ready(key);
        }
        Some(fault)
    }

    fn end_pump(&mut self, from: EndKey, conn: ConnId, how: PumpEnd) -> Call {
        let mut moved = 0;
        if let Some(source) = self.pairs.end_mut(from)
            && let Some(pump) = source.pump.take()
        {
            moved = pump.moved;
            if let Some(sink) = self.pairs.end_mut(pump.to) {
                sink.pumped_by.retain(|other| *other != from);
            }
        }
        self.ready(from);
        Call::Pumped(conn, moved, how)
    }
}
