//! Passive ejection: an endpoint that fails requests gets none for a while.
//!
//! # Rules
//! 1. `consecutive_failures` failures in a row eject. (Envoy, outlier detection, *consecutive 5xx* and
//!    *local origin* failures; what counts as a failure is decided by the caller.)
//! 2. The n-th ejection in a row lasts `min(base × n, max(base, max_ejection))`: gRFC A50, `base_ejection_time`
//!    × multiplier, `max_ejection_time`. Only time ends it, not a success of a request sent before.
//! 3. For each [`CLEAN_PERIOD`] that an endpoint serves without being ejected, n falls by one: gRFC A50
//!    and Envoy do so at each `interval`, 10 s by default. n stops growing where the ejection stops growing.
//! 4. At most `max_ejected` of the endpoints are out at a time (rounded down). Of two or three, one may always
//!    be ejected: with a share alone, small clusters would have no protection. (Envoy lets one go
//!    in a cluster of any size; so 10 % of 5 would be one there and is none here, as configured.)
//! 5. **At least one endpoint always serves**, as far as others have not taken it out: an ejection that would
//!    leave none is refused, and when the last one that serves leaves (down, draining, removed), the
//!    ejection that would end first ends at once. The same when the cluster shrinks and rule 4 no longer holds.
//! 6. An endpoint that is out for another reason is not ejected besides: that would only spend the share.
//!
//! The machine is fed by the owner of the cluster. Failures are counted either here (`handle_failure`,
//! `handle_success`) or by atomics of the data path
//! ([`ConsecutiveFailures`], `handle_consecutive`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weir_core::{EndpointId, Instant};

use crate::OutlierParams;
pub use crate::consecutive::ConsecutiveFailures;

/// Served for so long without ejection, the next ejection is one step shorter.
pub const CLEAN_PERIOD: Duration = Duration::from_secs(10);

/// What the owner must do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Give it no new traffic.
    Eject {
        /// Which.
        endpoint: EndpointId,
        /// Until when, unless it is restored earlier.
        until: Instant,
        /// Which ejection in a row this is: 1 = the first.
        nth: u32,
    },
    /// Give it traffic again, and [`ConsecutiveFailures::reset`] its counter.
    Restore {
        /// Which.
        endpoint: EndpointId,
    },
}

/// Decides which endpoints of a cluster are taken out, and for how long.
///
/// ```
/// use weir_core::{EndpointId, Instant};
/// use weir_resilience::OutlierParams;
/// use weir_resilience::outlier::{Detector, Output};
///
/// let (good, bad) = (EndpointId(0), EndpointId(1));
/// let now = Instant::ZERO;
/// let mut detector = Detector::new(OutlierParams::default());
/// detector.set_endpoints(&[good, bad], now);
/// for _ in 0..5 {
///     detector.handle_failure(bad, now);
/// }
/// assert!(matches!(detector.poll_output(), Some(Output::Eject { endpoint, nth: 1, .. }) if endpoint == bad));
///
/// let end = detector.poll_timeout().unwrap();
/// detector.handle_timeout(end);
/// assert_eq!(detector.poll_output(), Some(Output::Restore { endpoint: bad }));
/// ```
#[derive(Debug)]
pub struct Detector {
    params: OutlierParams,
    endpoints: BTreeMap<EndpointId, Entry>,
    ejected: usize,
    /// Endpoints whose state differs from what the owner was told; each at most once.
    changed: VecDeque<EndpointId>,
    refused: u64,
}

#[derive(Debug)]
struct Entry {
    /// Whether it could serve if it is not ejected.
    usable: bool,
    /// In a row, counted here.
    failures: u32,
    /// When its ejection ends.
    until: Option<Instant>,
    /// Ejections in a row, as of `since`.
    nth: u32,
    /// Since when it has served.
    since: Instant,
    /// What the owner was told.
    told: Option<Instant>,
    queued: bool,
}

impl Entry {
    const fn new(now: Instant) -> Self {
        Self { usable: true, failures: 0, until: None, nth: 0, since: now, told: None, queued: false }
    }

    const fn serves(&self) -> bool {
        self.usable && self.until.is_none()
    }
}

impl Detector {
    /// No endpoints yet.
    pub const fn new(params: OutlierParams) -> Self {
        Self { params, endpoints: BTreeMap::new(), ejected: 0, changed: VecDeque::new(), refused: 0 }
    }

    /// Changes the settings. Ejections that have begun keep their ends, unless there are too many now or the
    /// detector is switched off.
    pub fn set_params(&mut self, params: OutlierParams, now: Instant) {
        self.params = params;
        self.restore_surplus(now);
        self.check_invariants();
    }

    /// The endpoints of the cluster are now these. Those that stay keep their state; of one that leaves
    /// nothing more is said.
    pub fn set_endpoints(&mut self, endpoints: &[EndpointId], now: Instant) {
        let mut before = std::mem::take(&mut self.endpoints);
        for id in endpoints {
            let entry = before.remove(id);
            self.endpoints.entry(*id).or_insert_with(|| entry.unwrap_or(Entry::new(now)));
        }
        self.ejected = self.endpoints.values().filter(|entry| entry.until.is_some()).count();
        self.changed.retain(|id| self.endpoints.contains_key(id));
        self.restore_surplus(now);
        self.check_invariants();
    }

    /// Whether an endpoint could serve if it is not ejected (health, draining, weight 0). All can until
    /// told otherwise.
    pub fn handle_usable(&mut self, endpoint: EndpointId, usable: bool, now: Instant) {
        if let Some(entry) = self.endpoints.get_mut(&endpoint)
            && entry.usable != usable
        {
            entry.usable = usable;
            entry.failures = 0;
            self.restore_surplus(now);
        }
        self.check_invariants();
    }

