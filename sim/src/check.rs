//! What must hold, whatever happens: during a run ([`Sim::look`]) and at its end ([`Sim::check`]).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use weir_core::{ClusterId, EndpointId, Reason};

use crate::ledger::{Entry, Misdeed, Outcome};
use crate::sim::Sim;
use crate::weir::Weir;

/// Rests: lingering connections, late closes and housekeeping are over by then.
const REST: Duration = Duration::from_secs(65);

impl Sim {
    /// What holds at every moment.
    pub(crate) fn look(&mut self) {
        let Some(weir) = &mut self.weir else { return };
        weir.look_at_snapshot(self.world.now());
        // A read may be as long as a window is wide, and meets at most one other that is stuck already.
        let unsent_max = 2 * self.net.window.end() + 128 * 1024;
        let mut open: BTreeMap<(ClusterId, EndpointId), u32> = BTreeMap::new();
        for node in weir.running(&self.world) {
            let (census, unsent) = Weir::census(&mut self.world, node);
            assert!(unsent <= unsent_max, "{unsent} bytes are unsent on one connection of {node:?}");
            for pool in census.pools {
                *open.entry((pool.cluster, pool.endpoint)).or_default() += pool.idle + pool.busy + pool.connecting;
            }
        }
        for ((cluster, endpoint), open) in open {
            let max = weir.connections_max(cluster);
            let name = || weir.endpoint_name(cluster, endpoint);
            assert!(open <= max, "{open} connections to {}, at most {max} are allowed", name());
        }
        for (cluster, state) in &weir.states {
            let plan = &weir.config.clusters[cluster.0 as usize].plan;
            let granted = state.connections.0.granted();
            assert!(granted <= weir.connections_max(*cluster), "{granted} connections to {}", state.endpoint.name);
            if let Some(max) = plan.limit.max_requests {
                let now = state.permits.in_flight();
                assert!(now <= max, "{now} places at {} of {max}", state.endpoint.name);
            }
        }
        let book = self.book.borrow();
        assert!(book.violations.is_empty(), "{:#?}", book.violations);
    }

    /// What holds after a run: every request has one end, and a right one; Weir is at rest and holds nothing.
    ///
    /// # Panics
    /// If something does not hold.
    pub fn check(&mut self) {
        self.play(REST);
        self.check_requests();
        self.check_rest();
    }

    fn check_requests(&self) {
        let book = self.book.borrow();
        for (id, entry) in book.entries.iter().enumerate() {
            let Some((_, outcome)) = &entry.ended else { panic!("request {id} has no end: {entry:?}") };
            if !entry.is_idempotent() {
                assert!(entry.executions <= 1, "request {id} was executed {} times: {entry:?}", entry.executions);
                assert!(entry.arrivals.len() <= 1, "request {id} was sent twice: {entry:?}");
            }
            match outcome {
                Outcome::Served(_) => assert!(!entry.arrivals.is_empty(), "request {id} was answered by nobody"),
                Outcome::Refused(..) | Outcome::Abandoned => {}
                Outcome::Cut => self.check_cut(id, entry),
                Outcome::Dropped => {
                    let why = "the connection was closed without a response";
                    assert!(self.tolerated.drain, "request {id}: {why}: {entry:?}");
                }
                Outcome::Unconnected => assert!(self.tolerated.drain, "request {id}: no connection: {entry:?}"),
            }
        }
    }

    fn check_cut(&self, id: usize, entry: &Entry) {
        let caused = entry.misdeeds.iter().any(|misdeed| misdeed.begins());
        // After an interim response, too, an error response of Weir's follows.
        assert!(caused || self.tolerated.broken_network, "request {id} was cut without a cause: {entry:?}");
    }

