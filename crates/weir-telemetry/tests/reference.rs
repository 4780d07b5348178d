//! The reference pages agree with the code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use weir_telemetry::catalogue::{Kind, METRICS, reference_markdown};

#[test]
fn the_metrics_page_is_up_to_date() {
    let path = page("metrics.md");
    let expected = reference_markdown();
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(&path, &expected).unwrap();
    }
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        present == expected,
        "{} is stale: run `UPDATE=1 cargo test -p weir-telemetry --test reference`",
        path.display()
    );
}

#[test]
fn rows_follow_the_conventions() {
    let mut names = BTreeSet::new();
    for metric in METRICS {
        let name = metric.name;
        assert!(names.insert(name), "{name} twice");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert!(
            ["weir_", "process_", "http_server_", "http_client_"].iter().any(|prefix| name.starts_with(prefix)),
            "{name}"
        );
        assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        match metric.unit {
            Some(unit) => assert!(metric.family().ends_with(&format!("_{}", unit.as_str())), "{name}"),
            None => {
                assert!(!metric.family().ends_with("_seconds") && !metric.family().ends_with("_bytes"), "{name}");
            }
        }
        assert!(!metric.help.is_empty() && !metric.help.ends_with('.') && !metric.help.contains('\n'), "{name}");
        assert!(metric.labels.iter().all(|label| *label != "le"), "{name}");
    }
}

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name)
}
