//! Two pools, what comes to them, and who parts the connections among them.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use weir_core::Instant;
use weir_core::hash::Rng;
use weir_pool_core::budget::{Demand, Parted, Want, part};

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

enum What {
    Pool(usize, Event),
    Look,
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
    local: Option<Local>,
    pub(crate) most_open: u32,
    /// When shares changed, and what they were then.
    pub(crate) changes: Vec<(Instant, [u32; 2])>,
}

/// The pools of one process.
struct Local {
    demands: [Demand; 2],
    shares: [u32; 2],
}

impl World {
    /// Fixed sizes.
    pub(crate) fn fixed(sizes: [u32; 2], callers: [Vec<Caller>; 2], seed: u64) -> Self {
        Self::new(sizes, true, callers, None, seed)
    }

    /// A budget within a process.
    pub(crate) fn local(callers: [Vec<Caller>; 2], seed: u64) -> Self {
        let local = Local { demands: [Demand::new(), Demand::new()], shares: [0; 2] };
        let mut world = Self::new([0, 0], false, callers, Some(local), seed);
        world.push(Instant::ZERO, What::Look);
        world
    }

    fn new(sizes: [u32; 2], warm: bool, callers: [Vec<Caller>; 2], local: Option<Local>, seed: u64) -> Self {
        let mut later = [Later::new(), Later::new()];
        let [first, second] = callers;
        let pools = [
            Pool::new(sizes[0], warm, first, seed, &mut later[0]),
            Pool::new(sizes[1], warm, second, seed ^ 1, &mut later[1]),
        ];
        let mut world = Self {
            now: Instant::ZERO,
            order: 0,
            next: BinaryHeap::new(),
            pools,
            local,
            most_open: 0,
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
            self.now = at;
            match what {
                What::Pool(pool, event) => {
                    let mut later = Later::new();
                    self.pools[pool].handle(event, at, &mut later);
                    self.push_all(pool, later);
                }
                What::Look => self.look(),
            }
            self.most_open = self.most_open.max(self.pools[0].open() + self.pools[1].open());
        }
        self.now = until;
    }

    fn look(&mut self) {
        let now = self.now;
        let Some(Local { demands, shares }) = &mut self.local else { return };
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
}
