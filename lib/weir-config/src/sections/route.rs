//! `[[route]]`: what happens to which requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_route::{Action, HeaderEdits, PathMatch, Redirect, Respond, Rewrite, Rule};

use super::listener::Built;
use super::{Clusters, body, conditions, duplicate, edits, order};
use crate::Files;
use crate::codes;
use crate::diagnostic::{Report, Span, quoted};
use crate::draft::{Node, Value};
use crate::nearest::nearest;
use crate::plan::Protocol;
use crate::schema::{Default, Kind, TIMEOUT, Table, key};
use crate::syntax;

pub(crate) static ROUTE: Table = Table {
    name: "route",
    header: "[[route]]",
    doc: "Conditions and one action: `cluster`, `redirect` or `respond`. All conditions must hold; a route without \
          conditions matches everything. The most specific route that matches is taken: first by host (exact, then the \
          longest suffix, then any), then by path (exact, then the longest prefix, then regular expression, then any), \
          then by the number of further conditions, then by place in the file.",
    keys: &[
        key(
            "name",
            Kind::Text("a name"),
            Default::Absent("`route-N`, the N-th in the file"),
            "Name in logs and metrics.",
        ),
        key(
            "listener",
            Kind::OneOrMany(&Kind::Text("the name of a listener")),
            Default::Absent("every HTTP listener"),
            "The listeners where this route holds, by name.",
        ),
        key(
            "host",
            Kind::OneOrMany(&Kind::Text("a host such as \"example.org\" or \"*.example.org\"")),
            Default::Absent("any host"),
            "Any of these hosts, without port, in lower case. `*.example.org` matches every host below `example.org`, not itself.",
        ),
        key(
            "path",
            Kind::Text("a path such as \"/login\""),
            Default::Absent("any path"),
            "Exactly this path, in normal form.",
        ),
        key(
            "path_prefix",
            Kind::Text("a path such as \"/api\""),
            Default::Absent("any path"),
            "This path and everything below it, by whole segments: `/api` matches `/api` and `/api/x`, not `/apix`.",
        ),
        key(
            "path_regex",
            Kind::Text("a regular expression"),
            Default::Absent("any path"),
            "The whole path matches this regular expression; no anchors are needed.",
        ),
        key(
            "method",
            Kind::OneOrMany(&Kind::Text("a method such as \"GET\"")),
            Default::Absent("any method"),
            "Any of these methods, in upper case.",
        ),
        key(
            "header",
            Kind::Map("header names", &Kind::Short(&conditions::MATCH, "exact")),
            Default::Absent("no condition on header fields"),
            "Conditions on header fields: `{ X-Canary = \"yes\" }` or `{ X-Canary = { present = true } }`. All must hold.",
        ),
        key(
            "query",
            Kind::Map("query parameters", &Kind::Short(&conditions::MATCH, "exact")),
            Default::Absent("no condition on the query"),
            "Conditions on query parameters, after percent-decoding; as `header`.",
        ),
        key(
            "cluster",
            Kind::Text("the name of a cluster"),
            Default::Absent("another action"),
            "Action: forward to this cluster.",
        ),
        key("redirect", Kind::Table(&REDIRECT), Default::Absent("another action"), "Action: answer with a redirect."),
        key(
            "respond",
            Kind::Table(&RESPOND),
            Default::Absent("another action"),
            "Action: answer with a fixed response.",
        ),
        key(
            "rewrite_prefix",
            Kind::Text("a path such as \"/\""),
            Default::Absent("the path is forwarded unchanged"),
            "With `cluster` and `path_prefix`: the matched prefix is replaced by this one.",
        ),
        key(
            "rewrite_path",
            Kind::Text("a path such as \"/index.html\""),
            Default::Absent("the path is forwarded unchanged"),
            "With `cluster`: the whole path is replaced by this one; the query stays.",
        ),
        key(
            "request_headers",
            Kind::Table(&edits::EDITS),
            Default::Absent("no changes"),
            "With `cluster`: changes to the request's header fields before it is forwarded.",
        ),
        key(
            "response_headers",
            Kind::Table(&edits::EDITS),
            Default::Absent("no changes"),
            "Changes to the response's header fields before it is returned.",
        ),
        key(
            "deadline",
            Kind::OrWord("none", &TIMEOUT),
            Default::Value("\"none\""),
            "With `cluster`: hard deadline for the whole request, bodies included; then 504, or the connection is cut.",
        ),
    ],
};

