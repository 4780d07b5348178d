//! Which of two routes is more specific, and which can never be reached.
//!
//! Routes are taken by how much they say, not by their place in the file: first the host (exact, then the
//! longest suffix, then any), then the path (exact, then a regular expression, then the longest prefix,
//! then any), then the number of further conditions, then the place in the file. A route with several
//! hosts ranks by its least specific one.

use std::cmp::Reverse;

use weir_route::{HostMatch, PathMatch, Rule, TextMatch};

/// Sorts first what is to be tried first.
pub(crate) type Rank = Reverse<((u8, usize), (u8, usize), usize)>;

/// How specific a rule is; equal ranks keep the order of the file.
pub(crate) fn rank(rule: &Rule) -> Rank {
    let host = |host: &HostMatch| match host {
        HostMatch::Exact(_) => (2, 0),
        HostMatch::Suffix(suffix) => (1, suffix.len()),
    };
    let hosts = rule.hosts.iter().map(host).min().unwrap_or((0, 0));
    let path = match &rule.path {
        PathMatch::Exact(_) => (3, 0),
        PathMatch::Regex(_) => (2, 0),
        PathMatch::Prefix(prefix) => (1, prefix.len()),
        PathMatch::Any => (0, 0),
    };
    let conditions = usize::from(!rule.methods.is_empty()) + rule.headers.len() + rule.query.len();
    Reverse((hosts, path, conditions))
}

/// Whether every request that `b` matches is matched by `a` too. May say no where the truth is yes
/// (regular expressions are compared as text), never the other way round.
pub(crate) fn covers(a: &Rule, b: &Rule) -> bool {
    path_covers(&a.path, &b.path)
        && hosts_cover(&a.hosts, &b.hosts)
        && methods_cover(a, b)
        && conditions_cover(a, b)
}

fn path_covers(a: &PathMatch, b: &PathMatch) -> bool {
    match (a, b) {
        (PathMatch::Any, _) => true,
        (PathMatch::Exact(a), PathMatch::Exact(b)) => a == b,
        (PathMatch::Prefix(a), PathMatch::Exact(b) | PathMatch::Prefix(b)) => is_below(a, b),
        (PathMatch::Prefix(a), _) => &**a == "/",
        (PathMatch::Regex(a), PathMatch::Regex(b)) => {
            a.as_str() == b.as_str() || matches_all(a.as_str())
        }
        (PathMatch::Regex(a), _) => matches_all(a.as_str()),
        (PathMatch::Exact(_), _) => false,
    }
}

fn matches_all(regex: &str) -> bool {
    matches!(
        regex.trim_start_matches('^').trim_end_matches('$'),
        ".*" | "/.*"
    )
}

