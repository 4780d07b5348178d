//! The entry point of the fuzz target: what must hold for any bytes whatever.
//!
//! The target, the replay of its corpus and the property tests call the same function, so that a finding of
//! one is a test of the others.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use weir_route::{Action, Router};

use crate::effective::quote;
use crate::plan::{Plan, Protocol};
use crate::reference::tables;
use crate::schema::{Default, Kind};
use crate::{
    Draft, MAX_DIAGNOSTICS, Outcome, Severity, Source, effective, explain, load, parse_duration, position, proxy_source,
};

/// Longer inputs are left alone: they say nothing that shorter ones do not, only slower.
pub const FUZZ_MAX_BYTES: usize = 8 * 1024;
/// Texts with more regular expressions are left alone: each may compile for milliseconds.
const MAX_REGEXES: usize = 16;
/// Lines of the input that are taken as addresses of endpoints.
const MAX_ADDRESSES: usize = 8;

/// Feeds arbitrary bytes to everything that reads configuration text.
///
/// # Panics
/// When an invariant is broken:
/// - Diagnostics are bounded, in the order of the text, explained, and stand within the text (on character
///   boundaries, at the line and column that they say); what is rendered holds no control character of the
///   text and keeps its lines.
/// - There is a plan if and only if there is no error.
/// - A plan refers only to clusters that exist; its names are unique; a router takes its routes.
/// - The effective configuration of a plan loads to an equal plan with as many warnings, and prints as itself.
pub fn fuzz_one(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if text.len() > FUZZ_MAX_BYTES || text.matches("regex").count() > MAX_REGEXES {
        return;
    }
    check(&Source { name: "fuzz.toml".to_owned(), text: text.to_owned() });
    let mut lines = text.lines();
    let listen = lines.next().unwrap_or_default();
    check(&proxy_source(listen, &lines.take(MAX_ADDRESSES).collect::<Vec<_>>()));
    let _ = parse_duration(listen);
}

/// The dictionary of the fuzz target (`fuzz/config.dict`): what is hardly ever found by changing bytes. Headers,
/// keys, words and defaults of the table of keys, one a line in the form that libFuzzer reads.
pub fn fuzz_dictionary() -> String {
    const SYNTAX: [&str; 12] = [
        "[[",
        "]]",
        "[cluster.a]\n",
        "\"a\"",
        "{ ",
        " }",
        " = [",
        "\"unix:/a\"",
        "\"10.0.0.1:80\"",
        "\"a:80\"",
        "\"[::1]:80\"",
        "\"2xx\"",
    ];
    let mut words: BTreeSet<String> = SYNTAX.into_iter().map(str::to_owned).collect();
    for table in tables() {
        if table.header.starts_with('[') {
            words.insert(format!("{}\n", table.header.replace("NAME", "a")));
        }
        for key in table.keys {
            words.insert(format!("{} = ", key.name));
            words_of(&key.kind, &mut words);
            if let Default::Value(text) = key.default {
                words.insert(text.to_owned());
            }
        }
    }
    let escaped = |word: &String| {
        let inner = word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\x0a");
        format!("\"{inner}\"\n")
    };
    words.iter().map(escaped).collect()
}

fn words_of(kind: &Kind, words: &mut BTreeSet<String>) {
    match kind {
        Kind::Choice(choices) => words.extend(choices.iter().map(|word| quote(word))),
        Kind::OrWord(word, kind) => {
            words.insert(quote(word));
            words_of(kind, words);
        }
        Kind::OneOrMany(kind) | Kind::Map(_, kind) => words_of(kind, words),
        _ => {}
    }
}

