//! PostgreSQL, on a port of its own, without the guarantees that cost time (a test's data need not survive a crash).

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use super::database::{Account, data_folder, run};
use super::loopback;
use crate::{PATIENCE, Process, TempDir, free_port};

/// A PostgreSQL server. Everybody may log in as `postgres` without a password.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    /// Its earlier runs are told apart by this.
    run: u32,
    port: u16,
    dir: TempDir,
    data: PathBuf,
    account: Account,
    settings: Vec<String>,
}

impl Postgres {
    /// Starts a server with these settings (`name=value`) besides the usual ones.
    ///
    /// # Panics
    /// If it cannot be started; with its output.
    pub fn run(settings: &[&str]) -> Self {
        let dir = TempDir::new("postgres");
        let account = Account::of("postgres");
        let data = data_folder("postgres", account, dir.path(), |target| {
            let mut command = Command::new(program("initdb"));
            account.set(&mut command);
            command.args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]);
            run(command.args(["--wal-segsize=1", "--pgdata"]).arg(target));
        });
        let settings = settings.iter().map(ToString::to_string).collect();
        let mut server = Self { process: None, run: 0, port: free_port(), dir, data, account, settings };
        server.start();
        server
    }

    /// Starts it again, after [`Postgres::stop`] or [`Postgres::kill`], on the same port. Returns when it takes connections.
    ///
    /// # Panics
    /// If it cannot be started; with its output.
    pub fn start(&mut self) {
        self.start_quietly();
        let (port, data) = (self.port, self.data.clone());
        let Some(process) = self.process.as_mut() else { unreachable!("was just started") };
        process.wait_connect(loopback(port), PATIENCE);
        process.wait_level("is ready", PATIENCE, |_| {
            // The eighth line says how far it is.
            let state = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            let state = state.lines().nth(7).unwrap_or_default().trim();
            if state == "ready" { Ok(()) } else { Err(format!("it says {state:?}")) }
        });
    }

    /// As [`Postgres::start`], but does not wait until it is ready.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_quietly(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let mut command = Command::new(program("postgres"));
        self.account.set(&mut command);
        command.arg("-D").arg(&self.data).arg("-p").arg(self.port.to_string());
        let folder = format!("unix_socket_directories={}", self.data.display());
        let usual = [
            "listen_addresses=127.0.0.1",
            &folder,
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "shared_buffers=32MB",
            "autovacuum=off",
            "log_connections=on",
            "log_min_messages=info",
        ];
        for setting in usual.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        self.run += 1;
        let process = Process::spawn(&format!("postgres-{}", self.run), command, self.dir.path());
        self.process = Some(process);
    }

    /// Ends it as an administrator would who is in a hurry: sessions are told and ended ("fast").
    pub fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// Ends it at once, without a word to its clients ("immediate"); the data folder is recovered at the next start.
    pub fn kill(&mut self) {
        self.end(Signal::QUIT);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            process.signal(signal);
            process.wait_exit(PATIENCE);
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with its Unix socket.
    pub fn socket_folder(&self) -> &std::path::Path {
        &self.data
    }

    /// How a client reaches it, as `postgres`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// What it has logged in this run.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::stderr).unwrap_or_default()
    }

    /// What statements return, as `psql` prints it: one line per row, fields split by `|`.
    ///
    /// # Panics
    /// If a statement fails.
    pub fn sql(&self, statements: &str) -> String {
        let port = self.port.to_string();
        let mut command = Command::new(program("psql"));
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-X", "-v", "ON_ERROR_STOP=1", "-Atqc"]);
        run(command.arg(statements)).trim_end().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killed, it would leave its shared memory and its children for a moment; and a second panic helps nobody.
        if let Some(process) = self.process.as_mut()
            && !std::thread::panicking()
        {
            process.signal(Signal::QUIT);
            process.wait_exit(PATIENCE);
        }
    }
}

/// Debian keeps the programs of each version in a folder of its own; the newest one.
fn program(name: &str) -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin").join(name))))
        .filter(|(_, path)| path.exists())
        .collect();
    versions.sort();
    versions.pop().map_or_else(|| PathBuf::from(name), |(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_and_comes_back_with_its_data() {
        let mut server = Postgres::run(&["max_connections=20"]);
        assert_eq!(server.sql("show max_connections"), "20");
        server.sql("create table t (n int); insert into t values (7)");
        server.stop();
        server.start();
        assert_eq!(server.sql("select n from t"), "7");
        assert!(server.log().contains("ready to accept connections"), "{}", server.log());
        server.kill();
        server.start();
    }
}
