//! `sas-broker config`: check a configuration, or begin one.

use std::process::ExitCode;

use clap::Subcommand;

use super::{ConfigFile, Failure};
use crate::config::EXAMPLE;

/// Configuration commands.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read and check the configuration, without starting anything.
    Check,
    /// Print a commented example with every key and its default.
    Example,
}

impl ConfigCommand {
    /// Runs it.
    ///
    /// # Errors
    /// With every key that is wrong.
    pub fn run(self, file: &ConfigFile) -> Result<ExitCode, Failure> {
        match self {
            Self::Check => {
                let config = file.load()?;
                anstream::println!(
                    "{} is valid: {} tenant(s), {} credential(s), listening on {}",
                    file.config.display(),
                    config.entra.tenants.len(),
                    config.credentials.len(),
                    config.server.listen,
                );
            }
            Self::Example => anstream::print!("{EXAMPLE}"),
        }
        Ok(ExitCode::SUCCESS)
    }
}
