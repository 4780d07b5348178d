//! Counters of one worker. See the crate's documentation for why each worker has its own.

use std::sync::Arc;

use weir_core::{Phase, Reason};

use crate::{ByReason, ByStatus, Counter, Ended, Gauge, Histogram, Record};

/// Why a connection to an endpoint was closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum CloseReason {
    /// Idle for longer than the idle time-out.
    IdleTimeout = 0,
    /// Older than its lifetime.
    Lifetime = 1,
    /// Used as often as allowed.
    Uses = 2,
    /// More idle connections than wanted.
    Surplus = 3,
    /// The endpoint closed it, while idle or by `Connection: close`.
    Peer = 4,
    /// It broke, or an exchange on it ended early.
    Error = 5,
    /// The endpoint was removed, went down or is draining.
    EndpointGone = 6,
    /// Weir is stopping.
    Shutdown = 7,
}

/// Every [`CloseReason`] with its label, in order.
pub const CLOSE_REASONS: [(CloseReason, &str); 8] = [
    (CloseReason::IdleTimeout, "idle_timeout"),
    (CloseReason::Lifetime, "lifetime"),
    (CloseReason::Uses, "uses"),
    (CloseReason::Surplus, "surplus"),
    (CloseReason::Peer, "peer"),
    (CloseReason::Error, "error"),
    (CloseReason::EndpointGone, "endpoint_gone"),
    (CloseReason::Shutdown, "shutdown"),
];

/// One worker. Fields are written by that worker only; anybody may read them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerStats {
    /// Client connections accepted.
    pub accepted: Counter,
    /// Client connections open at present.
    pub open: Gauge,
    /// Client connections refused because a maximum was reached.
    pub rejected: Counter,
    /// `accept` failed (out of descriptors and the like).
    pub accept_errors: Counter,
    /// Requests at work at present: from the complete head to the end.
    pub in_flight: Gauge,
    /// Requests ended, by class of status ([`WorkerStats::record`]).
    pub requests: ByStatus,
    /// Requests and TCP sessions that did not complete, by reason ([`WorkerStats::record`]).
    pub reasons: ByReason,
    /// Microseconds spent in each phase by all requests, by [`Phase`] ([`WorkerStats::record`]).
    pub phase_us: [Counter; Phase::ALL.len()],
    /// From the first byte of a request to its end ([`WorkerStats::record`]).
    pub request_time: Histogram,
    /// Bytes received from clients in ended requests ([`WorkerStats::record`]).
    pub bytes_in: Counter,
    /// Bytes sent to clients in ended requests ([`WorkerStats::record`]).
    pub bytes_out: Counter,
    /// Attempts after the first one.
    pub retries: Counter,
    /// Retries that the budget forbade.
    pub retries_denied: Counter,
    /// Picks that ignored health because too few endpoints were usable.
    pub panic_picks: Counter,
    /// Connections upgraded to a tunnel (`101`, `CONNECT`).
    pub tunnels: Counter,
    /// Tunnels open at present.
    pub tunnels_open: Gauge,
    /// TCP sessions ended ([`WorkerStats::record_tcp`]).
    pub tcp_sessions: Counter,
    /// TCP sessions open at present.
    pub tcp_open: Gauge,
    /// Bytes received from clients in ended TCP sessions ([`WorkerStats::record_tcp`]).
    pub tcp_bytes_in: Counter,
    /// Bytes sent to clients in ended TCP sessions ([`WorkerStats::record_tcp`]).
    pub tcp_bytes_out: Counter,
    /// Requests that found an idle connection.
    pub pool_reused: Counter,
    /// Connections opened for requests or ahead of demand.
    pub pool_opened: Counter,
    /// Connections closed ([`WorkerStats::pool_closed`]).
    pub pool_closed: [Counter; CLOSE_REASONS.len()],
    /// Requests that had to wait for a place.
    pub pool_waits: Counter,
    /// How long they waited, successful or not.
    pub pool_wait_time: Histogram,
    /// Times the event loop woke up.
    pub loop_wakeups: Counter,
    /// Events handled.
    pub loop_events: Counter,
    /// Messages received from other threads.
    pub loop_messages: Counter,
}

impl WorkerStats {
    /// Counters at zero.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Counts an ended HTTP request: status, reason, bytes, time and the time per phase.
    #[inline]
    pub fn record(&self, ended: &Ended<'_>) {
        self.requests.inc(ended.status);
        if let Some(reason) = ended.reason {
            self.reasons.inc(reason);
        }
        self.bytes_in.add(ended.bytes_in);
        self.bytes_out.add(ended.bytes_out);
        let mut before = 0;
        for phase in Phase::ALL {
            let end = ended.times.end_us(phase).unwrap_or(0);
            if end > before {
                self.phase_us[phase as usize].add(u64::from(end - before));
                before = end;
            }
        }
        self.request_time.observe(before);
    }

    /// Counts an ended TCP session.
    #[inline]
    pub fn record_tcp(&self, record: &Record<'_>) {
        self.tcp_sessions.inc();
        self.tcp_bytes_in.add(record.bytes_in);
        self.tcp_bytes_out.add(record.bytes_out);
        if let Some(reason) = record.reason {
            self.reasons.inc(reason);
        }
    }

    /// Counts a connection to an endpoint that was closed.
    #[inline]
    pub fn pool_closed(&self, reason: CloseReason) {
        self.pool_closed[reason as usize].inc();
    }

    /// The number of ends with `reason` so far.
    pub fn ended_by(&self, reason: Reason) -> u64 {
        self.reasons.get(reason)
    }
}