static REDIRECT: Table = Table {
    name: "route.redirect",
    header: "redirect = { ... }",
    doc: "A redirect. Parts that are left out stay as the client sent them; the query is kept.",
    keys: &[
        key(
            "status",
            Kind::Int { min: 301, max: 308 },
            Default::Value("308"),
            "301, 302, 303, 307 or 308. 307 and 308 keep the method.",
        ),
        key("scheme", Kind::Choice(&["http", "https"]), Default::Absent("unchanged"), "Scheme of the target."),
        key(
            "host",
            Kind::Text("a host such as \"example.org\""),
            Default::Absent("unchanged"),
            "Host of the target, with `:port` if needed.",
        ),
        key("path", Kind::Text("a path such as \"/new\""), Default::Absent("unchanged"), "Path of the target."),
        key(
            "prefix",
            Kind::Text("a path such as \"/new\""),
            Default::Absent("unchanged"),
            "Replaces the prefix matched by `path_prefix`; what is below it stays.",
        ),
    ],
};

static RESPOND: Table = Table {
    name: "route.respond",
    header: "respond = { ... }",
    doc: "A fixed response, from `body`, from `file`, or without a body.",
    keys: &[
        key("status", Kind::Int { min: 200, max: 599 }, Default::Value("200"), "Status of the response."),
        key(
            "body",
            Kind::Text(crate::walk::FREE_TEXT),
            Default::Absent("no body, or `file` holds it"),
            "Body of the response.",
        ),
        key(
            "file",
            Kind::Text("the path of a file"),
            Default::Absent("no body, or `body` holds it"),
            "File with the body, read when the configuration is loaded.",
        ),
        key(
            "content_type",
            Kind::Text("a media type such as \"text/plain\""),
            Default::Value("\"text/plain; charset=utf-8\""),
            "`Content-Type` of the response.",
        ),
    ],
};

pub(crate) fn settle(node: &mut Node, at: usize) {
    node.derive_text("name", format!("route-{}", at + 1));
    if node.entry("cluster").is_none() {
        node.drop_defaults(&["deadline"]);
    }
}

/// Resolves all routes and gives them to their listeners in the order of evaluation.
pub(crate) fn resolve(
    root: &Node,
    listeners: &mut [Built],
    clusters: &mut Clusters<'_>,
    files: &dyn Files,
    report: &mut Report,
) {
    let mut placed = Vec::new();
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    for node in root.list("route").iter().filter_map(Value::table) {
        check_name(node, &mut names, report);
        let homes = homes(node, listeners, report);
        let merge_slashes = homes.iter().any(|home| merges_slashes(listeners, *home));
        let before = report.error_count();
        let rule = rule(node, merge_slashes, clusters, files, report);
        // What a broken route matches is not known: it takes no part in the comparison.
        let sound = report.error_count() == before;
        placed.push(Placed { rule, homes, span: node.span.clone(), sound });
    }
    let somewhere: BTreeSet<usize> = placed.iter().flat_map(|placed| placed.homes.iter().copied()).collect();
    placed.retain(|placed: &Placed| placed.sound);
    check_reachable(&placed, report);
    placed.sort_by_key(|placed| order::rank(&placed.rule));
    for placed in &placed {
        for home in &placed.homes {
            let Some(Protocol::Http(http)) = listeners.get_mut(*home).map(|built| &mut built.listener.protocol) else {
                continue;
            };
            http.routes.push(placed.rule.clone());
        }
    }
    for (at, built) in listeners.iter_mut().enumerate() {
        let Protocol::Http(http) = &mut built.listener.protocol else {
            continue;
        };
        // The listener's own `cluster` stands first so far; it is the least specific of all.
        if !root.list("route").is_empty() {
            check_default(&http.routes, &built.span, report);
        }
        http.routes.sort_by_key(order::rank);
        if http.routes.is_empty() && !somewhere.contains(&at) && !built.misspelt {
            report
                .error(
                    codes::NO_DESTINATION,
                    &built.span,
                    format!("listener {} has neither `cluster` nor a route", quoted(&built.listener.name)),
                )
                .help("add `cluster = \"NAME\"`, or a `[[route]]`");
        }
    }
}

