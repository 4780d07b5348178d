//! Values of options.

use std::time::Duration;

/// A duration with its unit, as in the configuration.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    weir_config::parse_duration(text)
        .map_err(|what| format!("{what}; write a number with its unit, such as 30s or 1m30s"))
}
