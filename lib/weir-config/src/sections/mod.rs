//! The sections of a configuration, one file each: its rows of the table of keys, and how they resolve.
//!
//! Resolving has two steps. *Settling* changes the draft: it derives names and takes out defaults of keys
//! that have no meaning for what was chosen, so that the effective configuration says what holds.
//! *Resolving* reads the settled draft and makes the plan. Both report and go on.

mod balance;
mod bind;
mod body;
mod budget;
mod cluster;
mod conditions;
mod edits;
mod endpoint;
mod health;
mod listener;
mod order;
mod process;
mod route;

use std::collections::BTreeMap;

use weir_core::ClusterId;

use crate::Files;
use crate::codes;
use crate::diagnostic::{Report, Span, quoted};
use crate::draft::{Draft, Named, Node, Value};
use crate::nearest::nearest;
use crate::plan::{Cluster, Plan};
use crate::schema::{Default, Kind, Table, key};

pub use body::MAX_PAGE_BYTES;
pub use budget::MAX_BUDGETS;
pub use endpoint::MAX_ENDPOINTS;

/// Listeners of a configuration.
pub const MAX_LISTENERS: usize = 64;
/// Routes of a configuration.
pub const MAX_ROUTES: usize = 4_096;
/// Clusters of a configuration.
pub const MAX_CLUSTERS: usize = 4_096;

/// The top level.
pub(crate) static ROOT: Table = Table {
    name: "",
    header: "the top level",
    doc: "The whole configuration.",
    keys: &[
        key(
            "listener",
            Kind::Tables(&listener::LISTENER),
            Default::Absent(
                "clients connect nowhere, which is right only for a process that does nothing but grant budgets",
            ),
            "Where clients connect: one `[[listener]]` each.",
        ),
        key(
            "route",
            Kind::Tables(&route::ROUTE),
            Default::Absent("each listener sends everything to its `cluster`"),
            "What happens to which requests: one `[[route]]` each. The most specific route that matches is taken, \
             whatever their order in the file.",
        ),
        key(
            "cluster",
            Kind::Map("cluster names", &Kind::Table(&cluster::CLUSTER)),
            Default::Absent("there is nothing to forward to"),
            "Where requests go: one `[cluster.NAME]` each.",
        ),
        key(
            "budget",
            Kind::Map("budget names", &Kind::Table(&budget::BUDGET)),
            Default::Absent("there is no budget to grant"),
            "Numbers of server connections that pools of many processes share: one `[budget.NAME]` each.",
        ),
        key(
            "grantor",
            Kind::Table(&budget::GRANTOR),
            Default::Value("{}"),
            "Where pools ask for their shares of the budgets; only with a `[budget.NAME]`.",
        ),
        key(
            "metrics",
            Kind::Table(&process::METRICS),
            Default::Value("{}"),
            "The read-only listener that shows metrics, health and clusters.",
        ),
        key(
            "access_log",
            Kind::Table(&process::ACCESS_LOG),
            Default::Absent("no access log is written"),
            "One line for each request.",
        ),
        key("process", Kind::Table(&process::PROCESS), Default::Value("{}"), "Threads, user and shutdown."),
    ],
};

/// Settles the draft and makes the plan. The plan is meaningless if `report` has errors afterwards.
pub(crate) fn resolve(draft: &mut Draft, files: &dyn Files, report: &mut Report) -> Plan {
    let root = &mut draft.root;
    bound(root.list("listener"), MAX_LISTENERS, "listeners", report);
    bound(root.list("route"), MAX_ROUTES, "routes", report);
    if let Some(extra) = root.map("cluster").get(MAX_CLUSTERS) {
        too_many(&extra.name_span, MAX_CLUSTERS, "clusters", report);
    }
    if report.has_errors() && (root.list("route").len() > MAX_ROUTES || root.list("listener").len() > MAX_LISTENERS) {
        return empty_plan();
    }
    settle(root);
    let root = &draft.root;
    if root.entry("listener").is_some_and(|entry| entry.value.is_valid()) && root.list("listener").is_empty() {
        report
            .error(codes::EMPTY, &root.span_of("listener"), "there is no listener")
            .help("add `[[listener]]` with `bind = \"127.0.0.1:8080\"` and `cluster = \"NAME\"`");
    }
    if root.entry("listener").is_none() && root.map("budget").is_empty() && !root.misspelt {
        report.error(codes::MISSING_KEY, &root.span, "the configuration has no `listener`").help("add `[[listener]]`");
    }
    let mut clusters = Clusters::new(root);
    let resolved: Vec<Cluster> =
        root.map("cluster").iter().filter_map(|named| cluster::resolve(named, report)).collect();
    let metrics = root.table("metrics").and_then(|node| process::metrics(node, report));
    let mut listeners = listener::resolve(root, &mut clusters, files, report);
    route::resolve(root, &mut listeners, &mut clusters, files, report);
    bind::check_overlaps(root, report);
    listener::check_keys(root, &listeners, &resolved, report);
    clusters.report_unused(report);
    Plan {
        listeners: listeners.into_iter().map(|entry| entry.listener).collect(),
        clusters: resolved,
        metrics,
        grantor: budget::resolve(root, report),
        access_log: root.table("access_log").and_then(|node| process::access_log(node, report)),
        process: process::process(root.table("process"), report),
    }
}