/// Files with this ending exist; all others do not.
fn files(path: &Path) -> io::Result<Vec<u8>> {
    let found = path.extension().is_some_and(|end| end == "html");
    if found { Ok(b"<h1>Back in a minute</h1>\n".to_vec()) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn check(source: &Source) {
    let outcome = load(source, &files);
    check_diagnostics(source, &outcome);
    if let (Some(plan), Some(draft)) = (&outcome.plan, &outcome.draft) {
        check_plan(plan);
        check_effective(source, plan, draft, outcome.diagnostics.len());
    }
}

fn check_diagnostics(source: &Source, outcome: &Outcome) {
    let Source { text, .. } = source;
    assert!(outcome.diagnostics.len() <= MAX_DIAGNOSTICS);
    assert!(outcome.diagnostics.is_sorted_by_key(|one| one.span.start), "{:?}", outcome.diagnostics);
    for one in &outcome.diagnostics {
        assert!(text.get(one.span.clone()).is_some(), "{one:?}");
        assert_eq!((one.line, one.column), position(text, one.span.start), "{one:?}");
        for span in one.notes.iter().filter_map(|note| note.span.clone()) {
            assert!(text.get(span).is_some(), "{one:?}");
        }
        assert!(explain(one.code.as_str()).is_some(), "{one:?}");
        let plain = one.render(source, false);
        assert!(plain.ends_with('\n') && plain.contains(one.code.as_str()));
        let control = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!plain.contains(control), "a control character reaches the terminal: {plain:?}");
        assert!(plain.lines().count() == headed_lines(&plain), "a message breaks its line: {plain:?}");
    }
    let errors = outcome.diagnostics.iter().any(|one| one.severity == Severity::Error);
    // Beyond the bound, an error may be one of those that are not listed.
    assert!(outcome.plan.is_none() == errors || outcome.diagnostics.len() == MAX_DIAGNOSTICS, "{outcome:?}");
    assert_eq!(outcome.plan.is_none(), outcome.draft.is_none());
}

/// Lines of a rendered diagnostic that start as one does: the headline, or the gutter with its sign.
fn headed_lines(plain: &str) -> usize {
    let headed = |line: &&str| {
        let rest = line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit());
        ["error[", "warning[", "--> ", "|", "= "].iter().any(|start| rest.starts_with(start))
    };
    plain.lines().filter(headed).count()
}

fn check_plan(plan: &Plan) {
    let unique = |names: Vec<&str>| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    assert!(!plan.listeners.is_empty() || plan.grantor.is_some());
    assert!(unique(plan.listeners.iter().map(|one| &*one.name).collect()), "{plan:?}");
    assert!(unique(plan.clusters.iter().map(|one| &*one.name).collect()), "{plan:?}");
    assert!(plan.clusters.iter().all(|one| !one.endpoints.is_empty()), "{plan:?}");
    let exists = |id: weir_core::ClusterId| (id.0 as usize) < plan.clusters.len();
    for listener in &plan.listeners {
        assert!(!listener.bind.is_empty(), "{listener:?}");
        match &listener.protocol {
            Protocol::Tcp(tcp) => assert!(exists(tcp.cluster), "{listener:?}"),
            Protocol::Http(http) => {
                for rule in &http.routes {
                    assert!(!matches!(rule.action, Action::Forward { cluster, .. } if !exists(cluster)), "{rule:?}");
                }
                let router = Router::new(http.routes.clone());
                assert_eq!(router.rules().len(), http.routes.len());
            }
        }
    }
}

fn check_effective(source: &Source, plan: &Plan, draft: &Draft, warnings: usize) {
    let printed = Source { name: "effective.toml".to_owned(), text: effective(draft) };
    let again = load(&printed, &files);
    let said: String = again.diagnostics.iter().map(|one| one.render(&printed, false)).collect();
    let (Some(plan_again), Some(draft_again)) = (&again.plan, &again.draft) else {
        panic!("the effective configuration does not load:\n{said}\n{}\nof\n{}", printed.text, source.text);
    };
    assert_eq!(format!("{plan_again:?}"), format!("{plan:?}"), "{}\nof\n{}", printed.text, source.text);
    assert_eq!(again.diagnostics.len(), warnings, "{said}\n{}\nof\n{}", printed.text, source.text);
    assert_eq!(effective(draft_again), printed.text, "of\n{}", source.text);
}
