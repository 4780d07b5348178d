//! Endpoints: an address with a weight in a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::Address;

/// Which cluster: its position in the plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClusterId(pub u32);

/// Which endpoint of its cluster. Given once when the endpoint first appears and never given to
/// another endpoint of the same cluster while the process lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndpointId(pub u32);

/// Counts changes of a published state; a later state has a higher revision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(pub u64);

/// Relative share of traffic, 0 to 65,535. An endpoint of weight 0 receives nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Weight(u16);

impl Weight {
    /// Weight 1, the default.
    pub const ONE: Self = Self(1);

    /// A weight of `value`.
    pub const fn new(value: u16) -> Self {
        Self(value)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

/// What is known of an endpoint's fitness for new traffic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Health {
    /// No probe has answered yet.
    #[default]
    Unknown,
    /// Probes succeed.
    Up,
    /// Probes fail, or a connection was refused.
    Down,
    /// Taken out for a while because of failed requests (passive evidence).
    Ejected,
    /// Leaving: finishes what it has, gets nothing new.
    Draining,
}

impl Health {
    /// The stable lower-case word used in metrics, JSON and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An endpoint as configured or discovered. What happens to it at run time is kept elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The stable name: survives a change of address; hash rings are keyed by it. Defaults to the
    /// address as written in the configuration.
    pub name: Arc<str>,
    /// Where to connect.
    pub address: Address,
    /// Relative share of traffic.
    pub weight: Weight,
    /// Failure domain, such as an availability zone.
    pub zone: Option<Arc<str>>,
    /// Tier: 0 is used first; a higher number only when the lower ones have no usable endpoint.
    pub priority: u8,
    /// Free labels, for selection and display.
    pub tags: BTreeMap<Arc<str>, Arc<str>>,
}

impl Endpoint {
    /// An endpoint that is named as its address, of weight 1 and priority 0.
    pub fn new(address: Address) -> Self {
        Self {
            name: address.to_string().into(),
            address,
            weight: Weight::ONE,
            zone: None,
            priority: 0,
            tags: BTreeMap::new(),
        }
    }
}
