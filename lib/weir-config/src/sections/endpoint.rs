//! Endpoints of a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_balance::Algorithm;
use weir_core::{Address, Endpoint, Weight};

use super::duplicate;
use crate::codes;
use crate::diagnostic::{Report, Span, quoted};
use crate::draft::{Data, Node, Value};
use crate::plan::{DnsEndpoint, EndpointSpec};
use crate::schema::{Default, Kind, Table, key};
use crate::syntax::{self, Target};

/// Endpoints of one cluster.
pub const MAX_ENDPOINTS: usize = 16_384;

/// Tags of one endpoint.
const MAX_TAGS: usize = 64;

pub(crate) static ENDPOINT: Table = Table {
    name: "cluster.NAME.endpoints",
    header: "endpoints = [{ address = ... }]",
    doc: "One endpoint. A plain text stands for `address`.",
    keys: &[
        key(
            "address",
            Kind::Text("an address such as \"10.0.0.1:8080\", \"app.internal:8080\" or \"unix:/run/app.sock\""),
            Default::Required,
            "`IP:PORT`, `[IPv6]:PORT`, `unix:/path`, or `name:port`: a name is resolved at start and again when its \
             records expire, and stands for every address behind it.",
        ),
        key(
            "name",
            Kind::Text("a name"),
            Default::Absent("the address as written"),
            "Stable name: survives a change of address, and hash rings are keyed by it. Not for host names, which stand for several endpoints.",
        ),
        key(
            "weight",
            Kind::Int { min: 0, max: 65_535 },
            Default::Value("1"),
            "Relative share of traffic; 0 gets none.",
        ),
        key(
            "zone",
            Kind::Text("a word such as \"a\""),
            Default::Absent("no zone"),
            "Failure domain, such as an availability zone.",
        ),
        key(
            "priority",
            Kind::Int { min: 0, max: 255 },
            Default::Value("0"),
            "Tier: 0 is used first; a higher number only when the lower ones have no usable endpoint.",
        ),
        key(
            "tags",
            Kind::Map("labels", &Kind::Text(crate::walk::FREE_TEXT)),
            Default::Absent("no labels"),
            "Free labels, for selection and display.",
        ),
    ],
};

/// Derives the names of static endpoints.
pub(crate) fn settle(cluster: &mut Node) {
    let Some(entry) = cluster.entries.iter_mut().find(|entry| entry.key == "endpoints") else {
        return;
    };
    let Data::List(list) = &mut entry.value.data else {
        return;
    };
    for node in list.iter_mut().filter_map(Value::table_mut) {
        let address = node.str("address").to_owned();
        if matches!(syntax::target(&address), Ok(Target::Address(_))) {
            node.derive_text("name", address);
        }
    }
}

pub(crate) fn resolve(cluster: &Node, balance: &weir_balance::Params, report: &mut Report) -> Vec<EndpointSpec> {
    let list = cluster.list("endpoints");
    if let Some(extra) = list.get(MAX_ENDPOINTS) {
        report
            .error(
                codes::TOO_MANY,
                &extra.span,
                format!("there are more than {MAX_ENDPOINTS} endpoints in one cluster"),
            )
            .help("let a host name stand for many addresses");
        return Vec::new();
    }
    if cluster.get("endpoints").is_some() && list.is_empty() {
        report
            .error(codes::EMPTY, &cluster.span_of("endpoints"), "this cluster has no endpoint")
            .help("write an address such as \"10.0.0.1:8080\"");
    }
    let mut seen = Seen::default();
    let specs: Vec<_> =
        list.iter().filter_map(Value::table).filter_map(|node| endpoint(node, &mut seen, report)).collect();
    let weights: Vec<u16> = specs.iter().map(weight_of).collect();
    let sure =
        specs.len() == list.len() && list.iter().filter_map(Value::table).all(|node| node.get("weight").is_some());
    if sure && !weights.is_empty() && weights.iter().all(|weight| *weight == 0) {
        report
            .error(
                codes::ALL_WEIGHTS_ZERO,
                &cluster.span_of("endpoints"),
                "no endpoint of this cluster gets traffic: every weight is 0",
            )
            .help("give at least one endpoint a weight of 1 or more");
    }
    check_ignored_weights(list, balance.algorithm, report);
    check_table_size(cluster, specs.len(), balance, report);
    specs
}

#[derive(Default)]
struct Seen {
    addresses: BTreeMap<String, Span>,
    names: BTreeMap<String, Span>,
}

