//! Conditions of a route: host, path, method, header fields, query parameters.

use std::sync::Arc;

use weir_route::{HeaderMatch, HostMatch, PathMatch, QueryMatch, TextMatch};

use crate::codes;
use crate::diagnostic::{Report, quoted};
use crate::draft::{Data, Named, Node, Value};
use crate::schema::{Default, Kind, Table, key};
use crate::syntax;

pub(crate) static MATCH: Table = Table {
    name: "route.header.NAME and route.query.NAME",
    header: "{ exact = ... }",
    doc: "A condition on one value: exactly one of these keys. A plain text stands for `exact`.",
    keys: &[
        key(
            "exact",
            Kind::Text(crate::walk::FREE_TEXT),
            Default::Absent("no such condition"),
            "The value is this text.",
        ),
        key(
            "regex",
            Kind::Text("a regular expression"),
            Default::Absent("no such condition"),
            "The expression matches somewhere in the value; `^` and `$` anchor it.",
        ),
        key("present", Kind::Bool, Default::Absent("no such condition"), "`true`: it is there, whatever its value."),
        key("absent", Kind::Bool, Default::Absent("no such condition"), "`true`: it is not there."),
    ],
};

/// The conditions, resolved.
pub(crate) struct Conditions {
    pub(crate) hosts: Vec<HostMatch>,
    pub(crate) path: PathMatch,
    pub(crate) methods: Vec<Arc<str>>,
    pub(crate) headers: Vec<HeaderMatch>,
    pub(crate) query: Vec<QueryMatch>,
}

/// `merge_slashes`: one of the route's listeners merges runs of `/`.
pub(crate) fn resolve(node: &Node, merge_slashes: bool, report: &mut Report) -> Conditions {
    Conditions {
        hosts: hosts(node, report),
        path: path(node, merge_slashes, report),
        methods: methods(node, report),
        headers: headers(node, report),
        query: query(node, report),
    }
}

fn empty_list(node: &Node, key: &str, report: &mut Report) {
    if node.get(key).is_some() && node.list(key).is_empty() {
        report
            .error(codes::EMPTY, &node.span_of(key), format!("`route.{key}` is empty"))
            .help("leave the key out to match everything");
    }
}

fn hosts(node: &Node, report: &mut Report) -> Vec<HostMatch> {
    empty_list(node, "host", report);
    let mut hosts = Vec::new();
    for value in node.list("host").iter().filter(|value| value.is_valid()) {
        match host(value.text()) {
            Ok(host) if hosts.contains(&host) => {
                let message = format!("host {} is there twice", quoted(value.text()));
                report.error(codes::BAD_HOST, &value.span, message).help("take one out");
            }
            Ok(host) => hosts.push(host),
            Err(fault) => fault.report(value, report),
        }
    }
    hosts
}

fn host(text: &str) -> Result<HostMatch, syntax::Fault> {
    let bad = |part, message: &str, help: String| syntax::Fault {
        code: codes::BAD_HOST,
        part,
        message: message.to_owned(),
        help: Some(help),
    };
    let ip = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(Ok(ip)) = ip.map(str::parse::<std::net::Ipv6Addr>) {
        return Ok(HostMatch::Exact(Arc::from(format!("[{ip}]"))));
    }
    if let Ok(ip) = text.parse::<std::net::Ipv4Addr>() {
        return Ok(HostMatch::Exact(Arc::from(ip.to_string())));
    }
    if text == "*" {
        return Err(bad(0..1, "`*` alone is no host", "leave `host` out to match every host".to_owned()));
    }
    if let Some((name, port)) = text.rsplit_once(':') {
        let message = "a host is matched without its port";
        return Err(bad(
            name.len()..text.len(),
            message,
            format!("write \"{name}\"; to tell ports ({port}) apart, use two listeners and `listener`"),
        ));
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(bad(
            0..text.len(),
            "a host is compared in lower case",
            format!("write \"{}\"", text.to_ascii_lowercase()),
        ));
    }
    if text.ends_with('.') {
        let message = "a host is matched without the dot at its end";
        return Err(bad(text.len() - 1..text.len(), message, format!("write \"{}\"", text.trim_end_matches('.'))));
    }
    let (suffix, name) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
    if let Some(at) = name.find('*') {
        let at = at + text.len() - name.len();
        let tail = text[at..].split_once('.').map_or("example.org", |(_, tail)| tail).replace('*', "");
        let help = format!("write \"*.{}\", which matches every host below it", tail.trim_matches('.'));
        return Err(bad(at..at + 1, "`*` stands only for whole first parts of a host", help));
    }
    match syntax::host_name(name) {
        Ok(name) if suffix => Ok(HostMatch::Suffix(Arc::from(format!(".{name}")))),
        Ok(name) => Ok(HostMatch::Exact(Arc::from(name))),
        Err(mut fault) => {
            let shift = text.len() - name.len();
            fault.part = fault.part.start + shift..fault.part.end + shift;
            Err(fault)
        }
    }
}

