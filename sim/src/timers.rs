//! Several timers over the one deadline that the engine gives each connection.

use weir_core::Instant;
use weir_net::{ConnId, Io};

/// Timers of one connection; few, so a list.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    pending: Vec<(Instant, T)>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { pending: Vec::new() }
    }
}

impl<T: Copy + PartialEq> Timers<T> {
    /// Arms one more.
    pub(crate) fn arm(&mut self, io: &mut impl Io, conn: ConnId, at: Instant, what: T) {
        self.pending.push((at, what));
        self.set(io, conn);
    }

    /// Forgets those of one kind.
    pub(crate) fn cancel(&mut self, io: &mut impl Io, conn: ConnId, what: T) {
        self.pending.retain(|(_, other)| *other != what);
        self.set(io, conn);
    }

    /// Takes one that is due.
    pub(crate) fn due(&mut self, io: &mut impl Io, conn: ConnId) -> Option<T> {
        let position = self.pending.iter().position(|(at, _)| *at <= io.now());
        let due = position.map(|position| self.pending.remove(position).1);
        self.set(io, conn);
        due
    }

    fn set(&self, io: &mut impl Io, conn: ConnId) {
        io.set_deadline(conn, self.pending.iter().map(|(at, _)| *at).min());
    }
}
