#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod checker;
mod evaluate;
mod params;

pub use checker::{
    Checker, INTERVAL_MIN, NEWCOMER_PERIOD, Output, PROBES_IN_FLIGHT_MAX, ProbeId, ProbeKind, START_GRACE,
};
pub use evaluate::{BODY_PREFIX_MAX_BYTES, ProbeFailure, evaluate_http};
pub use params::{HttpProbe, Params, StatusRange};
