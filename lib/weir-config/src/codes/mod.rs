//! The diagnostics by code: a title, a text, and an example of wrong and right for each.
//!
//! Codes are stable: a code keeps its meaning, and one that is given up is never used again. The first two
//! digits tell the area: `01` text and values, `02` listeners, `03` routes, `04` clusters, `05` process.

mod clusters;
mod listeners;
mod process;
mod routes;
mod text;

use std::fmt::{self, Write as _};

pub(crate) use clusters::*;
pub(crate) use listeners::*;
pub(crate) use process::*;
pub(crate) use routes::*;
pub(crate) use text::*;

/// The code of a diagnostic, `W0123`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Code(&'static str);

impl Code {
    /// `W` and four digits.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a code means.
#[derive(Debug)]
pub struct Explanation {
    /// The code.
    pub code: Code,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// Why it matters and what to do, in full sentences.
    pub text: &'static str,
    /// A configuration that gives this diagnostic; empty where none is short enough to show.
    pub wrong: &'static str,
    /// The same one put right: it loads without any diagnostic.
    pub right: &'static str,
}

impl Explanation {
    /// The explanation as text for a terminal.
    pub fn render(&self) -> String {
        let mut out = format!("{}: {}\n\n{}\n", self.code, self.title, self.text);
        for (word, example) in [("Wrong", self.wrong), ("Right", self.right)] {
            if !example.is_empty() {
                let _ = write!(out, "\n{word}:\n\n");
                for line in example.lines() {
                    let indent = if line.is_empty() { "" } else { "    " };
                    let _ = writeln!(out, "{indent}{line}");
                }
            }
        }
        out
    }
}

/// Every code, by area.
pub static CODES: [&[Explanation]; 5] = [TEXT, LISTENERS, ROUTES, CLUSTERS, PROCESS];

/// The explanation of `code`, as `W0104`, `w0104` or `104`.
pub fn explain(code: &str) -> Option<&'static Explanation> {
    let digits = code.trim().trim_start_matches(['W', 'w']);
    if digits.is_empty() || digits.len() > 4 {
        return None;
    }
    let wanted = format!("W{digits:0>4}");
    CODES.iter().copied().flatten().find(|row| row.code.as_str() == wanted)
}

/// Rows of one area.
macro_rules! rows {
    ($group:ident: $($name:ident = $code:literal, $title:literal, $text:literal, wrong: $wrong:expr, right: $right:expr;)*) => {
        $(pub(crate) const $name: super::Code = super::Code($code);)*
        pub(crate) static $group: &[super::Explanation] = &[
            $(super::Explanation { code: $name, title: $title, text: $text, wrong: $wrong, right: $right },)*
        ];
    };
}

/// A whole configuration whose listener has these further lines.
macro_rules! listener {
    ($lines:literal) => {
        concat!(
            "[[listener]]\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\n",
            $lines,
            "\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n"
        )
    };
}

/// A whole configuration, with these lines at its end (more of the cluster, or further tables).
macro_rules! web {
    ($lines:literal) => {
        concat!(
            "[[listener]]\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n",
            $lines,
            "\n"
        )
    };
}

/// A whole configuration with one route.
macro_rules! route {
    ($lines:literal) => {
        concat!(
            "[[listener]]\nbind = \"127.0.0.1:8080\"\n\n[[route]]\n",
            $lines,
            "\n\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n"
        )
    };
}

/// A whole configuration whose cluster consists of these lines.
macro_rules! cluster {
    ($lines:literal) => {
        concat!("[[listener]]\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\n\n[cluster.web]\n", $lines, "\n")
    };
}

use {cluster, listener, route, rows, web};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        let all: Vec<_> = CODES.iter().copied().flatten().map(|row| row.code).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
        assert!(all.iter().all(|code| code.as_str().len() == 5 && code.as_str().starts_with('W')));
    }

    #[test]
    fn a_code_is_found_however_it_is_written() {
        for text in ["W0104", "w0104", "0104", "104", " W104 "] {
            assert_eq!(explain(text).map(|row| row.code.as_str()), Some("W0104"), "{text:?}");
        }
        for text in ["", "W", "W9999", "endpoints", "W00104"] {
            assert!(explain(text).is_none(), "{text:?}");
        }
    }
}