fn settle(root: &mut Node) {
    if root.map("budget").is_empty() {
        root.drop_defaults(&["grantor"]);
    }
    for entry in &mut root.entries {
        match (&mut entry.value.data, entry.key) {
            (crate::draft::Data::List(list), "listener") => {
                list.iter_mut().filter_map(Value::table_mut).for_each(listener::settle);
            }
            (crate::draft::Data::List(list), "route") => {
                list.iter_mut().enumerate().for_each(|(at, value)| {
                    value.table_mut().into_iter().for_each(|node| route::settle(node, at));
                });
            }
            (crate::draft::Data::Map(map), "cluster") => {
                map.iter_mut().filter_map(|named| named.value.table_mut()).for_each(cluster::settle);
            }
            _ => {}
        }
    }
}

fn empty_plan() -> Plan {
    Plan {
        listeners: Vec::new(),
        clusters: Vec::new(),
        metrics: None,
        grantor: None,
        access_log: None,
        process: process::process(None, &mut Report::new()),
    }
}

fn bound(list: &[Value], max: usize, what: &str, report: &mut Report) {
    if let Some(extra) = list.get(max) {
        too_many(&extra.span, max, what, report);
    }
}

fn too_many(span: &Span, max: usize, what: &str, report: &mut Report) {
    report.error(codes::TOO_MANY, span, format!("there are more than {max} {what}"));
}

/// Reports a repeated name and says where the first one is.
pub(crate) fn duplicate(code: codes::Code, what: &str, name: &str, span: &Span, first: &Span, report: &mut Report) {
    report
        .error(code, span, format!("{what} {} is there twice", quoted(name)))
        .label("the second one")
        .note_at("the first one is here", first);
}

// === Clusters: names, ids, and which are used ===

/// The clusters by name.
pub(crate) struct Clusters<'a> {
    names: Vec<&'a Named>,
    /// Something that might name a cluster was not understood.
    doubtful: bool,
    /// `cluster` itself was not understood.
    broken: bool,
    ids: BTreeMap<&'a str, ClusterId>,
    used: Vec<bool>,
}

impl<'a> Clusters<'a> {
    fn new(root: &'a Node) -> Self {
        let named = root.map("cluster");
        let valid = |key: &str| root.entry(key).is_none_or(|entry| entry.value.is_valid());
        let users = || ["listener", "route"].into_iter().flat_map(|key| root.list(key)).filter_map(Value::table);
        let unclear = |node: &Node| node.misspelt || node.entry("cluster").is_some_and(|entry| !entry.value.is_valid());
        let doubtful = !valid("listener")
            || !valid("route")
            || root.misspelt
            || root.list("listener").is_empty()
            || users().any(unclear);
        let ids = named.iter().zip(0..).map(|(named, at)| (named.name.as_str(), ClusterId(at))).collect();
        Self { names: named.iter().collect(), doubtful, broken: !valid("cluster"), ids, used: vec![false; named.len()] }
    }

    /// The cluster that `value` names; an unknown one is reported and stands as cluster 0.
    pub(crate) fn find(&mut self, value: &Value, report: &mut Report) -> ClusterId {
        let name = value.text();
        if let Some(id) = self.ids.get(name) {
            if let Some(used) = self.used.get_mut(id.0 as usize) {
                *used = true;
            }
            return *id;
        }
        self.doubtful = true;
        if self.broken {
            return ClusterId(0);
        }
        let help = match nearest(name, self.ids.keys().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if self.names.is_empty() => {
                format!("add `[cluster.{name}]` with `endpoints = [\"10.0.0.1:8080\"]`")
            }
            None => {
                const SHOWN: usize = 10;
                let known: Vec<_> = self.names.iter().take(SHOWN).map(|named| quoted(&named.name)).collect();
                format!("known clusters: {}", known.join(", "))
            }
        };
        report.error(codes::UNKNOWN_CLUSTER, &value.span, format!("there is no cluster {}", quoted(name))).help(help);
        ClusterId(0)
    }

