//! TOML text → [`Draft`]: one walk over the spanned tree, driven by the table of keys.
//!
//! Everything that the table can say is checked here: syntax, unknown and missing keys, types, units,
//! ranges, words. A wrong value becomes `Data::Invalid` and the walk goes on, so that all problems
//! are found at once and none is reported twice.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::codes;
use crate::diagnostic::{Report, Span, quoted};
use crate::draft::{Data, Draft, Entry, Named, Node, Value};
use crate::nearest::nearest;
use crate::schema::{Default, Key, Kind, Table};
use crate::sections::ROOT;
use crate::units::{UnitError, parse_duration, parse_share, parse_size, print_duration, print_share, print_size};

/// Bytes of a configuration.
pub const MAX_TEXT_BYTES: usize = 4 * 1024 * 1024;

/// Syntax errors listed; those after the first are often echoes of it.
const MAX_SYNTAX_ERRORS: usize = 10;

/// Reads the text. `None` when it is no TOML: then nothing else is looked at, because a missing quote
/// would make nonsense of everything behind it.
pub(crate) fn read(text: &str, report: &mut Report) -> Option<Draft> {
    if text.len() > MAX_TEXT_BYTES {
        let size = print_size(MAX_TEXT_BYTES as u64);
        report
            .error(
                codes::TOO_LARGE,
                &(0..0),
                format!("the configuration has {} bytes; at most {size} are read", text.len()),
            )
            .help("generate fewer entries, or let endpoints share one host name");
        return None;
    }
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(MAX_SYNTAX_ERRORS) {
        syntax_error(text, error, report);
    }
    if !errors.is_empty() {
        return None;
    }
    let mut walk = Walk { text, report };
    Some(Draft { root: walk.node(&ROOT, tree.get_ref(), &(0..0), "") })
}

fn syntax_error(text: &str, error: &toml::de::Error, report: &mut Report) {
    let span = error.span().unwrap_or(0..0);
    let message = error.message();
    let diagnostic = report.error(codes::SYNTAX, &span, format!("not TOML: {message}"));
    if message.contains("duplicate key") {
        diagnostic
            .help("a key or table header stands only once; `[[name]]` with double brackets makes a list of tables");
    } else if unquoted_value(text, &span) {
        diagnostic.help("put text between quotes, also durations, sizes and addresses: `interval = \"30s\"`");
    }
}

/// Whether a bare word or number with letters stands where a value should.
fn unquoted_value(text: &str, span: &Span) -> bool {
    let Some(before) = text.get(..span.start) else {
        return false;
    };
    let line = before.rsplit('\n').next().unwrap_or("");
    line.contains('=')
        && text.get(span.start..).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

struct Walk<'a> {
    text: &'a str,
    report: &'a mut Report,
}

