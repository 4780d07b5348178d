//! Smooth weighted round robin: each member in turn, as often as its weight, evenly spread.
//!
//! - **Formula**: at each pick every member's `current` grows by its weight; the largest `current` wins
//!   (the first of equals) and loses the sum of the weights. `{5,1,1}` gives a a b a c a a. Every member
//!   is picked exactly `w_i` times in each period of `Σw` picks (weights divided by their greatest
//!   common divisor).
//! - **Cost**: O(1), one atomic addition that all workers share, while the period is at most
//!   [`SCHEDULE_LIMIT`] picks: the sequence is worked out at build time and all workers together walk
//!   through it, so it is exact however many there are. Longer periods (weights such as 10,007 and
//!   9,973, or more members than that) have a rotation per worker that is stepped at each pick, O(n)
//!   additions under a lock that only that worker takes. The workers' rotations start at different
//!   places, so that they do not all send their first picks to the heaviest member.
//! - **When**: the default. Members of unequal size, requests of similar cost, predictable shares.
//! - **Members to avoid**: retries walk through the same sequence at a position of their own, past those to avoid:
//!   those that are left get their shares of what failed, and the sequence of all other requests is
//!   not touched. (Taking turns of theirs, the retries of one member of three that fails would make it the
//!   first choice of every second request.) Beyond the limit they have a rotation that leaves the others out of the
//!   round, as nginx does.
//! - **Rebuild**: each member keeps its lag (how many picks it is behind its share). A schedule starts
//!   where its lags are nearest to those before, and what is left over is carried on to the next
//!   rebuild, so that rounding does not add up while members come and go.
//! - **Source**: nginx, `ngx_http_upstream_round_robin.c`, since 1.3.1 (2012).

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crossbeam_utils::CachePadded;
use weir_core::EndpointId;

use crate::algorithm::Row;
use crate::group::Group;
use crate::{Algorithm, Ask, Balancer, Member, Params};

pub(crate) const ROW: Row = Row {
    algorithm: Algorithm::WeightedRoundRobin,
    name: "weighted_round_robin",
    summary: "Smooth weighted round robin, the sequence of nginx.",
    weighted: true,
    keyed: false,
    consistent: false,
    build,
    shares: None,
};

/// Longest period, in picks, that is worked out at build time (two bytes each).
const SCHEDULE_LIMIT: u64 = 4_096;

/// Rotations beyond that period. Worker w uses number `w mod ROTATIONS`; with more workers than that
/// one that finds its rotation busy uses the next free one.
const ROTATIONS: usize = 16;

/// Build-time steps spent on starting the rotations at different places, times members.
const STAGGER_BUDGET: usize = 65_536;

/// Turns that a pick takes in search of a member that is not to be avoided, before the members are
/// tried one by one.
const RETRY_TURNS: u64 = 64;

/// Largest lag, in picks, that is carried on beyond what a schedule can express.
const RESIDUE_LIMIT: f64 = 4.0;

#[derive(Debug)]
struct Weighted {
    group: Group,
    rotation: Arc<Rotation>,
}

/// The rotation with all it needs to be continued by a successor.
#[derive(Debug)]
struct Rotation {
    ids: Box<[EndpointId]>,
    /// Divided by their greatest common divisor.
    weights: Box<[i64]>,
    period: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// All workers together: `schedule[next mod period]`. `residue` is the part of each member's lag
    /// that no place in the schedule could express when it began.
    Shared { schedule: Box<[u16]>, next: CachePadded<AtomicU64>, retries: AtomicU64, residue: Box<[f64]> },
    /// Each worker for itself, and the retries of all.
    PerWorker { rotations: Box<[CachePadded<Mutex<Currents>>]>, retries: Mutex<Currents> },
}

/// `current` of each member: nginx's whole state.
#[derive(Clone, Debug)]
struct Currents(Box<[i64]>);

/// How many picks each member is behind its share (negative: ahead): `current / period`.
type Lags = BTreeMap<EndpointId, f64>;

