//! Revoke every delegation key of an account: all its live tokens die with them.
//!
//! ```text
//! announce (record: intended; keys dropped) -> ARM -> conclude (record: outcome; keys dropped again)
//! ```
//!
//! Keys are dropped by raising the account's generation, which every replica meets before it releases
//! another token. The first time, so that no token signed by an announced key leaves any more; the
//! second, because a key that was fetched while ARM worked may have been revoked as well.
//!
//! The work runs in a task of its own, so that a client that hangs up cannot stop it half-way. A
//! crash leaves an announcement without an outcome in the journal; repeating it is always safe.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use super::policy::PolicyCache;
use crate::{
    domain::{
        account::Account,
        audit::{Action, AuditEvent},
        ids::{AccountName, Reason},
        permit::{Context, Permit, RevokeDelegationKeys},
        rotation::{RotationBatch, RotationWrite, StepOutcome},
        time_text,
    },
    journal::{Enacted, Enactment, Journal, JournalError},
    ports::{Clock, OutsideError, StorageAccounts, StoreError},
};

/// How long a caller waits for the outcome; the work goes on. Short of a request's default time
/// limit, so that the answer says what is going on.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// How often the outcome is tried to be recorded: a minute in all. Until it is, a replica may sign
/// with a key that Azure has revoked: nobody is let in by that, but somebody is locked out.
const CONCLUSIONS_MAX: usize = 60;
/// The pause between two of them.
const CONCLUSION_PAUSE: Duration = Duration::from_secs(1);

/// Why it cannot be said that the keys are revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Not in the role table.
    #[error("the role table holds no account of this name")]
    UnknownAccount,
    /// ARM is asked by the account's id.
    #[error("the account's entry has no resource_id, the ARM id of the storage account")]
    NoResourceId,
    /// The database does not answer; nothing was done.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be announced; Azure was not asked.
    #[error("the revocation could not be recorded beforehand: {0}")]
    NotAnnounced(JournalError),
    /// Azure was asked, but the outcome is not recorded.
    #[error("Azure was asked, but what became of it could not be recorded: {0}")]
    NotConcluded(JournalError),
    /// Azure says why not, or that it is unclear.
    #[error("{0}")]
    Azure(#[from] OutsideError),
    /// It is still under way.
    #[error("the revocation is still under way, and will be recorded when it ends")]
    UnderWay,
}

/// The use case; clones share everything.
#[derive(Clone)]
pub struct KeyRevoker {
    /// The role table in memory.
    pub policy: Arc<PolicyCache>,
    /// ARM.
    pub arm: Arc<dyn StorageAccounts>,
    /// The journal's writer.
    pub journal: Arc<Journal>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// What must have ended before the journal is closed.
    pub tasks: TaskTracker,
}

/// One revocation, as its task carries it.
struct Revocation {
    context: Context,
    account: Arc<Account>,
    reason: Option<Reason>,
}

impl KeyRevoker {
    /// Revokes the account's keys.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub async fn revoke(
        &self,
        permit: &Permit<RevokeDelegationKeys>,
        account: &AccountName,
        reason: Option<Reason>,
    ) -> Result<(), RevokeError> {
        let snapshot = self.policy.fresh().await?;
        let account = snapshot.account(account);
        let account = Arc::clone(account.ok_or(RevokeError::UnknownAccount)?);
        if account.storage_resource_id().is_none() {
            return Err(RevokeError::NoResourceId);
        }
        let revocation = Revocation {
            context: permit.context().clone(),
            account,
            reason,
        };
        let own = self.clone();
        let work = self
            .tasks
            .spawn(async move { own.carry_out(&revocation).await });
        match timeout(PATIENCE, work).await {
            Ok(Ok(outcome)) => outcome,
            // The task has died, or lives on.
            Ok(Err(_)) | Err(_) => Err(RevokeError::UnderWay),
        }
    }

    async fn carry_out(&self, revocation: &Revocation) -> Result<(), RevokeError> {
        let announced = self.record(revocation, StepOutcome::Intended, true).await;
        announced.map_err(RevokeError::NotAnnounced)?;
        let account = &revocation.account;
        let asked = self.arm.revoke_user_delegation_keys(account).await;
        let outcome = match &asked {
            Ok(()) => StepOutcome::Done,
            Err(OutsideError::Unclear(_)) => StepOutcome::Unclear,
            Err(_) => StepOutcome::Refused,
        };
        if let Err(error) = &asked {
            warn!(account = %account.name, %error, "delegation keys not revoked, or nobody knows");
        }
        self.conclude(revocation, outcome).await?;
        Ok(asked?)
    }

    async fn conclude(
        &self,
        revocation: &Revocation,
        outcome: StepOutcome,
    ) -> Result<(), RevokeError> {
        let drops = outcome != StepOutcome::Refused;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.record(revocation, outcome, drops).await {
                Ok(()) => return Ok(()),
                Err(error) if tries == CONCLUSIONS_MAX || error == JournalError::Closed => {
                    let account = &revocation.account.name;
                    error!(%account, %outcome, %error, "a revocation's outcome is not recorded");
                    return Err(RevokeError::NotConcluded(error));
                }
                Err(_) => sleep(CONCLUSION_PAUSE).await,
            }
        }
    }

    /// Records one of the two ends, and drops the keys with it.
    async fn record(
        &self,
        revocation: &Revocation,
        outcome: StepOutcome,
        drops: bool,
    ) -> Result<(), JournalError> {
        let account = || revocation.account.name.clone();
        let drop = drops.then(|| RotationWrite::DropDelegationKeys { account: account() });
        let event = AuditEvent {
            at: time_text::to_micros(self.clock.now()),
            actor: revocation.context.actor(),
            client: revocation.context.client,
            request_id: Some(revocation.context.request_id),
            action: Action::DelegationKeysRevoked {
                account: account(),
                outcome,
                reason: revocation.reason.as_ref().map(ToString::to_string),
            },
        };
        let enactment = Enactment {
            events: vec![event],
            batch: RotationBatch {
                fence: None,
                writes: drop.into_iter().collect(),
            },
            decided_on: None,
            claim: None,
        };
        match self.journal.enact(enactment).await? {
            Enacted::Written(_) => Ok(()),
            // Nothing of it depends on a version, a key or a lease.
            Enacted::Stale { .. } | Enacted::KeyTaken | Enacted::Refused => {
                Err(JournalError::Unavailable)
            }
        }
    }
}

#[cfg(test)]
mod tests;
