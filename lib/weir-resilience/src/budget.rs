//! The retry budget: retries are a share of the requests, not a number per request.
//!
//! # Why
//! Three attempts per request triple the load exactly when the cluster has too much of it already. With
//! a budget the extra load is bounded whatever fails, while single failures are still retried.
//!
//! # Formula
//! Over a window of ten seconds, in buckets of one second (the current one and the nine before it):
//!
//! ```text
//! retries ≤ budget × requests + min_per_second × 10
//! ```
//!
//! where `requests` are first attempts. The second term is a reserve for clusters with little traffic; it
//! may be spent at once. After Finagle's `RetryBudget` (deposit per request, withdraw per retry,
//! `percentCanRetry`, `minRetriesPerSec` × `ttl` as the reserve; ttl 10 s, 20 %, 10/s by default), which
//! tower's `retry::budget` also follows.
//!
//! # Concurrency
//! All workers share one budget without a lock. A word holds a second and its count, so that the first
//! to come in a new second turns the bucket over by a swap. A deposit is one relaxed increment on the
//! worker's own cache lines. A withdrawal reserves first, counts then, and takes the reservation back if it
//! was too much: so the bound is never exceeded, and two that race for the last retry may both lose it.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use weir_core::Instant;

use crate::RetryParams;

/// Seconds over which requests and retries are counted.
pub const WINDOW_SECONDS: u32 = 10;

/// Bounds the share of retries of one cluster; shared by all workers.
///
/// ```
/// use weir_core::Instant;
/// use weir_resilience::{RetryBudget, RetryParams};
///
/// let params = RetryParams { budget: 0.2, min_per_second: 0, ..RetryParams::default() };
/// let budget = RetryBudget::new(&params, 1);
/// let now = Instant::from_millis(1_500);
/// for _ in 0..10 {
///     budget.deposit(0, now);
/// }
/// assert!(budget.try_withdraw(now));
/// assert!(budget.try_withdraw(now));
/// assert!(!budget.try_withdraw(now), "20 % of 10 requests are spent");
/// ```
pub struct RetryBudget {
    /// Bits 63..32: share in parts per million; bits 31..0: retries per second.
    limits: AtomicU64,
    /// First attempts, per worker.
    requests: Box<[CachePadded<Window>]>,
    retries: CachePadded<Window>,
}

impl RetryBudget {
    /// An empty budget with a shard for each of `workers` workers (at least one).
    pub fn new(params: &RetryParams, workers: usize) -> Self {
        Self {
            limits: AtomicU64::new(encode(params)),
            requests: (0..workers.max(1)).map(|_| CachePadded::default()).collect(),
            retries: CachePadded::default(),
        }
    }

    /// Counts a request: once, at its first attempt. Any `worker` number is good; workers with different
    /// numbers below the number of shards do not disturb each other.
    pub fn deposit(&self, worker: usize, now: Instant) {
        if let Some(window) = self.requests.get(worker % self.requests.len()) {
            window.add(second(now), Ordering::Relaxed);
        }
    }

    /// Takes the right to one retry, if the budget has one. Costs ten loads per worker; retries are rare.
    #[must_use]
    pub fn try_withdraw(&self, now: Instant) -> bool {
        let second = second(now);
        // Sequential consistency: of two racing reservations at least one sees the other.
        if !self.retries.add(second, Ordering::SeqCst) {
            return false;
        }
        let within = self.retries.sum(second) <= self.allowed(second);
        if !within {
            self.retries.take_back(second);
        }
        within
    }

    /// Changes the settings; what has been counted stays.
    pub fn set_params(&self, params: &RetryParams) {
        self.limits.store(encode(params), Ordering::Relaxed);
    }

    /// Retries within the window, for metrics.
    pub fn retries(&self, now: Instant) -> u64 {
        self.retries.sum(second(now))
    }

    /// Requests within the window, for metrics.
    pub fn requests(&self, now: Instant) -> u64 {
        self.requests.iter().map(|window| window.sum(second(now))).sum()
    }

    fn allowed(&self, second: u32) -> u64 {
        let limits = self.limits.load(Ordering::Relaxed);
        let (share_ppm, min_per_second) = (limits >> 32, limits & 0xFFFF_FFFF);
        let requests: u64 = self.requests.iter().map(|window| window.sum(second)).sum();
        let share = u128::from(requests) * u128::from(share_ppm) / 1_000_000;
        u64::try_from(share).unwrap_or(u64::MAX).saturating_add(min_per_second * u64::from(WINDOW_SECONDS))
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.limits.load(Ordering::Relaxed);
        f.debug_struct("RetryBudget")
            .field("share_ppm", &(limits >> 32))
            .field("min_per_second", &(limits as u32))
            .field("workers", &self.requests.len())
            .finish_non_exhaustive()
    }
}

/// Buckets of a ring: more than the window, so that a late worker does not hit one that was just reused.
const BUCKETS: usize = 16;

const _: () = assert!(BUCKETS > WINDOW_SECONDS as usize);

/// Counts per second. Each word: bits 63..32 the second, bits 31..0 the count.
#[derive(Default)]
struct Window([AtomicU64; BUCKETS]);

impl Window {
    /// Adds one; false (nothing added) if the second is so old that its bucket has been reused.
    fn add(&self, second: u32, ordering: Ordering) -> bool {
        let Some(bucket) = self.bucket(second) else { return false };
        // If the ring turns right here, the one counts for a later second: harmless.
        if second_of(bucket.load(Ordering::Relaxed)) == second {
            bucket.fetch_add(1, ordering);
            return true;
        }
        let turned = bucket.fetch_update(ordering, Ordering::Relaxed, |word| match second_of(word).cmp(&second) {
            Less => Some((u64::from(second) << 32) | 1),
            Equal => Some(word + 1),
            Greater => None,
        });
        turned.is_ok()
    }

