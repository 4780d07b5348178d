//! Replays the corpus of the fuzz target.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the corpus is files; the crate itself reads none")]

use std::path::Path;

use weir_config::{FUZZ_MAX_BYTES, fuzz_one};

#[test]
fn configurations() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/config");
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).expect("the corpus is committed") {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        assert!(input.len() <= FUZZ_MAX_BYTES, "{} is longer than what is looked at", path.display());
        let outcome = std::panic::catch_unwind(|| fuzz_one(&input));
        assert!(outcome.is_ok(), "{} fails", path.display());
        count += 1;
    }
    assert!(count >= 10, "the corpus is there: {count} inputs");
}
