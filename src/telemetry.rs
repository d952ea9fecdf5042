//! Log lines: structured, to standard error, never with a secret in them. Messages are sentences;
//! what varies is a field. A failure is logged once, where it is handled.

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Text,
}

/// Starts logging with a filter such as `info` or `sas_broker=debug`. A second call does nothing.
///
/// # Errors
/// If the filter does not parse.
pub fn start(form: Form, filter: &str) -> Result<(), ParseError> {
    // The HTTP clients under the Azure SDK log request headers at trace; whoever asks for that gets
    // the SDK's redaction, but never less than a secret's absence from our own lines.
    let filter = EnvFilter::try_new(filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match form {
        Form::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .try_init(),
        Form::Text => lines.try_init(),
    };
    // An embedding program, or another test of this process, may log already.
    drop(started);
    Ok(())
}
