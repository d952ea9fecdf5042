//! `sas-broker openapi`: the document that `openapi/sas-broker.v1.json` must equal.

use std::process::ExitCode;

use crate::http::openapi::generate;

/// Prints the document.
#[must_use]
pub fn run() -> ExitCode {
    anstream::print!("{}", generate());
    ExitCode::SUCCESS
}
