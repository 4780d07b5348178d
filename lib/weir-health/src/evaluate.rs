//! What an answer to an HTTP probe says. A pure function: bytes from outside never panic.

use std::fmt;

use crate::HttpProbe;

/// How much of the body is looked at; what comes after it cannot make a probe succeed.
pub const BODY_PREFIX_MAX_BYTES: usize = 64 * 1024;

/// Why a probe failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProbeFailure {
    /// The connection was refused.
    Refused,
    /// The connection could not be opened otherwise.
    ConnectFailed,
    /// No complete answer within the time-out.
    Timeout,
    /// The connection was closed or reset before a complete answer.
    Closed,
    /// The answer is not HTTP.
    Malformed,
    /// Another status than expected.
    Status(u16),
    /// An expected response field is absent or lacks the text.
    Header {
        /// Which one of [`HttpProbe::expect_headers`].
        index: u16,
    },
    /// The body lacks the text.
    Body,
}

impl ProbeFailure {
    /// The stable lower-case word used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::ConnectFailed => "connect_failed",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Malformed => "malformed",
            Self::Status(_) => "status",
            Self::Header { .. } => "header",
            Self::Body => "body",
        }
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Header { index } => write!(f, "expected field {}", index + 1),
            other => f.write_str(other.as_str()),
        }
    }
}

/// Whether an answer is a success: the status is among those expected, each expected field occurs (names
/// without regard to case, RFC 9110 section 5.1) with a value that contains its text, and so does the body.
///
/// `headers` are names and values in any order, as many lines of a name as there are; `body_prefix` is
/// the body as far as it was read, of which the first [`BODY_PREFIX_MAX_BYTES`] count.
///
/// ```
/// use weir_health::{HttpProbe, ProbeFailure, evaluate_http};
///
/// let probe = HttpProbe { body_contains: Some("ready".into()), ..HttpProbe::default() };
/// let headers = [(b"content-type".as_slice(), b"text/plain".as_slice())];
/// assert_eq!(evaluate_http(&probe, 200, headers.iter().copied(), b"ready\n"), Ok(()));
/// assert_eq!(evaluate_http(&probe, 200, headers.iter().copied(), b"wait\n"), Err(ProbeFailure::Body));
/// assert_eq!(evaluate_http(&probe, 503, headers.iter().copied(), b"ready\n"), Err(ProbeFailure::Status(503)));
/// ```
#[expect(clippy::needless_pass_by_value, reason = "an iterator is passed as the caller has it")]
pub fn evaluate_http<'h>(
    probe: &HttpProbe,
    status: u16,
    headers: impl Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
    body_prefix: &[u8],
) -> Result<(), ProbeFailure> {
    if !probe.status.iter().any(|range| range.contains(status)) {
        return Err(ProbeFailure::Status(status));
    }
    for (index, (name, text)) in probe.expect_headers.iter().enumerate() {
        let matches = |(field, value): (&[u8], &[u8])| {
            field.eq_ignore_ascii_case(name.as_bytes()) && contains(value, text.as_bytes())
        };
        if !headers.clone().any(matches) {
            return Err(ProbeFailure::Header { index: u16::try_from(index).unwrap_or(u16::MAX) });
        }
    }
    match &probe.body_contains {
        Some(text) if !contains(bounded(body_prefix), text.as_bytes()) => Err(ProbeFailure::Body),
        _ => Ok(()),
    }
}

fn bounded(body: &[u8]) -> &[u8] {
    body.get(..BODY_PREFIX_MAX_BYTES).unwrap_or(body)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StatusRange;

    fn check(probe: &HttpProbe, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Result<(), ProbeFailure> {
        let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        evaluate_http(probe, status, headers, body)
    }

    #[test]
    fn the_default_wants_exactly_200() {
        let probe = HttpProbe::default();
        assert_eq!(check(&probe, 200, &[], b""), Ok(()));
        for status in [100, 199, 201, 204, 301, 404, 500, 503] {
            assert_eq!(check(&probe, status, &[], b""), Err(ProbeFailure::Status(status)));
        }
    }

    #[test]
    fn ranges_include_both_ends() {
        let range = |first, last| StatusRange { first, last };
        let probe = HttpProbe { status: vec![range(200, 299), range(401, 401)], ..HttpProbe::default() };
        for (status, ok) in [(199, false), (200, true), (299, true), (300, false), (401, true), (402, false)] {
            assert_eq!(check(&probe, status, &[], b"").is_ok(), ok, "{status}");
        }
    }

    #[test]
    fn every_expected_field_must_be_there_on_any_line() {
        let expect_headers = vec![("X-Role".into(), "primary".into()), ("Server".into(), "".into())];
        let probe = HttpProbe { expect_headers, ..HttpProbe::default() };
        let role = [("x-role", "a replica"), ("X-ROLE", "the primary"), ("server", "x")];
        assert_eq!(check(&probe, 200, &role, b""), Ok(()));
        assert_eq!(check(&probe, 200, &role[..1], b""), Err(ProbeFailure::Header { index: 0 }));
        assert_eq!(check(&probe, 200, &role[..2], b""), Err(ProbeFailure::Header { index: 1 }));
        assert_eq!(
            check(&probe, 200, &[("x-role", "Primary"), ("server", "")], b""),
            Err(ProbeFailure::Header { index: 0 })
        );
    }

    #[test]
    fn the_text_must_lie_within_the_prefix_as_a_whole() {
        let probe = HttpProbe { body_contains: Some("OK".into()), ..HttpProbe::default() };
        let body = |at: usize| {
            let mut body = vec![b'.'; at];
            body.extend_from_slice(b"OK");
            body
        };
        assert_eq!(check(&probe, 200, &[], &body(0)), Ok(()));
        assert_eq!(check(&probe, 200, &[], &body(BODY_PREFIX_MAX_BYTES - 2)), Ok(()));
        assert_eq!(check(&probe, 200, &[], &body(BODY_PREFIX_MAX_BYTES - 1)), Err(ProbeFailure::Body));
        assert_eq!(check(&probe, 200, &[], b"O"), Err(ProbeFailure::Body));
        assert_eq!(check(&probe, 200, &[], b"\xffO\0OK"), Ok(()));
    }
}
