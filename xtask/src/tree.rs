//! The project's files.

use std::path::{Path, PathBuf};

use crate::process::Call;

/// The root folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Files that belong to the project: committed, or new and not ignored; relative to the root.
pub(crate) fn files() -> Result<Vec<String>, String> {
    let listed = Call::new("git", &["ls-files", "--cached", "--others", "--exclude-standard"], 60).output()?;
    // A file that is deleted but not yet committed is still listed.
    Ok(listed.lines().map(str::to_owned).filter(|path| root().join(path).is_file()).collect())
}

/// The text of a file of the project; binary files give `None`.
pub(crate) fn text(path: &str) -> Result<Option<String>, String> {
    let bytes = std::fs::read(root().join(path)).map_err(|e| format!("{path}: {e}"))?;
    Ok(String::from_utf8(bytes).ok())
}
