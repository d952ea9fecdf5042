//! `sas-broker serve`: the service.

use std::{io, process::ExitCode};

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
        let failed = tokio::select! {
            asked = stop_signal() => { asked?; false }
            () = broker.ended() => true,
        };
        info!("stopping: in-flight requests finish, the journal is flushed");
        broker.stop().await;
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// If the process cannot listen for them.
pub(super) async fn stop_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
