//! What a sweep sets aside to be closed.

use weir_core::Instant;

use super::{Pool, TRIM_DIVISOR, TRIM_INTERVAL, idle_nanos_of, worn};
use crate::slot::{CloseReason, Meta};

impl<C: Copy + Eq> Pool<C> {
    /// Rule 5: `min_idle` of them stay.
    pub(super) fn doom_timed_out(&mut self, now: Instant) {
        while self.idle_count > self.params.min_idle
            && let Some((index, slot)) = self.slot(self.idle.oldest)
            && self.is_timed_out(&slot.meta, now)
        {
            self.unlink_idle(index);
            self.doom(index, CloseReason::IdleTimeout);
        }
    }

    /// Whether an idle one has been so for longer than the idle time-out.
    pub(super) fn is_timed_out(&self, meta: &Meta, now: Instant) -> bool {
        idle_nanos_of(meta, now) >= self.idle_nanos
    }

    pub(super) fn doom_expired(&mut self, now: Instant) {
        if now < self.next_expiry {
            return;
        }
        self.next_expiry = Instant::FAR;
        let mut at = self.idle.oldest;
        while let Some((index, slot)) = self.slot(at) {
            at = slot.meta.newer;
            let expires = slot.meta.expires;
            if let Some(reason) = worn(&slot.meta, self.epoch, now) {
                self.unlink_idle(index);
                self.doom(index, reason);
            } else {
                self.next_expiry = self.next_expiry.min(expires);
            }
        }
    }

    pub(super) fn doom_surplus(&mut self, now: Instant) {
        if now < self.next_trim {
            return;
        }
        let keep = self.share.max(self.peak.get());
        let surplus = self.total().saturating_sub(keep).min(self.idle_count.saturating_sub(self.params.min_idle));
        self.next_trim = now + TRIM_INTERVAL;
        for _ in 0..surplus.div_ceil(TRIM_DIVISOR) {
            let Some((index, _)) = self.slot(self.idle.oldest) else { break };
            self.unlink_idle(index);
            self.doom(index, CloseReason::Trimmed);
        }
    }
}
