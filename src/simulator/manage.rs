//! The hand that reaches into accounts and vaults without asking for a token: what a test sets up,
//! what an administrator does in the portal, and what nobody can read from outside.
//!
//! Roles, locks and switches take effect at once. A key that is regenerated and a secret that is
//! deleted or recovered by hand take the same time as by a client. Late effects of calls whose
//! answers were lost are settled first. The rest of `Running` is in `mod.rs`.

use std::collections::btree_map::Entry;

use secrecy::SecretString;
use time::Duration;
use url::Url;
use uuid::Uuid;

use super::arm::Resource;
use super::blob::Account;
use super::serve::Socket;
use super::spec::{
    ArmRole, ArmRoleAssignment, KeySlot, Lock, NewSecret, VaultRoleAssignment, VaultSpec,
};
use super::vault::{Vault, VaultError};
use super::{LiveKey, Running, SecretVersion, StartError};

/// A management call named something that does not exist, or is not in a state for it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManageError {
    /// There is no account of this name.
    #[error("the simulator has no account {0:?}")]
    UnknownAccount(String),
    /// The account has no container of this name.
    #[error("the simulated account has no container {0:?}")]
    UnknownContainer(String),
    /// There is no vault of this name.
    #[error("the simulator has no vault {0:?}")]
    UnknownVault(String),
    /// The vault refuses what was asked of a secret.
    #[error("the simulated vault refuses it: {0}")]
    Secret(String),
}

/// Accounts as ARM resources, and their keys.
impl Running {
    /// ARM's base URL, with a trailing slash: `https://127.0.0.1:PORT/`.
    pub fn arm_url(&self) -> Url {
        self.world.arm.url.clone()
    }

    /// The full ARM id of an account.
    pub fn resource_id(&self, account: &str) -> Result<String, ManageError> {
        self.with_resource(account, |resource| resource.id())
    }

    /// Makes this cloud's ARM know these api-versions of Microsoft.Storage and no other.
    pub fn set_arm_api_versions(&self, versions: &[&str]) {
        let versions = versions.iter().map(|version| (*version).to_owned());
        self.world.arm.set_api_versions(versions.collect());
    }

    /// A key as it is now.
    pub fn account_key(&self, account: &str, slot: KeySlot) -> Result<LiveKey, ManageError> {
        self.with_resource(account, |resource| resource.key(slot))
    }

    /// Regenerates a key as somebody in the portal would. Returns what it is now.
    pub fn regenerate_key(&self, account: &str, slot: KeySlot) -> Result<LiveKey, ManageError> {
        let now = self.world.now();
        self.with_resource(account, |resource| {
            resource.regenerate(slot, now);
            resource.key(slot)
        })
    }

    /// Sets `allowSharedKeyAccess`; `None` takes the property away, which means yes.
    pub fn set_allow_shared_key_access(
        &self,
        account: &str,
        allowed: Option<bool>,
    ) -> Result<(), ManageError> {
        self.with_resource(account, |resource| {
            resource.set_allow_shared_key_access(allowed);
        })
    }

    /// From the next regeneration on, the data plane learns a new key after this time.
    pub fn set_key_propagation(&self, account: &str, takes: Duration) -> Result<(), ManageError> {
        self.with_resource(account, |resource| resource.set_key_propagation(takes))
    }

    /// Locks the account, or unlocks it with `None`.
    pub fn set_lock(&self, account: &str, lock: Option<Lock>) -> Result<(), ManageError> {
        self.with_resource(account, |resource| resource.set_lock(lock))
    }

    /// Lets another operation hold the account, so that every POST gets
    /// `StorageAccountOperationInProgress`.
    pub fn set_in_progress(&self, account: &str, in_progress: bool) -> Result<(), ManageError> {
        self.with_resource(account, |resource| resource.set_in_progress(in_progress))
    }

    /// Lets the account's network rules keep everybody out of its data plane; ARM is not affected.
    pub fn set_network_denies(&self, account: &str, denies: bool) -> Result<(), ManageError> {
        self.with_resource(account, |resource| resource.set_network_denies(denies))
    }

    /// Gives a principal a role on the account as a resource.
    pub fn assign_arm_role(
        &self,
        account: &str,
        principal: Uuid,
        role: ArmRole,
    ) -> Result<(), ManageError> {
        self.with_resource(account, |resource| {
            let given = ArmRoleAssignment { principal, role };
            resource.role_assignments().push(given);
        })
    }

    /// Takes every role of a principal on the account as a resource.
    pub fn remove_arm_roles(&self, account: &str, principal: Uuid) -> Result<(), ManageError> {
        self.with_resource(account, |resource| {
            let roles = resource.role_assignments();
            roles.retain(|given| given.principal != principal);
        })
    }

    /// Deletes an account with everything in it.
    pub fn delete_account(&self, account: &str) -> Result<(), ManageError> {
        let removed = self.world.storage.accounts().remove(account);
        removed
            .map(drop)
            .ok_or_else(|| ManageError::UnknownAccount(account.into()))
    }

