//! Programs that end, and a server that runs meanwhile.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::Outcome;

/// The last lines of a program's error output that are shown.
const SHOWN_LINES: usize = 20;
/// How long the stub server may take to start.
const SERVER_START: Duration = Duration::from_secs(10);

/// Kills its program when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gather(mut from: impl Read + Send + 'static, to: mpsc::Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = to.send(bytes);
    });
}

/// Runs a program to its end and returns what it wrote.
///
/// # Errors
/// If it fails, or runs longer than `limit`: it is killed then.
pub fn run(name: &str, command: &mut Command, limit: Duration) -> Outcome<String> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child =
        Killed(child.map_err(|e| format!("cannot start {name} ({}): {e}", command.get_program().display()))?);
    let (out, output) = mpsc::channel();
    let (err, errors) = mpsc::channel();
    if let Some(stdout) = child.0.stdout.take() {
        gather(stdout, out);
    }
    if let Some(stderr) = child.0.stderr.take() {
        gather(stderr, err);
    }
    let output = match output.recv_timeout(limit) {
        Ok(output) => output,
        Err(RecvTimeoutError::Timeout) => return Err(format!("{name} hangs: ended after {limit:?}")),
        Err(RecvTimeoutError::Disconnected) => return Err(format!("{name}: no output")),
    };
    // It has closed its output, so it is about to end.
    let status = child.0.wait().map_err(|e| format!("{name}: {e}"))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&output).into_owned());
    }
    let errors = errors.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    let errors = String::from_utf8_lossy(&errors).into_owned();
    let lines: Vec<&str> = errors.lines().collect();
    let shown = lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default();
    Err(format!("{name}: {status}\n{}", shown.join("\n")))
}

/// This program.
///
/// # Errors
/// If the system does not know where it is.
pub fn own() -> Outcome<Command> {
    std::env::current_exe().map(Command::new).map_err(|e| format!("where am I: {e}"))
}

/// The [stub server](crate::stub), in a process of its own; it ends with this one, or when it is dropped.
pub struct Server {
    _child: Killed,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// If it does not tell its address in time.
    pub fn start(delay: Duration) -> Outcome<Self> {
        let mut command = own()?;
        command.args(["stub", "--delay", &format!("{}ms", delay.as_millis())]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = Killed(child.map_err(|e| format!("stub server: {e}"))?);
        let (to, line) = mpsc::channel();
        if let Some(stdout) = child.0.stdout.take() {
            std::thread::spawn(move || {
                let mut line = String::new();
                let _ = BufReader::new(stdout).read_line(&mut line);
                let _ = to.send(line);
            });
        }
        let line = line.recv_timeout(SERVER_START).map_err(|_| "the stub server does not start".to_owned())?;
        let address = line.trim().parse().map_err(|_| format!("the stub server says {line:?}"))?;
        Ok(Self { _child: child, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_hangs_is_ended_and_what_fails_is_told() {
        assert_eq!(run("x", &mut shell("echo fine"), Duration::from_mins(1)).unwrap(), "fine\n");
        let failed = run("x", &mut shell("echo why >&2; exit 3"), Duration::from_mins(1)).unwrap_err();
        assert!(failed.contains("why") && failed.contains('3'), "{failed}");
        let hangs = run("x", &mut shell("exec sleep 600"), Duration::from_millis(50)).unwrap_err();
        assert!(hangs.contains("hangs"), "{hangs}");
    }
}
