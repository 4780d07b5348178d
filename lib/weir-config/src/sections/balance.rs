//! `balance`: how an endpoint is chosen.

use std::sync::Arc;

use weir_balance::{Algorithm, HashKey, Params};

use crate::codes;
use crate::diagnostic::{Report, quoted};
use crate::draft::{Node, Value};
use crate::nearest::nearest;
use crate::schema::{Default, Kind, Table, key};
use crate::syntax;

/// The algorithms by name.
const ALGORITHMS: [(&str, Algorithm); 8] = [
    ("round_robin", Algorithm::RoundRobin),
    ("weighted_round_robin", Algorithm::WeightedRoundRobin),
    ("least_connections", Algorithm::LeastConnections),
    ("random", Algorithm::Random),
    ("power_of_two", Algorithm::PowerOfTwo),
    ("ip_hash", Algorithm::IpHash),
    ("ring_hash", Algorithm::RingHash),
    ("maglev", Algorithm::Maglev),
];

const NAMES: [&str; 8] = {
    let mut names = [""; 8];
    let mut at = 0;
    while at < names.len() {
        names[at] = ALGORITHMS[at].0;
        at += 1;
    }
    names
};

/// Largest table of Maglev: 4 bytes for each place, in each snapshot.
const MAX_TABLE: u64 = 5_000_011;

pub(crate) static BALANCE: Table = Table {
    name: "cluster.NAME.balance",
    header: "balance = { ... }",
    doc: "How an endpoint is chosen. A plain text stands for `algorithm`.",
    keys: &[
        key(
            "algorithm",
            Kind::Choice(&NAMES),
            Default::Value("\"weighted_round_robin\""),
            "`round_robin`: each in turn. `weighted_round_robin`: each in turn by weight, smoothly. `least_connections`: \
             fewest requests in flight for its weight. `random`: by weight. `power_of_two`: the less loaded of two drawn \
             at random. `ip_hash`: the client's address decides. `ring_hash` and `maglev`: consistent hash of `key`.",
        ),
        key(
            "key",
            Kind::Text("\"client_ip\", \"path\", \"header:NAME\", \"cookie:NAME\" or \"query:NAME\""),
            Default::Value("\"client_ip\""),
            "`ring_hash` and `maglev`: what decides. Requests without a value go by the client's address.",
        ),
        key(
            "virtual_nodes",
            Kind::OrWord("auto", &Kind::Int { min: 1, max: 100_000 }),
            Default::Value("\"auto\""),
            "`ring_hash`: points on the ring for each unit of weight; more spread the keys more evenly. `\"auto\"` gives \
             small clusters at least 1,000 for each endpoint.",
        ),
        key(
            "ketama",
            Kind::Bool,
            Default::Value("false"),
            "`ring_hash`: places the points as `hash ... consistent` of nginx does, so that both send a key to the same endpoint.",
        ),
        key(
            "table_size",
            Kind::Int { min: 2, max: MAX_TABLE },
            Default::Value("65537"),
            "`maglev`: places of the table, a prime of at least 100 times the number of endpoints.",
        ),
        key(
            "bounded_load",
            Kind::OrWord("off", &Kind::Number { min: 0.0, max: 100.0 }),
            Default::Value("\"off\""),
            "`ring_hash`, `maglev` and `ip_hash`: no endpoint gets more than this factor of its fair share of the requests in \
             flight; the rest spills over. Above 1; 1.25 is a good start.",
        ),
    ],
};

/// Settings and the algorithms that use them.
const USES: [(&str, &[Algorithm]); 5] = [
    ("key", &[Algorithm::RingHash, Algorithm::Maglev]),
    ("virtual_nodes", &[Algorithm::RingHash]),
    ("ketama", &[Algorithm::RingHash]),
    ("table_size", &[Algorithm::Maglev]),
    ("bounded_load", &[Algorithm::RingHash, Algorithm::Maglev, Algorithm::IpHash]),
];

fn algorithm(node: &Node) -> Option<Algorithm> {
    let name = node.text("algorithm")?.text();
    ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}

fn name_of(algorithm: Algorithm) -> &'static str {
    ALGORITHMS.iter().find(|(_, other)| *other == algorithm).map_or("", |(name, _)| name)
}

