//! The machine under every pool of Weir: slots, idle connections, lifetimes, warm-up, trimming.
#![forbid(unsafe_code)]

mod params;

pub use params::Params;
