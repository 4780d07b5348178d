//! When to look a name up again, and what an answer means. A machine without I/O.
//!
//! ```text
//!            handle_timeout (due)            handle_answer: Ok, after the TTL
//!   Waiting ───────────────────────> Asked ────────────────────────────────────> Waiting
//!                                          ────────────────────────────────────>
//!                                            handle_answer: Err, after a backoff
//! ```
//!
//! A good answer is valid for its TTL, but at least [`TTL_FLOOR`] (a TTL of 0 would be a query without
//! pause) and at most [`TTL_CEILING`] (a TTL of a day, or the pseudo TTL of `/etc/hosts`, would freeze a
//! name). After a failure the last good answer stays and the name is asked for again after 1, 2, 4, …
//! seconds, up to [`BACKOFF_CEILING`], each varied by ± 20 % so that many names do not ask in step. An
//! answer without addresses is a failure: "the name exists but has no addresses" is what a broken
//! deployment looks like, and emptying the cluster would turn it into an outage.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_core::Instant;
use weir_core::hash::Rng;

use crate::LookupError;

/// Shortest time for which an answer is used.
pub const TTL_FLOOR: Duration = Duration::from_secs(1);
/// Longest time for which an answer is used.
pub const TTL_CEILING: Duration = Duration::from_secs(300);
/// Pause after the first failure.
pub const BACKOFF_FLOOR: Duration = Duration::from_secs(1);
/// Longest pause after a failure (before it is varied by ± 20 %).
pub const BACKOFF_CEILING: Duration = Duration::from_secs(30);
/// Addresses of one name that are used: the first in rising order.
pub const MAX_ADDRESSES: usize = 1_024;

/// Bounds of the schedule; the default is the constants of this module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScheduleParams {
    /// Shortest time for which an answer is used.
    pub ttl_floor: Duration,
    /// Longest time for which an answer is used.
    pub ttl_ceiling: Duration,
    /// Pause after the first failure.
    pub backoff_floor: Duration,
    /// Longest pause after a failure, before it is varied by ± 20 %.
    pub backoff_ceiling: Duration,
}

/// What a name stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// In any order.
    pub addresses: Vec<IpAddr>,
    /// For how long.
    pub ttl: Duration,
}

/// What an answer changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// These are the addresses now, in rising order without duplicates. Not reported if they were the
    /// same and the name did not fail before.
    Addresses(Arc<[IpAddr]>),
    /// The name has begun to fail. Not reported again until it works.
    Failed {
        /// Why.
        error: LookupError,
        /// Whether the addresses of an earlier answer stay in use.
        has_addresses: bool,
    },
}

/// The schedule of one name.
#[derive(Debug)]
pub struct Schedule {
    params: ScheduleParams,
    rng: Rng,
    addresses: Option<Arc<[IpAddr]>>,
    /// Failures since the last good answer.
    failures: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Asks at this time.
    Waiting(Instant),
    /// An answer is under way.
    Asked,
}

impl Default for ScheduleParams {
    fn default() -> Self {
        Self {
            ttl_floor: TTL_FLOOR,
            ttl_ceiling: TTL_CEILING,
            backoff_floor: BACKOFF_FLOOR,
            backoff_ceiling: BACKOFF_CEILING,
        }
    }
}

impl Schedule {
    /// A name to be asked for at once. `known` are the addresses of an earlier life; `seed` varies the
    /// pauses after failures.
    pub fn new(
        params: ScheduleParams,
        seed: u64,
        known: Option<Vec<IpAddr>>,
        now: Instant,
    ) -> Self {
        let addresses = known.filter(|known| !known.is_empty()).map(in_order);
        Self {
            params,
            rng: Rng::new(seed),
            addresses,
            failures: 0,
            state: State::Waiting(now),
        }
    }

    /// When [`Self::handle_timeout`] wants to be called; [`Instant::FAR`] while an answer is under way.
    pub fn poll_timeout(&self) -> Instant {
        match self.state {
            State::Waiting(due) => due,
            State::Asked => Instant::FAR,
        }
    }

    /// Whether to look the name up now. Then [`Self::handle_answer`] must follow.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let due = matches!(self.state, State::Waiting(due) if due <= now);
        if due {
            self.state = State::Asked;
        }
        due
    }

    /// Takes the answer and says what it changes.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        answer: Result<Answer, LookupError>,
    ) -> Option<Outcome> {
        let outcome = match answer {
            Ok(answer) if answer.addresses.is_empty() => self.failed(now, LookupError::NoAddresses),
            Ok(answer) => self.answered(now, answer),
            Err(error) => self.failed(now, error),
        };
        self.check_invariants(now);
        outcome
    }

    /// The addresses in use.
    pub fn addresses(&self) -> Option<&Arc<[IpAddr]>> {
        self.addresses.as_ref()
    }

    fn answered(&mut self, now: Instant, answer: Answer) -> Option<Outcome> {
        let ttl = answer
            .ttl
            .min(self.params.ttl_ceiling)
            .max(self.params.ttl_floor);
        self.state = State::Waiting(now + ttl);
        let addresses = in_order(answer.addresses);
        let recovered = std::mem::take(&mut self.failures) > 0;
        let changed = self.addresses.as_ref() != Some(&addresses);
        self.addresses = Some(addresses.clone());
        (changed || recovered).then_some(Outcome::Addresses(addresses))
    }

    fn failed(&mut self, now: Instant, error: LookupError) -> Option<Outcome> {
        let doubled = self
            .params
            .backoff_floor
            .saturating_mul(1 << self.failures.min(16));
        let pause = doubled.min(self.params.backoff_ceiling);
        // 80 to 120 %.
        let percent = 80 + self.rng.below(41) as u32;
        self.state = State::Waiting(now + pause.saturating_mul(percent) / 100);
        self.failures = self.failures.saturating_add(1);
        (self.failures == 1).then_some(Outcome::Failed {
            error,
            has_addresses: self.addresses.is_some(),
        })
    }

    fn check_invariants(&self, now: Instant) {
        debug_assert!(
            matches!(self.state, State::Waiting(due) if due >= now),
            "asks again, and not in the past"
        );
        debug_assert!(
            self.addresses
                .as_ref()
                .is_none_or(|held| !held.is_empty() && held.is_sorted())
        );
    }
}

fn in_order(mut addresses: Vec<IpAddr>) -> Arc<[IpAddr]> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    addresses.into()
}
