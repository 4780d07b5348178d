//! Values of options.

use std::time::Duration;

/// A duration with its unit, as in the configuration.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    weir_config::parse_duration(text)
        .map_err(|what| format!("{what}; write a number with its unit, such as 30s or 1m30s"))
}

/// So many per second: `250`, `0.5`, `250/s`, `15000/m`, `900000/h`. Above zero.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("the unit `/{unit}` is not known; write /s, /m or /h, such as 15000/m")),
    };
    let count = number(count)?;
    if count > 0.0 { Ok(count / seconds) } else { Err("it must be above zero".to_owned()) }
}

/// A plain number, zero or above.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse::<f64>()
        .ok()
        .filter(|number| plain && number.is_finite())
        .ok_or_else(|| "this is not a number; write digits only, such as 250 or 0.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_unless_said() {
        for (text, expected) in [("250", 250.0), ("0.5/s", 0.5), ("15000/m", 250.0), ("60/min", 1.0), ("3600/h", 1.0)] {
            assert!((rate(text).unwrap() - expected).abs() < 1e-9, "{text}");
        }
        for (text, what) in [
            ("0", "above zero"),
            ("", "not a number"),
            ("-1", "not a number"),
            ("1e3", "not a number"),
            ("NaN", "not a number"),
            ("1,000", "not a number"),
            ("10/d", "`/d` is not known"),
        ] {
            let error = rate(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
