//! The configuration as written: every value checked against the table of keys, spans kept, defaults
//! filled in and marked as such. No references are resolved yet.

use std::time::Duration;

use crate::diagnostic::Span;
use crate::effective::inline;
use crate::schema::{Default, Table};

/// A configuration as written, with defaults filled in.
#[derive(Clone, Debug)]
pub struct Draft {
    pub(crate) root: Node,
}

/// One table of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) table: &'static Table,
    /// The table's header, or its text when inline.
    pub(crate) span: Span,
    pub(crate) entries: Vec<Entry>,
    /// It had a key that is not known, which was reported: what seems to be missing may be there, misspelt.
    pub(crate) misspelt: bool,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: &'static str,
    pub(crate) key_span: Span,
    pub(crate) value: Value,
}

/// A value in the terms of its key's kind.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) span: Span,
    /// Filled in by Weir, not written by the user.
    pub(crate) defaulted: bool,
    /// The text of the string starts one byte after `span.start` and holds no escapes, so that a part of
    /// it can be pointed at.
    pub(crate) literal: bool,
    pub(crate) data: Data,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    Text(String),
    Bool(bool),
    Int(u64),
    Number(f64),
    Duration(Duration),
    /// The word that stands beside a kind, as `"auto"`.
    Word(&'static str),
    List(Vec<Value>),
    Table(Node),
    Map(Vec<Named>),
    /// Reported already.
    Invalid,
}

/// An entry of a table whose keys the user names.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) name_span: Span,
    pub(crate) value: Value,
}

// === impl Value ===

impl Value {
    pub(crate) fn text(&self) -> &str {
        match &self.data {
            Data::Text(text) => text,
            _ => "",
        }
    }

    pub(crate) fn int(&self) -> u64 {
        match self.data {
            Data::Int(int) => int,
            _ => 0,
        }
    }

    pub(crate) fn list(&self) -> &[Self] {
        match &self.data {
            Data::List(list) => list,
            _ => &[],
        }
    }

    pub(crate) fn table(&self) -> Option<&Node> {
        match &self.data {
            Data::Table(node) => Some(node),
            _ => None,
        }
    }

    pub(crate) fn table_mut(&mut self) -> Option<&mut Node> {
        match &mut self.data {
            Data::Table(node) => Some(node),
            _ => None,
        }
    }

    pub(crate) fn map(&self) -> &[Named] {
        match &self.data {
            Data::Map(map) => map,
            _ => &[],
        }
    }

    pub(crate) fn is_valid(&self) -> bool {
        !matches!(self.data, Data::Invalid)
    }

    /// The span of the bytes `part` of a text value; the whole value where that cannot be told.
    pub(crate) fn part(&self, part: Span) -> Span {
        if self.literal {
            let start = self.span.start + 1;
            start + part.start..start + part.end
        } else {
            self.span.clone()
        }
    }
}

// === impl Node ===