pub(crate) fn settle(node: &mut Node) {
    let Some(algorithm) = algorithm(node) else {
        return;
    };
    for (setting, algorithms) in USES {
        if !algorithms.contains(&algorithm) {
            node.drop_defaults(&[setting]);
        }
    }
    if node.bool("ketama") {
        node.drop_defaults(&["virtual_nodes"]);
    }
}

pub(crate) fn resolve(node: &Node, report: &mut Report) -> Params {
    let Some(algorithm) = algorithm(node) else {
        return Params::default();
    };
    for (setting, algorithms) in USES {
        if let Some(entry) = node.written(setting).filter(|_| !algorithms.contains(&algorithm)) {
            let names: Vec<_> = algorithms.iter().map(|algorithm| format!("`{}`", name_of(*algorithm))).collect();
            report
                .error(
                    codes::NOT_FOR_ALGORITHM,
                    &entry.key_span,
                    format!("`{}` has no `{setting}`", name_of(algorithm)),
                )
                .help(format!("`{setting}` belongs to {}; take it out or choose another algorithm", names.join(", ")));
        }
    }
    if let Some(entry) =
        node.written("virtual_nodes").filter(|_| node.bool("ketama") && algorithm == Algorithm::RingHash)
    {
        report
            .error(codes::CONFLICT, &entry.key_span, "`virtual_nodes` and `ketama` cannot stand together")
            .note_at("`ketama` is here", &node.span_of("ketama"))
            .help("ketama always has 160 points for each unit of weight; take one of them out");
    }
    let defaults = Params::default();
    Params {
        algorithm,
        key: node.text("key").and_then(|value| hash_key(value, report)).unwrap_or_default(),
        virtual_nodes: node.opt_u32("virtual_nodes"),
        ketama: node.bool("ketama"),
        table_size: node.get("table_size").map_or(defaults.table_size, |value| table_size(value, report)),
        bounded_load: bounded_load(node, report),
    }
}

fn hash_key(value: &Value, report: &mut Report) -> Option<HashKey> {
    const KINDS: [&str; 5] = ["client_ip", "path", "header:NAME", "cookie:NAME", "query:NAME"];
    let text = value.text();
    let (kind, name) = text.split_once(':').map_or((text, None), |(kind, name)| (kind, Some(name)));
    let good = name.is_some_and(|name| if kind == "query" { !name.is_empty() } else { syntax::is_token(name) });
    match (kind, name) {
        ("client_ip", None) => return Some(HashKey::ClientIp),
        ("path", None) => return Some(HashKey::Path),
        ("header", Some(name)) if good => {
            return Some(HashKey::Header(Arc::from(name.to_ascii_lowercase())));
        }
        ("cookie", Some(name)) if good => return Some(HashKey::Cookie(Arc::from(name))),
        ("query", Some(name)) if good => return Some(HashKey::Query(Arc::from(name))),
        _ => {}
    }
    let help = match (kind, name) {
        ("header" | "cookie" | "query", _) => {
            format!("write \"{kind}:NAME\" with the name of a {kind}")
        }
        _ => nearest(kind, KINDS.map(|known| known.trim_end_matches(":NAME"))).map_or_else(
            || format!("write one of {}", KINDS.join(", ")),
            |near| {
                name.map_or_else(
                    || format!("did you mean \"{near}\"?"),
                    |name| format!("did you mean \"{near}:{name}\"?"),
                )
            },
        ),
    };
    report.error(codes::BAD_KEY, &value.span, format!("{} is not a key to hash", quoted(text))).help(help);
    None
}

fn table_size(value: &Value, report: &mut Report) -> u32 {
    let size = value.int();
    if !is_prime(size) {
        let next = (size..=MAX_TABLE).find(|number| is_prime(*number)).unwrap_or(MAX_TABLE);
        report.error(codes::BAD_TABLE_SIZE, &value.span, format!("`table_size` {size} is not a prime")).help(format!(
            "the next prime is {next}; with another size some places of the table could never be filled"
        ));
    }
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..number).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

fn bounded_load(node: &Node, report: &mut Report) -> Option<f64> {
    let factor = node.number("bounded_load")?;
    if factor <= 1.0 {
        report
            .error(
                codes::BAD_BOUND,
                &node.span_of("bounded_load"),
                format!("`bounded_load` {factor} leaves no room: every endpoint would be full"),
            )
            .help("write a number above 1, such as 1.25");
    }
    Some(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes() {
        let primes: Vec<u64> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && is_prime(MAX_TABLE) && is_prime(655_373));
    }
}
