//! A connection in use, and which endpoint it leads to.

use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use weir_core::Endpoint;

use crate::guard::Guard;
use crate::manager::Manager;

use super::view::InFlight;

/// A connection lent by [`EndpointPools`](crate::EndpointPools); dropping it gives it back, as a [`Guard`] does.
#[must_use = "dropping the guard gives the connection back at once"]
pub struct EndpointGuard<M: Manager> {
    // In this order: the connection is back before the endpoint counts as less loaded.
    guard: Guard<M>,
    site: InFlight<M>,
}

impl<M: Manager> EndpointGuard<M> {
    #[inline]
    pub(super) fn new(guard: Guard<M>, site: InFlight<M>) -> Self {
        Self { guard, site }
    }

    /// Where it leads, as the endpoint was described when it was picked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.site.endpoint
    }

    /// As [`Guard::detach`].
    pub fn detach(self) -> M::Connection {
        self.guard.detach()
    }

    /// As [`Guard::discard`].
    pub fn discard(self) {
        self.guard.discard();
    }

    /// As [`Guard::extra`].
    pub fn extra<T: Any + Send + Default>(&mut self) -> &mut T {
        self.guard.extra()
    }

    /// As [`Guard::held`].
    pub fn held(&self) -> Duration {
        self.guard.held()
    }

    /// As [`Guard::age`].
    pub fn age(&self) -> Duration {
        self.guard.age()
    }
}

impl<M: Manager> Deref for EndpointGuard<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.guard
    }
}

impl<M: Manager> DerefMut for EndpointGuard<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        &mut self.guard
    }
}

impl<M: Manager> fmt::Debug for EndpointGuard<M>
where
    M::Connection: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointGuard")
            .field("endpoint", &self.site.endpoint.name)
            .field("conn", &**self)
            .finish_non_exhaustive()
    }
}
