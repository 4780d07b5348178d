//! A JSON schema (draft 2020-12) for editors: completion and checks while typing, from the table of keys.
//!
//! It says what a schema can say: keys, types, words, ranges, shapes of units. The rest stays with
//! [`load`](crate::load).

use serde_json::{Map, Value, json};

use crate::schema::{Default, Key, Kind, Table};
use crate::sections::ROOT;

const DURATION: &str = "^([0-9]+(\\.[0-9]+)?(d|h|m|s|ms|us|µs|ns))+$";
const SIZE: &str = "^[0-9]+(\\.[0-9]+)? ?(B|KB|KiB|MB|MiB|GB|GiB)$";
const SHARE: &str = "^[0-9]+(\\.[0-9]+)?%$";
const STATUS: &str = "^([1-5]xx|[1-5][0-9]{2}(-[1-5][0-9]{2})?)$";

/// `docs/reference/weir.schema.json`, with a line feed at its end.
pub fn json_schema() -> String {
    let mut root = table(&ROOT);
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        root.insert("title".to_owned(), json!("Weir configuration"));
    }
    format!("{root:#}\n")
}

fn table(table: &Table) -> Value {
    let properties: Map<String, Value> = table.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<_> =
        table.keys.iter().filter(|key| matches!(key.default, Default::Required)).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "description": table.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if let (Some(schema), false) = (schema.as_object_mut(), required.is_empty()) {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&key.kind);
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".to_owned(), json!(key.doc));
        if let Some(default) = default(key) {
            object.insert("default".to_owned(), default);
        }
    }
    schema
}

/// The default as JSON; the literals in the table that are also JSON, which all scalars are.
fn default(key: &Key) -> Option<Value> {
    match key.default {
        Default::Value(text) if text != "{}" => serde_json::from_str(text).ok(),
        _ => None,
    }
}

fn kind(of: &Kind) -> Value {
    match of {
        Kind::Text(what) if *what == crate::walk::FREE_TEXT => json!({ "type": "string" }),
        Kind::Text(_) => json!({ "type": "string", "minLength": 1 }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Share { min, max } => json!({ "anyOf": [
            { "type": "number", "minimum": min, "maximum": max },
            { "type": "string", "pattern": SHARE },
        ] }),
        Kind::Duration { .. } => json!({ "type": "string", "pattern": DURATION }),
        Kind::Size { .. } => json!({ "type": "string", "pattern": SIZE }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Status => json!({ "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": STATUS },
        ] }),
        Kind::OrWord(word, inner) => json!({ "anyOf": [{ "const": word }, kind(inner)] }),
        Kind::OneOrMany(inner) => {
            json!({ "anyOf": [kind(inner), { "type": "array", "items": kind(inner) }] })
        }
        Kind::Tables(inner) => json!({ "type": "array", "items": table(inner) }),
        Kind::Table(inner) => table(inner),
        Kind::Short(inner, key) => {
            let short = inner.key(key).map_or_else(|| json!({ "type": "string" }), |key| kind(&key.kind));
            json!({ "anyOf": [short, table(inner)] })
        }
        Kind::Map(_, inner) => json!({ "type": "object", "additionalProperties": kind(inner) }),
    }
}
