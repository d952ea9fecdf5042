//! Prometheus metrics. Steps are counted as they are recorded; what is known about accounts is read
//! from the database when somebody asks, so that every replica says the same and nothing is kept.
//! Next to read: [`listener`], where they are served.

mod accounts;
pub mod listener;

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{counter::Counter, family::Family, info::Info},
    registry::Registry,
};
use tokio::sync::Mutex;
use tracing::warn;

use crate::{
    domain::{
        ids::AccountName,
        rotation::{AccountStatus, StepKind, StepOutcome},
    },
    ports::{Clock, Rotations, StepMeter, StoreError},
};

/// What every name begins with.
const PREFIX: &str = "sas_broker";

/// Statuses read at a time.
const PAGE: usize = 500;

/// Most accounts that are told about, 12 lines each. Whoever has more than this on one broker wants
/// a sum, not series.
pub const ACCOUNTS_MAX: usize = 10_000;

/// Longest that reading the accounts takes, other scrapes' turns included; well within Prometheus's
/// own limit of 10 s for a scrape.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// `act` and `outcome`.
type StepLabels = [(&'static str, &'static str); 2];

/// Whether an account is rotated now. The database also remembers those that were.
pub type Rotated = Box<dyn Fn(&AccountName) -> bool + Send + Sync>;

/// The metrics of one process.
pub struct Metrics {
    registry: Registry,
    steps: Family<StepLabels, Counter>,
    scrape_errors: Counter,
    records: Arc<dyn Rotations>,
    rotated: Rotated,
    clock: Arc<dyn Clock>,
    /// One scrape reads at a time: a crowd of them must not take the database's connections.
    turn: Mutex<()>,
}

/// Why a scrape goes without the accounts, or without some.
#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the database did not answer within {} s", READ_TIMEOUT.as_secs())]
    Slow,
    #[error("there are more than {ACCOUNTS_MAX} accounts; the others are left out")]
    TooMany,
}

impl Metrics {
    /// Every counter at zero.
    #[must_use]
    pub fn new(records: Arc<dyn Rotations>, rotated: Rotated, clock: Arc<dyn Clock>) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", version);
        let steps = Family::<StepLabels, Counter>::default();
        // A counter that appears with its first increment hides that increment from `increase()`.
        let closed = StepOutcome::ALL.iter().filter(|outcome| !outcome.is_open());
        for outcome in closed {
            for act in StepKind::ALL {
                drop(steps.get_or_create(&labels(*act, *outcome)));
            }
        }
        registry.register(
            "rotation_steps",
            "Steps of rotations whose outcome this process has recorded",
            steps.clone(),
        );
        let scrape_errors = Counter::default();
        registry.register(
            "rotation_scrape_errors",
            "Scrapes that lack accounts because the database did not give them",
            scrape_errors.clone(),
        );
        Self {
            registry,
            steps,
            scrape_errors,
            records,
            rotated,
            clock,
            turn: Mutex::default(),
        }
    }

    /// The whole page, in the `OpenMetrics` text format.
    ///
    /// # Panics
    /// Never: writing to a string does not fail.
    pub async fn scrape(&self) -> String {
        let mut accounts = Vec::new();
        let read = tokio::time::timeout(READ_TIMEOUT, self.read(&mut accounts)).await;
        if let Err(error) = read.unwrap_or(Err(ScrapeError::Slow)) {
            self.scrape_errors.inc();
            warn!(%error, "a scrape of the metrics lacks accounts");
            // Half of them would look as if the others were gone.
            if !matches!(error, ScrapeError::TooMany) {
                accounts.clear();
            }
        }
        let accounts = accounts::registry(&accounts, self.clock.now());
        let mut page = String::new();
        encode_registry(&mut page, &self.registry)
            .and_then(|()| encode_registry(&mut page, &accounts))
            .and_then(|()| encode_eof(&mut page))
            .expect("writing to a string does not fail");
        page
    }

    /// Reads the statuses of rotated accounts, in the order of names.
    async fn read(&self, accounts: &mut Vec<AccountStatus>) -> Result<(), ScrapeError> {
        let _turn = self.turn.lock().await;
        let mut last: Option<AccountName> = None;
        loop {
            let page = self.records.statuses(last.as_ref(), PAGE).await?;
            let full = page.len() == PAGE;
            last = page.last().map(|status| status.account.clone());
            let rotated = page.into_iter();
            accounts.extend(rotated.filter(|status| (self.rotated)(&status.account)));
            if accounts.len() > ACCOUNTS_MAX {
                accounts.truncate(ACCOUNTS_MAX);
                return Err(ScrapeError::TooMany);
            }
            if !full {
                return Ok(());
            }
        }
    }
}

impl StepMeter for Metrics {
    fn count(&self, act: StepKind, outcome: StepOutcome) {
        self.steps.get_or_create(&labels(act, outcome)).inc();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn labels(act: StepKind, outcome: StepOutcome) -> StepLabels {
    [("act", act.as_str()), ("outcome", outcome.as_str())]
}
