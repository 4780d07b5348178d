//! What a protocol may ask for: the contract's `Io` over the simulated kernels.

use std::net::SocketAddr;
use std::time::Duration;

use weir_core::{Address, Instant, WallTime};

use super::config::draw_up_to;
use super::net::{Event, MemIo};
use super::pair::{EndKey, Owner, Parcel, Phase, Pump};
use super::trace::Step;
use crate::{Close, ConnId, ConnectOptions, Detached, Io, IoFault, ListenerId, Piece, Sent};

/// How far the precise clock moves with each reading.
const CLOCK_STEP: Duration = Duration::from_nanos(25);

impl Io for MemIo {
    fn now(&self) -> Instant {
        self.node(self.current).now
    }

    fn clock(&self) -> Instant {
        let clock = &self.node(self.current).clock;
        clock.set(clock.get() + CLOCK_STEP);
        clock.get()
    }

    fn wall(&self) -> WallTime {
        self.config.wall_start + self.now().since(Instant::ZERO)
    }

    fn connect(&mut self, to: &Address, options: &ConnectOptions) -> ConnId {
        let conn = self.start_connect(to, options);
        self.note(self.current, Step::Connect, Some(conn), 0);
        conn
    }

    fn send(&mut self, conn: ConnId, pieces: &mut [Piece<'_>]) -> Sent {
        let total = pieces.iter().map(|piece| bytes_of(piece).len()).sum::<usize>();
        self.note(self.current, Step::Send, Some(conn), total as u64);
        let sent = match self.find(conn) {
            Some(key) => self.send_to(key, pieces, total),
            None => Sent::Failed { fault: IoFault::Other, given: false },
        };
        for piece in pieces {
            *piece = Piece::Lent(&[]);
        }
        sent
    }

    fn unsent(&self, conn: ConnId) -> usize {
        self.find(conn).and_then(|key| self.pairs.end(key)).map_or(0, |end| end.stuck.len())
    }

    fn pause(&mut self, conn: ConnId) {
        if let Some(end) = self.find(conn).and_then(|key| self.pairs.end_mut(key)) {
            end.paused = true;
        }
    }

    fn resume(&mut self, conn: ConnId) {
        if let Some(key) = self.find(conn)
            && let Some(end) = self.pairs.end_mut(key)
        {
            end.paused = false;
            self.ready(key);
        }
    }

    fn shutdown_write(&mut self, conn: ConnId) {
        if let Some(key) = self.find(conn)
            && let Some(end) = self.pairs.end_mut(key)
        {
            end.fin_wanted = true;
            if end.stuck.is_empty() && end.phase == Phase::Open {
                self.send_fin(key);
            } else {
                self.ready(key);
            }
            self.note(self.current, Step::ShutdownWrite, Some(conn), 0);
        }
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        let Some(key) = self.find(conn) else { return };
        let Some(end) = self.pairs.end(key) else {
            return;
        };
        let can_linger = end.phase == Phase::Open && end.broken.is_none() && end.write_dead.is_none();
        let value = match how {
            Close::Now => 0,
            Close::Linger(_) => 1,
            Close::Reset => 2,
        };
        self.note(self.current, Step::Close, Some(conn), value);
        self.unhook(key);
        match how {
            Close::Linger(patience) if can_linger => self.start_linger(key, patience),
            Close::Now | Close::Linger(_) => self.shut(key),
            Close::Reset => self.abort(key),
        }
    }

    fn pump(&mut self, from: ConnId, to: ConnId, limit: Option<u64>) -> bool {
        let (Some(source), Some(sink)) = (self.find(from), self.find(to)) else {
            return false;
        };
        // One pump per direction: two sources would mix their bytes in the sink.
        let is_fed = self.pairs.end(sink).is_none_or(|end| !end.pumped_by.is_empty());
        let Some(end) = self.pairs.end_mut(source) else {
            return false;
        };
        if is_fed || end.pump.is_some() {
            return false;
        }
        end.pump = Some(Pump { to: sink, limit, moved: 0 });
        if let Some(end) = self.pairs.end_mut(sink) {
            end.pumped_by.push(source);
        }
        self.note(self.current, Step::Pump, Some(from), limit.unwrap_or(u64::MAX));
        self.ready(source);
        true
    }

    fn pumped(&self, from: ConnId) -> u64 {
        let pump = self.find(from).and_then(|key| self.pairs.end(key)).and_then(|end| end.pump);
        pump.map_or(0, |pump| pump.moved)
    }

    fn set_deadline(&mut self, conn: ConnId, at: Option<Instant>) {
        let (now, late_max) = (self.now, self.config.timer_late_max);
        let Some(key) = self.find(conn) else { return };
        let Some(end) = self.pairs.end_mut(key) else {
            return;
        };
        end.deadline = at;
        if let Some(at) = at
            && at < Instant::FAR
            && end.deadline_check.is_none_or(|check| at < check)
        {
            end.deadline_check = Some(at);
            let late = draw_up_to(&mut self.rng, late_max);
            self.schedule(at.max(now) + late, Event::Deadline(key));
        }
    }

    fn set_timer(&mut self, key: u32, at: Option<Instant>) {
        let node = self.current;
        let late = draw_up_to(&mut self.rng, self.config.timer_late_max);
        let now = self.now;
        let state = self.node_mut(node);
        match at {
            Some(at) if at < Instant::FAR => {
                state.armings += 1;
                let (epoch, arming) = (state.epoch, state.armings);
                state.timers.insert(key, (at, arming));
                self.schedule(at.max(now) + late, Event::Timer(node, epoch, key, arming));
            }
            _ => {
                state.timers.remove(&key);
            }
        }
    }

    fn is_quiet(&mut self, conn: ConnId) -> bool {
        self.find(conn).and_then(|key| self.pairs.end(key)).is_some_and(|end| {
            end.phase == Phase::Open
                && end.received.is_empty()
                && !end.fin_received
                && end.broken.is_none()
                && end.write_dead.is_none()
        })
    }

    fn detach(&mut self, conn: ConnId) -> Option<Detached> {
        let key = self.find(conn)?;
        let end = self.pairs.end(key)?;
        let is_busy = end.phase != Phase::Open
            || !end.stuck.is_empty()
            || end.broken.is_some()
            || end.write_dead.is_some()
            || end.pump.is_some()
            || !end.pumped_by.is_empty();
        if is_busy {
            return None;
        }
        self.note(self.current, Step::Detach, Some(conn), 0);
        self.unhook(key);
        self.pairs.end_mut(key)?.owner = Owner::Parcel;
        Some(Detached { inner: Box::new(Parcel::new(key, &self.orphans)) })
    }

    fn attach(&mut self, conn: Detached) -> Option<ConnId> {
        let node = self.current;
        if self.node(node).connections() >= self.config.connections_max {
            return None;
        }
        let parcel = conn.inner.downcast::<Parcel>().ok()?;
        let key = parcel.open(&self.orphans)?;
        let end = self.pairs.end_mut(key)?;
        end.node = node;
        // A half-close that was reported is not reported again.
        end.paused = false;
        end.drain_due = false;
        end.is_queued = false;
        let conn = self.node_mut(node).open_slot(key);
        self.pairs.end_mut(key)?.owner = Owner::Conn(conn);
        self.note(node, Step::Attach, Some(conn), 0);
        self.ready(key);
        Some(conn)
    }

    fn peer(&self, conn: ConnId) -> Option<SocketAddr> {
        let key = self.find(conn)?;
        if key.is_client() {
            return self.pairs.get(key)?.address.inet();
        }
        self.pairs.end(key.peer())?.local
    }

    fn local(&self, conn: ConnId) -> Option<SocketAddr> {
        self.pairs.end(self.find(conn)?)?.local
    }

    fn set_accepting(&mut self, listener: ListenerId, on: bool) {
        let node = self.current;
        for position in 0..self.node(node).listeners.len() {
            let socket = &mut self.node_mut(node).listeners[position];
            if socket.id == listener && socket.open {
                socket.accepting = on;
                self.offer(node, position);
            }
        }
    }

    fn stop_listening(&mut self, listener: ListenerId) {
        self.close_listeners(self.current, Some(listener));
    }

    fn lingering(&self) -> usize {
        self.node(self.current).lingering.len()
    }

    fn stop(&mut self) {
        self.node_mut(self.current).stop_wanted = true;
        self.wake(self.current);
    }
}

impl MemIo {
    fn find(&self, conn: ConnId) -> Option<EndKey> {
        self.node(self.current).find(conn)
    }