    fn check_rest(&mut self) {
        let Some(weir) = &self.weir else { return };
        let mut pooled: BTreeMap<(ClusterId, EndpointId), u32> = BTreeMap::new();
        for node in weir.running(&self.world) {
            let (census, unsent) = Weir::census(&mut self.world, node);
            assert_eq!((census.clients, census.exchanges, census.sessions), (0, 0, 0), "{node:?} at rest");
            assert_eq!(unsent, 0, "{node:?} at rest");
            let mut open = 0;
            for pool in &census.pools {
                assert_eq!((pool.busy, pool.waiting), (0, 0), "{node:?} at rest: {pool:?}");
                *pooled.entry((pool.cluster, pool.endpoint)).or_default() += pool.idle + pool.connecting;
                open += pool.idle + pool.connecting;
            }
            assert_eq!(self.world.connections(node), open as usize, "connections of {node:?}: {census:?}");
        }
        let running = weir.running(&self.world).len();
        for (cluster, state) in &weir.states {
            let name = &state.endpoint.name;
            assert_eq!(state.load.in_flight(), 0, "load of {name} at rest");
            assert_eq!(state.permits.in_flight(), 0, "places at {name} at rest");
            assert_eq!(state.permits.waiting(), 0, "waiting for {name} at rest");
            for worker in 0..weir.workers.len() {
                assert!(
                    !state.waits_for_connection(worker),
                    "worker {worker} waits for a connection to {name} at rest"
                );
            }
            // Between those, workers that have stopped can only have taken nothing with them.
            if running == weir.workers.len() || running == 0 {
                let open = pooled.get(&(*cluster, state.id)).copied().unwrap_or(0);
                assert_eq!(state.connections.0.granted(), open, "connections to {name} at rest");
            }
        }
        for listener in &weir.config.listeners {
            assert_eq!(listener.connections.granted(), 0, "clients of {} at rest", listener.name);
        }
        for stats in &weir.shared.stats {
            assert_eq!(stats.open.get(), 0, "the gauge of open clients at rest");
            assert_eq!((stats.tunnels_open.get(), stats.tcp_open.get()), (0, 0), "the gauges of tunnels at rest");
        }
    }

    /// No origin had more than `max` requests at a time.
    ///
    /// # Panics
    /// If one had.
    pub fn check_in_flight(&self, max: u32) {
        for (index, (_, most)) in self.book.borrow().in_service.iter().enumerate() {
            assert!(*most <= max, "replica {index} had {most} requests at a time");
        }
    }

    /// Of two requests for one service the one that came first was first at an origin, unless they were less than `slack`
    /// apart. For networks on which every way takes the same time.
    ///
    /// # Panics
    /// If one overtook another.
    pub fn check_first_come_first_served(&self, slack: Duration) {
        let book = self.book.borrow();
        let arrived = |entry: &Entry| entry.arrivals.first().map(|(at, _)| *at);
        let arrivals: Vec<_> = book
            .entries
            .iter()
            .enumerate()
            .filter_map(|(id, entry)| Some((id, entry.began, arrived(entry)?)))
            .collect();
        for (id, began, arrived) in &arrivals {
            let overtaken = arrivals.iter().find(|(_, before, at)| *before + slack < *began && *at > *arrived + slack);
            assert!(
                overtaken.is_none(),
                "request {id} of {began:?} was at its origin at {arrived:?}, before {overtaken:?}"
            );
        }
    }

    /// Every request was served by an origin, but for those that clients gave up.
    ///
    /// # Panics
    /// If one was not.
    pub fn check_all_served(&self) {
        for (id, entry) in self.book.borrow().entries.iter().enumerate() {
            let served = matches!(entry.ended, Some((_, Outcome::Served(_) | Outcome::Abandoned)));
            assert!(served, "request {id} was not served: {entry:?}");
        }
    }

    /// Refused were only requests for which that is right: none but for these reasons.
    ///
    /// # Panics
    /// If one was.
    pub fn check_reasons(&self, allowed: &[Reason]) {
        for (id, entry) in self.book.borrow().entries.iter().enumerate() {
            if let Some((_, Outcome::Refused(status, reason))) = entry.ended {
                let known = reason.is_some_and(|reason| allowed.contains(&reason));
                assert!(known, "request {id} got a {status} for {reason:?}: {entry:?}");
            }
        }
    }

    /// An idempotent request sees a failure of origins only if its attempts were used up, or the budget was.
    ///
    /// # Panics
    /// If one did otherwise.
    pub fn check_retries(&self, attempts: usize) {
        let denied = self.stat(|stats| stats.retries_denied.get());
        for (id, entry) in self.book.borrow().entries.iter().enumerate() {
            let before = entry.misdeeds.iter().filter(|misdeed: &&Misdeed| !misdeed.begins()).count();
            if let Some((_, Outcome::Refused(status, reason))) = entry.ended
                && entry.is_idempotent()
            {
                assert!(before >= attempts || denied > 0, "request {id} got a {status} for {reason:?}: {entry:?}");
            }
        }
    }

