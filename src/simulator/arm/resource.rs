//! A storage account as an ARM resource: where it is, who may do what with it, its switches and
//! its keys, and the JSON that describes it.

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use url::Url;
use uuid::Uuid;

use super::super::spec::{ArmRole, ArmRoleAssignment, KeySlot, Lock, ManagementSpec};
use super::keys::{self, Keys, LiveKey};
use super::target::Target;

/// What can be done with an account through ARM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Read,
    ListKeys,
    RegenerateKey,
    RevokeDelegationKeys,
}

impl Action {
    /// The action's name in role definitions and refusals.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "Microsoft.Storage/storageAccounts/read",
            Self::ListKeys => "Microsoft.Storage/storageAccounts/listKeys/action",
            Self::RegenerateKey => "Microsoft.Storage/storageAccounts/regenerateKey/action",
            Self::RevokeDelegationKeys => {
                "Microsoft.Storage/storageAccounts/revokeUserDelegationKeys/action"
            }
        }
    }

    fn is_held_by(self, role: ArmRole) -> bool {
        match role {
            ArmRole::Owner | ArmRole::Contributor => true,
            ArmRole::Reader => self == Self::Read,
            ArmRole::KeyOperator => matches!(self, Self::ListKeys | Self::RegenerateKey),
            ArmRole::DelegationKeyRevoker => self == Self::RevokeDelegationKeys,
        }
    }
}

/// The managed side of an account. No `Debug`: it holds the keys.
pub(crate) struct Resource {
    name: String,
    created: OffsetDateTime,
    hierarchical_namespace: bool,
    subscription_id: Uuid,
    group: String,
    keys: Keys,
    key_propagation: Duration,
    allow_shared_key_access: Option<bool>,
    network_denies: bool,
    lock: Option<Lock>,
    in_progress: bool,
    role_assignments: Vec<ArmRoleAssignment>,
}

impl Resource {
    pub(crate) fn new(
        name: &str,
        hierarchical_namespace: bool,
        spec: ManagementSpec,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            name: name.into(),
            created: now,
            hierarchical_namespace,
            subscription_id: spec.subscription_id,
            group: spec.resource_group,
            keys: Keys::new(spec.key_creation_times),
            key_propagation: spec.key_propagation,
            allow_shared_key_access: spec.allow_shared_key_access,
            network_denies: false,
            lock: None,
            in_progress: false,
            role_assignments: spec.role_assignments,
        }
    }

    /// The full ARM id.
    pub(crate) fn id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Storage/storageAccounts/{}",
            self.subscription_id, self.group, self.name
        )
    }

    pub(super) fn is_in_subscription(&self, target: &Target) -> bool {
        target.subscription_id() == Some(self.subscription_id)
    }

    pub(super) fn is_in_group(&self, target: &Target) -> bool {
        let asked = target.group.as_deref();
        self.is_in_subscription(target)
            && asked.is_none_or(|group| group.eq_ignore_ascii_case(&self.group))
    }

    /// Whether a role of the principal holds the action.
    pub(super) fn allows(&self, principal: Uuid, action: Action) -> bool {
        self.role_assignments
            .iter()
            .any(|given| given.principal == principal && action.is_held_by(given.role))
    }

    /// Whether a lock forbids POST.
    pub(super) fn is_read_only(&self) -> bool {
        self.lock == Some(Lock::ReadOnly)
    }

    /// Whether another operation holds the account.
    pub(super) fn is_in_progress(&self) -> bool {
        self.in_progress
    }

    /// Gives a key a new value.
    pub(crate) fn regenerate(&mut self, slot: KeySlot, now: OffsetDateTime) {
        self.keys.regenerate(slot, self.key_propagation, now);
    }

    /// A key as it is now.
    pub(crate) fn key(&self, slot: KeySlot) -> LiveKey {
        self.keys.live(slot)
    }

    /// The key values that the data plane takes, and whether the account lets it take any.
    pub(crate) fn known_keys(&self, now: OffsetDateTime) -> [&[u8; 64]; 2] {
        self.keys.known(now)
    }

    /// Whether the account lets anybody in with a key.
    pub(crate) fn allows_shared_key(&self) -> bool {
        self.allow_shared_key_access != Some(false)
    }

    /// Whether the account's network rules keep everybody out of the data plane.
    pub(crate) fn network_denies(&self) -> bool {
        self.network_denies
    }

    pub(crate) fn set_allow_shared_key_access(&mut self, allowed: Option<bool>) {
        self.allow_shared_key_access = allowed;
    }

    pub(crate) fn set_network_denies(&mut self, denies: bool) {
        self.network_denies = denies;
    }

    pub(crate) fn set_key_propagation(&mut self, takes: Duration) {
        self.key_propagation = takes;
    }

    pub(crate) fn set_lock(&mut self, lock: Option<Lock>) {
        self.lock = lock;
    }

    pub(crate) fn set_in_progress(&mut self, in_progress: bool) {
        self.in_progress = in_progress;
    }

    /// Who may do what; management changes it.
    pub(crate) fn role_assignments(&mut self) -> &mut Vec<ArmRoleAssignment> {
        &mut self.role_assignments
    }

    /// The answer to `listKeys`.
    pub(super) fn listed_keys(&self) -> Value {
        self.keys.json("FULL")
    }

    /// The answer to `regenerateKey`.
    pub(super) fn regenerated_keys(&self) -> Value {
        self.keys.json("Full")
    }

    /// The account as `GET` shows it. Members that Azure leaves out of an account are left out.
    pub(super) fn json(&self, blob: &Url, dfs: &Url) -> Value {
        let endpoint = |base: &Url| format!("{base}{}/", self.name);
        let default_action = if self.network_denies { "Deny" } else { "Allow" };
        let mut properties = json!({
            "creationTime": keys::seven_digits(self.created),
            "provisioningState": "Succeeded",
            "primaryLocation": "westeurope",
            "statusOfPrimary": "available",
            "primaryEndpoints": { "blob": endpoint(blob), "dfs": endpoint(dfs) },
            "supportsHttpsTrafficOnly": true,
            "minimumTlsVersion": "TLS1_2",
            "allowBlobPublicAccess": false,
            "allowCrossTenantReplication": false,
            "accessTier": "Hot",
            "networkAcls": {
                "bypass": "AzureServices",
                "defaultAction": default_action,
                "ipRules": [],
                "virtualNetworkRules": [],
            },
            "encryption": {
                "keySource": "Microsoft.Storage",
                "services": { "blob": { "enabled": true, "keyType": "Account" } },
            },
            "privateEndpointConnections": [],
        });
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                properties[name] = value;
            }
        };
        set("keyCreationTime", self.keys.creation_times());
        set(
            "allowSharedKeyAccess",
            self.allow_shared_key_access.map(Value::from),
        );
        set(
            "isHnsEnabled",
            self.hierarchical_namespace.then_some(Value::Bool(true)),
        );
        json!({
            "id": self.id(),
            "name": self.name,
            "type": "Microsoft.Storage/storageAccounts",
            "location": "westeurope",
            "kind": "StorageV2",
            "sku": { "name": "Standard_LRS", "tier": "Standard" },
            "tags": {},
            "properties": properties,
        })
    }
}
