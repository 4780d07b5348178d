//! Throughput by size, as far as it was seen.
//!
//! Sizes are looked at on a *ladder*, each step about 15 % (at least 1). A rung keeps `ln X − level`: its throughput
//! relative to the database's level at that time. The level follows all observations quickly, so that rungs which were
//! visited at different times can be compared although the database as a whole was faster or slower then.
//!
//! ```text
//! residual = ln X − (value[rung] + level)        level      += 0.25 · residual
//!                                                value[rung] moves to ln X − level by weight / (known weight + weight)
//! ```
//!
//! Which size is the knee is read off a family of curves (`family.rs`).

use super::family::{Estimate, Point, estimate};

/// Steps of the ladder are this large, or one connection.
const STEP: f64 = 1.15;
/// How quickly the level follows.
const LEVEL_GAIN: f64 = 0.25;
/// A rung remembers about this much weight.
const WEIGHT_MAX: f64 = 6.0;
/// Sizes below this differ by more than 15 % from the next.
const FINE: u32 = 7;
/// Weight 1 is a measurement to this precision (of `ln X`).
pub(super) const PRECISION: f64 = 0.02;
/// The family of curves fits real ones to about this.
const MISFIT: f64 = 0.01;
/// From this weight on what is this far off (in `ln X`) is not taken in.
const WEIGHT_SURE: f64 = 0.5;
const FAR_OFF: f64 = 0.15;
/// How quickly the noise is learnt, and how much of it at once.
const NOISE_GAIN: f64 = 0.04;
const NOISE_MAX: f64 = 10.0;
/// What is off by more than this many variances is a contradiction.
const DOUBT: f64 = 5.0;
/// Sizes are just beside each other up to this, and throughput rises if it does by this share of what the size does (in `ln`).
const JUST_ABOVE: f64 = 1.35;
const RISES: f64 = 0.6;
/// Below this weight a rung counts as not visited.
const WEIGHT_MIN: f64 = 0.02;

#[derive(Debug)]
pub(super) struct Curve {
    rungs: Vec<Rung>,
    level: f64,
    /// How many times the expected variance measurements have; at least 1.
    noise: f64,
    /// The last one.
    residual: f64,
}

#[derive(Clone, Copy, Debug)]
struct Rung {
    size: u32,
    value: f64,
    weight: f64,
}

impl Curve {
    pub(super) fn new(min: u32, max: u32) -> Self {
        let (min, max) = (min.max(1), max.max(1));
        let mut rungs = Vec::new();
        let mut size = 1;
        loop {
            let clamped = size.clamp(min, max.max(min));
            if rungs.last().is_none_or(|last: &Rung| last.size < clamped) {
                rungs.push(Rung { size: clamped, value: 0.0, weight: 0.0 });
            }
            if size >= max {
                break;
            }
            size = (size + 1).max((f64::from(size) * STEP).round() as u32);
        }
        Self { rungs, level: 0.0, noise: 1.0, residual: 0.0 }
    }

    pub(super) fn size(&self, rung: usize) -> u32 {
        self.rungs.get(rung).map_or(1, |rung| rung.size)
    }

    pub(super) fn last(&self) -> usize {
        self.rungs.len() - 1
    }

    pub(super) fn weight(&self, rung: usize) -> f64 {
        self.rungs.get(rung).map_or(0.0, |rung| rung.weight)
    }

    /// What is known of a rung and those beside it; only of itself if it is `base`, and nothing of that otherwise.
    pub(super) fn weight_around(&self, rung: usize, base: usize) -> f64 {
        if rung == base || self.size(rung) < FINE {
            return self.weight(rung);
        }
        (rung.saturating_sub(1)..=rung + 1).filter(|beside| *beside != base).map(|beside| self.weight(beside)).sum()
    }

    /// How many times as large as the first rung the second is.
    pub(super) fn ratio(&self, low: usize, high: usize) -> f64 {
        f64::from(self.size(high)) / f64::from(self.size(low))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rungs.iter().all(|rung| rung.weight < WEIGHT_MIN)
    }

    /// The rung nearest to a size, by ratio.
    pub(super) fn nearest(&self, size: f64) -> usize {
        let at = self.rungs.partition_point(|rung| f64::from(rung.size) < size).min(self.last());
        let below = at.saturating_sub(1);
        let ratio = |rung: usize| (f64::from(self.size(rung)) / size.max(0.1)).ln().abs();
        if ratio(below) <= ratio(at) { below } else { at }
    }