    fn take_back(&self, second: u32) {
        let Some(bucket) = self.bucket(second) else { return };
        // If the ring has turned, the one is forgotten already: nothing to change.
        let _ = bucket.fetch_update(Ordering::SeqCst, Ordering::Relaxed, |word| {
            (second_of(word) == second && word as u32 > 0).then(|| word - 1)
        });
    }

    /// The count of the window that ends with `second`.
    fn sum(&self, second: u32) -> u64 {
        let first = second.saturating_sub(WINDOW_SECONDS - 1);
        (first..=second)
            .filter_map(|s| {
                let word = self.bucket(s)?.load(Ordering::SeqCst);
                (second_of(word) == s).then_some(u64::from(word as u32))
            })
            .sum()
    }

    fn bucket(&self, second: u32) -> Option<&AtomicU64> {
        self.0.get(second as usize % BUCKETS)
    }
}

const fn second_of(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Seconds since the start; 2³² of them are 136 years.
const fn second(now: Instant) -> u32 {
    (now.as_nanos() / 1_000_000_000) as u32
}

fn encode(params: &RetryParams) -> u64 {
    let share_ppm = (params.budget * 1e6).round() as u32; // saturates; NaN counts as 0
    (u64::from(share_ppm) << 32) | u64::from(params.min_per_second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn params(budget: f64, min_per_second: u32) -> RetryParams {
        RetryParams { budget, min_per_second, ..RetryParams::default() }
    }

    fn withdrawals(budget: &RetryBudget, now: Instant) -> usize {
        std::iter::repeat_with(|| budget.try_withdraw(now)).take_while(|got| *got).count()
    }

    #[test]
    fn the_reserve_serves_a_cluster_without_traffic() {
        let budget = RetryBudget::new(&params(0.2, 3), 2);
        let at = Instant::from_millis;
        assert_eq!(withdrawals(&budget, at(100)), 30, "3 per second over 10 seconds");
        assert_eq!(withdrawals(&budget, at(9_900)), 0);
        assert_eq!(withdrawals(&budget, at(10_000)), 30, "the first second has left the window");
    }

    #[test]
    fn requests_count_for_ten_seconds_on_any_worker() {
        let budget = RetryBudget::new(&params(0.1, 0), 2);
        let at = Instant::from_millis;
        for request in 0..100 {
            budget.deposit(request, at(20_500));
        }
        assert_eq!(budget.requests(at(20_500)), 100);
        assert_eq!(withdrawals(&budget, at(29_999)), 10);
        assert_eq!((budget.requests(at(30_000)), budget.retries(at(30_000))), (0, 10));
        assert_eq!(withdrawals(&budget, at(30_000)), 0);
    }

    #[test]
    fn a_denied_retry_costs_nothing() {
        let budget = RetryBudget::new(&params(0.5, 0), 1);
        let now = Instant::from_millis(1);
        for _ in 0..100 {
            assert!(!budget.try_withdraw(now));
        }
        budget.deposit(0, now);
        budget.deposit(0, now);
        assert_eq!(withdrawals(&budget, now), 1);
    }

    #[test]
    fn settings_change_without_forgetting() {
        let budget = RetryBudget::new(&params(0.0, 0), 1);
        let now = Instant::from_millis(1);
        (0..10).for_each(|_| budget.deposit(0, now));
        assert_eq!(withdrawals(&budget, now), 0);
        budget.set_params(&params(1.0, 0));
        assert_eq!(withdrawals(&budget, now), 10);
    }

    #[test]
    fn a_late_worker_neither_adds_to_nor_erases_a_later_second() {
        let budget = RetryBudget::new(&params(1.0, 0), 1);
        let at = Instant::from_millis;
        budget.deposit(0, at(20_000));
        budget.deposit(0, at(4_000)); // same bucket, 16 s earlier
        assert_eq!(budget.requests(at(20_000)), 1);
        assert!(!budget.try_withdraw(at(4_000)));
    }

    #[test]
    fn threads_together_never_exceed_the_budget() {
        let budget = RetryBudget::new(&params(0.2, 0), 4);
        let now = Instant::from_millis(5_000);
        (0..1_000).for_each(|request| budget.deposit(request, now));
        let granted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1_000).filter(|_| budget.try_withdraw(now)).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(granted, 200, "not one more; and losers tried again");
    }

    proptest! {
        /// In each window of ten seconds, as the workers see it.
        #[test]
        fn retries_never_exceed_the_share(
            events in proptest::collection::vec((0..700_u64, any::<bool>()), 1..500),
            budget_percent in 0..100_u32,
            min in 0..3_u32,
        ) {
            let budget = RetryBudget::new(&params(f64::from(budget_percent) / 100.0, min), 2);
            let (mut requests, mut retries): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
            let mut millis = 0;
            for (pause, is_request) in events {
                millis += pause;
                let now = Instant::from_millis(millis);
                let recent = |list: &[u64]| list.iter().filter(|s| **s + 10 > millis / 1_000).count() as u64;
                if is_request {
                    budget.deposit(requests.len(), now);
                    requests.push(millis / 1_000);
                } else {
                    let allowed = recent(&requests) * u64::from(budget_percent) / 100 + u64::from(min) * 10;
                    prop_assert_eq!(budget.try_withdraw(now), recent(&retries) < allowed);
                    if recent(&retries) < allowed {
                        retries.push(millis / 1_000);
                    }
                }
            }
        }
    }
}
