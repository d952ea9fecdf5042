//! `sas-broker serve`: the service.

use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::{
    ConfigFile, Failure,
    compose::{Ambient, Broker, start_log},
};

/// Serve the API until SIGTERM or SIGINT; then finish what is under way and flush the journal.
#[derive(Debug, Args)]
pub struct Serve;

impl Serve {
    /// Runs the service.
    ///
    /// # Errors
    /// If it cannot start: configuration, database, credentials, listener.
    pub async fn run(self, file: &ConfigFile) -> Result<ExitCode, Failure> {
        let config = file.load()?;
        start_log(&config.log)?;
        let mut broker = Broker::start(&config, Ambient::system()).await?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut failed = false;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = broker.ended() => failed = true,
        }
        info!("stopping: in-flight requests finish, the journal is flushed");
        broker.stop().await;
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}
