//! What the tests share: the files that test configurations name, and files on disk.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::disallowed_methods, reason = "tests read their own cases from disk; the crate does not")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]
#![allow(unreachable_pub, reason = "a module of test binaries")]

use std::io;
use std::path::{Path, PathBuf};

use weir_config::{Outcome, Source, load};

/// The files that test configurations name.
pub fn files(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("page.html" | "503.html") => Ok(b"<h1>Back in a minute</h1>\n".to_vec()),
        Some("two-megabytes.html") => Ok(vec![b'x'; 2 << 20]),
        Some("secret.html") => Err(io::ErrorKind::PermissionDenied.into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

pub fn source(text: &str) -> Source {
    Source { name: "weir.toml".to_owned(), text: text.to_owned() }
}

pub fn load_text(text: &str) -> Outcome {
    load(&source(text), &files)
}

/// All diagnostics as they are shown.
pub fn rendered(text: &str) -> String {
    let source = source(text);
    let shown: Vec<_> = load(&source, &files).diagnostics.iter().map(|one| one.render(&source, false)).collect();
    shown.join("\n")
}

/// The plan of a text that must load without any diagnostic.
pub fn plan(text: &str) -> weir_config::Plan {
    let outcome = load_text(text);
    assert!(outcome.diagnostics.is_empty(), "{}\nin\n{text}", rendered(text));
    outcome.plan.expect("no diagnostics, so there is a plan")
}

/// The files of `folder` (from the crate's root) that end in `.toml`, in order.
pub fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    paths.sort();
    paths
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares `actual` with the file, or writes it when the variable `UPDATE` is set. Gives what is wrong.
pub fn compare(path: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, actual).unwrap();
        return Ok(());
    }
    match std::fs::read_to_string(path) {
        Ok(expected) if expected == actual => Ok(()),
        Ok(expected) => Err(format!(
            "{} differs; is it meant? then run with UPDATE=1\n--- expected\n{expected}\n--- actual\n{actual}",
            path.display()
        )),
        Err(error) => Err(format!("{}: {error}; run with UPDATE=1\n{actual}", path.display())),
    }
}
