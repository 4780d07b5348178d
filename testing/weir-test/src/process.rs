//! A guard around a real program.
//!
//! The program gets a process group of its own, which is killed as a whole when the guard is dropped, so
//! that servers with worker processes leave nobody behind. Its main process also dies with the thread
//! that started it (`PR_SET_PDEATHSIG`): a test runner that kills a hanging test leaves no server
//! behind either. Keep the guard in the thread that made it.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, set_parent_process_death_signal, waitid,
};

use crate::eventually;

/// Lines of output shown when a program fails a test.
const SHOWN_LINES: usize = 40;

/// A running program whose output goes to files.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; `name` names its output files in `folder` and the messages about it.
    ///
    /// # Panics
    /// If the program cannot be started or the files cannot be made.
    pub fn spawn(name: &str, mut command: Command, folder: &Path) -> Self {
        let stdout = folder.join(format!("{name}.stdout"));
        let stderr = folder.join(format!("{name}.stderr"));
        let create = |path: &Path| File::create(path).unwrap_or_else(|e| panic!("cannot make {}: {e}", path.display()));
        command.stdin(Stdio::null()).stdout(create(&stdout)).stderr(create(&stderr)).process_group(0);
        die_with_parent(&mut command);
        let child = command.spawn().unwrap_or_else(|e| {
            panic!(
                "cannot start {name} ({}): {e}; `cargo xtask test` installs what the tests need",
                command.get_program().display()
            )
        });
        Self { name: name.to_owned(), child, stdout, stderr, status: None }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.try_status().is_none()
    }

    /// Waits until something accepts connections at `address`.
    ///
    /// # Panics
    /// If the program ends before, or at the deadline; with its last output.
    pub fn wait_connect(&mut self, address: SocketAddr, deadline: Duration) {
        self.wait_level(&format!("listens on {address}"), deadline, |_| {
            TcpStream::connect(address).map(drop).map_err(|e| e.to_string())
        });
    }

    /// Waits until a line of its output (either stream) contains `text`.
    ///
    /// # Panics
    /// If the program ends before, or at the deadline; with its last output.
    pub fn wait_log(&mut self, text: &str, deadline: Duration) {
        self.wait_level(&format!("has written {text:?}"), deadline, |this| {
            if this.stdout().contains(text) || this.stderr().contains(text) {
                Ok(())
            } else {
                Err("no such line".to_owned())
            }
        });
    }

    /// Waits for any level of a program that has to stay alive meanwhile.
    ///
    /// # Panics
    /// If the program ends before, or at the deadline; with its last output.
    pub fn wait_level(&mut self, what: &str, deadline: Duration, mut level: impl FnMut(&Self) -> Result<(), String>) {
        let result = eventually(deadline, &format!("{} {what}", self.name), || {
            if let Some(status) = self.try_status() {
                return Ok(Err(format!("{} ended with {status} before it {what}\n{}", self.name, self.last_output())));
            }
            level(self).map(Ok).map_err(|seen| format!("{seen}\n{}", self.last_output()))
        });
        if let Err(message) = result {
            panic!("{message}");
        }
    }

    /// Sends a signal to the main process.
    pub fn signal(&mut self, signal: Signal) {
        if self.try_status().is_none() {
            let _ = kill_process(self.group(), signal);
        }
    }

    /// Sends a signal to the main process and all processes that it has started.
    pub fn signal_group(&mut self, signal: Signal) {
        if self.try_status().is_none() {
            let _ = kill_process_group(self.group(), signal);
        }
    }

    /// Waits for the program to end by itself.
    ///
    /// # Panics
    /// At the deadline; with its last output.
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let name = self.name.clone();
        eventually(deadline, &format!("{name} ends"), || {
            self.try_status().ok_or_else(|| format!("it runs\n{}", self.last_output()))
        })
    }

    /// Kills the whole group and waits.
    pub fn kill(&mut self) {
        // While the child has not been waited for, its id cannot be anybody else's.
        if self.try_status().is_none() {
            let _ = kill_process_group(self.group(), Signal::KILL);
            self.status = self.child.wait().ok();
        }
    }

    fn try_status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            let ended = waitid(WaitId::Pid(self.group()), look)
                .unwrap_or_else(|e| panic!("cannot wait for {}: {e}", self.name));
            if ended.is_some() {
                // Workers may have outlived their parent. It is reaped after the signal: until then the
                // number of the group cannot be given to anybody else.
                let _ = kill_process_group(self.group(), Signal::KILL);
                self.status = self.child.wait().ok();
            }
        }
        self.status
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn last_output(&self) -> String {
        format!("--- {} stdout\n{}\n--- stderr\n{}", self.name, tail(&self.stdout()), tail(&self.stderr()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.last_output());
        }
    }
}

#[expect(unsafe_code, reason = "the death signal can be set only by the child itself, between fork and exec")]
fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure runs in the forked child and makes one prctl system call: async-signal-safe, no
    // allocation, no lock.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PATIENCE, TempDir};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_status_are_seen() {
        let dir = TempDir::new("process");
        let mut process = Process::spawn("hello", shell("echo out; echo err >&2; exit 3"), dir.path());
        assert_eq!(process.wait_exit(PATIENCE).code(), Some(3));
        assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn the_whole_group_dies_with_the_guard() {
        let dir = TempDir::new("process");
        let mut process = Process::spawn("parent", shell("sleep 1000 & echo child $!; wait"), dir.path());
        process.wait_log("child ", PATIENCE);
        let child: u32 = process.stdout().trim().trim_start_matches("child ").parse().unwrap();
        drop(process);
        eventually(PATIENCE, "the grandchild is gone", || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            // A zombie that init has not reaped yet is dead enough.
            stat.is_empty() || stat.contains(") Z ")
        });
    }

    #[test]
    #[should_panic(expected = "ended with exit status: 7 before it has written \"never\"")]
    fn an_early_end_is_told() {
        let dir = TempDir::new("process");
        Process::spawn("short", shell("exit 7"), dir.path()).wait_log("never", PATIENCE);
    }
}
