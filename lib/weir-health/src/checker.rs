//! The machine: when to probe the endpoints of a cluster, and what the answers mean.
//!
//! ```text
//!              first answer: success            `fall` failures in a row, or a refused connection
//!   Unknown ───────────────────────────▶ Up ──────────────────────────────────────────────────▶ Down
//!      │                                  ▲ ◀──────────────────────────────────────────────────  ▲
//!      │                                             `rise` successes in a row                   │
//!      └─────────────────────────────────────────────────────────────────────────────────────────┘
//!              first answer: failure, or a refused connection
//! ```
//!
//! # Rules
//! 1. Endpoints are first probed at once and in parallel; the first answer decides alone.
//! 2. From start to start of an endpoint's probes, `interval × (1 ± jitter)` passes; `fast_interval × (1 ±
//!    jitter)` while the state is changing (some, not yet enough, answers the other way). Never two in
//!    flight for one endpoint: a slow probe delays the next.
//!    An endpoint that has never been up, most likely a server that is starting, is probed at the fast
//!    interval too, for [`NEWCOMER_PERIOD`] after it was added.
//! 3. A probe without an answer for `timeout` has failed; its late answer is ignored.
//! 4. A connection that the data path finds refused is proof: down at once, probed again after a
//!    `fast_interval`.
//! 5. **At the start** (the first set of endpoints) an unknown endpoint is usable, so that Weir serves from its
//!    first moment; until all first answers are in, at most [`START_GRACE`]. One that joins later gets
//!    no traffic before its first success.
//! 6. At most [`PROBES_IN_FLIGHT_MAX`] probes of a cluster are in flight; those due longest go first.
//! 7. With checks switched off every endpoint is up, always.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use weir_core::hash::{Rng, splitmix64};
use weir_core::{EndpointId, Health, Instant};

use crate::{Params, ProbeFailure};

/// Probes of one cluster in flight at a time.
pub const PROBES_IN_FLIGHT_MAX: usize = 64;
/// For so long after the start, an endpoint without an answer is usable.
pub const START_GRACE: Duration = Duration::from_secs(2);
/// For so long after it was added, an endpoint that has never been up is probed at the fast interval.
pub const NEWCOMER_PERIOD: Duration = Duration::from_secs(30);
/// Shorter intervals are stretched to this, so that no setting makes the machine spin.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// One probe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProbeId {
    /// Of which endpoint.
    pub endpoint: EndpointId,
    /// Tells the probes of a checker apart.
    pub number: u64,
}

/// How to probe. The details of HTTP are in `Params::http`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProbeKind {
    /// Connect, then close.
    Tcp,
    /// Connect, send the request, judge with [`evaluate_http`](crate::evaluate_http).
    Http,
}

/// What the owner must do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Start a probe; answer with [`Checker::handle_probe_result`].
    StartProbe(ProbeId, ProbeKind),
    /// The probe's time is over (it has failed), or its endpoint has left: close its connection.
    AbandonProbe(ProbeId),
    /// Publish the endpoint's health.
    Changed(EndpointId, Health),
    /// The start is over: what has not answered is no longer usable. Ask [`Checker::is_usable`] again.
    Settled,
}

