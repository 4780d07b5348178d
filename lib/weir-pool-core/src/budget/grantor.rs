//! The grantor: leases the shares of one budget. See [the module](super) for why the sum holds.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_core::Instant;

use super::{Amount, CONNECTIONS_MAX, Claim, Grant, MEMBERS_MAX, WEIGHT_MAX, Want, allocate, damp};

/// A member that is given less than it could use asks again so much sooner, as a part of the usual interval.
const HASTE: u32 = 4;
/// A member claims so many times in a lease.
const CLAIMS_PER_LEASE: u32 = 10;

/// Settings of a budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrantorParams {
    /// Connections in all.
    pub total: u32,
    /// Of them, what members may keep, together, while they do not hear from the grantor.
    pub floors: u32,
    /// How long the share of a silent member is kept.
    pub lease: Duration,
    /// How long the floor of a silent member is kept; at least twice `lease`.
    pub floor_lease: Duration,
}

/// Why a claim was not answered with a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// A later claim of this member has been read already: this one was late. Nothing has changed.
    Stale,
    /// There are [`MEMBERS_MAX`] members.
    Full,
}

#[derive(Clone, Debug)]
struct Entry {
    claim: Claim,
    /// What it may have open, as far as anybody can know. Never less than what it really may.
    counted: u32,
    /// The same of its floor.
    floor_counted: u32,
    /// What it was granted last, and since when that much.
    share: u32,
    since: Instant,
    heard: Instant,
    state: State,
}

/// ```text
///          claim                 silent for a lease            for a lease of floors
///  (new) ───────► Present ◄────────────────────────► Silent ─────────────────────────► (forgotten)
///                    │ leave     claim
///                    └─────► Left, until a lease has passed: a late claim changes nothing ──► (forgotten)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Present,
    Silent,
    Left,
}

impl Entry {
    fn want(&self) -> Want {
        let Claim { floor, weight, demand, max, .. } = self.claim;
        Want { floor, weight, demand, max }
    }
}

/// The machine of one budget. See the module.
#[derive(Clone, Debug)]
pub struct Grantor {
    params: GrantorParams,
    members: BTreeMap<Box<str>, Entry>,
    /// What members that are not known may have open.
    unknown: u32,
    /// The same of their floors.
    unknown_floors: u32,
    started: Instant,
}

/// A budget at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BudgetSnapshot {
    /// Connections in all.
    pub total: u32,
    /// What members may keep, together, while they do not hear from the grantor.
    pub floors: u32,
    /// What all members may have open.
    pub held: u32,
    /// Set aside for members from before the grantor's start that have not claimed yet.
    pub unknown: u32,
    /// What can be granted at once.
    pub free: u32,
    /// All members, by name.
    pub members: Vec<MemberSnapshot>,
}

/// A member at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberSnapshot {
    /// Its name.
    pub name: Box<str>,
    /// What it was granted last.
    pub share: u32,
    /// What it may have open.
    pub held: u32,
    /// What it may keep while it does not hear from the grantor.
    pub floor: u32,
    /// Its weight.
    pub weight: u32,
    /// What it could use.
    pub demand: Amount,
    /// What it can use at most.
    pub max: u32,
    /// When it was heard of last.
    pub heard: Instant,
    /// It has been silent for a lease: only its floor is kept.
    pub silent: bool,
}

impl Grantor {
    /// A grantor that knows no member, and that starts at `now`: from a moment on from which on no other grantor of this budget
    /// answers anybody. Bind its address before.
    pub fn new(params: GrantorParams, now: Instant) -> Self {
        let floors = params.floors.min(params.total);
        let floor_lease = params.floor_lease.max(params.lease.saturating_mul(2));
        let params = GrantorParams { total: params.total.min(CONNECTIONS_MAX), floors, floor_lease, ..params };
        Self { unknown: params.total, unknown_floors: floors, params, members: BTreeMap::new(), started: now }
    }

