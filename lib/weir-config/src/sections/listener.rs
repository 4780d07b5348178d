//! `[[listener]]`: where clients connect and what is spoken there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_balance::HashKey;
use weir_core::Reason;
use weir_route::{Action, HeaderEdits, PathMatch, PathPolicy, Rule, SlashPolicy};

use super::{Clusters, bind, body, duplicate};
use crate::Files;
use crate::codes;
use crate::diagnostic::{Report, Span, quoted};
use crate::draft::{Data, Node, Value};
use crate::nearest::nearest;
use crate::plan::{ClientTimeouts, Cluster, ErrorPage, Forwarded, Http, Listener, Protocol, Tcp};
use crate::schema::{Default, Kind, TIMEOUT, Table, key};
use crate::syntax;

/// Keys that a TCP listener does not have.
const HTTP_KEYS: [&str; 11] = [
    "trusted",
    "x_forwarded",
    "forwarded",
    "via",
    "request_id",
    "reason_header",
    "merge_slashes",
    "encoded_slash",
    "timeouts",
    "limits",
    "error_pages",
];

const KIB: u64 = 1024;
/// Bytes of a head, at most.
const MAX_HEAD: u64 = 1024 * KIB;

pub(crate) static LISTENER: Table = Table {
    name: "listener",
    header: "[[listener]]",
    doc: "Where clients connect.",
    keys: &[
        key(
            "name",
            Kind::Text("a name"),
            Default::Absent("the first address of `bind`"),
            "Name in routes, logs and metrics.",
        ),
        key(
            "bind",
            Kind::OneOrMany(&Kind::Text(
                "an address such as \"127.0.0.1:8080\", \"[::]:80\" or \"unix:/run/weir.sock\"",
            )),
            Default::Required,
            "Where to listen: `IP:PORT`, `[IPv6]:PORT` or `unix:/path`; one or a list. `[::]:80` takes IPv4 too, \
             unless `ipv6_only`.",
        ),
        key("ipv6_only", Kind::Bool, Default::Value("false"), "Whether `[::]` takes IPv6 only, and no IPv4."),
        key(
            "mode",
            Kind::Text("permission bits in octal such as \"0660\""),
            Default::Absent("as the umask says"),
            "Unix sockets: permission bits of the socket file, in octal.",
        ),
        key(
            "protocol",
            Kind::Choice(&["http", "tcp"]),
            Default::Value("\"http\""),
            "What is spoken: `http` (HTTP/1.1 and 1.0) or `tcp` (bytes, forwarded to `cluster`).",
        ),
        key(
            "cluster",
            Kind::Text("the name of a cluster"),
            Default::Absent("only routes say where requests go; a TCP listener needs it"),
            "The cluster that gets everything that no route matches; with `protocol = \"tcp\"`, every connection.",
        ),
        key(
            "max_connections",
            Kind::OrWord("auto", &Kind::Int { min: 1, max: 10_000_000 }),
            Default::Value("\"auto\""),
            "Client connections at a time, over all workers; one more is refused. `\"auto\"` follows from the limit of \
             file descriptors.",
        ),
        key(
            "trusted",
            Kind::OneOrMany(&Kind::Text("an address or prefix such as \"10.0.0.0/8\"")),
            Default::Value("[]"),
            "Peers whose own `X-Forwarded-*`, `Forwarded`, `X-Real-IP` and `X-Request-ID` are believed; everybody \
             else's are replaced.",
        ),
        key(
            "x_forwarded",
            Kind::Bool,
            Default::Value("true"),
            "Whether endpoints get `X-Forwarded-For`, `-Proto`, `-Host` and `X-Real-IP`.",
        ),
        key("forwarded", Kind::Bool, Default::Value("false"), "Whether endpoints get `Forwarded` (RFC 7239)."),
        key(
            "via",
            Kind::OrWord("off", &Kind::Text("a pseudonym such as \"weir\"")),
            Default::Value("\"weir\""),
            "The pseudonym in `Via` on requests (RFC 9110 section 7.6.3); `\"off\"` sends none.",
        ),
        key(
            "request_id",
            Kind::Bool,
            Default::Value("true"),
            "Whether endpoints get `X-Request-ID`: kept from trusted peers, else made.",
        ),
        key(
            "reason_header",
            Kind::Bool,
            Default::Value("true"),
            "Whether 5xx of Weir's own carry `weir-reason` with a stable code.",
        ),
        key(
            "merge_slashes",
            Kind::Bool,
            Default::Value("false"),
            "Whether runs of `/` in the path are merged into one before routing and forwarding.",
        ),
        key(
            "encoded_slash",
            Kind::Choice(&["keep", "reject"]),
            Default::Value("\"keep\""),
            "What happens to `%2F` and `%5C` in the path: `keep` them encoded (never a separator), or `reject` with 400.",
        ),
        key("timeouts", Kind::Table(&TIMEOUTS), Default::Value("{}"), "Time-outs towards clients."),
        key("limits", Kind::Table(&LIMITS), Default::Value("{}"), "Bounds on what clients may send."),
        key(
            "error_pages",
            Kind::Map("statuses such as 503", &Kind::Table(&ERROR_PAGE)),
            Default::Absent("Weir's own short texts"),
            "Bodies of the error responses that Weir itself makes, by status.",
        ),
    ],
};

