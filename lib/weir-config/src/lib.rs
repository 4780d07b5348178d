//! Configuration: text → [`Draft`] (as written, spans kept) → [`Plan`] (resolved) + diagnostics.
//!
//! [`load`] reports all problems of a text at once, each at its place with a stable code and a help
//! line. Nothing is ever repaired silently: a text with an error gives no plan. There is no file access
//! here: the caller passes the text, and [`Files`] for the few keys that name further files.
//!
//! One table of keys ([`schema`]) drives reading, suggestions, [`effective`], [`reference_markdown`] and
//! [`json_schema`].
//!
//! ```
//! use weir_config::{NoFiles, Source, load};
//!
//! let text = "[[listener]]\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\n\n[cluster.web]\nendpoint = [\"10.0.0.1:80\"]\n";
//! let source = Source { name: "weir.toml".into(), text: text.into() };
//! let outcome = load(&source, &NoFiles);
//! assert!(outcome.plan.is_none());
//! let first = outcome.diagnostics[0].render(&source, false);
//! assert!(first.contains("did you mean `endpoints`?"), "{first}");
//! ```
#![forbid(unsafe_code)]

pub mod codes;
mod diagnostic;
mod draft;
mod effective;
mod fuzz;
mod json_schema;
mod nearest;
pub mod plan;
mod proxy;
mod reference;
pub mod schema;
mod sections;
mod syntax;
mod units;
mod walk;

use std::io;
use std::path::Path;

pub use codes::{CODES, Code, Explanation, explain};
pub use diagnostic::{Diagnostic, MAX_DIAGNOSTICS, Note, Severity, Span, position};
pub use draft::Draft;
pub use effective::effective;
pub use fuzz::{FUZZ_MAX_BYTES, fuzz_dictionary, fuzz_one};
pub use json_schema::json_schema;
pub use plan::Plan;
pub use proxy::{DEFAULT_LISTEN, proxy_plan, proxy_source};
pub use reference::{diagnostics_markdown, reference_markdown};
pub use sections::{MAX_BUDGETS, MAX_CLUSTERS, MAX_ENDPOINTS, MAX_LISTENERS, MAX_PAGE_BYTES, MAX_ROUTES};
pub use units::parse_duration_text as parse_duration;
pub use walk::MAX_TEXT_BYTES;

/// A configuration text and the name that messages call it by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// File name for messages.
    pub name: String,
    /// The text.
    pub text: String,
}

/// Reads the files that a configuration names (bodies of error pages and fixed responses).
pub trait Files {
    /// The bytes of the file at `path`, as written in the configuration: a relative path should be taken
    /// from the configuration's folder.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

impl<F: Fn(&Path) -> io::Result<Vec<u8>>> Files for F {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self(path)
    }
}

/// No files: every name is "not found".
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// What a text gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The resolved configuration; `None` if there is any error.
    pub plan: Option<Plan>,
    /// The configuration as written with every default filled in, for [`effective`]; `None` if there is any
    /// error.
    pub draft: Option<Draft>,
    /// All problems, in the order of the text (at most [`MAX_DIAGNOSTICS`]).
    pub diagnostics: Vec<Diagnostic>,
}

impl Outcome {
    /// Whether there is an error, so that there is no plan.
    pub fn has_errors(&self) -> bool {
        self.plan.is_none()
    }
}

/// Reads a configuration and resolves it. Reports all problems at once.
pub fn load(source: &Source, files: &dyn Files) -> Outcome {
    let mut report = diagnostic::Report::new();
    let mut draft = walk::read(&source.text, &mut report);
    let plan = draft.as_mut().map(|draft| sections::resolve(draft, files, &mut report));
    let failed = report.has_errors();
    let diagnostics = report.finish(&source.text);
    if failed {
        return Outcome { plan: None, draft: None, diagnostics };
    }
    Outcome { plan, draft, diagnostics }
}
