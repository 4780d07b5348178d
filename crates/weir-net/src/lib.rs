//! The I/O engine: the one crate of Weir that touches sockets.
//!
//! A worker owns its loop and everything in it. Protocols implement [`Protocol`] against [`Io`]; the
//! drivers ([`epoll`] for production, [`mem`] for tests and simulation, in virtual time) call them.

mod contract;
pub mod epoll;
pub mod exec;
mod listen;
mod mailbox;
pub mod mem;
mod process;

pub use contract::{
    Close, ConnId, ConnectOptions, Detached, FLUSH_FACTOR, Io, IoFault, ListenerId, Piece, Protocol, PumpEnd, Sent,
};
pub use listen::{Bound, ListenError, ListenOptions, SocketFile, bind_listener};
pub use mailbox::{Mailbox, Sender, Undelivered, Wake};
pub use process::{PrivilegeError, check_user, drop_privileges, raise_nofile};
