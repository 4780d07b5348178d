//! Why a caller got no connection, with what it needs to know about the pool.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::snapshot::Snapshot;

/// Why nothing was lent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refused {
    /// The caller's time is over.
    TimedOut,
    /// No connection is open and connects have failed for long: waiting would be in vain.
    Down,
    /// Too many callers wait.
    LineFull,
    /// The caller would have been served too late, or the line stands: [`Builder::admission`](crate::Builder::admission).
    Overload,
    /// [`Pool::try_acquire`](crate::Pool::try_acquire) found no idle connection, or others before it in line.
    NoneIdle,
    /// The pool is closed.
    Closed,
}

/// No connection: where it was asked for, for how long, what the pool looked like, and what failed last.
#[derive(Debug)]
pub struct AcquireError<E>(pub(crate) Box<Details<E>>);

#[derive(Debug)]
pub(crate) struct Details<E> {
    pub(crate) refused: Refused,
    /// Where it was asked for.
    pub(crate) at: Option<&'static Location<'static>>,
    pub(crate) waited: Duration,
    pub(crate) snapshot: Snapshot,
    /// The last failure to open a connection or to make one ready, and how long ago.
    pub(crate) cause: Option<(Failure<E>, Duration)>,
    pub(crate) retry_after: Option<Duration>,
}

/// How a connect, a check or another step on the way to a user failed.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    Error(Arc<E>),
    /// It was given up after this long.
    NoAnswer(Duration),
    /// The manager's code panicked.
    Panicked,
}

impl<E> Clone for Failure<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Error(error) => Self::Error(Arc::clone(error)),
            Self::NoAnswer(after) => Self::NoAnswer(*after),
            Self::Panicked => Self::Panicked,
        }
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::NoAnswer(after) => write!(f, "no answer within {:.3} s", after.as_secs_f64()),
            Self::Panicked => f.write_str("the manager has panicked"),
        }
    }
}

impl<E> AcquireError<E> {
    /// Why.
    pub fn refused(&self) -> Refused {
        self.0.refused
    }

    /// Where the caller asked: the file and line of its call. `None` for what is not a call for one connection (a warm-up, a start).
    pub fn asked_at(&self) -> Option<&'static Location<'static>> {
        self.0.at
    }

    /// How long the caller waited.
    pub fn waited(&self) -> Duration {
        self.0.waited
    }

    /// The pool at that moment.
    pub fn snapshot(&self) -> &Snapshot {
        &self.0.snapshot
    }

    /// After [`Refused::Overload`]: for how long asking again is in vain, judged by how fast the line moves now.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The last failure to open a connection or to make one ready for its user, if such are failing. `None` also if it was given up
    /// without an answer: that is in the text.
    pub fn cause(&self) -> Option<&E> {
        match &self.0.cause {
            Some((Failure::Error(error), _)) => Some(error),
            Some((Failure::NoAnswer(_) | Failure::Panicked, _)) | None => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for AcquireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.0.snapshot.name;
        match self.0.refused {
            Refused::TimedOut => {
                write!(f, "no connection of pool {name:?} after {:.3} s", self.0.waited.as_secs_f64())?;
            }
            Refused::Down => write!(f, "no connection of pool {name:?}: connects have been failing for long")?,
            Refused::LineFull => write!(f, "no connection of pool {name:?}: too many callers wait")?,
            Refused::Overload => {
                let after = self.0.retry_after.unwrap_or_default();
                write!(f, "no connection of pool {name:?}: overloaded, ask again after {:.3} s", after.as_secs_f64())?;
            }
            Refused::NoneIdle => write!(f, "no idle connection of pool {name:?}")?,
            Refused::Closed => return write!(f, "pool {name:?} is closed"),
        }
        if let Some(at) = self.0.at {
            write!(f, ", asked for at {at}")?;
        }
        write!(f, ": {}", self.0.snapshot)?;
        if let Some((cause, ago)) = &self.0.cause {
            write!(f, "; last failure {:.1} s ago: {cause}", ago.as_secs_f64())?;
        }
        Ok(())
    }
}

impl<E: Error + 'static> Error for AcquireError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().map(|cause| cause as &(dyn Error + 'static))
    }
}

/// Why a pool did not start.
#[derive(Debug)]
pub enum StartError<E> {
    /// Settings contradict each other.
    Settings(crate::SettingsError),
    /// No connection could be opened: the state of the pool, and why the last connect failed.
    Connect(AcquireError<E>),
}

impl<E> From<crate::SettingsError> for StartError<E> {
    fn from(error: crate::SettingsError) -> Self {
        Self::Settings(error)
    }
}

impl<E> From<AcquireError<E>> for StartError<E> {
    fn from(error: AcquireError<E>) -> Self {
        Self::Connect(error)
    }
}

impl<E: fmt::Display> fmt::Display for StartError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(error) => write!(f, "the pool's settings: {error}"),
            Self::Connect(error) => write!(f, "the pool did not start: {error}"),
        }
    }
}

impl<E: Error + 'static> Error for StartError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Settings(error) => Some(error),
            Self::Connect(error) => Some(error),
        }
    }
}
