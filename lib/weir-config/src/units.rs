//! Durations, sizes and shares as written and as printed.
//!
//! Every number carries its unit, so that `30` can never be read as minutes by one person and as
//! milliseconds by another. Printing gives text that reads back to the same value.

use std::fmt::Write as _;
use std::time::Duration;

/// Units of durations, longest first: word, nanoseconds.
const DURATION_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of sizes: word, bytes. Powers of ten and of two are told apart.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Why a text is no duration, size or share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UnitError {
    /// A number without a unit.
    NoUnit,
    /// A unit that is not known.
    UnknownUnit,
    /// Not a number.
    NotANumber,
    /// Larger than can be held.
    TooLarge,
    /// `1s1m`: units must go from long to short, each once.
    Order,
}

impl UnitError {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::NoUnit => "the unit is missing",
            Self::UnknownUnit => "this unit is not known",
            Self::NotANumber => "this is not a number with a unit",
            Self::TooLarge => "this is too large",
            Self::Order => "units must go from long to short, each at most once",
        }
    }
}

/// Reads a duration as configurations write it: `30s`, `1m30s`, `250ms`.
///
/// # Errors
/// What is wrong with the text, in words.
pub fn parse_duration_text(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).map_err(UnitError::describe)
}

/// Reads `30s`, `1m30s`, `1.5s`, `250ms`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    if rest.is_empty() {
        return Err(UnitError::NotANumber);
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let unit_len = after.find(|c: char| !c.is_ascii_alphabetic() && c != 'µ').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let unit = if unit == "µs" { "us" } else { unit };
        if unit.is_empty() {
            return Err(if after.is_empty() { UnitError::NoUnit } else { UnitError::NotANumber });
        }
        let nanos = DURATION_UNITS.iter().find(|(word, _)| *word == unit).ok_or(UnitError::UnknownUnit)?.1;
        if nanos >= smallest {
            return Err(UnitError::Order);
        }
        smallest = nanos;
        total = total.checked_add(scaled(number, nanos)?).ok_or(UnitError::TooLarge)?;
        rest = after;
    }
    Ok(Duration::from_nanos(total))
}

/// Reads `64KiB`, `1MB`, `512B`.
pub(crate) fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split_number(text)?;
    let unit = unit.trim_start_matches(' ');
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    let bytes = SIZE_UNITS.iter().find(|(word, _)| *word == unit).ok_or(UnitError::UnknownUnit)?.1;
    scaled(number, bytes)
}

/// Reads `20%` as 0.2.
pub(crate) fn parse_share(text: &str) -> Result<f64, UnitError> {
    let (number, unit) = split_number(text)?;
    match unit {
        "" => Err(UnitError::NoUnit),
        "%" => Ok(number.parse::<f64>().map_err(|_| UnitError::NotANumber)? / 100.0),
        _ => Err(UnitError::UnknownUnit),
    }
}

/// `90s` as `1m30s`, `0` as `0s`.
pub(crate) fn print_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (word, nanos) in DURATION_UNITS {
        let count = rest / nanos;
        if count > 0 {
            let _ = write!(out, "{count}{word}");
            rest %= nanos;
        }
    }
    out
}

/// `65536` as `64KiB`; the largest unit that divides it.
pub(crate) fn print_size(bytes: u64) -> String {
    let fits = |(_, unit): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*unit);
    let (word, unit) = SIZE_UNITS.iter().find(fits).copied().unwrap_or(("B", 1));
    format!("{}{word}", bytes / unit)
}

/// `0.2` as `"20%"` where that reads back to the same number, else as a number.
pub(crate) fn print_share(share: f64) -> String {
    let percent = format!("{}%", share * 100.0);
    if percent.len() <= 6 && parse_share(&percent) == Ok(share) {
        format!("\"{percent}\"")
    } else {
        format!("{share:?}")
    }
}

fn split_number(text: &str) -> Result<(&str, &str), UnitError> {
    let len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(len);
    let good = number.starts_with(|c: char| c.is_ascii_digit()) && number.ends_with(|c: char| c.is_ascii_digit());
    if !good || number.matches('.').count() > 1 {
        return Err(UnitError::NotANumber);
    }
    Ok((number, rest))
}

/// `number × unit`, exact for whole numbers and for decimals that are whole in the smallest unit.
fn scaled(number: &str, unit: u64) -> Result<u64, UnitError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| UnitError::TooLarge)?;
    let mut total = whole.checked_mul(unit).ok_or(UnitError::TooLarge)?;
    if !fraction.is_empty() {
        // Nine digits reach below a nanosecond of a second; more would not change the value.
        let digits = &fraction[..fraction.len().min(9)];
        let value: u128 = digits.parse().map_err(|_| UnitError::NotANumber)?;
        let scale = 10_u128.pow(u32::try_from(digits.len()).unwrap_or(9));
        let part = u64::try_from(value * u128::from(unit) / scale).map_err(|_| UnitError::TooLarge)?;
        total = total.checked_add(part).ok_or(UnitError::TooLarge)?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_units_in_order() {
        let ok = |text| parse_duration(text).unwrap();
        assert_eq!(ok("30s"), Duration::from_secs(30));
        assert_eq!(ok("1m30s"), Duration::from_secs(90));
        assert_eq!(ok("1.5s"), Duration::from_millis(1500));
        assert_eq!(ok("2d"), Duration::from_hours(48));
        assert_eq!(ok("10µs"), Duration::from_micros(10));
        for (text, error) in [
            ("30", UnitError::NoUnit),
            ("", UnitError::NotANumber),
            ("s", UnitError::NotANumber),
            ("1 s", UnitError::NotANumber),
            ("-1s", UnitError::NotANumber),
            ("30sec", UnitError::UnknownUnit),
            ("1s1m", UnitError::Order),
            ("1s1s", UnitError::Order),
            ("1..5s", UnitError::NotANumber),
            ("999999999999d", UnitError::TooLarge),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn sizes_tell_powers_of_ten_and_two_apart() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("64KB"), Ok(64_000));
        assert_eq!(parse_size("1.5MiB"), Ok(1_572_864));
        assert_eq!(parse_size("64"), Err(UnitError::NoUnit));
        assert_eq!(parse_size("64k"), Err(UnitError::UnknownUnit));
    }

    #[test]
    fn shares_are_percent() {
        assert_eq!(parse_share("20%"), Ok(0.2));
        assert_eq!(parse_share("20"), Err(UnitError::NoUnit));
        assert_eq!(print_share(0.2), "\"20%\"");
        assert_eq!(print_share(0.123_456_789), "0.123456789");
    }

    proptest! {
        #[test]
        fn durations_round_trip(nanos in any::<u64>()) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&print_duration(duration)), Ok(duration));
        }

        #[test]
        fn sizes_round_trip(bytes in any::<u64>()) {
            prop_assert_eq!(parse_size(&print_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = (parse_duration(&text), parse_size(&text), parse_share(&text));
        }
    }
}
