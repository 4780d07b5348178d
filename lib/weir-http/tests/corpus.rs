//! Replays the corpora of the fuzz targets.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::naive_bytecount, reason = "a test fails by panicking")]

mod checks;

use std::path::Path;

#[test]
fn request_heads() {
    replay("request_head", checks::request_head);
}

#[test]
fn response_heads() {
    replay("response_head", checks::response_head);
}

#[test]
fn chunked_bodies() {
    replay("chunked_body", checks::chunked_body);
}

#[allow(clippy::disallowed_methods, reason = "the corpora are files; the crate itself reads none")]
fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).expect("the corpus is committed") {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        // The name says which input it was if a check fails.
        let outcome = std::panic::catch_unwind(|| check(&input));
        assert!(outcome.is_ok(), "{} fails", path.display());
        count += 1;
    }
    assert!(count >= 10, "the corpus of {target} is there: {count} inputs");
}
