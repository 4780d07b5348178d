//! The addresses of listeners: reading them, and which of them cannot stand beside each other.

use std::net::{IpAddr, SocketAddr};

use weir_core::Address;

use super::process;
use crate::codes;
use crate::diagnostic::{Report, quoted};
use crate::draft::{Node, Value};
use crate::plan::Bind;
use crate::syntax::{self, Target};

pub(crate) fn binds(node: &Node, report: &mut Report) -> Vec<Bind> {
    let mode = mode(node, report);
    let mut binds = Vec::new();
    for value in node.list("bind").iter().filter(|value| value.is_valid()) {
        match bind_address(value.text()) {
            Ok(address) => {
                if address.inet().is_some_and(|addr| addr.port() == 0) {
                    process::port_zero(value, report);
                }
                let ipv6_only = node.bool("ipv6_only") && address.inet().is_some_and(|addr| addr.is_ipv6());
                let mode = if address.inet().is_none() { mode } else { None };
                binds.push(Bind { address, ipv6_only, mode });
            }
            Err(fault) => fault.report(value, report),
        }
    }
    if node.get("bind").is_some() && node.list("bind").is_empty() {
        report
            .error(codes::EMPTY, &node.span_of("bind"), "`listener.bind` is empty")
            .help("write an address such as \"127.0.0.1:8080\"");
    }
    if let Some(entry) = node.written("mode")
        && !binds.is_empty()
        && binds.iter().all(|bind| bind.address.inet().is_some())
    {
        report
            .error(
                codes::WITHOUT_EFFECT,
                &entry.key_span,
                "`mode` has no effect: no address of this listener is a Unix socket",
            )
            .help("take it out");
    }
    if let Some(entry) = node.written("ipv6_only")
        && node.bool("ipv6_only")
        && !binds.is_empty()
        && !binds.iter().any(|bind| bind.ipv6_only)
    {
        report
            .error(
                codes::WITHOUT_EFFECT,
                &entry.key_span,
                "`ipv6_only` has no effect: no address of this listener is IPv6",
            )
            .help("take it out, or bind \"[::]:PORT\"");
    }
    binds
}

/// An address to listen on; a name is none, because it may stand for several.
fn bind_address(text: &str) -> Result<Address, syntax::Fault> {
    let shorthand = text.strip_prefix(':').or_else(|| text.strip_prefix("*:"));
    let wrong = |message: String, help: String| syntax::Fault {
        code: codes::BAD_ADDRESS,
        message,
        part: 0..text.len(),
        help: Some(help),
    };
    if let Some(port) = shorthand {
        let message = format!("{} names no address", quoted(text));
        return Err(wrong(
            message,
            format!("write \"[::]:{port}\" for every address, or \"0.0.0.0:{port}\" for IPv4 only"),
        ));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!("{} names no address", quoted(text));
        return Err(wrong(
            message,
            format!("write \"127.0.0.1:{text}\" for this host only, or \"[::]:{text}\" for every address"),
        ));
    }
    match syntax::target(text)? {
        Target::Address(address) => Ok(address),
        Target::Name { host, port } => {
            let ip = if host == "localhost" { "127.0.0.1" } else { "0.0.0.0" };
            Err(wrong(
                format!("a listener needs an IP address, not the name {}", quoted(&host)),
                format!("write \"{ip}:{port}\""),
            ))
        }
    }
}

fn mode(node: &Node, report: &mut Report) -> Option<u32> {
    const MAX_MODE: u32 = 0o777;
    let value = node.text("mode")?;
    let mode =
        u32::from_str_radix(value.text(), 8).ok().filter(|mode| *mode <= MAX_MODE && !value.text().starts_with('+'));
    if mode.is_none() {
        report
            .error(codes::BAD_MODE, &value.span, format!("{} is not a set of permission bits", quoted(value.text())))
            .help("write three octal digits after a zero, such as \"0660\" for owner and group");
    }
    mode
}

// === overlaps ===

struct Taken<'a> {
    address: Address,
    ipv6_only: bool,
    value: &'a Value,
}

/// Reports addresses that cannot be bound beside each other, those of `[metrics]` and `[grantor]` included.
pub(crate) fn check_overlaps(root: &Node, report: &mut Report) {
    let mut taken: Vec<Taken<'_>> = Vec::new();
    for node in root.list("listener").iter().filter_map(Value::table) {
        for value in node.list("bind") {
            if let Ok(address) = bind_address(value.text()) {
                add(&mut taken, Taken { address, ipv6_only: node.bool("ipv6_only"), value }, report);
            }
        }
    }
    if let Some(node) = root.table("metrics").filter(|node| node.bool("enabled"))
        && let Some((value, Ok(address))) = node.text("bind").map(|value| (value, bind_address(value.text())))
    {
        add(&mut taken, Taken { address, ipv6_only: false, value }, report);
    }
    if let Some(node) = root.table("grantor").filter(|_| !root.map("budget").is_empty())
        && let Some((value, Ok(address))) = node.text("bind").map(|value| (value, bind_address(value.text())))
    {
        add(&mut taken, Taken { address, ipv6_only: false, value }, report);
    }
}

fn add<'a>(taken: &mut Vec<Taken<'a>>, new: Taken<'a>, report: &mut Report) {
    if let Some(other) = taken.iter().find(|other| overlap(other, &new)) {
        let (first, second) = (&other.value, &new.value);
        // The default address of [metrics] has no place of its own in the text: point at what was written.
        let (at, beside) = if second.defaulted { (first, second) } else { (second, first) };
        let message = if other.address == new.address {
            format!("{} is bound twice", quoted(&new.address.to_string()))
        } else {
            format!(
                "{} and {} cannot be bound at the same time",
                quoted(&new.address.to_string()),
                quoted(&other.address.to_string())
            )
        };
        let diagnostic = report.error(codes::OVERLAPPING_BIND, &at.span, message);
        if beside.defaulted {
            diagnostic
                .note("the other one is the default of `metrics.bind`")
                .help("choose another port, or set `bind` in `[metrics]`");
        } else {
            diagnostic.note_at("the other one is here", &beside.span).help("choose another port or address");
        }
    }
    taken.push(new);
}

fn overlap(a: &Taken<'_>, b: &Taken<'_>) -> bool {
    match (a.address.inet(), b.address.inet()) {
        (None, None) => a.address == b.address,
        (Some(x), Some(y)) => {
            x.port() == y.port() && x.port() != 0 && (covers(x, a.ipv6_only, y.ip()) || covers(y, b.ipv6_only, x.ip()))
        }
        _ => false,
    }
}

fn covers(bound: SocketAddr, ipv6_only: bool, ip: IpAddr) -> bool {
    if bound.ip() == ip {
        return true;
    }
    bound.ip().is_unspecified() && (bound.is_ipv4() == ip.is_ipv4() || (bound.is_ipv6() && !ipv6_only))
}
