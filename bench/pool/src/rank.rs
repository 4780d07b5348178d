//! Who is first, and what is a tie.
//!
//! Two peers are compared by the ratio of their figures in the same round, which a drift of the machine touches little. They are
//! tied if rounds speak for either, that is 1 lies between the least and the greatest ratio, and the median is no further from 1
//! than half the distance between these two; or if the median is as near to 1 as the figures are exact ([`EXACT`]).

use std::fmt;

/// What is no difference: waits are counted in buckets that are up to 1.6 % wide.
pub const EXACT: f64 = 0.02;

/// A figure of one peer, by round.
pub type Rounds = Vec<(u32, f64)>;

/// How one peer stands against another.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Standing {
    /// The median over the rounds of ours by theirs; above 1 ours is better, whichever way the figure goes.
    pub ratio: f64,
    /// The least and the greatest ratio.
    pub range: (f64, f64),
}

impl Standing {
    /// `None` if the two have no round in common.
    pub fn of(ours: &[(u32, f64)], theirs: &[(u32, f64)], more_is_better: bool) -> Option<Self> {
        let mut ratios: Vec<f64> = ours
            .iter()
            .filter_map(|(round, own)| {
                let (_, other) = theirs.iter().find(|(other, _)| other == round)?;
                // What was not served at all, or cost nothing that could be seen, still has a place in the order.
                let (own, other) = (own.max(f64::MIN_POSITIVE), other.max(f64::MIN_POSITIVE));
                Some(if more_is_better { own / other } else { other / own })
            })
            .collect();
        ratios.sort_unstable_by(f64::total_cmp);
        Some(Self { ratio: median(&ratios)?, range: (*ratios.first()?, *ratios.last()?) })
    }

    /// Whether the two are the same within what differs from round to round.
    pub fn is_tie(&self) -> bool {
        let (least, most) = self.range;
        let off = (self.ratio - 1.0).abs();
        off <= EXACT || (least <= 1.0 && 1.0 <= most && off <= (most - least) / 2.0)
    }

    /// Whether ours is behind.
    pub fn is_behind(&self) -> bool {
        self.ratio < 1.0 && !self.is_tie()
    }
}

/// The middle of what is in order.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(*sorted.get(middle - 1)?, upper) })
}

/// How ours stands in a row.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// Before all others.
    First(Against),
    /// Behind nobody, and level with this one.
    Tied(Against),
    /// Behind this one.
    Behind(Against),
    /// There is nobody to compare with.
    Alone,
}

/// The strongest of the others.
#[derive(Clone, PartialEq, Debug)]
pub struct Against {
    /// Who.
    pub peer: &'static str,
    /// How ours stands against it.
    pub standing: Standing,
}

impl fmt::Display for Against {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing { ratio, range: (least, most) } = self.standing;
        write!(f, "{} {ratio:.2}", self.peer)?;
        if least < most { write!(f, " ({least:.2}–{most:.2})") } else { Ok(()) }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First(against) => write!(f, "first; {against}"),
            Self::Tied(against) => write!(f, "tied; {against}"),
            Self::Behind(against) => write!(f, "**behind** {against}"),
            Self::Alone => write!(f, "–"),
        }
    }
}

/// Ours among all.
pub fn verdict(ours: &[(u32, f64)], others: &[(&'static str, Rounds)], more_is_better: bool) -> Verdict {
    let mut all: Vec<Against> = others
        .iter()
        .filter_map(|(peer, theirs)| Some(Against { peer, standing: Standing::of(ours, theirs, more_is_better)? }))
        .collect();
    all.sort_by(|a, b| a.standing.ratio.total_cmp(&b.standing.ratio));
    // The strongest is not always the one that ours is clearly behind, or level with: a wide spread is a tie.
    let found = |wanted: fn(&Standing) -> bool| all.iter().find(|against| wanted(&against.standing)).cloned();
    if let Some(against) = found(Standing::is_behind) {
        return Verdict::Behind(against);
    }
    match found(Standing::is_tie) {
        Some(against) => Verdict::Tied(against),
        None => all.into_iter().next().map_or(Verdict::Alone, Verdict::First),
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the figures are exact in these cases")]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> Rounds {
        (1..).zip(values.iter().copied()).collect()
    }

    #[test]
    fn rounds_are_compared_with_the_same_round() {
        // The machine becomes slower by half; ours is always ahead by a tenth.
        let standing = Standing::of(&rounds(&[110.0, 55.0, 82.5]), &rounds(&[100.0, 50.0, 75.0]), true).unwrap();
        assert!((standing.ratio - 1.1).abs() < 1e-9 && !standing.is_tie() && !standing.is_behind(), "{standing:?}");
        assert_eq!(Standing::of(&[(1, 1.0)], &[(2, 1.0)], true), None);
    }

    #[test]
    fn what_differs_less_than_the_rounds_do_is_a_tie() {
        let close = Standing::of(&rounds(&[97.0, 102.0, 99.0]), &rounds(&[100.0; 3]), true).unwrap();
        assert!(close.is_tie() && !close.is_behind());
        let behind = Standing::of(&rounds(&[90.0, 91.0, 89.0]), &rounds(&[100.0; 3]), true).unwrap();
        assert!(!behind.is_tie() && behind.is_behind());
        // All rounds agree, some more than others.
        let ahead = Standing::of(&rounds(&[131.0, 120.0, 280.0]), &rounds(&[100.0; 3]), true).unwrap();
        assert!(!ahead.is_tie());
        let same = Standing::of(&rounds(&[98.5]), &rounds(&[100.0]), true).unwrap();
        assert!(same.is_tie());
        // One lucky round in four does not hide a clear loss.
        let lucky = Standing::of(&rounds(&[60.0, 60.0, 60.0, 105.0]), &rounds(&[100.0; 4]), true).unwrap();
        assert!(lucky.is_behind());
    }

    #[test]
    fn of_waits_less_is_better() {
        let standing = Standing::of(&rounds(&[10.0]), &rounds(&[40.0]), false).unwrap();
        assert_eq!(standing.ratio, 4.0);
    }

    #[test]
    fn one_that_is_ahead_of_us_makes_us_behind_and_one_level_makes_a_tie() {
        let ours = rounds(&[100.0, 101.0]);
        let slow = ("slow", rounds(&[50.0, 50.0]));
        let level = ("level", rounds(&[101.0, 100.0]));
        let fast = ("fast", rounds(&[150.0, 151.0]));
        // Nobody can say of it whether it is better.
        let wild = ("wild", rounds(&[20.0, 2_000.0]));
        let name = |verdict: Verdict| match verdict {
            Verdict::First(against) => ("first", against.peer),
            Verdict::Tied(against) => ("tied", against.peer),
            Verdict::Behind(against) => ("behind", against.peer),
            Verdict::Alone => ("alone", ""),
        };
        let of = |others: &[(&'static str, Rounds)]| name(verdict(&ours, others, true));
        assert_eq!(of(std::slice::from_ref(&slow)), ("first", "slow"));
        assert_eq!(of(&[slow.clone(), level.clone()]), ("tied", "level"));
        assert_eq!(of(&[slow.clone(), wild.clone()]), ("tied", "wild"));
        assert_eq!(of(&[slow, level, wild, fast]), ("behind", "fast"));
        assert_eq!(of(&[]), ("alone", ""));
        // Who got nothing done is no match.
        assert_eq!(of(&[("hung", rounds(&[0.0, 0.0]))]), ("first", "hung"));
    }
}
