//! The generated pages in `docs/reference/` and the dictionary of the fuzz target are those of today's tables. `UPDATE=1` writes them.

mod common;

use std::path::Path;

#[test]
fn reference_pages_are_fresh() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let mut failures = Vec::new();
    for (name, text) in [
        ("configuration.md", weir_config::reference_markdown()),
        ("diagnostics.md", weir_config::diagnostics_markdown()),
        ("weir.schema.json", weir_config::json_schema()),
    ] {
        failures.extend(common::compare(&folder.join(name), &text).err().map(|_| name));
    }
    assert!(failures.is_empty(), "stale: {failures:?}; run `UPDATE=1 cargo test -p weir-config --test generated`");
}

/// The fuzz target finds keys through its dictionary; one that is not there is hardly ever tried.
#[test]
fn the_dictionary_of_the_fuzz_target_is_fresh() {
    let text = weir_config::fuzz_dictionary();
    let reference = weir_config::reference_markdown();
    for key in reference.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')) {
        assert!(text.lines().any(|line| line == format!("\"{key} = \"")), "{key}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/config.dict");
    assert_eq!(common::compare(&path, &text), Ok(()));
}

#[test]
fn the_schema_knows_every_key_of_the_reference() {
    let schema: serde_json::Value = serde_json::from_str(&weir_config::json_schema()).unwrap();
    let text = schema.to_string();
    for line in weir_config::reference_markdown().lines() {
        if let Some(key) = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`')) {
            assert!(text.contains(&format!("\"{key}\":")), "{key}");
        }
    }
}

#[test]
fn links_of_the_reference_lead_somewhere() {
    let text = weir_config::reference_markdown();
    let anchors: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|title| {
            title
                .replace('`', "")
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect();
    for link in text.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(anchors.iter().any(|anchor| anchor == link), "#{link} in {anchors:?}");
    }
}

/// What an editor checks with the schema must hold for the examples, as far as `required` and unknown keys go.
#[test]
fn examples_keep_to_the_schema() {
    let schema: serde_json::Value = serde_json::from_str(&weir_config::json_schema()).unwrap();
    for path in common::cases("../../examples").into_iter().chain(common::cases("tests/good")) {
        let value: toml::Value = toml::from_str(&common::read(&path)).unwrap();
        let value = serde_json::to_value(value).unwrap();
        assert!(fits(&schema, &value), "{}", path.display());
    }
}

/// The part of JSON schema that ours uses, without patterns.
fn fits(schema: &serde_json::Value, value: &serde_json::Value) -> bool {
    use serde_json::Value;
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        return any.iter().any(|one| fits(one, value));
    }
    if let Some(constant) = schema.get("const") {
        return constant == value;
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.contains(value);
    }
    let bounds = || {
        let number = value.as_f64().unwrap_or(f64::NAN);
        let at = |key| schema.get(key).and_then(Value::as_f64);
        at("minimum").is_none_or(|min| number >= min) && at("maximum").is_none_or(|max| number <= max)
    };
    match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() && bounds(),
        Some("number") => value.is_number() && bounds(),
        Some("array") => value.as_array().is_some_and(|list| list.iter().all(|one| fits(&schema["items"], one))),
        Some("object") => value.as_object().is_some_and(|map| {
            let known = |(key, one): (&String, &Value)| match (
                schema["properties"].get(key),
                &schema["additionalProperties"],
            ) {
                (Some(inner), _) => fits(inner, one),
                (None, inner) => inner.is_object() && fits(inner, one),
            };
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            map.iter().all(known) && required.into_iter().all(|key| map.contains_key(key.as_str().unwrap_or_default()))
        }),
        _ => false,
    }
}
