//! A cable between two networks of the test's own, on which packets can be made to vanish: what a client sees when a switch dies, a
//! firewall forgets a connection or a machine loses its power. Nobody is told anything.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::namespace::Namespace;

/// Its ends have this name, each in its own network.
const DEVICE: &str = "weir0";
/// Addresses that are nobody's: for documentation (RFC 5737).
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Two networks, each with one end of a cable (a `veth` pair). They are gone when this is.
#[derive(Debug)]
pub struct Cable {
    here: Namespace,
    there: Namespace,
}

/// How a cable fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outage {
    /// Packets are thrown away at both ends when they arrive. The link is up: a firewall, or a router beyond.
    Packets,
    /// The far end is unplugged: the link has no carrier, and the other end's address cannot be found any more.
    Link,
}

impl Cable {
    /// Lays one, and puts the calling thread, with what it starts afterwards, at the near end.
    ///
    /// # Panics
    /// Without root.
    pub fn lay() -> Self {
        let cable = Self { here: Namespace::make(), there: Namespace::make() };
        let far = cable.there.pid().to_string();
        cable.here.enter();
        call("ip", &["link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns", &far]);
        cable.there(|| plug_in(THERE));
        plug_in(HERE);
        cable
    }

    /// The address of the far end.
    pub fn far_address(&self) -> Ipv4Addr {
        THERE
    }

    /// Does something at the far end, where also the processes and threads are that it starts.
    ///
    /// # Panics
    /// Without root.
    pub fn there<T>(&self, work: impl FnOnce() -> T) -> T {
        self.there.enter();
        let result = work();
        self.here.enter();
        result
    }

    /// Packets that have left the calling thread's end.
    ///
    /// # Panics
    /// If the thread is at neither end.
    pub fn sent(&self) -> u64 {
        const TABLE: &str = "/proc/thread-self/net/dev";
        let table = std::fs::read_to_string(TABLE).unwrap_or_else(|e| panic!("cannot read {TABLE}: {e}"));
        let figures = table.lines().find_map(|line| line.trim().strip_prefix(DEVICE)?.strip_prefix(':'));
        // Eight of what was received; then bytes and packets sent.
        let sent = figures.and_then(|figures| figures.split_whitespace().nth(9)?.parse().ok());
        sent.unwrap_or_else(|| panic!("no {DEVICE} in {TABLE}: {table}"))
    }

    /// From now on nothing gets through.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn fail(&self, outage: Outage) {
        match outage {
            Outage::Packets => {
                // What asks for addresses passes: a router in between would answer that as ever.
                let rules = format!(
                    "table netdev hole {{ chain in {{ type filter hook ingress device {DEVICE} priority 0; meta protocol ip drop; \
                     }}; }}"
                );
                call("nft", &[&rules]);
                self.there(|| call("nft", &[&rules]));
            }
            Outage::Link => self.there(|| call("ip", &["link", "set", DEVICE, "down"])),
        }
    }

    /// Ends [`Cable::fail`].
    ///
    /// # Panics
    /// If it has not failed so.
    pub fn mend(&self, outage: Outage) {
        match outage {
            Outage::Packets => {
                let call = || call("nft", &["delete", "table", "netdev", "hole"]);
                self.there(call);
                call();
            }
            Outage::Link => self.there(|| call("ip", &["link", "set", DEVICE, "up"])),
        }
    }
}

fn plug_in(address: Ipv4Addr) {
    call("ip", &["address", "add", &format!("{address}/24"), "dev", DEVICE]);
    call("ip", &["link", "set", DEVICE, "up"]);
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
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::{PATIENCE, eventually};

    #[test]
    fn packets_vanish_and_come_again() {
        let cable = Cable::lay();
        let listener = cable.there(|| TcpListener::bind((cable.far_address(), 7)).unwrap());
        let address = SocketAddr::from((cable.far_address(), 7));
        let connect = |millis| TcpStream::connect_timeout(&address, Duration::from_millis(millis));
        let before = cable.sent();
        assert!(connect(10_000).is_ok() && cable.sent() >= before + 2, "what is sent is counted");
        drop(listener.accept());
        for outage in [Outage::Packets, Outage::Link] {
            let mut stream = connect(10_000).unwrap();
            let (mut other, _) = listener.accept().unwrap();
            cable.fail(outage);
            assert_eq!(connect(100).unwrap_err().kind(), std::io::ErrorKind::TimedOut, "{outage:?}");
            // Nobody is told: what is written is taken, and does not arrive.
            stream.write_all(b"x").unwrap();
            other.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let error = other.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{outage:?}");
            cable.mend(outage);
            other.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(other.read(&mut [0]).unwrap(), 1, "{outage:?}: what was on its way arrives late");
            eventually(PATIENCE, "it can be reached again", || connect(1_000).is_ok());
            drop(listener.accept());
        }
    }
}