impl Walk<'_> {
    fn node(&mut self, table: &'static Table, tree: &DeTable<'_>, span: &Span, path: &str) -> Node {
        let mut node =
            Node { table, span: span.clone(), entries: Vec::with_capacity(table.keys.len()), misspelt: false };
        let mut misspelt = Vec::new();
        for (name, value) in tree {
            let Some(key) = table.key(name.get_ref()) else {
                node.misspelt = true;
                misspelt.extend(self.unknown_key(table, name.get_ref(), &name.span(), path));
                continue;
            };
            let path = join(path, key.name);
            let value = self.value(&key.kind, value, &path);
            node.entries.push(Entry { key: key.name, key_span: name.span(), value });
        }
        for key in table.keys {
            // A required key that was misspelt is reported once, where it stands.
            let reported = matches!(key.default, Default::Required) && misspelt.contains(&key.name);
            if node.entry(key.name).is_none() && !reported {
                self.fill(&mut node, key, path);
            }
        }
        node
    }

    fn fill(&mut self, node: &mut Node, key: &'static Key, path: &str) {
        match key.default {
            Default::Absent(_) => {}
            Default::Required => {
                let message = if path.is_empty() {
                    format!("the configuration has no `{}`", key.name)
                } else {
                    format!("`{path}` has no `{}`", key.name)
                };
                let help = match key.kind.table() {
                    Some(table) if table.header.starts_with("[[") => {
                        format!("add `{}`", table.header)
                    }
                    _ => format!("add `{}`: {}", key.name, expected(&key.kind)),
                };
                self.report.error(codes::MISSING_KEY, &node.span, message).help(help);
            }
            Default::Value(text) => {
                let mut scratch = Report::new();
                let mut value = match DeValue::parse(text) {
                    Ok(parsed) => {
                        let mut walk = Walk { text, report: &mut scratch };
                        walk.value(&key.kind, &parsed, &join(path, key.name))
                    }
                    Err(_) => Value { span: 0..0, defaulted: true, literal: false, data: Data::Invalid },
                };
                debug_assert!(!scratch.has_errors() && value.is_valid(), "default of {}: {text}", key.name);
                mark_defaulted(&mut value, &node.span);
                node.entries.push(Entry { key: key.name, key_span: node.span.clone(), value });
            }
        }
    }

    /// Reports the key and gives the one that was probably meant.
    fn unknown_key(&mut self, table: &'static Table, name: &str, span: &Span, path: &str) -> Option<&'static str> {
        let place = if path.is_empty() { "at the top level".to_owned() } else { format!("in `{path}`") };
        let near = nearest(name, table.keys.iter().map(|key| key.name));
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => elsewhere(table, name).unwrap_or_else(|| {
                let all: Vec<_> = table.keys.iter().map(|key| format!("`{}`", key.name)).collect();
                format!("known keys: {}", all.join(", "))
            }),
        };
        self.report
            .error(codes::UNKNOWN_KEY, span, format!("unknown key {} {place}", quoted(name)))
            .label("not known here")
            .help(help);
        near
    }

    fn value(&mut self, kind: &'static Kind, tree: &Spanned<DeValue<'_>>, path: &str) -> Value {
        let span = tree.span();
        let data = self.data(kind, tree, &span, path).unwrap_or(Data::Invalid);
        let literal = match tree.get_ref() {
            DeValue::String(text) => {
                span.len() == text.len() + 2 && self.text.get(span.start + 1..span.end - 1) == Some(text.as_ref())
            }
            _ => false,
        };
        Value { span, defaulted: false, literal, data }
    }

    /// The value in terms of `kind`; `None` when a problem was reported.
    fn data(&mut self, kind: &'static Kind, tree: &Spanned<DeValue<'_>>, span: &Span, path: &str) -> Option<Data> {
        let value = tree.get_ref();
        match kind {
            Kind::Text(what) => match value {
                DeValue::String(text) => self.checked_text(text, what, span, path),
                _ => self.wrong_type(path, what, value, span),
            },
            Kind::Bool => match value.as_bool() {
                Some(bool) => Some(Data::Bool(bool)),
                None => self.wrong_type(path, "true or false", value, span),
            },
            Kind::Int { min, max } => {
                let Some(int) = value.as_integer() else {
                    return self.wrong_type(path, "a whole number without quotes", value, span);
                };
                let range = format!("{min} to {max}");
                match u64::from_str_radix(int.as_str(), int.radix()) {
                    Ok(int) if (*min..=*max).contains(&int) => Some(Data::Int(int)),
                    _ => self.out_of_range(path, &int.to_string(), &range, span),
                }
            }
            Kind::Number { min, max } => match number(value) {
                None => self.wrong_type(path, "a number without quotes", value, span),
                Some(number) if (*min..=*max).contains(&number) => Some(Data::Number(number)),
                Some(number) => self.out_of_range(path, &number.to_string(), &format!("{min} to {max}"), span),
            },
            Kind::Share { min, max } => self.share(*min, *max, value, span, path),
            Kind::Duration { min, max } => self.duration(*min, *max, value, span, path),
            Kind::Size { min, max } => self.size(*min, *max, value, span, path),
            Kind::Choice(words) => self.choice(words, value, span, path),
            Kind::Status => match value {
                DeValue::String(text) => Some(Data::Text(text.clone().into_owned())),
                DeValue::Integer(int) => Some(Data::Text(int.to_string())),
                _ => self.wrong_type(path, "a status such as 200, \"2xx\" or \"200-299\"", value, span),
            },
            Kind::OrWord(word, kind) => match value {
                DeValue::String(text) if text.as_ref() == *word => Some(Data::Word(word)),
                DeValue::String(text) if is_plain_word(text) && !matches!(kind, Kind::Text(_)) => {
                    let help = format!("write \"{word}\", or {}", expected(kind));
                    self.report
                        .error(codes::UNKNOWN_WORD, span, format!("`{path}` cannot be {}", quoted(text)))
                        .help(help);
                    None
                }
                _ => self.data(kind, tree, span, path),
            },
            Kind::OneOrMany(kind) => match value {
                DeValue::Array(array) => {
                    Some(Data::List(array.iter().map(|item| self.value(kind, item, path)).collect()))
                }
                _ => Some(Data::List(vec![self.value(kind, tree, path)])),
            },
            Kind::Tables(table) => self.tables(table, value, span, path),
            Kind::Table(table) => match value {
                DeValue::Table(tree) => Some(Data::Table(self.node(table, tree, span, path))),
                _ => self.wrong_type(path, "a table", value, span),
            },
            Kind::Short(table, key) => match value {
                DeValue::Table(tree) => Some(Data::Table(self.node(table, tree, span, path))),
                DeValue::String(_) => Some(Data::Table(self.short(table, key, tree, span, path))),
                _ => self.wrong_type(path, "text or a table", value, span),
            },
            Kind::Map(what, kind) => {
                if let (DeValue::Array(_), Some(table)) = (value, kind.table()) {
                    self.report
                        .error(codes::WRONG_TYPE, span, format!("`{path}` is no list"))
                        .help(format!("write `{}` with single brackets", table.header));
                    return None;
                }
                let DeValue::Table(map) = value else {
                    return self.wrong_type(path, &format!("a table whose keys are {what}"), value, span);
                };
                let named = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                    let text: &std::borrow::Cow<'_, str> = name.get_ref();
                    let path = join(path, text);
                    Named {
                        name: text.clone().into_owned(),
                        name_span: name.span(),
                        value: self.value(kind, value, &path),
                    }
                };
                Some(Data::Map(map.iter().map(named).collect()))
            }
        }
    }

    /// A text that stands for a table with one key.
    fn short(
        &mut self,
        table: &'static Table,
        key: &'static str,
        tree: &Spanned<DeValue<'_>>,
        span: &Span,
        path: &str,
    ) -> Node {
        let mut node =
            Node { table, span: span.clone(), entries: Vec::with_capacity(table.keys.len()), misspelt: false };
        for row in table.keys {
            if row.name == key {
                let value = self.value(&row.kind, tree, path);
                node.entries.push(Entry { key: row.name, key_span: span.clone(), value });
            } else {
                self.fill(&mut node, row, path);
            }
        }
        node
    }

    fn tables(&mut self, table: &'static Table, value: &DeValue<'_>, span: &Span, path: &str) -> Option<Data> {
        match value {
            DeValue::Array(array) => Some(Data::List(array.iter().map(|item| self.row(table, item, path)).collect())),
            DeValue::Table(_) => {
                self.report
                    .error(codes::WRONG_TYPE, span, format!("`{path}` is a list of tables"))
                    .help(format!("write `[[{path}]]` with double brackets"));
                None
            }
            _ => self.wrong_type(path, &format!("a list of tables, written `[[{path}]]`"), value, span),
        }
    }

    fn row(&mut self, table: &'static Table, item: &Spanned<DeValue<'_>>, path: &str) -> Value {
        let span = item.span();
        let data = match item.get_ref() {
            DeValue::Table(tree) => Some(Data::Table(self.node(table, tree, &span, path))),
            other => self.wrong_type(path, "a table", other, &span),
        };
        Value { span, defaulted: false, literal: false, data: data.unwrap_or(Data::Invalid) }
    }

    fn checked_text(&mut self, text: &str, what: &str, span: &Span, path: &str) -> Option<Data> {
        if text.is_empty() && what != FREE_TEXT {
            self.report
                .error(codes::EMPTY, span, format!("`{path}` is empty"))
                .help(format!("write {what}, or leave the key out"));
            return None;
        }
        Some(Data::Text(text.to_owned()))
    }

    fn share(&mut self, min: f64, max: f64, value: &DeValue<'_>, span: &Span, path: &str) -> Option<Data> {
        let share = match value {
            DeValue::String(text) => match parse_share(text) {
                Ok(share) => share,
                Err(error) => {
                    return self.bad_unit(codes::BAD_SHARE, path, text, error, EXPECT_SHARE, span);
                }
            },
            _ => match number(value) {
                Some(number) => number,
                None => return self.wrong_type(path, EXPECT_SHARE, value, span),
            },
        };
        if (min..=max).contains(&share) {
            return Some(Data::Number(share));
        }
        let range = format!("{} to {}", print_share(min).replace('"', ""), print_share(max).replace('"', ""));
        self.out_of_range(path, &shown(value), &range, span)
    }

    fn duration(&mut self, min: Duration, max: Duration, value: &DeValue<'_>, span: &Span, path: &str) -> Option<Data> {
        let text = match value {
            DeValue::String(text) => text,
            DeValue::Integer(int) => {
                self.report
                    .error(codes::BAD_DURATION, span, format!("`{path}` has no unit"))
                    .help(format!("write \"{int}s\" for seconds or \"{int}ms\" for milliseconds"));
                return None;
            }
            _ => return self.wrong_type(path, EXPECT_DURATION, value, span),
        };
        match parse_duration(text) {
            Ok(duration) if (min..=max).contains(&duration) => Some(Data::Duration(duration)),
            Ok(_) => {
                self.out_of_range(path, text, &format!("{} to {}", print_duration(min), print_duration(max)), span)
            }
            Err(error) => self.bad_unit(codes::BAD_DURATION, path, text, error, EXPECT_DURATION, span),
        }
    }

    fn size(&mut self, min: u64, max: u64, value: &DeValue<'_>, span: &Span, path: &str) -> Option<Data> {
        let text = match value {
            DeValue::String(text) => text,
            DeValue::Integer(int) => {
                self.report
                    .error(codes::BAD_SIZE, span, format!("`{path}` has no unit"))
                    .help(format!("write \"{int}B\" for bytes or \"{int}KiB\" for units of 1,024 bytes"));
                return None;
            }
            _ => return self.wrong_type(path, EXPECT_SIZE, value, span),
        };
        match parse_size(text) {
            Ok(size) if (min..=max).contains(&size) => Some(Data::Int(size)),
            Ok(_) => self.out_of_range(path, text, &format!("{} to {}", print_size(min), print_size(max)), span),
            Err(error) => self.bad_unit(codes::BAD_SIZE, path, text, error, EXPECT_SIZE, span),
        }
    }

    fn choice(&mut self, words: &'static [&'static str], value: &DeValue<'_>, span: &Span, path: &str) -> Option<Data> {
        let all: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let Some(text) = value.as_str() else {
            return self.wrong_type(path, &format!("one of {}", all.join(", ")), value, span);
        };
        if words.contains(&text) {
            return Some(Data::Text(text.to_owned()));
        }
        let known = format!("known words: {}", all.join(", "));
        let help = match nearest(text, words.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"? ({known})"),
            None => known,
        };
        self.report.error(codes::UNKNOWN_WORD, span, format!("`{path}` cannot be {}", quoted(text))).help(help);
        None
    }

    fn bad_unit(
        &mut self,
        code: codes::Code,
        path: &str,
        text: &str,
        error: UnitError,
        expected: &str,
        span: &Span,
    ) -> Option<Data> {
        let help = match error {
            UnitError::NoUnit if code == codes::BAD_DURATION => {
                format!("write \"{text}s\" for seconds or \"{text}ms\" for milliseconds")
            }
            UnitError::NoUnit if code == codes::BAD_SHARE => format!("write \"{text}%\""),
            UnitError::NoUnit => {
                format!("write \"{text}B\" for bytes or \"{text}KiB\" for units of 1,024 bytes")
            }
            _ => format!("write {expected}"),
        };
        self.report
            .error(code, span, format!("`{path}` cannot be {}", quoted(text)))
            .label(error.describe())
            .help(help);
        None
    }

    fn wrong_type(&mut self, path: &str, expected: &str, value: &DeValue<'_>, span: &Span) -> Option<Data> {
        self.report
            .error(codes::WRONG_TYPE, span, format!("`{path}` cannot be {}", with_article(value.type_str())))
            .help(format!("write {expected}"));
        None
    }

    fn out_of_range(&mut self, path: &str, text: &str, range: &str, span: &Span) -> Option<Data> {
        self.report
            .error(codes::OUT_OF_RANGE, span, format!("`{path}` cannot be {text}"))
            .label("out of range")
            .help(format!("the range is {range}"));
        None
    }
}

