//! Which of two routes is more specific, and which can never be reached.
//!
//! Routes are taken by how much they say, as `weir_route::Router` does: first the host (exact, then the
//! longest suffix, then any), then the path (exact, then the longest prefix, then a regular expression,
//! then any), then the number of further conditions, then the place in the file. A route with several
//! hosts stands in that order once for each of them.

use std::cmp::Reverse;

use weir_route::{HostMatch, PathMatch, Rule, TextMatch};

/// Sorts first what is to be tried first.
pub(crate) type Rank = Reverse<((u8, usize), (u8, usize), usize)>;

/// How specific a rule is, by its least specific host; equal ranks keep the order of the file.
pub(crate) fn rank(rule: &Rule) -> Rank {
    let hosts = rule.hosts.iter().map(host_rank).min().unwrap_or((0, 0));
    Reverse((hosts, path_rank(&rule.path), conditions(rule)))
}

fn host_rank(host: &HostMatch) -> (u8, usize) {
    match host {
        HostMatch::Exact(_) => (2, 0),
        HostMatch::Suffix(suffix) => (1, suffix.len()),
    }
}

fn path_rank(path: &PathMatch) -> (u8, usize) {
    match path {
        PathMatch::Exact(_) => (3, 0),
        PathMatch::Prefix(prefix) => (2, prefix.trim_end_matches('/').len()),
        PathMatch::Regex(_) => (1, 0),
        PathMatch::Any => (0, 0),
    }
}

fn conditions(rule: &Rule) -> usize {
    usize::from(!rule.methods.is_empty()) + rule.headers.len() + rule.query.len()
}

/// Whether every request that `b` matches is taken by `a` first, so that `b` is never reached;
/// `earlier`: `a` stands before `b` in the file. May say no where the truth is yes (regular expressions
/// are compared as text, several routes together are not looked at), never the other way round.
pub(crate) fn shadows(a: &Rule, b: &Rule, earlier: bool) -> bool {
    // On a host of `b`, a rule for a less specific host is tried later, however much it matches.
    let hosts = a.hosts.is_empty() == b.hosts.is_empty() && b.hosts.iter().all(|host| a.hosts.contains(host));
    let first = || {
        let (a, b) = ((path_rank(&a.path), conditions(a)), (path_rank(&b.path), conditions(b)));
        a > b || (a == b && earlier)
    };
    hosts && path_covers(&a.path, &b.path) && first() && methods_cover(a, b) && conditions_cover(a, b)
}

fn path_covers(a: &PathMatch, b: &PathMatch) -> bool {
    match (a, b) {
        (PathMatch::Any, _) => true,
        (PathMatch::Exact(a), PathMatch::Exact(b)) => a == b,
        (PathMatch::Prefix(a), PathMatch::Exact(b) | PathMatch::Prefix(b)) => is_below(a, b),
        (PathMatch::Prefix(a), _) => &**a == "/",
        (PathMatch::Regex(a), PathMatch::Regex(b)) => a.as_str() == b.as_str() || matches_all(a.as_str()),
        (PathMatch::Regex(a), _) => matches_all(a.as_str()),
        (PathMatch::Exact(_), _) => false,
    }
}

fn matches_all(regex: &str) -> bool {
    let whole = regex.strip_prefix(r"\A(?:").and_then(|rest| rest.strip_suffix(r")\z")).unwrap_or(regex);
    matches!(whole.trim_start_matches('^').trim_end_matches('$'), ".*" | "/.*")
}