    fn report_unused(&self, report: &mut Report) {
        if self.doubtful {
            return;
        }
        for (named, used) in self.names.iter().zip(&self.used) {
            if !used {
                report
                    .warning(
                        codes::UNUSED_CLUSTER,
                        &named.name_span,
                        format!("cluster {} gets no traffic", quoted(&named.name)),
                    )
                    .help(format!("name it in a listener or route (`cluster = \"{}\"`), or take it out", named.name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::schema::{Default, Key, Kind};
    use crate::units::{print_duration, print_size};
    use crate::{NoFiles, Source, effective, load};

    fn loaded(listener: &str, cluster: &str) -> Result<String, String> {
        let text = format!(
            "[[listener]]\nbind = \"127.0.0.1:80\"\ncluster = \"web\"\n{listener}\n[cluster.web]\nendpoints = [\"a:80\"]\n{cluster}\n"
        );
        let source = Source { name: String::new(), text };
        let outcome = load(&source, &NoFiles);
        let said: String = outcome.diagnostics.iter().map(|one| one.render(&source, false)).collect();
        outcome.draft.map(|draft| effective(&draft)).ok_or(said)
    }

    /// The ends of the range of a key, as they would be written.
    fn ends(kind: &Kind) -> Vec<String> {
        match kind {
            Kind::Int { min, max } => [min, max].map(ToString::to_string).into(),
            Kind::Size { min, max } => [min, max].map(|size| format!("\"{}\"", print_size(*size))).into(),
            Kind::Duration { min, max } => [min, max].map(|time| format!("\"{}\"", print_duration(*time))).into(),
            Kind::OrWord(_, kind) => ends(kind),
            _ => Vec::new(),
        }
    }

    /// Whoever writes one key alone is not told that it contradicts something that nobody wrote.
    #[test]
    fn no_key_alone_disagrees_with_a_default() {
        let mut tried = 0;
        let mut try_alone = |header: &str, key: &Key, value: &str| {
            let section = format!("{}\n{} = {value}", header.replace("NAME", "web"), key.name);
            let result = if header.starts_with("[listener.") { loaded(&section, "") } else { loaded("", &section) };
            assert!(!result.as_ref().is_err_and(|said| said.contains("W0116")), "{section}\n{}", result.unwrap_err());
            tried += 1;
        };
        for table in crate::reference::tables() {
            let placed = ["[listener.", "[cluster.NAME."].iter().any(|start| table.header.starts_with(start));
            for key in table.keys.iter().filter(|key| placed && !matches!(key.default, Default::Required)) {
                // A target as large as the largest head fits into none.
                let values =
                    ends(&key.kind).into_iter().filter(|value| key.name != "target_size" || value != "\"1MiB\"");
                values.for_each(|value| try_alone(table.header, key, &value));
            }
        }
        assert!(tried >= 50, "{tried}");
    }

    #[test]
    fn defaults_give_way_and_are_shown() {
        let health = |text: &str| loaded("", &format!("[cluster.web.health]\n{text}")).unwrap();
        let fast = health("interval = \"500ms\"");
        assert!(fast.contains("fast_interval = \"500ms\"\ntimeout = \"500ms\"\n"), "{fast}");
        let slow = health("timeout = \"15s\"\nfast_interval = \"12s\"");
        assert!(slow.contains("\ninterval = \"15s\"\nfast_interval = \"12s\"\ntimeout = \"15s\"\n"), "{slow}");
        let usual = health("interval = \"5s\"");
        assert!(usual.contains("fast_interval = \"1s\"\ntimeout = \"2s\"\n"), "{usual}");
        // What is written gives way to nothing.
        let said = loaded("", "[cluster.web.health]\ninterval = \"500ms\"\nfast_interval = \"501ms\"").unwrap_err();
        assert!(said.contains("W0116") && said.contains("`fast_interval` (501ms)"), "{said}");

        let outlier = loaded("", "[cluster.web.outlier]\nmax_ejection = \"5s\"").unwrap();
        assert!(outlier.contains("base_ejection = \"5s\"\n"), "{outlier}");
        let pool = loaded("", "[cluster.web.pool]\nmin_idle = 200").unwrap();
        assert!(pool.contains("max_idle = 200\n"), "{pool}");
        let limits = |text: &str| loaded(&format!("[listener.limits]\n{text}"), "").unwrap();
        assert!(limits("head_size = \"4KiB\"").contains("target_size = \"2KiB\"\n"));
        assert!(limits("target_size = \"64KiB\"").contains("head_size = \"128KiB\"\n"));
    }
}
