//! What the simulated world contains when it starts: tenants with their users and applications,
//! storage accounts with their containers and role assignments. And what a vault is made of, which
//! is added to a running world.
//!
//! Plain data, written by whoever starts a simulator. Secrets sit in `SecretString`, so that the
//! derived `Debug` prints none. How the world behaves is in `entra`, `arm`, `blob` and `vault`.

use std::collections::BTreeMap;

use secrecy::SecretString;
use time::{Duration, OffsetDateTime};
use uuid::{Uuid, uuid};

/// The whole world.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Entra tenants.
    pub tenants: Vec<TenantSpec>,
    /// Storage accounts.
    pub accounts: Vec<AccountSpec>,
}

/// One Entra tenant (directory).
#[derive(Clone, Debug, Default)]
pub struct TenantSpec {
    /// The directory id, `tid`.
    pub id: Uuid,
    /// People who can sign in by name and password.
    pub users: Vec<UserSpec>,
    /// Registered applications: clients, APIs, or both.
    pub applications: Vec<ApplicationSpec>,
}

/// A user of a tenant.
#[derive(Clone, Debug)]
pub struct UserSpec {
    /// The directory object id, `oid`.
    pub object_id: Uuid,
    /// The sign-in name, for example `ada@contoso.example`.
    pub user_name: String,
    /// The password for the ROPC grant.
    pub password: SecretString,
    /// Object ids of the groups the user belongs to, nested memberships already spread out.
    pub groups: Vec<Uuid>,
}

/// An application registration together with its service principal in the same tenant.
#[derive(Clone, Debug, Default)]
pub struct ApplicationSpec {
    /// The application (client) id.
    pub client_id: Uuid,
    /// The object id of its service principal: the `oid` of its own tokens.
    pub object_id: Uuid,
    /// Client secrets, any of which signs it in. Empty means a public client.
    pub secrets: Vec<SecretString>,
    /// Object ids of the groups the service principal belongs to.
    pub groups: Vec<Uuid>,
    /// Set if tokens can be asked *for* this application.
    pub api: Option<ApiSpec>,
}

/// The side of an application registration that accepts tokens.
#[derive(Clone, Debug, Default)]
pub struct ApiSpec {
    /// The application id URI, for example `api://sas-broker`. The client id works as well.
    pub app_id_uri: String,
    /// `accessTokenAcceptedVersion` of the manifest: decides the shape of its tokens.
    pub accepted_token_version: TokenVersion,
    /// Delegated permissions (`scp`) that users may be given.
    pub scopes: Vec<String>,
    /// App roles given to users, groups or service principals (`roles`).
    pub app_role_assignments: Vec<AppRoleAssignment>,
    /// `groupMembershipClaims` is set: tokens carry `groups`.
    pub emits_groups: bool,
    /// The optional claim `idtyp` is asked for.
    pub emits_idtyp: bool,
}

/// One app role given to one principal.
#[derive(Clone, Debug)]
pub struct AppRoleAssignment {
    /// Object id of a user, a group or a service principal.
    pub principal: Uuid,
    /// The role's `value`, for example `SasBroker.Admin`.
    pub role: String,
}

/// The two shapes of an Entra access token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenVersion {
    /// `ver` 1.0, issuer `https://sts.windows.net/{tid}/`. What a manifest without a value means.
    #[default]
    V1,
    /// `ver` 2.0, issuer `{authority}/{tid}/v2.0`.
    V2,
}

/// One storage account.
#[derive(Clone, Debug, Default)]
pub struct AccountSpec {
    /// The account name: the first path segment of its endpoints.
    pub name: String,
    /// The one tenant the account trusts.
    pub tenant_id: Uuid,
    /// Hierarchical namespace: real directories, the dfs endpoint and `sr=d`.
    pub hierarchical_namespace: bool,
    /// `allowCrossTenantDelegationSas`: keys may be bound to users of other tenants.
    pub allow_cross_tenant_delegation_sas: bool,
    /// Containers that exist from the start.
    pub containers: Vec<String>,
    /// Who may do what with the data.
    pub role_assignments: Vec<RoleAssignment>,
    /// The account as ARM knows it.
    pub management: ManagementSpec,
}

/// The side of a storage account that ARM manages.
#[derive(Clone, Debug)]
pub struct ManagementSpec {
    /// The subscription the account is in. Accounts of one subscription share one tenant.
    pub subscription_id: Uuid,
    /// The resource group the account is in.
    pub resource_group: String,
    /// When `key1` and `key2` were made, to 100 ns; `None` is a key that was never regenerated.
    pub key_creation_times: [Option<OffsetDateTime>; 2],
    /// `allowSharedKeyAccess`; absent means yes.
    pub allow_shared_key_access: Option<bool>,
    /// How long the data plane goes on with the old value of a regenerated key and does not know
    /// the new one.
    pub key_propagation: Duration,
    /// Who may do what through ARM, on the account itself.
    pub role_assignments: Vec<ArmRoleAssignment>,
}

