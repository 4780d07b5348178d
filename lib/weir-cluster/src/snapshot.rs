//! What the data path picks from: an immutable list of members and their balancer.

use std::sync::Arc;

use weir_balance::{Ask, Balancer};
use weir_core::Revision;

use crate::EndpointState;

/// One cluster at one moment.
#[derive(Debug)]
pub struct ClusterSnapshot<E> {
    /// Grows with each change.
    pub revision: Revision,
    /// Every endpoint, usable or not.
    pub endpoints: Vec<Arc<EndpointState<E>>>,
    /// Those that get traffic, in the order of the balancer's positions.
    pub members: Vec<Arc<EndpointState<E>>>,
    /// How many endpoints would get traffic if health were not ignored.
    pub usable: u32,
    /// Chooses among the members.
    pub balancer: Arc<dyn Balancer>,
    /// Too few endpoints are usable: health is ignored and all of them get traffic.
    pub panic: bool,
}

impl<E> ClusterSnapshot<E> {
    /// The position (in [`ClusterSnapshot::members`]) of the endpoint for a request; `None` if there is none, or
    /// all are avoided.
    pub fn pick(&self, ask: &Ask) -> Option<usize> {
        self.balancer.pick(ask)
    }
}
