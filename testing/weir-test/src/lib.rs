//! Fixtures of Weir's tests: ports, folders, waiting, processes, launchers of real servers, a
//! scripted hostile server, an honest origin server and a raw HTTP/1.1 client.
//!
//! Everything is plain blocking code on threads, so that a test reads from top to bottom and shares no
//! code with what it tests. Fixtures panic with a sentence that says what was expected and what was
//! seen: a fixture that cannot do its work is a failed test, never a skipped one.
//!
//! | to | use |
//! |---|---|
//! | get a port or a folder | [`free_port`], [`TempDir`] |
//! | wait | [`eventually`]: a level with a deadline, never a sleep for luck |
//! | run a program | [`Process`] |
//! | run Weir, nginx, HAProxy | [`Weir`], [`Nginx`], [`Haproxy`] |
//! | grant budgets | [`Grantor`] |
//! | run PostgreSQL, MariaDB, Redis | [`Postgres`], [`Mariadb`], [`Redis`] |
//! | have a network on which packets vanish | [`Cable`] |
//! | be a well-behaved endpoint | [`Origin`] |
//! | be a hostile endpoint | [`Hostile`] with [`Step`]s |
//! | be a client | [`Client`] |
//! | be many clients | [`Load`] |
//!
//! ```
//! use weir_test::{Client, Origin};
//!
//! let origin = Origin::named("a");
//! let mut client = Client::local(origin.port());
//! assert_eq!(client.get("/").unwrap().text(), "a");
//! assert_eq!(origin.answered(), 1);
//! ```

#![allow(clippy::print_stderr, reason = "what a failed test needs is shown beside its panic")]

mod cable;
mod client;
mod dir;
mod eventually;
mod hostile;
mod launch;
mod load;
mod namespace;
mod origin;
mod port;
mod process;
mod response;

pub use cable::{Cable, Outage};
pub use client::{Client, ClientError};
pub use dir::TempDir;
pub use eventually::{Level, eventually};
pub use hostile::{Hostile, Step};
pub use launch::{Grantor, Haproxy, Mariadb, Nginx, Postgres, Redis, Weir, WeirOptions, weir_binary};
pub use load::{Load, LoadOptions, Tally};
pub use origin::{Origin, Reply, Request};
pub use port::free_port;
pub use process::Process;
pub use response::{Head, Response};

/// How long fixtures wait for something that ought to happen at once: long enough for a loaded
/// machine, short enough for a failing test to end.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