/// Decides when to probe the endpoints of a cluster and what the answers mean.
///
/// ```
/// use weir_core::{EndpointId, Health, Instant};
/// use weir_health::{Checker, Output, Params, ProbeFailure};
///
/// let (endpoint, now) = (EndpointId(0), Instant::ZERO);
/// let mut checker = Checker::new(Params::default());
/// checker.set_endpoints(&[endpoint], now, 42);
/// assert!(checker.is_usable(endpoint, now), "unknown, but this is the start");
///
/// let Some(Output::StartProbe(probe, _kind)) = checker.poll_output() else { unreachable!() };
/// checker.handle_probe_result(probe, now, Err(ProbeFailure::Status(503)));
/// assert_eq!(checker.poll_output(), Some(Output::Changed(endpoint, Health::Down)));
/// assert!(!checker.is_usable(endpoint, now));
/// ```
#[derive(Debug)]
pub struct Checker {
    params: Params,
    endpoints: BTreeMap<EndpointId, Entry>,
    /// When each endpoint without a probe in flight is probed. Empty while switched off.
    due: BTreeSet<(Instant, EndpointId)>,
    /// When each probe in flight has failed.
    deadlines: BTreeSet<(Instant, EndpointId)>,
    next_number: u64,
    start: Start,
    /// Probes that the owner has not been told to start yet.
    starts: VecDeque<ProbeId>,
    /// Probes that the owner was told to start and must close.
    abandoned: VecDeque<ProbeId>,
    /// Endpoints whose health may differ from what the owner was told; each at most once.
    changed: VecDeque<EndpointId>,
    settled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    /// No endpoint yet.
    Before,
    /// Unknown ones of the first set are usable.
    Grace {
        until: Instant,
    },
    Over,
}

#[derive(Debug)]
struct Entry {
    health: Health,
    /// Answers in a row that contradict `health`.
    against: u32,
    activity: Activity,
    /// When its last probe was started.
    started: Option<Instant>,
    rng: Rng,
    /// Whether it belongs to the first set.
    first_set: bool,
    /// Until when it is looked for at the fast interval; `None` once it was up.
    newcomer_until: Option<Instant>,
    told: Health,
    queued: bool,
    last_failure: Option<ProbeFailure>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Activity {
    /// Switched off.
    None,
    /// In `due`.
    Waiting { due: Instant },
    /// In `deadlines`.
    Probing { number: u64, deadline: Instant },
}

impl Checker {
    /// No endpoints yet.
    pub const fn new(params: Params) -> Self {
        Self {
            params,
            endpoints: BTreeMap::new(),
            due: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            next_number: 0,
            start: Start::Before,
            starts: VecDeque::new(),
            abandoned: VecDeque::new(),
            changed: VecDeque::new(),
            settled: false,
        }
    }

    /// Changes the settings. What is known stays; every endpoint is probed again soon. Switched off, all
    /// are up.
    pub fn set_params(&mut self, params: Params, now: Instant) {
        self.params = params;
        let ids: Vec<EndpointId> = self.endpoints.keys().copied().collect();
        for id in ids {
            if self.params.enabled {
                self.probe_soon(id, now);
            } else {
                self.stop_activity(id);
                self.set_health(id, Health::Up);
            }
        }
        self.advance(now);
    }

    /// The endpoints of the cluster are now these. Those that stay keep their state; newcomers are probed at
    /// once. The first set that is not empty is the start. `seed` spreads the intervals.
    pub fn set_endpoints(&mut self, endpoints: &[EndpointId], now: Instant, seed: u64) {
        let wanted: BTreeSet<EndpointId> = endpoints.iter().copied().collect();
        let gone: Vec<EndpointId> = self.endpoints.keys().filter(|id| !wanted.contains(id)).copied().collect();
        for id in gone {
            self.stop_activity(id);
            self.endpoints.remove(&id);
        }
        self.changed.retain(|id| self.endpoints.contains_key(id));
        let first_set = self.start == Start::Before;
        if first_set && !wanted.is_empty() {
            self.start = Start::Grace { until: now + START_GRACE };
        }
        for id in wanted {
            if self.endpoints.contains_key(&id) {
                continue;
            }
            self.endpoints.insert(id, Entry::new(first_set, now, splitmix64(seed ^ u64::from(id.0))));
            if self.params.enabled {
                self.schedule_at(id, now);
            } else {
                self.set_health(id, Health::Up);
            }
        }
        self.advance(now);
    }

