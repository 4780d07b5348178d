//! `[cluster.NAME]`: where requests go.

use std::sync::Arc;

use super::{balance, endpoint, health};
use crate::codes;
use crate::diagnostic::Report;
use crate::draft::{Named, Node};
use crate::plan::Cluster;
use crate::schema::{Default, Kind, TIMEOUT, Table, key, millis, secs};
use crate::syntax;

pub(crate) static CLUSTER: Table = Table {
    name: "cluster.NAME",
    header: "[cluster.NAME]",
    doc: "A group of endpoints that serve the same requests.",
    keys: &[
        key(
            "endpoints",
            Kind::OneOrMany(&Kind::Short(&endpoint::ENDPOINT, "address")),
            Default::Required,
            "Where to connect: `\"10.0.0.1:8080\"`, `\"app.internal:8080\"`, `\"unix:/run/app.sock\"`, or a table with `address` and more.",
        ),
        key(
            "balance",
            Kind::Short(&balance::BALANCE, "algorithm"),
            Default::Value("{}"),
            "How an endpoint is chosen: the name of an algorithm, or a table with `algorithm` and its settings.",
        ),
        key(
            "panic_threshold",
            Kind::Share { min: 0.0, max: 1.0 },
            Default::Value("\"0%\""),
            "Below this share of usable endpoints, health is ignored and all get traffic: with most endpoints of a large \
             cluster gone, the few that are left would be crushed, and checks that fail everywhere are more likely wrong \
             than right. Panic is counted and visible. `\"0%\"` never panics, which is right for a handful of \
             endpoints: with two of three down, the third should get everything. `\"50%\"` is usual for ten and more.",
        ),
        key("health", Kind::Table(&health::HEALTH), Default::Value("{}"), "Active checks of the endpoints."),
        key(
            "outlier",
            Kind::Table(&OUTLIER),
            Default::Value("{}"),
            "Endpoints that fail requests are taken out for a while.",
        ),
        key("retry", Kind::Table(&RETRY), Default::Value("{}"), "Retries on another endpoint."),
        key("pool", Kind::Table(&POOL), Default::Value("{}"), "Connections to each endpoint."),
        key(
            "limit",
            Kind::Table(&LIMIT),
            Default::Value("{}"),
            "Requests in flight at each endpoint, and who may wait.",
        ),
        key("timeouts", Kind::Table(&TIMEOUTS), Default::Value("{}"), "Time-outs towards the endpoints."),
    ],
};

static OUTLIER: Table = Table {
    name: "cluster.NAME.outlier",
    header: "[cluster.NAME.outlier]",
    doc: "Passive ejection: endpoints that fail requests of clients are taken out for a while.",
    keys: &[
        key("enabled", Kind::Bool, Default::Value("true"), "Whether it is on."),
        key(
            "consecutive_failures",
            Kind::Int { min: 1, max: 1_000_000 },
            Default::Value("5"),
            "Failures in a row (connect errors, resets, time-outs, malformed responses, 502, 503, 504) that eject.",
        ),
        key(
            "base_ejection",
            TIMEOUT,
            Default::Value("\"10s\""),
            "The first ejection; the n-th in a row lasts n times as long.",
        ),
        key("max_ejection", TIMEOUT, Default::Value("\"5m\""), "The longest ejection."),
        key(
            "max_ejected",
            Kind::Share { min: 0.0, max: 1.0 },
            Default::Value("\"50%\""),
            "At most this share of the cluster is ejected at a time. At least one endpoint always stays; one of two or three may always be ejected.",
        ),
    ],
};

static RETRY: Table = Table {
    name: "cluster.NAME.retry",
    header: "[cluster.NAME.retry]",
    doc: "Retries on another endpoint: always safe while no byte was sent, otherwise only for idempotent requests.",
    keys: &[
        key(
            "attempts",
            Kind::Int { min: 1, max: 10 },
            Default::Value("3"),
            "Attempts in all, the first included; 1 never retries.",
        ),
        key(
            "budget",
            Kind::Share { min: 0.0, max: 1.0 },
            Default::Value("\"20%\""),
            "Retries may be at most this share of the requests, over ten seconds, so that they cannot multiply an overload.",
        ),
        key(
            "min_per_second",
            Kind::Int { min: 0, max: 1_000_000 },
            Default::Value("10"),
            "Retries per second that are allowed whatever the share.",
        ),
        key(
            "body_buffer",
            Kind::Size { min: 0, max: 16 << 20 },
            Default::Value("\"16KiB\""),
            "Request bodies up to this size are held so that they can be sent again.",
        ),
    ],
};

