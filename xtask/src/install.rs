//! What the tests and the other commands need beyond the compiler: each is installed only if it is missing.

use crate::Outcome;
use crate::process::{Call, is_installed};
use crate::tree;

/// Programs that tests run, and the Debian package that has them.
const DEBIAN: &[(&str, &str)] = &[
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
    ("curl", "curl"),
    ("promtool", "prometheus"),
    ("varnishtest", "varnish"),
    ("valgrind", "valgrind"),
    ("strace", "strace"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("cmake", "cmake"),
    // Off the search path: Debian keeps the programs of each version apart.
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
    ("psql", "postgresql-client-15"),
    ("mariadbd", "mariadb-server"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("python3", "python3-venv"),
];

/// Where the Python packages of the tests are: a virtual environment.
const PYTHON: &str = "target/python";
/// Python packages that tests use, and a module of each: the other side of a protocol, by others than us.
const PYTHON_PACKAGES: &[(&str, &str)] = &[
    ("opentelemetry-proto==1.45.*", "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2"),
    ("rotel==0.0.1a15", "rotel"),
];

/// Cargo subcommands, with the version that CI is known to work with.
const CARGO: &[(&str, &str)] = &[("cargo-nextest", "0.9"), ("cargo-fuzz", "0.13")];

/// Limit for one `apt-get`, in seconds.
const APT_SECS: u32 = 600;
/// Limit for making the virtual environment, and for one `pip install`, in seconds.
const PYTHON_SECS: u32 = 300;
/// Limit for compiling one cargo subcommand, in seconds.
const CARGO_SECS: u32 = 1_500;

/// Installs what is missing.
pub(crate) fn for_tests() -> Outcome {
    let missing: Vec<&str> =
        DEBIAN.iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        apt(&missing)?;
        let still: Vec<&str> =
            DEBIAN.iter().map(|(program, _)| *program).filter(|program| !is_installed(program)).collect();
        if !still.is_empty() {
            return Err(format!(
                "installed {}, but these programs are still missing: {}",
                missing.join(" "),
                still.join(" ")
            ));
        }
    }
    python()?;
    cargo_program("cargo-nextest")
}

/// Makes the virtual environment, and installs in it what is missing.
fn python() -> Outcome {
    let program = tree::root().join(PYTHON).join("bin/python");
    let program = program.to_str().ok_or("the project's folder has a name that is not UTF-8")?;
    let missing = || {
        PYTHON_PACKAGES.iter().filter(|(_, module)| {
            let import = format!("import {module}");
            Call::new(program, &["-c", &import], PYTHON_SECS).output().is_err()
        })
    };
    if !is_installed(program) {
        println!("making {PYTHON}");
        let make = || Call::new("python3", &["-m", "venv", PYTHON], PYTHON_SECS).run();
        if make().is_err() {
            // Debian's own Python comes without.
            apt(&["python3-venv"])?;
            make()?;
        }
    }
    for (package, _) in missing() {
        println!("installing {package}");
        Call::new(program, &["-m", "pip", "install", "--quiet", package], PYTHON_SECS).run()?;
    }
    match missing().next() {
        Some((package, module)) => Err(format!("{package} is installed in {PYTHON}, but has no {module}")),
        None => Ok(()),
    }
}

/// Installs a row of [`CARGO`] if it is missing.
pub(crate) fn cargo_program(program: &str) -> Outcome {
    if is_installed(program) {
        return Ok(());
    }
    let (_, version) =
        CARGO.iter().find(|(known, _)| *known == program).ok_or_else(|| format!("{program} has no known version"))?;
    println!("installing {program} {version}");
    Call::new("cargo", &["install", "--locked", program, "--version", &format!("^{version}")], CARGO_SECS).run()
}

fn apt(packages: &[&str]) -> Outcome {
    println!("installing {}", packages.join(" "));
    let by_hand = format!("install by hand: apt-get install {}", packages.join(" "));
    if !is_installed("apt-get") {
        return Err(format!("there is no apt-get here; {by_hand}"));
    }
    let is_root = Call::new("id", &["-u"], 10).output()?.trim() == "0";
    if !is_root && Call::new("sudo", &["-n", "true"], 20).run().is_err() {
        return Err(format!("neither root nor password-less sudo; {by_hand}"));
    }
    let apt_get = |args: &[&str]| {
        // RUNLEVEL=1 keeps the packages from starting their servers where no systemd decides about it.
        let mut all =
            vec!["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"];
        all.extend_from_slice(args);
        if is_root {
            Call::new("env", &all, APT_SECS).run()
        } else {
            Call::new("sudo", &[&["-n", "env"], all.as_slice()].concat(), APT_SECS).run()
        }
    };
    // The package lists may be old while the packages are at hand, so a failed update is only told.
    if let Err(e) = apt_get(&["update"]) {
        eprintln!("{e}; trying with the package lists that are there");
    }
    let install = [&["install", "-y", "--no-install-recommends"], packages].concat();
    apt_get(&install).map_err(|e| format!("{e}; {by_hand}"))
}
