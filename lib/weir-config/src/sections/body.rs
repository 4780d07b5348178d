//! Bodies that Weir answers with itself: written in the configuration or read from a file.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::Files;
use crate::codes;
use crate::diagnostic::{Report, quoted};
use crate::draft::Node;
use crate::syntax;
use crate::units::print_size;

/// Bytes of one body of an error page or fixed response: it is held in memory.
pub const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// The body of `node` (keys `body` and `file`), if it has one.
pub(crate) fn body(node: &Node, files: &dyn Files, report: &mut Report) -> Option<Arc<[u8]>> {
    let (inline, file) = (node.get("body"), node.get("file"));
    if let (Some(_), Some(file)) = (inline, file) {
        report
            .error(codes::CONFLICT, &file.span, "`body` and `file` cannot stand together")
            .note_at("`body` is here", &node.span_of("body"))
            .help("keep one of them");
        return None;
    }
    let (bytes, span) = match (inline, file) {
        (Some(inline), _) => (inline.text().as_bytes().to_vec(), &inline.span),
        (None, Some(file)) => match files.read(Path::new(file.text())) {
            Ok(bytes) => (bytes, &file.span),
            Err(error) => {
                let why = match error.kind() {
                    ErrorKind::NotFound => "there is no such file".to_owned(),
                    ErrorKind::PermissionDenied => "it may not be read".to_owned(),
                    _ => error.to_string(),
                };
                report
                    .error(codes::UNREADABLE_FILE, &file.span, format!("{} cannot be read: {why}", quoted(file.text())))
                    .help("a relative path starts at the folder of the configuration file");
                return None;
            }
        },
        (None, None) => return None,
    };
    if bytes.len() > MAX_PAGE_BYTES {
        report
            .error(codes::BODY_TOO_LARGE, span, format!("this body has {} bytes", bytes.len()))
            .help(format!("it is held in memory and may have at most {}", print_size(MAX_PAGE_BYTES as u64)));
    }
    Some(Arc::from(bytes))
}

/// The `content_type` of `node`, checked.
pub(crate) fn content_type(node: &Node, report: &mut Report) -> Arc<str> {
    if let Some(value) = node.text("content_type")
        && let Err(fault) = syntax::header_value(value.text())
    {
        fault.report(value, report);
    }
    Arc::from(node.str("content_type"))
}
