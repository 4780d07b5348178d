//! What launchers of database servers share: the user that the server runs as (they refuse to run as root), and data
//! folders copied from a template, because making one anew takes seconds.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, Gid, Uid, chown, flock};

/// Who the server runs as; `None`: who runs the test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account(Option<(u32, u32)>);

impl Account {
    /// The account of that name if the test runs as root, else the test's own.
    pub(super) fn of(name: &str) -> Self {
        if !rustix::process::getuid().is_root() {
            return Self(None);
        }
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next()? == name;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            found.then_some((uid, gid))
        });
        assert!(found.is_some(), "no account {name}; `cargo xtask test` installs what the tests need");
        Self(found)
    }

    /// Has the program run as this account.
    pub(super) fn set(self, command: &mut Command) {
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
    }

    /// Gives it a file or folder.
    pub(super) fn own(self, path: &Path) {
        if let Some((uid, gid)) = self.0 {
            chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .unwrap_or_else(|e| panic!("cannot give {} away: {e}", path.display()));
        }
    }
}

/// A folder `data` within `folder`, copied from the template called `name`. The first one who needs the template makes it
/// with `make`, which is given the path of a folder that does not exist.
pub(super) fn data_folder(name: &str, account: Account, folder: &Path, make: impl FnOnce(&Path)) -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    let root = std::env::temp_dir().join(format!("weir-test-template-{name}-{uid}"));
    std::fs::create_dir_all(&root).unwrap_or_else(|e| panic!("cannot make {}: {e}", root.display()));
    account.own(&root);
    let lock = std::fs::File::create(root.join("lock")).unwrap_or_else(|e| panic!("cannot lock {name}: {e}"));
    flock(&lock, FlockOperation::LockExclusive).unwrap_or_else(|e| panic!("cannot lock {name}: {e}"));
    let template = root.join("data");
    if !template.exists() {
        // Of one that was killed in the middle.
        let draft = root.join("draft");
        let _ = std::fs::remove_dir_all(&draft);
        make(&draft);
        std::fs::rename(&draft, &template).unwrap_or_else(|e| panic!("cannot keep the template {name}: {e}"));
    }
    drop(lock);
    let data = folder.join("data");
    run(Command::new("cp").arg("-a").arg("--reflink=auto").arg(&template).arg(&data));
    data
}

/// Runs a program to its end, and gives back what it has written to standard output.
pub(super) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| {
        panic!("cannot start {}: {e}; `cargo xtask test` installs what the tests need", command.get_program().display())
    });
    assert!(
        output.status.success(),
        "{} {:?}: {}\n{}{}",
        command.get_program().display(),
        command.get_args().collect::<Vec<_>>(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
