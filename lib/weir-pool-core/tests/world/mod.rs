//! The simulated world: real time in steps of 20 ms, in which each process has a clock of its own.

use std::time::Duration;

use weir_core::Instant;
use weir_core::hash::Rng;
use weir_pool_core::budget::{Claim, DRIFT_PERCENT, Demand, Grant, Grantor, GrantorParams, Member, MemberParams};

pub(crate) const TOTAL: u32 = 40;
const STEP: Duration = Duration::from_millis(20);
const LEASE: Duration = Duration::from_secs(10);
const FLOOR_LEASE: Duration = Duration::from_mins(1);
/// A use ends within this: half a lease, less the drift of two clocks.
const USE_MAX_MILLIS: u64 = 4_200;
/// One use in ten may last so long, the others up to 200 ms.
const USE_MEAN: Duration = Duration::from_millis(300);
const MEMBERS: usize = 5;

/// What goes wrong.
#[derive(Clone, Copy)]
pub(crate) struct Chaos {
    pub(crate) network: bool,
    pub(crate) deaths: bool,
    pub(crate) lying_refusals: bool,
    pub(crate) long_uses: bool,
}

impl Chaos {
    pub(crate) const ALL: Self = Self { network: true, deaths: true, lying_refusals: false, long_uses: false };
    pub(crate) const NONE: Self = Self { network: false, deaths: false, lying_refusals: false, long_uses: false };
}

/// How often things have happened.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seen {
    grants: u64,
    refusals: u64,
    silences: u64,
    fallbacks: u64,
    stale: u64,
    lost: u64,
    doubled: u64,
    grantor_starts: u64,
    kills: u64,
    leaves: u64,
}

