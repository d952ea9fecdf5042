//! Receive Key Vault's events: each says which secret it is about, and the account whose secret that
//! is will be looked at at the next tick. Nothing of an event is believed beyond that, so that a
//! lost, doubled or invented one does no harm.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use tracing::info;

use super::policy::PolicyCache;
use crate::{
    domain::{
        account::Account,
        ids::AccountName,
        permit::{Permit, ReceiveEvents},
        rotation::{RotationBatch, RotationWrite},
    },
    journal::{Enacted, Enactment, Journal, JournalError},
    ports::{Clock, StoreError},
};

/// Most events of one delivery: Event Grid's own bound for a batch
/// (learn.microsoft.com/azure/event-grid/delivery-and-retry).
pub const EVENTS_MAX: usize = 5_000;

/// A secret as an event names it, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamedSecret {
    /// The vault's host, or its name alone.
    pub vault: String,
    /// The secret's name.
    pub secret: String,
}

/// Why a delivery was not taken; Event Grid will repeat it.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The accounts could not be woken.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// The use case.
pub struct EventReceiver {
    /// The role table in memory.
    pub policy: Arc<PolicyCache>,
    /// The journal's writer.
    pub journal: Arc<Journal>,
    /// Now.
    pub clock: Arc<dyn Clock>,
}

impl EventReceiver {
    /// Wakes the accounts whose secrets are named; returns how many those are.
    ///
    /// # Errors
    /// [`ReceiveError`]; nobody was woken, or nobody knows.
    pub async fn receive(
        &self,
        _permit: &Permit<ReceiveEvents>,
        secrets: &HashSet<NamedSecret>,
    ) -> Result<usize, ReceiveError> {
        if secrets.is_empty() {
            return Ok(0);
        }
        let snapshot = self.policy.fresh().await?;
        let meant = snapshot
            .accounts()
            .filter(|account| is_named(account, secrets));
        let woken: BTreeSet<AccountName> = meant.map(|account| account.name.clone()).collect();
        if woken.is_empty() {
            return Ok(0);
        }
        let at = self.clock.now();
        let wake = |account: &AccountName| RotationWrite::Wake {
            account: account.clone(),
            at,
        };
        let batch = RotationBatch {
            fence: None,
            writes: woken.iter().map(wake).collect(),
        };
        let enactment = Enactment {
            events: Vec::new(),
            batch,
            decided_on: None,
            claim: None,
        };
        match self.journal.enact(enactment).await? {
            Enacted::Written(_) => {
                info!(accounts = woken.len(), "woken by events of their vaults");
                Ok(woken.len())
            }
            Enacted::Stale { .. } | Enacted::KeyTaken | Enacted::Refused => {
                Err(JournalError::Unavailable.into())
            }
        }
    }
}

/// Whether the account's secret is among those.
fn is_named(account: &Account, secrets: &HashSet<NamedSecret>) -> bool {
    let Some(policy) = &account.rotation else {
        return false;
    };
    let secret = policy.secret_name(&account.name).to_string();
    let host = policy.vault.host_str().unwrap_or_default();
    let name = host.split('.').next().unwrap_or_default();
    [host, name].into_iter().any(|vault| {
        secrets.contains(&NamedSecret {
            vault: vault.to_owned(),
            secret: secret.clone(),
        })
    })
}
