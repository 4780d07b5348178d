//! From events to callbacks.
//!
//! A method whose name ends in `_turn` does a bounded amount for one connection and lists it for more.

use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv, sockopt};
use weir_core::Instant;

use super::WORK_ROUNDS;
use super::accept::Accepted;
use super::fault::fault_of;
use super::io::{Dialled, EpollIo, UNIX_RETRY, dial};
use super::pump::{Tools, Turn};
use super::slab::{Flags, Peer, Slot};
use super::write::Flushed;
use crate::contract::{ConnId, FLUSH_FACTOR, IoFault, Protocol, PumpEnd};

/// Reads of one connection before others get their turn: at most 256 KiB.
const READS_PER_TURN: usize = 4;

const HANGS_UP: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);
const READS: EventFlags = HANGS_UP.union(EventFlags::IN).union(EventFlags::PRI);
const WRITES: EventFlags = EventFlags::OUT.union(EventFlags::HUP).union(EventFlags::ERR);

pub(super) struct Dispatch<'a, P> {
    pub(super) io: &'a mut EpollIo,
    pub(super) protocol: &'a mut P,
    pub(super) scratch: &'a mut [u8],
}

impl<P: Protocol<EpollIo>> Dispatch<'_, P> {
    /// Accepts a batch from the listening socket at `position`.
    pub(super) fn accept(&mut self, position: usize) {
        let batch = self.io.listeners.batch(position);
        let mut taken = 0;
        while taken < batch {
            let io = &mut *self.io;
            if io.slab.len() >= io.connections_max {
                io.listeners.pause_full(&io.epoll, io.now, io.slab.len());
                return;
            }
            match io.listeners.accept(&io.epoll, position, io.now) {
                Accepted::Nothing => break,
                Accepted::Skip => {}
                Accepted::One { fd, peer, listener, tcp } => {
                    let flags = if tcp { Flags::TCP } else { Flags::default() };
                    match io.adopt(fd, Peer::from(peer), flags) {
                        Ok(conn) => self.protocol.on_accepted(self.io, conn, listener, peer),
                        Err(errno) => {
                            tracing::warn!(error = %errno, "cannot register an accepted connection: closed");
                        }
                    }
                }
            }
            taken += 1;
        }
        self.io.listeners.accepted(position, taken);
    }

    /// Handles one event of a connection.
    pub(super) fn event(&mut self, conn: ConnId, event: EventFlags) {
        let Some(slot) = self.io.slab.get_mut(conn) else {
            return;
        };
        if slot.flags.has(Flags::CONNECTING) {
            if !event.intersects(WRITES) {
                return;
            }
            let answer = if event.contains(EventFlags::ERR) { self.socket_error(conn) } else { None };
            self.answer(conn, answer.map_or(Ok(()), Err));
        }
        let Some(slot) = self.io.slab.get_mut(conn) else {
            return;
        };
        if event.intersects(READS) {
            slot.flags.set(Flags::READABLE);
            // Urgent data ends reads early too.
            if event.intersects(HANGS_UP.union(EventFlags::PRI)) {
                slot.flags.set(Flags::TO_THE_END);
            }
        }
        if slot.flags.has(Flags::LINGERING) {
            return self.linger_turn(conn);
        }
        if event.intersects(WRITES) && slot.cold.is_some() {
            self.write_turn(conn);
        }
        self.read_turn(conn);
        if event.contains(EventFlags::ERR) {
            self.check_broken(conn);
        }
    }

    /// Does what is listed, in bounded rounds: what a round lists is done in the next one.
    pub(super) fn local_work(&mut self, spare: &mut Vec<ConnId>) {
        for _ in 0..WORK_ROUNDS {
            if self.io.work.is_empty() {
                return;
            }
            std::mem::swap(&mut self.io.work, spare);
            for conn in spare.drain(..) {
                self.listed(conn);
            }
        }
    }

    /// Fires the deadlines and timers that are due.
    pub(super) fn deadlines(&mut self, due: &mut Vec<u32>) {
        let now = self.io.now;
        self.io.wheel.expire(now, due);
        for index in due.drain(..) {
            if let Some(conn) = self.io.slab.current(index) {
                self.due(conn, now);
            }
        }
        // Counted first: timers that a callback arms for "now" must not keep the loop here.
        for _ in 0..self.io.timers.count_due(now) {
            if let Some(key) = self.io.timers.pop(now) {
                self.protocol.on_timer(self.io, key);
            }
        }
        self.io.listeners.handle_timeout(&self.io.epoll, now);
    }

    fn listed(&mut self, conn: ConnId) {
        let Some(slot) = self.io.slab.get_mut(conn) else {
            return;
        };
        slot.flags.clear(Flags::LISTED);
        if slot.flags.has(Flags::REFUSED) {
            let fault = slot.fault.unwrap_or(IoFault::Other);
            self.answer(conn, Err(fault));
        } else if slot.flags.has(Flags::LINGERING) {
            self.linger_turn(conn);
        } else if slot.flags.has(Flags::PUMPED) {
            self.pump_turn(conn);
        } else {
            let to_the_end = slot.flags.has(Flags::TO_THE_END);
            self.read_turn(conn);
            if to_the_end {
                self.check_broken(conn);
            }
        }
    }

    /// Reports the result of a connect.
    fn answer(&mut self, conn: ConnId, result: Result<(), IoFault>) {
        let Some(slot) = self.io.slab.get_mut(conn) else {
            return;
        };
        if result.is_err() {
            self.io.remove(conn);
            return self.protocol.on_connected(self.io, conn, result);
        }
        slot.flags.clear(Flags::CONNECTING);
        slot.deadline = Instant::FAR;
        if let Some(cold) = &mut slot.cold {
            slot.deadline = cold.user_deadline.take().unwrap_or(Instant::FAR);
            slot.trim();
        }
        self.io.cover(conn);
        self.protocol.on_connected(self.io, conn, Ok(()));
        // What was asked for before the connection was there.
        if self.io.slab.live(conn).is_some() {
            self.write_turn(conn);
            self.io.finish_output(conn);
            if self.io.slab.live(conn).is_some_and(|slot| slot.flags.has(Flags::PUMPED)) {
                self.io.list(conn);
            }
        }
    }

    /// Reads and lends until the socket is drained, the protocol has enough, or others must get a turn.
    fn read_turn(&mut self, conn: ConnId) {
        for _ in 0..READS_PER_TURN {
            let Some(slot) = self.io.slab.get_mut(conn) else {
                return;
            };
            if !slot.may_read() {
                if slot.flags.has(Flags::PUMPED) {
                    self.pump_turn(conn);
                }
                return;
            }
            let Some(fd) = slot.fd() else { return };
            match recv(fd, &mut *self.scratch, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return self.end(conn),
                Ok((n, _)) => {
                    // A Unix socket may end a read early where ancillary data begins.
                    if n < self.scratch.len() && slot.flags.has(Flags::TCP) && !slot.flags.has(Flags::TO_THE_END) {
                        slot.flags.clear(Flags::READABLE);
                    }
                    self.protocol.on_data(self.io, conn, &self.scratch[..n]);
                }
                Err(Errno::AGAIN) => {
                    slot.flags.clear(Flags::READABLE);
                    return;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return self.reset(conn, fault_of(errno)),
            }
        }
        if self.io.slab.live(conn).is_some_and(|slot| slot.may_read() || slot.flags.has(Flags::PUMPED)) {
            self.io.list(conn);
        }
    }

    /// The end of the input.
    fn end(&mut self, conn: ConnId) {
        let Some(slot) = self.io.slab.get_mut(conn) else {
            return;
        };
        slot.flags.clear(Flags::READABLE);
        if slot.flags.has(Flags::RESET_AT_END) {
            let fault = slot.fault.unwrap_or(IoFault::Reset);
            return self.reset(conn, fault);
        }
        slot.flags.set(Flags::EOF);
        self.protocol.on_eof(self.io, conn);
    }

    fn reset(&mut self, conn: ConnId, fault: IoFault) {
        if self.io.remove(conn).is_some() {
            self.protocol.on_reset(self.io, conn, fault);
        }
    }

    /// A connection that is not read now (paused, or at its end) may have broken.
    fn check_broken(&mut self, conn: ConnId) {
        let Some(slot) = self.io.slab.live(conn) else {
            return;
        };
        if !slot.flags.has(Flags::PAUSED.with(Flags::EOF)) || slot.flags.has(Flags::PUMPED) {
            return;
        }
        let known = if slot.flags.has(Flags::RESET_AT_END) { slot.fault } else { None };
        if let Some(fault) = known.or_else(|| self.socket_error(conn)) {
            self.reset(conn, fault);
        }
    }

    /// Takes the socket's pending error.
    fn socket_error(&mut self, conn: ConnId) -> Option<IoFault> {
        let fd = self.io.slab.get_mut(conn)?.fd.as_ref()?;
        match sockopt::socket_error(fd) {
            Ok(Ok(())) => None,
            Ok(Err(errno)) | Err(errno) => Some(fault_of(errno)),
        }
    }

    /// Writes stuck bytes, then what a pump has for this connection.
    fn write_turn(&mut self, conn: ConnId) {
        let Some(slot) = self.io.slab.get_mut(conn) else {
            return;
        };
        let (Some(fd), Some(cold)) = (&slot.fd, &mut slot.cold) else {
            return;
        };
        if !cold.stuck.is_empty() {
            match cold.stuck.flush(std::os::fd::AsFd::as_fd(fd), &mut self.io.buffers) {
                Ok(Flushed::Blocked { .. }) => return,
                Ok(Flushed::All) => {
                    slot.trim();
                    self.io.finish_output(conn);
                    self.protocol.on_drained(self.io, conn);
                }
                Err(errno) => return self.io.broke(conn, errno, true),
            }
        }
        let feeder = self.io.slab.live(conn).and_then(|slot| slot.cold.as_ref()).and_then(|cold| cold.fed_by);
        if let Some(feeder) = feeder
            && let Some(source) = self.io.slab.live(feeder)
            && source.cold.as_ref().and_then(|cold| cold.pump.as_ref()).is_some_and(|pump| pump.blocked)
        {
            self.pump_turn(feeder);
        }
    }

    /// Lets the pump that reads `from` do a bounded amount.
    fn pump_turn(&mut self, from: ConnId) {
        let Some(source) = self.io.slab.get_mut(from) else {
            return;
        };
        let flags = source.flags;
        let Some(mut pump) = source.cold.as_mut().and_then(|cold| cold.pump.take()) else {
            return;
        };
        // Reading has ended already: nothing can follow.
        let at_end = flags.has(Flags::EOF);
        let end_fault = if flags.has(Flags::RESET_AT_END) { source.fault } else { None };
        let turn = match self.io.slab.live(pump.to) {
            None => Turn::Ended(PumpEnd::SinkFault(pump.sink_fault.unwrap_or(IoFault::Reset))),
            Some(sink)
                if pump.sink_fault.is_none()
                    && sink.flags.has(Flags::BROKEN.with(Flags::SHUT).with(Flags::SHUT_WANTED)) =>
            {
                Turn::Ended(PumpEnd::SinkFault(sink.fault.unwrap_or(IoFault::Reset)))
            }
            Some(sink) if sink.flags.has(Flags::CONNECTING) || sink.unsent() > 0 => Turn::SinkFull,
            Some(_) if flags.has(Flags::CONNECTING) => Turn::SourceDry,
            Some(_) if at_end => Turn::Ended(PumpEnd::Eof),
            Some(sink) => {
                let source = self.io.slab.live(from).and_then(Slot::fd);
                match (source, sink.fd()) {
                    (Some(source), Some(sink)) => pump.turn(
                        source,
                        sink,
                        Tools {
                            scratch: self.scratch,
                            pipes: &mut self.io.pipes,
                            buffers: &mut self.io.buffers,
                            short_is_dry: flags.has(Flags::TCP) && !flags.has(Flags::TO_THE_END),
                            end_fault,
                        },
                    ),
                    _ => Turn::Ended(PumpEnd::SinkFault(IoFault::Other)),
                }
            }
        };
        let to = pump.to;
        pump.blocked = turn == Turn::SinkFull;
        let Some(source) = self.io.slab.get_mut(from) else {
            return;
        };
        match turn {
            Turn::Ended(end) => {
                let moved = pump.moved;
                pump.discard(&mut self.io.buffers);
                source.flags.clear(Flags::PUMPED);
                source.trim();
                if let Some(sink) = self.io.slab.get_mut(to)
                    && let Some(cold) = &mut sink.cold
                {
                    cold.fed_by = None;
                    sink.trim();
                }
                self.pumped(from, moved, end);
            }
            Turn::SourceDry => {
                source.cold().pump = Some(pump);
                source.flags.clear(Flags::READABLE);
            }
            Turn::SinkFull => source.cold().pump = Some(pump),
            Turn::Yield => {
                source.cold().pump = Some(pump);
                self.io.list(from);
            }
        }
    }

    fn pumped(&mut self, from: ConnId, moved: u64, end: PumpEnd) {
        match end {
            PumpEnd::SourceFault(_) => drop(self.io.remove(from)),
            PumpEnd::Eof => {
                if let Some(source) = self.io.slab.get_mut(from) {
                    source.flags.set(Flags::EOF);
                }
            }
            PumpEnd::Done | PumpEnd::SinkFault(_) => {
                // Whether a short read was the last one is forgotten here; one look more is cheap.
                if let Some(source) = self.io.slab.get_mut(from) {
                    source.flags.set(Flags::READABLE);
                }
                self.io.list(from);
            }
        }
        self.protocol.on_pumped(self.io, from, moved, end);
    }

    /// Finishes a connection that the protocol has closed.
    fn linger_turn(&mut self, conn: ConnId) {
        let now = self.io.now;
        let Some(slot) = self.io.slab.get_mut(conn) else {
            return;
        };
        let linger = slot.cold.as_ref().and_then(|cold| cold.linger).unwrap_or(Duration::ZERO);
        if let (Some(fd), Some(cold)) = (&slot.fd, &mut slot.cold)
            && !cold.stuck.is_empty()
        {
            match cold.stuck.flush(std::os::fd::AsFd::as_fd(fd), &mut self.io.buffers) {
                Ok(Flushed::Blocked { written: 0 }) => {}
                // The time runs from the last sign of life; the wheel follows lazily.
                Ok(Flushed::Blocked { .. }) => slot.deadline = now + linger.saturating_mul(FLUSH_FACTOR),
                Ok(Flushed::All) => {
                    slot.deadline = now + linger;
                    // Earlier than before.
                    self.io.cover(conn);
                    self.io.finish_output(conn);
                }
                Err(_) => return drop(self.io.remove(conn)),
            }
        }
        for _ in 0..READS_PER_TURN {
            let Some(slot) = self.io.slab.get_mut(conn) else {
                return;
            };
            if slot.unsent() == 0 && slot.flags.has(Flags::EOF) {
                return drop(self.io.remove(conn));
            }
            if !slot.flags.has(Flags::READABLE) || slot.flags.has(Flags::EOF) {
                return;
            }
            let Some(fd) = slot.fd() else { return };
            match recv(fd, &mut *self.scratch, RecvFlags::DONTWAIT) {
                Ok((0, _)) => slot.flags.set(Flags::EOF),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => slot.flags.clear(Flags::READABLE),
                Err(_) => return drop(self.io.remove(conn)),
            }
        }
        self.io.list(conn);
    }

    /// The wheel says that a deadline of `conn` may have passed.
    fn due(&mut self, conn: ConnId, now: Instant) {
        let Some(slot) = self.io.slab.get_mut(conn) else {
            return;
        };
        if slot.wake_at() > now {
            return self.io.cover(conn);
        }
        if slot.flags.has(Flags::LINGERING) {
            return drop(self.io.remove(conn));
        }
        if slot.flags.has(Flags::CONNECTING) {
            return self.due_connecting(conn, now);
        }
        slot.deadline = Instant::FAR;
        self.protocol.on_deadline(self.io, conn);
    }

    fn due_connecting(&mut self, conn: ConnId, now: Instant) {
        let Some(slot) = self.io.slab.get_mut(conn) else {
            return;
        };
        if slot.deadline <= now {
            return self.answer(conn, Err(IoFault::TimedOut));
        }
        let cold = slot.cold();
        let user = cold.user_deadline.take_if(|at| *at <= now);
        let retry = cold.retry.take_if(|(_, at)| *at <= now);
        slot.trim();
        if let Some((to, _)) = retry {
            let slot_fd = match dial(&to) {
                Ok(Dialled::Later(fd)) => {
                    slot.cold().retry = Some((to, now + UNIX_RETRY));
                    Ok(fd)
                }
                Ok(Dialled::Connected(fd) | Dialled::Pending(fd)) => self.io.register(conn, &fd).map(|()| fd),
                Err(errno) => Err(errno),
            };
            match slot_fd {
                Ok(fd) => {
                    if let Some(slot) = self.io.slab.get_mut(conn) {
                        slot.fd = Some(fd);
                    }
                }
                Err(errno) => return self.answer(conn, Err(fault_of(errno))),
            }
        }
        self.io.cover(conn);
        if user.is_some() {
            self.protocol.on_deadline(self.io, conn);
        }
    }
}
