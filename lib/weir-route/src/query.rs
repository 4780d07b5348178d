//! Query parameters: `name=value` pairs between `&`, percent-encoded, `+` for a space (the form
//! encoding of the WHATWG URL standard, section 5). What is not a valid encoding stands for itself.

use std::borrow::Cow;

/// The parameters of a query (without its `?`) in order, names and values still encoded. A
/// parameter without `=` has an empty value; empty parameters are left out.
pub fn query_params(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|&byte| byte == b'&').filter(|param| !param.is_empty()).map(|param| match memchr::memchr(b'=', param) {
        Some(at) => (&param[..at], &param[at + 1..]),
        None => (param, &param[param.len()..]),
    })
}

/// A name or value decoded; allocates only if there is something to decode.
pub fn decode_param(encoded: &[u8]) -> Cow<'_, [u8]> {
    match memchr::memchr2(b'%', b'+', encoded) {
        None => Cow::Borrowed(encoded),
        Some(_) => Cow::Owned(decoded(encoded).collect()),
    }
}

/// Whether `encoded` stands for `text`. Allocates nothing.
pub(crate) fn param_is(encoded: &[u8], text: &[u8]) -> bool {
    // Decoding never makes a text longer.
    encoded.len() >= text.len() && decoded(encoded).eq(text.iter().copied())
}

fn decoded(encoded: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = encoded;
    std::iter::from_fn(move || {
        let (&first, behind) = rest.split_first()?;
        rest = behind;
        match (first, behind) {
            (b'+', _) => Some(b' '),
            (b'%', [high, low, behind @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                    return Some(b'%');
                };
                rest = behind;
                Some((high << 4 | low) as u8)
            }
            _ => Some(first),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expect: &[(&str, &str)]) {
        let found: Vec<_> = query_params(query.as_bytes())
            .map(|(name, value)| {
                let text = |bytes| String::from_utf8_lossy(&decode_param(bytes)).into_owned();
                (text(name), text(value))
            })
            .collect();
        let expect: Vec<_> = expect.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(found, expect, "{query}");
    }

    #[test]
    fn parameters() {
        check("", &[]);
        check("a=b&c=d", &[("a", "b"), ("c", "d")]);
        check("a&&b=&=c&", &[("a", ""), ("b", ""), ("", "c")]);
        check("a=b=c", &[("a", "b=c")]);
        check("%61+b=%C3%A9+", &[("a b", "é ")]);
        check("a=%&b=%4&c=%zz&d=%4", &[("a", "%"), ("b", "%4"), ("c", "%zz"), ("d", "%4")]);
        check("a%26b=c%3Dd", &[("a&b", "c=d")]);
    }

    #[test]
    fn comparing_decodes() {
        assert!(param_is(b"%61b", b"ab"));
        assert!(param_is(b"a+b", b"a b"));
        assert!(!param_is(b"ab", b"abc"));
        assert!(!param_is(b"abc", b"ab"));
        assert!(!param_is(b"AB", b"ab"));
    }
}
