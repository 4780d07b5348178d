//! What tests say to servers, and how they let time pass.

use std::time::{Duration, Instant};

/// A query of PostgreSQL that does not end by itself.
pub const ENDLESS: &str = "SELECT pg_sleep(1000)";
/// A query of PostgreSQL that answers its first parameter after as many seconds as its second says.
pub const SLOW_ECHO: &str = "SELECT $1::int8 FROM pg_sleep($2)";

/// Lets time pass that is part of what a test is about: an outage of that length, an idle time. Not for luck.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Waits for a level while the runtime goes on with everything else.
///
/// # Panics
/// If it is not reached for long.
pub async fn until(what: &str, mut level: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !level() {
        assert!(begun.elapsed() < weir_test::PATIENCE, "not within {:?}: {what}", weir_test::PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
