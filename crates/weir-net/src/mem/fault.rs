//! Faults of the network as rules: *where*, *when*, *how often*, *what*.
//!
//! A rule is in force while its [`Guard`] lives (or for good, after [`Guard::keep`]) and within its
//! window of time. What happens to a whole node (killed, stalled, restarted) is a method of
//! [`World`](super::World).

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use weir_core::hash::Rng;
use weir_core::{Address, Instant};

use super::NodeId;
use super::config::{draw, draw_moment, draw_time};
use crate::IoFault;

/// Which connections a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All.
    Everywhere,
    /// Those made to this address.
    To(Address),
    /// Those with this node at either end.
    Node(NodeId),
    /// Those with one end in either set.
    Across(Vec<NodeId>, Vec<NodeId>),
}

/// What a rule does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// New connections fail with this at once (after one round trip): `Refused`, `Unreachable`,
    /// `Exhausted` and so on.
    FailConnect(IoFault),
    /// Attempts to connect are swallowed; they time out unless the rule ends in time.
    BlackholeConnect,
    /// Attempts to connect take this much longer.
    DelayConnect(RangeInclusive<Duration>),
    /// New connections break (both ends see a reset) once this many bytes have arrived, counted over
    /// both directions; 0 is at once.
    ResetAfterBytes(RangeInclusive<u64>),
    /// New connections break at a random moment within this time.
    ResetWithin(Duration),
    /// Segments take this much longer.
    Delay(RangeInclusive<Duration>),
    /// Each direction of each connection carries at most this many bytes per second.
    Slow {
        /// The rate; 0 is taken as 1.
        bytes_per_second: u64,
    },
    /// Nothing passes. What is sent waits and is sent again every `retry_after`; resets are lost for
    /// good; connections give up after `give_up_after`.
    Partition,
}

/// A fault with its conditions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    scope: Scope,
    fault: Fault,
    from: Instant,
    until: Instant,
    permille: u16,
}

/// Keeps a rule in force; dropping it lifts the rule.
#[derive(Debug)]
#[must_use = "the rule is lifted when the guard is dropped"]
pub struct Guard {
    /// `None` once kept for good.
    active: Option<Rc<Cell<bool>>>,
}

impl Rule {
    /// `fault` for `scope`, always and every time.
    pub fn new(scope: Scope, fault: Fault) -> Self {
        Self { scope, fault, from: Instant::ZERO, until: Instant::FAR, permille: 1_000 }
    }

    /// Only from `from` until just before `until`.
    #[must_use]
    pub fn during(mut self, from: Instant, until: Instant) -> Self {
        self.from = from;
        self.until = until;
        self
    }

    /// Only `permille` times in 1,000 (drawn per attempt, connection or segment; a partition is never
    /// a matter of chance).
    #[must_use]
    pub fn chance(mut self, permille: u16) -> Self {
        self.permille = permille;
        self
    }
}

impl Guard {
    /// Lifts the rule now.
    pub fn clear(self) {}

    /// Leaves the rule in force for the rest of the world's life.
    pub fn keep(mut self) {
        self.active = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(active) = &self.active {
            active.set(false);
        }
    }
}

/// The parties of a connection or an attempt.
#[derive(Clone, Copy)]
pub(super) struct Parties<'a> {
    pub(super) client: NodeId,
    /// `None` while it is not known who answers.
    pub(super) server: Option<NodeId>,
    pub(super) address: &'a Address,
}

/// What becomes of an attempt to connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Pass,
    Swallow,
    Fail(IoFault),
}

/// When a new connection is to break.
#[derive(Clone, Copy, Default)]
pub(super) struct Doom {
    pub(super) after_bytes: Option<u64>,
    pub(super) at: Option<Instant>,
}

/// The rules of a world.
#[derive(Default)]
pub(super) struct Rules {
    list: Vec<(Rule, Rc<Cell<bool>>)>,
}

