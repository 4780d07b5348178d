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
    path_covers(&a.path, &b.path) && hosts_cover(&a.hosts, &b.hosts) && methods_cover(a, b) && conditions_cover(a, b)
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
    matches!(regex.trim_start_matches('^').trim_end_matches('$'), ".*" | "/.*")
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
