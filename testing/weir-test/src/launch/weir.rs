//! The built `weir` binary.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;

use super::loopback;
use crate::{Client, PATIENCE, Process, Response, TempDir, free_port};

/// Between two looks at a metric that may still move.
const SETTLING: Duration = Duration::from_millis(20);
/// Looks at most: where there is traffic all the time it never stands still.
const SETTLING_LOOKS: u32 = 5;

/// How a test wants Weir started.
#[derive(Clone, Debug, Default)]
pub struct WeirOptions {
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Command-line arguments after `run FILE`.
    pub args: Vec<String>,
    /// Returns as soon as the process runs, without waiting for its ports.
    pub dont_wait: bool,
}

/// A running `weir run`.
///
/// In the configuration text, `{port}` stands for the port of the listener, `{port2}` for a second one,
/// `{metrics}` for the port of the observation listener, and `{dir}` for the test's folder.
///
/// With `WEIR_TEST_WORKERS` in the test's environment, a configuration without a `[process]` table gets one
/// with that number of workers: the same suite runs with one worker, with the default, and with many.
#[derive(Debug)]
pub struct Weir {
    process: Process,
    port: u16,
    port2: u16,
    metrics: u16,
    config: PathBuf,
    // Last: dropped after the process that writes into it.
    dir: TempDir,
}

impl Weir {
    /// Starts Weir and waits until the listeners that the text mentions accept.
    ///
    /// # Panics
    /// If there is no binary, it ends, or it does not listen in time; with its output.
    pub fn run(config: &str) -> Self {
        Self::run_with(config, &WeirOptions::default())
    }

    /// [`Weir::run`] with options.
    ///
    /// # Panics
    /// See [`Weir::run`].
    pub fn run_with(config: &str, options: &WeirOptions) -> Self {
        let dir = TempDir::new("weir");
        let (port, port2, metrics) = (free_port(), free_port(), free_port());
        let text = with_workers(fill_in(config, dir.path(), port, port2, metrics));
        let file = dir.write("weir.toml", text);
        let mut command = Command::new(weir_binary());
        command.arg("run").arg(&file).args(&options.args).current_dir(dir.path());
        command.envs(options.env.iter().map(|(k, v)| (k, v)));
        let mut process = Process::spawn("weir", command, dir.path());
        if !options.dont_wait {
            for (mark, port) in [("{port}", port), ("{port2}", port2), ("{metrics}", metrics)] {
                if config.contains(mark) {
                    process.wait_connect(loopback(port), PATIENCE);
                }
            }
        }
        Self { process, port, port2, metrics, config: file, dir }
    }

    /// The port that `{port}` stands for.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port that `{port2}` stands for.
    pub fn port2(&self) -> u16 {
        self.port2
    }

    /// The port that `{metrics}` stands for.
    pub fn metrics_port(&self) -> u16 {
        self.metrics
    }

    /// A new connection to `{port}`.
    pub fn client(&self) -> Client {
        Client::local(self.port)
    }

    /// A GET on a connection of its own to `{port}`.
    ///
    /// # Panics
    /// If there is no response.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.client().get(path).unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// The text of `/metrics`.
    ///
    /// # Panics
    /// If there is no 200.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let response = self.observe("/metrics");
        assert_eq!(response.status, 200, "/metrics: {}", response.text());
        response.text()
    }

    /// A GET of the observation listener.
    ///
    /// # Panics
    /// If there is no response.
    #[track_caller]
    pub fn observe(&self, path: &str) -> Response {
        Client::local(self.metrics).get(path).unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// The sum of all series of a metric whose line contains every one of `labels`; `None` if there is none. Read until it
    /// stands still, for a while at most: a worker counts a request when its response is on the way, and on a busy machine the
    /// client may ask before it has.
    ///
    /// # Panics
    /// If `/metrics` does not answer or a value is no number.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let mut value = sum_series(&self.metrics(), name, labels);
        for _ in 0..SETTLING_LOOKS {
            std::thread::park_timeout(SETTLING);
            let before = std::mem::replace(&mut value, sum_series(&self.metrics(), name, labels));
            if value == before {
                break;
            }
        }
        value
    }

    /// Rewrites the configuration file (the same marks stand for the same ports).
    pub fn rewrite_config(&self, config: &str) {
        let text = fill_in(config, self.dir.path(), self.port, self.port2, self.metrics);
        self.dir.write("weir.toml", with_workers(text));
    }

    /// The configuration file.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// The folder of this run.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Sends TERM and waits for the end.
    ///
    /// # Panics
    /// If it runs on after `deadline`.
    pub fn stop_gracefully(&mut self, deadline: Duration) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait_exit(deadline)
    }
}

/// The number of workers that the environment asks for.
const WORKERS: &str = "WEIR_TEST_WORKERS";

fn with_workers(config: String) -> String {
    match std::env::var(WORKERS) {
        Ok(workers) if !config.contains("[process]") => format!("{config}\n[process]\nworkers = {workers}\n"),
        _ => config,
    }
}

fn fill_in(config: &str, dir: &Path, port: u16, port2: u16, metrics: u16) -> String {
    config
        .replace("{port}", &port.to_string())
        .replace("{port2}", &port2.to_string())
        .replace("{metrics}", &metrics.to_string())
        .replace("{dir}", &dir.display().to_string())
}

/// The `weir` binary that belongs to the running test: `WEIR_BIN`, what cargo or nextest say, or the
/// binary in the target folder of the test.
///
/// # Panics
/// If there is none, with the command that builds it.
pub fn weir_binary() -> PathBuf {
    for variable in ["WEIR_BIN", "NEXTEST_BIN_EXE_weir", "CARGO_BIN_EXE_weir"] {
        if let Some(path) = std::env::var_os(variable) {
            return PathBuf::from(path);
        }
    }
    let test = std::env::current_exe().unwrap_or_else(|e| panic!("no path of the test itself: {e}"));
    // target/PROFILE/deps/NAME-HASH, or target/PROFILE/NAME
    let mut binaries = test.ancestors().skip(1).take(2).map(|folder| folder.join("weir"));
    match binaries.find(|path| path.is_file()) {
        Some(path) => path,
        None => {
            panic!("no weir binary beside {}: run `cargo build -p weir` (or `cargo xtask test`) first", test.display())
        }
    }
}

fn sum_series(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let values: Vec<f64> = text
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .map(|line| {
            let value = line.rsplit(' ').next().unwrap_or_default();
            value.parse().unwrap_or_else(|_| panic!("not a sample: {line:?}"))
        })
        .collect();
    if values.is_empty() { None } else { Some(values.iter().sum()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let text = "# TYPE a counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"2\"} 4\na_total_b 9\nc 1.5\n";
        assert_eq!(sum_series(text, "a_total", &[]), Some(7.0));
        assert_eq!(sum_series(text, "a_total", &["x=\"1\""]), Some(3.0));
        assert_eq!(sum_series(text, "c", &[]), Some(1.5));
        assert_eq!(sum_series(text, "d", &[]), None);
    }

    #[test]
    fn marks_are_filled_in() {
        let text = fill_in("bind = \"127.0.0.1:{port}\" {port2} {metrics} {dir}", Path::new("/d"), 1, 2, 3);
        assert_eq!(text, "bind = \"127.0.0.1:1\" 2 3 /d");
    }
}
