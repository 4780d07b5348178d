//! Why a caller got no connection of any endpoint.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use weir_core::Address;

use crate::error::{AcquireError, Refused};

use super::snapshot::EndpointsSnapshot;

/// No connection: for how long the caller waited, what the endpoints looked like, and what the last pool that it was sent to said.
#[derive(Debug)]
pub struct EndpointsError<E>(Box<Details<E>>);

#[derive(Debug)]
struct Details<E> {
    refused: Refused,
    waited: Duration,
    moves: u32,
    last: Option<AcquireError<E>>,
    snapshot: EndpointsSnapshot,
}

impl<E> EndpointsError<E> {
    pub(super) fn new(
        refused: Refused,
        waited: Duration,
        moves: u32,
        last: Option<AcquireError<E>>,
        snapshot: EndpointsSnapshot,
    ) -> Self {
        Self(Box::new(Details { refused, waited, moves, last, snapshot }))
    }

    /// Why.
    pub fn refused(&self) -> Refused {
        self.0.refused
    }

    /// How long the caller waited.
    pub fn waited(&self) -> Duration {
        self.0.waited
    }

    /// How often it was turned away, since its endpoint could not be used any more.
    pub fn moves(&self) -> u32 {
        self.0.moves
    }

    /// What the last pool said that it was sent to; if it was sent to none, one whose connects fail.
    pub fn last(&self) -> Option<&AcquireError<E>> {
        self.0.last.as_ref()
    }

    /// After [`Refused::Overload`]: for how long asking again is in vain, as the last pool says.
    pub fn retry_after(&self) -> Option<Duration> {
        self.last().and_then(AcquireError::retry_after)
    }

    /// The last failure to open a connection there, if connects are failing.
    pub fn cause(&self) -> Option<&E> {
        self.last().and_then(AcquireError::cause)
    }

    /// The endpoints at that moment.
    pub fn snapshot(&self) -> &EndpointsSnapshot {
        &self.0.snapshot
    }
}

impl<E: fmt::Display> fmt::Display for EndpointsError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { refused, waited, moves, last, snapshot } = &*self.0;
        let name = &snapshot.name;
        match refused {
            Refused::TimedOut => {
                write!(f, "no connection of {name:?} after {:.3} s", waited.as_secs_f64())?;
            }
            Refused::Down => write!(f, "no connection of {name:?}: no endpoint can be reached")?,
            Refused::Overload => write!(f, "no connection of {name:?}: overloaded")?,
            Refused::LineFull | Refused::NoneIdle => write!(f, "no connection of {name:?}: too many callers wait")?,
            Refused::Closed => return write!(f, "{name:?} is closed"),
        }
        let usable = snapshot.usable();
        write!(f, ": {usable} of {} endpoints can be used", snapshot.endpoints.len())?;
        if *moves > 0 {
            write!(f, ", turned away {moves} times")?;
        }
        if let Some(last) = last {
            write!(f, "; {last}")?;
        }
        Ok(())
    }
}

impl<E: Error + 'static> Error for EndpointsError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().map(|cause| cause as &(dyn Error + 'static))
    }
}

/// Two endpoints of one list have the same address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DuplicateEndpoint(pub Address);

impl fmt::Display for DuplicateEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is in the list twice", self.0)
    }
}

impl Error for DuplicateEndpoint {}
