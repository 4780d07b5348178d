use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use regex::Regex;
use weir_core::ClusterId;

use super::*;
use crate::matcher::host_matches;
use crate::{Action, HeaderEdits, HeaderMatch, QueryMatch, TextMatch};

fn rule(hosts: &[&str], path: &str) -> Rule {
    let host = |text: &&str| match text.strip_prefix('*') {
        Some(suffix) => HostMatch::Suffix(suffix.into()),
        None => HostMatch::Exact((*text).into()),
    };
    // `=/a` exact, `~/a.*` regular expression, `` any, else a prefix.
    let path = match path.as_bytes() {
        [] => PathMatch::Any,
        [b'=', ..] => PathMatch::Exact(path[1..].into()),
        [b'~', ..] => PathMatch::Regex(Regex::new(&format!("^(?:{})$", &path[1..])).unwrap()),
        _ => PathMatch::Prefix(path.into()),
    };
    Rule {
        name: "r".into(),
        hosts: hosts.iter().map(host).collect(),
        path,
        methods: vec![],
        headers: vec![],
        query: vec![],
        action: Action::Forward { cluster: ClusterId(0), rewrite: None },
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        deadline: None,
    }
}

fn view<'a>(host: &'a str, target: &'a str, fields: &'a dyn crate::Fields) -> RequestView<'a> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.as_bytes())),
        None => (target, None),
    };
    RequestView { host: host.as_bytes(), path: path.as_bytes(), query, method: "GET", fields }
}

#[track_caller]
fn check(rules: &[Rule], requests: &[(&str, &str, Option<u32>)]) {
    let router = Router::new(rules.to_vec());
    for (host, target, expect) in requests {
        let found = router.route(&view(host, target, &[]));
        assert_eq!(found.map(|id| id.0), *expect, "{host}{target}");
    }
}

#[test]
fn hosts_exact_before_longest_suffix_before_any() {
    check(
        &[
            rule(&[], "=/x"),
            rule(&["*.org"], ""),
            rule(&["*.b.org"], ""),
            rule(&["a.b.org"], ""),
            rule(&["C.Org."], ""),
        ],
        &[
            ("a.b.org", "/x", Some(3)),
            ("A.B.ORG:80", "/", Some(3)),
            ("a.b.org.", "/", Some(3)),
            ("x.b.org", "/", Some(2)),
            ("x.a.b.org", "/", Some(2)),
            ("b.org", "/", Some(1)),
            ("org", "/x", Some(0)),
            ("org", "/", None),
            (".org", "/", None),
            ("c.org", "/", Some(4)),
            ("", "/x", Some(0)),
            ("xb.org", "/", Some(1)),
        ],
    );
}

#[test]
fn paths_exact_before_longest_prefix_before_regex_before_any() {
    check(
        &[rule(&[], ""), rule(&[], "~/a/[0-9]+"), rule(&[], "/a/b"), rule(&[], "/a/b/c/"), rule(&[], "=/a/b/c")],
        &[
            ("h", "/", Some(0)),
            ("h", "/a/1", Some(1)),
            ("h", "/a/1/2", Some(0)),
            ("h", "/a/b", Some(2)),
            ("h", "/a/b/", Some(2)),
            ("h", "/a/bc", Some(0)),
            ("h", "/a/b/c", Some(4)),
            ("h", "/a/b/c/", Some(3)),
            ("h", "/a/b/c/d", Some(3)),
            ("h", "/a/b/cd", Some(2)),
        ],
    );
}

#[test]
fn more_conditions_come_first_then_the_order_given() {
    let plain = rule(&[], "/a");
    let mut post = plain.clone();
    post.methods = vec!["POST".into()];
    let mut get = plain.clone();
    get.methods = vec!["GET".into(), "HEAD".into()];
    let mut get_and_query = get.clone();
    get_and_query.query = vec![QueryMatch { name: "v".into(), value: TextMatch::Exact("2 x".into()) }];
    check(
        &[plain.clone(), plain, post, get, get_and_query],
        &[
            ("h", "/a", Some(3)),
            ("h", "/a?v=2+x", Some(4)),
            ("h", "/a?v=1&%76=2%20x", Some(4)),
            ("h", "/a?v=3", Some(3)),
        ],
    );
    check(&[rule(&[], "/a"), rule(&[], "/a/")], &[("h", "/a", Some(0))]);
}

#[test]
fn a_rule_that_fails_on_a_condition_leaves_room_for_less_specific_ones() {
    let mut exact = rule(&["a.org"], "=/x");
    exact.methods = vec!["POST".into()];
    check(&[exact, rule(&["*.org"], "/x"), rule(&[], "")], &[("a.org", "/x", Some(1)), ("a.org", "/y", Some(2))]);
}

