//! Text that another process has said, made fit for an error and a line of a log: one line, no control characters, bounded.

/// Bytes of it that are kept at most.
pub(crate) const WORDS_MAX: usize = 300;

/// `said`, cut to [`WORDS_MAX`] bytes (an ellipsis says so), with a space for every control character.
pub(crate) fn plain(said: &str) -> String {
    let mut words = String::new();
    for c in said.trim_matches(|c: char| c.is_whitespace() || is_odd(c)).chars() {
        if words.len() + c.len_utf8() > WORDS_MAX {
            words.push('…');
            break;
        }
        words.push(if is_odd(c) { ' ' } else { c });
    }
    words
}

/// Whether a character moves the cursor, begins a line, or turns the direction of what follows it.
pub(crate) fn is_odd(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_bounded_line() {
        assert_eq!(plain(" no \r\nroom\u{1b}[2J\u{202e} "), "no   room [2J");
        assert_eq!(plain(&"ä".repeat(400)), format!("{}…", "ä".repeat(WORDS_MAX / 2)));
    }
}
