//! One spelling for each path (RFC 3986 section 6.2.2), so that what is matched is what is sent.
//!
//! A path that an endpoint may read in another way than the router did is a way around the rules
//! of the router. So dot segments are resolved here, also when percent-encoded; what cannot be
//! resolved safely is rejected with 400, not repaired:
//!
//! | in the path | becomes |
//! |---|---|
//! | `%41`, `%7e` (unreserved) | the character itself |
//! | `%3f` (other) | `%3F`, in capitals |
//! | `/./`, `/a/../`, `%2e` likewise | resolved |
//! | `/..` above the root | rejected: RFC 3986 would clamp; nobody means it |
//! | `/..;x/`, `/.;x/`, also with `%3B` | rejected: some servers cut the parameters off first |
//! | `%2F`, `%5C` | kept or rejected by [`PathPolicy::encoded_slash`]; never a separator |
//! | `..` set off by `%2F` or `%5C` | rejected under either policy |
//! | `\` | as `%5C`: some servers take it for `/` |
//! | `//` | kept, or merged by [`PathPolicy::merge_slashes`] |
//! | `%00`, `%4`, `%zz`, bytes outside printable ASCII, `?`, `#` | rejected |
//!
//! The result is normal: normalising it again gives the same bytes.

use std::fmt;

use crate::{PathPolicy, SlashPolicy};

/// Why a path is not taken. All of them are the client's fault: 400.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PathReject {
    /// The path does not start with `/`.
    NotAbsolute,
    /// A byte that a path cannot have: control characters, space, `?`, `#`, anything beyond ASCII.
    InvalidByte,
    /// A `%` without two hexadecimal digits behind it.
    InvalidEncoding,
    /// `%00`.
    Nul,
    /// `%2F`, `%5C` or `\` under [`SlashPolicy::Reject`].
    EncodedSlash,
    /// `..` above the root.
    AboveRoot,
    /// A dot segment in disguise: with parameters (`..;x`) or set off by encoded slashes.
    HiddenDotSegment,
}

/// The normal form of `raw`, the path of a request target without its query. Returns `raw` itself
/// when it is normal already, which costs one scan; else the result is in `scratch`, whose former
/// content is lost.
pub fn normalise_path<'a>(
    raw: &'a [u8],
    policy: &PathPolicy,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], PathReject> {
    if raw.first() != Some(&b'/') {
        return Err(PathReject::NotAbsolute);
    }
    if is_plain(raw, policy.merge_slashes) {
        return Ok(raw);
    }
    scratch.clear();
    let mut at = 0;
    // Each turn takes one separator and the segment behind it.
    while at < raw.len() {
        debug_assert_eq!(raw[at], b'/');
        let start = scratch.len();
        scratch.push(b'/');
        let end = raw[at + 1..].iter().position(|&byte| byte == b'/').map_or(raw.len(), |len| at + 1 + len);
        decode_segment(&raw[at + 1..end], *policy, scratch)?;
        let last = end == raw.len();
        match kind_of(&scratch[start + 1..]) {
            Segment::Dot => scratch.truncate(start),
            Segment::DotDot => {
                scratch.truncate(start);
                let parent = scratch.iter().rposition(|&byte| byte == b'/').ok_or(PathReject::AboveRoot)?;
                scratch.truncate(parent);
            }
            Segment::Hidden => return Err(PathReject::HiddenDotSegment),
            Segment::Name => {
                // An empty segment in the middle is one half of `//`.
                if policy.merge_slashes && scratch.len() == start + 1 && !last {
                    scratch.truncate(start);
                }
                at = end;
                continue;
            }
        }
        // A dot segment at the end names a directory: its slash stays.
        if last {
            scratch.push(b'/');
        }
        at = end;
    }
    Ok(scratch)
}

/// Whether the path is surely normal: one pass, no look back. Paths that hold a `%` or a segment
/// that starts with a dot and looks like a dot segment take the long way.
fn is_plain(raw: &[u8], merge_slashes: bool) -> bool {
    let mut after_slash = false;
    for (at, &byte) in raw.iter().enumerate() {
        if !PLAIN[byte as usize] {
            let doubtful = match byte {
                b'.' => after_slash && is_doubtful(&raw[at..]),
                b'/' => merge_slashes && after_slash,
                _ => true,
            };
            if doubtful {
                return false;
            }
        }
        after_slash = byte == b'/';
    }
    true
}

/// Whether a segment that starts with a dot may be a dot segment.
fn is_doubtful(rest: &[u8]) -> bool {
    let dots = rest.iter().take_while(|&&byte| byte == b'.').count();
    dots <= 2 && matches!(rest.get(dots), None | Some(b'/' | b';'))
}

