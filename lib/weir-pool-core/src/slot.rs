//! One slot of a pool, and the ids and words that go with it.
//!
//! ```text
//!            acquire / warm             connected (for acquire)
//!   Free ───────────────▶ Connecting ─────────────────────▶ Busy ◀──────┐
//!    ▲                     │     │ connected (for warm)      │  release │ acquire
//!    │  connect_failed     │     └─────────▶ Idle ◀──────────┘──────────┘
//!    │◀────────────────────┘                  │ too old, drained     │ used up, too old, drained
//!    │                                        ▼                      │
//!    │                                      Doomed ── sweep ──▶ Closing ◀┘
//!    │  remove (from every state but Free)                           │
//!    └───────────────────────────────────────────────────────────────┘
//! ```

use weir_core::Instant;

/// One use of a slot of a [`Pool`](crate::Pool). Stale after the slot was removed: the pool then ignores it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl SlotId {
    /// The slot's position: small and reused, for a side table of the owner.
    pub const fn index(self) -> u32 {
        self.index
    }
}

/// Why a connection left the pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum CloseReason {
    /// The peer closed it while it was idle.
    PeerClosed = 0,
    /// An exchange on it failed, or left it in a state that allows no further use.
    Failed = 1,
    /// It was idle for longer than the idle time-out.
    IdleTimeout = 2,
    /// Its lifetime is over.
    Lifetime = 3,
    /// It has been used as often as allowed.
    MaxUses = 4,
    /// More were open than the recent peak needs.
    Trimmed = 5,
    /// The pool was drained.
    Drained = 6,
    /// It was handed to another pool.
    Moved = 7,
    /// The owner is stopping.
    Shutdown = 8,
}

impl CloseReason {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::PeerClosed,
        Self::Failed,
        Self::IdleTimeout,
        Self::Lifetime,
        Self::MaxUses,
        Self::Trimmed,
        Self::Drained,
        Self::Moved,
        Self::Shutdown,
    ];

    /// The stable lower-case word used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::Failed => "failed",
            Self::IdleTimeout => "idle_timeout",
            Self::Lifetime => "lifetime",
            Self::MaxUses => "max_uses",
            Self::Trimmed => "trimmed",
            Self::Drained => "drained",
            Self::Moved => "moved",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What travels with a connection from one pool to another: its age, its uses, and **its place in the
/// quota**. Hand it to `adopt`; if the connection is lost on the way, give the place back by hand.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the connection's place in the quota travels with this value: adopt it or give the place back"]
pub struct ConnMeta {
    pub(crate) opened: Instant,
    pub(crate) expires: Instant,
    pub(crate) uses: u32,
}

impl ConnMeta {
    /// When the connection was established.
    pub const fn opened(&self) -> Instant {
        self.opened
    }

    /// How often it has been used.
    pub const fn uses(&self) -> u32 {
        self.uses
    }
}

/// No slot: the end of a list.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// In the free list (linked by `next`).
    Free,
    /// Being opened; `warm` = ahead of demand.
    Connecting { warm: bool },
    /// In the idle list.
    Idle,
    /// In use.
    Busy,
    /// Idle, but taken aside to see whether it is alive.
    Reserved,
    /// Must be closed; in the doomed list until the next sweep.
    Doomed(CloseReason),
    /// Given to the owner to close; until `remove`.
    Closing,
}

/// Bookkeeping of one connection; 48 bytes beside the owner's token.
#[derive(Clone, Debug)]
pub(crate) struct Slot<C> {
    /// `None` while connecting and while free.
    pub(crate) conn: Option<C>,
    pub(crate) meta: Meta,
}

#[derive(Clone, Debug)]
pub(crate) struct Meta {
    /// When it was established.
    pub(crate) opened: Instant,
    /// When its lifetime is over; `Instant::FAR` = never.
    pub(crate) expires: Instant,
    /// Since when it has been idle.
    pub(crate) idle_since: Instant,
    pub(crate) uses: u32,
    /// Towards the more recently used end of the list that it is in.
    pub(crate) newer: u32,
    /// Towards the other end; the next free one in the free list.
    pub(crate) older: u32,
    /// Tells this use of the slot from earlier ones.
    pub(crate) generation: u32,
    /// How often the pool had been drained when this connection was asked for.
    pub(crate) epoch: u32,
    pub(crate) state: State,
}

const _: () = assert!(size_of::<Meta>() <= 48);

impl Meta {
    pub(crate) const fn free(older: u32) -> Self {
        Self {
            opened: Instant::ZERO,
            expires: Instant::FAR,
            idle_since: Instant::ZERO,
            uses: 0,
            newer: NONE,
            older,
            generation: 0,
            epoch: 0,
            state: State::Free,
        }
    }
}
