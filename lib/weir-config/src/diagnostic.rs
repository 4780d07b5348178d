//! What is wrong with a configuration, where, and what to write instead.
//!
//! A diagnostic names a stable code, a byte range of the text, and where possible a help line. It is
//! rendered with the source line and a caret, so that nobody has to count columns.

use std::fmt::Write as _;
use std::ops::Range;

use crate::Source;
use crate::codes::Code;

/// A byte range of the configuration text.
pub type Span = Range<usize>;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// No plan is made.
    Error,
    /// A plan is made; the text probably does not say what was meant.
    Warning,
}

impl Severity {
    /// The lower-case word, as rendered.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One problem of a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Stable code; `weir explain CODE` tells more.
    pub code: Code,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, one line, no full stop.
    pub message: String,
    /// Where: bytes of the text. Empty at the end of the text or for the text as a whole.
    pub span: Span,
    /// Line of the start of `span`, from 1.
    pub line: usize,
    /// Column of the start of `span` in characters, from 1.
    pub column: usize,
    /// What stands under the caret. This, `help` and notes are one line each, too; `�` stands for control
    /// characters of the text.
    pub label: String,
    /// What to write instead.
    pub help: Option<String>,
    /// Further facts, such as where the other one of two duplicates is.
    pub notes: Vec<Note>,
}

/// A fact beside a diagnostic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The fact.
    pub message: String,
    /// Another place in the text that it speaks of.
    pub span: Option<Span>,
}

impl Diagnostic {
    /// The diagnostic as text for a terminal: headline, place, source line with carets, notes, help.
    /// `source` must be the text that was loaded. Ends with a line feed. Control characters of the
    /// text are shown as `�`, so that a hostile file cannot drive the terminal.
    pub fn render(&self, source: &Source, colour: bool) -> String {
        let paint = Paint { on: colour };
        let tone = match self.severity {
            Severity::Error => Tone::Red,
            Severity::Warning => Tone::Yellow,
        };
        let mut out = String::new();
        let headline = format!("{}[{}]", self.severity.as_str(), self.code);
        let _ =
            writeln!(out, "{}{}", paint.with(tone, &headline), paint.with(Tone::Bold, &format!(": {}", self.message)));
        let (line_text, line_start) = line_at(&source.text, self.span.start);
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let blue = |text: &str| paint.with(Tone::Blue, text);
        let _ = writeln!(out, "{gutter}{} {}:{}:{}", blue("-->"), source.name, self.line, self.column);
        let excerpt = excerpt(line_text, self.span.start.saturating_sub(line_start), self.span.len());
        let _ = writeln!(out, "{gutter} {}", blue("|"));
        let _ = writeln!(out, "{} {} {}", blue(&number), blue("|"), excerpt.text);
        let mut marks = "^".repeat(excerpt.width);
        if !self.label.is_empty() {
            let _ = write!(marks, " {}", self.label);
        }
        let _ = writeln!(out, "{gutter} {} {}{}", blue("|"), excerpt.pad, paint.with(tone, &marks));
        for note in &self.notes {
            let place = note.span.as_ref().map_or_else(String::new, |span| {
                let (line, column) = position(&source.text, span.start);
                format!(" ({}:{line}:{column})", source.name)
            });
            let _ = writeln!(out, "{gutter} {} {}{place}", blue("="), labelled(&paint, "note: ", &note.message));
        }
        if let Some(help) = &self.help {
            let _ = writeln!(out, "{gutter} {} {}", blue("="), labelled(&paint, "help: ", help));
        }
        out
    }
}

/// Line and column (in characters), both from 1, of the byte `offset`.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let (line_text, start) = line_at(text, offset);
    let line = text.get(..start).map_or(0, count_lines) + 1;
    let column = line_text.char_indices().take_while(|(at, _)| start + at < offset).count() + 1;
    (line, column)
}

// === Report: the collector ===

/// More problems than this are counted, not listed: nobody reads the two hundred and first.
pub const MAX_DIAGNOSTICS: usize = 200;

