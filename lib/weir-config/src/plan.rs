//! The resolved configuration: typed units, references are ids, every default filled in.
//!
//! A `Plan` is a plain value. It holds the `Params` of the crates below, so that nothing under this
//! crate knows of TOML or serde.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weir_core::{Address, ClusterId, Endpoint, Weight};
use weir_route::{PathPolicy, Rule};

/// Everything that `weir run` needs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Where requests go; [`ClusterId`] is the position in this list.
    pub clusters: Vec<Cluster>,
    /// Where Weir is observed, unless switched off.
    pub metrics: Option<Metrics>,
    /// Where shares of budgets are granted, if there are budgets.
    pub grantor: Option<Grantor>,
    /// Access log, unless switched off.
    pub access_log: Option<AccessLog>,
    /// The process.
    pub process: Process,
}

/// The grantor of budgets.
#[derive(Clone, PartialEq, Eq)]
pub struct Grantor {
    /// Where it listens.
    pub bind: SocketAddr,
    /// What whoever asks has to present.
    pub token: Option<Arc<str>>,
    /// Its budgets; there is one at least.
    pub budgets: Vec<Budget>,
}

impl std::fmt::Debug for Grantor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "(secret)");
        f.debug_struct("Grantor")
            .field("bind", &self.bind)
            .field("token", &token)
            .field("budgets", &self.budgets)
            .finish()
    }
}

/// A number of connections that pools of many processes share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Name in paths, logs and metrics.
    pub name: Arc<str>,
    /// Its numbers and leases.
    pub params: weir_pool_core::budget::GrantorParams,
}

/// One listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name in logs and metrics.
    pub name: Arc<str>,
    /// One or more addresses.
    pub bind: Vec<Bind>,
    /// What is spoken.
    pub protocol: Protocol,
}

/// One address to listen on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bind {
    /// Where.
    pub address: Address,
    /// IPv6 only: accept IPv4 too on `[::]` when false.
    pub ipv6_only: bool,
    /// Unix sockets: permission bits of the socket file.
    pub mode: Option<u32>,
}

/// What a listener speaks.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// HTTP/1.1.
    Http(Box<Http>),
    /// Bytes, forwarded to a cluster.
    Tcp(Tcp),
}

/// Settings of an HTTP listener.
#[derive(Clone, Debug)]
pub struct Http {
    /// Routes in the order of evaluation (most specific first; the compiler has sorted them).
    pub routes: Vec<Rule>,
    /// Doubtful paths.
    pub path_policy: PathPolicy,
    /// Bounds on messages.
    pub limits: weir_http::Limits,
    /// Client time-outs.
    pub timeouts: ClientTimeouts,
    /// Client connections at a time over all workers; `None` = derived from the descriptor limit.
    pub max_connections: Option<u32>,
    /// Forwarding fields.
    pub forwarded: Forwarded,
    /// Custom bodies of Weir's own error responses, by status.
    pub error_pages: BTreeMap<u16, ErrorPage>,
    /// Whether 5xx of Weir's own carry `weir-reason`.
    pub reason_header: bool,
}

/// Settings of a TCP listener.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// Where connections go.
    pub cluster: ClusterId,
    /// Client connections at a time over all workers.
    pub max_connections: Option<u32>,
}

/// Time-outs towards clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientTimeouts {
    /// From the first byte of a request (or from accept) to its complete head.
    pub head: Duration,
    /// An idle keep-alive connection is closed after this.
    pub keep_alive: Duration,
    /// Between two bytes of a body, in either direction.
    pub idle: Duration,
}

/// Forwarding fields towards endpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forwarded {
    /// Peers whose own X-Forwarded-*, Forwarded and X-Real-IP are believed and appended to; everybody
    /// else's are replaced.
    pub trusted: Vec<IpNet>,
    /// X-Forwarded-For, -Proto, -Host and X-Real-IP.
    pub x_forwarded: bool,
    /// RFC 7239 Forwarded.
    pub forwarded: bool,
    /// Via on requests (RFC 9110 section 7.6.3); the pseudonym, or `None` = no Via.
    pub via: Option<Arc<str>>,
    /// X-Request-ID: kept from trusted peers, else made.
    pub request_id: bool,
}

/// An address prefix, `10.0.0.0/8`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpNet {
    /// Network address.
    pub addr: IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

impl IpNet {
    /// Whether `ip` is within. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.addr, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                shift == 32 || (u32::from(net) >> shift) == (u32::from(ip) >> shift)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                shift == 128 || (u128::from(net) >> shift) == (u128::from(ip) >> shift)
            }
            _ => false,
        }
    }
}

/// A custom error response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorPage {
    /// `Content-Type`.
    pub content_type: Arc<str>,
    /// Body, read when the configuration was loaded.
    pub body: Arc<[u8]>,
}

/// One cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Name in routes, logs and metrics.
    pub name: Arc<str>,
    /// Where the endpoints come from, in the order written.
    pub endpoints: Vec<EndpointSpec>,
    /// Algorithm.
    pub balance: weir_balance::Params,
    /// Active checks.
    pub health: weir_health::Params,
    /// Passive ejection.
    pub outlier: weir_resilience::OutlierParams,
    /// Retries.
    pub retry: weir_resilience::RetryParams,
    /// Connections.
    pub pool: weir_pool_core::Params,
    /// Requests in flight and the wait queue, per endpoint.
    pub limit: weir_limit::Params,
    /// Time-outs.
    pub timeouts: weir_resilience::Timeouts,
    /// Below this share of usable endpoints (0.0 to 1.0), health is ignored and all get traffic
    /// (counted and visible); 0.0 = never.
    pub panic_threshold: f64,
}

/// An endpoint as configured: an address, or a host name that stands for several.
#[derive(Clone, PartialEq, Debug)]
pub enum EndpointSpec {
    /// A resolved address.
    Static(Endpoint),
    /// A host name, resolved at start and again when its records expire.
    Dns(DnsEndpoint),
}

/// A host name with the settings of each address behind it.
#[derive(Clone, PartialEq, Debug)]
pub struct DnsEndpoint {
    /// Host name.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// Weight of each address.
    pub weight: Weight,
    /// Zone.
    pub zone: Option<Arc<str>>,
    /// Priority.
    pub priority: u8,
    /// Tags.
    pub tags: BTreeMap<Arc<str>, Arc<str>>,
}

/// The read-only observation listener: `/metrics`, `/ready`, `/live`, `/clusters`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metrics {
    /// Address, loopback by default.
    pub bind: SocketAddr,
}

/// Access log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessLog {
    /// Where to.
    pub target: LogTarget,
    /// Which format.
    pub format: LogFormat,
}

/// Where the access log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file, opened for appending, re-opened on USR1.
    File(PathBuf),
}

/// How a line of the access log looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One JSON object a line, with all phase times and the end code.
    Json,
    /// The combined format of Apache and nginx.
    Combined,
}

/// The process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Worker threads; `None` = one per core.
    pub workers: Option<u16>,
    /// User to become after the listeners are bound.
    pub user: Option<Arc<str>>,
    /// Group to become; default: the user's primary group.
    pub group: Option<Arc<str>>,
    /// TERM and INT: how long requests in flight may take before they are cut.
    pub shutdown_timeout: Duration,
    /// The name server that is asked for the names of endpoints; `None` = those of `/etc/resolv.conf`.
    pub nameserver: Option<SocketAddr>,
}
