//! Configuration: text → `Draft` (as written, spans kept) → [`Plan`] (resolved) + diagnostics.
#![forbid(unsafe_code)]

pub mod plan;

pub use plan::Plan;
