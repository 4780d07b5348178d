//! The diagnostic log: to standard error, as text or as JSON lines.

use std::io;

use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error("the log filter {filter:?} is not valid: {cause}; write a level (`info`) or TARGET=LEVEL pairs")]
    Filter {
        /// As given.
        filter: String,
        /// What the parser says.
        cause: String,
    },
    /// The process has a log already.
    #[error("the log of this process is set up already")]
    Twice,
}

/// Sets up the log of the process, on standard error. `filter` is a level (`info`) or a list such as
/// `info,weir_proxy=debug` (the syntax of `tracing_subscriber::EnvFilter`); the environment is not read.
/// `colour` adds terminal colours to the text form.
pub fn init_logging(format: LogFormat, filter: &str, colour: bool) -> Result<(), LoggingError> {
    let filter = parse(filter)?;
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(colour).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).finish().try_init(),
    }
    .map_err(|_| LoggingError::Twice)
}

/// Sets up the log of the process as short lines of text in `writer` (time, level, message and fields; no
/// module), for a program that draws on its terminal. See [`init_logging`] for `filter`.
pub fn init_logging_into<W>(filter: &str, writer: W) -> Result<(), LoggingError>
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = fmt().with_env_filter(parse(filter)?).with_writer(writer).with_target(false).with_ansi(false);
    builder.finish().try_init().map_err(|_| LoggingError::Twice)
}

fn parse(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|cause| LoggingError::Filter { filter: filter.to_owned(), cause: cause.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_refused_with_its_text() {
        assert!(parse("info,weir_proxy=debug").is_ok());
        let error = parse("weir_proxy=loudly").unwrap_err().to_string();
        assert!(error.contains("weir_proxy=loudly"), "{error}");
    }
}
