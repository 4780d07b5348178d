//! The page about the pool names tests that exist, and all properties of `HikariCP`.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail with the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/concept/pool.md";
/// Where tests that the page may name are.
const PLACES: [&str; 4] = ["crates/weir-pool/src", "crates/weir-pool/tests", "lib/weir-pool-core/src", "testing"];
/// The properties that `HikariCP`'s README lists, its run-time control and its system properties.
const PROPERTIES: [&str; 37] = [
    "dataSourceClassName",
    "jdbcUrl",
    "username",
    "password",
    "autoCommit",
    "connectionTimeout",
    "idleTimeout",
    "keepaliveTime",
    "maxLifetime",
    "connectionTestQuery",
    "minimumIdle",
    "maximumPoolSize",
    "metricRegistry",
    "healthCheckRegistry",
    "poolName",
    "initializationFailTimeout",
    "isolateInternalQueries",
    "allowPoolSuspension",
    "readOnly",
    "registerMbeans",
    "catalog",
    "connectionInitSql",
    "driverClassName",
    "transactionIsolation",
    "validationTimeout",
    "leakDetectionThreshold",
    "dataSource",
    "schema",
    "threadFactory",
    "scheduledExecutor",
    "exceptionOverrideClassName",
    "credentialsProvider",
    "softEvictConnections",
    "aliveBypassWindowMs",
    "housekeeping.periodMs",
    "blockUntilFilled",
    "enableRequestBoundaries",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Names of all test functions below a folder.
fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let marks = text.replace("#[tokio::test", "#[test]").replace("    #[test]", "#[test]");
            for (_, rest) in marks.split("#[test]").skip(1).filter_map(|rest| rest.split_once("fn ")) {
                found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            }
        }
    }
}

#[test]
fn every_property_has_a_row_and_every_row_a_test_that_exists() {
    let page = std::fs::read_to_string(root().join(PAGE)).unwrap();
    let mut existing = BTreeSet::new();
    for place in PLACES {
        tests_in(&root().join(place), &mut existing);
    }
    assert!(existing.len() > 50, "tests are found: {}", existing.len());
    let (_, table) = page.split_once("<!-- hikari: begin -->").unwrap();
    let (table, _) = table.split_once("<!-- hikari: end -->").unwrap();
    let mut named = BTreeSet::new();
    let mut rows = 0;
    for row in table.lines().skip(3) {
        // Property | ours | same, better or left out | tests; a test is the only thing in backticks in the last column.
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [property, _, verdict, tests] = cells[..] else { panic!("not four cells: {row}") };
        rows += 1;
        named.extend(property.split('`').skip(1).step_by(2));
        let verdict = verdict.trim();
        assert!(verdict == "same" || verdict.starts_with("better") || verdict.starts_with("left out: "), "{row}");
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "a row without a test: {row}");
        for test in tests {
            assert!(existing.contains(test), "{PAGE} names `{test}`, which is no test: {row}");
        }
    }
    assert!(rows >= 30, "{rows} rows");
    for property in PROPERTIES {
        assert!(named.contains(property), "{PAGE} says nothing of `{property}`");
    }
}