enum Segment {
    Name,
    Dot,
    DotDot,
    Hidden,
}

/// What a decoded segment is.
fn kind_of(segment: &[u8]) -> Segment {
    match segment {
        b"." => return Segment::Dot,
        b".." => return Segment::DotDot,
        _ => {}
    }
    // A recipient may take an encoded slash for a separator, and cut parameters off each part.
    let mut hidden = false;
    let mut part = segment;
    loop {
        let end = part.windows(3).position(|three| matches!(three, b"%2F" | b"%5C"));
        let inner = &part[..end.unwrap_or(part.len())];
        let parameters =
            inner.iter().enumerate().position(|(at, _)| matches!(&inner[at..], [b';', ..] | [b'%', b'3', b'B', ..]));
        let name = &inner[..parameters.unwrap_or(inner.len())];
        hidden |= matches!(name, b"." | b"..");
        match end {
            Some(end) => part = &part[end + 3..],
            None => {
                return if hidden { Segment::Hidden } else { Segment::Name };
            }
        }
    }
}

/// Appends a segment with its percent-encodings in normal form.
fn decode_segment(segment: &[u8], policy: PathPolicy, out: &mut Vec<u8>) -> Result<(), PathReject> {
    let mut bytes = segment.iter();
    while let Some(&byte) = bytes.next() {
        let value = match byte {
            b'%' => {
                let digits = (hex(bytes.next()), hex(bytes.next()));
                let (Some(high), Some(low)) = digits else {
                    return Err(PathReject::InvalidEncoding);
                };
                high << 4 | low
            }
            b'\\' => b'\\',
            b'?' | b'#' => return Err(PathReject::InvalidByte),
            byte if byte.is_ascii_graphic() => {
                out.push(byte);
                continue;
            }
            _ => return Err(PathReject::InvalidByte),
        };
        match value {
            0 => return Err(PathReject::Nul),
            b'/' | b'\\' if policy.encoded_slash == SlashPolicy::Reject => {
                return Err(PathReject::EncodedSlash);
            }
            value if is_unreserved(value) => out.push(value),
            value => out.extend_from_slice(&[b'%', HEX[usize::from(value >> 4)], HEX[usize::from(value & 15)]]),
        }
    }
    Ok(())
}

fn hex(digit: Option<&u8>) -> Option<u8> {
    digit.and_then(|&digit| char::from(digit).to_digit(16)).map(|digit| digit as u8)
}

/// RFC 3986 section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Bytes that never make a path doubtful: printable, but for `% . / \ ? #`.
static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = !matches!(byte as u8, b'%' | b'.' | b'/' | b'\\' | b'?' | b'#');
        byte += 1;
    }
    table
};

static HEX: [u8; 16] = *b"0123456789ABCDEF";

impl fmt::Display for PathReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not start with a slash",
            Self::InvalidByte => "a byte that a path cannot have (RFC 3986 section 3.3)",
            Self::InvalidEncoding => "a percent sign without two hexadecimal digits (RFC 3986 section 2.1)",
            Self::Nul => "an encoded NUL in the path",
            Self::EncodedSlash => "an encoded slash or a backslash in the path, which the policy rejects",
            Self::AboveRoot => "a path that leads above the root (RFC 3986 section 5.2.4)",
            Self::HiddenDotSegment => "a dot segment with parameters or between encoded slashes",
        })
    }
}

impl std::error::Error for PathReject {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEEP: PathPolicy = PathPolicy { encoded_slash: SlashPolicy::Keep, merge_slashes: false };
    const MERGE: PathPolicy = PathPolicy { encoded_slash: SlashPolicy::Keep, merge_slashes: true };
    const STRICT: PathPolicy = PathPolicy { encoded_slash: SlashPolicy::Reject, merge_slashes: false };

    #[track_caller]
    fn check(policy: PathPolicy, input: &str, expect: Result<&str, PathReject>) {
        let mut scratch = Vec::new();
        let found = normalise_path(input.as_bytes(), &policy, &mut scratch);
        assert_eq!(found.map(|path| String::from_utf8_lossy(path).into_owned()), expect.map(str::to_owned), "{input}");
    }

