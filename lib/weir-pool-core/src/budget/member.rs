//! A member: asks for its share, and knows what it may use when nobody answers. See [the module](super) for the rules.

use std::time::Duration;

use weir_core::Instant;

use super::{Amount, Claim, DRIFT_PERCENT, Grant};

/// A member that has not heard from a grantor yet claims so often.
pub const REFRESH: Duration = Duration::from_secs(1);
/// Shortest and longest time between two claims, whatever the grantor says.
const REFRESH_BOUNDS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_mins(1));
/// A claim is answered within this part of a lease, or not at all.
const ANSWERS_PER_LEASE: u32 = 5;
/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// An answer that brings no news is kept back for this part of a lease at most …
pub const WAITS_PER_LEASE: u32 = 10;
/// … and not longer than this.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Shortest time between a claim and one that is sent because there is news. It doubles with each such claim that is not answered.
const NEWS_PAUSE: Duration = Duration::from_millis(20);
const NEWS_DOUBLED_MAX: u32 = 6;
/// A demand that differs by so much from what was said is news.
const NEWS_DEMAND_MILLI: u32 = 500;

/// Settings of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberParams {
    /// What it would like to keep while it does not hear from the grantor.
    pub floor: u32,
    /// Its part of what is left over, relative to others.
    pub weight: u32,
    /// What it may use before it has heard from a grantor at all. The grantor does not know of these connections: they come on top
    /// of the total.
    pub start: u32,
    /// Whether a refused connection proves that no grantor runs. True if nothing stands between the two that could refuse in its place.
    pub refusal_is_proof: bool,
}

/// The machine of a member. See the module.
///
/// Its owner opens no more connections than [`Member::share`], calls [`Member::poll_claim`] and [`Member::handle_timeout`] when
/// [`Member::poll_timeout`] says so, sends the claims, and reports what came of each.
#[derive(Clone, Debug)]
pub struct Member {
    params: MemberParams,
    seq: u64,
    share: u32,
    /// As granted.
    floor: u32,
    /// Lease and lease of floors; `None` before the first answer.
    leases: Option<(Duration, Duration)>,
    /// Neither lease can have begun earlier.
    base: Instant,
    /// The claim that is under way.
    sent: Option<(u64, Instant)>,
    /// What was said last, and when.
    said: Option<(Claim, Instant)>,
    /// Claims since the last grant.
    unanswered: u32,
    renew_at: Instant,
    every: Duration,
}

impl Member {
    /// A member that has not been granted anything.
    pub fn new(params: MemberParams, now: Instant) -> Self {
        Self {
            seq: 0,
            share: params.start,
            floor: 0,
            leases: None,
            base: now,
            sent: None,
            said: None,
            unanswered: 0,
            renew_at: now,
            every: REFRESH,
            params,
        }
    }

    /// Changes what it would like to keep, and its weight: from the next claim on.
    pub fn set_part(&mut self, floor: u32, weight: u32) {
        (self.params.floor, self.params.weight) = (floor, weight);
    }

    /// Connections that may be open, those being opened and closed included. Connections above it end when they come back.
    pub fn share(&self) -> u32 {
        self.share
    }

    /// What it keeps without an answer.
    pub fn floor(&self) -> u32 {
        self.floor.min(self.share)
    }

    /// Whether it has ever been granted anything.
    pub fn is_known(&self) -> bool {
        self.leases.is_some()
    }

    /// For how long nobody has answered (or refused).
    pub fn silence(&self, now: Instant) -> Duration {
        now.since(self.base)
    }

    /// The claim to send now, if one is due, or if there is news that others or the grantor wait for. One that is under way is given
    /// up: its answer must not be handed in any more, or is ignored. `open`: connections that are open, being opened or being
    /// closed.
    pub fn poll_claim(&mut self, open: u32, demand: Amount, max: u32, now: Instant) -> Option<Claim> {
        self.handle_timeout(now);
        if self.renew_at == Instant::FAR {
            // It has left.
            return None;
        }
        let held = self.share.max(open);
        if now < self.renew_at && !self.is_news(held, demand, max, now) {
            return None;
        }
        self.seq += 1;
        self.sent = Some((self.seq, now));
        self.unanswered = self.unanswered.saturating_add(1);
        self.renew_at = now + self.every.max(self.answer_within());
        let Self { seq, floor: floor_held, params: MemberParams { floor, weight, .. }, .. } = *self;
        let claim = Claim { seq, held, floor_held, floor, weight, demand, max };
        self.said = Some((claim, now));
        Some(claim)
    }

