//! Passive ejection.
#![allow(unused_variables, clippy::unimplemented, dead_code)]
use crate::OutlierParams;
use weir_core::{EndpointId, Instant};

/// Failures in a row of one endpoint, counted by all workers.
#[derive(Debug, Default)]
pub struct ConsecutiveFailures(std::sync::atomic::AtomicU32);

impl ConsecutiveFailures {
    /// None yet.
    pub const fn new() -> Self {
        unimplemented!()
    }
    /// A request succeeded. One load when there were no failures.
    pub fn record_success(&self) {
        unimplemented!()
    }
    /// A request failed; returns how many have in a row, this one included.
    pub fn record_failure(&self) -> u32 {
        unimplemented!()
    }
    /// Starts from zero (when the endpoint is ejected or restored).
    pub fn reset(&self) {
        unimplemented!()
    }
}

/// Decides which endpoints of a cluster are taken out, and for how long.
pub struct Detector {
    params: OutlierParams,
}

/// What the owner must do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Give it no new traffic.
    Eject {
        /// Which.
        endpoint: EndpointId,
        /// For how long, unless it is restored earlier.
        until: Instant,
        /// The how-manieth ejection in a row this is.
        nth: u32,
    },
    /// Give it traffic again.
    Restore {
        /// Which.
        endpoint: EndpointId,
    },
}

impl Detector {
    /// No endpoints yet.
    pub fn new(params: OutlierParams) -> Self {
        unimplemented!()
    }
    /// Changes the settings.
    pub fn set_params(&mut self, params: OutlierParams, now: Instant) {
        unimplemented!()
    }
    /// The endpoints of the cluster are now these.
    pub fn set_endpoints(&mut self, endpoints: &[EndpointId], now: Instant) {
        unimplemented!()
    }
    /// Whether an endpoint is usable but for ejection (health, draining): at least one must stay.
    pub fn handle_usable(&mut self, endpoint: EndpointId, usable: bool, now: Instant) {
        unimplemented!()
    }
    /// One request failed (the detector counts).
    pub fn handle_failure(&mut self, endpoint: EndpointId, now: Instant) {
        unimplemented!()
    }
    /// One request succeeded (the detector counts).
    pub fn handle_success(&mut self, endpoint: EndpointId, now: Instant) {
        unimplemented!()
    }
    /// `count` requests in a row have failed (the data path counts, see [`ConsecutiveFailures`]).
    pub fn handle_consecutive(&mut self, endpoint: EndpointId, count: u32, now: Instant) {
        unimplemented!()
    }
    /// Restores whose time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        unimplemented!()
    }
    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        unimplemented!()
    }
    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        unimplemented!()
    }
    /// Whether it is ejected.
    pub fn is_ejected(&self, endpoint: EndpointId) -> bool {
        unimplemented!()
    }
}
