//! From what was seen in a cell to the figures of a table.

use crate::cell::Raw;

/// The figures of a cell. Times are nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figures {
    /// Acquires and releases per second.
    pub per_second: f64,
    /// Median wait for a connection.
    pub p50: f64,
    /// Of a hundred waits one was longer; those that have not ended count with their age.
    pub p99: f64,
    /// Of a thousand waits one was longer.
    pub p999: f64,
    /// The 99th percentile that callers with an equal turn each would see, see [`corrected`].
    pub p99_even: f64,
    /// Waits that had not ended.
    pub open_waits: f64,
    /// Uses of the task with the fewest.
    pub least: f64,
    /// Uses of the task with the most.
    pub most: f64,
    /// Jain's index: 1 if all tasks were served equally often, 1/n if one had everything.
    pub jain: f64,
    /// Time on processors per use.
    pub cpu: f64,
    /// Allocations per use.
    pub allocations: Option<f64>,
    /// Acquires and uses that failed, since the start.
    pub errors: f64,
}

impl Figures {
    /// Computes them.
    pub fn of(raw: &Raw) -> Self {
        let uses: u64 = raw.per_task.iter().sum();
        let mut waits = raw.waits.clone();
        waits.extend(raw.open_waits.iter().map(|&age| (age, 1)));
        waits.sort_unstable();
        let turn = raw.elapsed_nanos.saturating_mul(raw.per_task.len() as u64) / uses.max(1);
        let even = corrected(&waits, turn);
        let per_use = |amount: u64, uses: u64| amount as f64 / uses.max(1) as f64;
        Self {
            per_second: uses as f64 * 1e9 / raw.elapsed_nanos.max(1) as f64,
            p50: percentile(&waits, 0.50),
            p99: percentile(&waits, 0.99),
            p999: percentile(&waits, 0.999),
            p99_even: percentile(&even, 0.99),
            open_waits: raw.open_waits.len() as f64,
            least: raw.per_task.iter().min().copied().unwrap_or(0) as f64,
            most: raw.per_task.iter().max().copied().unwrap_or(0) as f64,
            jain: jain(&raw.per_task),
            cpu: per_use(raw.cpu_nanos, uses),
            allocations: raw.allocations.map(|(allocated, uses)| per_use(allocated, uses)),
            errors: raw.errors as f64,
        }
    }
}

/// The value below which `share` of all lie; values with how often each occurs, in order. 0 if there are none.
pub fn percentile(values: &[(u64, u64)], share: f64) -> f64 {
    let total: u64 = values.iter().map(|(_, count)| count).sum();
    let rank = (share * total as f64).ceil().max(1.0) as u64;
    let mut seen = 0;
    for &(value, count) in values {
        seen += count;
        if seen >= rank {
            return value as f64;
        }
    }
    values.last().map_or(0.0, |&(value, _)| value as f64)
}

/// Waits as callers would have seen them who ask at an even pace, one every `turn`: a caller that waited for `w` has missed its turns
/// meanwhile, and would have waited `w - turn`, `w - 2 × turn` … in them. (The correction of HdrHistogram for
/// coordinated omission.) Nothing changes where all are served in turn. Where some are starved, the few waits of the starved
/// no longer vanish among the many of those who are served again and again.
pub fn corrected(waits: &[(u64, u64)], turn: u64) -> Vec<(u64, u64)> {
    let turn = turn.max(1);
    let mut all = waits.to_vec();
    for &(wait, count) in waits {
        let missed = wait / turn;
        // Long rows of missed turns are taken together: a hundred and twenty-eight steps are fine enough for a percentile.
        let step = missed.div_ceil(128).max(1);
        let mut turns = 1;
        while turns <= missed {
            let together = step.min(missed - turns + 1);
            all.push((wait - turn * (turns + together - 1), count * together));
            turns += together;
        }
    }
    all.sort_unstable();
    all
}

/// (Σx)² / (n Σx²); 1 if nobody got anything.
pub fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|&share| share as f64).sum();
    let squares: f64 = shares.iter().map(|&share| (share as f64).powi(2)).sum();
    if squares == 0.0 { 1.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the figures are exact in these cases")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values = [(10, 98), (20, 1), (30, 1)];
        assert_eq!([0.5, 0.98, 0.99, 0.999].map(|share| percentile(&values, share)), [10.0, 10.0, 20.0, 30.0]);
        assert_eq!(percentile(&[], 0.99), 0.0);
        assert_eq!(percentile(&[(5, 1)], 0.01), 5.0);
    }

    #[test]
    fn waits_that_have_not_ended_count_with_their_age() {
        let raw = Raw {
            elapsed_nanos: 1_000_000_000,
            cpu_nanos: 500_000_000,
            per_task: vec![97, 0, 0, 0],
            waits: vec![(100, 97)],
            open_waits: vec![900_000_000; 3],
            allocations: Some((50, 100)),
            ..Raw::default()
        };
        let figures = Figures::of(&raw);
        assert_eq!((figures.p50, figures.p99, figures.open_waits), (100.0, 900_000_000.0, 3.0));
        assert_eq!((figures.per_second, figures.least, figures.most, figures.jain), (97.0, 0.0, 97.0, 0.25));
        assert_eq!(figures.allocations, Some(0.5));
    }

    #[test]
    fn a_few_starved_callers_show_in_the_even_percentile_only() {
        // One task of two is served a million times, the other waits all the time.
        let raw = Raw {
            elapsed_nanos: 1_000_000_000,
            per_task: vec![1_000_000, 0],
            waits: vec![(200, 1_000_000)],
            open_waits: vec![1_000_000_000],
            ..Raw::default()
        };
        let figures = Figures::of(&raw);
        assert_eq!(figures.p99, 200.0);
        assert!(figures.p99_even > 900_000_000.0, "{figures:?}");
    }

    #[test]
    fn waiting_in_turn_is_not_corrected() {
        let waits = [(900, 1_000), (1_000, 10)];
        assert_eq!(corrected(&waits, 1_001), waits);
    }

    #[test]
    fn one_for_all_is_jain_one_and_all_for_one_is_one_nth() {
        assert_eq!(jain(&[3, 3, 3, 3]), 1.0);
        assert_eq!(jain(&[12, 0, 0, 0]), 0.25);
        assert_eq!(jain(&[0, 0]), 1.0);
    }

    proptest! {
        #[test]
        fn a_correction_adds_the_turns_that_were_missed(wait in 0_u64..100_000, turn in 1_u64..1_000, count in 1_u64..9) {
            let all = corrected(&[(wait, count)], turn);
            let total: u64 = all.iter().map(|(_, count)| count).sum();
            prop_assert_eq!(total, count * (1 + wait / turn));
            prop_assert!(all.iter().all(|(value, _)| *value <= wait));
        }

        #[test]
        fn jain_is_between_one_nth_and_one(shares in prop::collection::vec(0_u64..1_000_000, 1..50)) {
            let index = jain(&shares);
            prop_assert!(index <= 1.0 + 1e-9 && index >= 1.0 / shares.len() as f64 - 1e-9);
        }
    }
}