    /// Endpoints that are out of the published snapshot get nothing new, `grace` after they left (connects and queued
    /// requests that were under way).
    ///
    /// # Panics
    /// If one did.
    pub fn check_excluded(&self, cluster: usize, grace: Duration) {
        let weir = self.the_weir();
        for (id, entry) in self.book.borrow().entries.iter().enumerate() {
            for (at, replica) in &entry.arrivals {
                let address = self.replicas[*replica].address.into();
                // Every publication in force within the grace before the arrival.
                let mut since = weir.publications.iter().enumerate().filter(|(position, publication)| {
                    let ends = weir.publications.get(position + 1).map_or(*at, |next| next.at);
                    publication.at <= *at && ends + grace >= *at
                });
                let may = since.any(|(_, publication)| {
                    publication.panic[cluster] || publication.members[cluster].contains(&address)
                });
                assert!(may, "request {id} went to {address:?} at {at:?}, long after it was taken out");
            }
        }
    }

    /// No request took longer than this to reach an origin.
    ///
    /// # Panics
    /// If one did.
    pub fn check_reached_within(&self, limit: Duration) {
        for (id, entry) in self.book.borrow().entries.iter().enumerate() {
            if let Some((at, _)) = entry.arrivals.first() {
                let took = at.since(entry.began);
                assert!(took <= limit, "request {id} was on its way for {took:?}: {entry:?}");
            }
        }
    }

    /// Requests refused for this reason took so long.
    ///
    /// # Panics
    /// If one did not.
    pub fn check_duration_of(&self, reason: Reason, range: RangeInclusive<Duration>) {
        for (id, entry) in self.book.borrow().entries.iter().enumerate() {
            if let Some((at, Outcome::Refused(_, Some(of)))) = entry.ended
                && of == reason
            {
                let took = at.since(entry.began);
                assert!(range.contains(&took), "request {id} was refused for {reason:?} after {took:?}: {entry:?}");
            }
        }
    }

    /// Requests that an origin has begun to work on and that have no end.
    pub fn in_flight(&self) -> Vec<u64> {
        let book = self.book.borrow();
        let open = book.entries.iter().enumerate().filter(|(_, entry)| entry.ended.is_none() && entry.executions > 0);
        open.map(|(id, _)| id as u64).collect()
    }

    /// These requests were served.
    ///
    /// # Panics
    /// If one was not.
    pub fn check_finished(&self, requests: &[u64]) {
        let book = self.book.borrow();
        for id in requests {
            let entry = &book.entries[*id as usize];
            assert!(matches!(entry.ended, Some((_, Outcome::Served(_)))), "request {id} was not served: {entry:?}");
        }
    }

    /// How many endpoints of a cluster may be picked now.
    pub fn in_rotation(&self, cluster: usize) -> usize {
        self.the_weir().shared.snapshot().clusters[cluster].members.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weir::Publication;
    use crate::{Habits, Manners};

    /// A run in which both replicas serve, and the number of the first one's last request.
    fn played() -> Sim {
        let mut sim = Sim::new(1, weir_net::mem::NetConfig::calm());
        let orders = sim.service("orders", 2, &Manners::default());
        let text = format!(
            "[[listener]]\nbind = \"192.0.2.1:80\"\ncluster = \"orders\"\n\
             [cluster.orders]\nendpoints = {}\nhealth = {{ enabled = false }}",
            sim.endpoints(orders)
        );
        sim.weir(1, &text);
        sim.clients(1, &Habits::default());
        sim.play_to_the_end(Duration::from_mins(1));
        sim
    }

    /// Claims that the first replica was taken out at the start.
    fn claim(sim: &mut Sim, panic: bool) {
        let left = sim.replicas[1].address.into();
        let Some(weir) = &mut sim.weir else { panic!("it was started") };
        let at = weir.publications.last().map_or(weir_core::Instant::ZERO, |last| last.at);
        weir.publications.push(Publication { at, members: vec![vec![left]], panic: vec![panic] });
    }

    #[test]
    fn traffic_to_members_is_right() {
        let mut sim = played();
        sim.check_excluded(0, Duration::ZERO);
        claim(&mut sim, false);
        sim.check_excluded(0, Duration::from_mins(1));
    }

    #[test]
    fn in_a_panic_traffic_may_go_anywhere() {
        let mut sim = played();
        claim(&mut sim, true);
        sim.check_excluded(0, Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "long after it was taken out")]
    fn traffic_to_one_that_was_taken_out_is_noticed() {
        let mut sim = played();
        claim(&mut sim, false);
        sim.check_excluded(0, Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "before Some")]
    fn a_request_that_overtakes_is_noticed() {
        let sim = played();
        sim.check_first_come_first_served(Duration::from_mins(1));
        if let [first, .., last] = &mut *sim.book.borrow_mut().entries {
            std::mem::swap(&mut first.arrivals, &mut last.arrivals);
        }
        sim.check_first_come_first_served(Duration::from_millis(10));
    }
}