impl Rules {
    pub(super) fn add(&mut self, rule: Rule) -> Guard {
        self.list.retain(|(_, active)| active.get());
        let active = Rc::new(Cell::new(true));
        self.list.push((rule, Rc::clone(&active)));
        Guard { active: Some(active) }
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// Judges an attempt to connect.
    pub(super) fn connect(&self, rng: &mut Rng, now: Instant, parties: Parties<'_>) -> Verdict {
        for rule in self.matching(now, parties) {
            let verdict = match rule.fault {
                Fault::FailConnect(fault) => Verdict::Fail(fault),
                Fault::BlackholeConnect => Verdict::Swallow,
                _ => continue,
            };
            if rule.hits(rng) {
                return verdict;
            }
        }
        Verdict::Pass
    }

    /// How much longer an attempt to connect takes.
    pub(super) fn connect_delay(&self, rng: &mut Rng, now: Instant, parties: Parties<'_>) -> Duration {
        let mut total = Duration::ZERO;
        for rule in self.matching(now, parties) {
            if let Fault::DelayConnect(range) = &rule.fault
                && rule.hits(rng)
            {
                total = total.saturating_add(draw_time(rng, range));
            }
        }
        total
    }

    /// How much longer a segment takes, and the rate it moves at.
    pub(super) fn segment(&self, rng: &mut Rng, now: Instant, parties: Parties<'_>) -> (Duration, Option<u64>) {
        let (mut delay, mut rate) = (Duration::ZERO, None);
        for rule in self.matching(now, parties) {
            match &rule.fault {
                Fault::Delay(range) if rule.hits(rng) => {
                    delay = delay.saturating_add(draw_time(rng, range));
                }
                Fault::Slow { bytes_per_second } if rule.hits(rng) => {
                    rate = Some(rate.map_or(*bytes_per_second, |other: u64| other.min(*bytes_per_second)));
                }
                _ => {}
            }
        }
        (delay, rate)
    }

    /// Whether a new connection is to break, and when.
    pub(super) fn doom(&self, rng: &mut Rng, now: Instant, parties: Parties<'_>) -> Doom {
        let mut doom = Doom::default();
        for rule in self.matching(now, parties) {
            match &rule.fault {
                Fault::ResetAfterBytes(range) if rule.hits(rng) => {
                    doom.after_bytes = Some(draw(rng, range));
                }
                Fault::ResetWithin(span) if rule.hits(rng) => {
                    doom.at = Some(draw_moment(rng, now, *span));
                }
                _ => {}
            }
        }
        doom
    }

    /// Whether nothing passes between the parties.
    pub(super) fn parted(&self, now: Instant, parties: Parties<'_>) -> bool {
        self.matching(now, parties).any(|rule| rule.fault == Fault::Partition)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn matching<'a>(&'a self, now: Instant, parties: Parties<'a>) -> impl Iterator<Item = &'a Rule> {
        self.list
            .iter()
            .filter(move |(rule, active)| {
                active.get() && rule.from <= now && now < rule.until && rule.scope.covers(parties)
            })
            .map(|(rule, _)| rule)
    }
}

impl Rule {
    fn hits(&self, rng: &mut Rng) -> bool {
        self.permille >= 1_000 || rng.below(1_000) < u64::from(self.permille)
    }
}

impl Scope {
    fn covers(&self, parties: Parties<'_>) -> bool {
        let Parties { client, server, address } = parties;
        match self {
            Self::Everywhere => true,
            Self::To(to) => to == address,
            Self::Node(node) => client == *node || server == Some(*node),
            Self::Across(left, right) => server.is_some_and(|server| {
                (left.contains(&client) && right.contains(&server))
                    || (left.contains(&server) && right.contains(&client))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_holds_within_its_scope_its_window_and_its_guard() {
        let address = Address::from(std::net::SocketAddr::from(([10, 0, 0, 1], 80)));
        let elsewhere = Address::from(std::net::SocketAddr::from(([10, 0, 0, 2], 80)));
        let (mut rules, mut rng) = (Rules::default(), Rng::new(0));
        let (early, within, late) = (Instant::from_millis(1), Instant::from_millis(5), Instant::from_millis(10));
        let to = |address| Parties { client: NodeId(0), server: None, address };
        let rule = Rule::new(Scope::To(address.clone()), Fault::FailConnect(IoFault::Refused)).during(within, late);
        let guard = rules.add(rule);
        let refuse = Verdict::Fail(IoFault::Refused);
        assert_eq!(rules.connect(&mut rng, early, to(&address)), Verdict::Pass);
        assert_eq!(rules.connect(&mut rng, within, to(&address)), refuse);
        assert_eq!(rules.connect(&mut rng, within, to(&elsewhere)), Verdict::Pass);
        assert_eq!(rules.connect(&mut rng, late, to(&address)), Verdict::Pass);
        guard.clear();
        assert_eq!(rules.connect(&mut rng, within, to(&address)), Verdict::Pass);
    }

    #[test]
    fn a_partition_works_both_ways_and_spares_the_others() {
        let address = Address::from(std::net::SocketAddr::from(([10, 0, 0, 1], 80)));
        let mut rules = Rules::default();
        let [a, b, c] = [NodeId(0), NodeId(1), NodeId(2)];
        rules.add(Rule::new(Scope::Across(vec![a], vec![b]), Fault::Partition)).keep();
        let parted =
            |client, server| rules.parted(Instant::ZERO, Parties { client, server: Some(server), address: &address });
        assert!(parted(a, b));
        assert!(parted(b, a));
        assert!(!parted(a, c));
        assert!(!parted(a, a));
    }

    #[test]
    fn chance_is_kept_roughly() {
        let address = Address::from(std::net::SocketAddr::from(([10, 0, 0, 1], 80)));
        let (mut rules, mut rng) = (Rules::default(), Rng::new(3));
        rules.add(Rule::new(Scope::Everywhere, Fault::BlackholeConnect).chance(250)).keep();
        let parties = Parties { client: NodeId(0), server: None, address: &address };
        let hits = (0..4_000).filter(|_| rules.connect(&mut rng, Instant::ZERO, parties) == Verdict::Swallow).count();
        assert!((900..1_100).contains(&hits), "{hits}");
    }
}