impl Seen {
    pub(crate) fn rows(&self) -> [(&'static str, u64); 10] {
        [
            ("grants", self.grants),
            ("refusals", self.refusals),
            ("silences", self.silences),
            ("fallbacks", self.fallbacks),
            ("stale claims", self.stale),
            ("lost messages", self.lost),
            ("doubled messages", self.doubled),
            ("starts of the grantor", self.grantor_starts),
            ("killed members", self.kills),
            ("members that left", self.leaves),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.grants += other.grants;
        self.refusals += other.refusals;
        self.silences += other.silences;
        self.fallbacks += other.fallbacks;
        self.stale += other.stale;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.grantor_starts += other.grantor_starts;
        self.kills += other.kills;
        self.leaves += other.leaves;
    }
}

/// A clock that drifts.
#[derive(Clone, Copy)]
struct Clock {
    offset: Duration,
    permille: u64,
}

impl Clock {
    fn draw(rng: &mut Rng, drifts: bool) -> Self {
        let most = u64::from(DRIFT_PERCENT) * 10;
        let permille = if drifts { 1_000 - most + rng.below(2 * most + 1) } else { 1_000 };
        Self { offset: Duration::from_millis(rng.below(1_000_000)), permille }
    }

    fn at(self, real: Duration) -> Instant {
        Instant::ZERO + self.offset + real * self.permille as u32 / 1_000
    }
}

struct Node {
    name: String,
    machine: Member,
    clock: Clock,
    demand: Demand,
    busy_nanos: u64,
    /// Callers that want a connection at the same time.
    load: u32,
    /// When each use in progress ends.
    uses: Vec<Duration>,
    idle: u32,
    cut_off: bool,
    leaving: bool,
    /// The claim under way, and when its answer is given up.
    waiting: Option<(u64, Duration)>,
}

impl Node {
    fn open(&self) -> u32 {
        self.uses.len() as u32 + self.idle
    }

    fn may_have(&self) -> u32 {
        self.machine.share().max(self.open())
    }
}

enum Message {
    /// With how long the answer may be kept back.
    Claim(Claim, Duration),
    Leave(u64),
    Grant(u64, Grant),
    Refused(u64),
}

struct InFlight {
    arrives: Duration,
    member: String,
    message: Message,
}

pub(crate) struct World {
    rng: Rng,
    now: Duration,
    chaos: Chaos,
    grantor: Option<Grantor>,
    grantor_clock: Clock,
    nodes: Vec<Node>,
    born: u64,
    network: Vec<InFlight>,
    /// Claims that the grantor has not answered, and until when they wait.
    waiting: Vec<(String, u64, Duration)>,
    loads: Vec<u32>,
    pub(crate) seen: Seen,
}

impl World {
    pub(crate) fn new(seed: u64, chaos: Chaos) -> Self {
        Self::with_loads(seed, chaos, &[3, 10, 10, 20, 40][..MEMBERS])
    }

    pub(crate) fn with_loads(seed: u64, chaos: Chaos, loads: &[u32]) -> Self {
        let mut rng = Rng::new(seed);
        let grantor_clock = Clock::draw(&mut rng, chaos.network);
        let mut world = Self {
            rng,
            now: Duration::ZERO,
            chaos,
            grantor: None,
            grantor_clock,
            nodes: Vec::new(),
            born: 0,
            network: Vec::new(),
            waiting: Vec::new(),
            loads: loads.to_vec(),
            seen: Seen::default(),
        };
        world.start_grantor();
        for load in loads {
            world.start_member(*load);
        }
        world
    }

    // === what happens ===

    pub(crate) fn start_grantor(&mut self) {
        let params = GrantorParams { total: TOTAL, floors: 5, lease: LEASE, floor_lease: FLOOR_LEASE };
        self.grantor_clock = Clock::draw(&mut self.rng, self.chaos.network);
        self.grantor = Some(Grantor::new(params, self.grantor_clock.at(self.now)));
        self.seen.grantor_starts += 1;
    }

    pub(crate) fn kill_grantor(&mut self) {
        self.grantor = None;
        self.waiting.clear();
    }

    fn start_member(&mut self, load: u32) {
        let clock = Clock::draw(&mut self.rng, self.chaos.network);
        let params = MemberParams { floor: 1, weight: 1, start: 0, refusal_is_proof: true };
        self.born += 1;
        self.nodes.push(Node {
            name: format!("m{}", self.born),
            machine: Member::new(params, clock.at(self.now)),
            clock,
            demand: Demand::new(),
            busy_nanos: 0,
            load,
            uses: Vec::new(),
            idle: 0,
            cut_off: false,
            leaving: false,
            waiting: None,
        });
    }

    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes.remove(index);
        self.seen.kills += 1;
    }

    pub(crate) fn leave(&mut self, index: usize) {
        self.nodes[index].leaving = true;
    }

    pub(crate) fn cut_off(&mut self, index: usize, cut_off: bool) {
        self.nodes[index].cut_off = cut_off;
    }

    pub(crate) fn set_loads(&mut self, loads: &[u32]) {
        for (node, load) in self.nodes.iter_mut().zip(loads) {
            node.load = *load;
        }
    }

    /// Everything works from now on.
    pub(crate) fn calm(&mut self) {
        self.chaos = Chaos::NONE;
        if self.grantor.is_none() {
            self.start_grantor();
        }
        self.nodes.iter_mut().for_each(|node| node.cut_off = false);
        while self.nodes.len() < self.loads.len() {
            self.start_member(20);
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    pub(crate) fn step(&mut self) {
        self.now += STEP;
        self.strike();
        self.deliver();
        self.answer();
        self.nodes.sort_by(|a, b| a.name.len().cmp(&b.name.len()).then(a.name.cmp(&b.name)));
        for index in 0..self.nodes.len() {
            self.live(index);
        }
        self.nodes.retain(|node| !(node.leaving && node.machine.poll_timeout() == Instant::FAR));
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.rng.below(n) == 0
    }

    fn strike(&mut self) {
        if self.chaos.network {
            for index in 0..self.nodes.len() {
                // Cut off for 10 s now and then, sometimes for a minute or two.
                let odds = if self.nodes[index].cut_off { 700 } else { 2_000 };
                if self.one_in(odds) {
                    self.nodes[index].cut_off ^= true;
                }
                if self.one_in(1_000) {
                    self.nodes[index].load = self.rng.below(50) as u32;
                }
            }
        }
        if !self.chaos.deaths {
            return;
        }
        if self.grantor.is_none() && self.one_in(400) {
            self.start_grantor();
        } else if self.grantor.is_some() && self.one_in(2_500) {
            self.kill_grantor();
        }
        if !self.nodes.is_empty() && self.one_in(2_500) {
            let index = self.rng.below(self.nodes.len() as u64) as usize;
            if self.one_in(2) { self.kill(index) } else { self.leave(index) }
        }
        if self.nodes.len() < self.loads.len() && self.one_in(300) {
            let load = self.rng.below(50) as u32;
            self.start_member(load);
        }
    }

    fn send(&mut self, member: &str, message: Message) {
        let delay = match (self.chaos.network, self.one_in(20)) {
            (true, true) => self.rng.below(15_000),
            (true, false) => self.rng.below(400),
            (false, _) => 1,
        };
        if self.chaos.network && self.one_in(12) {
            self.seen.lost += 1;
            return;
        }
        self.network.push(InFlight {
            arrives: self.now + Duration::from_millis(delay),
            member: member.to_owned(),
            message,
        });
    }

    fn deliver(&mut self) {
        let mut due: Vec<InFlight> = Vec::new();
        let mut at = 0;
        while at < self.network.len() {
            if self.network[at].arrives <= self.now {
                due.push(self.network.swap_remove(at));
            } else {
                at += 1;
            }
        }
        for InFlight { member, message, .. } in due {
            let cut_off = self.nodes.iter().any(|node| node.name == member && node.cut_off);
            if cut_off {
                self.seen.lost += 1;
                // What refuses in place of the grantor.
                if let (true, Message::Claim(claim, _)) = (self.chaos.lying_refusals, &message) {
                    self.receive(&member, &Message::Refused(claim.seq));
                }
                continue;
            }
            self.receive(&member, &message);
            if self.chaos.network && self.one_in(15) {
                self.seen.doubled += 1;
                self.receive(&member, &message);
            }
        }
    }

    /// The grantor answers those who wait: because there is news, or because they have waited for long enough.
    fn answer(&mut self) {
        let grantor_now = self.grantor_clock.at(self.now);
        let Some(grantor) = &mut self.grantor else { return };
        let mut answers = grantor.poll_grants(grantor_now);
        for (member, seq, _) in self.waiting.extract_if(.., |(.., until)| *until <= self.now) {
            let grant = grantor.handle_impatience(&member, seq, grantor_now);
            answers.extend(grant.map(|grant| (member.into(), seq, grant)));
        }
        for (member, seq, grant) in answers {
            self.send(&member, Message::Grant(seq, grant));
        }
    }

    fn receive(&mut self, member: &str, message: &Message) {
        let grantor_now = self.grantor_clock.at(self.now);
        match message {
            Message::Claim(claim, patience) => match &mut self.grantor {
                None => self.send(member, Message::Refused(claim.seq)),
                Some(grantor) => match grantor.handle_patient_claim(member, claim, grantor_now) {
                    Ok(Some(grant)) => self.send(member, Message::Grant(claim.seq, grant)),
                    Ok(None) => self.waiting.push((member.to_owned(), claim.seq, self.now + *patience)),
                    Err(_) => self.seen.stale += 1,
                },
            },
            Message::Leave(seq) => {
                if let Some(grantor) = &mut self.grantor {
                    grantor.handle_leave(member, *seq, grantor_now);
                }
            }
            Message::Grant(seq, grant) => {
                let now = self.now;
                let Some(node) = self.nodes.iter_mut().find(|node| node.name == member) else { return };
                if !node.leaving {
                    node.machine.handle_grant(*seq, grant, node.clock.at(now));
                }
                node.waiting.take_if(|(waiting, _)| waiting == seq);
                self.seen.grants += 1;
            }
            Message::Refused(seq) => {
                let now = self.now;
                let Some(node) = self.nodes.iter_mut().find(|node| node.name == member) else { return };
                node.machine.handle_refused(*seq, node.clock.at(now));
                node.waiting.take_if(|(waiting, _)| waiting == seq);
                self.seen.refusals += 1;
            }
        }
    }

    /// A member does what is due, and its pool works.
    fn live(&mut self, index: usize) {
        let real = self.now;
        let chaos = self.chaos;
        let node = &mut self.nodes[index];
        let now = node.clock.at(real);
        let before = node.machine.share();
        node.machine.handle_timeout(now);
        self.seen.fallbacks += u64::from(node.machine.share() < before);
        if let Some((seq, _)) = node.waiting.take_if(|(_, until)| real >= *until) {
            node.machine.handle_silence(seq, now);
            self.seen.silences += 1;
        }
        // Uses end; what is above the share is closed; what is wanted and allowed is opened.
        let busy = node.uses.len();
        node.uses.retain(|end| *end > real);
        node.idle += (busy - node.uses.len()) as u32;
        let share = if node.leaving { 0 } else { node.machine.share() };
        let load = if node.leaving { 0 } else { node.load };
        node.idle -= node.open().saturating_sub(share).min(node.idle);
        while (node.uses.len() as u32) < load && (node.idle > 0 || node.open() < share) {
            node.idle = node.idle.saturating_sub(1);
            let longest = if chaos.long_uses { 30_000 } else { USE_MAX_MILLIS };
            let most = if self.rng.below(10) == 0 { longest } else { 200 };
            node.uses.push(real + Duration::from_millis(1 + self.rng.below(most)));
        }
        let busy = (node.uses.len() as u32).min(load);
        node.busy_nanos += u64::from(busy) * STEP.as_nanos() as u64;
        node.demand.record(node.busy_nanos, load - busy, USE_MEAN, now);
        let name = node.name.clone();
        if node.leaving && node.open() == 0 {
            let seq = node.machine.leave();
            self.seen.leaves += 1;
            self.send(&name, Message::Leave(seq));
            return;
        }
        if let Some(claim) = node.machine.poll_claim(node.open(), node.demand.get(), TOTAL, now) {
            let (within, patience) = (node.machine.answer_within(), node.machine.patience());
            node.waiting = Some((claim.seq, real + within));
            self.send(&name, Message::Claim(claim, patience));
        }
    }

    // === what is seen ===

    /// What all members may have open.
    pub(crate) fn sum(&self) -> u32 {
        self.nodes.iter().map(Node::may_have).sum()
    }

    pub(crate) fn shares(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.machine.share()).collect()
    }

    pub(crate) fn granted(&self) -> u32 {
        self.shares().iter().sum()
    }

    pub(crate) fn explain(&self) -> String {
        let members: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("{}: share {}, open {}", node.name, node.machine.share(), node.open()))
            .collect();
        format!("at {:?}: {} of {TOTAL}; {members:?}; {:?}", self.now, self.sum(), self.grantor)
    }
}
