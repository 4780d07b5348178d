//! Every code has an explanation whose wrong example gives that code and whose right example is clean.

mod common;

use weir_config::{CODES, explain};

#[test]
fn wrong_examples_are_wrong_and_right_ones_are_right() {
    for row in CODES.iter().copied().flatten() {
        assert!(row.text.len() > 40 && row.text.ends_with('.'), "{}", row.code);
        if row.wrong.is_empty() {
            // Too large and too many: an example would fill pages. Tested in `bad.rs`.
            assert!(["W0102", "W0103"].contains(&row.code.as_str()), "{}", row.code);
            continue;
        }
        let codes: Vec<_> = common::load_text(row.wrong).diagnostics.iter().map(|one| one.code).collect();
        assert!(codes.contains(&row.code), "{}: gives {codes:?}\n{}", row.code, row.wrong);
        common::plan(row.right);
    }
}

#[test]
fn explanations_render_with_their_examples() {
    let text = explain("W0104").unwrap().render();
    assert!(text.starts_with("W0104: unknown key\n"), "{text}");
    assert!(text.contains("\nWrong:\n\n    [[listener]]\n") && text.contains("    endpoints = "), "{text}");
}
