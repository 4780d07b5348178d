//! Binding addresses: sockets for the workers of one listener, and errors that say what to do.
//!
//! - TCP: one socket per worker with `SO_REUSEPORT`, so that the kernel spreads connections over the
//!   workers without a shared accept queue. `SO_REUSEPORT` alone would let a second process of the same
//!   user bind the address silently; so the address is first tried without it.
//! - Unix: one socket, shared by the workers (each gets a descriptor of its own; the driver registers it
//!   with EPOLLEXCLUSIVE). A file left by a dead process is removed; a living one is not disturbed.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with, sockopt,
};
use weir_core::Address;

/// The longest queue of connections asked for if the system's maximum cannot be read.
const BACKLOG_FALLBACK: i32 = 4096;

/// How to listen.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted; `None`: what `net.core.somaxconn` allows.
    pub backlog: Option<u32>,
    /// Whether an IPv6 address takes IPv6 connections only. If not, `[::]` also takes IPv4 connections
    /// (their peers read as `::ffff:a.b.c.d`).
    pub ipv6_only: bool,
    /// Permission bits of a Unix socket's file, such as `0o660`.
    pub unix_mode: u32,
}

/// A bound listener.
#[derive(Debug)]
pub struct Bound {
    /// The address, with the port that the system chose if 0 was asked for.
    pub address: Address,
    /// One listening socket per worker.
    pub sockets: Vec<OwnedFd>,
    /// For a Unix socket: removes the file when dropped.
    pub file: Option<SocketFile>,
}

/// The file of a Unix socket. Dropping it removes the file, unless another process has put one of its
/// own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process (or another listener of this one) has it.
    #[error(
        "cannot listen on {address}: the address is in use; stop the process that has it (ss -ltnp shows it) or choose another port"
    )]
    InUse {
        /// What was asked for.
        address: Address,
    },
    /// A living process answers on the Unix socket.
    #[error("cannot listen on {address}: a running process answers on this socket; stop it or choose another path")]
    Answered {
        /// What was asked for.
        address: Address,
    },
    /// The path exists and is not a socket.
    #[error(
        "cannot listen on {address}: the path exists and is not a socket; move the file away or choose another path"
    )]
    NotASocket {
        /// What was asked for.
        address: Address,
    },
    /// The user may not bind it.
    #[error("cannot listen on {address}: permission denied; {help}")]
    Permission {
        /// What was asked for.
        address: Address,
        /// What to do.
        help: &'static str,
    },
    /// No interface has the IP address, or the family is switched off, or the directory is missing.
    #[error("cannot listen on {address}: not available here; {help}")]
    NotAvailable {
        /// What was asked for.
        address: Address,
        /// What to do.
        help: &'static str,
    },
    /// The limit of open files is too low.
    #[error(
        "cannot listen on {address}: no file descriptor left; raise the limit of open files (LimitNOFILE, ulimit -n)"
    )]
    Descriptors {
        /// What was asked for.
        address: Address,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {step} failed")]
    Other {
        /// What was asked for.
        address: Address,
        /// The system call.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Binds `address` and listens on it with one socket for each of `workers`.
///
/// # Errors
/// See [`ListenError`]; nothing stays bound after one.
pub fn bind_listener(address: &Address, workers: usize, options: &ListenOptions) -> Result<Bound, ListenError> {
    let backlog = options.backlog.map_or_else(backlog_max, |backlog| i32::try_from(backlog).unwrap_or(i32::MAX));
    match address {
        Address::Inet(wanted) => {
            if wanted.port() != 0 {
                drop(bind_inet(*wanted, options, false)?);
            }
            let mut at = *wanted;
            let mut sockets = Vec::with_capacity(workers);
            for _ in 0..workers.max(1) {
                let fd = bind_inet(at, options, true)?;
                at = local(&fd, at)?;
                listen(&fd, backlog).map_err(|errno| explain(&Address::Inet(at), "listen", errno))?;
                sockets.push(fd);
            }
            Ok(Bound { address: Address::Inet(at), sockets, file: None })
        }
        Address::Unix(path) => bind_unix(path, workers, options, backlog),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some((self.device, self.inode))
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket's file");
        }
    }
}

impl SocketFile {
    /// Leaves the file where it is (another process goes on listening).
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

fn bind_inet(at: SocketAddr, options: &ListenOptions, share: bool) -> Result<OwnedFd, ListenError> {
    let address = Address::Inet(at);
    let fail = |step| move |errno| explain(&Address::Inet(at), step, errno);
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
    let fd = socket_with(family, SocketType::STREAM, flags, None).map_err(fail("socket"))?;
    sockopt::set_socket_reuseaddr(&fd, true).map_err(fail("setsockopt SO_REUSEADDR"))?;
    if share {
        sockopt::set_socket_reuseport(&fd, true).map_err(fail("setsockopt SO_REUSEPORT"))?;
        // Accepted sockets inherit it.
        sockopt::set_tcp_nodelay(&fd, true).map_err(fail("setsockopt TCP_NODELAY"))?;
    }
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, options.ipv6_only).map_err(fail("setsockopt IPV6_V6ONLY"))?;
    }
    bind(&fd, &at).map_err(|errno| explain(&address, "bind", errno))?;
    Ok(fd)
}

