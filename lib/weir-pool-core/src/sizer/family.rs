//! What throughput by size can look like: a family of curves, and which of its members what was seen speaks for.
//!
//! ```text
//! f(r) = r / (1 + r^p)^(1/p) / (1 + g · max(0, r − 0.8))        r = size / turn
//! ```
//!
//! Below the *turn* throughput grows with the size, above it does not; `p` is how sharp the turn is (2: many kinds of waits and few
//! processors; 20: all work on as many processors as the turn says), `g` how much is lost beyond it (contention; 0: nothing).
//! Exact throughputs of closed queueing networks (processors shared, and waits) are met within 1 to 2 % of throughput, and their knees
//! within 10 %, even from five sizes a factor of two apart.
//!
//! Each member is judged by its squared distance to what was seen (its height is free), on top of a prior that favours `g = 0`; the knee
//! is the mean of the members' knees (`ln` of the size), weighted by their likelihood, with its spread. One estimate looks at about 24
//! members for each of 60 turns: some tens of microseconds, once per window.

use std::sync::LazyLock;

/// A size that was seen: `ln size`, `ln X` (to any constant), and the variance of that.
pub(super) type Point = (f64, f64, f64);

/// Where the knee is, as far as is known.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Estimate {
    /// `ln` of the smallest size that keeps the throughput.
    pub(super) knee: f64,
    /// Standard deviation of that.
    pub(super) spread: f64,
}

const SHARPNESS: [f64; 6] = [1.7, 2.5, 4.0, 6.0, 10.0, 20.0];
/// Loss and its prior.
const LOSSES: [(f64, f64); 4] = [(0.0, 0.6), (0.1, 0.15), (0.3, 0.15), (1.0, 0.1)];
/// The table of each shape: `ln r` from −`REACH` to `REACH` in steps of `1 / PER_UNIT`.
const REACH: f64 = 6.0;
const PER_UNIT: f64 = 25.0;
/// Turns are tried in steps of this, in `ln`.
const TURN_STEP: f64 = 0.07;

struct Shape {
    prior: f64,
    /// `ln f`.
    values: Vec<f64>,
    /// Up to here they rise.
    peak: usize,
}

static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    let mut shapes = Vec::new();
    for (loss, prior) in LOSSES {
        for sharpness in SHARPNESS {
            let steps = (2.0 * REACH * PER_UNIT) as usize;
            let values: Vec<f64> =
                (0..=steps).map(|step| value(step as f64 / PER_UNIT - REACH, sharpness, loss)).collect();
            let peak = values.windows(2).position(|pair| pair[1] < pair[0]).unwrap_or(steps);
            shapes.push(Shape { prior: f64::ln(prior), values, peak });
        }
    }
    shapes
});

/// `ln f` at `ln r`.
fn value(ln_r: f64, sharpness: f64, loss: f64) -> f64 {
    let lost = (loss * (ln_r.exp() - 0.8).max(0.0)).ln_1p();
    ln_r - (sharpness * ln_r).exp().ln_1p() / sharpness - lost
}

impl Shape {
    fn at(&self, ln_r: f64) -> f64 {
        let step = ((ln_r + REACH) * PER_UNIT).clamp(0.0, 2.0 * REACH * PER_UNIT);
        let low = step as usize;
        let (Some(left), right) = (self.values.get(low), self.values.get(low + 1)) else { return 0.0 };
        // Far below the turn it is a line of slope 1.
        let beyond = (ln_r + REACH).min(0.0);
        left + (step - low as f64) * (right.unwrap_or(left) - left) + beyond
    }

    /// `ln r` of the smallest size up to `ln_max` that keeps the throughput, of the best up to there.
    fn knee(&self, keep: f64, ln_max: f64) -> f64 {
        let end = ((ln_max + REACH) * PER_UNIT).clamp(0.0, self.peak as f64) as usize;
        let rising = self.values.get(..=end).unwrap_or(&self.values);
        let best = rising.last().copied().unwrap_or(0.0);
        rising.partition_point(|value| *value < best + keep.ln()) as f64 / PER_UNIT - REACH
    }
}

/// Where the knee is within `1..=max`; `None` if nothing was seen.
pub(super) fn estimate(points: &[Point], keep: f64, max: u32) -> Option<Estimate> {
    let ln_max = f64::from(max.max(1)).ln();
    let weights: f64 = points.iter().map(|(.., variance)| 1.0 / variance).sum();
    if points.is_empty() {
        return None;
    }
    let turns = ((ln_max + 1.4) / TURN_STEP) as u32 + 1;
    let mut members: Vec<(f64, f64)> = Vec::with_capacity(SHAPES.len() * turns as usize);
    for shape in SHAPES.iter() {
        for turn in 0..turns {
            // From a half to twice the maximum.
            let turn = f64::from(turn) * TURN_STEP - 0.7;
            let (mut sum, mut squares) = (0.0, 0.0);
            for (size, rate, variance) in points {
                let off = rate - shape.at(size - turn);
                sum += off / variance;
                squares += off * off / variance;
            }
            // With the best height.
            let distance = squares - sum * sum / weights;
            let knee = (shape.knee(keep, ln_max - turn) + turn).clamp(0.0, ln_max);
            members.push((shape.prior - distance / 2.0, knee));
        }
    }
    let likeliest = members.iter().map(|(likelihood, _)| *likelihood).fold(f64::NEG_INFINITY, f64::max);
    let (mut sum, mut mean, mut square) = (0.0, 0.0, 0.0);
    for (likelihood, knee) in members {
        let weight = (likelihood - likeliest).exp();
        sum += weight;
        mean += weight * knee;
        square += weight * knee * knee;
    }
    let knee = mean / sum;
    Some(Estimate { knee, spread: (square / sum - knee * knee).max(0.0).sqrt() })
}
