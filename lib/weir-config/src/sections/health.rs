//! `[cluster.NAME.health]`: active checks.

use std::sync::Arc;

use weir_health::{HttpProbe, Params, StatusRange};

use super::cluster::must_not_exceed;
use crate::codes;
use crate::diagnostic::{Report, quoted};
use crate::draft::{Node, Value};
use crate::schema::{Default, Kind, TIMEOUT, Table, key};
use crate::syntax;

pub(crate) static HEALTH: Table = Table {
    name: "cluster.NAME.health",
    header: "[cluster.NAME.health]",
    doc: "Active checks. Without `http`, a TCP connection that is accepted is enough.",
    keys: &[
        key("enabled", Kind::Bool, Default::Value("true"), "Whether probes are sent at all."),
        key("interval", TIMEOUT, Default::Value("\"10s\""), "Between two probes of a settled endpoint."),
        key(
            "fast_interval",
            TIMEOUT,
            Default::Value("\"1s\""),
            "Between two probes while the state is changing: some answers the other way, not yet enough; and of an endpoint \
             that has never been up, such as a server that is starting, for the first 30 seconds. At most `interval`.",
        ),
        key(
            "timeout",
            TIMEOUT,
            Default::Value("\"2s\""),
            "A probe without an answer for so long has failed; at most `interval`.",
        ),
        key(
            "rise",
            Kind::Int { min: 1, max: 1000 },
            Default::Value("2"),
            "Successes in a row that bring an endpoint up.",
        ),
        key(
            "fall",
            Kind::Int { min: 1, max: 1000 },
            Default::Value("3"),
            "Failures in a row that take an endpoint down.",
        ),
        key(
            "jitter",
            Kind::Share { min: 0.0, max: 0.5 },
            Default::Value("\"10%\""),
            "Each interval is longer or shorter by up to this share, so that probes do not arrive all at once.",
        ),
        key(
            "http",
            Kind::Short(&HTTP, "path"),
            Default::Absent("a TCP connection that is accepted is enough"),
            "The request to send: a path, or a table.",
        ),
    ],
};

static HTTP: Table = Table {
    name: "cluster.NAME.health.http",
    header: "[cluster.NAME.health.http]",
    doc: "An HTTP probe. A plain text stands for `path`.",
    keys: &[
        key("method", Kind::Choice(&["GET", "HEAD"]), Default::Value("\"GET\""), "Request method."),
        key(
            "path",
            Kind::Text("a path such as \"/health\""),
            Default::Value("\"/health\""),
            "Request target; may have a query.",
        ),
        key(
            "host",
            Kind::Text("a host such as \"example.org\""),
            Default::Absent("the endpoint's address"),
            "The `Host` field.",
        ),
        key(
            "headers",
            Kind::Map("header names", &Kind::Text(crate::walk::FREE_TEXT)),
            Default::Absent("no further fields"),
            "Further request fields.",
        ),
        key(
            "status",
            Kind::OneOrMany(&Kind::Status),
            Default::Value("[200]"),
            "Statuses that count as success: `200`, `\"2xx\"`, `\"200-299\"`.",
        ),
        key(
            "body_contains",
            Kind::Text("a piece of the body"),
            Default::Absent("the body does not matter"),
            "This text must occur within the first 64 KiB of the body.",
        ),
        key(
            "expect_headers",
            Kind::Map("header names", &Kind::Text(crate::walk::FREE_TEXT)),
            Default::Absent("header fields do not matter"),
            "Each of these response fields must be there and contain the text.",
        ),
    ],
};

/// Pairs of which the first must not exceed the second.
pub(crate) const BOUNDS: [(&str, &str); 2] = [("timeout", "interval"), ("fast_interval", "interval")];

pub(crate) fn resolve(node: &Node, report: &mut Report) -> Params {
    must_not_exceed(node, &BOUNDS, report);
    Params {
        enabled: node.bool("enabled"),
        interval: node.duration("interval"),
        fast_interval: node.duration("fast_interval"),
        timeout: node.duration("timeout"),
        rise: node.u32("rise"),
        fall: node.u32("fall"),
        jitter: node.number("jitter").unwrap_or_default(),
        http: node.table("http").map(|node| http(node, report)),
    }
}

