//! A counter with a maximum.
#![allow(unused_variables, clippy::unimplemented, dead_code)]

/// A counter with a maximum, shared by all workers.
pub struct SharedCap {
    state: std::sync::atomic::AtomicU64,
}

impl SharedCap {
    /// At most `max` at a time.
    pub const fn new(max: u32) -> Self {
        unimplemented!()
    }
    /// Takes one, if fewer than the maximum are taken.
    #[must_use]
    pub fn try_take(&self) -> bool {
        unimplemented!()
    }
    /// Gives one back.
    pub fn give_back(&self) {
        unimplemented!()
    }
    /// How many are taken.
    pub fn granted(&self) -> u32 {
        unimplemented!()
    }
    /// The maximum.
    pub fn max(&self) -> u32 {
        unimplemented!()
    }
    /// Changes the maximum; what is taken beyond a smaller one stays taken until given back.
    pub fn set_max(&self, max: u32) {
        unimplemented!()
    }
}
