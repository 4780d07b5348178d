//! Running programs: killed with their whole process group when the guard is dropped, and every wait is
//! bounded and ends on Ctrl-C.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::Outcome;

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on INT and TERM make every wait fail, so that all guards are dropped on the way out.
///
/// # Errors
/// If the handlers cannot be set.
pub fn catch_interrupts() -> Outcome {
    let flag = Arc::clone(INTERRUPTED.get_or_init(Arc::default));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag)).map_err(|e| format!("signal handler: {e}"))?;
    }
    Ok(())
}

/// Waits, at most until Ctrl-C.
///
/// # Errors
/// When interrupted.
#[expect(clippy::disallowed_methods, reason = "a measuring window has a length; nothing is waited for")]
pub fn pause(duration: Duration) -> Outcome {
    let end = Instant::now() + duration;
    loop {
        if INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err("interrupted".to_owned());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}

/// Reads a level until it is reached.
///
/// # Errors
/// At the deadline, with what was seen last; when interrupted.
pub fn wait_until<T>(what: &str, deadline: Duration, mut level: impl FnMut() -> Outcome<T>) -> Outcome<T> {
    let end = Instant::now() + deadline;
    loop {
        match level() {
            Ok(value) => return Ok(value),
            Err(seen) if Instant::now() >= end => {
                return Err(format!("{what}: not within {deadline:?}; last seen: {seen}"));
            }
            Err(_) => pause(Duration::from_millis(5))?,
        }
    }
}

/// A running program.
#[derive(Debug)]
pub struct Guard {
    /// What it is called in messages.
    pub name: String,
    child: Child,
    log: std::path::PathBuf,
}

impl Guard {
    /// Starts a program whose two output streams go to `NAME.log` in `folder`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(name: &str, command: &mut Command, folder: &Path) -> Outcome<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let copy = file.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file).stderr(copy).process_group(0);
        let child =
            command.spawn().map_err(|e| format!("cannot start {name} ({}): {e}", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// An error if it has ended.
    ///
    /// # Errors
    /// With its status and the end of its output.
    pub fn check_alive(&mut self) -> Outcome {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} ended with {status}\n{}", self.name, tail(&self.output()))),
            Err(e) => Err(format!("{}: {e}", self.name)),
        }
    }

    /// Sends a signal to the main process.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// At the deadline.
    pub fn wait(&mut self, deadline: Duration) -> Outcome<ExitStatus> {
        let name = format!("end of {}", self.name);
        wait_until(&name, deadline, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".to_owned()),
            Err(e) => Err(e.to_string()),
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
