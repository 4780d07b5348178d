//! nginx as an endpoint (or as a second opinion).

use std::process::Command;

use super::loopback;
use crate::{PATIENCE, Process, TempDir, free_port};

/// A running nginx with one worker.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    port: u16,
    dir: TempDir,
}

impl Nginx {
    /// Starts nginx with these lines inside `server { listen 127.0.0.1:…; … }`.
    ///
    /// # Panics
    /// If it cannot be started or refuses the configuration; with its output.
    pub fn run(server: &str) -> Self {
        Self::run_on(free_port(), server)
    }

    /// [`Nginx::run`] on a certain port: for an endpoint that comes back.
    ///
    /// # Panics
    /// See [`Nginx::run`].
    pub fn run_on(port: u16, server: &str) -> Self {
        let dir = TempDir::new("nginx");
        let root = dir.path().display();
        let config = format!(
            "daemon off;\nworker_processes 1;\npid {root}/pid;\nerror_log stderr warn;\nuser {user};\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n  access_log off;\n  default_type text/plain;\n  keepalive_requests 1000000;\n\
             \x20 client_body_temp_path {root}/body;\n  proxy_temp_path {root}/proxy;\n  fastcgi_temp_path {root}/fastcgi;\n\
             \x20 uwsgi_temp_path {root}/uwsgi;\n  scgi_temp_path {root}/scgi;\n\
             \x20 server {{\n    listen 127.0.0.1:{port};\n{server}\n  }}\n}}\n",
            user = if rustix::process::getuid().is_root() { "root" } else { "nobody" },
        );
        let file = dir.write("nginx.conf", config);
        let mut command =
            Command::new(if std::path::Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" });
        command.arg("-e").arg("stderr").arg("-p").arg(dir.path()).arg("-c").arg(file);
        let mut process = Process::spawn("nginx", command, dir.path());
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
    use crate::Client;

    #[test]
    fn answers() {
        let nginx = Nginx::run("    location / { return 200 \"hello\"; }");
        assert_eq!(Client::local(nginx.port()).get("/").unwrap().text(), "hello");
    }
}
