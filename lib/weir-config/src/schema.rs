//! The one table of keys: what each is called, means, holds, and is when left out.
//!
//! Reading, suggestions, printing of the effective configuration, the reference and the JSON schema all
//! follow from it, so that they cannot disagree. The rows stand beside the code that resolves them, in
//! `sections/`.

use std::time::Duration;

/// A table of the configuration and its keys.
#[derive(Debug)]
pub struct Table {
    /// How the reference calls it, such as `listener.timeouts`.
    pub name: &'static str,
    /// How it is written, such as `[listener.timeouts]`.
    pub header: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Its keys, in the order of the reference and of the effective configuration.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What holds when it is left out.
    pub default: Default,
    /// What it means.
    pub doc: &'static str,
    /// The first version that knows it.
    pub since: &'static str,
}

/// What holds when a key is left out.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// It cannot be left out.
    Required,
    /// This value, as it would be written in TOML.
    Value(&'static str),
    /// Nothing; the text says what that means.
    Absent(&'static str),
}

/// What a key holds.
#[derive(Debug)]
pub enum Kind {
    /// Text; the description says which.
    Text(&'static str),
    /// `true` or `false`.
    Bool,
    /// A whole number within the bounds, both included.
    Int {
        /// Least.
        min: u64,
        /// Greatest.
        max: u64,
    },
    /// A number within the bounds, both included.
    Number {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
    },
    /// A share, `"20%"` or `0.2`, within the bounds (of 1.0), both included.
    Share {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
    },
    /// A time span with units, within the bounds, both included.
    Duration {
        /// Least.
        min: Duration,
        /// Greatest.
        max: Duration,
    },
    /// A number of bytes with a unit, within the bounds, both included.
    Size {
        /// Least, in bytes.
        min: u64,
        /// Greatest, in bytes.
        max: u64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// HTTP statuses: `200`, `"2xx"` or `"200-299"`.
    Status,
    /// This word, or the other kind.
    OrWord(&'static str, &'static Self),
    /// One value or a list of them.
    OneOrMany(&'static Self),
    /// A list of tables, `[[name]]`.
    Tables(&'static Table),
    /// A table.
    Table(&'static Table),
    /// A table, or a text that stands for the table with this key alone.
    Short(&'static Table, &'static str),
    /// A table whose keys the user chooses; the text says what they are.
    Map(&'static str, &'static Self),
}

impl Table {
    /// The key of this name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        let keys: &'static [Key] = self.keys;
        keys.iter().find(|key| key.name == name)
    }
}

impl Kind {
    /// The tables directly below a value of this kind.
    pub fn table(&self) -> Option<&'static Table> {
        match self {
            Self::Tables(table) | Self::Table(table) | Self::Short(table, _) => Some(table),
            Self::OneOrMany(kind) | Self::OrWord(_, kind) | Self::Map(_, kind) => kind.table(),
            _ => None,
        }
    }
}

/// `seconds` for the tables.
pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// `millis` milliseconds for the tables.
pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A time-out or interval: one millisecond to one day.
pub(crate) const TIMEOUT: Kind = Kind::Duration { min: millis(1), max: DAY };

/// The longest time-out.
pub(crate) const DAY: Duration = secs(86_400);

/// A row of a table. `since` is the first version unless said.
pub(crate) const fn key(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Key {
    Key { name, kind, default, doc, since: "0.1.0" }
}
