//! What a pool must know of its connections.

use std::error::Error;
use std::future::{Future, ready};
use std::time::Duration;

use crate::settings::VALIDATE_AFTER;

/// How connections of one kind are opened, looked at and closed. The pool calls nothing of it while it holds its lock, and
/// bounds every wait.
///
/// Only [`Manager::connect`] and [`Manager::check`] must be written.
pub trait Manager: Send + Sync + 'static {
    /// A connection.
    type Connection: Send + 'static;
    /// Why one cannot be opened, or is dead.
    type Error: Error + Send + Sync + 'static;

    /// Opens a connection. Given up after [`Builder::connect_timeout`](crate::Builder::connect_timeout): the future is dropped,
    /// and must close what it has opened.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Whether the connection is alive: a round trip. An error closes it. Called for connections that nobody has used for a
    /// while, before they are lent and to keep them alive.
    fn check(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Whether the connection is known to be dead, without a round trip. Asked when it comes back and before it is lent; must be
    /// quick.
    fn is_broken(&self, connection: &mut Self::Connection) -> bool {
        let _ = connection;
        false
    }

    /// After how long without a use a connection is checked before it is lent, if the builder does not say
    /// ([`Builder::validate_after`](crate::Builder::validate_after)); `None` = never. 500 ms unless the manager knows better: less
    /// where [`Manager::is_broken`] cannot know that the other side has closed, more where it always does.
    fn validate_after(&self) -> Option<Duration> {
        Some(VALIDATE_AFTER)
    }

    /// Prepares a connection for its next user, within the caller's deadline. An error closes it, and the caller gets another.
    fn on_acquire(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = connection;
        ready(Ok(()))
    }

    /// What becomes of a connection whose user is done. Called where the guard is dropped; not while a panic unwinds, nor for
    /// one that was evicted: those are closed. Must be quick.
    fn on_release(&self, connection: &mut Self::Connection) -> Release {
        let _ = connection;
        Release::Keep
    }

    /// Brings a connection back to where it started, after [`Release::Reset`]: before its next user gets it, within that
    /// one's deadline. An error closes it.
    fn reset(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = connection;
        ready(Ok(()))
    }

    /// Closes a connection in an orderly way; bounded by [`Builder::close_timeout`](crate::Builder::close_timeout). Dropped
    /// without this if the runtime ends first.
    fn close(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send {
        drop(connection);
        ready(())
    }
}

/// What becomes of a connection that comes back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Release {
    /// It is as good as new.
    Keep,
    /// [`Manager::reset`] must be called before the next use.
    Reset,
    /// It must not be used again.
    Close,
}
