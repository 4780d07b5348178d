//! Byte buffers lent to exchanges while bytes are in flight and given back afterwards.
//!
//! As many are kept as the recent past needed: every [`Buffers::housekeep`] frees half of those that
//! were never taken since the one before, so the memory of a burst goes back to the allocator.

/// Buffers kept for reuse, per worker, at the very most.
const KEPT: usize = 8 * 1024;
/// A larger buffer is freed when it is given back.
const LARGEST_KEPT_BYTES: usize = 16 * 1024;
/// Capacity of a new buffer: a typical request head with room for what is added.
const INITIAL_BYTES: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Vec<Vec<u8>>,
    /// The fewest that lay free since the last housekeeping: nobody needed these.
    low_water: usize,
}

impl Buffers {
    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let buffer = self.free.pop().unwrap_or_else(|| Vec::with_capacity(INITIAL_BYTES));
        self.low_water = self.low_water.min(self.free.len());
        buffer
    }

    /// Gives a buffer back. Buffers without capacity are ignored.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > LARGEST_KEPT_BYTES || self.free.len() >= KEPT {
            return;
        }
        buffer.clear();
        self.free.push(buffer);
    }

    /// Frees half of what lay unused since the last call. Call about once a second.
    pub(crate) fn housekeep(&mut self) {
        let surplus = self.low_water.div_ceil(2);
        self.free.truncate(self.free.len() - surplus.min(self.free.len()));
        if self.free.is_empty() {
            self.free = Vec::new();
        }
        self.low_water = self.free.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_buffers_fade_and_used_ones_stay() {
        let mut buffers = Buffers::default();
        let taken: Vec<_> = (0..64).map(|_| buffers.take()).collect();
        for buffer in taken {
            buffers.give(buffer);
        }
        buffers.housekeep();
        for _ in 0..10 {
            let (a, b) = (buffers.take(), buffers.take());
            buffers.give(a);
            buffers.give(b);
            buffers.housekeep();
        }
        assert_eq!(buffers.free.len(), 2);
        buffers.housekeep();
        buffers.housekeep();
        assert_eq!(buffers.free.len(), 0);
    }
}
