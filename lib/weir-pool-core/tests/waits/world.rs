//! Two pools, what comes to them, and who parts the connections among them.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use weir_core::Instant;
use weir_core::hash::Rng;
use weir_pool_core::budget::{
    Amount, Claim, Demand, Grant, Grantor, GrantorParams, Member, MemberParams, Parted, Want, part,
};

use crate::pool::{Caller, Event, Later, Pool};

pub(crate) const TOTAL: u32 = 40;
/// Between two looks at a pool.
const LOOK: Duration = Duration::from_millis(50);
/// … while connections are on their way from one to the other.
const LOOK_SOON: Duration = Duration::from_millis(10);

/// How long uses take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Uses {
    Fixed(Duration),
    Exponential(Duration),
}

impl Uses {
    fn mean(self) -> Duration {
        match self {
            Self::Fixed(mean) | Self::Exponential(mean) => mean,
        }
    }

    fn draw(self, rng: &mut Rng) -> Duration {
        match self {
            Self::Fixed(mean) => mean,
            Self::Exponential(mean) => mean.mul_f64(exponential(rng)).max(Duration::from_nanos(1)),
        }
    }
}

fn exponential(rng: &mut Rng) -> f64 {
    let uniform = (rng.below(1 << 40) + 1) as f64 / (1_u64 << 40) as f64;
    -uniform.ln()
}

/// Callers at random who keep `busy` connections in use on average until a time, then as many as the next says.
pub(crate) fn callers(seed: u64, uses: Uses, phases: &[(Instant, f64)]) -> Vec<Caller> {
    let mut rng = Rng::new(seed);
    let mut callers = Vec::new();
    let mut at = Instant::ZERO;
    for (end, busy) in phases {
        let mean = uses.mean().div_f64(*busy);
        loop {
            let next = at + mean.mul_f64(exponential(&mut rng));
            if next >= *end {
                // Arrivals have no memory.
                at = *end;
                break;
            }
            at = next;
            callers.push(Caller { at, hold: uses.draw(&mut rng) });
        }
    }
    callers
}

/// What callers wait in a pool of so many connections that are open all the time, served in turn: when each came, and its wait.
pub(crate) fn fixed(size: u32, callers: &[Caller]) -> Vec<(Instant, Duration)> {
    let mut free: BinaryHeap<Reverse<Instant>> = (0..size).map(|_| Reverse(Instant::ZERO)).collect();
    let mut waits = Vec::with_capacity(callers.len());
    for Caller { at, hold } in callers {
        let Some(Reverse(next)) = free.pop() else { break };
        let begin = next.max(*at);
        free.push(Reverse(begin + *hold));
        waits.push((*at, begin.since(*at)));
    }
    waits
}

enum What {
    Pool(usize, Event),
    /// A look at all pools of a process.
    Look,
    /// At one, in a process of its own.
    LookAt(usize),
    Claimed(usize, Claim, Duration),
    /// It has waited for long enough for the answer to this claim.
    Impatient(usize, u64),
    Granted(usize, u64, Grant),
}

struct Next {
    at: Instant,
    order: u64,
    what: What,
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at).then(self.order.cmp(&other.order))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Next {}

pub(crate) struct World {
    now: Instant,
    order: u64,
    next: BinaryHeap<Reverse<Next>>,
    pub(crate) pools: [Pool; 2],
    budget: Budget,
    pub(crate) most_open: u32,
    /// Connections that were open, by how long.
    pub(crate) open_nanos: u64,
    /// When shares changed, and what they were then.
    pub(crate) changes: Vec<(Instant, [u32; 2])>,
}

enum Budget {
    Local(Box<Local>),
    Remote(Box<Remote>),
}

/// The pools of one process.
struct Local {
    demands: [Demand; 2],
    shares: [u32; 2],
}

/// Pools of two processes, and a grantor.
struct Remote {
    grantor: Grantor,
    demands: [Demand; 2],
    members: [Member; 2],
    looked: [Instant; 2],
    /// Messages take up to so long; from each other's they are apart.
    rng: Rng,
}