    fn is_news(&self, held: u32, demand: Amount, max: u32, now: Instant) -> bool {
        let Some((said, at)) = &self.said else { return false };
        let differs = demand.as_milli().abs_diff(said.demand.as_milli()) >= NEWS_DEMAND_MILLI;
        (held < said.held || differs || max != said.max)
            && now >= *at + NEWS_PAUSE * (1 << self.unanswered.saturating_sub(1).min(NEWS_DOUBLED_MAX))
    }

    /// How long the grantor may keep an answer back that brings no news.
    pub fn patience(&self) -> Duration {
        self.leases.map_or(Duration::ZERO, |(lease, _)| (lease / WAITS_PER_LEASE).min(WAIT_MAX))
    }

    /// How long the answer to a claim is to be waited for.
    pub fn answer_within(&self) -> Duration {
        let within = self.leases.map_or(REFRESH, |(lease, _)| (lease / ANSWERS_PER_LEASE).min(ANSWER_MAX));
        self.patience() + within
    }

    /// The claim `seq` was answered.
    pub fn handle_grant(&mut self, seq: u64, grant: &Grant, now: Instant) {
        self.handle_timeout(now);
        let Some((_, sent)) = self.sent.take_if(|(waiting, _)| *waiting == seq) else { return };
        let every = grant.renew_after.clamp(REFRESH_BOUNDS.0, REFRESH_BOUNDS.1);
        self.renew_at = now + every;
        self.every = every;
        self.unanswered = 0;
        if now >= sent + share_kept(grant.lease) {
            // So late that the grantor may already have given it to somebody else.
            return;
        }
        self.leases = Some((grant.lease, grant.floor_lease));
        self.share = grant.share;
        self.floor = grant.floor;
        self.base = sent;
    }

    /// Nobody listens at the grantor's address (each of them, if there are several), as of the claim `seq`.
    pub fn handle_refused(&mut self, seq: u64, now: Instant) {
        self.handle_timeout(now);
        let Some((_, sent)) = self.sent.take_if(|(waiting, _)| *waiting == seq) else { return };
        if self.params.refusal_is_proof {
            self.base = self.base.max(sent);
        }
        self.renew_at = sent + self.every.max(REFRESH);
    }

    /// The claim `seq` was not answered in time, or not with a grant.
    pub fn handle_silence(&mut self, seq: u64, now: Instant) {
        self.handle_timeout(now);
        let Some((_, sent)) = self.sent.take_if(|(waiting, _)| *waiting == seq) else { return };
        self.renew_at = sent + self.every.max(REFRESH.min(self.answer_within()));
    }

    /// It goes, with nothing open any more: the number to leave with. It claims nothing afterwards.
    pub fn leave(&mut self) -> u64 {
        self.seq += 1;
        self.sent = None;
        self.renew_at = Instant::FAR;
        (self.share, self.floor, self.leases) = (0, 0, None);
        self.seq
    }

    /// Falls back to the floor, or to nothing, when it is time. Called by the other entry points as well.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some((lease, floor_lease)) = self.leases else { return };
        if now >= self.base + share_kept(lease) {
            self.share = self.share.min(self.floor);
        }
        if now >= self.base + floor_kept(lease, floor_lease) {
            (self.share, self.floor) = (0, 0);
        }
    }

    /// When to come again.
    pub fn poll_timeout(&self) -> Instant {
        let Some((lease, floor_lease)) = self.leases else { return self.renew_at };
        let fall = if self.share > self.floor {
            self.base + share_kept(lease)
        } else if self.share > 0 {
            self.base + floor_kept(lease, floor_lease)
        } else {
            Instant::FAR
        };
        self.renew_at.min(fall)
    }
}

/// How long a share is used without an answer: half of its lease. The other half, less the drift of both clocks, is for
/// connections in use to come back.
fn share_kept(lease: Duration) -> Duration {
    lease / 2
}

/// How long a floor is used without an answer: so that connections have as long to come back, on clocks that drift over the
/// longer time.
fn floor_kept(lease: Duration, floor_lease: Duration) -> Duration {
    // Slow here and fast there.
    let drift = floor_lease.saturating_mul(2 * DRIFT_PERCENT) / 100;
    floor_lease.saturating_sub(drift).saturating_sub(lease / 2).max(share_kept(lease))
}

#[cfg(test)]
mod tests;
