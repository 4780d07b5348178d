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
pub const TTL_CEILING: Duration = Duration::from_mins(5);
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
    pub fn new(params: ScheduleParams, seed: u64, known: Option<Vec<IpAddr>>, now: Instant) -> Self {
        let addresses = known.filter(|known| !known.is_empty()).map(in_order);
        Self { params, rng: Rng::new(seed), addresses, failures: 0, state: State::Waiting(now) }
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
    pub fn handle_answer(&mut self, now: Instant, answer: Result<Answer, LookupError>) -> Option<Outcome> {
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
        let ttl = answer.ttl.min(self.params.ttl_ceiling).max(self.params.ttl_floor);
        self.state = State::Waiting(now + ttl);
        let addresses = in_order(answer.addresses);
        let recovered = std::mem::take(&mut self.failures) > 0;
        let changed = self.addresses.as_ref() != Some(&addresses);
        self.addresses = Some(addresses.clone());
        (changed || recovered).then_some(Outcome::Addresses(addresses))
    }

    fn failed(&mut self, now: Instant, error: LookupError) -> Option<Outcome> {
        let doubled = self.params.backoff_floor.saturating_mul(1 << self.failures.min(16));
        let pause = doubled.min(self.params.backoff_ceiling);
        // 80 to 120 %.
        let percent = 80 + self.rng.below(41) as u32;
        self.state = State::Waiting(now + pause.saturating_mul(percent) / 100);
        self.failures = self.failures.saturating_add(1);
        (self.failures == 1).then_some(Outcome::Failed { error, has_addresses: self.addresses.is_some() })
    }

    fn check_invariants(&self, now: Instant) {
        debug_assert!(matches!(self.state, State::Waiting(due) if due >= now), "asks again, and not in the past");
        debug_assert!(self.addresses.as_ref().is_none_or(|held| !held.is_empty() && held.is_sorted()));
    }
}

