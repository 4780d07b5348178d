//! What compilers do not check: unfinished work, paths of one machine, sleeps in tests, sizes, names,
//! links.
//!
//! A line that has to break a rule of [`LINE_RULES`] says so on itself: `tidy: allow(RULE)` and why.

use std::path::Path;

use crate::{Outcome, tree};

/// Longest Rust file, in lines. The usual shape is 100 to 300.
const MAX_LINES: usize = 1_000;

/// A rule about single lines: its name, which files, what is wrong, and the advice.
struct LineRule {
    name: &'static str,
    applies: fn(&str) -> bool,
    breaks: fn(&Line<'_>) -> bool,
    advice: &'static str,
}

struct Line<'a> {
    text: &'a str,
    /// Within a test: under `tests/`, or below `#[cfg(test)]`.
    in_test: bool,
}

// The patterns are put together from halves, so that this file does not break its own rules.
const LINE_RULES: &[LineRule] = &[
    LineRule {
        name: "unfinished",
        applies: is_rust,
        breaks: |line| {
            [
                concat!("todo", "!("),
                concat!("unimple", "mented!("),
                concat!("FIX", "ME"),
                concat!("TO", "DO"),
                concat!("XX", "X:"),
            ]
            .iter()
            .any(|word| line.text.contains(word))
        },
        advice: "finish it, or open an issue and say what is missing where a user sees it",
    },
    LineRule {
        name: "ignore",
        applies: is_rust,
        breaks: |line| line.text.trim() == concat!("#[ig", "nore]"),
        advice: "a test that is switched off says why: #[ignore = \"…\"]",
    },
    LineRule {
        name: "machine-path",
        applies: |path| !path.ends_with(".lock") && !is_binary_name(path),
        breaks: |line| {
            [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")]
                .iter()
                .any(|prefix| starts_path(line.text, prefix))
        },
        advice: "no path of one machine: take it from the environment or make it relative",
    },
    LineRule {
        name: "sleep",
        applies: is_rust,
        breaks: |line| line.in_test && !is_comment(line.text) && line.text.contains(concat!("sle", "ep(")),
        advice: "wait for a level with a deadline: weir_test::eventually",
    },
    LineRule {
        name: "always-true",
        applies: is_rust,
        breaks: |line| line.text.contains(concat!("assert!(", "true")),
        advice: "a test that cannot fail is no test",
    },
];

/// Checks all files.
pub(crate) fn run() -> Outcome {
    let files = tree::files()?;
    let mut problems = Vec::new();
    for path in &files {
        let Some(text) = tree::text(path)? else {
            continue;
        };
        problems.extend(check_lines(path, &text));
        if is_rust(path) && text.lines().count() > MAX_LINES {
            problems.push(format!(
                "{path}: {} lines, more than {MAX_LINES}: which rooms does it hold?",
                text.lines().count()
            ));
        }
        if is_markdown(path) {
            problems.extend(check_links(path, &text, &|target| tree::root().join(target).exists()));
        }
        if path.ends_with("Cargo.toml") {
            problems.extend(check_crate_name(path, &text));
        }
        if let Some(name) = path.strip_prefix("lib/").and_then(|rest| rest.strip_suffix("/src/lib.rs"))
            && !text.contains("#![forbid(unsafe_code)]")
        {
            problems.push(format!("{path}: lib/{name} lacks #![forbid(unsafe_code)]"));
        }
    }
    if problems.is_empty() {
        println!("tidy: {} files", files.len());
        return Ok(());
    }
    Err(format!("{} problem(s)\n  {}", problems.len(), problems.join("\n  ")))
}

fn check_lines(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let rules: Vec<&LineRule> = LINE_RULES.iter().filter(|rule| (rule.applies)(path)).collect();
    let mut in_test = path.contains("/tests/");
    for (number, text) in text.lines().enumerate() {
        in_test |= text.trim() == "#[cfg(test)]";
        let line = Line { text, in_test };
        for rule in rules.iter().filter(|rule| (rule.breaks)(&line)) {
            if !text.contains(&format!("tidy: allow({})", rule.name)) {
                problems.push(format!("{path}:{}: {}: {}", number + 1, rule.name, rule.advice));
            }
        }
    }
    problems
}

/// Relative links of a page must lead to a file of the project.
fn check_links(path: &str, text: &str, exists: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut problems = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split(['#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !exists(&folder.join(target)) {
                problems.push(format!("{path}:{}: link: there is no {target}", number + 1));
            }
        }
    }
    problems
}

