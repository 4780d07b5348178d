//! The pages about the command line are those of today's program. `UPDATE=1` writes them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a failed test")]

mod verbs;

use std::fmt::Write as _;

use verbs::{compare, root, weir};
use weir_core::Reason;
use weir_test::TempDir;

/// Verbs, and those below a verb.
const VERBS: [&[&str]; 10] = [
    &["demo"],
    &["proxy"],
    &["run"],
    &["check"],
    &["budget"],
    &["explain"],
    &["pool"],
    &["pool", "size"],
    &["completions"],
    &["man"],
];

#[test]
fn help_is_as_committed() {
    let mut page =
        "# Command line\n\nWhat `weir --help` and `weir VERB --help` print. Generated; the program says it.\n"
            .to_owned();
    for args in std::iter::once(vec!["--help"]).chain(VERBS.iter().map(|verb| [verb, &["--help"][..]].concat())) {
        let ran = weir(&args);
        assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{args:?}");
        let title = args.join(" ");
        let _ = write!(page, "\n## `weir {title}`\n\n```text\n{}```\n", ran.out);
    }
    // A verb that is missing above would be missing from the page.
    let listed = weir(&["--help"]).out;
    let listed: Vec<&str> = listed
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase()))
        .collect();
    for verb in VERBS {
        assert!(listed.contains(&verb[0]), "{verb:?}: {listed:?}");
    }
    assert_eq!(compare(&root().join("docs/reference/cli/help.md"), &page), None);
}

#[test]
fn manual_pages_are_as_committed() {
    let dir = TempDir::new("man");
    let ran = weir(&["man", "--out", &dir.path().display().to_string()]);
    assert_eq!((ran.code, &*ran.err), (Some(0), ""));
    let mut made: Vec<String> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    made.sort();
    let mut expected: Vec<String> = VERBS.iter().map(|verb| format!("weir-{}.1", verb.join("-"))).collect();
    expected.push("weir.1".to_owned());
    expected.sort();
    assert_eq!(made, expected);
    let wrong: Vec<String> = made
        .iter()
        .filter_map(|name| {
            let page = std::fs::read_to_string(dir.path().join(name)).unwrap();
            compare(&root().join("docs/reference/cli/man").join(name), &page)
        })
        .collect();
    assert_eq!(wrong, [""; 0]);
    let whole = weir(&["man"]).out;
    assert_eq!(compare(&root().join("docs/reference/cli/man/weir.1"), &whole), None);
}

#[test]
fn completions_are_as_committed() {
    for (shell, file) in [("bash", "weir.bash"), ("zsh", "_weir"), ("fish", "weir.fish")] {
        let ran = weir(&["completions", shell]);
        assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{shell}");
        assert_eq!(compare(&root().join("docs/reference/cli/completions").join(file), &ran.out), None);
    }
}

/// The page is written by hand; that it is complete is checked.
#[test]
fn every_reason_is_explained() {
    let page = std::fs::read_to_string(root().join("docs/reference/reasons.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    for reason in Reason::ALL {
        let begin = format!("| `{reason}` | {} | ", reason.status());
        let row: Vec<&&str> = rows.iter().filter(|row| row.starts_with(&begin)).collect();
        let [row] = row.as_slice() else {
            panic!("docs/reference/reasons.md needs one row that starts with {begin:?}")
        };
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 5, "{row}");
        assert!(cells.iter().all(|cell| !cell.trim().is_empty()), "{row}");
    }
    assert_eq!(rows.len(), Reason::ALL.len(), "a row for a reason that does not exist");
}