fn endpoint(node: &Node, seen: &mut Seen, report: &mut Report) -> Option<EndpointSpec> {
    let value = node.text("address")?;
    let target = match syntax::target(value.text()) {
        Ok(target) => target,
        Err(fault) => {
            fault.report(value, report);
            return None;
        }
    };
    let (port, key) = match &target {
        Target::Address(address) => (address.inet().map(|addr| addr.port()), address.to_string()),
        Target::Name { host, port } => (Some(*port), format!("{host}:{port}")),
    };
    if port == Some(0) {
        report
            .error(
                codes::PORT_ZERO,
                &value.part(value.text().len() - 1..value.text().len()),
                "nobody can be reached at port 0",
            )
            .help("write the port that the endpoint listens on, 1 to 65535");
    }
    if let Target::Address(Address::Inet(addr)) = &target
        && (addr.ip().is_unspecified() || addr.ip().is_multicast())
    {
        report
            .error(
                codes::BAD_ADDRESS,
                &value.span,
                format!("{} is not an address to connect to", quoted(&addr.ip().to_string())),
            )
            .help(format!("for an endpoint on this host write \"127.0.0.1:{}\"", addr.port()));
    }
    let twice = seen.addresses.insert(key, value.span.clone());
    if let Some(first) = &twice {
        duplicate(codes::DUPLICATE_ENDPOINT, "endpoint", value.text(), &value.span, first, report);
    }
    let name = name(node, &target, twice.is_some(), seen, report);
    let tags = tags(node, report);
    let weight = Weight::new(node.u16("weight"));
    let zone: Option<Arc<str>> = node.text("zone").map(|zone| {
        if let Err(fault) = syntax::name(zone.text()) {
            fault.report(zone, report);
        }
        Arc::from(zone.text())
    });
    let priority = u8::try_from(node.u16("priority")).unwrap_or(u8::MAX);
    Some(match target {
        Target::Address(address) => EndpointSpec::Static(Endpoint { name, address, weight, zone, priority, tags }),
        Target::Name { host, port } => {
            EndpointSpec::Dns(DnsEndpoint { host: Arc::from(host), port, weight, zone, priority, tags })
        }
    })
}

fn name(node: &Node, target: &Target, known: bool, seen: &mut Seen, report: &mut Report) -> Arc<str> {
    let Some(value) = node.text("name") else {
        return Arc::from("");
    };
    if matches!(target, Target::Name { .. }) {
        report
            .error(
                codes::NAME_FOR_MANY,
                &value.span,
                "a host name stands for several endpoints, which cannot share one name",
            )
            .help("take `name` out: each address behind the host name gets its own");
        return Arc::from("");
    }
    if !value.defaulted
        && value.text() != node.str("address")
        && let Err(fault) = syntax::name(value.text())
    {
        fault.report(value, report);
    }
    if let Some(first) = seen.names.insert(value.text().to_owned(), value.span.clone()) {
        // A derived name of an address that is there twice was reported with it.
        if !(value.defaulted && known) {
            duplicate(codes::DUPLICATE_ENDPOINT, "endpoint name", value.text(), &value.span, &first, report);
        }
    }
    Arc::from(value.text())
}

fn tags(node: &Node, report: &mut Report) -> BTreeMap<Arc<str>, Arc<str>> {
    let map = node.map("tags");
    if let Some(extra) = map.get(MAX_TAGS) {
        report.error(codes::TOO_MANY, &extra.name_span, format!("there are more than {MAX_TAGS} tags at one endpoint"));
    }
    map.iter().map(|named| (Arc::from(named.name.as_str()), Arc::from(named.value.text()))).collect()
}

fn weight_of(spec: &EndpointSpec) -> u16 {
    match spec {
        EndpointSpec::Static(endpoint) => endpoint.weight.get(),
        EndpointSpec::Dns(dns) => dns.weight.get(),
    }
}

fn check_ignored_weights(list: &[Value], algorithm: Algorithm, report: &mut Report) {
    if algorithm != Algorithm::RoundRobin {
        return;
    }
    let written = list.iter().filter_map(Value::table).filter_map(|node| node.written("weight"));
    if let Some(entry) = written.into_iter().find(|entry| entry.value.is_valid() && entry.value.int() > 1) {
        report
            .warning(codes::WEIGHTS_IGNORED, &entry.value.span, "`round_robin` ignores weights above 0")
            .help("write `balance = \"weighted_round_robin\"`, or take the weights out");
    }
}

/// Maglev spreads evenly only when its table is much larger than the number of endpoints (Eisenbud et al.
/// 2016, section 5.3, use 100 times).
fn check_table_size(cluster: &Node, endpoints: usize, balance: &weir_balance::Params, report: &mut Report) {
    if balance.algorithm == Algorithm::Maglev && (balance.table_size as usize) < endpoints {
        let span = cluster.table("balance").map_or_else(|| cluster.span.clone(), |node| node.span_of("table_size"));
        report
            .error(
                codes::BAD_TABLE_SIZE,
                &span,
                format!("`table_size` {} is below the number of endpoints, {endpoints}", balance.table_size),
            )
            .help("use a prime at least 100 times the number of endpoints, such as 65537 or 655373");
    }
}
