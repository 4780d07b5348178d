//! A number of server connections that several pools share: of one process, or of many.
//!
//! Each pool is a *member* with a *share*: so many connections may it have open. Shares follow the load, and their sum never
//! exceeds the total. Within a process, [`allocate`] is all that is needed: whoever holds the pools sees them all. Between processes a
//! [`Grantor`] leases the shares, and a [`Member`] in each process asks for its own; messages may be lost, late, twice or out of
//! order, and both sides may die at any time.
//!
//! # Why the sum holds
//! 1. **What was granted counts until it is given up.** The grantor counts for each member what it may have open: the larger of
//!    what the member said it holds and of what was granted since. A smaller share frees nothing until the member says, in a
//!    later claim, that it holds less. Claims are numbered; a member takes the answer to its latest claim only, so an answer that
//!    was lost or is late grants nothing.
//! 2. **Growth comes out of what is free by that count,** never out of what is about to become free.
//! 3. **Who is silent falls back before it is forgotten.** A member that hears nothing for half a lease goes back to its
//!    *floor*, which leaves the other half (less the drift of clocks, [`DRIFT_PERCENT`]) for connections in use to come back. The
//!    grantor gives its share to others after a whole lease, but for the floor. Floors have a longer lease of their own,
//!    with the same rule: at its end the member has nothing left, and the grantor forgets it. The sum of all floors is bounded.
//! 4. **A grantor that starts anew knows nothing, and assumes the worst:** that members it does not know hold everything. What
//!    they claim moves from the unknown to them. After one lease those still unknown can hold their floors at most, after the lease of
//!    floors nothing.
//! 5. **A refused connection proves that no grantor runs,** so none can give the share away, and one that starts later
//!    waits for a lease from then on. It restarts the member's clock as an answer does. Time-outs prove nothing.
//!
//! A member counts its lease from the moment at which it sent a claim, the grantor from the moment at which it
//! read it, which is later.

mod allocate;
mod demand;
mod grantor;
mod member;
mod part;

use std::time::Duration;

pub use allocate::{Want, allocate};
pub use demand::{DEMAND_SLICE, DEMAND_SLICES, DRAIN, Demand};
pub use grantor::{BudgetSnapshot, Grantor, GrantorParams, MemberSnapshot, Refused};
pub use member::{Member, MemberParams, REFRESH, WAITS_PER_LEASE};
pub use part::{Parted, part};

/// Connections of a budget at most.
pub const CONNECTIONS_MAX: u32 = 1 << 16;
/// Members of a budget at most, those included that are silent and not yet forgotten.
pub const MEMBERS_MAX: usize = 1_024;
/// Bytes of the name of a budget or a member at most.
pub const NAME_BYTES_MAX: usize = 128;
/// Weight of a member at most.
pub const WEIGHT_MAX: u32 = 1 << 16;
/// Clocks run this much faster or slower than real time at most. (Quartz is a thousand times better; virtual machines that
/// are moved are not.)
pub const DRIFT_PERCENT: u32 = 5;

/// A number of connections, in thousandths: what is needed on average is no whole number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Amount(u32);

impl Amount {
    /// So many connections.
    pub const fn whole(connections: u32) -> Self {
        Self(connections.saturating_mul(1_000))
    }

    /// So many thousandths of a connection.
    pub const fn milli(thousandths: u32) -> Self {
        Self(thousandths)
    }

    /// In thousandths.
    pub const fn as_milli(self) -> u32 {
        self.0
    }

    /// Rounded to the nearest, but not to nothing: what is measured is a little off.
    pub const fn nearest(self) -> u32 {
        let nearest = self.0.saturating_add(500) / 1_000;
        if nearest == 0 && self.0 > 0 { 1 } else { nearest }
    }

    /// Rounded up.
    pub const fn ceil(self) -> u32 {
        self.0.div_ceil(1_000)
    }
}

/// What a member says: what it holds, and what it would like to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Counts the claims of a member.
    pub seq: u64,
    /// Connections that it has open or may open.
    pub held: u32,
    /// The floor that it was granted.
    pub floor_held: u32,
    /// The floor that it asks for.
    pub floor: u32,
    /// Its part of what is left over, relative to others; at least 1.
    pub weight: u32,
    /// Connections that it could use now.
    pub demand: Amount,
    /// Connections that it can use at most.
    pub max: u32,
}

/// What the grantor answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Connections that the member may have open from now on. Those above end when they come back.
    pub share: u32,
    /// What it may keep while it does not hear from the grantor.
    pub floor: u32,
    /// How long the share is kept for it from the claim on.
    pub lease: Duration,
    /// How long the floor is kept for it from the claim on.
    pub floor_lease: Duration,
    /// When to claim again.
    pub renew_after: Duration,
}

/// Whether `name` can be the name of a budget or of a member: 1 to [`NAME_BYTES_MAX`] letters, digits, `.`, `_` and `-`.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}