    #[test]
    fn normal_paths_stay_and_are_not_copied() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c",
            "/.well-known/x",
            "/..a",
            "/...",
            "/a..",
            "/.a/..b",
            "//",
            "/a//b",
            "/a;b=c/d",
            "/~u",
            "/{a}|\"<>^`[]",
            "/*",
            "/;",
            "/...;a",
            "/x;..",
        ] {
            let mut scratch = Vec::new();
            let out = normalise_path(path.as_bytes(), &KEEP, &mut scratch).unwrap();
            assert!(std::ptr::eq(out, path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn rfc3986_6_2_2_percent_encoding() {
        check(KEEP, "/%41%7e%2D%5F%2e%61", Ok("/A~-_.a"));
        check(KEEP, "/%3f%23%c3%a9%20", Ok("/%3F%23%C3%A9%20"));
        check(KEEP, "/%252e%252e/a", Ok("/%252e%252e/a"));
        check(KEEP, "/a%3Bb", Ok("/a%3Bb"));
    }

    #[test]
    fn rfc3986_6_2_2_3_dot_segments() {
        for (input, expect) in [
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/../../c", "/c"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/./.a", "/.a"),
            ("/a/%2e/b", "/a/b"),
            ("/a/%2E%2e/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a//../b", "/a/b"),
            ("/a/..//b", "//b"),
            ("/././.", "/"),
        ] {
            check(KEEP, input, Ok(expect));
        }
    }

    #[test]
    fn above_the_root_is_rejected() {
        for path in ["/..", "/../", "/../a", "/a/../..", "/a/../../b", "/%2e%2e/a", "/./..", "/.%2e"] {
            check(KEEP, path, Err(PathReject::AboveRoot));
        }
    }

    #[test]
    fn hidden_dot_segments_are_rejected() {
        for path in [
            "/a/..;/b",
            "/a/..;x=y/b",
            "/a/.;/b",
            "/a/%2e%2e;/b",
            "/a/..%3b/b",
            "/a/..%3Bx=y",
            "/a/.%3b/b",
            "/a%2f../b",
            "/a%2F..%2Fb",
            "/a/..%2fb",
            "/a/..%5cb",
            "/a/..\\b",
            "/a\\..\\b",
            "/a%5c.%5cb",
            "/a/.%2F",
            "/a;%2f..",
        ] {
            check(KEEP, path, Err(PathReject::HiddenDotSegment));
        }
    }

    #[test]
    fn encoded_slashes_by_policy() {
        check(KEEP, "/a%2fb%5cc", Ok("/a%2Fb%5Cc"));
        check(KEEP, "/a\\b", Ok("/a%5Cb"));
        for path in ["/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b"] {
            check(STRICT, path, Err(PathReject::EncodedSlash));
        }
    }

    #[test]
    fn slashes_by_policy() {
        for (input, expect) in [
            ("//", "/"),
            ("//a", "/a"),
            ("/a//b", "/a/b"),
            ("/a///", "/a/"),
            ("/a//../b", "/b"),
            ("/a/..//b", "/b"),
            ("//..a", "/..a"),
            ("//./a", "/a"),
        ] {
            check(MERGE, input, Ok(expect));
        }
        check(MERGE, "//..", Err(PathReject::AboveRoot));
        check(KEEP, "/%2e//a", Ok("//a"));
    }

    #[test]
    fn invalid_paths_are_rejected() {
        for path in ["", "a", "*", "?", "%2f"] {
            check(KEEP, path, Err(PathReject::NotAbsolute));
        }
        for path in ["/%", "/%4", "/%zz", "/%4g", "/a%/b", "/%%41", "/%+1"] {
            check(KEEP, path, Err(PathReject::InvalidEncoding));
        }
        for path in ["/%00", "/a%00.png"] {
            check(KEEP, path, Err(PathReject::Nul));
        }
        for path in ["/a b", "/a\0", "/é", "/a?b", "/a#b", "/a\x7f", "/a\n"] {
            check(KEEP, path, Err(PathReject::InvalidByte));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_result_is_normal(
            path in "/([a-c./;\\\\]|\\.\\.?/|%2[eEfF]|%5[cC]|%3[bB]|%4[1-3]|%c3|//){0,24}",
            merge_slashes: bool,
            reject: bool,
        ) {
            let policy = PathPolicy {
                merge_slashes,
                encoded_slash: if reject { SlashPolicy::Reject } else { SlashPolicy::Keep },
            };
            let mut scratch = Vec::new();
            let Ok(once) = normalise_path(path.as_bytes(), &policy, &mut scratch) else { return Ok(()) };
            let once = once.to_vec();
            let mut scratch = Vec::new();
            prop_assert_eq!(normalise_path(&once, &policy, &mut scratch), Ok(&once[..]));
            prop_assert_eq!(once.first(), Some(&b'/'));
            for segment in once.split(|&byte| byte == b'/') {
                prop_assert!(segment != b"." && segment != b"..");
            }
            prop_assert!(!merge_slashes || !once.windows(2).any(|pair| pair == b"//"));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(path in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = normalise_path(&path, &KEEP, &mut Vec::new());
            let _ = normalise_path(&[b"/", &path[..]].concat(), &MERGE, &mut Vec::new());
        }
    }
}