/// The description of texts that may be empty.
pub(crate) const FREE_TEXT: &str = "text";

const EXPECT_DURATION: &str = "a duration with units, such as \"30s\", \"1m30s\" or \"250ms\"";
const EXPECT_SIZE: &str = "a size with its unit, such as \"64KiB\" or \"1MB\"";
const EXPECT_SHARE: &str = "a share such as \"20%\" or 0.2";

/// What `kind` takes, for a help line.
pub(crate) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Text(what) => (*what).to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::Int { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Number { min, max } => format!("a number from {min} to {max}"),
        Kind::Share { .. } => EXPECT_SHARE.to_owned(),
        Kind::Duration { .. } => EXPECT_DURATION.to_owned(),
        Kind::Size { .. } => EXPECT_SIZE.to_owned(),
        Kind::Choice(words) => format!("one of {}", words.join(", ")),
        Kind::Status => "a status such as 200, \"2xx\" or \"200-299\"".to_owned(),
        Kind::OrWord(word, kind) => format!("\"{word}\" or {}", expected(kind)),
        Kind::OneOrMany(kind) => format!("{}, or a list of them", expected(kind)),
        Kind::Tables(_) => "a list of tables".to_owned(),
        Kind::Table(_) => "a table".to_owned(),
        Kind::Short(table, key) => {
            let inner = table.key(key).map_or_else(|| "text".to_owned(), |key| expected(&key.kind));
            format!("{inner}, or a table")
        }
        Kind::Map(what, _) => format!("a table whose keys are {what}"),
    }
}

