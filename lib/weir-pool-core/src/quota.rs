//! What a pool must ask before it opens a connection.

use std::cell::Cell;

/// A number of connections that several pools share. A pool takes one place per connection, from the
/// start of the connect to the close, and gives it back exactly once.
///
/// Pools do not share their machine, they share a quota: the workers of a process each own a pool of
/// the same endpoint and together stay below its maximum.
pub trait Quota {
    /// Takes a place, if there is one.
    fn try_take(&self) -> bool;
    /// Gives a place back.
    fn give_back(&self);
    /// How many places are taken.
    fn granted(&self) -> u32;
    /// How many are left; a guess, where others take places at the same time.
    fn room(&self) -> u32 {
        u32::MAX
    }
    /// How many more are taken than there are, since there were more once.
    fn excess(&self) -> u32 {
        0
    }
}

impl<Q: Quota + ?Sized> Quota for &Q {
    fn try_take(&self) -> bool {
        (**self).try_take()
    }

    fn give_back(&self) {
        (**self).give_back();
    }

    fn granted(&self) -> u32 {
        (**self).granted()
    }

    fn room(&self) -> u32 {
        (**self).room()
    }

    fn excess(&self) -> u32 {
        (**self).excess()
    }
}

/// A quota of one thread.
#[derive(Debug)]
pub struct LocalQuota {
    max: Cell<u32>,
    granted: Cell<u32>,
}

impl LocalQuota {
    /// `max` places.
    pub const fn new(max: u32) -> Self {
        Self { max: Cell::new(max), granted: Cell::new(0) }
    }

    /// Changes the number of places. Those taken already stay taken.
    pub fn set_max(&self, max: u32) {
        self.max.set(max);
    }

    /// How many places there are.
    pub fn max(&self) -> u32 {
        self.max.get()
    }
}

impl Quota for LocalQuota {
    fn try_take(&self) -> bool {
        let free = self.granted.get() < self.max.get();
        if free {
            self.granted.set(self.granted.get() + 1);
        }
        free
    }

    fn give_back(&self) {
        debug_assert!(self.granted.get() > 0, "given back more often than taken");
        self.granted.set(self.granted.get().saturating_sub(1));
    }

    fn granted(&self) -> u32 {
        self.granted.get()
    }

    fn room(&self) -> u32 {
        self.max.get().saturating_sub(self.granted.get())
    }

    fn excess(&self) -> u32 {
        self.granted.get().saturating_sub(self.max.get())
    }
}

/// The part of `total` that the `index`-th of `parts` pools gets, so that the parts add up to `total` and
/// differ by at most one. For dividing `max_idle` and `min_idle` among workers. Zero for an `index`
/// outside `0..parts`.
///
/// ```
/// use weir_pool_core::share;
/// assert_eq!([share(10, 4, 0), share(10, 4, 1), share(10, 4, 2), share(10, 4, 3)], [3, 3, 2, 2]);
/// ```
pub const fn share(total: u32, parts: u32, index: u32) -> u32 {
    if index >= parts {
        return 0;
    }
    total / parts + if index < total % parts { 1 } else { 0 }
}
