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
///
/// Dropping it says that the use has ended well; if the connection is broken or has to be reset ([`Manager::on_release`]), that
/// says nothing, and the endpoint's answer to the reset counts. That a use has failed is said
/// by [`EndpointGuard::report_failure`] or [`EndpointGuard::discard`]; an endpoint whose uses fail one after another is left out
/// ([`EndpointsBuilder::outliers`](crate::EndpointsBuilder::outliers)).
#[must_use = "dropping the guard gives the connection back at once"]
pub struct EndpointGuard<M: Manager> {
    // In this order: the connection is back before the endpoint counts as less loaded.
    guard: Guard<M>,
    site: InFlight<M>,
    /// That the use has failed is known already.
    reported: bool,
}

impl<M: Manager> EndpointGuard<M> {
    #[inline]
    pub(super) fn new(guard: Guard<M>, site: InFlight<M>) -> Self {
        Self { guard, site, reported: false }
    }

    /// Where it leads, as the endpoint was described when it was picked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.site.endpoint
    }

    /// The use has failed by the endpoint's fault: it did not answer in time, or answered that it cannot serve. Counts once for
    /// each use. The connection comes back as otherwise; if it is not to be used again, [`EndpointGuard::discard`] is enough.
    pub fn report_failure(&mut self) {
        if !std::mem::replace(&mut self.reported, true) {
            self.site.watch.failed();
        }
    }

    /// As [`Guard::detach`]. How the use ends is not known then.
    pub fn detach(mut self) -> M::Connection {
        self.guard.take_out()
    }

    /// As [`Guard::discard`]. Counts as a failure of the endpoint.
    pub fn discard(mut self) {
        self.report_failure();
        self.guard.close();
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

impl<M: Manager> Drop for EndpointGuard<M> {
    #[inline]
    fn drop(&mut self) {
        if self.guard.give_back() && !self.reported {
            self.site.succeeded();
        }
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