    /// The settings.
    pub fn params(&self) -> &GrantorParams {
        &self.params
    }

    /// A member claims. The answer must go to that member, as the answer to this claim.
    pub fn handle_claim(&mut self, name: &str, claim: &Claim, now: Instant) -> Result<Grant, Refused> {
        self.handle_timeout(now);
        let claim = Claim {
            held: claim.held.min(CONNECTIONS_MAX),
            floor_held: claim.floor_held.min(CONNECTIONS_MAX),
            weight: claim.weight.clamp(1, WEIGHT_MAX),
            ..*claim
        };
        let known = self.members.get(name);
        if known.is_some_and(|entry| claim.seq <= entry.claim.seq) {
            return Err(Refused::Stale);
        }
        if known.is_none() && self.members.len() >= MEMBERS_MAX {
            return Err(Refused::Full);
        }
        let granted = known
            .filter(|entry| entry.state == State::Present)
            .map_or((claim.held, now), |entry| (entry.share, entry.since));
        if known.is_none() {
            self.meet(&claim, now);
        }
        let entry = Entry {
            claim,
            counted: claim.held,
            floor_counted: claim.floor_held,
            share: granted.0.min(claim.held),
            since: granted.1,
            heard: now,
            state: State::Present,
        };
        self.members.insert(name.into(), entry);
        let grant = self.grant(name, &claim, granted, now);
        if let Some(entry) = self.members.get_mut(name) {
            if grant.share != granted.0 {
                entry.since = now;
            }
            entry.share = grant.share;
            entry.counted = claim.held.max(grant.share);
            entry.floor_counted = claim.floor_held.max(grant.floor);
        }
        self.check_invariants();
        Ok(grant)
    }

    /// What a member holds that was unknown until now is no longer unknown. Only when it is met first: that it holds more
    /// than is counted for it later on may be news from before it fell back.
    fn meet(&mut self, claim: &Claim, now: Instant) {
        self.unknown_floors = self.unknown_floors.saturating_sub(claim.floor_held);
        if self.is_settling(now) {
            self.unknown = self.unknown.saturating_sub(claim.held);
        } else {
            self.unknown = self.unknown.min(self.unknown_floors);
        }
    }

    /// Those it does not know yet may still hold their shares.
    fn is_settling(&self, now: Instant) -> bool {
        now < self.started + self.params.lease
    }

    fn grant(&self, name: &str, claim: &Claim, granted: (u32, Instant), now: Instant) -> Grant {
        let lease = self.params.lease;
        let usual = lease / CLAIMS_PER_LEASE;
        let settling = self.is_settling(now);
        let (share, target) = if settling {
            (claim.held, claim.held)
        } else {
            let target = self.target(name, granted.0, now.since(granted.1));
            (target.min(claim.held.saturating_add(self.free())), target)
        };
        let floor = claim.floor.min(claim.floor_held.saturating_add(self.free_floors()));
        let hurry = settling && claim.held < claim.demand.ceil().min(claim.max) || share < target || share < claim.held;
        let renew_after = if hurry { usual / HASTE } else { usual };
        Grant { share, floor, lease, floor_lease: self.params.floor_lease, renew_after }
    }

    /// What `name`, which was granted so much last, `still` ago, ought to have, given what all present members want.
    fn target(&self, name: &str, granted: u32, still: Duration) -> u32 {
        let absent = self.members.values().filter(|entry| entry.state != State::Present);
        let absent = absent.fold(self.unknown, |sum, entry| sum.saturating_add(entry.counted));
        let present = || self.members.iter().filter(|(_, entry)| entry.state == State::Present);
        let wants: Vec<Want> = present().map(|(_, entry)| entry.want()).collect();
        let lacking = present().zip(&wants).any(|((_, entry), want)| want.lacks(entry.share));
        let shares = allocate(self.params.total.saturating_sub(absent), &wants);
        let target = present().zip(shares).find(|((other, _), _)| &***other == name).map_or(0, |(_, share)| share);
        damp(granted, target, lacking, still)
    }

