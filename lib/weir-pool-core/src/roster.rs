//! Which endpoints of a set get callers, and how many connections each may have: the machine of a pool over several endpoints.
//!
//! ```text
//!                  as many idle as it takes            no connection, connects fail
//!   Warming ──────────────────────────────────▶ Up ──────────────────────────────────▶ Down
//!      ▲  ▲                                                                              │
//!      │  └──────────────────────────────────────────────────────────────────────────────┘ a connect succeeds
//!      │ restored, or its time is over
//!     Out   ejected, failing its uses, of weight 0, or removed (then it is forgotten when it is empty): from any
//! ```
//!
//! # Rules
//! 1. **Callers go to endpoints that are Up,** of the lowest priority that has any. A newcomer gets none before its connections
//!    are open: `min_idle` of them, or as many as its share allows, or at least one after `warm_up_max`. If nobody is Up, the first
//!    that has a connection is.
//! 2. **Places go to those that can use them.** The total is divided by the weights ([`Shares`]) among those that get
//!    callers; one that warms up, is Down or stands by has what its warm-up takes. Never above the total.
//! 3. **Out is empty.** One that is Out closes what is idle and what comes back, gives up its connects, and gets no place.
//! 4. **Panic.** If the part of the endpoints that are neither ejected nor Down is below `panic_threshold`, ejections are
//!    ignored: better doubtful ones than none. It ends by itself.
//!
//! The machine holds no connections and knows no callers. Its owner tells it what it sees of each pool and carries out what
//! [`Roster::poll_output`] says, in order: then no caller is sent anywhere before the pool is open for it, and callers who are
//! turned away find the new list of members when they look.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

use weir_core::{Address, Endpoint, EndpointId, Instant};

use crate::shares::{Claim, Order, Share, Shares};

/// How endpoints are used.
#[derive(Clone, PartialEq, Debug)]
pub struct RosterParams {
    /// Most connections over all endpoints.
    pub total: u32,
    /// Most connections of one endpoint.
    pub max_each: u32,
    /// Idle connections that a pool keeps, hence those that make an endpoint warm; at least 1.
    pub min_idle: u32,
    /// An endpoint with one connection at least is warm after this.
    pub warm_up_max: Duration,
    /// If no endpoint has a connection and connects have failed for this long at all of them, callers need not wait.
    pub down_after: Duration,
    /// Part of the endpoints (0.0 to 1.0) below which ejections are ignored; 0.0 = never.
    pub panic_threshold: f64,
}

/// What is seen of an endpoint's pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evidence {
    /// Connections that are open, being opened or being closed.
    pub held: u32,
    /// Connections that could be used now, or are being looked at.
    pub idle: u32,
    /// Connections that are open: idle or in use.
    pub live: u32,
    /// Since when connects have been failing; `None` if the last one succeeded, or none has ended.
    pub failing_since: Option<Instant>,
}

/// What becomes of an endpoint. See the module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Standing {
    /// Its first connections are being opened; it gets no caller yet.
    Warming,
    /// It can be used.
    Up,
    /// It has no connection and connects fail; it gets no caller until one succeeds.
    Down,
    /// It is ejected, has weight 0 or is removed; its connections are closed.
    Out,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Warming, Self::Up, Self::Down, Self::Out];

    /// The stable lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warming => "warming",
            Self::Up => "up",
            Self::Down => "down",
            Self::Out => "out",
        }
    }
}

/// What the owner must do, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Make a pool for a new endpoint. It takes no callers and has no places yet.
    Make(EndpointId),
    /// The pool takes callers.
    Open(EndpointId),
    /// The pool keeps this limit from now on; [`Roster::handle_evidence`] with its number follows.
    Limit(Order),
    /// [`Roster::members`], [`Roster::is_panic`] or [`Roster::is_down`] has changed: publish it.
    Publish,
    /// The pool takes no callers; those in line are turned away.
    Close(EndpointId),
    /// The pool closes all its connections: idle ones now, those in use when they come back; connects are given up.
    Empty(EndpointId),
    /// The pool is empty and its endpoint is no more: drop it.
    Forget(EndpointId),
}

/// One endpoint of the roster, for display.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'a> {
    /// Which.
    pub id: EndpointId,
    /// As last set.
    pub endpoint: &'a Endpoint,
    /// What becomes of it.
    pub standing: Standing,
    /// Until when it is ejected. In a panic it may be used all the same.
    pub ejected_until: Option<Instant>,
    /// Until when it is left out because of its failures, unless that ends earlier. In a panic it may be used all the same.
    pub outlier_until: Option<Instant>,
    /// It gets callers, or would if it were not for its failures.
    pub serves: bool,
    /// It is no longer one of the endpoints, and is forgotten when it is empty.
    pub is_leaving: bool,
    /// Its places.
    pub share: Share,
}

