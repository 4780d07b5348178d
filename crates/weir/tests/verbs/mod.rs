//! What the tests of the command line share.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a fixture that cannot do its work is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The result of a short run: exit code, standard output and standard error.
pub(crate) struct Ran {
    /// Exit code.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

/// Runs `weir` to its end, in `folder`, without a terminal.
pub(crate) fn weir_in(folder: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(weir_test::weir_binary());
    command.args(args).current_dir(folder).env_remove("COLUMNS").stdin(std::process::Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// [`weir_in`] somewhere.
pub(crate) fn weir(args: &[&str]) -> Ran {
    weir_in(&std::env::temp_dir(), args)
}

/// The root folder of the project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares `actual` with the file, or writes it when `UPDATE=1`. Gives what is wrong.
pub(crate) fn compare(path: &Path, actual: &str) -> Option<String> {
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, actual).unwrap();
        return None;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    let differs = expected.lines().zip(actual.lines()).position(|(old, new)| old != new);
    let line = differs.unwrap_or_else(|| expected.lines().count().min(actual.lines().count()));
    (expected != actual).then(|| {
        let path = path.display();
        let (old, new) = (expected.lines().nth(line), actual.lines().nth(line));
        format!("{path}:{}: committed {old:?}, now {new:?}; is it meant? then run `cargo xtask gen`", line + 1)
    })
}
