//! Waiting for a level with a deadline.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How often the level is read.
const INTERVAL: Duration = Duration::from_millis(5);

/// What a condition may answer: `bool`, `Option<T>`, or `Result<T, what was seen instead>`.
pub trait Level {
    /// What [`eventually`] returns.
    type Value;
    /// The value if the level is reached, else what is seen instead.
    fn reached(self) -> Result<Self::Value, String>;
}

impl Level for bool {
    type Value = ();
    fn reached(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".to_owned()) }
    }
}

impl<T> Level for Option<T> {
    type Value = T;
    fn reached(self) -> Result<T, String> {
        self.ok_or_else(|| "None".to_owned())
    }
}

impl<T, E: Debug> Level for Result<T, E> {
    type Value = T;
    fn reached(self) -> Result<T, String> {
        self.map_err(|e| format!("{e:?}"))
    }
}

/// Reads a level again and again until it is reached, and returns its value.
///
/// It must be a level (something that stays true), not an edge that can pass between two readings. The
/// condition is read at least once, and once more after the deadline.
///
/// # Panics
/// When `deadline` has passed, with `what` and what was seen last.
#[track_caller]
pub fn eventually<L: Level>(deadline: Duration, what: &str, mut condition: impl FnMut() -> L) -> L::Value {
    let end = Instant::now() + deadline;
    loop {
        let last_try = Instant::now() >= end;
        match condition().reached() {
            Ok(value) => return value,
            Err(seen) => assert!(!last_try, "not within {deadline:?}: {what}; last seen: {seen}"),
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the interval between two readings of a level; this is the replacement that the ban names"
)]
fn pause() {
    std::thread::sleep(INTERVAL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_value_when_the_level_is_reached() {
        let mut n = 0;
        let value = eventually(Duration::from_secs(5), "three", || {
            n += 1;
            (n == 3).then_some(n * 10)
        });
        assert_eq!(value, 30);
    }

    #[test]
    #[should_panic(expected = "not within 20ms: a miracle; last seen: \"only 7\"")]
    fn panics_with_what_was_seen_last() {
        eventually(Duration::from_millis(20), "a miracle", || Err::<(), _>("only 7"));
    }
}
