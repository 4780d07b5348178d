//! The lines of the chunked coding (RFC 9112 section 7.1): sizes and trailer sections.
//!
//! Both readers look at a line from its first byte each time: a line is short (bounded by
//! [`Limits`]), and so no state of half a line is kept. A byte that cannot be right is rejected as
//! soon as it is seen, not when the line is complete.

use memchr::memchr;

use crate::Limits;
use crate::syntax::{is_token_byte, is_value_byte};

/// What is wrong with the framing of a chunked body.
pub(crate) type Malformed = &'static str;

/// Reads `chunk-size [chunk-ext] CRLF`: length of the line, and the size. `None` = incomplete.
///
/// Extensions are checked for control characters and dropped: an intermediary may (RFC 9112
/// section 7.1.1), and what they mean to the next recipient is unknown.
pub(crate) fn chunk_line(bytes: &[u8], limits: &Limits) -> Result<Option<(usize, u64)>, Malformed> {
    let longest = usize::from(limits.chunk_line_bytes);
    let mut size = 0_u64;
    let mut at = 0;
    while let Some(digit) = bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16)) {
        // 16 digits with the top bit clear: the size fits a signed integer everywhere.
        if at == MAX_SIZE_DIGITS || size >= 1 << 59 {
            return Err("a chunk size of 2^63 or more, or of more than 16 digits (RFC 9112 section 7.1)");
        }
        size = size << 4 | u64::from(digit);
        at += 1;
    }
    let mut semicolon = false;
    if at == 0 && !bytes.is_empty() {
        return Err("a chunk without a size (RFC 9112 section 7.1)");
    }
    loop {
        if at + 2 > longest {
            return Err("a chunk-size line longer than the limit (RFC 9112 section 7.1.1)");
        }
        match (bytes.get(at), bytes.get(at + 1)) {
            (None, _) | (Some(b'\r'), None) => return Ok(None),
            (Some(b'\r'), Some(b'\n')) if semicolon || is_hex(bytes, at) => {
                return Ok(Some((at + 2, size)));
            }
            (Some(b';'), _) => semicolon = true,
            // White space before the semicolon only (BWS), or anywhere behind it.
            (Some(b' ' | b'\t'), _) => {}
            (Some(&byte), _) if semicolon && is_value_byte(byte) => {}
            _ => {
                return Err("a malformed chunk-size line, or one that does not end in CRLF (RFC 9112 section 7.1)");
            }
        }
        at += 1;
    }
}

/// Reads `trailer-section CRLF`: its field lines, all checked, without the empty line that ends it.
/// `None` = incomplete.
pub(crate) fn trailer_section<'b>(bytes: &'b [u8], limits: &Limits) -> Result<Option<&'b [u8]>, Malformed> {
    const TOO_LARGE: Malformed = "a trailer section larger than the limit";
    let longest = limits.trailer_bytes as usize;
    let mut at = 0;
    let mut fields = 0;
    while let Some(end) = memchr(b'\n', &bytes[at..]) {
        let line = bytes[at..at + end]
            .strip_suffix(b"\r")
            .ok_or("a line of the trailer section ends in LF without CR (RFC 9112 section 2.2)")?;
        if line.is_empty() {
            return if at + 2 > longest { Err(TOO_LARGE) } else { Ok(Some(&bytes[..at])) };
        }
        split_field(line).ok_or("a malformed field in the trailer section (RFC 9112 section 7.1.2)")?;
        fields += 1;
        if fields > limits.max_fields() {
            return Err("too many fields in the trailer section");
        }
        at += end + 1;
    }
    if bytes.len() > longest { Err(TOO_LARGE) } else { Ok(None) }
}

/// Name and trimmed value of a field line without its line end; `None` = malformed (a folded line,
/// white space before the colon, a control character, no name).
pub(crate) fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', line)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty()
        || !name.iter().all(|&byte| is_token_byte(byte))
        || !value.iter().all(|&byte| is_value_byte(byte))
    {
        return None;
    }
    // The value holds no other white space that this could trim than space and tab.
    Some((name, value.trim_ascii()))
}

/// Whether the byte before `at` is the last digit of the size: nothing came between.
fn is_hex(bytes: &[u8], at: usize) -> bool {
    at > 0 && bytes[at - 1].is_ascii_hexdigit()
}

/// Hexadecimal digits of a chunk size, leading zeros included.
const MAX_SIZE_DIGITS: usize = 16;