    fn send_to(&mut self, key: EndKey, pieces: &[Piece<'_>], total: usize) -> Sent {
        let Some(end) = self.pairs.end(key) else {
            return Sent::Failed { fault: IoFault::Other, given: false };
        };
        if end.fin_wanted {
            return Sent::Failed { fault: IoFault::Reset, given: false };
        }
        let is_open = end.phase == Phase::Open;
        let has_stuck = !end.stuck.is_empty();
        if let Some(fault) = self.write_fault(key) {
            return Sent::Failed { fault, given: false };
        }
        if total == 0 {
            return if has_stuck { Sent::Stuck } else { Sent::All };
        }
        let mut taken = if is_open && !has_stuck { self.admit(key, total) } else { 0 };
        let is_all = taken == total;
        for piece in pieces {
            let bytes = bytes_of(piece);
            let (now, later) = bytes.split_at(taken.min(bytes.len()));
            taken -= now.len();
            self.transmit(key, now);
            if !later.is_empty()
                && let Some(end) = self.pairs.end_mut(key)
            {
                end.stuck.extend(later);
                end.drain_due = true;
            }
        }
        if is_all { Sent::All } else { Sent::Stuck }
    }
}

fn bytes_of<'a>(piece: &'a Piece<'_>) -> &'a [u8] {
    match piece {
        Piece::Lent(bytes) => bytes,
        Piece::Owned(bytes) => bytes,
    }
}
