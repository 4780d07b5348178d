//! The grantor: leases the shares of one budget. See [the module](super) for why the sum holds.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_core::Instant;

use super::{Amount, CONNECTIONS_MAX, Claim, Grant, MEMBERS_MAX, WEIGHT_MAX, Want, allocate};

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
    /// What it was granted last.
    share: u32,
    heard: Instant,
    state: State,
    /// Its claim waits for an answer.
    waits: bool,
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
        Want { floor, weight, demand, max, share: self.share }
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
    /// Something has changed since those who wait were looked at.
    news: bool,
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
        Self {
            unknown: params.total,
            unknown_floors: floors,
            params,
            members: BTreeMap::new(),
            started: now,
            news: false,
        }
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
        let granted = known.filter(|entry| entry.state == State::Present).map_or(claim.held, |entry| entry.share);
        let said = known.map(|entry| Claim { seq: claim.seq, ..entry.claim });
        if known.is_none() {
            self.meet(&claim, now);
        }
        let entry = Entry {
            claim,
            counted: claim.held,
            floor_counted: claim.floor_held,
            share: granted.min(claim.held),
            heard: now,
            state: State::Present,
            waits: false,
        };
        self.news |= said != Some(claim) || granted != claim.held;
        self.members.insert(name.into(), entry);
        let target = self.target(name);
        let grant = self.grant(name, &claim, target, now);
        self.check_invariants();
        Ok(grant)
    }

    /// A member claims that can wait for the answer: there is none while it would only be told what it holds already.
    /// [`Grantor::poll_grants`] or [`Grantor::handle_impatience`] give it later, for this claim or for none.
    pub fn handle_patient_claim(&mut self, name: &str, claim: &Claim, now: Instant) -> Result<Option<Grant>, Refused> {
        let grant = self.handle_claim(name, claim, now)?;
        let is_told = grant.share != claim.held || grant.floor != claim.floor_held;
        if is_told || self.is_settling(now) {
            // Who has to close something is asked again, and not at once; who has got something has the next claim to wait with.
            let renew_after =
                if grant.share >= claim.held && !self.is_settling(now) { Duration::ZERO } else { grant.renew_after };
            return Ok(Some(Grant { renew_after, ..grant }));
        }
        if let Some(entry) = self.members.get_mut(name) {
            entry.waits = true;
        }
        Ok(None)
    }

    /// Answers for those who wait: by name, with the number of the claim. To be called after each claim, goodbye and timeout.
    pub fn poll_grants(&mut self, now: Instant) -> Vec<(Box<str>, u64, Grant)> {
        self.handle_timeout(now);
        if !std::mem::take(&mut self.news) || self.is_settling(now) {
            return Vec::new();
        }
        let targets = self.targets();
        let due = self.members.iter().filter(|(_, entry)| entry.state == State::Present).zip(targets);
        let due = due.filter(|((_, entry), target)| entry.waits && *target != entry.claim.held);
        let due: Vec<_> = due.map(|((name, entry), target)| (name.clone(), entry.claim, target)).collect();
        let mut grants = Vec::new();
        for (name, claim, target) in due {
            if target < claim.held || self.free() > 0 {
                let grant = self.grant(&name, &claim, target, now);
                let renew_after = if grant.share < claim.held { grant.renew_after } else { Duration::ZERO };
                grants.push((name, claim.seq, Grant { renew_after, ..grant }));
            }
        }
        self.check_invariants();
        grants
    }

    /// A member has waited for long enough with its claim `seq`: its answer, unless it has had it or has claimed since.
    pub fn handle_impatience(&mut self, name: &str, seq: u64, now: Instant) -> Option<Grant> {
        self.handle_timeout(now);
        let entry = self.members.get(name).filter(|entry| entry.waits && entry.claim.seq == seq)?;
        let claim = entry.claim;
        let target = self.target(name);
        let grant = self.grant(name, &claim, target, now);
        self.check_invariants();
        Some(Grant { renew_after: Duration::ZERO, ..grant })
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

    /// Answers a claim: from now on the member has what it says.
    fn grant(&mut self, name: &str, claim: &Claim, target: u32, now: Instant) -> Grant {
        let lease = self.params.lease;
        let usual = lease / CLAIMS_PER_LEASE;
        let settling = self.is_settling(now);
        let target = if settling { claim.held } else { target };
        let share = target.min(claim.held.saturating_add(self.free()));
        let floor = claim.floor.min(claim.floor_held.saturating_add(self.free_floors()));
        let hurry = settling && claim.held < claim.demand.ceil().min(claim.max) || share < target || share < claim.held;
        let renew_after = if hurry { usual / HASTE } else { usual };
        if let Some(entry) = self.members.get_mut(name) {
            entry.share = share;
            entry.counted = claim.held.max(share);
            entry.floor_counted = claim.floor_held.max(floor);
            entry.waits = false;
        }
        Grant { share, floor, lease, floor_lease: self.params.floor_lease, renew_after }
    }

    /// What present members ought to have, in their order.
    fn targets(&self) -> Vec<u32> {
        let absent = self.members.values().filter(|entry| entry.state != State::Present);
        let absent = absent.fold(self.unknown, |sum, entry| sum.saturating_add(entry.counted));
        let present = self.members.values().filter(|entry| entry.state == State::Present);
        allocate(self.params.total.saturating_sub(absent), &present.map(Entry::want).collect::<Vec<_>>())
    }

    /// What `name` ought to have.
    fn target(&self, name: &str) -> u32 {
        let present = self.members.iter().filter(|(_, entry)| entry.state == State::Present);
        present.zip(self.targets()).find(|((other, _), _)| &***other == name).map_or(0, |(_, target)| target)
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
        entry.waits = false;
        self.news = true;
        self.check_invariants();
        true
    }

    /// Takes back what silent members have lost. Called by the other entry points as well.
    pub fn handle_timeout(&mut self, now: Instant) {
        let GrantorParams { lease, floor_lease, .. } = self.params;
        let mut news = false;
        self.members.retain(|_, entry| {
            if now < entry.heard + lease {
                return true;
            }
            news = true;
            if entry.state == State::Present {
                entry.state = State::Silent;
                entry.counted = entry.counted.min(entry.floor_counted);
                entry.share = entry.counted;
                entry.waits = false;
            }
            entry.floor_counted > 0 && now < entry.heard + floor_lease
        });
        if now >= self.started + floor_lease {
            self.unknown_floors = 0;
        }
        if !self.is_settling(now) {
            self.unknown = self.unknown.min(self.unknown_floors);
        }
        self.news |= news;
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
