//! The configurations shown in the README and the guides are accepted, the pages' commands exist, and where a page shows
//! what a command prints (a `console` block), it prints that. `UPDATE=1` writes the outputs.

#![allow(clippy::unwrap_used, reason = "a helper that cannot do its work is a failed test")]

mod verbs;

use std::fmt::Write as _;
use std::path::PathBuf;

use verbs::{compare, root, weir_in};
use weir_test::TempDir;

fn pages() -> Vec<(PathBuf, String)> {
    let guides = std::fs::read_dir(root().join("docs/guide")).unwrap().map(|entry| entry.unwrap().path());
    let pages = guides.chain([root().join("README.md"), root().join("docs/concept/balancing.md")]);
    pages.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The blocks of a page in this language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(&*fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// A piece of a configuration with what it needs beside it.
fn completed(piece: &str) -> String {
    let mut text = piece.to_owned();
    if !piece.contains("[[listener]]") {
        text.push_str("\n[[listener]]\nname = \"base\"\nbind = \"127.0.0.1:8080\"\ncluster = \"base\"\n[cluster.base]\nendpoints = [\"127.0.0.1:1\"]\n");
    }
    let named = |line: &str| {
        let name = line.strip_prefix("cluster = \"")?.strip_suffix('"')?;
        Some(name.to_owned())
    };
    let opened = |line: &str| Some(line.strip_prefix("[cluster.")?.split(['.', ']']).next()?.to_owned());
    let mut names: Vec<String> = piece.lines().filter_map(|line| named(line).or_else(|| opened(line))).collect();
    names.sort();
    names.dedup();
    for name in names {
        if !piece.contains(&format!("[cluster.{name}]\n")) {
            let _ = write!(text, "\n[cluster.{name}]\nendpoints = [\"127.0.0.1:1\"]\n");
        }
    }
    text
}

#[test]
fn configurations_in_pages_are_accepted() {
    let dir = TempDir::new("docs");
    let mut count = 0;
    for (path, page) in pages() {
        for piece in blocks(&page, "toml") {
            dir.write("page.toml", completed(piece));
            let ran = weir_in(dir.path(), &["check", "--text-only", "page.toml"]);
            assert_eq!(ran.code, Some(0), "{}:\n{}\n{}", path.display(), completed(piece), ran.err);
            // A cluster that only this test gave no route to is fine; anything else is not.
            let warned = ran.err.lines().filter(|line| line.starts_with("warning") && !line.contains("cluster"));
            assert_eq!(warned.count(), 0, "{}:\n{}", path.display(), ran.err);
            count += 1;
        }
    }
    assert!(count > 10, "only {count} configurations found");
}

#[test]
fn verbs_in_pages_exist() {
    let help = weir_in(&root(), &["--help"]).out;
    let mut count = 0;
    for (path, page) in pages() {
        for line in blocks(&page, "").iter().flat_map(|block| block.lines()) {
            let Some(verb) = line.strip_prefix("weir ").and_then(|rest| rest.split(' ').next()) else { continue };
            assert!(help.contains(&format!("\n  {verb} ")), "{}: {line}", path.display());
            count += 1;
        }
    }
    assert!(count > 5, "only {count} commands found");
}

/// The words of a command line: no quotes, no pipes, so that a page shows what anybody can type anywhere.
fn words(command: &str) -> Vec<&str> {
    assert!(!command.contains(['|', '"', '$', '>', '<', '&', ';']), "too clever for a page: {command}");
    command.split_whitespace().filter(|word| *word != "\\").collect()
}

/// A `console` block with the outputs of today: lines that begin with `$ ` are run, those that end with a backslash
/// go on, and what follows until the next is output.
fn replayed(block: &str, folder: &std::path::Path, count: &mut usize) -> String {
    let mut out = String::new();
    let mut lines = block.lines().peekable();
    assert!(block.starts_with("$ weir "), "a console block begins with a command of weir:\n{block}");
    while let Some(line) = lines.next() {
        let Some(mut command) = line.strip_prefix("$ ").map(str::to_owned) else { continue };
        let _ = writeln!(out, "{line}");
        while command.ends_with('\\') {
            let next = lines.next().unwrap();
            let _ = writeln!(out, "{next}");
            command.push_str(next);
        }
        let args = words(command.strip_prefix("weir ").unwrap());
        let ran = weir_in(folder, &args);
        // The one output that shows a failure says so.
        let expected = i32::from(ran.out.contains("does not fit"));
        assert_eq!((ran.code, &*ran.err), (Some(expected), ""), "{command}");
        out.push_str(&ran.out);
        *count += 1;
    }
    out
}

#[test]
fn outputs_in_pages_are_those_of_today() {
    const OPEN: &str = "```console\n";
    let dir = TempDir::new("docs");
    let mut count = 0;
    let mut wrong = Vec::new();
    for (path, page) in pages() {
        let mut now = String::new();
        let mut rest = page.as_str();
        while let Some((before, block)) = rest.split_once(OPEN) {
            let (block, after) = block.split_once("```").unwrap();
            let _ = write!(now, "{before}{OPEN}{}", replayed(block, dir.path(), &mut count));
            now.push_str("```");
            rest = after;
        }
        now.push_str(rest);
        wrong.extend(compare(&path, &now));
    }
    assert_eq!(wrong, [""; 0]);
    assert!(count >= 5, "only {count} commands found");
}