fn build(_: &Params, members: Vec<Member>, previous: Option<&dyn Balancer>) -> Arc<dyn Balancer> {
    let group = Group::new(members);
    let ids: Box<[_]> = group.members().iter().map(|member| member.id).collect();
    let divisor = (0..group.len()).map(|at| group.weight(at)).fold(0, gcd).max(1);
    let weights: Box<[_]> = (0..group.len()).map(|at| (group.weight(at) / divisor) as i64).collect();
    let before = previous.and_then(Balancer::rotation).and_then(|state| state.downcast::<Rotation>().ok());
    let rotation = match before {
        Some(before) if before.ids == ids && before.weights == weights => before,
        before => Arc::new(Rotation::new(ids, weights, before.as_deref())),
    };
    Arc::new(Weighted { group, rotation })
}

// === impl Weighted ===

impl Balancer for Weighted {
    fn pick(&self, ask: &Ask) -> Option<usize> {
        if self.group.len() == 0 {
            return None;
        }
        match &self.rotation.state {
            State::Shared { schedule, next, .. } if !ask.avoid.is_retry() => {
                let turn = next.fetch_add(1, Ordering::Relaxed) % self.rotation.period;
                Some(usize::from(schedule[turn as usize]))
            }
            State::Shared { schedule, retries, .. } => self.retry(schedule, retries, ask),
            State::PerWorker { rotations, .. } if !ask.avoid.is_retry() => {
                lock_any(rotations, ask.worker).step(&self.rotation.weights, |_| true)
            }
            State::PerWorker { retries, .. } => {
                let mut currents = retries.lock().unwrap_or_else(PoisonError::into_inner);
                currents.step(&self.rotation.weights, |at| self.group.is_free(at, &ask.avoid))
            }
        }
    }

    fn len(&self) -> usize {
        self.group.len()
    }

    fn rotation(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self.rotation.clone())
    }
}

impl Weighted {
    /// Turns of the retries until one is free: among the members that are left each gets its share.
    #[cold]
    fn retry(&self, schedule: &[u16], retries: &AtomicU64, ask: &Ask) -> Option<usize> {
        if !self.group.any_free(&ask.avoid) {
            return None;
        }
        let turn = || retries.fetch_add(1, Ordering::Relaxed) % self.rotation.period;
        (0..RETRY_TURNS)
            .map(|_| usize::from(schedule[turn() as usize]))
            .find(|&at| self.group.is_free(at, &ask.avoid))
            .or_else(|| self.group.first_free(turn() as usize % self.group.len(), &ask.avoid))
    }
}

// === impl Rotation ===

impl Rotation {
    fn new(ids: Box<[EndpointId]>, weights: Box<[i64]>, before: Option<&Self>) -> Self {
        let period = weights.iter().map(|&weight| weight as u64).sum();
        let state = if period <= SCHEDULE_LIMIT {
            State::shared(&ids, &weights, before)
        } else {
            State::per_worker(&ids, &weights, before)
        };
        Self { ids, weights, period, state }
    }

    /// The lags in rotation number `worker`.
    fn lags(&self, worker: usize) -> Lags {
        let period = self.period as f64;
        match &self.state {
            State::Shared { schedule, next, residue, .. } => {
                let turn = (next.load(Ordering::Relaxed) % self.period.max(1)) as usize;
                let mut currents: Vec<_> = self.weights.iter().map(|weight| weight * turn as i64).collect();
                for &at in &schedule[..turn] {
                    currents[usize::from(at)] -= self.period as i64;
                }
                let lags =
                    currents.into_iter().zip(residue).map(|(current, residue)| current as f64 / period + residue);
                self.ids.iter().copied().zip(lags).collect()
            }
            State::PerWorker { rotations, .. } => {
                let currents = lock_any(rotations, worker);
                self.ids.iter().zip(&currents.0).map(|(id, &current)| (*id, current as f64 / period)).collect()
            }
        }
    }
}

// === impl State ===