    /// A probe was answered. Answers of abandoned probes are ignored.
    pub fn handle_probe_result(&mut self, probe: ProbeId, now: Instant, result: Result<(), ProbeFailure>) {
        let in_flight = self
            .endpoints
            .get(&probe.endpoint)
            .is_some_and(|entry| matches!(entry.activity, Activity::Probing { number, .. } if number == probe.number));
        if in_flight {
            self.finish_probe(probe.endpoint, now, result);
        }
        self.advance(now);
    }

    /// A probe could not be made: this machine lacked descriptors, ports or memory. That says nothing about the
    /// endpoint, so it counts neither way; the next probe comes after the fast interval.
    pub fn handle_probe_lost(&mut self, probe: ProbeId, now: Instant) {
        let in_flight = self
            .endpoints
            .get(&probe.endpoint)
            .is_some_and(|entry| matches!(entry.activity, Activity::Probing { number, .. } if number == probe.number));
        if in_flight {
            self.stop_waiting_or_probing(probe.endpoint);
            self.probe_soon(probe.endpoint, now);
        }
        self.advance(now);
    }

    /// The data path's connection to the endpoint was refused: down at once, probed again soon. Further
    /// refusals of one that is down change nothing but that successes are counted from zero.
    pub fn handle_refused(&mut self, endpoint: EndpointId, now: Instant) {
        if !self.params.enabled {
            return;
        }
        if let Some(entry) = self.endpoints.get_mut(&endpoint) {
            entry.against = 0;
            entry.last_failure = Some(ProbeFailure::Refused);
            if entry.health != Health::Down {
                self.set_health(endpoint, Health::Down);
                self.probe_soon(endpoint, now);
            }
        }
        self.advance(now);
    }

    /// Starts what is due, fails what is late, ends the start.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(deadline, endpoint)) = self.deadlines.first() {
            if now < deadline {
                break;
            }
            self.abandon(endpoint);
            self.finish_probe(endpoint, now, Err(ProbeFailure::Timeout));
        }
        self.advance(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(probe) = self.abandoned.pop_front() {
            return Some(Output::AbandonProbe(probe));
        }
        while let Some(id) = self.changed.pop_front() {
            let Some(entry) = self.endpoints.get_mut(&id) else { continue };
            entry.queued = false;
            if entry.told != entry.health {
                entry.told = entry.health;
                return Some(Output::Changed(id, entry.health));
            }
        }
        if std::mem::take(&mut self.settled) {
            return Some(Output::Settled);
        }
        let kind = if self.params.http.is_some() { ProbeKind::Http } else { ProbeKind::Tcp };
        self.starts.pop_front().map(|probe| Output::StartProbe(probe, kind))
    }