static TIMEOUTS: Table = Table {
    name: "listener.timeouts",
    header: "[listener.timeouts]",
    doc: "Time-outs towards clients.",
    keys: &[
        key(
            "head",
            TIMEOUT,
            Default::Value("\"10s\""),
            "From the first byte of a request to its complete head; then 408.",
        ),
        key("keep_alive", TIMEOUT, Default::Value("\"1m\""), "An idle keep-alive connection is closed after this."),
        key("idle", TIMEOUT, Default::Value("\"1m\""), "Between two bytes of a body, in either direction."),
    ],
};

static LIMITS: Table = Table {
    name: "listener.limits",
    header: "[listener.limits]",
    doc: "Bounds on messages. Exceeding one is a reject with a reason, never a truncation.",
    keys: &[
        key(
            "head_size",
            Kind::Size { min: KIB, max: MAX_HEAD },
            Default::Value("\"32KiB\""),
            "Bytes of a head: start line, fields and the empty line; more is 431.",
        ),
        key(
            "fields",
            Kind::Int { min: 1, max: weir_http::Limits::MAX_FIELDS as u64 },
            Default::Value("100"),
            "Fields of a head or trailer section; more is 431.",
        ),
        key(
            "target_size",
            Kind::Size { min: 64, max: 1024 * KIB },
            Default::Value("\"8KiB\""),
            "Bytes of the request target; more is 414. Below `head_size`, which includes it.",
        ),
        key(
            "chunk_line_size",
            Kind::Size { min: 18, max: 16 * KIB },
            Default::Value("\"256B\""),
            "Bytes of one chunk-size line, extensions included.",
        ),
        key(
            "trailer_size",
            Kind::Size { min: 0, max: 1024 * KIB },
            Default::Value("\"8KiB\""),
            "Bytes of the trailer section.",
        ),
    ],
};

static ERROR_PAGE: Table = Table {
    name: "listener.error_pages.STATUS",
    header: "[listener.error_pages]",
    doc: "The body of one error response: `503 = { file = \"503.html\" }`. Either `file` or `body`.",
    keys: &[
        key(
            "file",
            Kind::Text("the path of a file"),
            Default::Absent("`body` holds it"),
            "File with the body, read when the configuration is loaded.",
        ),
        key("body", Kind::Text(crate::walk::FREE_TEXT), Default::Absent("`file` holds it"), "The body itself."),
        key(
            "content_type",
            Kind::Text("a media type such as \"text/html\""),
            Default::Value("\"text/html; charset=utf-8\""),
            "`Content-Type` of the response.",
        ),
    ],
};

/// A listener on its way into the plan.
pub(crate) struct Built {
    pub(crate) listener: Listener,
    pub(crate) span: Span,
    /// What it lacks may be there, misspelt.
    pub(crate) misspelt: bool,
}

pub(crate) fn settle(node: &mut Node) {
    if node.str("protocol") == "tcp" {
        node.drop_defaults(&HTTP_KEYS);
    }
    let binds = node.list("bind");
    if !binds.is_empty() && binds.iter().all(|bind| bind.text().starts_with("unix:")) {
        node.drop_defaults(&["ipv6_only"]);
    }
    if let Some(first) = node.list("bind").first().map(|bind| bind.text().to_owned()) {
        node.derive_text("name", first);
    }
    if let Some(limits) = node.table_mut("limits") {
        settle_limits(limits);
    }
}

