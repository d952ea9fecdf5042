//! The process's clockwork: a tick at the start, and one at the beginning of every minute.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, task::JoinHandle, time::timeout};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::Scheduler;

/// Every minute, in UTC: an account's own schedule decides when it is due, by its own time zone.
const EVERY_MINUTE: &str = "0 * * * * *";

/// The clockwork did not start.
#[derive(Debug, thiserror::Error)]
#[error("the scheduler did not start: {0}")]
pub struct StartError(#[from] JobSchedulerError);

/// A running scheduler.
pub struct Ticker {
    clockwork: JobScheduler,
    stop: CancellationToken,
    ticking: JoinHandle<()>,
}

impl Ticker {
    /// Starts ticking.
    ///
    /// # Errors
    /// If the clockwork cannot be set up.
    pub async fn start(scheduler: Scheduler) -> Result<Self, StartError> {
        // A permit that is not taken yet stands for any number of ticks.
        let wake = Arc::new(Notify::new());
        wake.notify_one();
        let clockwork = JobScheduler::new().await?;
        let bell = Arc::clone(&wake);
        clockwork
            .add(Job::new(EVERY_MINUTE, move |_, _| bell.notify_one())?)
            .await?;
        clockwork.start().await?;
        let stop = CancellationToken::new();
        let ticking = tokio::spawn(tick(scheduler, wake, stop.clone()));
        Ok(Self {
            clockwork,
            stop,
            ticking,
        })
    }

    /// Lets the tick under way come to the end of what it does just now, for at most `patience`, and
    /// gives the lease back. What is cut off is found by the next holder of the lease.
    pub async fn stop(mut self, patience: Duration) {
        self.stop.cancel();
        if let Err(error) = self.clockwork.shutdown().await {
            warn!(%error, "the scheduler's clockwork did not stop");
        }
        if timeout(patience, &mut self.ticking).await.is_err() {
            warn!("a rotation was cut off; the next look at it finds where it was");
            self.ticking.abort();
        }
    }
}

async fn tick(scheduler: Scheduler, wake: Arc<Notify>, stop: CancellationToken) {
    while stop.run_until_cancelled(wake.notified()).await.is_some() {
        if let Err(error) = scheduler.tick(&stop).await {
            error!(%error, "rotation waits for the database");
        }
    }
    scheduler.end().await;
}
