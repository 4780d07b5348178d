//! Counters of one endpoint, in one shard per worker.
//!
//! The sum over the shards is the endpoint's truth. A shard is written by its worker only.

use std::sync::Arc;

use weir_core::{Phase, PhaseTimes, Reason};

use crate::record::last_end_us;
use crate::{ByReason, ByStatus, Counter, Gauge, Histogram, Snapshot};

/// One endpoint. Lives as long as the endpoint does, over reloads of the configuration.
#[derive(Debug)]
pub struct EndpointStats {
    shards: Box<[EndpointShard]>,
}

/// What one worker has seen of one endpoint. Fields are written by that worker only.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct EndpointShard {
    /// Responses by class of status ([`EndpointShard::responded`]).
    pub responses: ByStatus,
    /// Failed attempts by reason.
    pub failures: ByReason,
    /// Attempts that followed a failed one at another endpoint.
    pub retries_to: Counter,
    /// Bytes given to the endpoint.
    pub bytes_sent: Counter,
    /// Bytes received from the endpoint.
    pub bytes_received: Counter,
    /// Connections established.
    pub connects: Counter,
    /// Connections open at present, idle ones included.
    pub connections_open: Gauge,
    /// Connections idle at present.
    pub connections_idle: Gauge,
    /// Time to establish a connection.
    pub connect_time: Histogram,
    /// From the first byte given to the endpoint to its complete response head.
    pub head_time: Histogram,
    /// From the first byte given to the endpoint to the last byte relayed.
    pub whole_time: Histogram,
}

// === impl EndpointStats ===

impl EndpointStats {
    /// Counters at zero for `workers` workers (at least one shard is made).
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self { shards: (0..workers.max(1)).map(|_| EndpointShard::default()).collect() })
    }

    /// The shard of worker number `worker`, counted from 0. A number beyond those given to
    /// [`EndpointStats::new`] shares the last shard (counts may then be lost, nothing worse).
    #[inline]
    pub fn shard(&self, worker: usize) -> &EndpointShard {
        &self.shards[worker.min(self.shards.len() - 1)]
    }

    /// All shards.
    pub fn shards(&self) -> &[EndpointShard] {
        &self.shards
    }

    /// The sum of what `pick` reads over all shards.
    pub fn sum(&self, pick: impl Fn(&EndpointShard) -> u64) -> u64 {
        self.shards.iter().map(pick).fold(0, u64::wrapping_add)
    }

    /// The sum of a gauge over all shards; not below zero.
    pub fn gauge(&self, pick: impl Fn(&EndpointShard) -> &Gauge) -> u64 {
        let sum: i64 = self.shards.iter().map(|shard| pick(shard).get()).sum();
        u64::try_from(sum).unwrap_or(0)
    }

    /// One histogram over all shards.
    pub fn histogram(&self, pick: impl Fn(&EndpointShard) -> &Histogram) -> Snapshot {
        let mut all = Snapshot::EMPTY;
        for shard in &self.shards {
            all.merge(pick(shard));
        }
        all
    }
}

// === impl EndpointShard ===

impl EndpointShard {
    /// Counts an exchange in which this endpoint's final response head was relayed, complete or cut
    /// short afterwards. Call it once, at the end of the exchange.
    #[inline]
    pub fn responded(&self, status: u16, times: &PhaseTimes) {
        self.responses.inc(status);
        let begin = last_end_us(times, Phase::Connect);
        let head = times.end_us(Phase::Await).unwrap_or(begin).max(begin);
        self.head_time.observe(head - begin);
        let whole = times.end_us(Phase::Relay).unwrap_or(head).max(head);
        self.whole_time.observe(whole - begin);
    }

    /// Counts an attempt that failed because of the endpoint. Call it once per attempt.
    #[inline]
    pub fn failed(&self, reason: Reason) {
        self.failures.inc(reason);
    }

    /// Counts a connection established after `micros` microseconds; adjusts the gauge of open ones.
    #[inline]
    pub fn connected(&self, micros: u32) {
        self.connects.inc();
        self.connections_open.inc();
        self.connect_time.observe(micros);
    }
}

#[cfg(test)]
mod tests {
    use weir_core::Instant;

    use super::*;

    #[test]
    fn shards_add_up_and_share_no_cache_line() {
        let stats = EndpointStats::new(3);
        let mut times = PhaseTimes::starting(Instant::ZERO);
        times.stamp(Phase::Connect, Instant::from_millis(2));
        times.stamp(Phase::Await, Instant::from_millis(5));
        times.stamp(Phase::Relay, Instant::from_millis(9));
        for worker in 0..3 {
            stats.shard(worker).responded(200, &times);
            stats.shard(worker).connected(100);
        }
        stats.shard(99).failed(Reason::ConnectRefused);
        assert_eq!(stats.sum(|s| s.responses.total()), 3);
        assert_eq!(stats.sum(|s| s.failures.total()), 1);
        assert_eq!(stats.gauge(|s| &s.connections_open), 3);
        assert_eq!(stats.histogram(|s| &s.head_time).sum_us(), 9_000);
        assert_eq!(stats.histogram(|s| &s.whole_time).sum_us(), 21_000);
        assert_eq!(size_of::<EndpointShard>() % 128, 0);
        assert_eq!(align_of::<EndpointShard>(), 128);
    }

    #[test]
    fn a_gauge_of_connections_that_moved_between_workers_still_adds_up() {
        let stats = EndpointStats::new(2);
        stats.shard(0).connections_open.inc();
        stats.shard(1).connections_open.dec();
        assert_eq!(stats.gauge(|s| &s.connections_open), 0);
    }
}