    /// Takes in `ln X` of a rung. Returns how far off that was from what was known, if anything was.
    pub(super) fn record(&mut self, rung: usize, ln_rate: f64, weight: f64) -> Option<f64> {
        if self.is_empty() {
            self.level = ln_rate;
        }
        let (level, weight) = (self.level, weight / self.noise);
        let far_off = self.far_off();
        let rung = self.rungs.get_mut(rung)?;
        let known = rung.weight >= WEIGHT_MIN;
        let residual = ln_rate - rung.value - level;
        if known {
            let expected = PRECISION.powi(2) * (1.0 / (weight * self.noise) + 1.0 / rung.weight);
            // Noise changes from one to the next; what stays is a change of the database.
            let jump = (residual - self.residual).powi(2) / 2.0;
            self.residual = residual;
            let times = (jump.min(residual * residual) / expected).min(NOISE_MAX);
            self.noise = (self.noise + NOISE_GAIN * (times - self.noise)).max(1.0);
            if residual * residual > DOUBT * expected * self.noise {
                // What contradicts what is known makes it worth less.
                rung.weight *= 0.6;
            }
        }
        if rung.weight >= WEIGHT_SURE && residual.abs() > far_off {
            // Out of line: a hiccup, or the database has become another one. The owner tells which.
            return Some(residual);
        }
        if known {
            self.level += LEVEL_GAIN * (rung.weight / (rung.weight + weight)) * residual;
        } else {
            (rung.value, rung.weight) = (0.0, 0.0);
        }
        rung.value += weight / (rung.weight + weight) * (ln_rate - self.level - rung.value);
        rung.weight = (rung.weight + weight).min(WEIGHT_MAX);
        known.then_some(residual)
    }

    /// Trusts what is known less.
    pub(super) fn fade(&mut self, factor: f64) {
        for rung in &mut self.rungs {
            rung.weight *= factor;
        }
    }

    /// What is farther off than this (in `ln X`) is out of line.
    pub(super) fn far_off(&self) -> f64 {
        FAR_OFF * self.noise.sqrt()
    }

    /// `ln X` of the database, in relation to which the rungs are known.
    pub(super) fn level(&self) -> f64 {
        self.level
    }

    /// Whether a larger size, just above `base`, gets so much more done that what is known of sizes farther away, and makes the knee lie
    /// here, cannot be true any more.
    pub(super) fn rises_at(&self, base: usize) -> bool {
        let Some(here) = self.rungs.get(base).filter(|here| here.weight >= 1.0) else { return false };
        self.rungs
            .iter()
            .skip(base + 1)
            .take_while(|above| f64::from(above.size) < JUST_ABOVE * f64::from(here.size))
            .any(|above| {
                let sizes = (f64::from(above.size) / f64::from(here.size)).ln();
                above.weight >= 1.0 && above.value - here.value > RISES * sizes
            })
    }

    /// Forgets all but what is just beside `base`.
    pub(super) fn forget_far(&mut self, base: usize) {
        let size = f64::from(self.size(base));
        for rung in &mut self.rungs {
            let times = f64::from(rung.size) / size;
            if !(1.0 / JUST_ABOVE..=JUST_ABOVE).contains(&times) {
                rung.weight = 0.0;
            }
        }
    }

    /// The database is another one: what is known of it is what was just seen. Returns by how much levels of before have to
    /// be moved to compare them with those of after.
    pub(super) fn restart(&mut self, rung: usize, ln_rate: f64, weight: f64) -> f64 {
        let moved = self.rungs.get(rung).map_or(0.0, |rung| rung.value);
        self.fade(0.0);
        self.noise = self.noise.min(NOISE_MAX / 4.0);
        self.record(rung, ln_rate, weight);
        moved
    }

    /// The rungs that were visited, upwards.
    pub(super) fn seen(&self) -> impl DoubleEndedIterator<Item = usize> {
        self.rungs.iter().enumerate().filter(|(_, rung)| rung.weight >= WEIGHT_MIN).map(|(rung, _)| rung)
    }

    /// Where the knee is, as far as the visited rungs tell.
    pub(super) fn estimate(&self, keep: f64) -> Option<Estimate> {
        let points: Vec<Point> = self
            .seen()
            .filter_map(|rung| self.rungs.get(rung))
            .map(|rung| (f64::from(rung.size).ln(), rung.value, PRECISION.powi(2) / rung.weight + MISFIT.powi(2)))
            .collect();
        estimate(&points, keep, self.size(self.last()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_holds_both_bounds_and_steps_of_15_percent() {
        let curve = Curve::new(2, 50);
        let sizes: Vec<u32> = (0..=curve.last()).map(|rung| curve.size(rung)).collect();
        assert_eq!(sizes, [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 21, 24, 28, 32, 37, 43, 49, 50]);
        assert_eq!(curve.size(curve.nearest(11.2)), 12);
        assert_eq!(curve.size(curve.nearest(0.0)), 2);
        assert_eq!(curve.size(curve.nearest(1e9)), 50);
        assert_eq!(Curve::new(7, 7).last(), 0);
    }

    #[test]
    fn a_level_that_moves_does_not_bend_the_curve() {
        let mut curve = Curve::new(1, 20);
        let (low, high) = (curve.nearest(5.0), curve.nearest(10.0));
        // 10 connections do twice what 5 do, while the database gets slower and slower.
        for step in 0..400 {
            let level = 7.0 - f64::from(step) * 0.005;
            curve.record(low, level, 0.5);
            curve.record(high, level + 2.0_f64.ln(), 0.5);
        }
        let gain = curve.rungs[high].value - curve.rungs[low].value;
        assert!((gain - 2.0_f64.ln()).abs() < 0.02, "{gain}");
    }
}
