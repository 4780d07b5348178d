//! Division: exact properties. Movement: pools that hear and report late, out of order and twice, and hold on to what they use.

use proptest::prelude::*;
use weir_core::hash::Rng;

use super::*;

fn claim() -> impl Strategy<Value = Claim> {
    (
        prop_oneof![3 => 1..20_u16, 1 => any::<u16>(), 1 => Just(0)],
        prop_oneof![2 => 1..30_u32, 3 => Just(1_000), 1 => Just(0)],
    )
        .prop_map(|(weight, max)| Claim { weight, max })
}

proptest! {
    #[test]
    fn a_division_keeps_its_promises(total in 0..300_u32, claims in prop::collection::vec(claim(), 0..12)) {
        let shares = divide(total, &claims);
        prop_assert_eq!(shares.len(), claims.len());
        let real: Vec<(Claim, u32)> =
            claims.iter().copied().zip(shares.iter().copied()).filter(|(claim, _)| !claim.is_none()).collect();
        for (claim, share) in claims.iter().zip(&shares) {
            prop_assert!(*share <= if claim.is_none() { 0 } else { claim.max }, "{claim:?}: {share}");
        }
        // All of it, unless nobody can use more.
        let usable: u64 = real.iter().map(|(claim, _)| u64::from(claim.max)).sum();
        let sum: u64 = shares.iter().copied().map(u64::from).sum();
        prop_assert_eq!(sum, u64::from(total).min(usable));
        if real.len() <= total as usize {
            prop_assert!(real.iter().all(|(_, share)| *share >= 1), "a floor of 1: {:?}", shares);
        }
        // The heavier never gets less, its maximum aside.
        for (a, of_a) in &real {
            for (b, of_b) in &real {
                if a.weight > b.weight {
                    prop_assert!(of_a >= of_b || *of_a == a.max, "{a:?} {of_a}, {b:?} {of_b}");
                }
            }
        }
        // Those within their bounds are in proportion, to the rounding.
        for (a, of_a) in real.iter().filter(|(claim, share)| *share > 1 && *share < claim.max) {
            for (b, of_b) in real.iter().filter(|(claim, share)| *share > 1 && *share < claim.max) {
                let left = f64::from(*of_a) / f64::from(a.weight);
                let right = f64::from(*of_b) / f64::from(b.weight);
                let rounding = 1.0 / f64::from(a.weight) + 1.0 / f64::from(b.weight);
                prop_assert!((left - right).abs() <= rounding + 1e-9, "{a:?} {of_a}, {b:?} {of_b}");
            }
        }
    }
}

/// A pool far away: it hears its orders late, opens when it may, and gives up what nobody uses.
#[derive(Default, Debug)]
struct Remote {
    limit: u32,
    order: u64,
    idle: u32,
    busy: u32,
}

impl Remote {
    fn held(&self) -> u32 {
        self.idle + self.busy
    }
}