#[test]
fn fields_and_parameters() {
    let regex = |text: &str| TextMatch::Regex(Regex::new(text).unwrap());
    let fields: [(&str, &[u8]); 4] = [("X-A", b"1"), ("x-a", b"2"), ("X-B", b""), ("X-C", b"\xff")];
    let check = |name: &str, value: TextMatch, expect: bool| {
        let mut with_header = rule(&[], "");
        with_header.headers = vec![HeaderMatch { name: name.into(), value: value.clone() }];
        let found = Router::new(vec![with_header]).route(&view("h", "/", &fields));
        assert_eq!(found.is_some(), expect, "header {name} {value:?}");
        let mut with_query = rule(&[], "");
        with_query.query = vec![QueryMatch { name: name.into(), value: value.clone() }];
        let found = Router::new(vec![with_query]).route(&view("h", "/?x-a=1&x-a=%32&x-b&x-c=%ff", &fields));
        assert_eq!(found.is_some(), expect, "parameter {name} {value:?}");
    };
    check("x-a", TextMatch::Present, true);
    check("x-b", TextMatch::Present, true);
    check("x-d", TextMatch::Present, false);
    check("x-a", TextMatch::Absent, false);
    check("x-d", TextMatch::Absent, true);
    check("x-a", TextMatch::Exact("2".into()), true);
    check("x-a", TextMatch::Exact("3".into()), false);
    check("x-b", TextMatch::Exact("".into()), true);
    check("x-d", TextMatch::Exact("".into()), false);
    check("x-a", regex("^[2-9]$"), true);
    check("x-a", regex("^[3-9]$"), false);
    check("x-c", regex("."), false);
}

#[test]
fn a_host_too_long_for_a_name_matches_rules_for_any_host_only() {
    let long = "a.".repeat(200) + "org";
    check(&[rule(&["*.org"], ""), rule(&[], "")], &[(&long, "/", Some(1))]);
}

#[test]
fn nothing_matches_an_empty_router() {
    check(&[], &[("h", "/", None)]);
}

/// The order of the module's documentation, rule by rule.
fn naive(rules: &[Rule], request: &RequestView<'_>) -> Option<RouteId> {
    let mut buffer = [0; MAX_HOST];
    let host = lower_host(request.host, &mut buffer)?;
    let host_rank = |rule: &Rule| -> Option<(u8, usize)> {
        if rule.hosts.is_empty() {
            return Some((0, 0));
        }
        let ranks = rule.hosts.iter().filter(|condition| host_matches(condition, host));
        ranks
            .map(|condition| match condition {
                HostMatch::Exact(_) => (2, 0),
                HostMatch::Suffix(suffix) => (1, suffix.len()),
            })
            .max()
    };
    let path_rank = |rule: &Rule| match &rule.path {
        PathMatch::Exact(_) => (3, 0),
        PathMatch::Prefix(prefix) => (2, trim_prefix(prefix.as_bytes()).len()),
        PathMatch::Regex(_) => (1, 0),
        PathMatch::Any => (0, 0),
    };
    let ranked = rules.iter().enumerate().filter_map(|(at, rule)| {
        let matches = path_matches(&rule.path, request.path) && rest_matches(rule, request);
        let rank = (host_rank(rule)?, path_rank(rule), rest_count(rule), std::cmp::Reverse(at));
        matches.then_some((rank, at))
    });
    ranked.max().map(|(_, at)| RouteId(at as u32))
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let hosts = vec(prop::sample::select(vec!["a.org", "b.org", "x.a.org", "*.org", "*.a.org", "*.x.a.org"]), 0..3);
    let path = prop::sample::select(vec![
        "", "/", "/a", "/a/", "/a/b", "/ab", "=/", "=/a", "=/a/b", "~/a.*", "~/[ab]", "=/a/",
    ]);
    let methods = prop::sample::select(vec!["", "GET", "POST"]);
    let header = prop::option::of(prop::sample::select(vec!["x-a", "x-b"]));
    let query = prop::option::of(prop::sample::select(vec!["q", "r"]));
    let one = (hosts, path, methods, header, query).prop_map(|(hosts, path, method, header, query)| {
        let mut rule = rule(&hosts, path);
        rule.methods.extend((!method.is_empty()).then(|| Arc::from(method)));
        rule.headers.extend(header.map(|name| HeaderMatch { name: name.into(), value: TextMatch::Present }));
        rule.query.extend(query.map(|name| QueryMatch { name: name.into(), value: TextMatch::Present }));
        rule
    });
    vec(one, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_agrees_with_the_documented_order(
        rules in rules(),
        requests in vec((
            prop::sample::select(vec!["a.org", "B.org:80", "x.a.org", "y.x.a.org", "z.org", "org", "c", ""]),
            prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b", "//", "/a//b", "/a?q=1", "/a/b?r", "/?q&r"]),
            prop::sample::select(vec!["GET", "POST", "PUT"]),
            any::<bool>(),
        ), 1..20),
    ) {
        let router = Router::new(rules.clone());
        for (host, target, method, with_field) in requests {
            let some: [(&str, &[u8]); 1] = [("X-A", b"1")];
            let none: [(&str, &[u8]); 0] = [];
            let fields: &dyn crate::Fields = if with_field { &some } else { &none };
            let request = RequestView { method, ..view(host, target, fields) };
            prop_assert_eq!(router.route(&request), naive(&rules, &request), "{}{}", host, target);
        }
    }
}