    /// When to call [`Checker::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let may_start = self.deadlines.len() < PROBES_IN_FLIGHT_MAX;
        let due = self.due.first().filter(|_| may_start).map(|(due, _)| *due);
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let grace = match self.start {
            Start::Grace { until } => Some(until),
            Start::Before | Start::Over => None,
        };
        [due, deadline, grace].into_iter().flatten().min()
    }

    /// What the probes say; `Unknown` for an endpoint not in the set.
    pub fn health(&self, endpoint: EndpointId) -> Health {
        self.endpoints.get(&endpoint).map_or(Health::Unknown, |entry| entry.health)
    }

    /// Whether it may get new traffic: it is up, or unknown at the start (rule 5).
    pub fn is_usable(&self, endpoint: EndpointId, now: Instant) -> bool {
        let Some(entry) = self.endpoints.get(&endpoint) else { return false };
        match entry.health {
            Health::Up => true,
            Health::Unknown => entry.first_set && matches!(self.start, Start::Grace { until } if now < until),
            Health::Down | Health::Ejected | Health::Draining => false,
        }
    }

    /// The earliest moment at which probes can bring the endpoint up: its next probe, and where more successes are
    /// needed, a fast interval for each. In the past while that probe is in flight; `None` for one that is up or
    /// is not probed.
    pub fn earliest_up(&self, endpoint: EndpointId) -> Option<Instant> {
        let entry = self.endpoints.get(&endpoint).filter(|entry| entry.health != Health::Up)?;
        let next = match entry.activity {
            Activity::None => return None,
            Activity::Waiting { due } => due,
            Activity::Probing { .. } => entry.started?,
        };
        let further = match entry.health {
            Health::Unknown => 0,
            _ => self.params.rise.saturating_sub(entry.against).saturating_sub(1),
        };
        Some(next + self.params.fast_interval.saturating_mul(further))
    }

    /// Whether the start is over: every endpoint of the first set has answered, or its time has passed.
    pub fn is_settled(&self) -> bool {
        self.start == Start::Over
    }

    /// Why the last probe failed, or [`ProbeFailure::Refused`] from the data path; `None` if the last probe
    /// succeeded or none was answered.
    pub fn last_failure(&self, endpoint: EndpointId) -> Option<ProbeFailure> {
        self.endpoints.get(&endpoint)?.last_failure
    }

    /// Probes in flight.
    pub fn in_flight(&self) -> usize {
        self.deadlines.len()
    }

    // === evidence ===

    fn finish_probe(&mut self, id: EndpointId, now: Instant, result: Result<(), ProbeFailure>) {
        self.stop_waiting_or_probing(id);
        let Some(entry) = self.endpoints.get_mut(&id) else { return };
        entry.last_failure = result.err();
        let says = if result.is_ok() { Health::Up } else { Health::Down };
        let needed = match (entry.health, says) {
            (Health::Unknown, _) => 1,
            (_, Health::Up) => self.params.rise.max(1),
            (_, _) => self.params.fall.max(1),
        };
        if entry.health == says {
            entry.against = 0;
        } else {
            entry.against += 1;
            if entry.against >= needed {
                entry.against = 0;
                self.set_health(id, says);
            }
        }
        self.schedule_next(id, now);
    }

    fn set_health(&mut self, id: EndpointId, health: Health) {
        let Some(entry) = self.endpoints.get_mut(&id) else { return };
        entry.health = health;
        if health == Health::Up {
            entry.newcomer_until = None;
        }
        if !entry.queued && entry.told != health {
            entry.queued = true;
            self.changed.push_back(id);
        }
    }

    // === schedule ===

    /// What time and free places allow; the end of every entry point.
    fn advance(&mut self, now: Instant) {
        while self.deadlines.len() < PROBES_IN_FLIGHT_MAX {
            let Some(&(due, id)) = self.due.first() else { break };
            if now < due {
                break;
            }
            self.start_probe(id, now);
        }
        if let Start::Grace { until } = self.start {
            let open = |entry: &Entry| entry.first_set && entry.health == Health::Unknown;
            if now >= until || !self.endpoints.values().any(open) {
                self.start = Start::Over;
                self.settled = true;
            }
        }
        self.check_invariants();
    }

    fn start_probe(&mut self, id: EndpointId, now: Instant) {
        self.stop_waiting_or_probing(id);
        let Some(entry) = self.endpoints.get_mut(&id) else { return };
        let number = self.next_number;
        self.next_number += 1;
        let deadline = now + self.params.timeout;
        entry.started = Some(now);
        entry.activity = Activity::Probing { number, deadline };
        self.deadlines.insert((deadline, id));
        self.starts.push_back(ProbeId { endpoint: id, number });
    }

    /// After an answer: one interval after the start of the last probe.
    fn schedule_next(&mut self, id: EndpointId, now: Instant) {
        let Some(entry) = self.endpoints.get_mut(&id) else { return };
        let changing = entry.against > 0;
        let newcomer = entry.newcomer_until.is_some_and(|until| now < until);
        let interval = if changing || newcomer { self.params.fast_interval } else { self.params.interval };
        let drawn = entry.draw(interval, self.params.jitter);
        let due = (entry.started.unwrap_or(now) + drawn).max(now);
        self.schedule_at(id, due);
    }

    /// Not later than one `fast_interval` from now. A probe in flight is soon enough.
    fn probe_soon(&mut self, id: EndpointId, now: Instant) {
        let Some(entry) = self.endpoints.get_mut(&id) else { return };
        let soon = now + entry.draw(self.params.fast_interval, self.params.jitter);
        match entry.activity {
            Activity::Probing { .. } => {}
            Activity::Waiting { due } => self.schedule_at(id, due.min(soon)),
            Activity::None => self.schedule_at(id, soon),
        }
    }

    fn schedule_at(&mut self, id: EndpointId, due: Instant) {
        self.stop_waiting_or_probing(id);
        if let Some(entry) = self.endpoints.get_mut(&id) {
            entry.activity = Activity::Waiting { due };
            self.due.insert((due, id));
        }
    }

    fn stop_activity(&mut self, id: EndpointId) {
        self.abandon(id);
        self.stop_waiting_or_probing(id);
    }

    fn stop_waiting_or_probing(&mut self, id: EndpointId) {
        let Some(entry) = self.endpoints.get_mut(&id) else { return };
        match std::mem::replace(&mut entry.activity, Activity::None) {
            Activity::None => {}
            Activity::Waiting { due } => {
                self.due.remove(&(due, id));
            }
            Activity::Probing { deadline, .. } => {
                self.deadlines.remove(&(deadline, id));
            }
        }
    }

    /// Tells the owner to close the probe in flight, unless it has not heard of it yet.
    fn abandon(&mut self, id: EndpointId) {
        let Some(entry) = self.endpoints.get(&id) else { return };
        let Activity::Probing { number, .. } = entry.activity else { return };
        let probe = ProbeId { endpoint: id, number };
        match self.starts.iter().position(|start| *start == probe) {
            Some(at) => {
                self.starts.remove(at);
            }
            None => self.abandoned.push_back(probe),
        }
    }

    fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            assert!(self.deadlines.len() <= PROBES_IN_FLIGHT_MAX, "bounded parallelism");
            assert!(self.starts.len() <= self.deadlines.len(), "only probes in flight are to be started");
            assert!(self.changed.len() <= self.endpoints.len(), "the queue is bounded");
            let active = self.due.len() + self.deadlines.len();
            let expected = if self.params.enabled { self.endpoints.len() } else { 0 };
            assert_eq!(active, expected, "each endpoint waits or is probed");
            for (id, entry) in &self.endpoints {
                match entry.activity {
                    Activity::None => assert!(!self.params.enabled),
                    Activity::Waiting { due } => assert!(self.due.contains(&(due, *id))),
                    Activity::Probing { deadline, .. } => {
                        assert!(self.deadlines.contains(&(deadline, *id)));
                    }
                }
            }
        }
    }
}

impl Entry {
    fn new(first_set: bool, now: Instant, seed: u64) -> Self {
        Self {
            health: Health::Unknown,
            against: 0,
            activity: Activity::None,
            started: None,
            rng: Rng::new(seed),
            first_set,
            newcomer_until: Some(now + NEWCOMER_PERIOD),
            told: Health::Unknown,
            queued: false,
            last_failure: None,
        }
    }

    /// Uniform in `interval × (1 ± jitter)`.
    fn draw(&mut self, interval: Duration, jitter: f64) -> Duration {
        let nanos = u64::try_from(interval.max(INTERVAL_MIN).as_nanos()).unwrap_or(u64::MAX);
        let spread = (nanos as f64 * jitter.clamp(0.0, 0.5)) as u64; // NaN counts as 0
        let above = self.rng.below(spread.saturating_mul(2).saturating_add(1));
        Duration::from_nanos((nanos - spread.min(nanos)).saturating_add(above))
    }
}

#[cfg(test)]
mod tests;
