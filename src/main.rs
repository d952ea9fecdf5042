//! Parses the command line, runs the command, turns its end into an exit code.

use std::process::ExitCode;

use clap::Parser;
use sas_broker::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
