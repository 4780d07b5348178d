//! `weir check` and `weir explain`, and reading configuration files for every verb.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use weir_config::{Diagnostic, Outcome, Source};

use super::{CheckOptions, ExplainOptions, fail, print, wants_colour};
use crate::server;

/// Reads and resolves a file. All its problems are printed to standard error.
pub(crate) fn load(path: &Path) -> Result<Outcome, ExitCode> {
    let text = std::fs::read_to_string(path).map_err(|error| fail(&format!("{}: {error}", path.display())))?;
    let source = Source { name: path.display().to_string(), text };
    let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let files = |name: &Path| std::fs::read(folder.join(name));
    let outcome = weir_config::load(&source, &files);
    tell(&outcome.diagnostics, &source);
    Ok(outcome)
}

/// Prints diagnostics.
pub(crate) fn tell(diagnostics: &[Diagnostic], source: &Source) {
    let colour = wants_colour(&std::io::stderr());
    for diagnostic in diagnostics {
        // Nobody can be told if standard error is closed.
        let _ = writeln!(std::io::stderr(), "{}", diagnostic.render(source, colour));
    }
}

/// `weir check`
pub(crate) fn check(options: &CheckOptions) -> ExitCode {
    let outcome = match load(&options.file) {
        Ok(outcome) => outcome,
        Err(code) => return code,
    };
    let mut errors = outcome.diagnostics.iter().filter(|d| d.severity == weir_config::Severity::Error).count();
    if let Some(plan) = outcome.plan.as_ref().filter(|_| !options.text_only) {
        for problem in server::preflight::problems(plan) {
            errors += 1;
            fail(&format!("{}: on this machine: {problem}", options.file.display()));
        }
    }
    if errors > 0 {
        let plural = if errors == 1 { "" } else { "s" };
        return fail(&format!("{}: {errors} problem{plural}", options.file.display()));
    }
    match &outcome.draft {
        Some(draft) if options.effective => print(&weir_config::effective(draft)),
        _ => print(&format!("{}: ok\n", options.file.display())),
    }
}

/// `weir explain`
pub(crate) fn explain(options: &ExplainOptions) -> ExitCode {
    let Some(code) = &options.code else {
        let mut lines = String::new();
        for entry in weir_config::CODES.iter().copied().flatten() {
            let _ = writeln!(lines, "{}  {}", entry.code, entry.title);
        }
        return print(&lines);
    };
    match weir_config::explain(code) {
        Some(explanation) => print(&explanation.render()),
        None => fail(&format!("there is no diagnostic `{code}`; `weir explain` lists all of them")),
    }
}