fn in_order(mut addresses: Vec<IpAddr>) -> Arc<[IpAddr]> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    addresses.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ips(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|&last| IpAddr::from([10, 0, 0, last])).collect()
    }

    #[allow(clippy::unnecessary_wraps, reason = "an answer, as `bad` is one")]
    fn good(last: &[u8], ttl_secs: u64) -> Result<Answer, LookupError> {
        Ok(Answer { addresses: ips(last), ttl: Duration::from_secs(ttl_secs) })
    }

    fn bad() -> Result<Answer, LookupError> {
        Err(LookupError::Failed("SERVFAIL".into()))
    }

    /// Jumps to the next lookup, answers it at once, and says when that was.
    fn next(schedule: &mut Schedule, answer: Result<Answer, LookupError>) -> (Instant, Option<Outcome>) {
        let now = schedule.poll_timeout();
        assert!(schedule.handle_timeout(now));
        assert_eq!(schedule.poll_timeout(), Instant::FAR, "one lookup at a time");
        assert!(!schedule.handle_timeout(Instant::FAR), "one lookup at a time");
        (now, schedule.handle_answer(now, answer))
    }

    fn new(known: Option<Vec<IpAddr>>) -> Schedule {
        Schedule::new(ScheduleParams::default(), 7, known, Instant::ZERO)
    }

    #[test]
    fn asks_at_start_and_again_when_the_ttl_ends() {
        let mut schedule = new(None);
        let (at, outcome) = next(&mut schedule, good(&[2, 1, 2], 60));
        assert_eq!(at, Instant::ZERO);
        assert_eq!(outcome, Some(Outcome::Addresses(ips(&[1, 2]).into())), "in order, once each");
        assert!(!schedule.handle_timeout(Instant::from_millis(59_999)), "not before");
        let (at, outcome) = next(&mut schedule, good(&[1, 2], 60));
        assert_eq!((at, outcome), (Instant::from_millis(60_000), None), "the same in another order is no change");
        let (_, outcome) = next(&mut schedule, good(&[3], 60));
        assert_eq!(outcome, Some(Outcome::Addresses(ips(&[3]).into())));
    }

    #[test]
    fn ttls_have_a_floor_and_a_ceiling() {
        for (ttl, used) in [(0, TTL_FLOOR), (1, SECOND), (86_400, TTL_CEILING), (u64::MAX, TTL_CEILING)] {
            let mut schedule = new(None);
            next(&mut schedule, good(&[1], ttl));
            assert_eq!(schedule.poll_timeout(), Instant::ZERO + used, "{ttl}");
        }
    }

    #[test]
    fn failures_keep_the_last_answer_and_back_off() {
        let mut schedule = new(None);
        next(&mut schedule, good(&[1], 10));
        let mut pauses = Vec::new();
        for nth in 0..8 {
            let (at, outcome) = next(&mut schedule, if nth == 3 { good(&[], 5) } else { bad() });
            pauses.push(schedule.poll_timeout().since(at).as_millis());
            assert_eq!(outcome.is_some(), nth == 0, "reported once");
            assert_eq!(schedule.addresses().map(|held| held.to_vec()), Some(ips(&[1])));
        }
        for (pause, ideal) in pauses.iter().zip([1, 2, 4, 8, 16, 30, 30, 30]) {
            assert!((ideal * 800..=ideal * 1_200).contains(pause), "{pauses:?}");
        }
        let (at, outcome) = next(&mut schedule, good(&[1], 10));
        assert_eq!(outcome, Some(Outcome::Addresses(ips(&[1]).into())), "works again, and says so");
        assert_eq!(schedule.poll_timeout(), at + 10 * SECOND);
        let (at, _) = next(&mut schedule, bad());
        assert!(schedule.poll_timeout().since(at) <= SECOND * 12 / 10, "the backoff starts anew");
    }

    #[test]
    fn a_start_without_an_answer_says_so() {
        let (_, outcome) = next(&mut new(None), bad());
        assert!(matches!(outcome, Some(Outcome::Failed { has_addresses: false, .. })));
        let (_, outcome) = next(&mut new(Some(ips(&[1]))), good(&[], 5));
        assert_eq!(outcome, Some(Outcome::Failed { error: LookupError::NoAddresses, has_addresses: true }));
        let (_, outcome) = next(&mut new(Some(ips(&[1]))), good(&[1], 5));
        assert_eq!(outcome, None, "known from before");
    }

    #[test]
    fn an_endless_answer_is_cut() {
        let many = (0..5_000_u32).map(|n| IpAddr::from(n.to_be_bytes())).rev().collect();
        let (_, outcome) = next(&mut new(None), Ok(Answer { addresses: many, ttl: SECOND }));
        let Some(Outcome::Addresses(held)) = outcome else { panic!("{outcome:?}") };
        assert_eq!((held.len(), held[0]), (MAX_ADDRESSES, IpAddr::from([0, 0, 0, 0])));
    }

    proptest! {
        /// Whatever the name servers do: pauses stay within their bounds, a good answer is in use until
        /// the next good one, and what was reported is what is in use.
        #[test]
        fn no_sequence_of_answers_freezes_or_empties_a_name(
            seed: u64,
            answers in proptest::collection::vec(
                proptest::option::of((proptest::collection::vec(0_u8..4, 0..4), 0_u64..1_000)), 1..60),
        ) {
            let mut schedule = Schedule::new(ScheduleParams::default(), seed, None, Instant::ZERO);
            let mut last_good: Option<Vec<IpAddr>> = None;
            let mut reported: Option<Vec<IpAddr>> = None;
            for answer in answers {
                let result = match &answer {
                    Some((last, ttl)) => good(last, *ttl),
                    None => bad(),
                };
                let is_good = matches!(&answer, Some((last, _)) if !last.is_empty());
                let (at, outcome) = next(&mut schedule, result);
                let pause = schedule.poll_timeout().since(at);
                prop_assert!(pause >= SECOND * 8 / 10 && pause <= TTL_CEILING);
                if let (true, Some((last, _))) = (is_good, answer) {
                    let mut expected = ips(&last);
                    expected.sort();
                    expected.dedup();
                    last_good = Some(expected);
                } else {
                    prop_assert!(pause <= BACKOFF_CEILING * 12 / 10);
                }
                if let Some(Outcome::Addresses(addresses)) = outcome {
                    reported = Some(addresses.to_vec());
                }
                prop_assert_eq!(schedule.addresses().map(|held| held.to_vec()), last_good.clone());
                prop_assert_eq!(&reported, &last_good);
            }
        }
    }
}
