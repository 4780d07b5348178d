//! `[grantor]` and `[budget.NAME]`: numbers of server connections that pools of many processes share.

use std::sync::Arc;

use weir_pool_core::budget::{CONNECTIONS_MAX, GrantorParams, NAME_BYTES_MAX, is_name};

use super::process::{inet, port_zero};
use crate::codes;
use crate::diagnostic::{Report, quoted};
use crate::draft::{Named, Node};
use crate::plan::{Budget, Grantor};
use crate::schema::{Default, Kind, Table, key, secs};

/// Budgets of a configuration.
pub const MAX_BUDGETS: usize = 256;
/// Shortest token, in bytes.
const TOKEN_MIN: usize = 16;
/// Longest token, in bytes.
const TOKEN_MAX: usize = 256;

pub(crate) static GRANTOR: Table = Table {
    name: "grantor",
    header: "[grantor]",
    doc: "Where pools ask for their shares of the budgets: a small HTTP API. It listens if there is a `[budget.NAME]`.",
    keys: &[
        key(
            "bind",
            Kind::Text("an address with port such as \"127.0.0.1:9902\""),
            Default::Value("\"127.0.0.1:9902\""),
            "IP address and port to listen on. Nothing else may listen there: two grantors of one budget would grant it twice. \
             Beyond this host only with a `token`.",
        ),
        key(
            "token",
            Kind::Text("16 to 256 visible ASCII characters"),
            Default::Absent("whoever can connect may ask"),
            "Whoever asks has to present this, as `Authorization: Bearer TOKEN`. It travels in the clear: keep the \
             network between pools and grantor private.",
        ),
    ],
};

pub(crate) static BUDGET: Table = Table {
    name: "budget.NAME",
    header: "[budget.NAME]",
    doc: "A number of connections to a server (a database role, mostly) that pools of many processes share. Each pool leases a \
          share that follows its load; all shares together never exceed the number.",
    keys: &[
        key(
            "connections",
            Kind::Int { min: 1, max: CONNECTIONS_MAX as u64 },
            Default::Required,
            "Connections in all. At most what the server allows, less what others need there.",
        ),
        key(
            "floors",
            Kind::Int { min: 0, max: CONNECTIONS_MAX as u64 },
            Default::Absent("a tenth of `connections`, rounded up"),
            "Of them, what pools may keep, all together, while they do not hear from this process. Each asks for a floor, \
             1 mostly, and gets it as long as some are left. After a start of this process so many are set aside for \
             `floor_lease`, for pools from before that have not been heard of.",
        ),
        key(
            "lease",
            Kind::Duration { min: secs(1), max: secs(3_600) },
            Default::Value("\"10s\""),
            "The share of a silent pool goes to others after this. The pool stops using it after half of this, so that \
             connections in use come back in time: longer uses need a longer lease. Pools ask ten times in it. Before it is \
             lowered, stop this process for as long as the old one.",
        ),
        key(
            "floor_lease",
            Kind::Duration { min: secs(2), max: secs(86_400) },
            Default::Value("\"5m\""),
            "The floor of a silent pool goes to others after this; at least twice `lease`.",
        ),
    ],
};

/// The grantor, if there are budgets.
pub(crate) fn resolve(root: &Node, report: &mut Report) -> Option<Grantor> {
    if let Some(extra) = root.map("budget").get(MAX_BUDGETS) {
        report.error(codes::TOO_MANY, &extra.name_span, format!("there are more than {MAX_BUDGETS} budgets"));
        return None;
    }
    let budgets: Vec<Budget> = root.map("budget").iter().filter_map(|named| budget(named, report)).collect();
    let node = root.table("grantor")?;
    if root.map("budget").is_empty() {
        if let Some(entry) = root.written("grantor") {
            report
                .error(codes::WITHOUT_EFFECT, &entry.key_span, "`grantor` has no effect: there is no budget")
                .help("add `[budget.NAME]` with `connections = 40`, or take it out");
        }
        return None;
    }
    let value = node.text("bind")?;
    let bind = inet(value, "127.0.0.1:9902", report)?;
    if bind.port() == 0 {
        port_zero(value, report);
    }
    let token = node.text("token");
    if let Some(token) = token
        && !((TOKEN_MIN..=TOKEN_MAX).contains(&token.text().len())
            && token.text().bytes().all(|byte| byte.is_ascii_graphic()))
    {
        report
            .error(codes::BAD_TOKEN, &token.span, "this is not a token")
            .help(format!("write {TOKEN_MIN} to {TOKEN_MAX} visible ASCII characters without spaces, drawn at random"));
    }
    if token.is_none() && !bind.ip().is_loopback() {
        report
            .error(codes::OPEN_GRANTOR, &value.span, format!("{} is open to other hosts", quoted(value.text())))
            .help("add a `token`, or bind \"127.0.0.1:9902\"");
    }
    Some(Grantor { bind, token: token.map(|token| Arc::from(token.text())), budgets })
}

fn budget(named: &Named, report: &mut Report) -> Option<Budget> {
    if !is_name(&named.name) {
        report
            .error(codes::BAD_NAME, &named.name_span, format!("{} cannot be the name of a budget", quoted(&named.name)))
            .help(format!("it stands in a path: 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_` or `-`"));
    }
    let node = named.value.table()?;
    let total = node.u32("connections");
    let floors = node.opt_u32("floors").unwrap_or_else(|| total.div_ceil(10));
    if node.get("connections").is_some_and(crate::draft::Value::is_valid) && floors > total {
        report
            .error(
                codes::LIMITS_DISAGREE,
                &node.span_of("floors"),
                format!("`floors` ({floors}) is above `connections` ({total})"),
            )
            .help("lower `floors` or raise `connections`");
    }
    let (lease, floor_lease) = (node.duration("lease"), node.duration("floor_lease"));
    if floor_lease < lease * 2 {
        let wrote = ["floor_lease", "lease"].into_iter().find(|key| node.written(key).is_some());
        report
            .error(
                codes::LIMITS_DISAGREE,
                &node.span_of(wrote.unwrap_or("lease")),
                "`floor_lease` is less than twice `lease`",
            )
            .help("raise `floor_lease` or lower `lease`");
    }
    Some(Budget { name: Arc::from(named.name.as_str()), params: GrantorParams { total, floors, lease, floor_lease } })
}
