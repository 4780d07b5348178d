//! The latest lines of the log, for the view: while it is on the terminal nothing else may write there.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Lines kept.
const LINES: usize = 200;

/// A log that keeps its latest lines. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events(Arc<Mutex<VecDeque<String>>>);

impl Events {
    /// The latest `count` lines, oldest first.
    pub(crate) fn latest(&self, count: usize) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }

    fn push(&self, text: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in text.lines() {
            if lines.len() == LINES {
                lines.pop_front();
            }
            lines.push_back(shorten(line));
        }
    }
}

/// `2026-11-22T22:57:55.123456Z  WARN text` becomes `22:57:55  WARN text`.
fn shorten(line: &str) -> String {
    let short = line.split_once('T').and_then(|(date, rest)| {
        let (time, text) = rest.split_once('Z')?;
        let whole = time.get(..8)?;
        (date.len() == 10 && whole.as_bytes()[2] == b':').then(|| format!("{whole} {text}"))
    });
    // What a log line holds may come from anywhere; the terminal gets no control characters.
    short.unwrap_or_else(|| line.to_owned()).chars().filter(|c| !c.is_control()).collect()
}

impl<'a> MakeWriter<'a> for Events {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// One call for each line: that is how the log writes.
impl io::Write for Events {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_short_clean_and_few() {
        let events = Events::default();
        events.push("2026-11-22T22:57:55.123456Z  WARN endpoint is down cluster=\"a\u{1b}[31m\"\n");
        assert_eq!(events.latest(5), ["22:57:55   WARN endpoint is down cluster=\"a[31m\""]);
        for n in 0..LINES {
            events.push(&format!("Tx {n}"));
        }
        assert_eq!(events.latest(2), ["Tx 198", "Tx 199"]);
        assert_eq!(events.latest(LINES * 2).len(), LINES);
    }
}