struct World {
    rng: Rng,
    shares: Shares,
    pools: Vec<Remote>,
    /// Orders and reports on their way.
    orders: Vec<Order>,
    reports: Vec<(EndpointId, u64, u32)>,
    claims: Vec<(EndpointId, Claim)>,
    total_max: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let total = 20;
        let pools = (0..5).map(|_| Remote::default()).collect();
        Self {
            rng: Rng::new(seed),
            shares: Shares::new(total),
            pools,
            orders: Vec::new(),
            reports: Vec::new(),
            claims: Vec::new(),
            total_max: total,
        }
    }

    fn some<T: Copy>(&mut self, list: &[T]) -> Option<(usize, T)> {
        let at = self.rng.below(list.len().max(1) as u64) as usize;
        list.get(at).map(|item| (at, *item))
    }

    fn claim_anew(&mut self) {
        let mut claims = Vec::new();
        for id in 0..5_u32 {
            if self.rng.below(4) > 0 {
                let max = if self.rng.below(3) == 0 { 4 } else { 100 };
                claims.push((EndpointId(id), Claim { weight: self.rng.below(10) as u16, max }));
            }
        }
        self.claims.clone_from(&claims);
        self.shares.set(self.total_max, &claims);
    }

    fn hear(&mut self, order: Order) {
        let pool = &mut self.pools[order.id.0 as usize];
        if order.order < pool.order {
            return;
        }
        (pool.limit, pool.order) = (order.limit, order.order);
        while pool.held() > pool.limit && pool.idle > 0 {
            pool.idle -= 1;
        }
        self.report(order.id);
    }

    fn report(&mut self, id: EndpointId) {
        let pool = &self.pools[id.0 as usize];
        self.reports.push((id, pool.order, pool.held()));
    }

    fn step(&mut self) {
        let at = self.rng.below(5) as usize;
        let id = EndpointId(at as u32);
        match self.rng.below(20) {
            0 => self.claim_anew(),
            1..=4 => {
                let orders = self.orders.clone();
                if let Some((at, order)) = self.some(&orders) {
                    self.orders.swap_remove(at);
                    self.hear(order);
                }
            }
            5..=8 => {
                let reports = self.reports.clone();
                if let Some((at, (id, order, held))) = self.some(&reports) {
                    // One in four comes again, maybe after others that were made later.
                    if self.rng.below(4) > 0 {
                        self.reports.swap_remove(at);
                    }
                    self.shares.report(id, order, held);
                }
            }
            9..=13 => {
                let pool = &mut self.pools[at];
                if pool.held() < pool.limit {
                    pool.idle += 1;
                }
            }
            14..=15 => {
                let pool = &mut self.pools[at];
                if pool.idle > 0 {
                    pool.idle -= 1;
                    pool.busy += 1;
                }
            }
            _ => {
                let pool = &mut self.pools[at];
                if pool.busy > 0 {
                    pool.busy -= 1;
                    if pool.held() < pool.limit {
                        pool.idle += 1;
                    }
                }
                self.report(id);
            }
        }
        while let Some(order) = self.shares.poll_order() {
            self.orders.push(order);
        }
        let held: u32 = self.pools.iter().map(Remote::held).sum();
        assert!(held <= self.total_max, "{held} connections of {}: {:?}", self.total_max, self.pools);
        let charged = self.shares.charged();
        assert!(u64::from(held) <= charged && charged <= u64::from(self.total_max), "{held}, {charged} charged");
    }

    /// Everything arrives, and what is in use comes back: then each has what it ought to have.
    fn settle(&mut self) {
        for _ in 0..200 {
            while let Some(order) = self.shares.poll_order() {
                self.orders.push(order);
            }
            for order in std::mem::take(&mut self.orders) {
                self.hear(order);
            }
            for at in 0..5 {
                let pool = &mut self.pools[at];
                pool.busy = pool.busy.saturating_sub(1);
                self.report(EndpointId(at as u32));
            }
            for (id, order, held) in std::mem::take(&mut self.reports) {
                self.shares.report(id, order, held);
            }
        }
        let claims: Vec<Claim> = self.claims.iter().map(|(_, claim)| *claim).collect();
        let sum: u32 = divide(self.total_max, &claims).iter().sum();
        let limits: u32 = self.claims.iter().map(|(id, _)| self.shares.share(*id).limit).sum();
        assert_eq!(limits, sum, "all that may be used is");
        for (id, _) in &self.claims {
            let share = self.shares.share(*id);
            assert_eq!(share.limit, share.target);
        }
    }
}

#[test]
fn pools_that_hear_late_are_never_above_the_total() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..2_000 {
            world.step();
        }
        world.settle();
    }
}

const A: EndpointId = EndpointId(0);
const B: EndpointId = EndpointId(1);

const fn weighing(weight: u16) -> Claim {
    Claim { weight, max: 100 }
}

#[test]
fn what_one_gives_up_is_the_others_when_it_is_closed() {
    let mut shares = Shares::new(10);
    shares.set(10, &[(A, weighing(1))]);
    let first = shares.poll_order().unwrap();
    assert_eq!(first, Order { id: A, limit: 10, order: 1 });
    shares.report(A, 1, 8);
    shares.set(10, &[(A, weighing(1)), (B, weighing(1))]);
    assert_eq!(shares.poll_order(), Some(Order { id: A, limit: 5, order: 2 }));
    assert_eq!(shares.poll_order(), None, "nothing is free before A has said so");
    shares.report(A, 1, 3);
    assert_eq!(shares.poll_order(), None, "said before A knew");
    shares.report(A, 2, 8);
    assert_eq!(shares.poll_order(), Some(Order { id: B, limit: 2, order: 3 }));
    shares.report(A, 2, 6);
    assert_eq!(shares.poll_order(), Some(Order { id: B, limit: 4, order: 4 }));
    shares.report(A, 2, 1);
    assert_eq!(shares.poll_order(), Some(Order { id: B, limit: 5, order: 5 }));
    // A is gone with what it had.
    shares.set(10, &[(B, weighing(1))]);
    assert_eq!(shares.share(B), Share { target: 10, limit: 5, held: 0 });
    assert!(!shares.is_empty(A));
    shares.gone(A);
    assert_eq!(shares.share(B).limit, 10);
    assert!(shares.is_empty(A));
}

#[test]
fn a_lower_total_is_reached_as_connections_come_back() {
    let mut shares = Shares::new(10);
    shares.set(10, &[(A, weighing(1)), (B, weighing(1))]);
    for id in [A, B] {
        shares.report(id, shares.order(id), 5);
    }
    shares.set(4, &[(A, weighing(1)), (B, weighing(1))]);
    assert_eq!((shares.share(A).limit, shares.share(B).limit), (2, 2));
    assert_eq!(shares.charged(), 10);
    shares.report(A, shares.order(A), 2);
    shares.report(B, shares.order(B), 0);
    assert_eq!(shares.charged(), 4);
    shares.set(6, &[(A, weighing(2)), (B, weighing(1))]);
    assert_eq!((shares.share(A).limit, shares.share(B).limit), (4, 2));
}