fn http(node: &Node, report: &mut Report) -> HttpProbe {
    if let Some(value) = node.text("path") {
        check_target(value, report);
    }
    if let Some(value) = node.text("host") {
        if let Err(fault) = syntax::header_value(value.text()) {
            fault.report(value, report);
        } else if value.text().contains(['/', ' ', '@']) {
            report
                .error(codes::BAD_HOST, &value.span, format!("{} is not a host", quoted(value.text())))
                .help("write as \"example.org\" or \"example.org:8080\"");
        }
    }
    if let Some(entry) = node.written("body_contains").filter(|_| node.str("method") == "HEAD") {
        report
            .error(
                codes::WITHOUT_EFFECT,
                &entry.key_span,
                "`body_contains` never holds: a response to HEAD has no body",
            )
            .help("use `method = \"GET\"`, or take it out");
    }
    HttpProbe {
        method: Arc::from(node.str("method")),
        path: Arc::from(node.str("path")),
        host: node.text("host").map(|value| Arc::from(value.text())),
        headers: headers(node, "headers", report),
        status: statuses(node, report),
        body_contains: node.text("body_contains").map(|value| Arc::from(value.text())),
        expect_headers: headers(node, "expect_headers", report),
    }
}

fn check_target(value: &Value, report: &mut Report) {
    let text = value.text();
    let bad = text.char_indices().find(|(_, c)| !c.is_ascii_graphic() || *c == '#');
    if !text.starts_with('/') {
        report.error(codes::BAD_PATH, &value.span, "a path starts with `/`").help(format!("write \"/{text}\""));
    } else if let Some((at, wrong)) = bad {
        report
            .error(
                codes::BAD_PATH,
                &value.part(at..at + wrong.len_utf8()),
                format!("{} cannot stand in a request target", quoted(&wrong.to_string())),
            )
            .help("write it as an escape, such as `%20` for a space");
    }
}

fn headers(node: &Node, key: &str, report: &mut Report) -> Vec<(Arc<str>, Arc<str>)> {
    /// Fields that the probe writes itself.
    const OWN: [&str; 5] = ["host", "connection", "content-length", "transfer-encoding", "upgrade"];
    let mut fields = Vec::new();
    for named in node.map(key) {
        match syntax::header_name(&named.name) {
            Ok(name) if key == "headers" && OWN.contains(&name.as_str()) => {
                let help = if name == "host" { "use `host`" } else { "the probe writes this field itself" };
                report
                    .error(
                        codes::FORBIDDEN_HEADER,
                        &named.name_span,
                        format!("{} cannot be set here", quoted(&named.name)),
                    )
                    .help(help);
            }
            Ok(_) => {}
            Err(fault) => {
                report.error(fault.code, &named.name_span, fault.message).maybe_help(fault.help);
            }
        }
        if let Err(fault) = syntax::header_value(named.value.text()) {
            fault.report(&named.value, report);
        }
        fields.push((Arc::from(named.name.as_str()), Arc::from(named.value.text())));
    }
    fields
}

fn statuses(node: &Node, report: &mut Report) -> Vec<StatusRange> {
    let mut ranges = Vec::new();
    if node.get("status").is_some() && node.list("status").is_empty() {
        report
            .error(codes::EMPTY, &node.span_of("status"), "`status` is empty: no answer could be a success")
            .help("write `status = [\"2xx\"]`");
    }
    for value in node.list("status").iter().filter(|value| value.is_valid()) {
        match syntax::status_range(value.text()) {
            Some(range) => ranges.push(range),
            None => {
                report
                    .error(
                        codes::BAD_STATUS,
                        &value.span,
                        format!("{} is neither a status nor a range", quoted(value.text())),
                    )
                    .help("write 200, \"2xx\" or \"200-299\", from 100 to 599");
            }
        }
    }
    ranges
}
