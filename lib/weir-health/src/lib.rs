//! Active health checks: when to probe, and what the answers say.
#![forbid(unsafe_code)]

mod checker;
mod evaluate;
mod params;

pub use checker::{Checker, Output, PROBES_IN_FLIGHT_MAX, ProbeId, ProbeKind};
pub use evaluate::{BODY_PREFIX_MAX_BYTES, ProbeFailure, evaluate_http};
pub use params::{HttpProbe, Params, StatusRange};
