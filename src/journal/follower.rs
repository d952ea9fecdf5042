//! The background task that keeps search up to date, seconds behind the journal, and removes
//! expired idempotency keys. Every replica may run it.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::time_text,
    ports::{Clock, JournalReader, JournalStore, StoreError},
};

/// Rows copied in one transaction: a few milliseconds, which is how long SQLite's one writer waits.
const ROWS_PER_STEP_MAX: usize = 256;

/// Pause after a full step. It leaves most of the database's time to the journal itself, and still
/// copies some thousands of rows a second.
const BUSY_PAUSE: Duration = Duration::from_millis(40);

/// Pause when there was no more to copy: search is at most this far behind an idle journal.
const IDLE_PAUSE: Duration = Duration::from_secs(1);

/// Pause after a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// Expired idempotency keys that are removed in one statement.
const CLAIMS_PER_STEP_MAX: usize = 1_000;

/// Steps between two looks for expired keys: about a minute when idle. A look that finds many is
/// repeated at the next step.
const STEPS_PER_PURGE: u32 = 60;

/// The running task.
#[derive(Debug)]
pub struct Follower {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Follower {
    /// Starts it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(
        reader: Arc<dyn JournalReader>,
        store: Arc<dyn JournalStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let running = run(&*reader, &*store, &*clock);
            // A step is one transaction: cut short, it changes nothing.
            stopped.run_until_cancelled(running).await;
        });
        Self { stop, task }
    }

    /// Stops it.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the journal's follower has failed");
        }
    }
}

async fn run(reader: &dyn JournalReader, store: &dyn JournalStore, clock: &dyn Clock) {
    let mut failing = false;
    let mut purging = true;
    for step in (0..STEPS_PER_PURGE).cycle() {
        let done = take_step(reader, store, clock, purging).await;
        match (&done, failing) {
            (Err(error), false) => tracing::warn!(%error, "journal search falls behind"),
            (Ok(_), true) => tracing::info!("journal search follows again"),
            _ => {}
        }
        failing = done.is_err();
        let (copied, purged) = done.unwrap_or_default();
        purging = purged == CLAIMS_PER_STEP_MAX || step == STEPS_PER_PURGE - 1;
        sleep(match (failing, copied) {
            (true, _) => FAILURE_PAUSE,
            (false, ROWS_PER_STEP_MAX..) => BUSY_PAUSE,
            (false, _) => IDLE_PAUSE,
        })
        .await;
    }
}

/// How many rows were copied, and how many expired keys removed.
async fn take_step(
    reader: &dyn JournalReader,
    store: &dyn JournalStore,
    clock: &dyn Clock,
    purging: bool,
) -> Result<(usize, usize), StoreError> {
    let copied = reader.follow(ROWS_PER_STEP_MAX).await?.unwrap_or(0);
    if !purging {
        return Ok((copied, 0));
    }
    let now = time_text::to_micros(clock.now());
    let purged = store.purge_claims(now, CLAIMS_PER_STEP_MAX).await?;
    Ok((copied, purged))
}
