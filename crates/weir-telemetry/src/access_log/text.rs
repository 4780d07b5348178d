//! Pieces of a line: numbers, times and text from strangers.

use std::fmt::Display;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use weir_core::WallTime;

use super::FIELD_BYTES;

/// Text of a length known to the compiler.
#[inline(always)]
pub(super) fn literal<const N: usize>(out: &mut Vec<u8>, text: &[u8; N]) {
    out.extend_from_slice(text);
}

/// A decimal number.
#[inline]
pub(super) fn number(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Anything that displays as plain text without quotes or control characters.
pub(super) fn display(out: &mut Vec<u8>, value: impl Display) {
    // Writing to a vector does not fail.
    let _ = write!(out, "{value}");
}

/// An IP address.
pub(super) fn ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            number(out, a);
            for octet in [b, c, d] {
                out.push(b'.');
                number(out, octet);
            }
        }
        IpAddr::V6(v6) => display(out, v6),
    }
}

/// An address with its port.
pub(super) fn address(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(v4) => {
            ip(out, IpAddr::V4(*v4.ip()));
            out.push(b':');
            number(out, v4.port());
        }
        SocketAddr::V6(v6) => display(out, v6),
    }
}

/// The inside of a JSON string (RFC 8259 section 7). Bytes that are not UTF-8 become U+FFFD; quotes,
/// backslashes and all control characters, C1 included, are escaped. At most [`FIELD_BYTES`] of `text`
/// are used.
pub(super) fn json(out: &mut Vec<u8>, text: &[u8]) {
    let text = shorten(text);
    if is_plain(text) {
        out.extend_from_slice(text);
        return;
    }
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                c if c.is_control() => {
                    out.extend_from_slice(b"\\u00");
                    hex(out, c as u32 as u8);
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
}

/// The inside of a quoted field of the combined format, escaped as nginx does: `"`, `\` and everything
/// outside printable ASCII become `\xNN`. At most [`FIELD_BYTES`] of `text` are used.
pub(super) fn combined(out: &mut Vec<u8>, text: &[u8]) {
    let text = shorten(text);
    if is_plain(text) {
        out.extend_from_slice(text);
        return;
    }
    for &byte in text {
        if is_plain(&[byte]) {
            out.push(byte);
        } else {
            out.extend_from_slice(b"\\x");
            hex(out, byte);
        }
    }
}

/// The text of a second, kept because most lines share it with the line before.
#[derive(Debug, Default)]
pub(super) struct ClockCache {
    second: Option<u64>,
    /// `2026-11-22T22:08:09`
    rfc3339: Vec<u8>,
    /// `22/Nov/2026:22:08:09 +0000`
    combined: Vec<u8>,
}

impl ClockCache {
    /// RFC 3339 with microseconds, in UTC.
    pub(super) fn rfc3339(&mut self, out: &mut Vec<u8>, at: WallTime) {
        self.set(at.as_secs());
        out.extend_from_slice(&self.rfc3339);
        let micros = at.as_nanos() / 1_000 % 1_000_000;
        out.push(b'.');
        for power in [100_000, 10_000, 1_000, 100, 10, 1] {
            out.push(b'0' + (micros / power % 10) as u8);
        }
        out.push(b'Z');
    }

    /// The time format of the combined log, in UTC.
    pub(super) fn combined(&mut self, out: &mut Vec<u8>, at: WallTime) {
        self.set(at.as_secs());
        out.extend_from_slice(&self.combined);
    }

    fn set(&mut self, second: u64) {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        if self.second == Some(second) {
            return;
        }
        self.second = Some(second);
        let (year, month, day) = civil(second / 86_400);
        let (hour, minute, sec) = (second / 3_600 % 24, second / 60 % 60, second % 60);
        self.rfc3339.clear();
        self.combined.clear();
        let _ = write!(self.rfc3339, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{sec:02}");
        let name = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
        let _ = write!(self.combined, "{day:02}/{name}/{year:04}:{hour:02}:{minute:02}:{sec:02} +0000");
    }
}

/// Year, month (1–12) and day (1–31) of a day counted from 1970-01-01. Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `civil_from_days`, for days that are not negative.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Whether `text` is printable ASCII without quotes and backslashes, as nearly everything is.
fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let mut last = [b' '; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    words.iter().chain([&last]).fold(0, |found, word| found | odd_bytes(u64::from_le_bytes(*word))) == 0
}

/// Not zero if any of the eight bytes is a control character, `"`, `\`, DEL or above. The two tests are
/// `hasless` and `haszero` of Sean Eron Anderson's "Bit Twiddling Hacks"; both are exact as to whether such
/// a byte exists.
const fn odd_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const fn zero(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word
    }
    let below_space = word.wrapping_sub(ONES * b' ' as u64) & !word;
    let quote = zero(word ^ (ONES * b'"' as u64));
    let backslash = zero(word ^ (ONES * b'\\' as u64));
    let delete = zero(word ^ (ONES * 0x7F));
    (word | below_space | quote | backslash | delete) & HIGH
}

fn shorten(text: &[u8]) -> &[u8] {
    text.get(..FIELD_BYTES).unwrap_or(text)
}

fn hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(escape: fn(&mut Vec<u8>, &[u8]), text: &[u8]) -> String {
        let mut out = Vec::new();
        escape(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let mut clock = ClockCache::default();
        for (seconds, rfc3339, combined) in [
            (0, "1970-01-01T00:00:00.000123Z", "01/Jan/1970:00:00:00 +0000"),
            (951_782_400, "2000-02-29T00:00:00.000123Z", "29/Feb/2000:00:00:00 +0000"),
            (1_709_251_199, "2024-02-29T23:59:59.000123Z", "29/Feb/2024:23:59:59 +0000"),
            (4_107_542_400, "2100-03-01T00:00:00.000123Z", "01/Mar/2100:00:00:00 +0000"),
        ] {
            let at = WallTime::from_nanos(seconds * 1_000_000_000 + 123_999);
            let (mut a, mut b) = (Vec::new(), Vec::new());
            clock.rfc3339(&mut a, at);
            clock.combined(&mut b, at);
            assert_eq!(String::from_utf8(a).unwrap(), rfc3339);
            assert_eq!(String::from_utf8(b).unwrap(), combined);
        }
        let mut far = Vec::new();
        clock.rfc3339(&mut far, WallTime::from_nanos(u64::MAX));
        assert!(far.starts_with(b"2554-07-21T"));
    }

    #[test]
    fn a_stranger_cannot_start_a_line() {
        assert_eq!(escaped(combined, b"a\r\n\"x\\\x1b[2J\xff\x7f"), r"a\x0D\x0A\x22x\x5C\x1B[2J\xFF\x7F");
        assert_eq!(escaped(json, b"a\n\"\\\x7f\xc2\x9b\xff"), "a\\u000A\\\"\\\\\\u007F\\u009B\u{FFFD}");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(escaped(json, &vec![b'x'; FIELD_BYTES + 1]).len(), FIELD_BYTES);
        assert_eq!(escaped(combined, &vec![b'x'; FIELD_BYTES + 1]).len(), FIELD_BYTES);
    }

    #[test]
    fn each_byte_is_plain_or_not_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            let plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
            for len in 1..=17 {
                for at in 0..len {
                    for fill in *b" !#[]~a" {
                        let mut text = vec![fill; len];
                        text[at] = byte;
                        assert_eq!(is_plain(&text), plain, "{byte:#x} at {at} of {len} among {fill:#x}");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn json_reads_back(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let quoted = format!("\"{}\"", escaped(json, &text));
            let read: String = serde_json::from_str(&quoted).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&text));
        }

        #[test]
        fn json_of_text_reads_back(text in "\\PC*|[\\x00-\\x7f]*|[\u{80}-\u{a0}\"\\\\]*") {
            let quoted = format!("\"{}\"", escaped(json, text.as_bytes()));
            prop_assert!(!quoted.chars().any(char::is_control));
            prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        }

        #[test]
        fn combined_is_printable_and_reversible(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let line = escaped(combined, &text);
            prop_assert!(line.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"'));
            let mut back = Vec::new();
            let mut rest = line.as_str();
            while let Some((plain, escape)) = rest.split_once("\\x") {
                back.extend_from_slice(plain.as_bytes());
                back.push(u8::from_str_radix(&escape[..2], 16).unwrap());
                rest = &escape[2..];
            }
            back.extend_from_slice(rest.as_bytes());
            prop_assert_eq!(back, text);
        }
    }
}