/// A target is part of its head. Where only one of the two is written, the other's default gives way, so that the
/// target has at most half of the head.
fn settle_limits(limits: &mut Node) {
    let (Some(head), Some(target)) = (limits.int("head_size"), limits.int("target_size")) else {
        return;
    };
    if target < head {
        return;
    }
    if limits.written("target_size").is_none() {
        limits.set_default("target_size", Data::Int(head / 2));
    } else {
        limits.set_default("head_size", Data::Int((target * 2).min(MAX_HEAD)));
    }
}

pub(crate) fn resolve(root: &Node, clusters: &mut Clusters<'_>, files: &dyn Files, report: &mut Report) -> Vec<Built> {
    let mut names: BTreeMap<&str, (Span, bool)> = BTreeMap::new();
    let mut built = Vec::new();
    for node in root.list("listener").iter().filter_map(Value::table) {
        if let Some(value) = node.text("name") {
            check_name(node, value, &mut names, report);
        }
        let bind = bind::binds(node, report);
        let protocol = if node.str("protocol") == "tcp" {
            tcp(node, clusters, report)
        } else {
            http(node, clusters, files, report)
        };
        let listener = Listener { name: Arc::from(node.str("name")), bind, protocol };
        built.push(Built { listener, span: node.span.clone(), misspelt: node.misspelt });
    }
    built
}

/// `names`: where each name stands, and whether it was written.
fn check_name<'a>(node: &Node, value: &'a Value, names: &mut BTreeMap<&'a str, (Span, bool)>, report: &mut Report) {
    let written = !value.defaulted;
    let is_address = node.list("bind").first().is_some_and(|bind| bind.text() == value.text());
    if let Some(Err(fault)) = (!is_address).then(|| syntax::name(value.text())) {
        fault.report(value, report);
    }
    match names.get(value.text()) {
        // Two derived names are equal only if the addresses are, which is reported as such.
        Some((_, false)) if !written => {}
        Some((first, _)) => duplicate(codes::DUPLICATE_LISTENER, "listener", value.text(), &value.span, first, report),
        None => {
            names.insert(value.text(), (value.span.clone(), written));
        }
    }
}

// === protocols ===

fn tcp(node: &Node, clusters: &mut Clusters<'_>, report: &mut Report) -> Protocol {
    for name in HTTP_KEYS {
        if let Some(entry) = node.written(name) {
            report
                .error(codes::NOT_FOR_TCP, &entry.key_span, format!("a TCP listener has no `{name}`"))
                .help("take it out, or set `protocol = \"http\"`");
        }
    }
    if node.entry("cluster").is_none() && !node.misspelt {
        report
            .error(codes::NO_DESTINATION, &node.span, "this TCP listener has no `cluster`")
            .help("add `cluster = \"NAME\"`: a TCP listener forwards every connection to one cluster");
    }
    let cluster = node.text("cluster").map_or(weir_core::ClusterId(0), |value| clusters.find(value, report));
    Protocol::Tcp(Tcp { cluster, max_connections: node.opt_u32("max_connections") })
}

/// A TCP listener has nothing but the client's address to hash.
pub(crate) fn check_keys(root: &Node, listeners: &[Built], clusters: &[Cluster], report: &mut Report) {
    for (built, node) in listeners.iter().zip(root.list("listener").iter().filter_map(Value::table)) {
        let (Protocol::Tcp(_), Some(value)) = (&built.listener.protocol, node.text("cluster")) else {
            continue;
        };
        let cluster = clusters.iter().find(|cluster| *cluster.name == *value.text());
        if cluster.is_some_and(|cluster| cluster.balance.key != HashKey::ClientIp) {
            report
                .warning(
                    codes::NO_EFFECT_YET,
                    &value.span,
                    format!(
                        "cluster {} hashes a part of HTTP requests, which a TCP listener does not see",
                        quoted(value.text())
                    ),
                )
                .help(
                    "its connections go by the client's address: write `key = \"client_ip\"`, or use another cluster",
                );
        }
    }
}

fn http(node: &Node, clusters: &mut Clusters<'_>, files: &dyn Files, report: &mut Report) -> Protocol {
    let routes = node.text("cluster").map(|value| everything_to(clusters.find(value, report))).into_iter().collect();
    let encoded_slash = if node.str("encoded_slash") == "reject" { SlashPolicy::Reject } else { SlashPolicy::Keep };
    Protocol::Http(Box::new(Http {
        routes,
        path_policy: PathPolicy { encoded_slash, merge_slashes: node.bool("merge_slashes") },
        limits: node.table("limits").map_or_else(weir_http::Limits::default, |limits| self::limits(limits, report)),
        timeouts: node.table("timeouts").map_or(NO_TIMEOUTS, |timeouts| ClientTimeouts {
            head: timeouts.duration("head"),
            keep_alive: timeouts.duration("keep_alive"),
            idle: timeouts.duration("idle"),
        }),
        max_connections: node.opt_u32("max_connections"),
        forwarded: forwarded(node, report),
        error_pages: error_pages(node, files, report),
        reason_header: node.bool("reason_header"),
    }))
}