fn is_below(prefix: &str, path: &str) -> bool {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn hosts_cover(a: &[HostMatch], b: &[HostMatch]) -> bool {
    a.is_empty() || (!b.is_empty() && b.iter().all(|b| a.iter().any(|a| host_covers(a, b))))
}

fn host_covers(a: &HostMatch, b: &HostMatch) -> bool {
    match (a, b) {
        (HostMatch::Suffix(a), HostMatch::Suffix(b) | HostMatch::Exact(b)) => b.ends_with(&**a),
        (a, b) => a == b,
    }
}

fn methods_cover(a: &Rule, b: &Rule) -> bool {
    a.methods.is_empty()
        || (!b.methods.is_empty() && b.methods.iter().all(|method| a.methods.contains(method)))
}

fn conditions_cover(a: &Rule, b: &Rule) -> bool {
    let headers = a.headers.iter().all(|a| {
        b.headers
            .iter()
            .any(|b| a.name == b.name && text_covers(&a.value, &b.value))
    });
    let query = a.query.iter().all(|a| {
        b.query
            .iter()
            .any(|b| a.name == b.name && text_covers(&a.value, &b.value))
    });
    headers && query
}

fn text_covers(a: &TextMatch, b: &TextMatch) -> bool {
    match (a, b) {
        (TextMatch::Present, TextMatch::Present | TextMatch::Exact(_) | TextMatch::Regex(_))
        | (TextMatch::Absent, TextMatch::Absent) => true,
        (TextMatch::Exact(a), TextMatch::Exact(b)) => a == b,
        (TextMatch::Regex(a), TextMatch::Regex(b)) => a.as_str() == b.as_str(),
        (TextMatch::Regex(a), TextMatch::Exact(b)) => a.is_match(b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use regex::Regex;
    use weir_route::{Action, HeaderEdits, HeaderMatch, Respond};

    use super::*;

    /// What `Rule` says, spelt out: the reference that `covers` is held against.
    fn matches(rule: &Rule, host: &str, path: &str, method: &str, canary: Option<&str>) -> bool {
        let one_host = |one: &HostMatch| match one {
            HostMatch::Exact(exact) => **exact == *host,
            HostMatch::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        };
        let path = match &rule.path {
            PathMatch::Any => true,
            PathMatch::Exact(exact) => **exact == *path,
            PathMatch::Prefix(prefix) if &**prefix == "/" => true,
            PathMatch::Prefix(prefix) => {
                *path == **prefix || path.starts_with(&format!("{prefix}/"))
            }
            PathMatch::Regex(regex) => regex
                .find(path)
                .is_some_and(|found| found.range() == (0..path.len())),
        };
        let header = |one: &HeaderMatch| match &one.value {
            TextMatch::Present => canary.is_some(),
            TextMatch::Absent => canary.is_none(),
            TextMatch::Exact(exact) => canary == Some(&**exact),
            TextMatch::Regex(regex) => canary.is_some_and(|value| regex.is_match(value)),
        };
        path && (rule.hosts.is_empty() || rule.hosts.iter().any(one_host))
            && (rule.methods.is_empty() || rule.methods.iter().any(|one| **one == *method))
            && rule.headers.iter().all(header)
    }

    fn rules() -> impl Strategy<Value = Rule> {
        let arc = |text: &str| Arc::<str>::from(text);
        let host = prop_oneof![
            Just(HostMatch::Exact(arc("a.org"))),
            Just(HostMatch::Exact(arc("x.a.org"))),
            Just(HostMatch::Suffix(arc(".a.org"))),
            Just(HostMatch::Suffix(arc(".org"))),
        ];
        let path = prop_oneof![
            Just(PathMatch::Any),
            proptest::sample::select(vec!["/", "/a", "/a/b"])
                .prop_map(move |text| PathMatch::Exact(arc(text))),
            proptest::sample::select(vec!["/", "/a", "/a/b"])
                .prop_map(move |text| PathMatch::Prefix(arc(text))),
            proptest::sample::select(vec![".*", "/a.*", "^/.*$"])
                .prop_map(|text| PathMatch::Regex(Regex::new(text).unwrap())),
        ];
        let value = prop_oneof![
            Just(TextMatch::Present),
            Just(TextMatch::Absent),
            proptest::sample::select(vec!["yes", "no"])
                .prop_map(move |text| TextMatch::Exact(arc(text))),
            Just(TextMatch::Regex(Regex::new("^y").unwrap())),
        ];
        let methods = proptest::sample::subsequence(vec!["GET", "PUT"], 0..=2);
        (
            proptest::collection::vec(host, 0..3),
            path,
            methods,
            proptest::option::of(value),
        )
            .prop_map(move |(hosts, path, methods, value)| Rule {
                name: arc("r"),
                hosts,
                path,
                methods: methods.into_iter().map(arc).collect(),
                headers: value
                    .map(|value| HeaderMatch {
                        name: arc("x-canary"),
                        value,
                    })
                    .into_iter()
                    .collect(),
                query: Vec::new(),
                action: Action::Respond(Respond {
                    status: 200,
                    content_type: arc(""),
                    body: Arc::from([]),
                }),
                request_headers: HeaderEdits::default(),
                response_headers: HeaderEdits::default(),
                deadline: None,
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// A route that is reported as unreachable really is.
        #[test]
        fn what_is_covered_is_matched(a in rules(), b in rules()) {
            prop_assert!(covers(&a, &a));
            if !covers(&a, &b) {
                return Ok(());
            }
            for host in ["a.org", "x.a.org", "y.a.org", "b.org", "com"] {
                for path in ["/", "/a", "/ab", "/a/b", "/a/b/c", "//"] {
                    for method in ["GET", "PUT", "POST"] {
                        for canary in [None, Some("yes"), Some("yep"), Some("no")] {
                            prop_assert!(
                                !matches(&b, host, path, method, canary) || matches(&a, host, path, method, canary),
                                "{a:?}\n{b:?}\n{host} {path} {method} {canary:?}"
                            );
                        }
                    }
                }
            }
        }

        /// A covering route is never tried before what it covers, unless both say equally much.
        #[test]
        fn the_more_specific_of_two_is_tried_first(a in rules(), b in rules()) {
            if covers(&a, &b) && !covers(&b, &a) && a.hosts.len() <= 1 && b.hosts.len() <= 1
                && !matches!(a.path, PathMatch::Regex(_)) && !matches!(b.path, PathMatch::Regex(_))
            {
                prop_assert!(rank(&b) <= rank(&a), "{a:?}\n{b:?}");
            }
        }
    }
}
