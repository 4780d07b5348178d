//! Times as people read them.

use std::fmt;
use std::time::Duration;

/// A time in one unit, with one decimal where that says something: `850 us`, `1.2 ms`, `31 s`, `2.5 min`.
///
/// For reports. It does not read back to the same value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HumanTime(pub Duration);

impl fmt::Display for HumanTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.pad("0 s");
        }
        let seconds = self.0.as_secs_f64();
        let (value, unit) = match seconds {
            s if s >= 7_200.0 => (s / 3_600.0, "h"),
            s if s >= 120.0 => (s / 60.0, "min"),
            s if s >= 0.9995 => (s, "s"),
            s if s >= 0.999_5e-3 => (s * 1e3, "ms"),
            s if s >= 0.999_5e-6 => (s * 1e6, "us"),
            s => (s * 1e9, "ns"),
        };
        let digits = usize::from(value < 99.95 && (value - value.round()).abs() >= 0.05);
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unit_and_at_most_one_decimal() {
        for (micros, expected) in [
            (0, "0 s"),
            (850, "850 us"),
            (999, "999 us"),
            (1_000, "1 ms"),
            (1_234, "1.2 ms"),
            (99_960, "100 ms"),
            (999_700, "1 s"),
            (30_960_000, "31 s"),
            (119_000_000, "119 s"),
            (150_000_000, "2.5 min"),
            (7_200_000_000, "2 h"),
        ] {
            assert_eq!(HumanTime(Duration::from_micros(micros)).to_string(), expected);
        }
        assert_eq!(HumanTime(Duration::from_nanos(1_440)).to_string(), "1.4 us");
        assert_eq!(HumanTime(Duration::from_nanos(40)).to_string(), "40 ns");
        assert_eq!(format!("{:>8}|", HumanTime(Duration::ZERO)), "     0 s|");
    }
}
