//! Redis, on a port of its own, in memory only.

use std::process::Command;

use rustix::process::Signal;

use super::database::run;
use super::loopback;
use crate::{PATIENCE, Process, TempDir, free_port};

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    run: u32,
    port: u16,
    dir: TempDir,
    options: Vec<String>,
}

impl Redis {
    /// Starts a server with these options (`--name`, `value`, …) besides the usual ones.
    ///
    /// # Panics
    /// If it cannot be started; with its output.
    pub fn run(options: &[&str]) -> Self {
        let options = options.iter().map(ToString::to_string).collect();
        let mut server = Self { process: None, run: 0, port: free_port(), dir: TempDir::new("redis"), options };
        server.start();
        server
    }

    /// Starts it again, empty, on the same port. Returns when it takes connections.
    ///
    /// # Panics
    /// If it cannot be started; with its output.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(self.dir.path()).args(&self.options);
        self.run += 1;
        let mut process = Process::spawn(&format!("redis-{}", self.run), command, self.dir.path());
        process.wait_connect(loopback(self.port), PATIENCE);
        self.process = Some(process);
    }

    /// Ends it at once, without a word to its clients.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops it where it is: its connections stay open, the kernel accepts others, and nothing is answered.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Redis::pause`].
    pub fn go_on(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process {
            process.signal(signal);
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How a client reaches it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What a command returns, as `redis-cli` prints it.
    ///
    /// # Panics
    /// If the server cannot be reached.
    pub fn command(&self, words: &[&str]) -> String {
        run(Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words)).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_and_comes_back() {
        let mut server = Redis::run(&["--maxclients", "50"]);
        assert_eq!(server.command(&["set", "a", "1"]), "OK");
        assert!(server.command(&["config", "get", "maxclients"]).ends_with("50"));
        server.kill();
        server.start();
        assert_eq!(server.command(&["get", "a"]), "");
    }
}