fn mark_defaulted(value: &mut Value, span: &Span) {
    value.defaulted = true;
    value.literal = false;
    value.span = span.clone();
    match &mut value.data {
        Data::List(list) => list.iter_mut().for_each(|value| mark_defaulted(value, span)),
        Data::Map(map) => map.iter_mut().for_each(|named| mark_defaulted(&mut named.value, span)),
        Data::Table(node) => {
            node.span = span.clone();
            for entry in &mut node.entries {
                entry.key_span = span.clone();
                mark_defaulted(&mut entry.value, span);
            }
        }
        _ => {}
    }
}

/// The tables below or beside `table` that do know `name`: "it belongs in ...".
fn elsewhere(table: &'static Table, name: &str) -> Option<String> {
    let below = table.keys.iter().filter_map(|key| key.kind.table());
    let top = ROOT.keys.iter().filter_map(|key| key.kind.table());
    let home = below.chain(top).find(|other| !std::ptr::eq(*other, table) && other.key(name).is_some())?;
    Some(format!("`{name}` belongs in {}", home.header))
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    let text = match value {
        DeValue::Integer(int) if int.radix() == 10 => int.as_str(),
        DeValue::Float(float) => float.as_str(),
        _ => return None,
    };
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.clone().into_owned(),
        DeValue::Integer(int) => int.to_string(),
        DeValue::Float(float) => float.to_string(),
        other => other.type_str().to_owned(),
    }
}

fn is_plain_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphabetic() || c == '_')
}

fn with_article(type_name: &str) -> String {
    let article = if type_name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {type_name}")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