struct Placed {
    rule: Rule,
    /// Positions of the listeners.
    homes: Vec<usize>,
    span: Span,
    sound: bool,
}

fn check_name<'a>(node: &'a Node, names: &mut BTreeMap<&'a str, Span>, report: &mut Report) {
    let Some(value) = node.text("name") else {
        return;
    };
    if let Some(Err(fault)) = (!value.defaulted).then(|| syntax::name(value.text())) {
        fault.report(value, report);
    }
    match names.get(value.text()) {
        Some(first) => duplicate(codes::DUPLICATE_ROUTE_NAME, "route", value.text(), &value.span, first, report),
        None => {
            names.insert(value.text(), value.span.clone());
        }
    }
}

/// The listeners of a route.
fn homes(node: &Node, listeners: &[Built], report: &mut Report) -> Vec<usize> {
    let is_http =
        |at: &usize| matches!(listeners.get(*at).map(|built| &built.listener.protocol), Some(Protocol::Http(_)));
    if node.entry("listener").is_none() {
        let all: Vec<usize> = (0..listeners.len()).filter(is_http).collect();
        if all.is_empty() && !listeners.is_empty() {
            report
                .error(codes::ROUTE_ON_TCP, &node.span, "there is no HTTP listener for this route")
                .help("routes look into HTTP requests: set `protocol = \"http\"` at a listener, or take the route out");
        }
        return all;
    }
    if node.get("listener").is_some() && node.list("listener").is_empty() {
        report
            .error(codes::EMPTY, &node.span_of("listener"), "`route.listener` is empty")
            .help("leave the key out to mean every HTTP listener");
    }
    let mut homes = Vec::new();
    for value in node.list("listener").iter().filter(|value| value.is_valid()) {
        let name = value.text();
        let found = listeners.iter().position(|built| *built.listener.name == *name);
        match found {
            Some(at) if !is_http(&at) => {
                report
                    .error(codes::ROUTE_ON_TCP, &value.span, format!("{} is a TCP listener", quoted(name)))
                    .help("routes look into HTTP requests; a TCP listener sends everything to its `cluster`");
            }
            Some(at) if homes.contains(&at) => {
                report
                    .error(codes::UNKNOWN_LISTENER, &value.span, format!("listener {} is there twice", quoted(name)))
                    .help("take one out");
            }
            Some(at) => homes.push(at),
            None => {
                let names = listeners.iter().map(|built| &*built.listener.name);
                let help = match nearest(name, names.clone()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("known listeners: {}", names.map(quoted).collect::<Vec<_>>().join(", ")),
                };
                report
                    .error(codes::UNKNOWN_LISTENER, &value.span, format!("there is no listener {}", quoted(name)))
                    .help(help);
            }
        }
    }
    homes
}

fn merges_slashes(listeners: &[Built], at: usize) -> bool {
    match listeners.get(at).map(|built| &built.listener.protocol) {
        Some(Protocol::Http(http)) => http.path_policy.merge_slashes,
        _ => false,
    }
}

fn rule(node: &Node, merge_slashes: bool, clusters: &mut Clusters<'_>, files: &dyn Files, report: &mut Report) -> Rule {
    let conditions = conditions::resolve(node, merge_slashes, report);
    let action = action(node, &conditions.path, clusters, files, report);
    let mut edits =
        |key, request| node.table(key).map_or_else(HeaderEdits::default, |node| edits::resolve(node, request, report));
    Rule {
        name: Arc::from(node.str("name")),
        hosts: conditions.hosts,
        path: conditions.path,
        methods: conditions.methods,
        headers: conditions.headers,
        query: conditions.query,
        action,
        request_headers: edits("request_headers", true),
        response_headers: edits("response_headers", false),
        deadline: node.opt_duration("deadline"),
    }
}

// === actions ===

