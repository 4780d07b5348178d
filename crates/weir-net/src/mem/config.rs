//! How the simulated network and its workers behave: every number in one place.

use std::ops::RangeInclusive;
use std::time::Duration;

use weir_core::hash::Rng;
use weir_core::{Instant, WallTime};

/// A network between two nodes is at least this far: no event causes another at the same moment,
/// so that a world without timers always comes to rest.
pub(super) const LATENCY_MIN: Duration = Duration::from_nanos(500);

/// The settings of a [`World`](super::World).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetConfig {
    /// One-way delay of each segment, drawn anew for each (segments of one direction never overtake).
    pub latency: RangeInclusive<Duration>,
    /// Bytes that one direction of a connection holds (in flight and unread) before `send` gets stuck;
    /// drawn once per direction.
    pub window: RangeInclusive<usize>,
    /// How writes are cut into segments, and segments into reads.
    pub pieces: Pieces,
    /// Throughput of one direction of a connection, in bytes per second; `None` is unlimited.
    pub bytes_per_second: Option<u64>,
    /// A worker wakes up at most this long after something happened to it.
    pub wake_delay_max: Duration,
    /// Deadlines and timers fire at most this late (never early).
    pub timer_late_max: Duration,
    /// A mailbox message arrives at most this late.
    pub mail_delay_max: Duration,
    /// Undelivered messages per mailbox.
    pub mailbox_max: usize,
    /// Connections that wait to be accepted, per listener of a node. Beyond it a connection attempt
    /// is ignored and tried again after `syn_retry`.
    pub backlog_max: usize,
    /// Connections per node; `connect` beyond it fails with `Exhausted`, accepting waits.
    pub connections_max: usize,
    /// After this an unanswered connection attempt, and a segment held by a partition, is sent again.
    pub retry_after: Duration,
    /// A segment held by a partition for longer than this breaks its connection with `TimedOut`.
    pub give_up_after: Duration,
    /// Chance in 1,000 that a write is cut short although there is room.
    pub short_write_permille: u16,
    /// Chance in 1,000 that a reset takes unread and unsent bytes with it (otherwise they are read
    /// first). Either happens in real networks.
    pub reset_discards_permille: u16,
    /// Whether what is ready is served in a random order (otherwise in the order of arrival). What
    /// happens to one connection stays in order.
    pub shuffle: bool,
    /// The wall-clock time at the start of the world.
    pub wall_start: WallTime,
}

/// How bytes are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pieces {
    /// Never: a write arrives as one read.
    Whole,
    /// At most this many bytes at a time (1 is allowed).
    UpTo(usize),
    /// Each cut drawn anew: whole, a usual segment, or a few bytes.
    Mixed,
}

/// The network between two particular nodes, instead of the common one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// One-way delay of each segment.
    pub latency: RangeInclusive<Duration>,
    /// Throughput of one direction of one connection, in bytes per second; `None` is unlimited.
    pub bytes_per_second: Option<u64>,
}

impl NetConfig {
    /// A well-behaved local network: 50 µs away, 64 KiB windows, no cuts, timers on time.
    pub fn calm() -> Self {
        Self {
            latency: Duration::from_micros(50)..=Duration::from_micros(50),
            window: 65_536..=65_536,
            pieces: Pieces::Whole,
            bytes_per_second: None,
            wake_delay_max: Duration::ZERO,
            timer_late_max: Duration::ZERO,
            mail_delay_max: Duration::from_micros(10),
            mailbox_max: 65_536,
            backlog_max: 1_024,
            connections_max: 1 << 20,
            retry_after: Duration::from_secs(1),
            give_up_after: Duration::from_mins(15),
            short_write_permille: 0,
            reset_discards_permille: 0,
            shuffle: false,
            wall_start: WallTime::from_nanos(1_700_000_000_000_000_000),
        }
    }

    /// A network that does everything a real one may do: jitter, cuts at any byte, short writes,
    /// small windows, late timers, any order of service. `seed` decides how much of each.
    pub fn rough(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x0072_6F75_6768);
        let micros = Duration::from_micros;
        let least = rng.below(200);
        let windows = [256, 4_096, 65_536, 1 << 20];
        let small = windows[rng.below(4) as usize];
        Self {
            latency: micros(least)..=micros(least + 1 + rng.below(20_000)),
            window: small..=small + rng.below(65_536) as usize,
            pieces: match rng.below(4) {
                0 => Pieces::Whole,
                1 => Pieces::UpTo(1 + rng.below(1_460) as usize),
                _ => Pieces::Mixed,
            },
            wake_delay_max: micros(rng.below(500)),
            timer_late_max: micros(rng.below(3_000)),
            mail_delay_max: micros(1 + rng.below(1_000)),
            short_write_permille: rng.below(200) as u16,
            reset_discards_permille: 500,
            shuffle: true,
            ..Self::calm()
        }
    }
}

/// A number in `range`.
pub(super) fn draw(rng: &mut Rng, range: &RangeInclusive<u64>) -> u64 {
    let span = range.end().saturating_sub(*range.start());
    range.start() + if span == 0 { 0 } else { rng.below(span.saturating_add(1)) }
}

/// A duration in `range`.
pub(super) fn draw_time(rng: &mut Rng, range: &RangeInclusive<Duration>) -> Duration {
    if range.start() == range.end() {
        return *range.start();
    }
    Duration::from_nanos(draw(rng, &(nanos(*range.start())..=nanos(*range.end()))))
}

/// A duration from zero to `max`.
pub(super) fn draw_up_to(rng: &mut Rng, max: Duration) -> Duration {
    draw_time(rng, &(Duration::ZERO..=max))
}

/// A moment within `span` from `start`.
pub(super) fn draw_moment(rng: &mut Rng, start: Instant, span: Duration) -> Instant {
    start + draw_up_to(rng, span)
}

impl Pieces {
    /// The length of the next piece of `available` bytes: 1 to `available` (0 of 0).
    pub(super) fn cut(self, rng: &mut Rng, available: usize) -> usize {
        /// A long write is cut into at most about this many pieces, so that its cost stays bounded.
        const PIECES_MAX: usize = 64;
        let limit = match self {
            Self::Whole => available,
            Self::UpTo(limit) => limit.max(1),
            Self::Mixed => match rng.below(4) {
                0 => 1 + rng.below(16) as usize,
                1 => 1_460,
                _ => available,
            },
        };
        available.min(limit.max(available / PIECES_MAX))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_stay_within_what_there_is() {
        let mut rng = Rng::new(1);
        for pieces in [Pieces::Whole, Pieces::UpTo(1), Pieces::UpTo(1_000), Pieces::Mixed] {
            assert_eq!(pieces.cut(&mut rng, 0), 0);
            for available in [1, 2, 100, 1_000_000] {
                for _ in 0..100 {
                    let cut = pieces.cut(&mut rng, available);
                    assert!((1..=available).contains(&cut), "{pieces:?} {available} {cut}");
                }
            }
        }
    }

    #[test]
    fn draws_stay_within_their_range() {
        let mut rng = Rng::new(2);
        let (mut low, mut high) = (false, false);
        for _ in 0..200 {
            let value = draw(&mut rng, &(3..=5));
            assert!((3..=5).contains(&value));
            low |= value == 3;
            high |= value == 5;
        }
        assert!(low && high, "both ends are possible");
        assert_eq!(draw(&mut rng, &(7..=7)), 7);
    }
}
