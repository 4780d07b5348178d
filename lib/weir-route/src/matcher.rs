//! Whether one rule matches a request: the meaning of each condition, without any index.

use crate::query::{decode_param, param_is, query_params};
use crate::{HostMatch, PathMatch, Rule, TextMatch};

/// What routing looks at.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// Host, with or without port, in any case.
    pub host: &'a [u8],
    /// Path, as [`normalise_path`](crate::normalise_path) returns it.
    pub path: &'a [u8],
    /// Query without its `?`.
    pub query: Option<&'a [u8]>,
    /// Method.
    pub method: &'a str,
    /// Fields.
    pub fields: &'a dyn Fields,
}

/// The fields of a request, however they are stored.
pub trait Fields {
    /// Whether `test` holds for the value of a field of this name (given in lower case; fields'
    /// names are compared without case). Calls `test` for each such field until it holds.
    fn any(&self, lower_name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

impl Fields for [(&str, &[u8])] {
    fn any(&self, lower_name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.iter().any(|(name, value)| name.eq_ignore_ascii_case(lower_name) && test(value))
    }
}

impl<const N: usize> Fields for [(&str, &[u8]); N] {
    fn any(&self, lower_name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self[..].any(lower_name, test)
    }
}

/// Whether `path` is `prefix` or below it by whole segments. A slash at the end of the prefix does
/// not count: `/api/` is `/api`, and `/` is every path.
pub(crate) fn is_below(path: &[u8], prefix: &[u8]) -> bool {
    match path.strip_prefix(trim_prefix(prefix)) {
        Some(rest) => matches!(rest, [] | [b'/', ..]),
        None => false,
    }
}

/// A prefix without its slash at the end.
pub(crate) fn trim_prefix(prefix: &[u8]) -> &[u8] {
    prefix.strip_suffix(b"/").unwrap_or(prefix)
}

pub(crate) fn path_matches(condition: &PathMatch, path: &[u8]) -> bool {
    match condition {
        PathMatch::Any => true,
        PathMatch::Exact(exact) => exact.as_bytes() == path,
        PathMatch::Prefix(prefix) => is_below(path, prefix.as_bytes()),
        PathMatch::Regex(regex) => std::str::from_utf8(path).is_ok_and(|path| regex.is_match(path)),
    }
}

/// Whether a host in the form of [`lower_host`] matches.
#[cfg(test)]
pub(crate) fn host_matches(condition: &HostMatch, host: &[u8]) -> bool {
    match condition {
        HostMatch::Exact(exact) => exact.as_bytes() == host,
        HostMatch::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_bytes()),
    }
}

/// The conditions beyond host and path.
pub(crate) fn rest_matches(rule: &Rule, request: &RequestView<'_>) -> bool {
    let method = || rule.methods.is_empty() || rule.methods.iter().any(|method| **method == *request.method);
    let headers = || {
        rule.headers
            .iter()
            .all(|header| text_matches(&header.value, &mut |test| request.fields.any(&header.name, test)))
    };
    let query = || {
        let params = || query_params(request.query.unwrap_or_default());
        rule.query.iter().all(|wanted| {
            let name = wanted.name.as_bytes();
            match &wanted.value {
                // Compared while decoding, so that nothing is allocated.
                TextMatch::Exact(text) => {
                    params().any(|(key, value)| param_is(key, name) && param_is(value, text.as_bytes()))
                }
                other => text_matches(other, &mut |test| {
                    params().any(|(key, value)| param_is(key, name) && test(&decode_param(value)))
                }),
            }
        })
    };
    method() && headers() && query()
}

/// How many conditions [`rest_matches`] looks at: the measure of specificity behind host and path.
pub(crate) fn rest_count(rule: &Rule) -> usize {
    usize::from(!rule.methods.is_empty()) + rule.headers.len() + rule.query.len()
}

/// Calls a test for each of some values until it holds, and says whether it did.
type AnyValue<'a> = dyn FnMut(&mut dyn FnMut(&[u8]) -> bool) -> bool + 'a;

fn text_matches(condition: &TextMatch, any: &mut AnyValue<'_>) -> bool {
    match condition {
        TextMatch::Present => any(&mut |_| true),
        TextMatch::Absent => !any(&mut |_| true),
        TextMatch::Exact(text) => any(&mut |value| value == text.as_bytes()),
        TextMatch::Regex(regex) => any(&mut |value| std::str::from_utf8(value).is_ok_and(|text| regex.is_match(text))),
    }
}

/// Bytes of a host name, RFC 1035 section 2.3.4. A longer host matches no host condition.
pub(crate) const MAX_HOST: usize = 255;

/// A host as conditions are written: in lower case, without port and without the dot of the root.
/// `None` = longer than a host name can be.
pub(crate) fn lower_host<'a>(host: &[u8], buffer: &'a mut [u8; MAX_HOST]) -> Option<&'a [u8]> {
    // The colons of an IPv6 address come before its bracket.
    let host = match host.iter().rposition(|&byte| byte == b':' || byte == b']') {
        Some(at) if host[at] == b':' => &host[..at],
        _ => host,
    };
    let host = host.strip_suffix(b".").unwrap_or(host);
    let lower = buffer.get_mut(..host.len())?;
    lower.copy_from_slice(host);
    lower.make_ascii_lowercase();
    Some(lower)
}

/// The host of a condition in the form of [`lower_host`].
pub(crate) fn canonical(condition: &HostMatch) -> HostMatch {
    let lower = |text: &str| text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase().into();
    match condition {
        HostMatch::Exact(host) => HostMatch::Exact(lower(host)),
        HostMatch::Suffix(suffix) => HostMatch::Suffix(lower(suffix)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_without_case_port_and_root() {
        for (host, expect) in [
            ("A.Example.org", "a.example.org"),
            ("a:80", "a"),
            ("a.:80", "a"),
            ("a.", "a"),
            ("[::1]:80", "[::1]"),
            ("[::A]", "[::a]"),
            ("", ""),
            ("a:", "a"),
        ] {
            let mut buffer = [0; MAX_HOST];
            assert_eq!(lower_host(host.as_bytes(), &mut buffer), Some(expect.as_bytes()), "{host}");
        }
        assert_eq!(lower_host(&[b'a'; 256], &mut [0; MAX_HOST]), None);
    }

    #[test]
    fn prefixes_are_whole_segments() {
        for (path, prefix, expect) in [
            ("/api", "/api", true),
            ("/api/", "/api", true),
            ("/api/x", "/api", true),
            ("/apix", "/api", false),
            ("/ap", "/api", false),
            ("/api", "/api/", true),
            ("/api/x", "/api/", true),
            ("/apix", "/api/", false),
            ("/", "/", true),
            ("/x", "/", true),
            ("//x", "/", true),
            ("/API", "/api", false),
        ] {
            assert_eq!(is_below(path.as_bytes(), prefix.as_bytes()), expect, "{path} {prefix}");
        }
    }
}