fn action(
    node: &Node,
    path: &PathMatch,
    clusters: &mut Clusters<'_>,
    files: &dyn Files,
    report: &mut Report,
) -> Action {
    const ACTIONS: [&str; 3] = ["cluster", "redirect", "respond"];
    /// Keys that speak of the request on its way to an endpoint.
    const FORWARDING: [&str; 4] = ["rewrite_prefix", "rewrite_path", "request_headers", "deadline"];
    let there: Vec<_> = ACTIONS.into_iter().filter_map(|key| node.entry(key)).collect();
    match there[..] {
        [] if node.misspelt => {}
        [] => {
            report
                .error(codes::NO_ACTION, &node.span, format!("route {} does nothing", quoted(node.str("name"))))
                .help("add `cluster = \"NAME\"`, `redirect = { ... }` or `respond = { ... }`");
        }
        [first, second, ..] => {
            report
                .error(
                    codes::SEVERAL_ACTIONS,
                    &second.key_span,
                    format!("`{}` and `{}` cannot stand together", first.key, second.key),
                )
                .note_at(format!("`{}` is here", first.key), &first.key_span)
                .help("a route has one action; write two routes with different conditions");
        }
        [only] if only.key != "cluster" => {
            for entry in FORWARDING.into_iter().filter_map(|key| node.written(key)) {
                report
                    .error(
                        codes::WITHOUT_EFFECT,
                        &entry.key_span,
                        format!("`{}` has no effect with `{}`", entry.key, only.key),
                    )
                    .help("only a route with `cluster` forwards a request; take it out");
            }
        }
        [_] => {}
    }
    if let Some(value) = node.text("cluster") {
        let cluster = clusters.find(value, report);
        return Action::Forward { cluster, rewrite: rewrite(node, "rewrite_path", "rewrite_prefix", path, report) };
    }
    if let Some(redirect) = node.table("redirect") {
        return Action::Redirect(self::redirect(redirect, node, path, report));
    }
    let Some(respond) = node.table("respond") else {
        return Action::Respond(Respond { status: 500, content_type: Arc::from(""), body: Arc::from([]) });
    };
    Action::Respond(self::respond(respond, files, report))
}

fn rewrite(node: &Node, whole: &str, prefix: &str, path: &PathMatch, report: &mut Report) -> Option<Rewrite> {
    if let (Some(first), Some(second)) = (node.entry(whole), node.entry(prefix)) {
        report
            .error(codes::CONFLICT, &second.key_span, format!("`{whole}` and `{prefix}` cannot stand together"))
            .note_at(format!("`{whole}` is here"), &first.key_span)
            .help("keep one of them");
        return None;
    }
    if let Some(value) = node.text(whole) {
        if let Err(fault) = syntax::path(value.text(), false) {
            fault.report(value, report);
        }
        return Some(Rewrite::Path(Arc::from(value.text())));
    }
    let value = node.text(prefix)?;
    conditions::check_prefix(value, false, report);
    if !matches!(path, PathMatch::Prefix(_)) {
        report
            .error(
                codes::NO_PREFIX,
                &node.span_of(prefix),
                format!("`{prefix}` replaces a prefix, but this route has no `path_prefix`"),
            )
            .help(format!("add `path_prefix`, or use `{whole}` to replace the whole path"));
    }
    Some(Rewrite::Prefix(Arc::from(value.text())))
}

fn redirect(node: &Node, route: &Node, path: &PathMatch, report: &mut Report) -> Redirect {
    let status = node.u16("status");
    if node.get("status").is_some() && ![301, 302, 303, 307, 308].contains(&status) {
        report
            .error(
                codes::BAD_STATUS,
                &node.span_of("status"),
                format!("{status} is not a redirect that clients follow"),
            )
            .help("write 308 (permanent, keeps the method), 307 (temporary, keeps the method), 301, 302 or 303");
    }
    if let Some(value) = node.text("host") {
        check_redirect_host(value, report);
    }
    let new_path = rewrite(node, "path", "prefix", path, report);
    let elsewhere = ["scheme", "host"].iter().any(|key| node.entry(key).is_some());
    let same_path = match (&new_path, path) {
        (Some(Rewrite::Path(new)), PathMatch::Exact(old)) | (Some(Rewrite::Prefix(new)), PathMatch::Prefix(old)) => {
            new == old
        }
        (None, _) => node.entry("path").is_none() && node.entry("prefix").is_none(),
        _ => false,
    };
    let same_host = node.text("host").is_some_and(|host| {
        let hosts = route.list("host");
        node.entry("scheme").is_none() && !hosts.is_empty() && hosts.iter().all(|value| value.text() == host.text())
    });
    if same_path && (!elsewhere || same_host) {
        report
            .error(codes::REDIRECT_LOOP, &node.span, "this redirect leads back to where it came from")
            .help("change at least one of `scheme`, `host`, `path` and `prefix`");
    }
    let text = |key| node.text(key).map(|value| Arc::from(value.text()));
    Redirect { status, scheme: text("scheme"), host: text("host"), path: new_path }
}

