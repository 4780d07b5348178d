//! MariaDB, on a port of its own, without the guarantees that cost time.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use super::database::{Account, data_folder, run};
use super::loopback;
use crate::{PATIENCE, Process, TempDir, free_port};

/// A MariaDB server. `root` may log in from this machine without a password.
#[derive(Debug)]
pub struct Mariadb {
    process: Option<Process>,
    run: u32,
    port: u16,
    dir: TempDir,
    data: PathBuf,
    account: Account,
    options: Vec<String>,
}

/// Small, or copying the data folder would take longer than starting the server.
const SIZES: [&str; 2] = ["--innodb-log-file-size=4M", "--innodb-data-file-path=ibdata1:4M:autoextend"];

impl Mariadb {
    /// Starts a server with these options (`--name=value`) besides the usual ones.
    ///
    /// # Panics
    /// If it cannot be started; with its output.
    pub fn run(options: &[&str]) -> Self {
        let dir = TempDir::new("mariadb");
        let account = Account::of("mysql");
        let data = data_folder("mariadb", account, dir.path(), |target| {
            let mut command = Command::new("mariadb-install-db");
            account.set(&mut command);
            command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
            run(command.args(SIZES).arg(format!("--datadir={}", target.display())));
        });
        let options = options.iter().map(ToString::to_string).collect();
        let mut server = Self { process: None, run: 0, port: free_port(), dir, data, account, options };
        server.start();
        server
    }

    /// Starts it again on the same port. Returns when it takes connections.
    ///
    /// # Panics
    /// If it cannot be started; with its output.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let mut command = Command::new(program());
        self.account.set(&mut command);
        let data = self.data.display();
        command.args(["--no-defaults", "--skip-name-resolve", "--bind-address=127.0.0.1", "--skip-log-bin"]);
        command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M"]).args(SIZES);
        command.arg(format!("--datadir={data}")).arg(format!("--tmpdir={data}")).arg(format!("--port={}", self.port));
        command.arg(format!("--socket={data}/socket")).arg(format!("--pid-file={data}/pid")).args(&self.options);
        self.run += 1;
        let mut process = Process::spawn(&format!("mariadb-{}", self.run), command, self.dir.path());
        process.wait_log("ready for connections", PATIENCE);
        process.wait_connect(loopback(self.port), PATIENCE);
        self.process = Some(process);
    }

    /// Ends it in an orderly way.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::TERM);
            process.wait_exit(PATIENCE);
        }
    }

    /// Ends it at once, without a word to its clients.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How a client reaches it, as `root`.
    pub fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/mysql", self.port)
    }

    /// What statements return, one line per row, fields split by tabs.
    ///
    /// # Panics
    /// If a statement fails.
    pub fn sql(&self, statements: &str) -> String {
        let port = self.port.to_string();
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-h", "127.0.0.1", "-P", &port, "-u", "root", "-N", "-B", "-e"]);
        run(command.arg(statements)).trim_end().to_owned()
    }
}

fn program() -> &'static str {
    if std::path::Path::new("/usr/sbin/mariadbd").exists() { "/usr/sbin/mariadbd" } else { "mariadbd" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_and_comes_back_with_its_data() {
        let mut server = Mariadb::run(&["--max-connections=20"]);
        assert_eq!(server.sql("select @@max_connections"), "20");
        server.sql("create database d; create table d.t (n int); insert into d.t values (7)");
        server.stop();
        server.start();
        assert_eq!(server.sql("select n from d.t"), "7");
    }
}
