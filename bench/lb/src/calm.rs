//! A percentile that pauses of the machine do not decide.
//!
//! At a low load one request in a hundred meets a pause that has nothing to do with the balancer: some process of the machine
//! that runs for milliseconds at a high priority. Such pauses come a few times a second and hit all balancers alike, but a
//! window has room for few of them, so that the 99th percentile of the whole window says how many there were. So the
//! window is cut into slots; each has its percentile, and the median of these is reported. A pause spoils the slot in which
//! it falls and no other. What a balancer does to its requests all the time is in every slot; what it does once a second is
//! not, and shows in the percentiles of the whole window.

use std::time::Duration;

/// Length of a slot: 250 requests at 5,000 a second.
pub const SLOT: Duration = Duration::from_millis(50);
/// A slot with fewer requests says nothing about one in a hundred.
const ENOUGH: usize = 100;

/// Latencies by the slot in which each request was due.
#[derive(Default, Debug)]
pub struct Calm {
    slots: Vec<Vec<u32>>,
}

impl Calm {
    /// A request that was due at `at` within the window took `micros`.
    pub fn record(&mut self, at: Duration, micros: u64) {
        let slot = (at.as_nanos() / SLOT.as_nanos()) as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, Vec::new);
        }
        self.slots[slot].push(u32::try_from(micros).unwrap_or(u32::MAX));
    }

    /// The median of the slots' percentiles, in microseconds; `None` if no slot has enough requests.
    pub fn quantile(mut self, quantile: f64) -> Option<u32> {
        let full = self.slots.iter_mut().filter(|slot| slot.len() >= ENOUGH);
        let mut of_slots: Vec<u32> = full
            .map(|slot| {
                slot.sort_unstable();
                // Nearest rank.
                slot[((slot.len() as f64 * quantile).ceil() as usize).clamp(1, slot.len()) - 1]
            })
            .collect();
        of_slots.sort_unstable();
        of_slots.get(of_slots.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_spoils_its_slot_only() {
        let mut calm = Calm::default();
        for slot in 0..20_u32 {
            for n in 0..200 {
                let paused = slot % 5 == 0 && n < 50;
                calm.record(SLOT * slot + Duration::from_micros(n), if paused { 9_000 } else { 100 + n });
            }
        }
        // A last slot that was cut off.
        calm.record(SLOT * 20, 70_000);
        assert_eq!(calm.quantile(0.99), Some(297));
        assert_eq!(Calm::default().quantile(0.99), None);
    }
}