#[derive(Debug)]
struct Entry {
    id: EndpointId,
    endpoint: Endpoint,
    standing: Standing,
    ejected_until: Option<Instant>,
    outlier_until: Option<Instant>,
    leaving: bool,
    /// While it warms up: since when it has had a connection.
    begun: Option<Instant>,
    evidence: Evidence,
    /// It takes callers, as far as the owner was told.
    open: bool,
    /// The owner was told to empty it.
    emptied: bool,
}

impl Entry {
    fn is_candidate(&self) -> bool {
        !self.leaving && self.endpoint.weight.get() > 0
    }

    fn is_ejected(&self) -> bool {
        self.ejected_until.is_some() || self.outlier_until.is_some()
    }

    fn serves(&self) -> bool {
        let is_in = self.standing == Standing::Up || self.outlier_until.is_some();
        is_in && self.is_candidate() && self.ejected_until.is_none()
    }

    fn is_failing(&self) -> bool {
        self.evidence.live == 0 && self.evidence.failing_since.is_some()
    }
}

/// The machine. See the module.
#[derive(Debug)]
pub struct Roster {
    params: RosterParams,
    entries: Vec<Entry>,
    next_id: u32,
    shares: Shares,
    members: Vec<EndpointId>,
    panic: bool,
    down: bool,
    outputs: VecDeque<Output>,
}

impl Roster {
    /// Without endpoints.
    pub fn new(params: RosterParams) -> Self {
        Self {
            shares: Shares::new(params.total),
            params,
            entries: Vec::new(),
            next_id: 0,
            members: Vec::new(),
            panic: false,
            down: false,
            outputs: VecDeque::new(),
        }
    }

    /// The settings.
    pub fn params(&self) -> &RosterParams {
        &self.params
    }

    /// Changes the total over all endpoints.
    pub fn set_total(&mut self, total: u32, now: Instant) {
        self.params.total = total;
        self.settle(false, now);
    }

    /// The endpoints from now on, told apart by their addresses: those that stay keep their identity, their connections and an
    /// ejection. Of two with the same address the first counts.
    pub fn set_endpoints(&mut self, endpoints: Vec<Endpoint>, now: Instant) {
        for entry in &mut self.entries {
            entry.leaving = true;
        }
        let mut changed = false;
        for endpoint in endpoints {
            match self.entries.iter_mut().find(|entry| entry.endpoint.address == endpoint.address) {
                Some(entry) => {
                    if std::mem::take(&mut entry.leaving) && entry.endpoint != endpoint {
                        entry.endpoint = endpoint;
                        changed = true;
                    }
                }
                None => self.add(endpoint),
            }
        }
        // Whoever comes back under the same address later is another.
        for entry in self.entries.iter_mut().filter(|entry| entry.leaving) {
            (entry.ejected_until, entry.outlier_until) = (None, None);
        }
        self.settle(changed, now);
    }

    fn add(&mut self, endpoint: Endpoint) {
        let id = EndpointId(self.next_id);
        self.next_id += 1;
        self.outputs.push_back(Output::Make(id));
        self.entries.push(Entry {
            id,
            endpoint,
            standing: Standing::Warming,
            ejected_until: None,
            outlier_until: None,
            leaving: false,
            begun: None,
            evidence: Evidence::default(),
            open: false,
            emptied: false,
        });
    }

    /// Leaves an endpoint out until a moment. A later call replaces an earlier one. False if there is no such endpoint.
    pub fn eject(&mut self, address: &Address, until: Instant, now: Instant) -> bool {
        self.set_ejected(address, Some(until), now)
    }

    /// Ends an ejection: the endpoint warms up. False if there is no such endpoint.
    pub fn restore(&mut self, address: &Address, now: Instant) -> bool {
        self.set_ejected(address, None, now)
    }

    fn set_ejected(&mut self, address: &Address, until: Option<Instant>, now: Instant) -> bool {
        let mut there = self.entries.iter_mut().filter(|entry| !entry.leaving && entry.endpoint.address == *address);
        let Some(entry) = there.next() else { return false };
        entry.ejected_until = until;
        self.settle(false, now);
        true
    }

