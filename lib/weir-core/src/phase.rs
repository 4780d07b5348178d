//! The life of a request in named phases, and when each one ended.

use crate::Instant;

/// The phases of a request in the order in which they happen. A phase's stamp is the moment it
/// **ended**; the request starts at [`PhaseTimes::start`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Waiting for and reading the request head, from its first byte.
    Head = 0,
    /// Matching a route.
    Route = 1,
    /// Limits: rate, concurrency, deadline.
    Admit = 2,
    /// Choosing an endpoint.
    Pick = 3,
    /// Waiting for a place at the endpoint (pool wait).
    Acquire = 4,
    /// Opening a connection; zero when one was reused.
    Connect = 5,
    /// Giving the request head to the kernel.
    Send = 6,
    /// Waiting for the response head.
    Await = 7,
    /// Relaying the bodies until the last byte was given to the client's connection.
    Relay = 8,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Self; 9] = [
        Self::Head,
        Self::Route,
        Self::Admit,
        Self::Pick,
        Self::Acquire,
        Self::Connect,
        Self::Send,
        Self::Await,
        Self::Relay,
    ];

    /// The stable lower-case word used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Route => "route",
            Self::Admit => "admit",
            Self::Pick => "pick",
            Self::Acquire => "acquire",
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Await => "await",
            Self::Relay => "relay",
        }
    }
}

/// When the request started and when each phase ended, relative to the start, in
/// 32-bit microseconds (about 71 minutes; later stamps saturate).
#[derive(Clone, Copy, Debug, Default)]
pub struct PhaseTimes {
    start: Instant,
    ends_us: [u32; Phase::ALL.len()],
}

impl PhaseTimes {
    /// A request whose first byte arrived at `start`.
    pub const fn starting(start: Instant) -> Self {
        Self { start, ends_us: [0; Phase::ALL.len()] }
    }

    /// When the first byte of the request arrived.
    pub const fn start(&self) -> Instant {
        self.start
    }

    /// Marks `phase` as ended at `now`. A phase that a retry goes through again keeps its last end.
    pub fn stamp(&mut self, phase: Phase, now: Instant) {
        let micros = now.since(self.start).as_nanos() / 1_000;
        // Zero means "not reached", so a phase that ended within the first microsecond counts as one.
        self.ends_us[phase as usize] = u32::try_from(micros).unwrap_or(u32::MAX).max(1);
    }

    /// Microseconds from the start to the end of `phase`, if it was reached.
    pub fn end_us(&self, phase: Phase) -> Option<u32> {
        match self.ends_us[phase as usize] {
            0 => None,
            us => Some(us),
        }
    }

    /// Microseconds spent in `phase`: from the latest end of an earlier phase to its own end.
    pub fn spent_us(&self, phase: Phase) -> Option<u32> {
        let end = self.end_us(phase)?;
        let before = self.ends_us[..phase as usize].iter().copied().max().unwrap_or(0);
        Some(end.saturating_sub(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spent_is_the_gap_to_the_phase_before() {
        let at = Instant::from_millis;
        let mut times = PhaseTimes::starting(at(10));
        times.stamp(Phase::Head, at(11));
        times.stamp(Phase::Connect, at(14));
        assert_eq!(times.spent_us(Phase::Head), Some(1_000));
        assert_eq!(times.spent_us(Phase::Connect), Some(3_000));
        assert_eq!(times.spent_us(Phase::Await), None);
    }
}