/// Collects the problems of one load.
pub(crate) struct Report {
    list: Vec<Diagnostic>,
    overflow: Diagnostic,
    errors: usize,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { list: Vec::new(), overflow: blank(), errors: 0 }
    }

    pub(crate) fn error(&mut self, code: Code, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(code, Severity::Error, span, message.into())
    }

    pub(crate) fn warning(&mut self, code: Code, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(code, Severity::Warning, span, message.into())
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    pub(crate) fn error_count(&self) -> usize {
        self.errors
    }

    fn push(&mut self, code: Code, severity: Severity, span: &Span, message: String) -> &mut Diagnostic {
        self.errors += usize::from(severity == Severity::Error);
        let new = Diagnostic { code, severity, message, span: span.clone(), ..blank() };
        if self.list.len() >= MAX_DIAGNOSTICS {
            self.overflow = new;
            return &mut self.overflow;
        }
        self.list.push(new);
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// The problems in the order of the text, with line and column.
    pub(crate) fn finish(mut self, text: &str) -> Vec<Diagnostic> {
        for diagnostic in &mut self.list {
            diagnostic.span = within(text, &diagnostic.span);
            (diagnostic.line, diagnostic.column) = position(text, diagnostic.span.start);
            diagnostic.keep_to_lines();
        }
        self.list.sort_by_key(|a| (a.span.start, a.severity));
        self.list
    }
}

impl Diagnostic {
    /// What is said may quote the text: nothing of it may break the line or drive the terminal.
    fn keep_to_lines(&mut self) {
        let notes = self.notes.iter_mut().map(|note| &mut note.message);
        for said in [&mut self.message, &mut self.label].into_iter().chain(&mut self.help).chain(notes) {
            if said.contains(char::is_control) {
                *said = said.chars().map(visible).collect();
            }
        }
    }

    pub(crate) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn maybe_help(&mut self, help: Option<String>) -> &mut Self {
        if help.is_some() {
            self.help = help;
        }
        self
    }

    pub(crate) fn note(&mut self, message: impl Into<String>) -> &mut Self {
        self.notes.push(Note { message: message.into(), span: None });
        self
    }

    pub(crate) fn note_at(&mut self, message: impl Into<String>, span: &Span) -> &mut Self {
        self.notes.push(Note { message: message.into(), span: Some(span.clone()) });
        self
    }
}

/// A piece of the user's text within a message: in back quotes, escaped, at most 60 characters.
pub(crate) fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut shown: String = text.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    // Quotes need no escape between back quotes.
    shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(MAX_CHARS).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

// === the source line ===

struct Excerpt {
    text: String,
    pad: String,
    width: usize,
}

/// The character, or what stands for a control character.
fn visible(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{FFFD}' } else { c }
}

/// The visible part of a line around `at..at + len` (bytes within the line).
fn excerpt(line: &str, at: usize, len: usize) -> Excerpt {
    const MAX_CHARS: usize = 120;
    const BEFORE: usize = 60;
    let before = line.char_indices().take_while(|(i, _)| *i < at).count();
    let total = line.chars().count();
    let marked = line.char_indices().filter(|(i, _)| *i >= at && *i < at.saturating_add(len)).count();
    let skip = if total > MAX_CHARS { before.saturating_sub(BEFORE) } else { 0 };
    let mut text = String::new();
    let mut pad = String::new();
    if skip > 0 {
        text.push('…');
        pad.push(' ');
    }
    text.extend(line.chars().skip(skip).take(MAX_CHARS).map(visible));
    if total > skip + MAX_CHARS {
        text.push('…');
    }
    let spaces = line.chars().skip(skip).take(before - skip);
    pad.extend(spaces.map(|c| if c == '\t' { '\t' } else { ' ' }));
    let room = (skip + MAX_CHARS).saturating_sub(before).max(1);
    Excerpt { text, pad, width: marked.clamp(1, room) }
}

/// The line that holds byte `offset`, without its end, and where it starts.
fn line_at(text: &str, offset: usize) -> (&str, usize) {
    let offset = floor_char(text, offset);
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    (text[start..end].trim_end_matches('\r'), start)
}

fn within(text: &str, span: &Span) -> Span {
    let start = floor_char(text, span.start);
    start..floor_char(text, span.end).max(start)
}

fn floor_char(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn count_lines(text: &str) -> usize {
    text.matches('\n').count()
}

fn blank() -> Diagnostic {
    Diagnostic {
        code: crate::codes::SYNTAX,
        severity: Severity::Error,
        message: String::new(),
        span: 0..0,
        line: 1,
        column: 1,
        label: String::new(),
        help: None,
        notes: Vec::new(),
    }
}

// === colour ===

#[derive(Clone, Copy)]
enum Tone {
    Red,
    Yellow,
    Blue,
    Bold,
}

struct Paint {
    on: bool,
}

impl Paint {
    fn with(&self, tone: Tone, text: &str) -> String {
        if !self.on {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Red => "1;31",
            Tone::Yellow => "1;33",
            Tone::Blue => "1;34",
            Tone::Bold => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

fn labelled(paint: &Paint, label: &str, text: &str) -> String {
    format!("{}{text}", paint.with(Tone::Bold, label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a\nä = 1\r\nz";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 2), (2, 1));
        assert_eq!(position(text, 5), (2, 3));
        assert_eq!(position(text, text.len()), (3, 2));
        assert_eq!(position(text, 999), (3, 2));
        assert_eq!(position("", 0), (1, 1));
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let line = format!("{}HERE{}", "x".repeat(500), "y".repeat(500));
        let cut = excerpt(&line, 500, 4);
        assert!(cut.text.chars().count() <= 122);
        let at = cut.pad.chars().count();
        assert_eq!(cut.text.chars().skip(at).take(4).collect::<String>(), "HERE");
        assert_eq!(cut.width, 4);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(excerpt("a\u{1b}[2Jb", 0, 1).text, "a\u{FFFD}[2Jb");
        assert!(!quoted("\u{1b}[2J").contains('\u{1b}'));

        let mut report = Report::new();
        let said = "a\u{1b}[2J\nb";
        report.error(crate::codes::SYNTAX, &(0..0), said).label(said).help(said).note(said);
        let [one] = <[_; 1]>::try_from(report.finish("")).unwrap();
        let shown = "a\u{FFFD}[2J\u{FFFD}b";
        assert_eq!([&one.message, &one.label, one.help.as_ref().unwrap(), &one.notes[0].message], [shown; 4]);
    }
}
