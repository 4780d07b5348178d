//! HikariCP: from Debian's package, driven by the Java programs in `java/`, which are compiled here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Outcome, child};

/// Libraries that it needs, and the Debian package that has each.
const JARS: &[(&str, &str)] = &[
    ("/usr/share/java/HikariCP.jar", "libhikaricp-java"),
    ("/usr/share/java/slf4j-api.jar", "libslf4j-java"),
    ("/usr/share/java/slf4j-nop.jar", "libslf4j-java"),
];
const COMPILER: (&str, &str) = ("/usr/bin/javac", "default-jdk-headless");
/// The sources.
const SOURCES: &[&str] = &["PoolBench.java", "StubConnection.java", "StubDataSource.java"];
/// Limit for one installation, and for compiling.
const INSTALL_LIMIT: Duration = Duration::from_mins(10);
const COMPILE_LIMIT: Duration = Duration::from_mins(2);

/// Where the classes go: beside this program.
fn classes() -> Outcome<PathBuf> {
    let own = std::env::current_exe().map_err(|e| format!("where am I: {e}"))?;
    Ok(own.parent().unwrap_or(Path::new(".")).join("bench-pool-java"))
}

fn class_path() -> Outcome<String> {
    let classes = classes()?.display().to_string();
    Ok(std::iter::once(classes.as_str()).chain(JARS.iter().map(|(jar, _)| *jar)).collect::<Vec<_>>().join(":"))
}

/// Installs what is missing and compiles.
///
/// # Errors
/// With the step that failed.
pub fn prepare() -> Outcome {
    let wanted = JARS.iter().chain(std::iter::once(&COMPILER));
    let mut missing: Vec<&str> = wanted.filter(|(file, _)| !Path::new(file).exists()).map(|(_, name)| *name).collect();
    missing.dedup();
    if !missing.is_empty() {
        install(&missing)?;
    }
    let folder = classes()?;
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut javac = Command::new(COMPILER.0);
    javac.arg("-Xlint:all").arg("-d").arg(&folder).arg("-cp").arg(class_path()?);
    javac.args(SOURCES.iter().map(|source| crate::home().join("java").join(source)));
    child::run("javac", &mut javac, COMPILE_LIMIT).map(drop)
}

fn install(packages: &[&str]) -> Outcome {
    eprintln!("installing {}", packages.join(" "));
    let apt_get = |args: &[&str]| {
        let mut command = if rustix::process::getuid().is_root() {
            Command::new("env")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "env"]);
            sudo
        };
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]).args(args);
        child::run("apt-get", &mut command, INSTALL_LIMIT).map(drop)
    };
    // The package lists may be old while the packages are at hand, so a failed update is only told.
    if let Err(e) = apt_get(&["update"]) {
        eprintln!("{e}");
    }
    apt_get(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

/// The program, ready for its arguments: as those of `bench-pool cell`, `bench-pool spike-of` and `bench-pool down-of`
/// without the peer.
///
/// # Errors
/// If the folder of this program is not known.
pub fn command() -> Outcome<Command> {
    let mut java = Command::new("java");
    // Small stacks, for thousands of threads.
    java.args(["-Xss256k", "-cp"]).arg(class_path()?).arg("PoolBench");
    Ok(java)
}

/// The version of Debian's package.
pub fn version() -> Option<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${Version}", "libhikaricp-java"]);
    child::run("dpkg-query", &mut query, Duration::from_secs(10)).ok()
}
