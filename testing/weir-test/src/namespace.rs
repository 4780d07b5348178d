//! A network of the test's own: a loopback device that nobody else uses, on which packets can be made to vanish.
//!
//! It belongs to the thread that made it, and to what that thread starts afterwards: threads, runtimes, servers. It is gone
//! when the test is. Needs root.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{PATIENCE, Process, TempDir};

/// The network that the thread is in.
#[derive(Debug)]
pub struct Namespace {
    /// Keeps it in being.
    holder: Process,
    #[expect(dead_code, reason = "the output of the holder lies in it")]
    dir: TempDir,
}

impl Namespace {
    /// Puts the calling thread into a network of its own.
    ///
    /// # Panics
    /// Without root.
    pub fn enter() -> Self {
        let dir = TempDir::new("namespace");
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "1000000"]);
        let mut holder = Process::spawn("namespace", command, dir.path());
        let path = format!("/proc/{}/ns/net", holder.pid());
        let own = std::fs::read_link("/proc/thread-self/ns/net").ok();
        holder.wait_level("has a network of its own (which needs root)", PATIENCE, |_| {
            let its = std::fs::read_link(&path).ok();
            if its.is_some() && its != own { Ok(()) } else { Err("it has ours".to_owned()) }
        });
        let network = File::open(&path).unwrap_or_else(|e| panic!("cannot open {path}: {e}"));
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .unwrap_or_else(|e| panic!("cannot enter {path}: {e}"));
        call("ip", &["link", "set", "lo", "up"]);
        Self { holder, dir }
    }

    /// From now on, packets from and to this TCP port vanish.
    ///
    /// # Panics
    /// If the rules cannot be set.
    pub fn open_hole(&mut self, port: u16) {
        assert!(self.holder.is_running(), "the network is gone");
        let rules = format!(
            "table inet hole {{ chain in {{ type filter hook input priority 0; tcp dport {port} drop; tcp sport {port} drop; }}; }}"
        );
        call("nft", &[&rules]);
    }

    /// Ends [`Namespace::open_hole`].
    ///
    /// # Panics
    /// If there is none.
    pub fn close_hole(&mut self) {
        call("nft", &["delete", "table", "inet", "hole"]);
    }
}

fn call(program: &str, args: &[&str]) {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("cannot start {program}: {e}; `cargo xtask test` installs what the tests need"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    #[test]
    fn packets_vanish_and_come_again() {
        let mut network = Namespace::enter();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 7)).unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let connect = |millis| TcpStream::connect_timeout(&address, Duration::from_millis(millis));
        assert!(connect(10_000).is_ok());
        network.open_hole(7);
        assert_eq!(connect(100).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        network.close_hole();
        assert!(connect(10_000).is_ok());
    }
}