const NO_TIMEOUTS: ClientTimeouts =
    ClientTimeouts { head: Duration::ZERO, keep_alive: Duration::ZERO, idle: Duration::ZERO };

/// The route of a listener's own `cluster`.
fn everything_to(cluster: weir_core::ClusterId) -> Rule {
    Rule {
        name: Arc::from("default"),
        hosts: Vec::new(),
        path: PathMatch::Any,
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        action: Action::Forward { cluster, rewrite: None },
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        deadline: None,
    }
}

fn limits(node: &Node, report: &mut Report) -> weir_http::Limits {
    let limits = weir_http::Limits {
        head_bytes: node.u32("head_size"),
        fields: node.u16("fields"),
        target_bytes: node.u32("target_size"),
        chunk_line_bytes: node.u16("chunk_line_size"),
        trailer_bytes: node.u32("trailer_size"),
    };
    let both = node.get("head_size").is_some() && node.get("target_size").is_some();
    if both && limits.target_bytes >= limits.head_bytes {
        report
            .error(
                codes::LIMITS_DISAGREE,
                &node.span_of("target_size"),
                "`target_size` is not below `head_size`, which includes it",
            )
            .help("raise `head_size` or lower `target_size`");
    }
    limits
}

fn forwarded(node: &Node, report: &mut Report) -> Forwarded {
    let mut trusted = Vec::new();
    for value in node.list("trusted").iter().filter(|value| value.is_valid()) {
        match syntax::ip_net(value.text()) {
            Ok(net) if net.prefix == 0 => {
                report
                    .warning(codes::TRUSTS_ALL, &value.span, "every client is trusted to say where it comes from")
                    .help("name the addresses of the proxies in front of Weir");
                trusted.push(net);
            }
            Ok(net) => trusted.push(net),
            Err(fault) => fault.report(value, report),
        }
    }
    let via = node.text("via").map(|value| {
        if !syntax::is_token(value.text()) {
            report
                .error(codes::BAD_VIA, &value.span, format!("{} is not a pseudonym", quoted(value.text())))
                .help("write one word such as \"weir\", or \"off\" to send no `Via`");
        }
        Arc::from(value.text())
    });
    Forwarded {
        trusted,
        x_forwarded: node.bool("x_forwarded"),
        forwarded: node.bool("forwarded"),
        via,
        request_id: node.bool("request_id"),
    }
}

/// Statuses that Weir itself answers with (499 is only logged).
pub(crate) fn own_statuses() -> Vec<u16> {
    let mut all: Vec<u16> = Reason::ALL.iter().map(|reason| reason.status()).filter(|status| *status != 499).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn error_pages(node: &Node, files: &dyn Files, report: &mut Report) -> BTreeMap<u16, ErrorPage> {
    let own = own_statuses();
    let mut pages = BTreeMap::new();
    for named in node.map("error_pages") {
        let status = named.name.parse::<u16>().ok().filter(|status| own.contains(status) && named.name.len() == 3);
        if status.is_none() {
            let all: Vec<_> = own.iter().map(ToString::to_string).collect();
            let near = nearest(&named.name, all.iter().map(String::as_str)).filter(|_| named.name.len() > 3);
            let help = near.map_or_else(
                || format!("Weir itself answers with {}; error responses of endpoints pass unchanged", all.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            report
                .error(
                    codes::BAD_ERROR_PAGE,
                    &named.name_span,
                    format!("Weir never answers with {} itself", quoted(&named.name)),
                )
                .help(help);
        }
        let Some(page) = named.value.table() else {
            continue;
        };
        let content_type = body::content_type(page, report);
        let has_source = page.entry("body").is_some() || page.entry("file").is_some();
        if !has_source && !page.misspelt {
            report
                .error(codes::MISSING_KEY, &page.span, "this error page has neither `file` nor `body`")
                .help("add `file = \"503.html\"` or `body = \"...\"`");
        }
        if let (Some(body), Some(status)) = (body::body(page, files, report), status) {
            pages.insert(status, ErrorPage { content_type, body });
        }
    }
    pages
}
