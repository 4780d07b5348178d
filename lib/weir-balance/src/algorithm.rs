//! The table of algorithms, and the one entry point that builds from it.
//!
//! To add an algorithm: a variant of [`Algorithm`], a file with a `ROW` beside this one, a line in
//! [`ALGORITHMS`] and one in [`Algorithm::row`]. The property tests in `tests/rows.rs` and the example
//! `picks` run over every row, so both follow from the table.

use std::sync::Arc;

use crate::{Algorithm, Balancer, Member, Params};

pub(crate) mod ip_hash;
pub(crate) mod least_connections;
pub(crate) mod maglev;
pub(crate) mod power_of_two;
pub(crate) mod random;
pub(crate) mod ring_hash;
pub(crate) mod round_robin;
pub(crate) mod weighted_round_robin;

/// Constructor of a row: what [`build`] calls.
pub type Build = fn(&Params, Vec<Member>, Option<&dyn Balancer>) -> Arc<dyn Balancer>;

/// Share of the key space that each member owns, in the order given; the sum is 1.
pub type Shares = fn(&Params, &[Member]) -> Vec<f64>;

/// One algorithm.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which one.
    pub algorithm: Algorithm,
    /// The word in the configuration.
    pub name: &'static str,
    /// One line for lists and help.
    pub summary: &'static str,
    /// Whether weights count.
    pub weighted: bool,
    /// Whether the same key goes to the same member: [`crate::Ask::key`] is used.
    pub keyed: bool,
    /// Whether a change of members moves few keys besides those of the changed members.
    pub consistent: bool,
    /// Builds a balancer; see [`build`].
    pub build: Build,
    /// Share of the key space per member, for keyed rows.
    pub shares: Option<Shares>,
}

/// Every algorithm, in the order of [`Algorithm`].
pub const ALGORITHMS: &[Row] = &[
    round_robin::ROW,
    weighted_round_robin::ROW,
    least_connections::ROW,
    random::ROW,
    power_of_two::ROW,
    ip_hash::ROW,
    ring_hash::ROW,
    maglev::ROW,
];

/// Builds the balancer that `params` ask for over `members`.
///
/// `previous` is the balancer that this one replaces; the rotation goes on where that one stands, so
/// that neither a reload nor a change of health restarts it. A previous balancer of another algorithm
/// is accepted and ignored. Positions returned by [`Balancer::pick`] are positions in `members`.
///
/// Cost: up to some milliseconds for a hash table or a ring; this is for the control thread. Values
/// out of range cannot make it panic or run away: each row states its bounds.
///
/// ```
/// use std::sync::Arc;
/// use weir_balance::{Algorithm, Ask, Avoid, Load, Member, Params, build};
/// use weir_core::{EndpointId, Instant, Weight};
///
/// let member = |id, name: &str, weight| Member {
///     id: EndpointId(id),
///     name: name.into(),
///     weight: Weight::new(weight),
///     load: Arc::new(Load::new()),
/// };
/// let params = Params { algorithm: Algorithm::WeightedRoundRobin, ..Params::default() };
/// let balancer = build(&params, vec![member(0, "a", 5), member(1, "b", 1), member(2, "c", 1)], None);
///
/// let ask = Ask { now: Instant::ZERO, worker: 0, key: None, seed: 0, avoid: Avoid::NONE };
/// let picks: Vec<_> = (0..7).filter_map(|_| balancer.pick(&ask)).collect();
/// assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
/// ```
pub fn build(params: &Params, members: Vec<Member>, previous: Option<&dyn Balancer>) -> Arc<dyn Balancer> {
    (params.algorithm.row().build)(params, members, previous)
}

/// The share of the key space that each of `members` owns under `params`, in the order given: what
/// each would get if every key were equally busy. `None` for algorithms that do not use a key.
///
/// Cost: that of a build.
pub fn key_shares(params: &Params, members: &[Member]) -> Option<Vec<f64>> {
    params.algorithm.row().shares.map(|shares| shares(params, members))
}

impl Algorithm {
    /// The row of [`ALGORITHMS`].
    pub fn row(self) -> &'static Row {
        match self {
            Self::RoundRobin => &round_robin::ROW,
            Self::WeightedRoundRobin => &weighted_round_robin::ROW,
            Self::LeastConnections => &least_connections::ROW,
            Self::Random => &random::ROW,
            Self::PowerOfTwo => &power_of_two::ROW,
            Self::IpHash => &ip_hash::ROW,
            Self::RingHash => &ring_hash::ROW,
            Self::Maglev => &maglev::ROW,
        }
    }

    /// The word in the configuration, such as `round_robin`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        ALGORITHMS.iter().find(|row| row.name == name).map(|row| row.algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_enum_agree() {
        for (at, row) in ALGORITHMS.iter().enumerate() {
            assert_eq!(row.algorithm as usize, at, "{}: order of the enum", row.name);
            assert_eq!(row.algorithm.name(), row.name);
            assert_eq!(Algorithm::from_name(row.name), Some(row.algorithm));
            assert_eq!(row.keyed, row.shares.is_some(), "{}", row.name);
            assert!(row.keyed || !row.consistent, "{}", row.name);
            assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
        assert_eq!(Algorithm::Maglev as usize, ALGORITHMS.len() - 1, "the last variant has a row");
        assert_eq!(Algorithm::from_name("no_such"), None);
    }
}
