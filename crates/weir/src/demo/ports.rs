//! Free ports for the demonstration.
//!
//! Below the range that the system takes ports of outgoing connections from (32768 and up): a server that is gone for a
//! while must find its port free when it comes back, and a connection to a port of that range on the same machine can even
//! meet itself.

use std::net::{Ipv4Addr, SocketAddr};

use weir_core::Address;
use weir_net::{ListenError, ListenOptions, bind_listener};

/// Ports tried from the wished one upwards.
const TRIES: u16 = 2_000;

/// The wished port of 127.0.0.1 if it is free, else the next free one that is not in `taken`.
pub(crate) fn near(wish: u16, taken: &[SocketAddr]) -> Result<SocketAddr, ListenError> {
    let mut port = wish;
    for _ in 1..TRIES {
        let at = local(port);
        if !taken.contains(&at) && check(at).is_ok() {
            return Ok(at);
        }
        port = port.checked_add(1).unwrap_or(wish);
    }
    check(local(port)).map(|()| local(port))
}

/// Whether something can listen there.
pub(crate) fn check(at: SocketAddr) -> Result<(), ListenError> {
    let options = ListenOptions { backlog: Some(1), ipv6_only: true, unix_mode: 0o600 };
    bind_listener(&Address::Inet(at), 1, &options).map(drop)
}

/// A port of 127.0.0.1.
pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over() {
        let wish = weir_test::free_port();
        let first = near(wish, &[]).unwrap();
        assert_eq!(first.port(), wish);
        let held = std::net::TcpListener::bind(first).unwrap();
        assert!(check(first).is_err());
        let second = near(wish, &[]).unwrap();
        assert!(second.port() > wish);
        assert!(near(wish, &[second]).unwrap().port() > second.port());
        drop(held);
    }
}