/// `lib/weir-x` holds `weir-x`; outside `lib/` and `crates/` the path may make the name: `sim` holds `weir-sim`,
/// `bench/lb` holds `bench-lb`.
fn check_crate_name(path: &str, manifest: &str) -> Option<String> {
    let folder = path.strip_suffix("/Cargo.toml")?;
    let name = manifest
        .lines()
        .skip_while(|line| line.trim() != "[package]")
        .find_map(|line| line.trim().strip_prefix("name = "))?
        .trim_matches('"');
    let last = folder.rsplit('/').next()?;
    let strict = folder.starts_with("lib/") || folder.starts_with("crates/");
    let by_path =
        name == folder.replace('/', "-") || name == format!("weir-{last}") || name.ends_with(&format!("-{last}"));
    (name != last && (strict || !by_path)).then(|| format!("{path}: the folder {last} holds a crate named {name}"))
}

/// Whether a path with this prefix starts in the line, and is not merely the middle of a longer one.
fn starts_path(line: &str, prefix: &str) -> bool {
    line.match_indices(prefix).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "/._-}*:".contains(c)))
    })
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn is_markdown(path: &str) -> bool {
    path.ends_with(".md")
}

/// Corpora of fuzz targets are bytes that mean nothing.
fn is_binary_name(path: &str) -> bool {
    path.contains("/corpus/") || path.contains("/corpora/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        check_lines(path, text).iter().filter_map(|problem| problem.split(": ").nth(1).map(str::to_owned)).collect()
    }

    #[test]
    fn every_line_rule_bites() {
        let text = format!(
            "{}\n{}\n{}\n{}\n",
            concat!("todo", "!()"),
            concat!("#[ig", "nore]"),
            concat!("x = \"/ho", "me/me\""),
            concat!("assert!(", "true)")
        );
        assert_eq!(broken("a/src/x.rs", &text), ["unfinished", "ignore", "machine-path", "always-true"]);
        let nap = concat!("    thread::sle", "ep(x);");
        assert_eq!(broken("a/tests/x.rs", nap), ["sleep"]);
        assert_eq!(broken("a/src/x.rs", nap), [""; 0]);
        assert_eq!(broken("a/src/x.rs", &format!("#[cfg(test)]\n{nap}")), ["sleep"]);
        assert_eq!(
            broken("a/src/x.rs", &format!("#[cfg(test)]\n{nap} // tidy: allow(sleep) the subject of the test")),
            [""; 0]
        );
    }

    #[test]
    fn the_middle_of_a_path_is_no_machine_path() {
        assert!(!starts_path("target/ho/home/x", concat!("/ho", "me/")));
        assert!(starts_path(concat!("cd /ho", "me/x"), concat!("/ho", "me/")));
    }

    #[test]
    fn links_must_lead_somewhere() {
        let exists = |path: &Path| path == Path::new("docs/a.md");
        let page = "[a](a.md) [b](b.md#x) [c](https://x.y/z) [d](#d)\n```\n[e](e.md)\n```\n";
        assert_eq!(check_links("docs/page.md", page, &exists), ["docs/page.md:1: link: there is no b.md"]);
    }

    #[test]
    fn a_folder_is_named_as_its_crate() {
        let manifest = |name: &str| format!("[package]\nname = \"{name}\"\n");
        for (path, name, right) in [
            ("lib/weir-http/Cargo.toml", "weir-http", true),
            ("lib/http/Cargo.toml", "weir-http", false),
            ("sim/Cargo.toml", "weir-sim", true),
            ("bench/lb/Cargo.toml", "bench-lb", true),
            ("xtask/Cargo.toml", "tasks", false),
        ] {
            assert_eq!(check_crate_name(path, &manifest(name)).is_none(), right, "{path} {name}");
        }
    }
}