    /// A member says that it has closed everything and goes. Returns whether it was known. A second call, or a late claim, changes
    /// nothing.
    pub fn handle_leave(&mut self, name: &str, seq: u64, now: Instant) -> bool {
        self.handle_timeout(now);
        let Some(entry) = self.members.get_mut(name).filter(|entry| seq > entry.claim.seq) else { return false };
        entry.claim = Claim { seq, held: 0, floor_held: 0, floor: 0, demand: Amount::default(), ..entry.claim };
        (entry.counted, entry.floor_counted, entry.share) = (0, 0, 0);
        entry.state = State::Left;
        entry.heard = now;
        self.check_invariants();
        true
    }

    /// Takes back what silent members have lost. Called by the other entry points as well.
    pub fn handle_timeout(&mut self, now: Instant) {
        let GrantorParams { lease, floor_lease, .. } = self.params;
        self.members.retain(|_, entry| {
            if now < entry.heard + lease {
                return true;
            }
            if entry.state == State::Present {
                entry.state = State::Silent;
                entry.counted = entry.counted.min(entry.floor_counted);
                entry.share = entry.counted;
            }
            entry.floor_counted > 0 && now < entry.heard + floor_lease
        });
        if now >= self.started + floor_lease {
            self.unknown_floors = 0;
        }
        if !self.is_settling(now) {
            self.unknown = self.unknown.min(self.unknown_floors);
        }
        self.check_invariants();
    }

    /// When something is taken back next, unless a member claims before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let GrantorParams { lease, floor_lease, .. } = self.params;
        let silent = |state| state == State::Silent;
        let members = self.members.values();
        let next = members.map(|entry| entry.heard + if silent(entry.state) { floor_lease } else { lease }).min();
        let own = (self.unknown > 0).then(|| {
            let settled = self.unknown <= self.unknown_floors;
            self.started + if settled { floor_lease } else { lease }
        });
        next.into_iter().chain(own).min()
    }

    fn counted(&self) -> u32 {
        self.members.values().fold(self.unknown, |sum, entry| sum.saturating_add(entry.counted))
    }

    fn free(&self) -> u32 {
        self.params.total.saturating_sub(self.counted())
    }

    fn free_floors(&self) -> u32 {
        let counted = self.members.values().fold(self.unknown_floors, |sum, e| sum.saturating_add(e.floor_counted));
        self.params.floors.saturating_sub(counted)
    }

    /// What there is.
    pub fn snapshot(&self) -> BudgetSnapshot {
        let members = self.members.iter().filter(|(_, entry)| entry.state != State::Left);
        let members = members.map(|(name, entry)| MemberSnapshot {
            name: name.clone(),
            share: entry.share,
            held: entry.counted,
            floor: entry.floor_counted,
            weight: entry.claim.weight,
            demand: entry.claim.demand,
            max: entry.claim.max,
            heard: entry.heard,
            silent: entry.state == State::Silent,
        });
        BudgetSnapshot {
            total: self.params.total,
            floors: self.params.floors,
            held: self.counted() - self.unknown,
            unknown: self.unknown,
            free: self.free(),
            members: members.collect(),
        }
    }

    /// That the sum holds cannot be asserted here: members may claim more than there is, if the total was lowered.
    fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        assert!(self.members.len() <= MEMBERS_MAX);
        assert!(self.unknown <= self.params.total);
        assert!(self.unknown_floors <= self.params.floors);
        for entry in self.members.values() {
            match entry.state {
                State::Present => assert!(entry.share <= entry.counted),
                State::Silent => assert!(entry.counted <= entry.floor_counted),
                State::Left => assert_eq!(entry.counted, 0),
            }
        }
    }
}

#[cfg(test)]
mod tests;
