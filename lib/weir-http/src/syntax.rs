//! The small grammars: tokens, values, authorities.

use std::net::Ipv6Addr;

/// Whether `name` can be a field name (or a method): a token, RFC 9110 section 5.6.2.
pub fn is_valid_name(name: impl AsRef<[u8]>) -> bool {
    let name = name.as_ref();
    !name.is_empty() && name.iter().all(|&byte| is_token_byte(byte))
}

/// Whether `value` can be a field value (RFC 9110 section 5.5): no control character but tab, no
/// CR, LF or NUL, no white space at either end. Bytes from 0x80 upwards are allowed.
pub fn is_valid_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    value.iter().all(|&byte| is_value_byte(byte)) && !blank(value.first()) && !blank(value.last())
}

/// Whether `authority` is a host with an optional port, as `Host` and the target may have it:
/// letters, digits, `-`, `.`, `_` and `~`, or an IPv6 address in brackets; then optionally `:` and a
/// port up to 65535 (RFC 9110 section 7.2 with RFC 3986 section 3.2).
///
/// Narrower than the RFC on purpose: no user information (RFC 9110 section 4.2.4), no
/// percent-encoding and none of `! $ & ' ( ) * + , ; =`, which no host name has and which mean
/// something in the places that a host is copied to.
pub fn is_valid_authority(authority: &[u8]) -> bool {
    if let [b'[', ..] = authority {
        let (host, port) = split_port(authority);
        let inner = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
        return inner.is_some_and(is_ipv6) && port.is_none_or(is_port);
    }
    // One pass: a host name ends at the first byte that it cannot have.
    let end = authority.iter().position(|&byte| !HOST_BYTES[byte as usize]).unwrap_or(authority.len());
    end > 0
        && match &authority[end..] {
            [] => true,
            [b':', port @ ..] => is_port(port),
            _ => false,
        }
}

/// The host of a checked authority, without port: `[::1]` of `[::1]:80`.
#[inline]
pub fn host_without_port(authority: &[u8]) -> &[u8] {
    split_port(authority).0
}

/// Splits at the colon of the port, if there is one.
#[inline]
pub(crate) fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    // From the end: a port is short, and the colons of an IPv6 address are before its bracket.
    match authority.iter().rposition(|&byte| byte == b':' || byte == b']') {
        Some(at) if authority[at] == b':' => (&authority[..at], Some(&authority[at + 1..])),
        _ => (authority, None),
    }
}

#[inline]
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[byte as usize]
}

#[inline]
pub(crate) const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// `port = *DIGIT` (RFC 3986 section 3.2.3), and a number that a port can be. Empty is the default port.
pub(crate) fn is_port(port: &[u8]) -> bool {
    port.len() <= 5
        && port.iter().all(u8::is_ascii_digit)
        && port.iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0')) <= 65_535
}

fn is_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

static TOKEN_BYTES: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
static HOST_BYTES: [bool; 256] = table(b"-._~");

/// Letters, digits and `more`.
const fn table(more: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < more.len() {
        table[more[at] as usize] = true;
        at += 1;
    }
    table
}