fn bind_unix(path: &Arc<Path>, workers: usize, options: &ListenOptions, backlog: i32) -> Result<Bound, ListenError> {
    let address = Address::Unix(Arc::clone(path));
    let fail = |step: &'static str| {
        let address = address.clone();
        move |errno| explain(&address, step, errno)
    };
    let name = SocketAddrUnix::new(&**path).map_err(fail("the path (too long?)"))?;
    let flags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(fail("socket"))?;
    match bind(&fd, &name) {
        Ok(()) => {}
        Err(Errno::ADDRINUSE) => {
            remove_dead(path, &name, &address)?;
            bind(&fd, &name).map_err(fail("bind"))?;
        }
        Err(errno) => return Err(explain(&address, "bind", errno)),
    }
    let other = |step| {
        let address = address.clone();
        move |source| ListenError::Other { address, step, source }
    };
    let (device, inode) = identity(path).unwrap_or_default();
    let file = SocketFile { path: path.to_path_buf(), device, inode };
    // Before listen: nobody can connect while the bits are still those of the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(options.unix_mode)).map_err(other("chmod"))?;
    listen(&fd, backlog).map_err(fail("listen"))?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(fd.try_clone().map_err(other("dup"))?);
    }
    sockets.push(fd);
    Ok(Bound { address, sockets, file: Some(file) })
}

