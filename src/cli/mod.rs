//! The command line: one file per command. [`compose`] is the only place that wires adapters
//! together.
//!
//! Exit codes: 0 done, 1 failed (or: `audit verify` found something), 2 the command line is wrong.

pub mod apply;
pub mod audit;
pub mod compose;
pub mod config;
pub mod demo;
pub mod dev;
pub mod openapi;
pub mod rotate;
pub mod serve;

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, LoadError};

/// Any failure of a command, for the last line on the terminal.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Short-lived, least-privilege Azure Blob access for Entra ID callers.
///
/// The broker checks an Entra access token against a role table and answers with a user-delegation
/// SAS for exactly the blobs, verbs and minutes that the caller may have. Start with `sas-broker
/// demo`.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API.
    Serve(serve::Serve),
    /// Make the role table what a policy document says; shows the difference.
    Apply(apply::Apply),
    Rotate(rotate::Rotate),
    /// Read and verify the journal.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Check a configuration, or print a commented example.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print the OpenAPI 3.1 document.
    Openapi,
    /// Tell the whole story on this terminal, against the built-in simulator.
    Demo(demo::Demo),
    /// Keep the demo's world running and print curl lines to play with.
    Dev(dev::Dev),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file.
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "SAS_BROKER_CONFIG",
        default_value = "sas-broker.toml"
    )]
    config: PathBuf,
}

impl ConfigFile {
    /// Reads and checks it.
    ///
    /// # Errors
    /// [`LoadError`] names every key that is wrong.
    pub fn load(&self) -> Result<Config, LoadError> {
        Config::load(&self.config)
    }
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// With what to tell the user.
    pub async fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Serve(serve) => serve.run(&self.config).await,
            Command::Apply(apply) => apply.run(&self.config).await,
            Command::Rotate(rotate) => rotate.run(&self.config).await,
            Command::Audit(audit) => audit.run(&self.config).await,
            Command::Config(config) => config.run(&self.config),
            Command::Openapi => Ok(openapi::run()),
            Command::Demo(demo) => demo.run().await,
            Command::Dev(dev) => dev.run().await,
        }
    }
}
