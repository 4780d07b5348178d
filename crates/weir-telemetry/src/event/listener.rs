//! Events of listeners.

use std::fmt::Display;

use super::Kind;
use super::limiter::Limiter;

/// A listener accepts connections.
#[derive(Debug)]
pub struct ListenerStarted<'a, A> {
    /// Listener name.
    pub listener: &'a str,
    /// Where.
    pub address: A,
    /// What is spoken: `http`, `tcp`, `metrics`.
    pub protocol: &'a str,
}

/// A listener is closed.
#[derive(Debug)]
pub struct ListenerStopped<'a> {
    /// Listener name.
    pub listener: &'a str,
}

/// Accepting a connection failed, mostly because descriptors ran out.
#[derive(Debug)]
pub struct AcceptFailed<'a, E> {
    /// Listener name.
    pub listener: &'a str,
    /// What happened.
    pub error: E,
}

impl<A: Display> ListenerStarted<'_, A> {
    /// Logs (INFO) and counts.
    pub fn emit(&self) {
        Kind::ListenerStarted.inc();
        tracing::info!(
            listener = self.listener,
            address = %self.address,
            protocol = self.protocol,
            "listening"
        );
    }
}

impl ListenerStopped<'_> {
    /// Logs (INFO) and counts.
    pub fn emit(&self) {
        Kind::ListenerStopped.inc();
        tracing::info!(listener = self.listener, "listener closed");
    }
}

impl<E: Display> AcceptFailed<'_, E> {
    /// Counts, and logs (WARN) at most once a second in the whole process.
    pub fn emit(&self) {
        static LIMITER: Limiter = Limiter::new();
        Kind::AcceptFailed.inc();
        if let Some(held_back) = LIMITER.admit() {
            tracing::warn!(
                listener = self.listener,
                error = %self.error,
                held_back,
                "connections cannot be accepted"
            );
        }
    }
}
