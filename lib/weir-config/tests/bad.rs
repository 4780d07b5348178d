//! Wrong configurations and exactly what is said about them: `bad/NAME.toml` and `bad/NAME.txt`.

#![allow(clippy::format_collect, reason = "texts of a few hundred lines, made once")]

mod common;

use std::collections::BTreeSet;

use weir_config::{CODES, MAX_DIAGNOSTICS, Severity};

#[test]
fn every_bad_configuration_is_told_what_is_wrong() {
    let cases = common::cases("tests/bad");
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    let mut failures = Vec::new();
    for path in cases {
        let shown = common::rendered(&common::read(&path));
        assert!(!shown.is_empty(), "{} has no diagnostic", path.display());
        failures.extend(common::compare(&path.with_extension("txt"), &shown).err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn every_code_is_shown_by_a_case() {
    let mut seen = BTreeSet::new();
    for path in common::cases("tests/bad") {
        seen.extend(common::load_text(&common::read(&path)).diagnostics.iter().map(|one| one.code));
    }
    for row in CODES.iter().copied().flatten().filter(|row| !row.wrong.is_empty()) {
        assert!(seen.contains(&row.code), "{}: no case in tests/bad", row.code);
    }
}

#[test]
fn errors_give_no_plan_and_warnings_do() {
    for path in common::cases("tests/bad") {
        let outcome = common::load_text(&common::read(&path));
        let errors = outcome.diagnostics.iter().any(|one| one.severity == Severity::Error);
        assert_eq!(outcome.plan.is_none(), errors, "{}", path.display());
        assert_eq!(outcome.draft.is_none(), errors, "{}", path.display());
        assert_eq!(outcome.has_errors(), errors);
    }
}

#[test]
fn colour_changes_nothing_but_colour() {
    for path in common::cases("tests/bad") {
        let source = common::source(&common::read(&path));
        for diagnostic in common::load_text(&source.text).diagnostics {
            let mut coloured = diagnostic.render(&source, true);
            assert!(coloured.contains('\u{1b}'));
            for code in ["1;31", "1;33", "1;34", "1", "0"] {
                coloured = coloured.replace(&format!("\u{1b}[{code}m"), "");
            }
            assert_eq!(coloured, diagnostic.render(&source, false));
        }
    }
}

#[test]
fn a_text_that_is_too_large_is_refused_at_once() {
    let outcome = common::load_text(&"#".repeat(weir_config::MAX_TEXT_BYTES + 1));
    let codes: Vec<_> = outcome.diagnostics.iter().map(|one| one.code.as_str()).collect();
    assert_eq!(codes, ["W0102"]);
}

#[test]
fn counts_are_bounded() {
    let base = "[[listener]]\nbind = \"127.0.0.1:1\"\ncluster = \"c0\"\n";
    let clusters = |count: usize| -> String {
        (0..count).map(|at| format!("[cluster.c{at}]\nendpoints = [\"10.0.0.1:80\"]\n")).collect()
    };
    let listeners: String = (0..=weir_config::MAX_LISTENERS)
        .map(|at| format!("[[listener]]\nbind = \"127.0.0.1:{}\"\ncluster = \"c0\"\n", at + 1))
        .collect();
    let routes: String =
        (0..=weir_config::MAX_ROUTES).map(|at| format!("[[route]]\npath = \"/{at}\"\nrespond = {{}}\n")).collect();
    let endpoints: String = (0..=weir_config::MAX_ENDPOINTS).map(|at| format!("\"h{at}.x:80\",")).collect();
    let tags: String = (0..65).map(|at| format!("t{at} = \"\",")).collect();
    for text in [
        format!("{listeners}{}", clusters(1)),
        format!("{base}{routes}{}", clusters(1)),
        format!("{base}{}", clusters(weir_config::MAX_CLUSTERS + 1)),
        format!("{base}[cluster.c0]\nendpoints = [{endpoints}]\n"),
        format!(
            "{base}[cluster.c0]\nendpoints = [{{ address = \"10.0.0.1:80\", tags = {{ {} }} }}]\n",
            tags.trim_end_matches(',')
        ),
    ] {
        let outcome = common::load_text(&text);
        let found = outcome.diagnostics.iter().any(|one| one.code.as_str() == "W0103");
        assert!(found, "{:?}", outcome.diagnostics.first());
        assert!(outcome.plan.is_none());
    }
}

#[test]
fn diagnostics_are_bounded() {
    let keys: String = (0..1000).map(|at| format!("k{at} = 1\n")).collect();
    let outcome = common::load_text(&keys);
    assert_eq!(outcome.diagnostics.len(), MAX_DIAGNOSTICS);
    assert!(outcome.plan.is_none());
}

#[test]
fn nesting_is_bounded() {
    for text in ["[", "{ a = ", "[[", "a."] {
        let outcome = common::load_text(&format!("x = {}", text.repeat(100_000)));
        assert!(outcome.plan.is_none() && !outcome.diagnostics.is_empty());
    }
}