impl Default for ManagementSpec {
    fn default() -> Self {
        Self {
            subscription_id: uuid!("00000000-0000-4000-8000-0000000005b5"),
            resource_group: "data".into(),
            key_creation_times: [None, None],
            allow_shared_key_access: None,
            key_propagation: Duration::ZERO,
            role_assignments: Vec::new(),
        }
    }
}

/// A role assignment on a storage account as an ARM resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArmRoleAssignment {
    /// Object id of a user or a service principal. Groups are not expanded here.
    pub principal: Uuid,
    /// The role.
    pub role: ArmRole,
}

/// The roles that matter to the management of a storage account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArmRole {
    /// Owner: everything.
    Owner,
    /// Contributor: everything that is simulated here.
    Contributor,
    /// Reader: reads the account, not its keys.
    Reader,
    /// Storage Account Key Operator Service Role: lists and regenerates keys, cannot read the
    /// account.
    KeyOperator,
    /// A custom role with nothing but
    /// `Microsoft.Storage/storageAccounts/revokeUserDelegationKeys/action`.
    DelegationKeyRevoker,
}

/// One of the two keys of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySlot {
    /// `key1`.
    Key1,
    /// `key2`.
    Key2,
}

/// A management lock on an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// `CanNotDelete`: stops nothing that is simulated here.
    CanNotDelete,
    /// `ReadOnly`: stops every POST, `listKeys` too.
    ReadOnly,
}

/// A vault, as it is created.
#[derive(Clone, Debug)]
pub struct VaultSpec {
    /// Its name; on loopback it shows in error texts only.
    pub name: String,
    /// The one tenant the vault trusts.
    pub tenant_id: Uuid,
    /// For how many days a deleted secret can be recovered: 7 to 90.
    pub recoverable_days: u8,
    /// Deleted secrets cannot be purged.
    pub purge_protection: bool,
    /// For how long a deletion stays under way: the secret can be neither written nor recovered.
    pub deletion_takes: Duration,
    /// For how long a recovery stays under way: the secret can be neither read nor written.
    pub recovery_takes: Duration,
    /// Who may do what with the secrets.
    pub role_assignments: Vec<VaultRoleAssignment>,
}

impl Default for VaultSpec {
    fn default() -> Self {
        Self {
            name: "kv-data".into(),
            tenant_id: Uuid::nil(),
            recoverable_days: 90,
            purge_protection: false,
            deletion_takes: Duration::ZERO,
            recovery_takes: Duration::ZERO,
            role_assignments: Vec::new(),
        }
    }
}

/// A role assignment on a vault or one of its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultRoleAssignment {
    /// Object id of a user or a service principal. Groups are not expanded here.
    pub principal: Uuid,
    /// The role.
    pub role: VaultRole,
    /// `None` is the whole vault.
    pub secret: Option<String>,
}

/// The built-in data roles that matter to secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VaultRole {
    /// Key Vault Secrets Officer: everything.
    SecretsOfficer,
    /// Key Vault Secrets User: reads values and lists.
    SecretsUser,
    /// Key Vault Reader: lists, reads no value.
    Reader,
}

/// A new version of a secret.
#[derive(Clone, Debug)]
pub struct NewSecret {
    /// The value, at most 25 KiB.
    pub value: SecretString,
    /// `contentType`.
    pub content_type: Option<String>,
    /// `attributes.enabled`.
    pub enabled: bool,
    /// `attributes.nbf`, in Unix seconds.
    pub not_before: Option<i64>,
    /// `attributes.exp`, in Unix seconds.
    pub expires: Option<i64>,
    /// The tags.
    pub tags: BTreeMap<String, String>,
}

impl NewSecret {
    /// An enabled version with this value and nothing else.
    pub fn of(value: impl Into<SecretString>) -> Self {
        Self {
            value: value.into(),
            content_type: None,
            enabled: true,
            not_before: None,
            expires: None,
            tags: BTreeMap::new(),
        }
    }
}

/// An Azure role assignment on a storage account or one of its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleAssignment {
    /// Object id of a user or a service principal. Groups are not expanded here.
    pub principal: Uuid,
    /// The role.
    pub role: StorageRole,
    /// `None` is the whole account.
    pub container: Option<String>,
}

/// The built-in data roles that matter to a user-delegation SAS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageRole {
    /// Storage Blob Delegator: may fetch a user delegation key, may touch no data.
    BlobDelegator,
    /// Storage Blob Data Reader.
    BlobDataReader,
    /// Storage Blob Data Contributor.
    BlobDataContributor,
    /// Storage Blob Data Owner.
    BlobDataOwner,
}
