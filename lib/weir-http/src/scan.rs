//! Finding the end of a name, a value or a target: eight bytes at a time, in one register.
//!
//! The tests on the bytes of a word are the classic ones (Warren, Hacker's Delight, chapter 6): each gives a word
//! that has the top bit of every byte for which the test holds. Those that subtract may also mark bytes above the
//! first hit, never below it; only the first hit is looked at.

use crate::syntax::{is_token_byte, is_value_byte};

/// How many bytes there are before the first that cannot be in a field value or is a tab: a control character.
#[inline(always)]
pub(crate) fn value_len(bytes: &[u8]) -> usize {
    first(bytes, not_value, |byte| byte == b'\t' || !is_value_byte(byte))
}

/// How many bytes there are before the first that cannot be in a request target: a control character, a space, `#`,
/// or one beyond ASCII.
#[inline(always)]
pub(crate) fn target_len(bytes: &[u8]) -> usize {
    first(bytes, not_target, |byte| !byte.is_ascii_graphic() || byte == b'#')
}

/// How many bytes there are before the first that cannot be in a token.
#[inline(always)]
pub(crate) fn token_len(bytes: &[u8]) -> usize {
    // Names are letters and dashes, but for a few; those are gone through one by one.
    let len = first(bytes, not_name, |byte| !is_token_byte(byte));
    match bytes.get(len) {
        Some(&byte) if is_token_byte(byte) => rare_token_len(bytes, len),
        _ => len,
    }
}

#[cold]
fn rare_token_len(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(rest.len())
}

/// How many bytes there are before the first that `in_word` marks or, in the last bytes, for which `is` holds.
#[inline(always)]
fn first(bytes: &[u8], in_word: impl Fn(u64) -> u64, is: impl Fn(u8) -> bool) -> usize {
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk() {
        let hits = in_word(u64::from_le_bytes(*word)) & TOPS;
        if hits != 0 {
            return bytes.len() - rest.len() + hits.trailing_zeros() as usize / 8;
        }
        rest = behind;
    }
    bytes.len() - rest.len() + rest.iter().position(|&byte| is(byte)).unwrap_or(rest.len())
}

#[inline(always)]
const fn not_value(word: u64) -> u64 {
    below_space(word) | equals(word, 0x7F)
}

#[inline(always)]
const fn not_target(word: u64) -> u64 {
    below_or_space(word) | equals(word, b'#') | equals(word, 0x7F) | (word & TOPS)
}

#[inline(always)]
const fn not_name(word: u64) -> u64 {
    !(letters(word) | equals(word, b'-'))
}

/// Bytes below 0x20. The first hit is right.
#[inline(always)]
const fn below_space(word: u64) -> u64 {
    word.wrapping_sub(each(0x20)) & !word
}

/// Bytes up to 0x20. The first hit is right.
#[inline(always)]
const fn below_or_space(word: u64) -> u64 {
    word.wrapping_sub(each(0x21)) & !word
}

/// Bytes that are `byte`. Every hit is right.
#[inline(always)]
const fn equals(word: u64, byte: u8) -> u64 {
    let difference = word ^ each(byte);
    !(((difference & !TOPS).wrapping_add(!TOPS)) | difference)
}

/// Letters. Every hit is right.
#[inline(always)]
const fn letters(word: u64) -> u64 {
    let low = (word | each(0x20)) & !TOPS;
    let from_a = low.wrapping_add(each(0x80 - b'a'));
    let beyond_z = low.wrapping_add(each(0x80 - b'z' - 1));
    from_a & !beyond_z & !word
}

/// A word of eight times `byte`.
const fn each(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// The top bit of each byte.
const TOPS: u64 = each(0x80);

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte in every place, with every other byte before it, behind it, and neither.
    #[test]
    fn the_words_find_what_the_bytes_are() {
        type Find = fn(&[u8]) -> usize;
        type Passes = fn(u8) -> bool;
        let rows: [(Find, Passes, u8); 3] = [
            (value_len, |byte| byte != b'\t' && is_value_byte(byte), b'v'),
            (target_len, |byte| byte.is_ascii_graphic() && byte != b'#', b'/'),
            (token_len, is_token_byte, b'T'),
        ];
        for (find, passes, fit) in rows {
            for place in 0..17 {
                for byte in 0..=255 {
                    for neighbour in [fit, 0x00, 0x1F, 0x20, 0x21, 0x7F, 0x80, 0xFF, byte ^ 1, byte.wrapping_add(1)] {
                        let mut bytes = [fit; 19];
                        bytes[place] = byte;
                        bytes[place + 1] = neighbour;
                        let expected = bytes.iter().position(|&byte| !passes(byte)).unwrap_or(19);
                        assert_eq!(find(&bytes), expected, "{byte:#x} {neighbour:#x} at {place}");
                    }
                }
            }
        }
        assert_eq!(value_len(b""), 0);
    }
}
