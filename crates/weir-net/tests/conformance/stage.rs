//! What a test plays on: a driver behind [`Harness`], and hosts that run actors on it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_core::Address;
use weir_net::mem::Checked;
use weir_net::{ConnId, ConnectOptions, Io, ListenerId, Piece, Sender, Sent};

use crate::actor::{Actor, Command, Event, Log, Reaction};

/// The one listener of each host.
pub(crate) const LISTENER: ListenerId = ListenerId(7);

/// For whatever should happen. Long, as a busy machine may be slow; in virtual time it costs nothing.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// For whatever should not happen.
pub(crate) const WHILE: Duration = Duration::from_millis(60);

/// A driver, for these tests.
pub(crate) trait Harness {
    /// Starts a worker that runs `actor` and listens with [`LISTENER`] on a free port. Gives its mailbox
    /// and its address.
    fn start(&mut self, actor: Checked<Actor, Command>) -> (Sender<Command>, Address);

    /// Lets time pass until `done` holds, at most `limit`. Whether it holds.
    fn run(&mut self, limit: Duration, done: &mut dyn FnMut() -> bool) -> bool;

    /// More bytes than this driver's kernel buffers hold.
    fn much(&self) -> usize;

    /// How late a deadline may be here.
    fn late_max(&self) -> Duration;
}

pub(crate) struct Stage {
    harness: Box<dyn Harness>,
}

/// A worker with an actor.
pub(crate) struct Host {
    pub(crate) address: Address,
    pub(crate) log: Arc<Mutex<Log>>,
    sender: Sender<Command>,
}

impl Stage {
    pub(crate) fn new(harness: impl Harness + 'static) -> Self {
        Self { harness: Box::new(harness) }
    }

    pub(crate) fn host(&mut self) -> Host {
        self.start(None)
    }

    pub(crate) fn reacting(&mut self, reaction: impl FnMut(&mut dyn Io, &Event) + Send + 'static) -> Host {
        self.start(Some(Box::new(reaction)))
    }

    fn start(&mut self, reaction: Option<Reaction>) -> Host {
        let log = Arc::<Mutex<Log>>::default();
        let actor = Actor::new(Arc::clone(&log), reaction);
        let (sender, address) = self.harness.start(Checked::new(actor));
        Host { address, log, sender }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.harness.run(span, &mut || false);
    }

    pub(crate) fn much(&self) -> usize {
        self.harness.much()
    }

    pub(crate) fn late_max(&self) -> Duration {
        self.harness.late_max()
    }

    /// Waits until `found` gives something from the host's events.
    #[track_caller]
    pub(crate) fn wait<T>(&mut self, host: &Host, mut found: impl FnMut(&[Event]) -> Option<T>) -> T {
        let mut result = None;
        self.harness.run(SOON, &mut || {
            result = found(&host.events());
            result.is_some()
        });
        match result {
            Some(result) => result,
            None => panic!("did not happen; {}", summary(&host.events())),
        }
    }

    /// Waits until this holds.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        assert!(self.harness.run(SOON, &mut holds), "not so: {what}");
    }

    /// Waits for this event.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, host: &Host, event: &Event) {
        let found = self.harness.run(SOON, &mut || host.count(event) > 0);
        assert!(found, "{event:?} did not happen; {}", summary(&host.events()));
    }

    /// Waits until the connection has received this much, and gives it.
    #[track_caller]
    pub(crate) fn wait_bytes(&mut self, host: &Host, conn: ConnId, count: usize) -> Vec<u8> {
        let enough = self.harness.run(SOON, &mut || host.received_len(conn) >= count);
        assert!(enough, "{} of {count} bytes came", host.received_len(conn));
        host.received(conn)
    }

    /// Has the host's worker do something, and gives the result.
    #[track_caller]
    pub(crate) fn ask<T: Send + 'static>(
        &mut self,
        host: &Host,
        question: impl FnOnce(&mut dyn Io) -> T + Send + 'static,
    ) -> T {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        host.sender
            .post(Box::new(move |io| {
                let result = question(io);
                *slot.lock().unwrap() = Some(result);
            }))
            .unwrap_or_else(|_| panic!("the mailbox takes messages"));
        self.harness.run(SOON, &mut || answer.lock().unwrap().is_some());
        let result = answer.lock().unwrap().take();
        result.expect("the worker answers")
    }

    /// Waits until the answer is `wanted`.
    #[track_caller]
    pub(crate) fn ask_until<T: PartialEq + Send + 'static>(
        &mut self,
        host: &Host,
        wanted: &T,
        question: impl Fn(&mut dyn Io) -> T + Clone + Send + 'static,
    ) {
        for _ in 0..1_000 {
            if self.ask(host, question.clone()) == *wanted {
                return;
            }
            self.pass(Duration::from_millis(2));
        }
        panic!("the answer did not change");
    }

    /// Connects `client` to `server`: their two tokens.
    #[track_caller]
    pub(crate) fn connect(&mut self, client: &Host, server: &Host) -> (ConnId, ConnId) {
        let seen = server.accepted().len();
        let conn = self.start_connect(client, &server.address);
        self.wait_for(client, &Event::Connected(conn, Ok(())));
        let other = self.wait(server, |events| accepted_in(events).get(seen).copied());
        (conn, other)
    }

    pub(crate) fn start_connect(&mut self, client: &Host, to: &Address) -> ConnId {
        let to = to.clone();
        self.ask(client, move |io| io.connect(&to, &ConnectOptions { timeout: SOON }))
    }

    pub(crate) fn send(&mut self, host: &Host, conn: ConnId, bytes: &[u8]) -> Sent {
        let bytes = bytes.to_vec();
        self.ask(host, move |io| io.send(conn, &mut [Piece::Owned(bytes)]))
    }
}

impl Host {
    pub(crate) fn sender(&self) -> Sender<Command> {
        self.sender.clone()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.log.lock().unwrap().events.iter().map(|(_, event)| *event).collect()
    }

    pub(crate) fn accepted(&self) -> Vec<ConnId> {
        accepted_in(&self.events())
    }

    pub(crate) fn received(&self, conn: ConnId) -> Vec<u8> {
        self.log.lock().unwrap().received.get(&conn).cloned().unwrap_or_default()
    }

    pub(crate) fn received_len(&self, conn: ConnId) -> usize {
        self.log.lock().unwrap().received.get(&conn).map_or(0, Vec::len)
    }

    pub(crate) fn count(&self, event: &Event) -> usize {
        self.log.lock().unwrap().events.iter().filter(|(_, other)| other == event).count()
    }

    pub(crate) fn is_reset(&self, conn: ConnId) -> bool {
        self.events().iter().any(|event| matches!(event, Event::Reset(id, _) if *id == conn))
    }
}

fn accepted_in(events: &[Event]) -> Vec<ConnId> {
    let accepted = events.iter().filter_map(|event| match event {
        Event::Accepted(conn, _) => Some(*conn),
        _ => None,
    });
    accepted.collect()
}

/// The events, one a line.
fn summary(events: &[Event]) -> String {
    events.iter().map(|event| format!("{event:?}")).collect::<Vec<_>>().join("\n")
}
