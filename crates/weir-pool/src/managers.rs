//! Managers for servers that are met everywhere. Each is behind a feature of its name, off by default.
//!
//! They share three rules. A connection is never lent while an answer to its last user is still on its way; what a user
//! leaves behind (an open transaction, a session's settings) is dealt with as the manager was told; who logs in is asked
//! anew for each connect ([`Credentials`]), so a password changes without a new pool.

mod credentials;
#[cfg(any(feature = "http1", feature = "postgres", feature = "redis"))]
mod driver;

pub use credentials::{Credentials, CredentialsError, Login, LoginCell};

#[cfg(feature = "http1")]
pub mod http1;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "tcp")]
pub mod tcp;

/// What a manager of a database does with what a user has left behind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Reset {
    /// Nothing: an open transaction goes to the next user. For a program that takes care of that itself.
    Nothing,
    /// An open transaction is rolled back. What a session was told by `SET` stays. As HikariCP does.
    #[default]
    Transaction,
    /// Besides, the session is brought back to where it started: settings, temporary tables, locks. Costs a round trip before
    /// each use that follows a use.
    Session,
}
