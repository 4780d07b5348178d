//! The listeners of the control thread: the observation listener, and the grantor of budgets ([`serve_grantor`]).
//!
//! The observation listener says what Weir is doing, to scrapers, orchestrators and people. It is read-only.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | all metrics, Prometheus text 0.0.4 or (by `Accept`) `OpenMetrics` 1.0 |
//! | `/live` | 200 as long as the process answers |
//! | `/ready` | 200, or 503 with the reason while new traffic is not welcome |
//! | `/clusters`, `/clusters/{name}` | clusters and endpoints as JSON |
//! | `/version` | the build as JSON |
//! | `/` | a page that lists these |
//!
//! Deliberately absent from it: anything that changes state, authentication (bind it to a loopback or management
//! address), CORS. It runs on a runtime of the caller's, never on a worker, and reads what the workers
//! publish; a scrape takes no lock that a worker could wait for.
//!
//! Bounds: [`MAX_CONNECTIONS`] connections, [`MAX_HEAD_BYTES`] and [`MAX_HEADERS`] per request head,
//! [`HEAD_TIMEOUT`] for a head (and for the pause between two requests), [`WRITE_TIMEOUT`] for a client
//! that does not read.
#![forbid(unsafe_code)]

mod accept;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod grantor;
mod routes;
mod server;
mod stream;
#[cfg(test)]
mod tests;
mod view;

pub use grantor::{CLAIM_BYTES, Grantors, serve_grantor};
pub use server::{HEAD_TIMEOUT, MAX_CONNECTIONS, MAX_HEAD_BYTES, MAX_HEADERS, SHUTDOWN_TIMEOUT, WRITE_TIMEOUT, serve};
pub use view::{NotReady, Readiness, View};