const NAMES: [&str; 2] = ["a", "b"];
/// The network and the processes take so long at most.
const MESSAGE_MICROS: u64 = 2_000;
const LEASE: Duration = Duration::from_secs(10);
/// The grantor's clock is ahead of others by this.
const AHEAD: Duration = Duration::from_mins(1);

impl World {
    /// A budget within a process.
    pub(crate) fn local(callers: [Vec<Caller>; 2], seed: u64) -> Self {
        let local = Local { demands: [Demand::new(), Demand::new()], shares: [0; 2] };
        let mut world = Self::new(callers, Budget::Local(Box::new(local)), seed);
        world.push(Instant::ZERO, What::Look);
        world
    }

    /// A budget that a grantor leases to two processes.
    pub(crate) fn remote(callers: [Vec<Caller>; 2], seed: u64) -> Self {
        let params = MemberParams { floor: 1, weight: 1, start: 0, refusal_is_proof: true };
        let grantor = GrantorParams { total: TOTAL, floors: 2, lease: LEASE, floor_lease: 2 * LEASE };
        // It has waited for members from before its start.
        let mut grantor = Grantor::new(grantor, Instant::ZERO);
        grantor.handle_timeout(Instant::ZERO + AHEAD);
        let remote = Remote {
            grantor,
            demands: [Demand::new(), Demand::new()],
            members: [0, 1].map(|_| Member::new(params.clone(), Instant::ZERO)),
            looked: [Instant::ZERO; 2],
            rng: Rng::new(seed),
        };
        let mut world = Self::new(callers, Budget::Remote(Box::new(remote)), seed);
        world.push(Instant::ZERO, What::LookAt(0));
        world.push(Instant::ZERO + LOOK / 3, What::LookAt(1));
        world
    }

    fn new(callers: [Vec<Caller>; 2], budget: Budget, seed: u64) -> Self {
        let mut later = [Later::new(), Later::new()];
        let [first, second] = callers;
        let pools = [Pool::new(first, seed, &mut later[0]), Pool::new(second, seed ^ 1, &mut later[1])];
        let mut world = Self {
            now: Instant::ZERO,
            order: 0,
            next: BinaryHeap::new(),
            pools,
            budget,
            most_open: 0,
            open_nanos: 0,
            changes: Vec::new(),
        };
        for (pool, later) in later.into_iter().enumerate() {
            world.push_all(pool, later);
        }
        world
    }

    fn push(&mut self, at: Instant, what: What) {
        self.order += 1;
        self.next.push(Reverse(Next { at, order: self.order, what }));
    }

    fn push_all(&mut self, pool: usize, later: Later) {
        for (at, event) in later {
            self.push(at, What::Pool(pool, event));
        }
    }

    pub(crate) fn run(&mut self, until: Instant) {
        while self.next.peek().is_some_and(|Reverse(next)| next.at < until)
            && let Some(Reverse(Next { at, what, .. })) = self.next.pop()
        {
            self.pass(at);
            match what {
                What::Pool(pool, event) => {
                    let mut later = Later::new();
                    self.pools[pool].handle(event, at, &mut later);
                    self.push_all(pool, later);
                }
                What::Look => self.look(),
                What::LookAt(index) => {
                    if let Some(at) = self.look_at(index) {
                        self.push(at, What::LookAt(index));
                    }
                }
                What::Claimed(index, claim, patience) => self.claimed(index, &claim, patience),
                What::Impatient(index, seq) => self.impatient(index, seq),
                What::Granted(index, seq, grant) => {
                    if let Budget::Remote(remote) = &mut self.budget {
                        remote.members[index].handle_grant(seq, &grant, at);
                    }
                    self.look_at(index);
                }
            }
            self.most_open = self.most_open.max(self.pools[0].open() + self.pools[1].open());
        }
        self.pass(until);
    }

    fn pass(&mut self, until: Instant) {
        let open = self.pools[0].open() + self.pools[1].open();
        self.open_nanos += u64::from(open) * until.since(self.now).as_nanos() as u64;
        self.now = until;
    }

