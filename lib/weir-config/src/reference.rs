//! The reference pages, written from the table of keys and the table of codes.

use std::fmt::Write as _;

use crate::codes::CODES;
use crate::schema::{Default, Key, Kind, Table};
use crate::sections::ROOT;
use crate::units::{print_duration, print_share, print_size};

const NOTICE: &str = "<!-- Generated from the table of keys in lib/weir-config. Change it there, then run \
                      `UPDATE=1 cargo test -p weir-config --test generated`. -->\n";

/// `docs/reference/configuration.md`.
pub fn reference_markdown() -> String {
    let mut out = format!("# Configuration reference\n\n{NOTICE}\n{INTRODUCTION}");
    let tables = tables();
    out.push_str("\n## Tables\n\n");
    for table in &tables {
        let _ = writeln!(out, "- [`{}`](#{}): {}", title(table), anchor(&title(table)), first_sentence(table.doc));
    }
    for table in tables {
        let _ = write!(out, "\n## `{}`\n\n", title(table));
        if table.header != title(table) && !table.name.is_empty() {
            let _ = write!(out, "Written as `{}`. ", table.header);
        }
        let _ = writeln!(out, "{}\n", table.doc);
        for key in table.keys {
            row(&mut out, key);
        }
    }
    out
}

/// `docs/reference/diagnostics.md`.
pub fn diagnostics_markdown() -> String {
    let mut out = format!("# Diagnostics\n\n{NOTICE}\n{DIAGNOSTICS_INTRODUCTION}\n");
    for row in CODES.iter().copied().flatten() {
        let _ = writeln!(out, "- [{}](#{}): {}", row.code, row.code.as_str().to_lowercase(), row.title);
    }
    for row in CODES.iter().copied().flatten() {
        let _ = write!(out, "\n## {}\n\n**{}.** {}\n", row.code, capital(row.title), row.text);
        for (word, example) in [("Wrong", row.wrong), ("Right", row.right)] {
            if !example.is_empty() {
                let _ = write!(out, "\n{word}:\n\n```toml\n{example}```\n");
            }
        }
    }
    out
}

const INTRODUCTION: &str = r#"Weir reads one TOML file. The smallest useful one:

```toml
[[listener]]
bind = "127.0.0.1:8080"
cluster = "web"

[cluster.web]
endpoints = ["10.0.0.1:8080", "10.0.0.2:8080"]
```

- Durations carry units: `"30s"`, `"1m30s"`, `"250ms"`. Units: `d`, `h`, `m`, `s`, `ms`, `us`, `ns`.
- Sizes carry units: `"64KiB"` is 65,536 bytes, `"64KB"` is 64,000 bytes. Units: `B`, `KB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`.
- Shares are percentages, `"20%"`, or numbers from 0 to 1, `0.2`.
- Where a list is taken, one value may stand without brackets.
- Unknown keys are errors. All problems of a file are reported at once; `weir explain CODE` tells more about one,
  and [diagnostics.md](diagnostics.md) lists them all.
- Where one key must not exceed another and only one of the two is written, the default of the other gives way: a
  `health.interval` of `"500ms"` alone makes `timeout` and `fast_interval` `"500ms"` too.
- Every default is listed here; `weir check --effective FILE` prints the file with all of them filled in.
"#;

const DIAGNOSTICS_INTRODUCTION: &str = "What Weir says about a configuration, by code. A code keeps its meaning for ever. \
                                        `weir explain CODE` shows the same text.\n";

fn row(out: &mut String, key: &Key) {
    let _ = write!(out, "### `{}`\n\n{}\n\n", key.name, key.doc);
    let (kind, range) = describe(&key.kind);
    let _ = writeln!(out, "- Type: {kind}");
    if let Some(range) = range {
        let _ = writeln!(out, "- Range: {range}");
    }
    match key.default {
        Default::Required => out.push_str("- Required\n"),
        Default::Value("{}") => out.push_str("- Default: a table with the defaults of its keys\n"),
        Default::Value("[]") => out.push_str("- Default: none\n"),
        Default::Value(value) => {
            let _ = writeln!(out, "- Default: `{value}`");
        }
        Default::Absent(meaning) => {
            let _ = writeln!(out, "- Without it: {meaning}");
        }
    }
    let _ = write!(out, "- Since: {}\n\n", key.since);
}

/// Type and range of a kind, in words.
fn describe(kind: &Kind) -> (String, Option<String>) {
    let link = |table: &Table| format!("[`{}`](#{})", title(table), anchor(&title(table)));
    match kind {
        Kind::Text(what) => {
            (if *what == crate::walk::FREE_TEXT { "text".to_owned() } else { format!("text: {what}") }, None)
        }
        Kind::Bool => ("`true` or `false`".to_owned(), None),
        Kind::Int { min, max } => ("whole number".to_owned(), Some(format!("{min} to {max}"))),
        Kind::Number { min, max } => ("number".to_owned(), Some(format!("{min} to {max}"))),
        Kind::Share { min, max } => {
            let range = format!("{} to {}", print_share(*min), print_share(*max));
            ("share".to_owned(), Some(range.replace('"', "")))
        }
        Kind::Duration { min, max } => {
            ("duration".to_owned(), Some(format!("{} to {}", print_duration(*min), print_duration(*max))))
        }
        Kind::Size { min, max } => ("size".to_owned(), Some(format!("{} to {}", print_size(*min), print_size(*max)))),
        Kind::Choice(words) => (words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "), None),
        Kind::Status => {
            ("status or range of statuses: `200`, `\"2xx\"`, `\"200-299\"`".to_owned(), Some("100 to 599".to_owned()))
        }
        Kind::OrWord(word, kind) => {
            let (kind, range) = describe(kind);
            (format!("{kind}, or `\"{word}\"`"), range)
        }
        Kind::OneOrMany(kind) => {
            let (kind, range) = describe(kind);
            (format!("{kind}; one or a list"), range)
        }
        Kind::Tables(table) => (format!("list of tables {}", link(table)), None),
        Kind::Table(table) => (format!("table {}", link(table)), None),
        Kind::Short(table, key) => (format!("table {}, or a text that stands for its `{key}`", link(table)), None),
        Kind::Map(what, kind) => {
            let (kind, range) = describe(kind);
            (format!("table whose keys are {what}, each with: {kind}"), range)
        }
    }
}

/// Every table, in the order of the reference: each before those below it.
pub(crate) fn tables() -> Vec<&'static Table> {
    let mut all: Vec<&'static Table> = Vec::new();
    visit(&ROOT, &mut all);
    all
}

fn visit(table: &'static Table, all: &mut Vec<&'static Table>) {
    if all.iter().any(|seen| std::ptr::eq(*seen, table)) {
        return;
    }
    all.push(table);
    for below in table.keys.iter().filter_map(|key| key.kind.table()) {
        visit(below, all);
    }
}

fn title(table: &Table) -> String {
    if table.name.is_empty() { "top level".to_owned() } else { table.name.to_owned() }
}

/// The anchor that GitHub and most renderers make of a heading.
fn anchor(title: &str) -> String {
    title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn first_sentence(doc: &str) -> String {
    format!("{}.", doc.split_once(". ").map_or(doc, |(first, _)| first).trim_end_matches('.'))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
