//! Bounds on what a peer may send.

/// Limits of one message. Exceeding one is a reject with a reason, never a truncation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a head: start line, fields and the empty line.
    pub head_bytes: u32,
    /// Fields of a head (or of a trailer section), at most [`Limits::MAX_FIELDS`].
    pub fields: u16,
    /// Bytes of the request target.
    pub target_bytes: u32,
    /// Bytes of one chunk-size line, extensions included.
    pub chunk_line_bytes: u16,
    /// Bytes of the trailer section.
    pub trailer_bytes: u32,
}

impl Limits {
    /// The hard bound of `fields`: storage for so many is on the stack.
    pub const MAX_FIELDS: usize = 128;

    /// How many fields are taken: `fields`, or the storage if that is less.
    #[inline]
    pub(crate) fn max_fields(&self) -> usize {
        usize::from(self.fields).min(Self::MAX_FIELDS)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 32 * 1024,
            fields: 100,
            target_bytes: 8 * 1024,
            chunk_line_bytes: 256,
            trailer_bytes: 8 * 1024,
        }
    }
}