fn path(node: &Node, merge_slashes: bool, report: &mut Report) -> PathMatch {
    const KEYS: [&str; 3] = ["path", "path_prefix", "path_regex"];
    let there: Vec<_> = KEYS.into_iter().filter_map(|key| node.entry(key)).collect();
    if let [first, second, ..] = there[..] {
        report
            .error(
                codes::CONFLICT,
                &second.key_span,
                format!("`{}` and `{}` cannot stand together", first.key, second.key),
            )
            .note_at(format!("`{}` is here", first.key), &first.key_span)
            .help("keep one of them, or write two routes");
    }
    if let Some(value) = node.text("path") {
        if let Err(fault) = syntax::path(value.text(), merge_slashes) {
            fault.report(value, report);
        }
        return PathMatch::Exact(Arc::from(value.text()));
    }
    if let Some(value) = node.text("path_prefix") {
        check_prefix(value, merge_slashes, report);
        return PathMatch::Prefix(Arc::from(value.text()));
    }
    if let Some(value) = node.text("path_regex") {
        return whole_path(value, report).map_or(PathMatch::Any, PathMatch::Regex);
    }
    PathMatch::Any
}

/// A prefix is a path without `/` at its end: it is matched and replaced by whole segments.
pub(crate) fn check_prefix(value: &Value, merge_slashes: bool, report: &mut Report) {
    let text = value.text();
    if let Err(fault) = syntax::path(text, merge_slashes) {
        fault.report(value, report);
    } else if text.len() > 1 && text.ends_with('/') {
        let short = text.trim_end_matches('/');
        let short = if short.is_empty() { "/" } else { short };
        report
            .error(codes::PATH_NOT_NORMAL, &value.part(text.len() - 1..text.len()), "a prefix has no `/` at its end")
            .help(format!("write \"{short}\": a prefix stands for itself and everything below it, by whole segments"));
    }
}

/// A regular expression that has to match from the first byte of the path to the last.
fn whole_path(value: &Value, report: &mut Report) -> Option<regex::Regex> {
    let free = regex(value, report)?;
    match syntax::regex(&format!(r"\A(?:{})\z", free.as_str())) {
        Ok(whole) => Some(whole),
        Err(fault) => {
            // Only an expression that swallows what follows it: a comment under `(?x)`.
            let fault = syntax::Fault {
                code: fault.code,
                message: "this expression cannot be anchored at both ends".to_owned(),
                part: 0..value.text().len(),
                help: Some("the whole path has to match: leave comments out".to_owned()),
            };
            fault.report(value, report);
            None
        }
    }
}

fn regex(value: &Value, report: &mut Report) -> Option<regex::Regex> {
    let mut fault = match syntax::regex(value.text()) {
        Ok(regex) => return Some(regex),
        Err(fault) => fault,
    };
    if !value.literal && fault.help.is_none() {
        fault.help = Some(r"between single quotes, TOML leaves backslashes alone: 'like\.this'".to_owned());
    }
    fault.report(value, report);
    None
}