impl Node {
    /// The entry, whether valid or not.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value, if it is there and valid.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value).filter(|value| value.is_valid())
    }

    /// The entry, if the user wrote it.
    pub(crate) fn written(&self, key: &str) -> Option<&Entry> {
        self.entry(key).filter(|entry| !entry.value.defaulted)
    }

    /// The entry, if the user wrote it and it is not the default anyway.
    pub(crate) fn changed(&self, key: &str) -> Option<&Entry> {
        let row = self.table.key(key)?;
        let entry = self.written(key)?;
        let same = matches!(row.default, Default::Value(text) if text == inline(&row.kind, &entry.value));
        (!same).then_some(entry)
    }

    /// A text value.
    pub(crate) fn text(&self, key: &str) -> Option<&Value> {
        self.get(key).filter(|value| matches!(value.data, Data::Text(_)))
    }

    pub(crate) fn str(&self, key: &str) -> &str {
        self.get(key).map_or("", Value::text)
    }

    pub(crate) fn bool(&self, key: &str) -> bool {
        matches!(self.get(key).map(|value| &value.data), Some(Data::Bool(true)))
    }

    /// The number; `None` if absent or written as the word that stands for "none".
    pub(crate) fn int(&self, key: &str) -> Option<u64> {
        match self.get(key)?.data {
            Data::Int(int) => Some(int),
            _ => None,
        }
    }

    /// The number in 32 bits; the table's range keeps it within.
    pub(crate) fn u32(&self, key: &str) -> u32 {
        self.int(key).and_then(|int| u32::try_from(int).ok()).unwrap_or(0)
    }

    pub(crate) fn opt_u32(&self, key: &str) -> Option<u32> {
        self.int(key).and_then(|int| u32::try_from(int).ok())
    }

    pub(crate) fn u16(&self, key: &str) -> u16 {
        self.int(key).and_then(|int| u16::try_from(int).ok()).unwrap_or(0)
    }

    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        match self.get(key)?.data {
            Data::Number(number) => Some(number),
            _ => None,
        }
    }

    pub(crate) fn opt_duration(&self, key: &str) -> Option<Duration> {
        match self.get(key)?.data {
            Data::Duration(duration) => Some(duration),
            _ => None,
        }
    }

    pub(crate) fn duration(&self, key: &str) -> Duration {
        self.opt_duration(key).unwrap_or_default()
    }

    pub(crate) fn list(&self, key: &str) -> &[Value] {
        self.get(key).map_or(&[], Value::list)
    }

    pub(crate) fn map(&self, key: &str) -> &[Named] {
        self.get(key).map_or(&[], Value::map)
    }

    pub(crate) fn table(&self, key: &str) -> Option<&Self> {
        self.get(key).and_then(Value::table)
    }

    pub(crate) fn table_mut(&mut self, key: &str) -> Option<&mut Self> {
        self.entries.iter_mut().find(|entry| entry.key == key).and_then(|entry| entry.value.table_mut())
    }

    pub(crate) fn span_of(&self, key: &str) -> Span {
        self.entry(key).map_or_else(|| self.span.clone(), |entry| entry.value.span.clone())
    }

    /// Takes out filled-in values of keys that have no meaning here, so that what remains is what holds.
    pub(crate) fn drop_defaults(&mut self, keys: &[&str]) {
        self.entries.retain(|entry| !(entry.value.defaulted && keys.contains(&entry.key)));
    }

    /// `low` must not exceed `high`: where they disagree, the filled-in one takes the value of the written one.
    /// Two written ones stay as they are.
    pub(crate) fn yield_defaults(&mut self, low: &str, high: &str) {
        if !self.exceeds(low, high) {
            return;
        }
        let yields = |key: &str| self.entry(key).is_some_and(|entry| entry.value.defaulted);
        let (to, from) = if yields(low) { (low, high) } else { (high, low) };
        let data = self.get(from).map(|value| value.data.clone());
        if let (true, Some(data)) = (yields(to), data) {
            self.set_default(to, data);
        }
    }

    /// Puts another value in the place of a filled-in one.
    pub(crate) fn set_default(&mut self, key: &str, data: Data) {
        let filled_in = |entry: &&mut Entry| entry.key == key && entry.value.defaulted;
        if let Some(entry) = self.entries.iter_mut().find(filled_in) {
            entry.value.data = data;
        }
    }

    /// Whether the value of `low` is above that of `high`.
    pub(crate) fn exceeds(&self, low: &str, high: &str) -> bool {
        match (self.opt_duration(low), self.opt_duration(high), self.int(low), self.int(high)) {
            (Some(low), Some(high), ..) => low > high,
            (_, _, Some(low), Some(high)) => low > high,
            _ => false,
        }
    }

    /// Fills in a text that depends on other values, unless the key is there.
    pub(crate) fn derive_text(&mut self, key: &'static str, text: impl Into<String>) {
        if self.entry(key).is_none() {
            let value =
                Value { span: self.span.clone(), defaulted: true, literal: false, data: Data::Text(text.into()) };
            self.entries.push(Entry { key, key_span: self.span.clone(), value });
        }
    }
}
