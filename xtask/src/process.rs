//! Running other programs with a time limit, and stages with their minutes.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// A program call with a limit in seconds. Everything that xtask runs goes through here, so that
/// nothing can hang for ever.
pub(crate) struct Call {
    command: Command,
    shown: String,
    limit_secs: u32,
}

impl Call {
    /// `program` with `args`, in the root folder of the project.
    pub(crate) fn new(program: &str, args: &[&str], limit_secs: u32) -> Self {
        // `timeout` of coreutils; --foreground keeps Ctrl-C working.
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=20"]).arg(limit_secs.to_string()).arg(program).args(args);
        command.current_dir(crate::tree::root());
        Self { command, shown: format!("{program} {}", args.join(" ")), limit_secs }
    }

    /// Sets an environment variable of the program.
    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs it with this process's output.
    pub(crate) fn run(mut self) -> crate::Outcome {
        let status = self.command.status().map_err(|e| format!("cannot run {}: {e}", self.shown))?;
        self.judge(status)
    }

    /// Runs it and returns what it wrote to standard output.
    pub(crate) fn output(mut self) -> Result<String, String> {
        let output = self.command.stderr(Stdio::inherit()).output();
        let output = output.map_err(|e| format!("cannot run {}: {e}", self.shown))?;
        self.judge(output.status)?;
        String::from_utf8(output.stdout).map_err(|_| format!("{}: output is not UTF-8", self.shown))
    }

    /// Runs it with both of its output streams into the file `log`.
    pub(crate) fn run_into(mut self, log: &Path) -> crate::Outcome {
        let failed = |e| format!("cannot write {}: {e}", log.display());
        let file = File::create(log).map_err(failed)?;
        self.command.stdout(file.try_clone().map_err(failed)?).stderr(file);
        self.run()
    }

    /// Runs it, shows both of its output streams as they come, and gives every line to `look`.
    pub(crate) fn watch(mut self, mut look: impl FnMut(&str)) -> crate::Outcome {
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot run {}: {e}", self.shown))?;
        let (send, lines) = std::sync::mpsc::channel();
        let streams: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|s| Box::new(s) as _), child.stderr.take().map(|s| Box::new(s) as _)];
        for stream in streams.into_iter().flatten() {
            let send = send.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for line in lines {
            println!("{line}");
            look(&line);
        }
        let status = child.wait().map_err(|e| format!("{}: {e}", self.shown))?;
        self.judge(status)
    }

    fn judge(&self, status: std::process::ExitStatus) -> crate::Outcome {
        match status.code() {
            Some(0) => Ok(()),
            Some(124 | 137) => Err(format!("{}: not done within {} s", self.shown, self.limit_secs)),
            Some(127) => Err(format!("{}: no such program", self.shown)),
            _ => Err(format!("{}: {status}", self.shown)),
        }
    }
}

/// Runs a stage and prints how many minutes it took.
pub(crate) fn stage<T>(name: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    println!("=== {name}");
    let start = Instant::now();
    let result = work();
    let verdict = if result.is_ok() { "done" } else { "FAILED" };
    println!("=== {name}: {verdict} in {:.1} min", start.elapsed().as_secs_f64() / 60.0);
    result
}

/// Whether a program can be found: on the search path or where Debian keeps servers.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}
