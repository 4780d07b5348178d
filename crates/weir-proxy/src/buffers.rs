//! Byte buffers lent to exchanges while bytes are in flight and given back afterwards.
//!
//! As many are kept as the recent past needed: every [`Buffers::housekeep`] frees half of those that
//! were never taken since the one before, so the memory of a burst goes back to the allocator. A few stay in any
//! case, so that a load that goes up and down by some connections does not allocate.

/// Buffers kept for reuse, per worker, at the very most.
const KEPT: usize = 8 * 1024;
/// Free buffers that are not worth giving back: 32 KiB per worker.
const ALWAYS_KEPT: usize = 64;
/// A larger buffer is freed when it is given back.
const LARGEST_KEPT_BYTES: usize = 16 * 1024;
/// Capacity of a new buffer: a typical request head with room for what is added.
const INITIAL_BYTES: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Each as it was given back; emptied when it is taken.
    free: Vec<Vec<u8>>,
    /// The fewest that lay free since the last housekeeping: nobody needed these.
    low_water: usize,
}

impl Buffers {
    /// An empty buffer.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut buffer = self.free.pop().unwrap_or_else(|| Vec::with_capacity(INITIAL_BYTES));
        buffer.clear();
        self.low_water = self.low_water.min(self.free.len());
        buffer
    }

    /// Gives a buffer back. Buffers without capacity are ignored.
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > LARGEST_KEPT_BYTES || self.free.len() >= KEPT {
            return;
        }
        self.free.push(buffer);
    }

    /// A number from the buffer that will be taken as the `nth` from now, read where the head of a request will be
    /// written: to have its memory near by then.
    pub(crate) fn glance(&self, nth: usize) -> usize {
        let Some(buffer) = self.free.iter().rev().nth(nth) else { return 0 };
        buffer.iter().take(INITIAL_BYTES).step_by(64).fold(0, |seen, &byte| seen ^ usize::from(byte))
    }

    /// Frees half of what lay unused since the last call. Call about once a second.
    pub(crate) fn housekeep(&mut self) {
        let surplus = self.low_water.div_ceil(2);
        let kept = self.free.len().saturating_sub(surplus).max(ALWAYS_KEPT);
        self.free.truncate(kept);
        if self.free.capacity() > 4 * kept {
            self.free.shrink_to(2 * kept);
        }
        self.low_water = self.free.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_empty_when_it_is_taken_and_can_be_looked_at_before() {
        let mut buffers = Buffers::default();
        assert_eq!(buffers.glance(0), 0);
        buffers.give(b"left over".to_vec());
        assert_eq!((buffers.glance(0), buffers.glance(1)), (usize::from(b'l'), 0));
        let taken = buffers.take();
        assert!(taken.is_empty() && taken.capacity() >= 9);
    }

    #[test]
    fn unused_buffers_fade_and_used_ones_stay() {
        let mut buffers = Buffers::default();
        let taken: Vec<_> = (0..64 * ALWAYS_KEPT).map(|_| buffers.take()).collect();
        for buffer in taken {
            buffers.give(buffer);
        }
        buffers.housekeep();
        let used = 3 * ALWAYS_KEPT;
        for _ in 0..15 {
            let taken: Vec<_> = (0..used).map(|_| buffers.take()).collect();
            for buffer in taken {
                buffers.give(buffer);
            }
            buffers.housekeep();
        }
        assert_eq!(buffers.free.len(), used);
        for _ in 0..10 {
            buffers.housekeep();
        }
        assert_eq!(buffers.free.len(), ALWAYS_KEPT);
        assert!(buffers.free.capacity() <= 4 * ALWAYS_KEPT);
    }
}