fn is_below(prefix: &str, path: &str) -> bool {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn methods_cover(a: &Rule, b: &Rule) -> bool {
    a.methods.is_empty() || (!b.methods.is_empty() && b.methods.iter().all(|method| a.methods.contains(method)))
}

fn conditions_cover(a: &Rule, b: &Rule) -> bool {
    let headers =
        a.headers.iter().all(|a| b.headers.iter().any(|b| a.name == b.name && text_covers(&a.value, &b.value)));
    let query = a.query.iter().all(|a| b.query.iter().any(|b| a.name == b.name && text_covers(&a.value, &b.value)));
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

    /// What `Rule` says, spelt out: the reference that `shadows` is held against.
    fn matches(rule: &Rule, host: &str, path: &str, method: &str, canary: Option<&str>) -> bool {
        let path = match &rule.path {
            PathMatch::Any => true,
            PathMatch::Exact(exact) => **exact == *path,
            PathMatch::Prefix(prefix) if &**prefix == "/" => true,
            PathMatch::Prefix(prefix) => *path == **prefix || path.starts_with(&format!("{prefix}/")),
            PathMatch::Regex(regex) => regex.find(path).is_some_and(|found| found.range() == (0..path.len())),
        };
        let header = |one: &HeaderMatch| match &one.value {
            TextMatch::Present => canary.is_some(),
            TextMatch::Absent => canary.is_none(),
            TextMatch::Exact(exact) => canary == Some(&**exact),
            TextMatch::Regex(regex) => canary.is_some_and(|value| regex.is_match(value)),
        };
        path && (rule.hosts.is_empty() || rule.hosts.iter().any(|one| one_host(one, host)))
            && (rule.methods.is_empty() || rule.methods.iter().any(|one| **one == *method))
            && rule.headers.iter().all(header)
    }

    /// Where a rule stands among those that match on `host`; higher is tried first.
    fn place(rule: &Rule, host: &str) -> ((u8, usize), (u8, usize), usize) {
        let matching = rule.hosts.iter().filter(|one| one_host(one, host));
        let best = matching.map(host_rank).max().unwrap_or((0, 0));
        (best, path_rank(&rule.path), conditions(rule))
    }

    fn one_host(one: &HostMatch, host: &str) -> bool {
        match one {
            HostMatch::Exact(exact) => **exact == *host,
            HostMatch::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
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
            proptest::sample::select(vec!["/", "/a", "/a/b"]).prop_map(move |text| PathMatch::Exact(arc(text))),
            proptest::sample::select(vec!["/", "/a", "/a/b"]).prop_map(move |text| PathMatch::Prefix(arc(text))),
            proptest::sample::select(vec![".*", "/a.*", "^/.*$"])
                .prop_map(|text| PathMatch::Regex(Regex::new(text).unwrap())),
        ];
        let value = prop_oneof![
            Just(TextMatch::Present),
            Just(TextMatch::Absent),
            proptest::sample::select(vec!["yes", "no"]).prop_map(move |text| TextMatch::Exact(arc(text))),
            Just(TextMatch::Regex(Regex::new("^y").unwrap())),
        ];
        let methods = proptest::sample::subsequence(vec!["GET", "PUT"], 0..=2);
        (proptest::collection::vec(host, 0..3), path, methods, proptest::option::of(value)).prop_map(
            move |(hosts, path, methods, value)| Rule {
                name: arc("r"),
                hosts,
                path,
                methods: methods.into_iter().map(arc).collect(),
                headers: value.map(|value| HeaderMatch { name: arc("x-canary"), value }).into_iter().collect(),
                query: Vec::new(),
                action: Action::Respond(Respond { status: 200, content_type: arc(""), body: Arc::from([]) }),
                request_headers: HeaderEdits::default(),
                response_headers: HeaderEdits::default(),
                deadline: None,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// A route that is reported as unreachable really is: the other one matches, and is tried first.
        #[test]
        fn what_is_shadowed_is_never_reached(a in rules(), b in rules(), earlier in any::<bool>()) {
            prop_assert!(shadows(&a, &a, true) && !shadows(&a, &a, false));
            if !shadows(&a, &b, earlier) {
                return Ok(());
            }
            for host in ["a.org", "x.a.org", "y.a.org", "b.org", "com"] {
                for path in ["/", "/a", "/ab", "/a/b", "/a/b/c", "//"] {
                    for method in ["GET", "PUT", "POST"] {
                        for canary in [None, Some("yes"), Some("yep"), Some("no")] {
                            if !matches(&b, host, path, method, canary) {
                                continue;
                            }
                            let seen = || format!("{a:?}\n{b:?}\n{host} {path} {method} {canary:?}");
                            prop_assert!(matches(&a, host, path, method, canary), "{}", seen());
                            let (a, b) = (place(&a, host), place(&b, host));
                            prop_assert!(a > b || (a == b && earlier), "{}", seen());
                        }
                    }
                }
            }
        }
    }
}
