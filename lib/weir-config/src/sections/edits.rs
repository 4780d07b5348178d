//! Set, add and remove of header fields.

use std::sync::Arc;

use weir_route::HeaderEdits;

use crate::codes;
use crate::diagnostic::{Report, Span, quoted};
use crate::draft::{Node, Value};
use crate::schema::{Default, Kind, Table, key};
use crate::syntax;

const NAME: &str = "a header name such as \"X-Team\"";

pub(crate) static EDITS: Table = Table {
    name: "route.request_headers and route.response_headers",
    header: "{ set = { ... }, add = { ... }, remove = [ ... ] }",
    doc: "Changes to header fields, in the order: remove, set, add. Fields that belong to one connection or frame the \
          message (`Connection`, `Transfer-Encoding`, `Content-Length`, ...) are Weir's own business.",
    keys: &[
        key(
            "set",
            Kind::Map("header names", &Kind::Text(crate::walk::FREE_TEXT)),
            Default::Absent("nothing is set"),
            "Every field of that name is replaced by this one.",
        ),
        key(
            "add",
            Kind::Map("header names", &Kind::OneOrMany(&Kind::Text(crate::walk::FREE_TEXT))),
            Default::Absent("nothing is added"),
            "Added beside the fields that are there; a list adds several.",
        ),
        key(
            "remove",
            Kind::OneOrMany(&Kind::Text(NAME)),
            Default::Absent("nothing is removed"),
            "Every field of that name is removed.",
        ),
    ],
};

/// Fields that hold for one connection (RFC 9110 section 7.6.1) or frame the message (RFC 9112 section 6).
const FORBIDDEN: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

pub(crate) fn resolve(node: &Node, request: bool, report: &mut Report) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    for value in node.list("remove").iter().filter(|value| value.is_valid()) {
        if let Some(name) = name(value.text(), &value.span, request.then_some("remove"), report) {
            edits.remove.push(Arc::from(name));
        }
    }
    for named in node.map("set") {
        let lower = name(&named.name, &named.name_span, None, report);
        let twice =
            lower.as_ref().is_some_and(|lower| edits.set.iter().any(|(other, _)| other.eq_ignore_ascii_case(lower)));
        if twice {
            report
                .error(codes::BAD_HEADER_NAME, &named.name_span, format!("header {} is set twice", quoted(&named.name)))
                .help("header names do not tell upper and lower case apart; use `add` for several fields of one name");
        }
        check_value(&named.value, report);
        edits.set.push((Arc::from(named.name.as_str()), Arc::from(named.value.text())));
    }
    for named in node.map("add") {
        name(&named.name, &named.name_span, request.then_some("add"), report);
        for value in named.value.list() {
            check_value(value, report);
            edits.add.push((Arc::from(named.name.as_str()), Arc::from(value.text())));
        }
    }
    if edits.is_empty() && !node.misspelt && node.entries.iter().all(|entry| entry.value.is_valid()) {
        report
            .error(codes::EMPTY, &node.span, "these header edits are empty")
            .help("add `set`, `add` or `remove`, or take them out");
    }
    edits
}

/// Checks a name; `host_verb` is what must not be done to `Host` (there is always exactly one).
fn name(text: &str, span: &Span, host_verb: Option<&str>, report: &mut Report) -> Option<String> {
    let name = match syntax::header_name(text) {
        Ok(name) => name,
        Err(fault) => {
            report.error(fault.code, span, fault.message).maybe_help(fault.help);
            return None;
        }
    };
    if FORBIDDEN.contains(&name.as_str()) {
        report
            .error(codes::FORBIDDEN_HEADER, span, format!("{} cannot be edited", quoted(text)))
            .help("Weir writes this field itself, so that message framing and connections stay correct");
    }
    if let Some(verb) = host_verb.filter(|_| name == "host") {
        report
            .error(codes::FORBIDDEN_HEADER, span, format!("{} cannot stand in `{verb}`", quoted(text)))
            .help("a request has exactly one `Host`; use `set` to change it");
    }
    Some(name)
}

fn check_value(value: &Value, report: &mut Report) {
    if let Err(fault) = syntax::header_value(value.text()) {
        fault.report(value, report);
    }
}