static POOL: Table = Table {
    name: "cluster.NAME.pool",
    header: "[cluster.NAME.pool]",
    doc: "Connections to each endpoint. Maxima are over all workers.",
    keys: &[
        key(
            "max_idle",
            Kind::Int { min: 0, max: 1_000_000 },
            Default::Value("100"),
            "Idle connections kept beyond what the recent peak needs.",
        ),
        key(
            "min_idle",
            Kind::Int { min: 0, max: 1_000_000 },
            Default::Value("0"),
            "Connections opened ahead of demand and kept open, whatever `idle_timeout` says. Where the endpoint closes idle \
             ones, set `max_lifetime` below its time-out: what ends is opened again.",
        ),
        key(
            "idle_timeout",
            TIMEOUT,
            Default::Value("\"1m30s\""),
            "An idle connection beyond `min_idle` is closed after this. Keep it below the endpoint's own.",
        ),
        key(
            "max_lifetime",
            Kind::OrWord("unlimited", &Kind::Duration { min: millis(1), max: secs(365 * 86_400) }),
            Default::Value("\"unlimited\""),
            "A connection is not used again after this, less a random part.",
        ),
        key(
            "lifetime_jitter",
            Kind::Share { min: 0.0, max: 0.5 },
            Default::Value("\"10%\""),
            "Each lifetime is shorter than `max_lifetime` by up to this share, so that connections do not end all at once.",
        ),
        key(
            "max_uses",
            Kind::OrWord("unlimited", &Kind::Int { min: 1, max: 4_000_000_000 }),
            Default::Value("\"unlimited\""),
            "A connection is closed after this many uses.",
        ),
        key(
            "max_connections",
            Kind::OrWord("auto", &Kind::Int { min: 1, max: 1_000_000 }),
            Default::Value("\"auto\""),
            "Connections to one endpoint, idle ones included. `\"auto\"` follows from the limit of file descriptors.",
        ),
        key(
            "peak_window",
            TIMEOUT,
            Default::Value("\"10s\""),
            "The housekeeper trims against the highest use within this window.",
        ),
    ],
};

static LIMIT: Table = Table {
    name: "cluster.NAME.limit",
    header: "[cluster.NAME.limit]",
    doc: "Requests in flight at each endpoint over all workers, and who may wait for a place.",
    keys: &[
        key(
            "max_requests",
            Kind::OrWord("unlimited", &Kind::Int { min: 1, max: 1_000_000 }),
            Default::Value("\"unlimited\""),
            "Requests in flight at one endpoint; `pool.max_connections` holds besides.",
        ),
        key(
            "queue",
            Kind::Int { min: 0, max: 1_000_000 },
            Default::Value("1024"),
            "Requests that may wait for a place at one endpoint; one more gets 503 `pool_queue_full`.",
        ),
        key(
            "queue_timeout",
            TIMEOUT,
            Default::Value("\"3s\""),
            "How long a request waits before 503 `pool_wait_timeout`.",
        ),
    ],
};

static TIMEOUTS: Table = Table {
    name: "cluster.NAME.timeouts",
    header: "[cluster.NAME.timeouts]",
    doc: "Time-outs towards the endpoints.",
    keys: &[
        key("connect", TIMEOUT, Default::Value("\"2s\""), "Until a connection is established."),
        key(
            "response_head",
            TIMEOUT,
            Default::Value("\"10s\""),
            "From the request sent to the complete response head; then 504.",
        ),
        key("idle", TIMEOUT, Default::Value("\"1m\""), "Between two bytes of a body, in either direction."),
        key(
            "tunnel_idle",
            Kind::Duration { min: millis(1), max: secs(30 * 86_400) },
            Default::Value("\"1h\""),
            "A tunnel (WebSocket and other upgrades, TCP) in which nothing moves for so long is closed.",
        ),
    ],
};

pub(crate) fn settle(node: &mut Node) {
    if let Some(balance) = node.table_mut("balance") {
        balance::settle(balance);
    }
    let bounds: [(&str, &[(&str, &str)]); 3] =
        [("health", &health::BOUNDS), ("outlier", &OUTLIER_BOUNDS), ("pool", &POOL_BOUNDS)];
    for (section, bounds) in bounds {
        if let Some(node) = node.table_mut(section) {
            for (low, high) in bounds {
                node.yield_defaults(low, high);
            }
        }
    }
    endpoint::settle(node);
}

