//! The simulated Key Vault: secrets with versions, soft deletion and role assignments.
//!
//! | file | holds |
//! |---|---|
//! | `endpoints` | HTTP: which call this is, who makes it, in which order it is refused |
//! | `call` | what a method and a path ask for, and the role action it takes |
//! | `content` | the bodies of set and update, and their bounds |
//! | `secret` | a secret with its versions, from creation to purge |
//! | `json` | the documents of the answers |
//! | `errors` | Key Vault's codes and the JSON around them |
//!
//! A vault has a port of its own, because on loopback the host cannot name it. Never here: keys,
//! certificates, backup, and the creation of vaults; that is a method of `Running`.

mod call;
mod content;
mod endpoints;
mod errors;
mod json;
mod secret;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use self::call::Action;
pub(super) use self::endpoints::configure;
pub(super) use self::errors::VaultError;
use self::secret::Secret;
pub use self::secret::SecretVersion;
use super::spec::{NewSecret, VaultRoleAssignment, VaultSpec};

/// Secrets one vault holds: far more than anything here makes.
const SECRETS_MOST: usize = 10_000;

/// Which of the vaults a server speaks for.
#[derive(Clone)]
pub(super) struct VaultName(pub(super) String);

/// All vaults, by name.
#[derive(Default)]
pub(super) struct Vaults {
    vaults: Mutex<BTreeMap<String, Vault>>,
}

impl Vaults {
    /// The vaults. No code path leaves one half-written, so poisoning is ignored.
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vault>> {
        self.vaults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One vault.
pub(super) struct Vault {
    spec: VaultSpec,
    /// Base URL with a trailing slash.
    pub(super) url: Url,
    pub(super) firewall_denies: bool,
    /// By lower-case name: Key Vault compares names without case.
    secrets: BTreeMap<String, Secret>,
}

impl Vault {
    pub(super) fn new(spec: VaultSpec, url: Url) -> Self {
        Self {
            spec,
            url,
            firewall_denies: false,
            secrets: BTreeMap::new(),
        }
    }

    /// Who may do what; management changes it.
    pub(super) fn role_assignments(&mut self) -> &mut Vec<VaultRoleAssignment> {
        &mut self.spec.role_assignments
    }

    /// Whether a role of the principal holds the action, on the vault or on this secret.
    fn allows(&self, principal: Uuid, action: Action, secret: Option<&str>) -> bool {
        let covers = |given: &VaultRoleAssignment| match (&given.secret, secret) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(given), Some(asked)) => given.eq_ignore_ascii_case(asked),
        };
        self.spec.role_assignments.iter().any(|given| {
            given.principal == principal && action.is_held_by(given.role) && covers(given)
        })
    }

    /// Adds a version, and the secret if there is none of the name.
    pub(super) fn set(
        &mut self,
        name: &str,
        version: NewSecret,
        now: OffsetDateTime,
    ) -> Result<&Secret, VaultError> {
        let full = self.secrets.len() >= SECRETS_MOST;
        let secret = match self.secrets.entry(name.to_lowercase()) {
            Entry::Vacant(_) if full => {
                return Err(VaultError::Full);
            }
            entry => entry.or_insert_with(|| Secret::new(name)),
        };
        secret.add(version, now)?;
        Ok(secret)
    }

    /// A secret that is there to be used.
    pub(super) fn active(
        &mut self,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<&mut Secret, VaultError> {
        self.secrets
            .get_mut(&name.to_lowercase())
            .filter(|secret| secret.is_active(now))
            .ok_or_else(|| VaultError::SecretNotFound(name.into()))
    }

    /// A secret whose deletion is complete.
    fn deleted(&mut self, name: &str, now: OffsetDateTime) -> Result<&mut Secret, VaultError> {
        self.secrets
            .get_mut(&name.to_lowercase())
            .filter(|secret| secret.is_deleted(now))
            .ok_or_else(|| VaultError::DeletedSecretNotFound(name.into()))
    }

    /// Begins to delete a secret.
    pub(super) fn delete(
        &mut self,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<&Secret, VaultError> {
        let takes = self.spec.deletion_takes;
        let secret = self.active(name, now)?;
        secret.delete(now, takes);
        Ok(secret)
    }

    /// Begins to recover a deleted secret.
    pub(super) fn recover(
        &mut self,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<&Secret, VaultError> {
        let takes = self.spec.recovery_takes;
        let secret = self.deleted(name, now)?;
        secret.recover(now, takes);
        Ok(secret)
    }

    /// Takes a deleted secret away for good.
    pub(super) fn purge(&mut self, name: &str, now: OffsetDateTime) -> Result<(), VaultError> {
        if self.spec.purge_protection {
            return Err(VaultError::PurgeProtected);
        }
        self.deleted(name, now)?;
        self.secrets.remove(&name.to_lowercase());
        Ok(())
    }

    /// Purges what nobody recovered in time.
    fn purge_forgotten(&mut self, now: OffsetDateTime) {
        let days = time::Duration::days(self.spec.recoverable_days.into());
        self.secrets
            .retain(|_, secret| secret.deleted_at().is_none_or(|at| now < at + days));
    }
}
