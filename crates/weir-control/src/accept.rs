//! Which format the client prefers (`Accept`, RFC 9110 section 12.5.1).

use weir_telemetry::Exposition;

/// `OpenMetrics` if it is asked for by name and `text/plain` is not preferred to it; else the classic
/// format, which every scraper reads.
pub(crate) fn exposition(accept: &str) -> Exposition {
    let (mut open_metrics, mut text) = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let Some(kind) = parts.next() else { continue };
        let quality = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(Some(1_000), thousandths)
            .unwrap_or(0);
        if kind.eq_ignore_ascii_case("application/openmetrics-text") {
            open_metrics = open_metrics.max(quality);
        } else if kind.eq_ignore_ascii_case("text/plain") {
            text = text.max(quality);
        }
    }
    if open_metrics > 0 && open_metrics >= text { Exposition::OpenMetrics } else { Exposition::Prometheus }
}

/// A `qvalue` (RFC 9110 section 12.4.2) in thousandths; `None` if it is not one.
fn thousandths(text: &str) -> Option<u32> {
    let value: f64 = text.parse().ok()?;
    (0.0..=1.0).contains(&value).then(|| (value * 1_000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_format_is_chosen() {
        let open = Exposition::OpenMetrics;
        let classic = Exposition::Prometheus;
        for (accept, expect) in [
            ("", classic),
            ("*/*", classic),
            ("text/plain", classic),
            ("application/openmetrics-text", open),
            ("application/openmetrics-text;q=0", classic),
            ("application/openmetrics-text; version=1.0.0; q=0.4, text/plain;q=0.5", classic),
            ("application/openmetrics-text;q=nonsense", classic),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
                 version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                open,
            ),
        ] {
            assert_eq!(exposition(accept), expect, "{accept}");
        }
    }
}