fn check_redirect_host(value: &Value, report: &mut Report) {
    let text = value.text();
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split('/').next().unwrap_or("");
        report
            .error(codes::BAD_HOST, &value.part(0..scheme.len() + 3), "a host has no scheme")
            .help(format!("write `host = \"{host}\"` and `scheme = \"https\"` apart"));
        return;
    }
    let (name, port) =
        text.rsplit_once(':').filter(|_| !text.ends_with(']')).map_or((text, None), |(name, port)| (name, Some(port)));
    if let Some(port) =
        port.filter(|port| port.parse::<u16>().is_ok_and(|port| port == 0) || port.parse::<u16>().is_err())
    {
        report
            .error(codes::BAD_HOST, &value.part(name.len() + 1..text.len()), format!("{} is not a port", quoted(port)))
            .help("a port is a number from 1 to 65535");
    }
    let ip = name.parse::<std::net::Ipv4Addr>().is_ok()
        || name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    if let Some(Err(fault)) = (!ip).then(|| syntax::host_name(name)) {
        fault.report(value, report);
    }
}

fn respond(node: &Node, files: &dyn Files, report: &mut Report) -> Respond {
    let status = node.u16("status");
    let content_type = body::content_type(node, report);
    let body = body::body(node, files, report).unwrap_or_else(|| Arc::from([]));
    // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5: these have no content.
    if [204, 205, 304].contains(&status) && !body.is_empty() {
        let key = if node.entry("body").is_some() { "body" } else { "file" };
        report
            .error(codes::BODY_FORBIDDEN, &node.span_of(key), format!("a response with status {status} has no body"))
            .help("take the body out, or use another status");
    }
    Respond { status, content_type, body }
}

// === reachability ===

/// Compares every two routes, in the order of the file: the bound on routes makes that cheap.
fn check_reachable(placed: &[Placed], report: &mut Report) {
    for (at, later) in placed.iter().enumerate() {
        for (other_at, other) in placed.iter().enumerate() {
            let earlier = other_at < at;
            if other_at == at || !order::shadows(&other.rule, &later.rule, earlier) {
                continue;
            }
            let shared = later.homes.iter().filter(|home| other.homes.contains(home)).count();
            if shared > 0 && order::shadows(&later.rule, &other.rule, true) {
                report
                    .error(
                        codes::DUPLICATE_ROUTE,
                        &later.span,
                        format!(
                            "routes {} and {} match the same requests",
                            quoted(&other.rule.name),
                            quoted(&later.rule.name)
                        ),
                    )
                    .note_at("the other one is here", &other.span)
                    .help("take one out, or make one of them more specific");
                break;
            }
            if shared > 0 && shared == later.homes.len() {
                report
                    .warning(
                        codes::UNREACHABLE_ROUTE,
                        &later.span,
                        format!("route {} is never reached", quoted(&later.rule.name)),
                    )
                    .note_at(format!("route {} takes every request first", quoted(&other.rule.name)), &other.span)
                    .help("take it out, or make it more specific");
                break;
            }
        }
    }
}

/// A listener's `cluster` beside a route that matches everything.
fn check_default(rules: &[Rule], span: &Span, report: &mut Report) {
    let Some((default, others)) = rules.split_first().filter(|(default, _)| &*default.name == "default") else {
        return;
    };
    if let Some(other) = others.iter().find(|other| order::shadows(other, default, true)) {
        report
            .error(
                codes::DUPLICATE_ROUTE,
                span,
                format!("route {} leaves nothing for the `cluster` of this listener", quoted(&other.name)),
            )
            .help("take `cluster` out of the listener, or make the route more specific");
    }
}
