//! `weir-pool` against real servers: PostgreSQL, MariaDB, Redis and HTTP servers that the tests start themselves. The tests
//! are a crate of their own so that those of the pool need no driver of any database.
//!
//! Here is what they share; `tests/` has a file per server, and `src/bin/` what prints figures.

mod canary;
mod crowd;
mod full;
mod hole;
mod knee;
mod load;
mod overload;
mod shares;
mod words;

pub use canary::Canary;
pub use crowd::{Crowd, Figures};
pub use full::full_server;
pub use hole::{HoleFigures, black_hole, join};
pub use knee::{BOUNDS, Callers, KEEP, Point, Rate, Second, Settled, Sweep, Workload};
pub use load::Load;
pub use overload::{Outcome, Overload, capacity, echo_pool};
pub use shares::{LOADS, Member, Phase, Split, Waits};
pub use words::{ENDLESS, SLOW_ECHO, pass, until};
