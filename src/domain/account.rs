//! A managed storage account as the role table knows it.

use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    cloud::{Cloud, ForbiddenEndpoint, Service},
    ids::{AccountName, SigningIdentity, TenantId},
    resource_id::{RESOURCE_ID_CHARS_MAX, ResourceId},
    rotation::{InvalidRotation, RotationPolicy},
};

/// One storage account that the broker issues tokens for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its name, which is unique in Azure.
    pub name: AccountName,
    /// Full ARM id, for the journal and for key rotation; the account itself never needs it to issue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// The directory that the account's subscription trusts.
    pub tenant_id: TenantId,
    /// Base URL of its Blob service, without a container.
    pub blob_endpoint: Url,
    /// Base URL of its Data Lake service; needed for directory tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dfs_endpoint: Option<Url>,
    /// Whether it has a hierarchical namespace, without which a prefix cannot be signed.
    #[serde(default)]
    pub hierarchical_namespace: bool,
    /// Which of the configured credentials asks for its user delegation keys.
    pub signing_identity: SigningIdentity,
    /// Which of the configured credentials manages the account: its keys, its secret, its
    /// revocations. The signing identity, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_identity: Option<SigningIdentity>,
    /// How its keys are rotated; not at all, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationPolicy>,
    /// Whether its endpoint verifies `scid`. Azure does; Azurite refuses such tokens.
    #[serde(default = "yes")]
    pub correlation_id_supported: bool,
    /// Longest `se - st` that the account's own SAS policy lets pass, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sas_period_seconds_max: Option<u32>,
    /// Whether tokens are issued for it at all.
    #[serde(default = "yes")]
    pub issuance_enabled: bool,
}

const fn yes() -> bool {
    true
}

/// Why an account's record is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAccount {
    /// An endpoint would let the broker's own token leave the cloud.
    #[error(transparent)]
    Endpoint(#[from] ForbiddenEndpoint),
    /// Directory tokens need the Data Lake endpoint.
    #[error("an account with hierarchical_namespace needs a dfs_endpoint")]
    NoDfsEndpoint,
    /// Too short to hold the shortest token.
    #[error("sas_period_seconds_max must be at least 60 seconds")]
    PeriodTooShort,
    /// Not an ARM id.
    #[error("resource_id must start with /subscriptions/ and hold no control characters")]
    ResourceId,
    /// Another account's.
    #[error("resource_id is the ARM id of another storage account")]
    ForeignResourceId,
    /// The rotation policy.
    #[error(transparent)]
    Rotation(#[from] InvalidRotation),
}

impl Account {
    /// Checks what the types alone cannot, when an entry is written: everything that
    /// [`Account::guard`] does, and the rules of its rotation.
    ///
    /// # Errors
    /// [`InvalidAccount`] names the field and the rule.
    pub fn check(&self, cloud: &Cloud) -> Result<(), InvalidAccount> {
        self.guard(cloud)?;
        let named = self.resource_id.as_deref().map(str::parse::<ResourceId>);
        if let Some(Ok(id)) = named
            && *id.account() != self.name
        {
            return Err(InvalidAccount::ForeignResourceId);
        }
        match &self.rotation {
            Some(rotation) => Ok(rotation.check(self, cloud)?),
            None => Ok(()),
        }
    }

    /// Checks what issuing depends on, whenever an entry is read: endpoints against the cloud's guard,
    /// and the relations between fields. It costs next to nothing.
    ///
    /// # Errors
    /// [`InvalidAccount`] names the field and the rule.
    pub fn guard(&self, cloud: &Cloud) -> Result<(), InvalidAccount> {
        let name = self.name.as_str();
        cloud.check(name, Service::Blob, &self.blob_endpoint)?;
        if let Some(dfs) = &self.dfs_endpoint {
            cloud.check(name, Service::Dfs, dfs)?;
        }
        if self.hierarchical_namespace && self.dfs_endpoint.is_none() {
            return Err(InvalidAccount::NoDfsEndpoint);
        }
        if self
            .sas_period_seconds_max
            .is_some_and(|seconds| seconds < 60)
        {
            return Err(InvalidAccount::PeriodTooShort);
        }
        let arm_id = |id: &String| {
            id.starts_with("/subscriptions/")
                && id.chars().count() <= RESOURCE_ID_CHARS_MAX
                && !id.chars().any(char::is_control)
        };
        if !self.resource_id.as_ref().is_none_or(arm_id) {
            return Err(InvalidAccount::ResourceId);
        }
        Ok(())
    }

    /// The ARM id, if it is the one of this very storage account: under another's id, what is done to
    /// this account would be done to that one.
    #[must_use]
    pub fn storage_resource_id(&self) -> Option<ResourceId> {
        let id: ResourceId = self.resource_id.as_ref()?.parse().ok()?;
        (*id.account() == self.name).then_some(id)
    }

    /// Which of the configured credentials manages the account.
    #[must_use]
    pub fn manager(&self) -> &SigningIdentity {
        self.management_identity
            .as_ref()
            .unwrap_or(&self.signing_identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cloud::CloudName;

    #[test]
    fn a_resource_id_must_be_this_very_account_s() {
        let id = |name: &str| {
            let group = "/subscriptions/60000000-0000-4000-8000-000000000001/resourceGroups/data";
            format!("{group}/providers/Microsoft.Storage/storageAccounts/{name}")
        };
        let cloud = CloudName::Public.well_known(vec![]).unwrap();
        let mut account: Account = serde_json::from_value(serde_json::json!({
            "name": "acct1",
            "resource_id": id("acct1"),
            "tenant_id": "11111111-1111-1111-1111-111111111111",
            "blob_endpoint": "https://acct1.blob.core.windows.net",
            "signing_identity": "default",
        }))
        .unwrap();
        assert_eq!(account.check(&cloud), Ok(()));
        assert!(account.storage_resource_id().is_some());
        account.resource_id = Some(id("acct2"));
        let refused = Err(InvalidAccount::ForeignResourceId);
        assert_eq!(account.check(&cloud), refused);
        assert_eq!(account.guard(&cloud), Ok(()), "issuing does not need it");
        assert_eq!(
            account.storage_resource_id(),
            None,
            "so nothing is done to acct2"
        );
    }
}
