//! The entry point of the fuzz target: whatever the bytes, no panic, and what loads prints and loads again
//! to the same plan.

use crate::{NoFiles, Source, effective, load};

/// Feeds arbitrary bytes to everything that reads configuration text.
///
/// # Panics
/// When an invariant is broken: a diagnostic outside the text, no diagnostic without a plan, or an
/// effective configuration that does not load to an equal plan.
pub fn fuzz_one(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let source = Source { name: "fuzz.toml".to_owned(), text: text.to_owned() };
    let outcome = load(&source, &NoFiles);
    for diagnostic in &outcome.diagnostics {
        assert!(diagnostic.span.start <= diagnostic.span.end && diagnostic.span.end <= text.len(), "{diagnostic:?}");
        let rendered = diagnostic.render(&source, false);
        assert!(rendered.ends_with('\n') && rendered.contains(diagnostic.code.as_str()));
    }
    let (Some(plan), Some(draft)) = (&outcome.plan, &outcome.draft) else {
        assert!(!outcome.diagnostics.is_empty(), "no plan and no reason");
        return;
    };
    let printed = Source { name: "effective.toml".to_owned(), text: effective(draft) };
    let again = load(&printed, &NoFiles);
    let rendered: String = again.diagnostics.iter().map(|diagnostic| diagnostic.render(&printed, false)).collect();
    assert!(again.plan.is_some(), "{rendered}\n{}", printed.text);
    assert_eq!(again.plan.map(|plan| format!("{plan:?}")), Some(format!("{plan:?}")), "{}", printed.text);
}