impl State {
    /// The sequence over one period, starting where its lags are nearest to those of `before`.
    fn shared(ids: &[EndpointId], weights: &[i64], before: Option<&Rotation>) -> Self {
        let period: i64 = weights.iter().sum();
        let lags = before.map(|before| before.lags(0)).unwrap_or_default();
        // Members that were there before, with their lag then.
        let carried: Vec<_> = ids.iter().enumerate().filter_map(|(at, id)| Some((at, *lags.get(id)?))).collect();
        let off = |currents: &Currents, at: usize, lag: f64| lag - currents.0[at] as f64 / period as f64;
        let mut nearest = (f64::INFINITY, 0, Currents::zero(ids.len()));
        let mut currents = Currents::zero(ids.len());
        let mut schedule = Vec::with_capacity(period as usize);
        for turn in 0..period as u64 {
            let distance = carried.iter().map(|&(at, lag)| off(&currents, at, lag).powi(2)).sum::<f64>();
            if distance < nearest.0 {
                nearest = (distance, turn, currents.clone());
            }
            // At most SCHEDULE_LIMIT members, each of weight 1 or more: a position fits 16 bits.
            schedule.extend(currents.step(weights, |_| true).map(|at| at as u16));
        }
        let (_, start, currents) = nearest;
        let mut residue = vec![0.0; ids.len()];
        for (at, lag) in carried {
            residue[at] = off(&currents, at, lag).clamp(-RESIDUE_LIMIT, RESIDUE_LIMIT);
        }
        let next = CachePadded::new(AtomicU64::new(start));
        Self::Shared { schedule: schedule.into(), next, retries: AtomicU64::new(start), residue: residue.into() }
    }

    /// A rotation per worker. Those of `before` are continued one by one; new ones start at
    /// different places of the sequence.
    fn per_worker(ids: &[EndpointId], weights: &[i64], before: Option<&Rotation>) -> Self {
        let period = weights.iter().sum::<i64>() as f64;
        let continued = |worker| {
            let lags = before.map(|before| before.lags(worker)).unwrap_or_default();
            // A sum other than 0 does no harm: only differences between members decide.
            let current = |id| lags.get(id).map_or(0, |lag| (lag * period).round() as i64);
            Currents(ids.iter().map(current).collect())
        };
        let retries = Mutex::new(Currents::zero(ids.len()));
        if matches!(before, Some(Rotation { state: Self::PerWorker { .. }, .. })) {
            let rotations = (0..ROTATIONS).map(|worker| CachePadded::new(Mutex::new(continued(worker))));
            return Self::PerWorker { rotations: rotations.collect(), retries };
        }
        let mut currents = continued(0);
        let stagger = (period as usize / ROTATIONS).clamp(1, (STAGGER_BUDGET / ids.len().max(1)).max(1));
        let rotations = (0..ROTATIONS).map(|_| {
            let here = currents.clone();
            for _ in 0..stagger {
                currents.step(weights, |_| true);
            }
            CachePadded::new(Mutex::new(here))
        });
        Self::PerWorker { rotations: rotations.collect(), retries }
    }
}

// === impl Currents ===

impl Currents {
    fn zero(len: usize) -> Self {
        Self(vec![0; len].into())
    }

    /// One pick among the members that are free; `None`, and nothing changed, if there is none.
    fn step(&mut self, weights: &[i64], free: impl Fn(usize) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (at, (current, weight)) in self.0.iter_mut().zip(weights).enumerate() {
            if !free(at) {
                continue;
            }
            *current += weight;
            total += weight;
            if best.is_none_or(|(_, largest)| *current > largest) {
                best = Some((at, *current));
            }
        }
        let (at, _) = best?;
        self.0[at] -= total;
        Some(at)
    }
}

/// The rotation of `worker` or, while another thread holds it, the next one that is not held.
fn lock_any(rotations: &[CachePadded<Mutex<Currents>>], worker: usize) -> MutexGuard<'_, Currents> {
    let own = worker % rotations.len();
    for step in 0..rotations.len() {
        match rotations[(own + step) % rotations.len()].try_lock() {
            Ok(currents) => return currents,
            // A step cannot panic halfway, and any state is a valid rotation.
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {}
        }
    }
    rotations[own].lock().unwrap_or_else(PoisonError::into_inner)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
