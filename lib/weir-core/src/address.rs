//! Where an endpoint or a listener is: an IP address with a port, or a Unix socket's path.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// A resolved transport address. Cheap to clone. Host names are not addresses: they are resolved
/// by a discovery source first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A stream socket in the file system (`unix:/run/app.sock`).
    Unix(Arc<Path>),
}

/// The text is neither `IP:PORT`, `[IPv6]:PORT` nor `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseAddressError;

impl Address {
    /// Reads `127.0.0.1:80`, `[::1]:80` or `unix:/path`.
    pub fn parse(text: &str) -> Result<Self, ParseAddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.contains('\0') {
                return Err(ParseAddressError);
            }
            return Ok(Self::Unix(Arc::from(Path::new(path))));
        }
        text.parse().map(Self::Inet).map_err(|_| ParseAddressError)
    }

    /// The socket address, unless this is a Unix socket.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Inet(addr)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ParseAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected IP:PORT, [IPv6]:PORT or unix:PATH")
    }
}

impl std::error::Error for ParseAddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_round_trips() {
        for text in ["127.0.0.1:80", "[::1]:8080", "unix:/run/app.sock"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "localhost:80", "127.0.0.1", "unix:", "unix:a\0b", "1.2.3.4:70000"] {
            assert_eq!(Address::parse(text), Err(ParseAddressError), "{text:?}");
        }
    }
}
