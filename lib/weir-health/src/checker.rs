//! The machine.
#![allow(unused_variables, clippy::unimplemented, dead_code)]
use crate::{Params, ProbeFailure};
use weir_core::{EndpointId, Health, Instant};

/// Probes of one cluster in flight at a time.
pub const PROBES_IN_FLIGHT_MAX: usize = 64;

/// Decides when to probe the endpoints of a cluster and what the answers mean.
pub struct Checker {
    params: Params,
}

/// One probe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProbeId {
    /// Of which endpoint.
    pub endpoint: EndpointId,
    /// Tells the probes of an endpoint apart.
    pub number: u64,
}

/// How to probe. The details of HTTP are in `Params::http`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProbeKind {
    /// Connect, then close.
    Tcp,
    /// Connect, send the request, judge with `evaluate_http`.
    Http,
}

/// What the owner must do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Start a probe; answer with [`Checker::handle_probe_result`].
    StartProbe(ProbeId, ProbeKind),
    /// The probe's time is over (it has failed) or its endpoint has left: close its connection.
    AbandonProbe(ProbeId),
    /// Publish the endpoint's health.
    Changed(EndpointId, Health),
    /// The start is over: endpoints without an answer are no longer usable. Ask `is_usable` again.
    Settled,
}

impl Checker {
    /// No endpoints yet.
    pub fn new(params: Params) -> Self {
        unimplemented!()
    }
    /// Changes the settings.
    pub fn set_params(&mut self, params: Params, now: Instant) {
        unimplemented!()
    }
    /// The endpoints of the cluster are now these. The first non-empty set is the start.
    pub fn set_endpoints(&mut self, endpoints: &[EndpointId], now: Instant, seed: u64) {
        unimplemented!()
    }
    /// A probe was answered. Late answers of abandoned probes are ignored.
    pub fn handle_probe_result(
        &mut self,
        probe: ProbeId,
        now: Instant,
        result: Result<(), ProbeFailure>,
    ) {
        unimplemented!()
    }
    /// The data path's connection was refused: down at once, probed again soon.
    pub fn handle_refused(&mut self, endpoint: EndpointId, now: Instant) {
        unimplemented!()
    }
    /// Starts what is due, fails what is late.
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
    /// The state; `Unknown` for an endpoint not in the set.
    pub fn health(&self, endpoint: EndpointId) -> Health {
        unimplemented!()
    }
    /// Whether it may get new traffic.
    pub fn is_usable(&self, endpoint: EndpointId, now: Instant) -> bool {
        unimplemented!()
    }
    /// Why the last probe failed; `None` if it succeeded or none was answered.
    pub fn last_failure(&self, endpoint: EndpointId) -> Option<ProbeFailure> {
        unimplemented!()
    }
}
