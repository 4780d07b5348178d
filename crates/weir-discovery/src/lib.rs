//! Discovery: which addresses stand behind what the configuration names.
//!
//! One table, [`SOURCES`], one file per row under `source/`. [`run`] follows any number of sources and
//! sends an [`Update`] for each change; it is ordinary tokio, for the control runtime, never for a
//! worker. When to ask again is decided by a machine without I/O, [`Schedule`].
//!
//! Invariants: a good answer is never thrown away because of a bad one, a name is never looked up once
//! and for all, and the addresses of an update are in rising order without duplicates, so that the
//! same answer is always the same value.
//!
//! Absent by intent: health (an address that was announced may be down), weights and names of endpoints
//! (the configuration has them).
#![forbid(unsafe_code)]

mod resolver;
mod run;
mod schedule;
mod source;

pub use resolver::{Families, LOOKUP_TIMEOUT, LookupError, Resolver};
pub use run::{CONCURRENT_LOOKUPS, Settings, run};
pub use schedule::{
    Answer, BACKOFF_CEILING, BACKOFF_FLOOR, MAX_ADDRESSES, Outcome, Schedule, ScheduleParams, TTL_CEILING, TTL_FLOOR,
};
pub use source::{Event, Row, SOURCES, Source, SourceId, Spec, Update};