/// Removes the socket file at `path` if nobody answers on it.
fn remove_dead(path: &Path, name: &SocketAddrUnix, address: &Address) -> Result<(), ListenError> {
    let other = |step| move |source| ListenError::Other { address: address.clone(), step, source };
    let kind = fs::symlink_metadata(path).map_err(other("stat"))?.file_type();
    if !kind.is_socket() {
        return Err(ListenError::NotASocket { address: address.clone() });
    }
    let flags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| explain(address, "socket", errno))?;
    match connect(&probe, name) {
        Err(Errno::CONNREFUSED) => {
            tracing::info!(path = %path.display(), "removing the socket of a process that is gone");
            fs::remove_file(path).map_err(other("unlink"))
        }
        // AGAIN: its backlog is full, so it lives.
        Ok(()) | Err(Errno::AGAIN) => Err(ListenError::Answered { address: address.clone() }),
        Err(errno) => Err(explain(address, "connect to the existing socket", errno)),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn local(fd: &OwnedFd, at: SocketAddr) -> Result<SocketAddr, ListenError> {
    getsockname(fd.as_fd())
        .and_then(SocketAddr::try_from)
        .map_err(|errno| explain(&Address::Inet(at), "getsockname", errno))
}

fn backlog_max() -> i32 {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    text.trim().parse().unwrap_or(BACKLOG_FALLBACK)
}

fn explain(address: &Address, step: &'static str, errno: Errno) -> ListenError {
    let address = address.clone();
    let unix = matches!(address, Address::Unix(_));
    match errno {
        Errno::ADDRINUSE => ListenError::InUse { address },
        Errno::ACCESS | Errno::PERM => {
            let low = address.inet().is_some_and(|addr| addr.port() < 1024);
            let help = if low {
                "ports below 1024 need root or CAP_NET_BIND_SERVICE (AmbientCapabilities=CAP_NET_BIND_SERVICE, or lower net.ipv4.ip_unprivileged_port_start)"
            } else if unix {
                "the user needs write permission on the directory"
            } else {
                "a security policy forbids it (SELinux, seccomp)"
            };
            ListenError::Permission { address, help }
        }
        Errno::ADDRNOTAVAIL => ListenError::NotAvailable {
            address,
            help: "no interface of this machine has this IP address (ip addr shows them)",
        },
        Errno::AFNOSUPPORT => {
            ListenError::NotAvailable { address, help: "this machine has no IPv6 (or no such address family)" }
        }
        Errno::NOENT | Errno::NOTDIR if unix => {
            ListenError::NotAvailable { address, help: "create the directory first" }
        }
        Errno::ROFS if unix => ListenError::NotAvailable { address, help: "the file system is read-only" },
        Errno::MFILE | Errno::NFILE => ListenError::Descriptors { address },
        errno => ListenError::Other { address, step, source: errno.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn options() -> ListenOptions {
        ListenOptions { backlog: None, ipv6_only: true, unix_mode: 0o600 }
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("weir-listen-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn unix(path: &Path) -> Address {
        Address::Unix(Arc::from(path))
    }

    #[test]
    fn one_port_with_a_socket_per_worker() {
        let bound = bind_listener(&Address::parse("127.0.0.1:0").unwrap(), 3, &options()).unwrap();
        let addr = bound.address.inet().unwrap();
        assert!(addr.port() != 0 && bound.sockets.len() == 3);
        for fd in &bound.sockets {
            assert_eq!(local(fd, addr).unwrap(), addr);
            assert!(sockopt::tcp_nodelay(fd).unwrap());
        }
        TcpStream::connect(addr).unwrap();
        let error = bind_listener(&bound.address, 1, &options()).unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(&addr.to_string()));
        drop(bound);
        bind_listener(&Address::Inet(addr), 2, &options()).unwrap();
    }

    #[test]
    fn an_address_of_another_machine() {
        let error = bind_listener(&Address::parse("192.0.2.1:0").unwrap(), 1, &options()).unwrap_err();
        assert!(matches!(error, ListenError::NotAvailable { .. }), "{error}");
    }

    #[test]
    fn a_unix_socket_is_shared_private_and_removed() {
        let path = folder("shared").join("a.sock");
        let bound = bind_listener(&unix(&path), 2, &options()).unwrap();
        assert_eq!(bound.sockets.len(), 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        let error = bind_listener(&unix(&path), 1, &options()).unwrap_err();
        assert!(matches!(error, ListenError::Answered { .. }), "{error}");
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_file_is_not() {
        let folder = folder("dead");
        let path = folder.join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = bind_listener(&unix(&path), 1, &options()).unwrap();
        UnixStream::connect(&path).unwrap();
        // Somebody else's file at the same place stays.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(bound);
        let error = bind_listener(&unix(&path), 1, &options()).unwrap_err();
        assert!(matches!(error, ListenError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let error = bind_listener(&unix(&folder.join("no/such/a.sock")), 1, &options()).unwrap_err();
        assert!(matches!(error, ListenError::NotAvailable { .. }), "{error}");
        let long = folder.join("x".repeat(200));
        assert!(matches!(bind_listener(&unix(&long), 1, &options()), Err(ListenError::Other { .. })));
    }
}
