//! What the kernel's error numbers mean to a protocol.

use rustix::io::Errno;

use crate::contract::IoFault;

/// The fault that an error of connect, send or receive stands for.
pub(super) fn fault_of(errno: Errno) -> IoFault {
    match errno {
        Errno::CONNREFUSED => IoFault::Refused,
        Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED | Errno::NOTCONN | Errno::SHUTDOWN => IoFault::Reset,
        Errno::TIMEDOUT => IoFault::TimedOut,
        Errno::NETUNREACH
        | Errno::HOSTUNREACH
        | Errno::NETDOWN
        | Errno::HOSTDOWN
        | Errno::NONET
        | Errno::ACCESS
        | Errno::PERM
        | Errno::NOENT
        | Errno::NOTDIR
        | Errno::AFNOSUPPORT => IoFault::Unreachable,
        Errno::MFILE
        | Errno::NFILE
        | Errno::NOBUFS
        | Errno::NOMEM
        | Errno::ADDRNOTAVAIL
        | Errno::AGAIN
        | Errno::NOSPC => IoFault::Exhausted,
        other => {
            tracing::debug!(errno = other.raw_os_error(), error = %other, "unclassified socket error");
            IoFault::Other
        }
    }
}

/// Whether the process or the machine ran out of descriptors or memory.
pub(super) fn is_exhaustion(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
}