    pub(super) fn with_account<T>(
        &self,
        name: &str,
        act: impl FnOnce(&mut Account) -> T,
    ) -> Result<T, ManageError> {
        self.world.settle();
        let mut accounts = self.world.storage.accounts();
        let account = accounts.get_mut(name);
        account
            .map(act)
            .ok_or_else(|| ManageError::UnknownAccount(name.into()))
    }

    fn with_resource<T>(
        &self,
        account: &str,
        act: impl FnOnce(&mut Resource) -> T,
    ) -> Result<T, ManageError> {
        self.with_account(account, |account| act(&mut account.resource))
    }
}

/// Vaults and their secrets.
impl Running {
    /// Creates a vault on a port of its own and serves it. Returns its URL with a trailing slash.
    /// Must be called inside the runtime that the simulator was started in.
    pub fn create_vault(&self, spec: VaultSpec) -> Result<Url, StartError> {
        let socket = Socket::bind("https")?;
        let (name, url) = (spec.name.clone(), socket.url.clone());
        match self.world.vaults.lock().entry(name.clone()) {
            Entry::Occupied(_) => return Err(StartError::VaultExists(name)),
            Entry::Vacant(place) => drop(place.insert(Vault::new(spec, url.clone()))),
        }
        self.servers.add_vault(&self.world, &name, socket)?;
        Ok(url)
    }

    /// A vault's URL, with a trailing slash.
    pub fn vault_url(&self, vault: &str) -> Result<Url, ManageError> {
        self.with_vault(vault, |vault| Ok(vault.url.clone()))
    }

    /// Gives a principal a role on a vault or one of its secrets.
    pub fn assign_vault_role(
        &self,
        vault: &str,
        role: VaultRoleAssignment,
    ) -> Result<(), ManageError> {
        self.with_vault(vault, |vault| {
            vault.role_assignments().push(role);
            Ok(())
        })
    }

    /// Takes every role of a principal on a vault and its secrets.
    pub fn remove_vault_roles(&self, vault: &str, principal: Uuid) -> Result<(), ManageError> {
        self.with_vault(vault, |vault| {
            let roles = vault.role_assignments();
            roles.retain(|given| given.principal != principal);
            Ok(())
        })
    }

    /// Lets the vault's firewall keep everybody out.
    pub fn set_vault_firewall(&self, vault: &str, denies: bool) -> Result<(), ManageError> {
        self.with_vault(vault, |vault| {
            vault.firewall_denies = denies;
            Ok(())
        })
    }

    /// Adds a version to a secret, which may be new. Returns the version's id.
    pub fn put_secret(
        &self,
        vault: &str,
        name: &str,
        version: NewSecret,
    ) -> Result<String, ManageError> {
        let now = self.world.now();
        self.with_vault(vault, |vault| {
            let secret = vault.set(name, version, now)?;
            Ok(secret.newest().id.clone())
        })
    }

    /// Every version of a secret, oldest first; the last one is the newest. None, if there is no
    /// such secret or it is deleted.
    pub fn secret_versions(
        &self,
        vault: &str,
        name: &str,
    ) -> Result<Vec<SecretVersion>, ManageError> {
        let now = self.world.now();
        self.with_vault(vault, |vault| {
            let secret = vault.active(name, now);
            Ok(secret.map_or(Vec::new(), |secret| secret.versions().to_vec()))
        })
    }

    /// The value of a secret's newest version, switched off or not; `None` without one.
    pub fn secret_value(
        &self,
        vault: &str,
        name: &str,
    ) -> Result<Option<SecretString>, ManageError> {
        let mut versions = self.secret_versions(vault, name)?;
        Ok(versions.pop().map(|version| version.value))
    }

    /// Switches a version on or off.
    pub fn set_secret_enabled(
        &self,
        vault: &str,
        name: &str,
        version: &str,
        enabled: bool,
    ) -> Result<(), ManageError> {
        let now = self.world.now();
        self.with_vault(vault, |vault| {
            let secret = vault.active(name, now)?;
            secret.set_enabled(version, enabled, now)
        })
    }

    /// Deletes a secret; it can be recovered.
    pub fn delete_secret(&self, vault: &str, name: &str) -> Result<(), ManageError> {
        let now = self.world.now();
        self.with_vault(vault, |vault| vault.delete(name, now).map(drop))
    }

    /// Recovers a deleted secret.
    pub fn recover_secret(&self, vault: &str, name: &str) -> Result<(), ManageError> {
        let now = self.world.now();
        self.with_vault(vault, |vault| vault.recover(name, now).map(drop))
    }

    /// Purges a deleted secret.
    pub fn purge_secret(&self, vault: &str, name: &str) -> Result<(), ManageError> {
        let now = self.world.now();
        self.with_vault(vault, |vault| vault.purge(name, now))
    }

    fn with_vault<T>(
        &self,
        name: &str,
        act: impl FnOnce(&mut Vault) -> Result<T, VaultError>,
    ) -> Result<T, ManageError> {
        self.world.settle();
        let mut vaults = self.world.vaults.lock();
        let vault = vaults.get_mut(name);
        let vault = vault.ok_or_else(|| ManageError::UnknownVault(name.into()))?;
        act(vault).map_err(|error| ManageError::Secret(error.to_string()))
    }
}
