//! Networks of the test's own: network namespaces that nobody else uses. Needs root.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{PATIENCE, Process, TempDir};

/// A network. It is gone when this is.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Keeps it in being.
    holder: Process,
    #[expect(dead_code, reason = "the output of the holder lies in it")]
    dir: TempDir,
}

impl Namespace {
    /// A network with a loopback device and nothing else.
    ///
    /// # Panics
    /// Without root.
    pub(crate) fn make() -> Self {
        let dir = TempDir::new("namespace");
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 1000000"]);
        let mut holder = Process::spawn("namespace", command, dir.path());
        holder.wait_log("up", PATIENCE);
        Self { holder, dir }
    }

    /// The process that is in it for as long as it is there.
    pub(crate) fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// Moves the calling thread into it, and with the thread what it starts afterwards: threads, runtimes, servers.
    ///
    /// # Panics
    /// Without root.
    pub(crate) fn enter(&self) {
        let path = format!("/proc/{}/ns/net", self.pid());
        let network = File::open(&path).unwrap_or_else(|e| panic!("cannot open {path}: {e}"));
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .unwrap_or_else(|e| panic!("cannot enter {path}: {e}"));
    }
}
