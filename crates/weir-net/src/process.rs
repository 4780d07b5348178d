//! What a process does once at its start: limits and privileges.

use std::fs;
use std::io;

use rustix::process::{Gid, Resource, Rlimit, Uid, getegid, geteuid, getgid, getrlimit, getuid, setrlimit};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The limit assumed where the system says "unlimited".
const UNLIMITED: u64 = 1 << 20;

/// Raises the soft limit of open files to the hard limit. Returns both as they are afterwards.
pub fn raise_nofile() -> (u64, u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let hard = maximum.unwrap_or(UNLIMITED);
    let soft = current.unwrap_or(UNLIMITED);
    if soft >= hard {
        return (soft, hard);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum }) {
        Ok(()) => (hard, hard),
        Err(error) => {
            tracing::warn!(%error, soft, hard, "cannot raise the limit of open files");
            (soft, hard)
        }
    }
}

/// Why privileges were not dropped. The process must not go on.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// No such entry in `/etc/passwd` or `/etc/group`.
    #[error("no {kind} {name:?} in {file}; create it or give its number")]
    Unknown {
        /// "user" or "group".
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// A file of the user database cannot be read.
    #[error("cannot read {file}")]
    Database {
        /// Which.
        file: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Identities belong to threads on Linux: there may be one only.
    #[error("privileges must be dropped before threads are started; there are {threads}")]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// The kernel refused.
    #[error("cannot {step}; only root (or CAP_SETUID and CAP_SETGID) can change its user")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel agreed, but the old identity is still there.
    #[error("the privileges were not dropped: the process could still become root")]
    NotDropped,
}

/// An identity to run as.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// Whether [`drop_privileges`] would find `user` and `group`. Changes nothing.
///
/// # Errors
/// [`PrivilegeError::Unknown`] and [`PrivilegeError::Database`].
pub fn check_user(user: &str, group: Option<&str>) -> Result<(), PrivilegeError> {
    identity(user, group).map(drop)
}

/// Makes the process run as `user` (name or number) with `group`, or with the user's own groups if
/// `None`, and makes sure that there is no way back. To be called before any thread is started.
///
/// # Errors
/// See [`PrivilegeError`]; the process may then be in a state between and must end.
pub fn drop_privileges(user: &str, group: Option<&str>) -> Result<(), PrivilegeError> {
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads > 1 {
        return Err(PrivilegeError::Threads { threads });
    }
    let who = identity(user, group)?;
    let refused = |step| move |errno: rustix::io::Errno| PrivilegeError::Refused { step, source: errno.into() };

    let (uid, gid) = (Uid::from_raw(who.uid), Gid::from_raw(who.gid));
    let already = getuid() == uid && geteuid() == uid && getgid() == gid && getegid() == gid;
    if already && !geteuid().is_root() {
        return Ok(());
    }
    // Groups first: without the user's rights nothing of this would be allowed any more.
    let groups: Vec<Gid> = who.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    set_thread_groups(&groups).map_err(refused("set the supplementary groups"))?;
    set_thread_res_gid(gid, gid, gid).map_err(refused("change the group"))?;
    set_thread_res_uid(uid, uid, uid).map_err(refused("change the user"))?;

    let changed = getuid() == uid && geteuid() == uid && getgid() == gid && getegid() == gid;
    let back = !uid.is_root() && set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok();
    if !changed || back { Err(PrivilegeError::NotDropped) } else { Ok(()) }
}

fn identity(user: &str, group: Option<&str>) -> Result<Identity, PrivilegeError> {
    let read = |file| fs::read_to_string(file).map_err(|source| PrivilegeError::Database { file, source });
    resolve(user, group, &read("/etc/passwd")?, &read("/etc/group")?)
}

fn resolve(user: &str, group: Option<&str>, passwd: &str, groups: &str) -> Result<Identity, PrivilegeError> {
    let unknown = |kind, name: &str, file| PrivilegeError::Unknown { kind, name: name.to_owned(), file };
    let entry = passwd.lines().filter_map(user_of).find(|(name, uid, _)| *name == user || user.parse() == Ok(*uid));
    let gid = match group {
        None => None,
        Some(group) => Some(
            groups
                .lines()
                .filter_map(group_of)
                .find(|(name, ..)| *name == group)
                .map(|(_, gid, _)| gid)
                .or_else(|| group.parse().ok())
                .ok_or_else(|| unknown("group", group, "/etc/group"))?,
        ),
    };
    let number = user.parse().ok();
    match (entry, gid) {
        (Some((name, uid, own)), None) => {
            let mut all = vec![own];
            let member = |members: &str| members.split(',').any(|member| member == name);
            let others = groups.lines().filter_map(group_of).filter(|(_, gid, members)| *gid != own && member(members));
            all.extend(others.map(|(_, gid, _)| gid));
            Ok(Identity { uid, gid: own, groups: all })
        }
        // A number without an entry (containers) needs its group told.
        (entry, Some(gid)) => match entry.map(|(_, uid, _)| uid).or(number) {
            Some(uid) => Ok(Identity { uid, gid, groups: vec![gid] }),
            None => Err(unknown("user", user, "/etc/passwd")),
        },
        (None, None) => Err(unknown("user", user, "/etc/passwd")),
    }
}

/// `name:password:uid:gid:…`
fn user_of(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    Some((name, uid, fields.next()?.parse().ok()?))
}

/// `name:password:gid:members`
fn group_of(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweir:x:990:991::/nonexistent:/bin/false\n";
    const GROUPS: &str = "root:x:0:\nweir:x:991:\nssl-cert:x:110:postgres,weir\nother:x:7:weirdo\n";

    #[test]
    fn names_and_numbers_resolve() {
        let of = |uid, gid, groups: &[u32]| Identity { uid, gid, groups: groups.to_vec() };
        assert_eq!(resolve("weir", None, PASSWD, GROUPS).unwrap(), of(990, 991, &[991, 110]));
        assert_eq!(resolve("990", None, PASSWD, GROUPS).unwrap(), of(990, 991, &[991, 110]));
        assert_eq!(resolve("weir", Some("ssl-cert"), PASSWD, GROUPS).unwrap(), of(990, 110, &[110]));
        assert_eq!(resolve("5000", Some("6000"), PASSWD, GROUPS).unwrap(), of(5000, 6000, &[6000]));
        for (user, group) in [("nobody-here", None), ("5000", None), ("weir", Some("no-group")), ("", None)] {
            assert!(matches!(resolve(user, group, PASSWD, GROUPS), Err(PrivilegeError::Unknown { .. })), "{user:?}");
        }
    }

    #[test]
    fn a_user_is_looked_up_without_becoming_it() {
        check_user("root", None).unwrap();
        assert!(matches!(check_user("nobody-of-this-name", None), Err(PrivilegeError::Unknown { .. })));
    }

    #[test]
    fn privileges_are_not_dropped_beside_other_threads() {
        // The test harness has threads of its own.
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(matches!(drop_privileges("root", None), Err(PrivilegeError::Threads { .. })));
        drop(stop);
        assert!(other.join().unwrap().is_err());
    }

    #[test]
    fn the_limit_of_open_files_is_the_hard_one() {
        let (soft, hard) = raise_nofile();
        assert!(soft > 0 && soft == hard);
    }
}
