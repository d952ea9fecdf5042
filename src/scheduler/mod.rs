//! When rotation happens: once a minute, on the one process that holds the lease. It calls use cases
//! and decides nothing; what is due is in the database.
//!
//! A tick takes no input. One that is missed, because the process was down, is caught up by the
//! next; one that would overlap another waits for it, and two that wait are one.

mod ticker;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures_util::StreamExt;
use time::{Duration, OffsetDateTime};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use self::ticker::{StartError, Ticker};
use crate::{
    app::{
        deliver::Delivery,
        rotate::{RotateError, Rotator},
        tenure::Tenure,
    },
    domain::{ids::AccountName, rotation::step::OBSERVATION_INTERVAL, snapshot::Snapshot},
    ports::StoreError,
};

/// Most accounts that one tick looks at: a minute's worth. The others come a minute later; those that
/// a rotation is open for go first.
const ACCOUNTS_PER_TICK_MAX: usize = 200;

/// Accounts looked at side by side; a look mostly waits for Azure.
const SIDE_BY_SIDE: usize = 8;

/// Most accounts with an open rotation that are read: more than a broker has accounts.
const AT_WORK_MAX: usize = 100_000;

/// Statuses read at a time.
const PAGE: usize = 500;

/// Runs ticks.
pub struct Scheduler {
    rotator: Arc<Rotator>,
    tenure: Arc<Tenure>,
    delivery: Option<Arc<Delivery>>,
}

impl Scheduler {
    /// A scheduler that rotates while `tenure` is held, and then tells the webhook, if `delivery` is
    /// its business.
    #[must_use]
    pub const fn new(
        rotator: Arc<Rotator>,
        tenure: Arc<Tenure>,
        delivery: Option<Arc<Delivery>>,
    ) -> Self {
        Self {
            rotator,
            tenure,
            delivery,
        }
    }

    /// One tick: takes or renews the lease, brings every account further that is due, and tells the
    /// webhook. Does nothing while another process holds the lease. Ends early between two accounts
    /// when `stop` is cancelled.
    ///
    /// # Errors
    /// If the database does not answer; the next tick tries again.
    pub async fn tick(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        if !self.tenure.take().await? {
            return Ok(());
        }
        let snapshot = self.rotator.policy.fresh().await?;
        let due = self.due(&snapshot).await?;
        let looks = due.into_iter().map(|name| self.look(name, &snapshot, stop));
        // To the end of every one: a call that is cut off is a call whose outcome is unknown.
        let lost = futures_util::stream::iter(looks)
            .buffer_unordered(SIDE_BY_SIDE)
            .fold(false, |any, lost| async move { any || lost });
        if lost.await {
            info!("another process has the lease now");
            return Ok(());
        }
        // Afterwards, so that news is told at once. A receiver that does not answer makes the next tick
        // late, by less than a minute; rotations may be late.
        self.deliver().await
    }

    async fn deliver(&self) -> Result<(), StoreError> {
        match &self.delivery {
            Some(delivery) => delivery.deliver_due().await.map(drop),
            None => Ok(()),
        }
    }

    /// Gives the lease back at an orderly end.
    pub async fn end(&self) {
        if let Err(error) = self.tenure.give_back().await {
            warn!(%error, "the lease could not be given back; it ends by itself");
        }
    }

    /// Accounts to look at now: those that a rotation is open for, a break-glass first of all; then
    /// those whose time has come, the longest waiting first.
    async fn due(&self, snapshot: &Snapshot) -> Result<Vec<AccountName>, StoreError> {
        let now = self.rotator.clock.now();
        let looks = self.looks().await?;
        let records = &self.rotator.records;
        let at_work = records.accounts_at_work(AT_WORK_MAX).await?;
        let busy: HashSet<_> = at_work.iter().collect();
        let rotated = snapshot
            .accounts()
            .filter(|account| account.rotation.is_some());
        let mut waiting: Vec<_> = rotated
            .map(|account| (looks.get(&account.name).copied(), account.name.clone()))
            .filter(|(look_at, name)| {
                look_at.is_none_or(|at| is_due(at, now)) && !busy.contains(name)
            })
            .collect();
        waiting.sort();
        let open = at_work.into_iter().filter(|name| {
            !snapshot.is_rotated(name) || looks.get(name).is_none_or(|at| is_due(*at, now))
        });
        let waiting = waiting.into_iter().map(|(_, name)| name);
        Ok(open.chain(waiting).take(ACCOUNTS_PER_TICK_MAX).collect())
    }

    /// When each account is to be looked at.
    async fn looks(&self) -> Result<HashMap<AccountName, OffsetDateTime>, StoreError> {
        let mut looks = HashMap::new();
        let mut last: Option<AccountName> = None;
        loop {
            let page = self.rotator.records.statuses(last.as_ref(), PAGE).await?;
            let full = page.len() == PAGE;
            last = page.last().map(|status| status.account.clone());
            looks.extend(
                page.into_iter()
                    .map(|status| (status.account, status.look_at)),
            );
            if !full {
                return Ok(looks);
            }
        }
    }

    /// Looks at one account; true if the lease is lost, and nothing more may be done.
    async fn look(&self, name: AccountName, snapshot: &Snapshot, stop: &CancellationToken) -> bool {
        if stop.is_cancelled() {
            return false;
        }
        let rotated = snapshot.is_rotated(&name);
        let looked = match self.tenure.keep().await {
            Ok(true) if rotated => self.rotator.advance(&name, &self.tenure).await.map(drop),
            Ok(true) => self.rotator.abandon(&name, &self.tenure).await,
            Ok(false) => Err(RotateError::LeaseLost),
            Err(error) => Err(error.into()),
        };
        match looked {
            Ok(()) => false,
            Err(RotateError::LeaseLost) => true,
            Err(RotateError::Handover) => {
                info!(account = %name, "the former holder of the lease may still be in a call");
                false
            }
            Err(error) => {
                error!(account = %name, %error, "the account could not be rotated now");
                false
            }
        }
    }
}

/// Whether a look's time has come. A time that lies further ahead than any pause was set by a clock
/// that ran ahead and was set back since.
fn is_due(look_at: OffsetDateTime, now: OffsetDateTime) -> bool {
    look_at <= now || look_at > now + OBSERVATION_INTERVAL + Duration::hours(1)
}
