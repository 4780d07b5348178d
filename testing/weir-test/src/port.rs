//! Ports that no other test of this machine is given at the same time.
//!
//! A port found by binding port 0 lies in the kernel's ephemeral range: between closing it and binding
//! it again, any outgoing connection may take it. So ports come from below the usual ephemeral range
//! (32768 and up), are checked by binding them, and are held by a file lock until this process ends:
//! tests run as parallel processes, and a lock dies with its holder.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

/// First port given out.
const FIRST: u32 = 18_000;
/// Ports given out: up to 32,767.
const COUNT: u32 = 14_768;

static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A free TCP port, held for this process until it ends: calling twice gives two ports.
///
/// # Panics
/// If no port is left, or the lock folder cannot be made.
pub fn free_port() -> u16 {
    let folder = lock_folder();
    // Processes start at different places, so that they do not all try the same ports first.
    let start = std::process::id().wrapping_mul(2_654_435_761) % COUNT;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = (FIRST + (start + step) % COUNT) as u16;
        let Some(lock) = try_lock(&folder, port) else {
            continue;
        };
        if is_free(port) {
            HELD.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT - 1);
}

fn lock_folder() -> PathBuf {
    let folder = std::env::temp_dir().join("weir-test-ports");
    std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("cannot make {}: {e}", folder.display()));
    folder
}

fn try_lock(folder: &std::path::Path, port: u16) -> Option<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(port.to_string())).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// Free on both families: tests bind `127.0.0.1`, `[::1]` and the wildcard addresses.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
            Ok(_) => true,
            // A machine without IPv6 has nothing to collide with there.
            Err(e) => e.kind() != std::io::ErrorKind::AddrInUse,
        }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 50);
        for port in ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn a_held_port_is_not_given_again() {
        let port = free_port();
        assert!(try_lock(&lock_folder(), port).is_none());
    }
}