    /// Whoever judges endpoints by their failures leaves one out (`until` is told to those who look), or takes it back: it warms
    /// up. An ejection ([`Roster::eject`]) goes on beside it.
    pub fn set_outlier(&mut self, id: EndpointId, until: Option<Instant>, now: Instant) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id && !entry.leaving) else { return };
        entry.outlier_until = until;
        self.settle(false, now);
    }

    /// What is seen of a pool, read after it has kept the limit of `order` ([`Order::order`]; 0 before the first). It counts
    /// only if there was no later order.
    pub fn handle_evidence(&mut self, id: EndpointId, order: u64, evidence: Evidence, now: Instant) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { return };
        if order != self.shares.order(id) {
            return;
        }
        entry.evidence = evidence;
        self.shares.report(id, order, evidence.held);
        self.settle(false, now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.settle(false, now);
    }

    /// When to call [`Roster::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let warm = self.entries.iter().filter(|entry| entry.standing == Standing::Warming).filter_map(|e| e.begun);
        let restored = self.entries.iter().filter_map(|entry| entry.ejected_until);
        let down = if self.down { None } else { self.down_at() };
        warm.map(|begun| begun + self.params.warm_up_max).chain(restored).chain(down).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Those that get callers, in the order in which they came.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (EndpointId, &Endpoint)> {
        self.members.iter().map(|id| match self.entries.iter().find(|entry| entry.id == *id) {
            Some(entry) => (*id, &entry.endpoint),
            None => unreachable!("members are entries"),
        })
    }

    /// Whether ejections are ignored because too few are left.
    pub fn is_panic(&self) -> bool {
        self.panic
    }

    /// Whether callers need not wait: there is no connection, and connects have been failing for long at every endpoint.
    pub fn is_down(&self) -> bool {
        self.down
    }

    /// All endpoints, also those that are leaving.
    pub fn seats(&self) -> impl Iterator<Item = Seat<'_>> {
        self.entries.iter().map(|entry| Seat {
            id: entry.id,
            endpoint: &entry.endpoint,
            standing: entry.standing,
            ejected_until: entry.ejected_until,
            outlier_until: entry.outlier_until,
            serves: entry.serves(),
            is_leaving: entry.leaving,
            share: self.shares.share(entry.id),
        })
    }

    // === deciding ===

    /// Brings everything to where it belongs; `renamed`: what is published of a member has changed, though not who is one.
    fn settle(&mut self, renamed: bool, now: Instant) {
        for entry in &mut self.entries {
            entry.ejected_until = entry.ejected_until.filter(|until| *until > now);
        }
        let panic = self.wants_panic();
        let mut publish = renamed || panic != self.panic;
        self.panic = panic;
        for at in 0..self.entries.len() {
            self.judge(at, now);
        }
        self.promote();
        let first = self.first_tier();
        let before = std::mem::replace(&mut self.members, first);
        self.divide();
        self.members = self.first_tier();
        publish |= before != self.members;
        let down = self.down_at().is_some_and(|at| at <= now);
        publish |= down != self.down;
        self.down = down;
        self.tell(publish);
        self.check_invariants();
    }

    fn wants_panic(&self) -> bool {
        let candidates = self.entries.iter().filter(|entry| entry.is_candidate());
        let (mut all, mut usable, mut ejected) = (0_u32, 0_u32, 0_u32);
        for entry in candidates {
            all += 1;
            ejected += u32::from(entry.is_ejected());
            usable += u32::from(!entry.is_ejected() && !entry.is_failing());
        }
        ejected > 0 && f64::from(usable) / f64::from(all) < self.params.panic_threshold
    }

    /// What becomes of an endpoint, by what is known of it alone.
    fn judge(&mut self, at: usize, now: Instant) {
        let need = self.need(self.entries[at].id);
        let panic = self.panic;
        let warm_up_max = self.params.warm_up_max;
        let entry = &mut self.entries[at];
        let barred = !entry.is_candidate() || (entry.is_ejected() && !panic);
        let mut standing = match entry.standing {
            _ if barred => Standing::Out,
            Standing::Out => {
                // Those that are idle are about to be closed.
                entry.evidence.idle = 0;
                Standing::Warming
            }
            Standing::Warming | Standing::Up if entry.is_failing() => Standing::Down,
            Standing::Down if entry.evidence.idle > 0 => Standing::Warming,
            other => other,
        };
        let idle = entry.evidence.idle;
        if standing != Standing::Warming {
            entry.begun = None;
        } else if idle == 0 {
            // Those in use are from before.
            entry.begun = None;
        } else {
            let begun = *entry.begun.get_or_insert(now);
            if idle >= need || now.since(begun) >= warm_up_max {
                standing = Standing::Up;
                entry.begun = None;
            }
        }
        entry.standing = standing;
    }

    /// If nobody is Up: whoever has a connection is.
    fn promote(&mut self) {
        if self.entries.iter().any(|entry| entry.standing == Standing::Up) {
            return;
        }
        for entry in &mut self.entries {
            if entry.standing == Standing::Warming && entry.evidence.idle > 0 {
                entry.standing = Standing::Up;
                entry.begun = None;
            }
        }
    }

    /// Idle connections that make an endpoint warm.
    fn need(&self, id: EndpointId) -> u32 {
        // Without a place it cannot have any: it needs one all the same.
        self.warm_max().min(self.shares.share(id).target.max(1))
    }

    fn warm_max(&self) -> u32 {
        self.params.min_idle.min(self.params.max_each).max(1)
    }

    /// Gives places to those that are not Out. If there are fewer places than endpoints, those that are Up come first, then the
    /// heavier ones; who has none cannot be Up.
    fn divide(&mut self) {
        let warm_max = self.warm_max();
        let mut claiming: Vec<&Entry> = self.entries.iter().filter(|entry| entry.standing != Standing::Out).collect();
        if claiming.len() as u64 > u64::from(self.params.total) {
            claiming.sort_by_key(|entry| Reverse((entry.standing == Standing::Up, entry.endpoint.weight)));
            claiming.truncate(self.params.total as usize);
        }
        let claims: Vec<(EndpointId, Claim)> = claiming
            .into_iter()
            .map(|entry| {
                let max = if self.members.contains(&entry.id) { self.params.max_each } else { warm_max };
                (entry.id, Claim { weight: entry.endpoint.weight.get(), max })
            })
            .collect();
        self.shares.set(self.params.total, &claims);
        for entry in &mut self.entries {
            if entry.standing == Standing::Up && !claims.iter().any(|(id, _)| *id == entry.id) {
                entry.standing = Standing::Warming;
            }
        }
    }

    /// Those that get callers: the Up ones of the lowest priority that has any.
    fn first_tier(&self) -> Vec<EndpointId> {
        let up = || self.entries.iter().filter(|entry| entry.standing == Standing::Up);
        let tier = up().map(|entry| entry.endpoint.priority).min();
        up().filter(|entry| Some(entry.endpoint.priority) == tier).map(|entry| entry.id).collect()
    }

    /// When callers need not wait any more; `None` while there is hope at any endpoint.
    fn down_at(&self) -> Option<Instant> {
        let mut latest = None;
        for entry in self.entries.iter().filter(|entry| entry.is_candidate()) {
            match entry.standing {
                Standing::Down => latest = latest.max(Some(entry.evidence.failing_since?)),
                Standing::Out => {}
                Standing::Warming | Standing::Up => return None,
            }
        }
        latest.map(|since| since + self.params.down_after)
    }

    fn tell(&mut self, publish: bool) {
        let is_open = |entry: &Entry| entry.standing == Standing::Up;
        for entry in self.entries.iter_mut().filter(|entry| is_open(entry) && !entry.open) {
            entry.open = true;
            self.outputs.push_back(Output::Open(entry.id));
        }
        while let Some(order) = self.shares.poll_order() {
            self.outputs.push_back(Output::Limit(order));
        }
        if publish {
            self.outputs.push_back(Output::Publish);
        }
        for entry in self.entries.iter_mut().filter(|entry| !is_open(entry) && entry.open) {
            entry.open = false;
            self.outputs.push_back(Output::Close(entry.id));
        }
        // Told once, and again when it comes back from there.
        for entry in &mut self.entries {
            let empty = entry.standing == Standing::Out;
            if empty && !entry.emptied {
                self.outputs.push_back(Output::Empty(entry.id));
            }
            entry.emptied = empty;
        }
        let shares = &self.shares;
        let outputs = &mut self.outputs;
        self.entries.retain(|entry| {
            let over = entry.leaving && entry.evidence.held == 0 && shares.is_empty(entry.id);
            if over {
                outputs.push_back(Output::Forget(entry.id));
            }
            !over
        });
    }

    fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        for id in &self.members {
            let entry = self.entries.iter().find(|entry| entry.id == *id);
            assert!(
                entry.is_some_and(|entry| entry.standing == Standing::Up && entry.open && entry.is_candidate()),
                "who gets callers can serve them: {entry:?}"
            );
        }
        for entry in &self.entries {
            assert_eq!(entry.open, entry.standing == Standing::Up, "{entry:?}");
            if entry.standing == Standing::Out {
                assert_eq!(self.shares.share(entry.id).limit, 0, "who is out has no places: {entry:?}");
            }
        }
        let up = self.entries.iter().any(|entry| entry.standing == Standing::Up);
        assert_eq!(up, !self.members.is_empty(), "if any can be used, one is");
    }
}

#[cfg(test)]
mod tests;
