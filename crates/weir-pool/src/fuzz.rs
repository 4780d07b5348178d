//! The entry points of the fuzz targets: what must hold for any bytes whatever that a server sends. Built for them and for the
//! tests only, which replay the corpora.
//!
//! | function | bytes | read by |
//! |---|---|---|
//! | [`postgres_wire`] | both directions of a connection to PostgreSQL | the reader of the manager's own |
//! | [`redis_reply`] | what a Redis says | the `redis` crate, and the manager's reader of first words |
//! | [`http1_answer`] | what an HTTP/1.1 server says | `hyper`, and the manager |
//! | [`budget_answer`] | answers of a grantor, one after the other | the budget's client |
//!
//! Time is virtual: what would wait for ever is seen at once.
#![allow(clippy::missing_panics_doc, reason = "a broken invariant panics: that is their purpose")]

#[cfg(feature = "budget")]
mod budget;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "http1", feature = "redis"))]
mod script;
#[cfg(any(feature = "http1", feature = "redis"))]
mod streams;

#[cfg(feature = "budget")]
pub use budget::budget_answer;
#[cfg(feature = "postgres")]
pub use postgres::postgres_wire;
#[cfg(feature = "http1")]
pub use streams::http1_answer;
#[cfg(feature = "redis")]
pub use streams::redis_reply;

/// An error's text is one bounded line, whatever the other side has said.
#[cfg(any(feature = "budget", feature = "http1", feature = "redis"))]
fn assert_plain(error: &dyn std::fmt::Display) {
    let text = error.to_string();
    assert!(text.len() <= 2 * crate::words::WORDS_MAX, "{} bytes: {text:?}", text.len());
    assert!(!text.chars().any(crate::words::is_odd), "{text:?}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(target: &str, check: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let mut count = 0;
        for entry in std::fs::read_dir(&corpus).unwrap() {
            let path = entry.unwrap().path();
            let input = std::fs::read(&path).unwrap();
            // The name says which input it was if a check fails.
            let outcome = std::panic::catch_unwind(|| check(&input));
            assert!(outcome.is_ok(), "{} fails", path.display());
            count += 1;
        }
        assert!(count >= 10, "the corpus of {target} is there: {count} inputs");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn connections_to_postgres() {
        replay("postgres_wire", super::postgres_wire);
    }

    #[cfg(feature = "redis")]
    #[test]
    fn replies_of_redis() {
        replay("redis_reply", super::redis_reply);
    }

    #[cfg(feature = "http1")]
    #[test]
    fn answers_of_http_servers() {
        replay("http1_answer", super::http1_answer);
    }

    #[cfg(feature = "budget")]
    #[test]
    fn answers_of_grantors() {
        replay("budget_answer", super::budget_answer);
    }
}
