//! What a rule does to the path: rewrites and redirects.

use crate::matcher::trim_prefix;
use crate::{Action, PathMatch, Redirect, Rewrite, Rule};

/// The request that a redirect answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RedirectFrom<'a> {
    /// `http` or `https`, as the client came.
    pub scheme: &'a str,
    /// Host with its port if it had one; may be empty (HTTP/1.0).
    pub host: &'a [u8],
    /// Normalised path.
    pub path: &'a [u8],
    /// Query without its `?`.
    pub query: Option<&'a [u8]>,
}

/// Appends the path that a rule forwards (or redirects) `path` to. Without a rewrite that is `path`
/// itself.
///
/// [`Rewrite::Prefix`] replaces what the rule's path condition matched: the prefix of
/// [`PathMatch::Prefix`], the whole of [`PathMatch::Exact`], nothing otherwise (so it is put in
/// front). Slashes where the two parts meet are not doubled, and the result is never empty:
/// `/api` → `/` makes `/api/x` to `/x` and `/api` to `/`.
pub fn rewrite_path(rule: &Rule, path: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let rewrite = match &rule.action {
        Action::Forward { rewrite, .. } => rewrite.as_ref(),
        Action::Redirect(redirect) => redirect.path.as_ref(),
        Action::Respond(_) => None,
    };
    match rewrite {
        None => out.extend_from_slice(path),
        Some(Rewrite::Path(whole)) => out.extend_from_slice(whole.as_bytes()),
        Some(Rewrite::Prefix(new)) => {
            let rest = match &rule.path {
                PathMatch::Prefix(prefix) => path.strip_prefix(trim_prefix(prefix.as_bytes())).unwrap_or(path),
                PathMatch::Exact(_) => b"",
                PathMatch::Any | PathMatch::Regex(_) => path,
            };
            let new = new.as_bytes();
            out.extend_from_slice(if rest.is_empty() { new } else { trim_prefix(new) });
            out.extend_from_slice(rest);
        }
    }
    if out.len() == start {
        out.push(b'/');
    }
}

/// Appends the `Location` of a redirect to `out`: an absolute URI with the parts of `redirect`
/// where it has them and those of the request where not. The query is kept.
///
/// A change of scheme without a new host drops the port, which belonged to the old scheme. When no
/// host is known, the location is a path; slashes at its start are made one, as two would make the
/// first segment a host (RFC 3986 section 4.2).
pub fn redirect_location(rule: &Rule, redirect: &Redirect, from: &RedirectFrom<'_>, out: &mut Vec<u8>) {
    let scheme = redirect.scheme.as_deref().unwrap_or(from.scheme);
    let host = match &redirect.host {
        Some(host) => host.as_bytes(),
        None if scheme.eq_ignore_ascii_case(from.scheme) => from.host,
        None => without_port(from.host),
    };
    let mut path = Vec::with_capacity(from.path.len());
    rewrite_path(rule, from.path, &mut path);
    let mut path = &path[..];
    if host.is_empty() {
        while path.starts_with(b"//") {
            path = &path[1..];
        }
    } else {
        out.extend_from_slice(scheme.as_bytes());
        out.extend_from_slice(b"://");
        out.extend_from_slice(host);
    }
    out.extend_from_slice(path);
    if let Some(query) = from.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}

fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|&byte| byte == b':' || byte == b']') {
        Some(at) if host[at] == b':' => &host[..at],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::HeaderEdits;
    use weir_core::ClusterId;

    fn rule(path: PathMatch, action: Action) -> Rule {
        Rule {
            name: "r".into(),
            hosts: vec![],
            path,
            methods: vec![],
            headers: vec![],
            query: vec![],
            action,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            deadline: None,
        }
    }

    fn prefix(text: &str) -> PathMatch {
        PathMatch::Prefix(text.into())
    }

    #[track_caller]
    fn check(matched: PathMatch, rewrite: Option<Rewrite>, path: &str, expect: &str) {
        let rule = rule(matched, Action::Forward { cluster: ClusterId(0), rewrite });
        let mut out = b"old".to_vec();
        rewrite_path(&rule, path.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("old{expect}"));
    }

    #[test]
    fn rewriting() {
        let to = |text: &str| Some(Rewrite::Prefix(text.into()));
        check(prefix("/api"), None, "/api/x", "/api/x");
        check(prefix("/api"), to("/v2"), "/api", "/v2");
        check(prefix("/api"), to("/v2"), "/api/", "/v2/");
        check(prefix("/api"), to("/v2"), "/api/x", "/v2/x");
        check(prefix("/api/"), to("/v2/"), "/api/x", "/v2/x");
        check(prefix("/api"), to("/"), "/api/x", "/x");
        check(prefix("/api"), to("/"), "/api", "/");
        check(prefix("/api"), to(""), "/api", "/");
        check(prefix("/"), to("/v2"), "/", "/v2/");
        check(prefix("/"), to("/v2"), "/x", "/v2/x");
        check(PathMatch::Any, to("/v2"), "/x", "/v2/x");
        check(PathMatch::Exact("/x".into()), to("/v2"), "/x", "/v2");
        check(prefix("/api"), Some(Rewrite::Path("/all".into())), "/api/x", "/all");
    }

    #[track_caller]
    fn check_redirect(
        (scheme, host, path): (Option<&str>, Option<&str>, Option<Rewrite>),
        (from_host, from_path, query): (&str, &str, Option<&str>),
        expect: &str,
    ) {
        let redirect = Redirect { status: 308, scheme: scheme.map(Arc::from), host: host.map(Arc::from), path };
        let rule = rule(prefix("/old"), Action::Redirect(redirect.clone()));
        let from = RedirectFrom {
            scheme: "http",
            host: from_host.as_bytes(),
            path: from_path.as_bytes(),
            query: query.map(str::as_bytes),
        };
        let mut out = Vec::new();
        redirect_location(&rule, &redirect, &from, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[test]
    fn redirecting() {
        check_redirect((Some("https"), None, None), ("a:8080", "/x", Some("y=z")), "https://a/x?y=z");
        check_redirect((Some("https"), None, None), ("[::1]:80", "/", None), "https://[::1]/");
        check_redirect((Some("http"), None, None), ("a:8080", "/x", None), "http://a:8080/x");
        check_redirect((None, Some("b:1"), None), ("a", "/x", Some("")), "http://b:1/x?");
        check_redirect((None, None, Some(Rewrite::Prefix("/new".into()))), ("a", "/old/x", None), "http://a/new/x");
        check_redirect((None, None, Some(Rewrite::Path("/n".into()))), ("a", "/old/x", Some("q")), "http://a/n?q");
        check_redirect((None, None, None), ("", "//evil/x", None), "/evil/x");
        check_redirect((None, None, None), ("a", "//evil/x", None), "http://a//evil/x");
    }
}
