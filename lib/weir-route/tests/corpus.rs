//! Replays the corpus of the fuzz target.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod checks;

use std::path::Path;

#[test]
#[allow(clippy::disallowed_methods, reason = "the corpus is files; the crate itself reads none")]
fn paths() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/path_normalise");
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).expect("the corpus is committed") {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        let outcome = std::panic::catch_unwind(|| checks::path_normalise(&input));
        assert!(outcome.is_ok(), "{} fails", path.display());
        count += 1;
    }
    assert!(count >= 10, "the corpus is there: {count} inputs");
}