fn methods(node: &Node, report: &mut Report) -> Vec<Arc<str>> {
    /// Methods that are known by name (RFC 9110 section 9.3, RFC 5789).
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    empty_list(node, "method", report);
    let mut methods: Vec<Arc<str>> = Vec::new();
    for value in node.list("method").iter().filter(|value| value.is_valid()) {
        let text = value.text();
        let upper = text.to_ascii_uppercase();
        if !syntax::is_token(text) {
            report
                .error(codes::BAD_METHOD, &value.span, format!("{} is not a method", quoted(text)))
                .help("write as \"GET\"");
        } else if text != upper && KNOWN.contains(&upper.as_str()) {
            report
                .error(codes::BAD_METHOD, &value.span, format!("no client sends the method {}", quoted(text)))
                .help(format!("methods are case-sensitive: write \"{upper}\""));
        } else if methods.iter().any(|other| **other == *text) {
            report
                .error(codes::BAD_METHOD, &value.span, format!("method {} is there twice", quoted(text)))
                .help("take one out");
        }
        methods.push(Arc::from(text));
    }
    methods
}

fn headers(node: &Node, report: &mut Report) -> Vec<HeaderMatch> {
    let mut matches: Vec<HeaderMatch> = Vec::new();
    for named in node.map("header") {
        let name = match syntax::header_name(&named.name) {
            Ok(name) => name,
            Err(fault) => {
                report.error(fault.code, &named.name_span, fault.message).maybe_help(fault.help);
                continue;
            }
        };
        if matches.iter().any(|other| *other.name == *name) {
            report
                .error(
                    codes::BAD_HEADER_NAME,
                    &named.name_span,
                    format!("header {} is there twice", quoted(&named.name)),
                )
                .help("header names do not tell upper and lower case apart");
        }
        if let Some(value) = condition(named, report) {
            matches.push(HeaderMatch { name: Arc::from(name), value });
        }
    }
    matches
}

fn query(node: &Node, report: &mut Report) -> Vec<QueryMatch> {
    let named = node.map("query").iter();
    named
        .filter_map(|named| Some(QueryMatch { name: Arc::from(named.name.as_str()), value: condition(named, report)? }))
        .collect()
}

fn condition(named: &Named, report: &mut Report) -> Option<TextMatch> {
    let node = named.value.table()?;
    if let [first, second, ..] = &node.entries[..] {
        report
            .error(
                codes::CONFLICT,
                &second.key_span,
                format!("`{}` and `{}` cannot stand together", first.key, second.key),
            )
            .help("keep one of `exact`, `regex`, `present` and `absent`");
        return None;
    }
    let Some(entry) = node.entries.first() else {
        if node.misspelt {
            return None;
        }

        report
            .error(codes::MISSING_KEY, &named.value.span, "this condition is empty")
            .help("write a text, or one of `exact`, `regex`, `present = true` and `absent = true`");
        return None;
    };
    resolve_condition(entry.key, &entry.value, report)
}

fn resolve_condition(key: &str, value: &Value, report: &mut Report) -> Option<TextMatch> {
    let other = if key == "present" { "absent" } else { "present" };
    match (&value.data, key) {
        (Data::Text(text), "exact") => Some(TextMatch::Exact(Arc::from(text.as_str()))),
        (Data::Text(_), _) => regex(value, report).map(TextMatch::Regex),
        (Data::Bool(true), "present") => Some(TextMatch::Present),
        (Data::Bool(true), _) => Some(TextMatch::Absent),
        (Data::Bool(false), _) => {
            report
                .error(codes::WITHOUT_EFFECT, &value.span, format!("`{key} = false` does not say what is wanted"))
                .help(format!("write `{other} = true`, or leave the condition out"));
            None
        }
        _ => None,
    }
}
