//! What the simulated world contains when it starts: tenants with their users and applications,
//! storage accounts with their containers and role assignments.
//!
//! Plain data, written by whoever starts a simulator. Secrets sit in `SecretString`, so that the
//! derived `Debug` prints none. How the world behaves is in `entra` and `blob`.

use secrecy::SecretString;
use uuid::Uuid;

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