    fn look(&mut self) {
        let now = self.now;
        let Budget::Local(local) = &mut self.budget else { return };
        let Local { demands, shares } = &mut **local;
        let mut parted: Vec<Parted> = (0..2)
            .map(|index| {
                let pool = &self.pools[index];
                demands[index].record(pool.busy_nanos(now), pool.waiting(), pool.hold(now), now);
                let want = Want { floor: 1, weight: 1, demand: demands[index].get(), max: TOTAL, share: shares[index] };
                Parted { want, open: pool.open() }
            })
            .collect();
        let mut later = [Later::new(), Later::new()];
        let settled = part(TOTAL, &mut parted, |index, share| self.pools[index].limit(share, now, &mut later[index]));
        *shares = [0, 1].map(|index: usize| parted[index].want.share);
        let shares = *shares;
        for (pool, later) in later.into_iter().enumerate() {
            self.push_all(pool, later);
        }
        self.push(now + if settled { LOOK } else { LOOK_SOON }, What::Look);
        if self.changes.last().is_none_or(|(_, last)| *last != shares) {
            self.changes.push((now, shares));
        }
    }
    /// What the process of a pool does; returns when it looks again.
    fn look_at(&mut self, index: usize) -> Option<Instant> {
        let now = self.now;
        let Budget::Remote(remote) = &mut self.budget else { return None };
        let (member, demand, pool) = (&mut remote.members[index], &mut remote.demands[index], &mut self.pools[index]);
        member.handle_timeout(now);
        let mut later = Later::new();
        let open = pool.limit(member.share(), now, &mut later);
        let closing = open > member.share();
        let look = if closing { LOOK_SOON } else { LOOK };
        let due = now >= remote.looked[index] + look;
        if due || now == Instant::ZERO {
            remote.looked[index] = now;
            demand.record(pool.busy_nanos(now), pool.waiting(), pool.hold(now), now);
        }
        let wanted = demand.get().max(Amount::whole(pool.waiting().min(1)));
        let claim = member.poll_claim(open, wanted, TOTAL, now).map(|claim| (claim, member.patience()));
        let next = member.poll_timeout().min(remote.looked[index] + look).max(now + Duration::from_millis(1));
        let shares = [0, 1].map(|index: usize| remote.members[index].share());
        if let Some((claim, patience)) = claim {
            let delay = Duration::from_micros(1 + remote.rng.below(MESSAGE_MICROS));
            self.push(now + delay, What::Claimed(index, claim, patience));
        }
        self.push_all(index, later);
        if self.changes.last().is_none_or(|(_, last)| *last != shares) {
            self.changes.push((now, shares));
        }
        Some(next)
    }

    fn claimed(&mut self, index: usize, claim: &Claim, patience: Duration) {
        let now = self.now;
        let Budget::Remote(remote) = &mut self.budget else { return };
        match remote.grantor.handle_patient_claim(NAMES[index], claim, now + AHEAD) {
            Ok(Some(grant)) => self.answer(index, claim.seq, grant),
            Ok(None) => self.push(now + patience, What::Impatient(index, claim.seq)),
            Err(_) => {}
        }
        self.tell_news();
    }

    fn impatient(&mut self, index: usize, seq: u64) {
        let now = self.now;
        let Budget::Remote(remote) = &mut self.budget else { return };
        if let Some(grant) = remote.grantor.handle_impatience(NAMES[index], seq, now + AHEAD) {
            self.answer(index, seq, grant);
        }
        self.tell_news();
    }

    fn tell_news(&mut self) {
        let now = self.now;
        let Budget::Remote(remote) = &mut self.budget else { return };
        for (name, seq, grant) in remote.grantor.poll_grants(now + AHEAD) {
            self.answer(usize::from(&*name == NAMES[1]), seq, grant);
        }
    }

    fn answer(&mut self, index: usize, seq: u64, grant: Grant) {
        let Budget::Remote(remote) = &mut self.budget else { return };
        let delay = Duration::from_micros(1 + remote.rng.below(MESSAGE_MICROS));
        self.push(self.now + delay, What::Granted(index, seq, grant));
    }
}
