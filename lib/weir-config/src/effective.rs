//! The whole configuration as TOML, every default filled in. It loads, and gives an equal plan.

use std::fmt::Write as _;

use crate::draft::{Data, Draft, Node, Value};
use crate::schema::{Key, Kind};
use crate::units::{print_duration, print_share, print_size};

/// The configuration of `draft` with every default written out. Keys that have no value (no user, no
/// error pages) are left out, because absence is their default.
pub fn effective(draft: &Draft) -> String {
    let mut out = String::new();
    let root = &draft.root;
    for key in root.table.keys {
        let Some(value) = root.get(key.name) else {
            continue;
        };
        match &value.data {
            Data::List(list) => {
                for node in list.iter().filter_map(Value::table) {
                    section(&mut out, &format!("[[{}]]", key.name), key.name, node);
                }
            }
            Data::Map(map) => {
                for named in map {
                    let path = format!("{}.{}", key.name, bare(&named.name));
                    let Some(node) = named.value.table() else {
                        continue;
                    };
                    section(&mut out, &format!("[{path}]"), &path, node);
                }
            }
            Data::Table(node) => section(&mut out, &format!("[{}]", key.name), key.name, node),
            _ => {}
        }
    }
    out
}

/// A value as it would be written, for messages.
pub(crate) fn value_text(value: &Value) -> String {
    match &value.data {
        Data::Duration(duration) => print_duration(*duration),
        Data::Int(int) => int.to_string(),
        Data::Number(number) => number.to_string(),
        Data::Text(text) => text.clone(),
        Data::Word(word) => (*word).to_owned(),
        Data::Bool(bool) => bool.to_string(),
        Data::List(_) | Data::Table(_) | Data::Map(_) | Data::Invalid => String::new(),
    }
}

/// A table under its header: first the values, then the tables that get a header of their own.
fn section(out: &mut String, header: &str, path: &str, node: &Node) {
    if !out.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(out, "{header}");
    let rows = || node.table.keys.iter().filter_map(|key| Some((key, node.get(key.name)?)));
    for (key, value) in rows().filter(|(key, _)| !has_header(key)) {
        let text = match (&key.kind, &value.data) {
            (Kind::OneOrMany(kind @ Kind::Short(..)), Data::List(list)) => many_lines(kind, list),
            _ => inline(&key.kind, value),
        };
        let _ = writeln!(out, "{} = {text}", key.name);
    }
    for (key, value) in rows().filter(|(key, _)| has_header(key)) {
        let path = format!("{path}.{}", key.name);
        if let Some(node) = value.table() {
            section(out, &format!("[{path}]"), &path, node);
        } else if let (Data::Map(_), Kind::Map(..)) = (&value.data, &key.kind) {
            for named in value.map() {
                let path = format!("{path}.{}", bare(&named.name));
                if let Some(node) = named.value.table() {
                    section(out, &format!("[{path}]"), &path, node);
                }
            }
        }
    }
}

/// Whether a key's table is written under a header of its own.
fn has_header(key: &Key) -> bool {
    match key.kind {
        Kind::Table(table) | Kind::Short(table, _) => table.header.starts_with('['),
        Kind::Map(_, Kind::Table(_)) => true,
        _ => false,
    }
}

fn many_lines(kind: &Kind, list: &[Value]) -> String {
    let mut out = "[\n".to_owned();
    for value in list {
        let _ = writeln!(out, "  {},", inline(kind, value));
    }
    out.push(']');
    out
}

/// A value as TOML on one line.
pub(crate) fn inline(kind: &Kind, value: &Value) -> String {
    match (&value.data, kind) {
        (Data::Text(text), _) => quote(text),
        (Data::Word(word), _) => quote(word),
        (Data::Bool(bool), _) => bool.to_string(),
        (_, Kind::OrWord(_, kind)) => inline(kind, value),
        (Data::Int(int), Kind::Size { .. }) => quote(&print_size(*int)),
        (Data::Int(int), _) => int.to_string(),
        (Data::Number(number), Kind::Share { .. }) => print_share(*number),
        // `{:?}` always has a point or an exponent, so that it stays a number with a fraction.
        (Data::Number(number), _) => format!("{number:?}"),
        (Data::Duration(duration), _) => quote(&print_duration(*duration)),
        (Data::List(list), Kind::OneOrMany(kind)) => {
            let items: Vec<_> = list.iter().map(|value| inline(kind, value)).collect();
            format!("[{}]", items.join(", "))
        }
        (Data::Map(map), Kind::Map(_, kind)) => {
            let items: Vec<_> =
                map.iter().map(|named| format!("{} = {}", bare(&named.name), inline(kind, &named.value))).collect();
            braces(&items)
        }
        (Data::Table(node), _) => {
            let rows = node.table.keys.iter().filter_map(|key| Some((key, node.get(key.name)?)));
            let items: Vec<_> =
                rows.map(|(key, value)| format!("{} = {}", key.name, inline(&key.kind, value))).collect();
            braces(&items)
        }
        (Data::List(_) | Data::Map(_) | Data::Invalid, _) => String::new(),
    }
}

fn braces(items: &[String]) -> String {
    if items.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", items.join(", ")) }
}

/// A key, quoted where it must be.
fn bare(key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if plain { key.to_owned() } else { quote(key) }
}

/// A basic string of TOML.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use toml::de::DeValue;

    use super::*;
    use crate::reference::tables;
    use crate::schema::Default;

    /// A default is listed as it would be printed, so that it can be compared and reads the same everywhere.
    #[test]
    fn defaults_are_written_as_they_are_printed() {
        let text = "[[listener]]\nbind = \"127.0.0.1:80\"\ncluster = \"web\"\n[cluster.web]\nendpoints = [\"10.0.0.1:80\"]\n\
                    [cluster.web.balance]\nalgorithm = \"ring_hash\"\n[cluster.web.health.http]\n[access_log]\n";
        let outcome = crate::load(&crate::Source { name: String::new(), text: text.into() }, &crate::NoFiles);
        let printed = effective(&outcome.draft.unwrap());
        let mut found = 0;
        for key in tables().iter().flat_map(|table| table.keys) {
            let Default::Value(literal) = key.default else {
                continue;
            };
            assert!(DeValue::parse(literal).is_ok(), "{}: {literal}", key.name);
            found += usize::from(printed.contains(&format!("{} = {literal}\n", key.name)));
        }
        // All but tables, lists and the keys of conditions that do not hold here.
        assert!(found >= 55, "only {found} of the defaults in\n{printed}");
    }

    #[test]
    fn strings_read_back() {
        for text in ["", "plain", "quo\"te", "back\\slash", "line\nfeed\r\t", "\u{1}\u{7f}\u{85}", "ümläut 🚀"] {
            let quoted = quote(text);
            let value = DeValue::parse(&quoted).unwrap();
            assert_eq!(value.get_ref().as_str(), Some(text), "{quoted}");
        }
    }
}