pub(crate) fn resolve(named: &Named, report: &mut Report) -> Option<Cluster> {
    if let Err(fault) = syntax::name(&named.name) {
        report.error(fault.code, &named.name_span, fault.message).maybe_help(fault.help);
    }
    let node = named.value.table()?;
    let balance = node.table("balance").map(|balance| balance::resolve(balance, report)).unwrap_or_default();
    let endpoints = endpoint::resolve(node, &balance, report);
    Some(Cluster {
        name: Arc::from(named.name.as_str()),
        endpoints,
        balance,
        health: node.table("health").map(|node| health::resolve(node, report)).unwrap_or_default(),
        outlier: node.table("outlier").map(|node| outlier(node, report)).unwrap_or_default(),
        retry: node.table("retry").map(retry).unwrap_or_default(),
        pool: node.table("pool").map(|node| pool(node, report)).unwrap_or_default(),
        limit: limit(node, report),
        timeouts: node.table("timeouts").map(timeouts).unwrap_or_default(),
        panic_threshold: node.number("panic_threshold").unwrap_or_default(),
    })
}

/// Pairs of `outlier` and `pool` of which the first must not exceed the second.
const OUTLIER_BOUNDS: [(&str, &str); 1] = [("base_ejection", "max_ejection")];
const POOL_BOUNDS: [(&str, &str); 2] = [("min_idle", "max_idle"), ("min_idle", "max_connections")];

/// Reports each pair of `bounds` whose first is above its second: the user wrote both, defaults have given way.
pub(crate) fn must_not_exceed(node: &Node, bounds: &[(&str, &str)], report: &mut Report) {
    let shown = |key: &str| node.get(key).map(crate::effective::value_text).unwrap_or_default();
    for (low, high) in bounds.iter().filter(|(low, high)| node.exceeds(low, high)) {
        let message = format!("`{low}` ({}) is above `{high}` ({})", shown(low), shown(high));
        report
            .error(codes::LIMITS_DISAGREE, &node.span_of(low), message)
            .help(format!("lower `{low}` or raise `{high}`"));
    }
}

fn outlier(node: &Node, report: &mut Report) -> weir_resilience::OutlierParams {
    must_not_exceed(node, &OUTLIER_BOUNDS, report);
    weir_resilience::OutlierParams {
        enabled: node.bool("enabled"),
        consecutive_failures: node.u32("consecutive_failures"),
        base_ejection: node.duration("base_ejection"),
        max_ejection: node.duration("max_ejection"),
        max_ejected: node.number("max_ejected").unwrap_or_default(),
    }
}

fn retry(node: &Node) -> weir_resilience::RetryParams {
    weir_resilience::RetryParams {
        attempts: node.u32("attempts"),
        budget: node.number("budget").unwrap_or_default(),
        min_per_second: node.u32("min_per_second"),
        body_buffer: node.u32("body_buffer"),
    }
}

fn pool(node: &Node, report: &mut Report) -> weir_pool_core::Params {
    must_not_exceed(node, &POOL_BOUNDS, report);
    if let Some(entry) = node
        .changed("lifetime_jitter")
        .filter(|_| node.opt_duration("max_lifetime").is_none() && node.get("max_lifetime").is_some())
    {
        report
            .warning(
                codes::NO_EFFECT_YET,
                &entry.key_span,
                "`lifetime_jitter` has no effect while `max_lifetime` is unlimited",
            )
            .help("set `max_lifetime`, or take it out");
    }
    weir_pool_core::Params {
        max_idle: node.u32("max_idle"),
        min_idle: node.u32("min_idle"),
        idle_timeout: node.duration("idle_timeout"),
        max_lifetime: node.opt_duration("max_lifetime"),
        lifetime_jitter: node.number("lifetime_jitter").unwrap_or_default(),
        max_uses: node.opt_u32("max_uses"),
        max_connections: node.opt_u32("max_connections"),
        peak_window: node.duration("peak_window"),
    }
}

fn limit(cluster: &Node, report: &mut Report) -> weir_limit::Params {
    let Some(node) = cluster.table("limit") else {
        return weir_limit::Params::default();
    };
    let unlimited = node.int("max_requests").is_none() && node.get("max_requests").is_some();
    let no_cap = unlimited
        && cluster
            .table("pool")
            .is_some_and(|pool| pool.int("max_connections").is_none() && pool.get("max_connections").is_some());
    for entry in ["queue", "queue_timeout"].into_iter().filter_map(|key| node.changed(key)).filter(|_| no_cap) {
        let message =
            format!("nothing waits in `{}`: neither `max_requests` nor `pool.max_connections` is set", entry.key);
        report
            .warning(codes::NO_EFFECT_YET, &entry.key_span, message)
            .help("set `max_requests`; until then only the limit of file descriptors makes requests wait");
    }
    weir_limit::Params {
        max_requests: node.opt_u32("max_requests"),
        queue: node.u32("queue"),
        queue_timeout: node.duration("queue_timeout"),
    }
}

fn timeouts(node: &Node) -> weir_resilience::Timeouts {
    weir_resilience::Timeouts {
        connect: node.duration("connect"),
        response_head: node.duration("response_head"),
        idle: node.duration("idle"),
        tunnel_idle: node.duration("tunnel_idle"),
    }
}
