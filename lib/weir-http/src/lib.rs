//! HTTP/1.1 as bytes in and events out: heads, framing, bodies, with the hardening of an intermediary.
#![forbid(unsafe_code)]

mod limits;

pub use limits::Limits;
