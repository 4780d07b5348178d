//! What must hold after every call.

use weir_core::Instant;

use super::Pool;
use super::lists::List;
use crate::slot::{NONE, State};

impl<C: Copy + Eq> Pool<C> {
    /// The full walk is for tests; in debug builds it is limited to small pools.
    pub(super) fn check_invariants(&self) {
        if !cfg!(debug_assertions) || self.slots.len() > 256 {
            return;
        }
        let count = |wanted: fn(State) -> bool| self.slots.iter().filter(|slot| wanted(slot.meta.state)).count() as u32;
        assert_eq!(self.busy_count, count(|s| s == State::Busy));
        assert_eq!(self.connecting_count, count(|s| matches!(s, State::Connecting { .. })));
        assert_eq!(self.warming_count, count(|s| s == State::Connecting { warm: true }));
        assert_eq!(self.closing_count, count(|s| matches!(s, State::Closing | State::Doomed(_))));
        assert_eq!(self.idle_count, count(|s| s == State::Idle));
        assert_eq!(self.reserved_count, count(|s| s == State::Reserved));
        self.check_list(self.idle, |s| s == State::Idle);
        self.check_list(self.doomed, |s| matches!(s, State::Doomed(_)));
    }

    fn check_list(&self, list: List, member: fn(State) -> bool) {
        let (mut at, mut newer, mut length) = (list.newest, NONE, 0);
        let mut since = Instant::FAR;
        while let Some((index, slot)) = self.slot(at) {
            assert!(member(slot.meta.state), "a stranger in the list");
            assert!(slot.conn.is_some(), "a listed connection exists");
            assert_eq!(slot.meta.newer, newer);
            if slot.meta.state == State::Idle {
                assert!(slot.meta.idle_since <= since, "oldest at the end");
                assert!(self.next_expiry <= slot.meta.expires);
                assert_eq!(slot.meta.epoch, self.epoch, "what is idle is not drained");
                since = slot.meta.idle_since;
            }
            (newer, at, length) = (index, slot.meta.older, length + 1);
        }
        assert_eq!(list.oldest, newer);
        assert_eq!(length, self.slots.iter().filter(|slot| member(slot.meta.state)).count());
    }
}
