//! A pool in virtual time: the broker that pools run, with connects, uses and closes that take their time.

use std::time::Duration;

use weir_core::Instant;
use weir_core::hash::Rng;
use weir_pool_core::{
    Acquired, Broker, BrokerParams, CloseReason, Loan, LocalQuota, OpenParams, Params, Quota as _, SlotId, Ticket, Todo,
};

/// A connect takes up to twice as long, and half as long at least.
const CONNECT: Duration = Duration::from_millis(5);
const CLOSE: Duration = Duration::from_millis(1);

/// A caller: when it comes, and for how long it holds a connection.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) at: Instant,
    pub(crate) hold: Duration,
}

pub(crate) enum Event {
    Arrive(usize),
    End(Loan<()>),
    Connected(SlotId),
    Closed(SlotId, CloseReason),
    Visit,
}

/// What is to happen, and when.
pub(crate) type Later = Vec<(Instant, Event)>;

pub(crate) struct Pool {
    broker: Broker<(), usize, LocalQuota>,
    callers: Vec<Caller>,
    tickets: Vec<Option<Ticket>>,
    rng: Rng,
    visit_at: Instant,
    /// When each caller came and what it waited, in the order in which they were served.
    pub(crate) waits: Vec<(Instant, Duration)>,
}

fn params(size: u32) -> BrokerParams {
    let keep = Params { max_idle: size, idle_timeout: Duration::MAX, max_connections: Some(size), ..Params::default() };
    BrokerParams { keep, open: OpenParams::default(), ..BrokerParams::default() }
}

impl Pool {
    /// A pool that may have no connections yet.
    pub(crate) fn new(callers: Vec<Caller>, seed: u64, later: &mut Later) -> Self {
        let mut pool = Self {
            broker: Broker::new(params(0), LocalQuota::new(0), seed),
            tickets: vec![None; callers.len()],
            callers,
            rng: Rng::new(seed),
            visit_at: Instant::FAR,
            waits: Vec::new(),
        };
        pool.next_caller(0, later);
        pool.visit(Instant::ZERO, later);
        pool
    }

    pub(crate) fn share(&self) -> u32 {
        self.broker.quota().max()
    }

    /// Open, being opened, being closed.
    pub(crate) fn open(&self) -> u32 {
        self.broker.quota().granted()
    }

    pub(crate) fn busy_nanos(&self, now: Instant) -> u64 {
        self.broker.stats(now).busy_nanos
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.broker.stats(Instant::ZERO).waiting
    }

    pub(crate) fn hold(&self, now: Instant) -> Duration {
        let stats = self.broker.stats(now);
        stats.hold.max(stats.age)
    }

    pub(crate) fn opened(&self) -> u64 {
        self.broker.stats(Instant::ZERO).pool.opened
    }

    /// Sets the share; returns what is open then.
    pub(crate) fn limit(&mut self, share: u32, now: Instant, later: &mut Later) -> u32 {
        if share != self.share() {
            self.broker.quota().set_max(share);
            self.broker.set_params(params(share));
            self.broker.resized(now);
            let open = self.open();
            self.keep_house(now, later);
            return open;
        }
        self.open()
    }

    fn next_caller(&self, index: usize, later: &mut Later) {
        if let Some(caller) = self.callers.get(index) {
            later.push((caller.at, Event::Arrive(index)));
        }
    }

    pub(crate) fn handle(&mut self, event: Event, now: Instant, later: &mut Later) {
        let mut wake = Vec::new();
        match event {
            Event::Arrive(index) => {
                self.next_caller(index + 1, later);
                match self.broker.acquire(now) {
                    Acquired::Ready(loan) => self.begin(index, loan, now, later),
                    Acquired::Wait => self.tickets[index] = self.broker.join(index, None, now).ok(),
                    Acquired::Refused(refusal) => unreachable!("{refusal:?}"),
                }
            }
            Event::End(loan) => wake.extend(self.broker.release(loan, now).0),
            Event::Connected(slot) => self.broker.connected(slot, (), now, &mut wake),
            Event::Closed(slot, reason) => self.broker.closed(slot, reason),
            Event::Visit if now < self.visit_at => {}
            Event::Visit => self.visit(now, later),
        }
        self.wake(wake, now, later);
        self.keep_house(now, later);
    }

    fn keep_house(&mut self, now: Instant, later: &mut Later) {
        if self.broker.calls_housekeeper() {
            self.visit(now, later);
        }
    }

    fn visit(&mut self, now: Instant, later: &mut Later) {
        let mut todo = Todo::default();
        self.visit_at = self.broker.handle_timeout(now, &mut todo).unwrap_or(Instant::FAR);
        if self.visit_at < Instant::FAR {
            later.push((self.visit_at, Event::Visit));
        }
        for slot in todo.open {
            let micros = CONNECT.as_micros() as u64;
            later.push((
                now + Duration::from_micros(micros / 2 + self.rng.below(micros * 3 / 2)),
                Event::Connected(slot),
            ));
        }
        for (slot, (), reason) in todo.close {
            later.push((now + CLOSE, Event::Closed(slot, reason)));
        }
        self.wake(todo.wake, now, later);
    }

    fn wake(&mut self, who: Vec<usize>, now: Instant, later: &mut Later) {
        for index in who {
            let got = self.tickets[index].take().and_then(|ticket| self.broker.fetch(ticket));
            let Some(Ok(loan)) = got else { unreachable!("nobody is refused") };
            self.begin(index, loan, now, later);
        }
    }

    fn begin(&mut self, index: usize, loan: Loan<()>, now: Instant, later: &mut Later) {
        let Caller { at, hold } = self.callers[index];
        self.waits.push((at, now.since(at)));
        later.push((now + hold, Event::End(loan)));
    }
}