    /// One request failed; the detector counts.
    pub fn handle_failure(&mut self, endpoint: EndpointId, now: Instant) {
        let Some(entry) = self.endpoints.get_mut(&endpoint) else { return };
        entry.failures = entry.failures.saturating_add(1);
        let failures = entry.failures;
        self.handle_consecutive(endpoint, failures, now);
    }

    /// One request succeeded; the detector counts.
    pub fn handle_success(&mut self, endpoint: EndpointId, _now: Instant) {
        if let Some(entry) = self.endpoints.get_mut(&endpoint) {
            entry.failures = 0;
        }
    }

    /// `count` requests in a row have failed; the data path counts.
    pub fn handle_consecutive(&mut self, endpoint: EndpointId, count: u32, now: Instant) {
        if self.params.enabled && count >= self.params.consecutive_failures.max(1) {
            self.eject(endpoint, now);
        }
        self.check_invariants();
    }

    /// Restores those whose time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((end, endpoint)) = self.first_to_end(|_| true) {
            if now < end {
                break;
            }
            self.restore(endpoint, now);
        }
        self.check_invariants();
    }

    /// The next thing to do. An ejection that ended before it was polled is not mentioned.
    pub fn poll_output(&mut self) -> Option<Output> {
        while let Some(endpoint) = self.changed.pop_front() {
            let Some(entry) = self.endpoints.get_mut(&endpoint) else { continue };
            entry.queued = false;
            if entry.told == entry.until {
                continue;
            }
            entry.told = entry.until;
            return Some(match entry.until {
                Some(until) => Output::Eject { endpoint, until, nth: entry.nth },
                None => Output::Restore { endpoint },
            });
        }
        None
    }

    /// When to call [`Detector::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.first_to_end(|_| true).map(|(end, _)| end)
    }

    /// Whether it is ejected.
    pub fn is_ejected(&self, endpoint: EndpointId) -> bool {
        self.endpoints.get(&endpoint).is_some_and(|entry| entry.until.is_some())
    }

    /// How many are ejected.
    pub const fn ejected(&self) -> usize {
        self.ejected
    }

    /// Ejections that rules 4 and 5 refused, since the start.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn eject(&mut self, endpoint: EndpointId, now: Instant) {
        let others_serve = self.endpoints.iter().any(|(id, entry)| *id != endpoint && entry.serves());
        let within_share = self.ejected < self.ejected_max();
        let params = &self.params;
        let Some(entry) = self.endpoints.get_mut(&endpoint) else { return };
        if !entry.serves() {
            entry.failures = 0;
            return;
        }
        if !others_serve || !within_share {
            self.refused += 1;
            return;
        }
        let clean = now.since(entry.since).as_nanos() / CLEAN_PERIOD.as_nanos();
        let nth = entry.nth.saturating_sub(u32::try_from(clean).unwrap_or(u32::MAX));
        let longest = params.max_ejection.max(params.base_ejection);
        entry.nth = if params.base_ejection.saturating_mul(nth) >= longest { nth.max(1) } else { nth + 1 };
        entry.until = Some(now + params.base_ejection.saturating_mul(entry.nth).min(longest));
        entry.failures = 0;
        self.ejected += 1;
        self.tell(endpoint);
    }

    fn restore(&mut self, endpoint: EndpointId, now: Instant) {
        let Some(entry) = self.endpoints.get_mut(&endpoint) else { return };
        if entry.until.take().is_some() {
            entry.since = now;
            entry.failures = 0;
            self.ejected -= 1;
            self.tell(endpoint);
        }
    }

    /// Rules 4 and 5 after a change from outside. Each pass restores one.
    fn restore_surplus(&mut self, now: Instant) {
        loop {
            let too_many = !self.params.enabled || self.ejected > self.ejected_max();
            let none_serves = !self.endpoints.values().any(Entry::serves);
            let first = if none_serves { self.first_to_end(|entry| entry.usable) } else { None };
            let first = if too_many { first.or_else(|| self.first_to_end(|_| true)) } else { first };
            let Some((_, endpoint)) = first else { return };
            self.restore(endpoint, now);
        }
    }

    /// The ejection that ends first.
    fn first_to_end(&self, wanted: fn(&Entry) -> bool) -> Option<(Instant, EndpointId)> {
        let ends = self.endpoints.iter().filter(|(_, entry)| wanted(entry));
        ends.filter_map(|(id, entry)| Some((entry.until?, *id))).min()
    }

    /// Rule 4 as a number.
    fn ejected_max(&self) -> usize {
        let endpoints = self.endpoints.len();
        let share = (endpoints as f64 * self.params.max_ejected + 1e-9) as usize; // saturates; NaN counts as 0
        match endpoints {
            0 | 1 => 0,
            2 | 3 => share.clamp(1, endpoints - 1),
            _ => share.min(endpoints - 1),
        }
    }

    fn tell(&mut self, endpoint: EndpointId) {
        if let Some(entry) = self.endpoints.get_mut(&endpoint)
            && !entry.queued
        {
            entry.queued = true;
            self.changed.push_back(endpoint);
        }
    }

    fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            let count = |wanted: fn(&Entry) -> bool| self.endpoints.values().filter(|e| wanted(e)).count();
            assert_eq!(self.ejected, count(|entry| entry.until.is_some()));
            assert!(self.ejected <= self.ejected_max(), "the share holds");
            assert!(self.changed.len() <= self.endpoints.len(), "the queue is bounded");
            assert_eq!(self.changed.len(), count(|entry| entry.queued));
            let (usable, serving) = (count(|entry| entry.usable), count(Entry::serves));
            assert!(usable == 0 || serving > 0, "at least one always serves");
        }
    }
}

#[cfg(test)]
mod tests;
