//! A protocol that does what a test tells it and writes down what it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use weir_core::Instant;
use weir_net::{ConnId, Io, IoFault, ListenerId, Protocol, PumpEnd};

/// Something that a test has an actor do.
pub(crate) type Command = Box<dyn FnOnce(&mut dyn Io) + Send>;

/// Something that an actor does of itself after each event.
pub(crate) type Reaction = Box<dyn FnMut(&mut dyn Io, &Event) + Send>;

/// A callback.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Event {
    Accepted(ConnId, Option<SocketAddr>),
    Connected(ConnId, Result<(), IoFault>),
    /// One or more `on_data` without another callback between; the bytes are in the log.
    Data(ConnId),
    Eof(ConnId),
    Drained(ConnId),
    Pumped(ConnId, u64, PumpEnd),
    Reset(ConnId, IoFault),
    Deadline(ConnId),
    Timer(u32),
}

/// What an actor was told, with the times at which it was.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) events: Vec<(Instant, Event)>,
    pub(crate) received: BTreeMap<ConnId, Vec<u8>>,
}

pub(crate) struct Actor {
    log: Arc<Mutex<Log>>,
    reaction: Option<Reaction>,
}

impl Actor {
    pub(crate) fn new(log: Arc<Mutex<Log>>, reaction: Option<Reaction>) -> Self {
        Self { log, reaction }
    }

    fn note(&mut self, io: &mut dyn Io, event: Event) {
        {
            let events = &mut self.log.lock().unwrap().events;
            let is_more = matches!(event, Event::Data(_)) && events.last().is_some_and(|(_, last)| *last == event);
            if !is_more {
                events.push((io.now(), event));
            }
        }
        if let Some(reaction) = &mut self.reaction {
            reaction(io, &event);
        }
    }
}

impl<I: Io> Protocol<I> for Actor {
    type Message = Command;

    fn on_accepted(&mut self, io: &mut I, conn: ConnId, _: ListenerId, peer: Option<SocketAddr>) {
        self.note(io, Event::Accepted(conn, peer));
    }

    fn on_connected(&mut self, io: &mut I, conn: ConnId, result: Result<(), IoFault>) {
        self.note(io, Event::Connected(conn, result));
    }

    fn on_data(&mut self, io: &mut I, conn: ConnId, data: &[u8]) {
        self.log.lock().unwrap().received.entry(conn).or_default().extend_from_slice(data);
        self.note(io, Event::Data(conn));
    }

    fn on_eof(&mut self, io: &mut I, conn: ConnId) {
        self.note(io, Event::Eof(conn));
    }

    fn on_drained(&mut self, io: &mut I, conn: ConnId) {
        self.note(io, Event::Drained(conn));
    }

    fn on_pumped(&mut self, io: &mut I, from: ConnId, moved: u64, end: PumpEnd) {
        self.note(io, Event::Pumped(from, moved, end));
    }

    fn on_reset(&mut self, io: &mut I, conn: ConnId, fault: IoFault) {
        self.note(io, Event::Reset(conn, fault));
    }

    fn on_deadline(&mut self, io: &mut I, conn: ConnId) {
        self.note(io, Event::Deadline(conn));
    }

    fn on_timer(&mut self, io: &mut I, key: u32) {
        self.note(io, Event::Timer(key));
    }

    fn on_message(&mut self, io: &mut I, command: Command) {
        command(io);
    }
}
