//! HAProxy as an endpoint, a client of Weir's listeners, or a second opinion.

use std::process::Command;

use super::loopback;
use crate::{PATIENCE, Process, TempDir, free_port};

/// A running HAProxy with one thread.
#[derive(Debug)]
pub struct Haproxy {
    process: Process,
    port: u16,
    dir: TempDir,
}

impl Haproxy {
    /// Starts HAProxy with these lines after a `defaults` section with time-outs of 20 s; `{port}` in
    /// them stands for its port.
    ///
    /// # Panics
    /// If it cannot be started or refuses the configuration; with its output.
    pub fn run(sections: &str) -> Self {
        let dir = TempDir::new("haproxy");
        let port = free_port();
        let config = format!(
            "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 20s\n  timeout client 20s\n\
             \x20 timeout server 20s\n{}\n",
            sections.replace("{port}", &port.to_string())
        );
        let file = dir.write("haproxy.cfg", config);
        let mut command = Command::new(if std::path::Path::new("/usr/sbin/haproxy").exists() {
            "/usr/sbin/haproxy"
        } else {
            "haproxy"
        });
        command.arg("-db").arg("-f").arg(file);
        let mut process = Process::spawn("haproxy", command, dir.path());
        process.wait_connect(loopback(port), PATIENCE);
        Self { process, port, dir }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of this run.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Origin};

    #[test]
    fn forwards() {
        let origin = Origin::named("behind");
        let haproxy =
            Haproxy::run(&format!("listen l\n  bind 127.0.0.1:{{port}}\n  server s 127.0.0.1:{}", origin.port()));
        assert_eq!(Client::local(haproxy.port()).get("/").unwrap().text(), "behind");
    }
}
