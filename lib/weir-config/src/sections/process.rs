//! `[metrics]`, `[access_log]` and `[process]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use weir_core::Address;

use crate::codes;
use crate::diagnostic::{Report, quoted};
use crate::draft::{Node, Value};
use crate::plan::{AccessLog, LogFormat, LogTarget, Metrics, Process};
use crate::schema::{Default, Kind, Table, key, secs};
use crate::syntax::{self, Target};

pub(crate) static METRICS: Table = Table {
    name: "metrics",
    header: "[metrics]",
    doc: "The read-only observation listener: `/metrics`, `/ready`, `/live` and `/clusters`. It changes nothing \
          and has no password, so keep it on a loopback or management address.",
    keys: &[
        key("enabled", Kind::Bool, Default::Value("true"), "Whether it listens at all."),
        key(
            "bind",
            Kind::Text("an address with port such as \"127.0.0.1:9901\""),
            Default::Value("\"127.0.0.1:9901\""),
            "IP address and port to listen on.",
        ),
    ],
};

pub(crate) static ACCESS_LOG: Table = Table {
    name: "access_log",
    header: "[access_log]",
    doc: "One line for each request, written when it is over. Without this table there is no access log.",
    keys: &[
        key(
            "path",
            Kind::Text("\"stdout\" or the path of a file"),
            Default::Value("\"stdout\""),
            "`\"stdout\"`, or a file that is appended to and opened again on signal USR1.",
        ),
        key(
            "format",
            Kind::Choice(&["json", "combined"]),
            Default::Value("\"json\""),
            "`json`: one object a line with all phase times and the end code. `combined`: the format of Apache and nginx.",
        ),
    ],
};

pub(crate) static PROCESS: Table = Table {
    name: "process",
    header: "[process]",
    doc: "The process as a whole. A change needs a restart.",
    keys: &[
        key(
            "workers",
            Kind::OrWord("auto", &Kind::Int { min: 1, max: 1024 }),
            Default::Value("\"auto\""),
            "Worker threads; `\"auto\"` is one for each core.",
        ),
        key(
            "user",
            Kind::Text("the name of a user"),
            Default::Absent("the user does not change"),
            "User to become after the listeners are bound, so that port 80 needs no root afterwards.",
        ),
        key(
            "group",
            Kind::Text("the name of a group"),
            Default::Absent("the user's primary group, if `user` is set"),
            "Group to become.",
        ),
        key(
            "shutdown_timeout",
            Kind::Duration { min: secs(0), max: secs(86_400) },
            Default::Value("\"30s\""),
            "On TERM and INT: how long requests in flight may take before they are cut.",
        ),
        key(
            "nameserver",
            Kind::Text("an address with port such as \"10.0.0.2:53\""),
            Default::Absent("the name servers of `/etc/resolv.conf`"),
            "The name server that is asked for the host names of endpoints, over UDP, and over TCP if an answer is too \
             long. `/etc/hosts` comes first either way.",
        ),
    ],
};

pub(crate) fn metrics(node: &Node, report: &mut Report) -> Option<Metrics> {
    let value = node.text("bind")?;
    let bind = inet(value, "127.0.0.1:9901", report)?;
    if node.bool("enabled") && bind.port() == 0 {
        port_zero(value, report);
    }
    node.bool("enabled").then_some(Metrics { bind })
}

/// An IP address with a port; anything else is reported, with `example` as the way to write it.
pub(crate) fn inet(value: &Value, example: &str, report: &mut Report) -> Option<SocketAddr> {
    match syntax::target(value.text()) {
        Ok(Target::Address(Address::Inet(addr))) => return Some(addr),
        Ok(_) => {
            let message = format!("{} is not an IP address with a port", quoted(value.text()));
            report.error(codes::BAD_ADDRESS, &value.span, message).help(format!("write as \"{example}\""));
        }
        Err(fault) => fault.report(value, report),
    }
    None
}

/// Port 0 to listen on: allowed, because tests need it, but it is rarely meant.
pub(crate) fn port_zero(value: &Value, report: &mut Report) {
    report
        .warning(codes::RANDOM_PORT, &value.span, "port 0: the system chooses another port at each start")
        .help("write the port that clients are to use");
}

pub(crate) fn access_log(node: &Node, report: &mut Report) -> Option<AccessLog> {
    let path = node.text("path")?;
    let target = match path.text() {
        "stdout" => LogTarget::Stdout,
        text if text.contains('\0') || text.ends_with('/') => {
            report
                .error(codes::BAD_FILE, &path.span, format!("{} is not the path of a file", quoted(text)))
                .help("write \"stdout\" or a path such as \"/var/log/weir/access.log\"");
            return None;
        }
        text => LogTarget::File(PathBuf::from(text)),
    };
    let format = if node.str("format") == "combined" { LogFormat::Combined } else { LogFormat::Json };
    Some(AccessLog { target, format })
}

pub(crate) fn process(node: Option<&Node>, report: &mut Report) -> Process {
    let Some(node) = node else {
        return Process { workers: None, user: None, group: None, shutdown_timeout: secs(30), nameserver: None };
    };
    Process {
        workers: node.int("workers").and_then(|workers| u16::try_from(workers).ok()),
        user: account(node, "user", report),
        group: account(node, "group", report),
        shutdown_timeout: node.duration("shutdown_timeout"),
        nameserver: node.text("nameserver").and_then(|value| inet(value, "10.0.0.2:53", report)),
    }
}

fn account(node: &Node, key: &str, report: &mut Report) -> Option<Arc<str>> {
    let value = node.text(key)?;
    let name = value.text();
    if let Some((at, wrong)) = name.char_indices().find(|(_, c)| c.is_whitespace() || c.is_control() || *c == ':') {
        let span = value.part(at..at + wrong.len_utf8());
        let message = format!("{} cannot stand in the name of a {key}", quoted(&wrong.to_string()));
        report.error(codes::BAD_ACCOUNT, &span, message);
    }
    Some(Arc::from(name))
}
