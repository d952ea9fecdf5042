//! The role table: read as a whole, edited by change sets.

use async_trait::async_trait;
use ipnet::IpNet;
use url::Url;

use super::{
    LOAD_TIMEOUT, READ_TIMEOUT, bounded,
    connect::{Engine, Store},
    corrupt,
    session::{Fields, Session, Value},
};
use crate::{
    domain::{
        account::Account,
        change::ChangeSet,
        grant::{Conditions, Effect, Grant, Principal, Provenance, Role, Scope},
        ids::{AccountName, BlobPath, SigningIdentity},
        rotation::RotationPolicy,
        snapshot::PolicyTable,
        time_text,
    },
    ports::{PolicyStore, StoreError},
};

const VERSION: &str = "SELECT version FROM policy_version";

const ACCOUNTS: &str = "SELECT name, resource_id, tenant_id, blob_endpoint, dfs_endpoint, \
     hierarchical_namespace, signing_identity, correlation_id_supported, sas_period_seconds_max, \
     issuance_enabled, management_identity, rotation_policy FROM accounts ORDER BY name";

const KEY_GENERATIONS: &str = "SELECT account, generation FROM delegation_key_generations";

const ROLES: &str = "SELECT name, permissions, lifetime_seconds_max, bind_to_caller, require_ip \
     FROM roles ORDER BY name";

const GRANTS: &str = "SELECT id, version, principal_kind, principal_tenant_id, principal_name, \
     role, account, container, prefix, effect, not_before, expires, caller_networks, sip_within, \
     lifetime_seconds_max, ticket, reason FROM grants ORDER BY id";

/// The first statement of a change: raises the version once for all edits, and holds the triggers
/// off that would raise it for each.
const START_CHANGE: &str = "UPDATE policy_version SET version = version + 1, changing = 1";

const END_CHANGE: &str = "UPDATE policy_version SET changing = 0 RETURNING version";

const PUT_ACCOUNT: &str = "INSERT INTO accounts (name, resource_id, tenant_id, blob_endpoint, \
     dfs_endpoint, hierarchical_namespace, signing_identity, correlation_id_supported, \
     sas_period_seconds_max, issuance_enabled, management_identity, rotation_policy, version, \
     updated_at, updated_by) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 1, $13, $14) \
     ON CONFLICT (name) DO UPDATE SET resource_id = excluded.resource_id, \
     tenant_id = excluded.tenant_id, blob_endpoint = excluded.blob_endpoint, \
     dfs_endpoint = excluded.dfs_endpoint, \
     hierarchical_namespace = excluded.hierarchical_namespace, \
     signing_identity = excluded.signing_identity, \
     correlation_id_supported = excluded.correlation_id_supported, \
     sas_period_seconds_max = excluded.sas_period_seconds_max, \
     issuance_enabled = excluded.issuance_enabled, \
     management_identity = excluded.management_identity, \
     rotation_policy = excluded.rotation_policy, version = accounts.version + 1, \
     updated_at = excluded.updated_at, updated_by = excluded.updated_by";

const PUT_ROLE: &str = "INSERT INTO roles (name, permissions, lifetime_seconds_max, \
     bind_to_caller, require_ip, version, updated_at, updated_by) \
     VALUES ($1, $2, $3, $4, $5, 1, $6, $7) \
     ON CONFLICT (name) DO UPDATE SET permissions = excluded.permissions, \
     lifetime_seconds_max = excluded.lifetime_seconds_max, \
     bind_to_caller = excluded.bind_to_caller, require_ip = excluded.require_ip, \
     version = roles.version + 1, updated_at = excluded.updated_at, \
     updated_by = excluded.updated_by";

const PUT_GRANT: &str = "INSERT INTO grants (id, version, principal_kind, principal_tenant_id, \
     principal_name, role, account, container, prefix, effect, not_before, expires, \
     caller_networks, sip_within, lifetime_seconds_max, ticket, reason, \
     created_at, created_by, updated_at, updated_by) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
     $18, $19, $18, $19) \
     ON CONFLICT (id) DO UPDATE SET version = excluded.version, \
     principal_kind = excluded.principal_kind, \
     principal_tenant_id = excluded.principal_tenant_id, \
     principal_name = excluded.principal_name, role = excluded.role, account = excluded.account, \
     container = excluded.container, prefix = excluded.prefix, effect = excluded.effect, \
     not_before = excluded.not_before, expires = excluded.expires, \
     caller_networks = excluded.caller_networks, sip_within = excluded.sip_within, \
     lifetime_seconds_max = excluded.lifetime_seconds_max, ticket = excluded.ticket, \
     reason = excluded.reason, updated_at = excluded.updated_at, updated_by = excluded.updated_by";

const DROP_ACCOUNT: &str = "DELETE FROM accounts WHERE name = $1";
const DROP_ROLE: &str = "DELETE FROM roles WHERE name = $1";
const DROP_GRANT: &str = "DELETE FROM grants WHERE id = $1";

const SNAPSHOT_POSTGRES: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

#[async_trait]
impl PolicyStore for Store {
    async fn version(&self) -> Result<i64, StoreError> {
        bounded(READ_TIMEOUT, async {
            let mut reader = self.reader().await?;
            reader.session().fetch_int(VERSION, &[]).await
        })
        .await
    }

    async fn load(&self) -> Result<PolicyTable, StoreError> {
        bounded(LOAD_TIMEOUT, async {
            match &self.0 {
                Engine::Sqlite { readers, .. } => {
                    // With WAL, a transaction sees the database as of its first read.
                    let mut tx = readers.begin().await?;
                    load(Session::Sqlite(&mut tx)).await
                }
                Engine::Postgres { readers, .. } => {
                    let mut tx = readers.begin_with(SNAPSHOT_POSTGRES).await?;
                    load(Session::Postgres(&mut tx)).await
                }
            }
        })
        .await
    }
}

async fn load(mut session: Session<'_>) -> Result<PolicyTable, sqlx::Error> {
    let generation = |row: &Fields| Ok((row.parsed(0)?, row.int(1)?));
    let generations = session.fetch(KEY_GENERATIONS, &[], generation);
    let key_generations = generations.await?.into_iter().collect();
    Ok(PolicyTable {
        version: session.fetch_int(VERSION, &[]).await?,
        accounts: session.fetch(ACCOUNTS, &[], read_account).await?,
        roles: session.fetch(ROLES, &[], read_role).await?,
        grants: session.fetch(GRANTS, &[], read_grant).await?,
        key_generations,
    })
}

fn read_account(row: &Fields) -> Result<Account, sqlx::Error> {
    let name: AccountName = row.parsed(0)?;
    Ok(Account {
        resource_id: row.maybe_parsed(1)?,
        tenant_id: row.parsed(2)?,
        blob_endpoint: row.parsed(3)?,
        dfs_endpoint: row.maybe_parsed(4)?,
        hierarchical_namespace: row.flag(5)?,
        signing_identity: row.parsed(6)?,
        correlation_id_supported: row.flag(7)?,
        sas_period_seconds_max: seconds(row, 8)?,
        issuance_enabled: row.flag(9)?,
        management_identity: row.maybe_parsed(10)?,
        rotation: read_rotation(&name, row.maybe_text(11)?),
        name,
    })
}

/// A rotation policy that cannot be read, because somebody edited it by hand or a newer version of
/// the broker wrote it, stops the rotation of this account's keys and nothing else. Every other
/// unreadable value makes the whole table unreadable, for it may be what keeps a token from being
/// issued; a rotation policy has no say in that, and a rotation that is late strands nobody, whereas
/// a table that cannot be loaded stops issuing for every account. It is said at every load, that is
/// after every change of the table, until somebody puts the account anew.
fn read_rotation(account: &AccountName, policy: Option<&str>) -> Option<RotationPolicy> {
    let read = serde_json::from_str(policy?);
    read.inspect_err(|error| {
        tracing::error!(%account, %error, "unreadable rotation policy: its keys are not rotated");
    })
    .ok()
}

fn read_role(row: &Fields) -> Result<Role, sqlx::Error> {
    Ok(Role {
        name: row.parsed(0)?,
        permissions: row.parsed(1)?,
        lifetime_seconds_max: seconds(row, 2)?,
        bind_to_caller: row.flag(3)?,
        require_ip: row.flag(4)?,
    })
}

fn read_grant(row: &Fields) -> Result<Grant, sqlx::Error> {
    Ok(Grant {
        id: row.parsed(0)?,
        version: row.int(1)?,
        principal: read_principal(row)?,
        role: row.parsed(5)?,
        scope: Scope {
            account: row.parsed(6)?,
            container: row.parsed(7)?,
            prefix: row.maybe_parsed(8)?,
        },
        effect: match row.text(9)? {
            "allow" => Effect::Allow,
            "deny" => Effect::Deny,
            _ => return Err(corrupt("a grant that neither allows nor denies")),
        },
        conditions: Conditions {
            not_before: row.maybe_instant(10)?,
            expires: row.maybe_instant(11)?,
            caller_networks: networks(row, 12)?,
            sip_within: networks(row, 13)?,
            lifetime_seconds_max: seconds(row, 14)?,
        },
        provenance: Provenance {
            ticket: row.maybe_parsed(15)?,
            reason: row.maybe_parsed(16)?,
        },
    })
}

fn read_principal(row: &Fields) -> Result<Principal, sqlx::Error> {
    let tenant_id = row.parsed(3)?;
    Ok(match row.text(2)? {
        "user" => Principal::User {
            tenant_id,
            object_id: row.parsed(4)?,
        },
        "service_principal" => Principal::ServicePrincipal {
            tenant_id,
            object_id: row.parsed(4)?,
        },
        "group" => Principal::Group {
            tenant_id,
            object_id: row.parsed(4)?,
        },
        "app_role" => Principal::AppRole {
            tenant_id,
            role: row.parsed(4)?,
        },
        _ => return Err(corrupt("a principal of unknown kind")),
    })
}

/// The columns of a principal: its kind, and its object id or app role.
fn principal_columns(principal: &Principal) -> (&'static str, String) {
    match principal {
        Principal::User { object_id, .. } => ("user", object_id.to_string()),
        Principal::ServicePrincipal { object_id, .. } => {
            ("service_principal", object_id.to_string())
        }
        Principal::Group { object_id, .. } => ("group", object_id.to_string()),
        Principal::AppRole { role, .. } => ("app_role", role.to_string()),
    }
}

fn seconds(row: &Fields, place: usize) -> Result<Option<u32>, sqlx::Error> {
    let seconds = row.maybe_int(place)?;
    seconds
        .map(|seconds| u32::try_from(seconds).map_err(corrupt))
        .transpose()
}

fn networks(row: &Fields, place: usize) -> Result<Vec<IpNet>, sqlx::Error> {
    serde_json::from_str(row.text(place)?).map_err(corrupt)
}

/// Makes every edit of a change set; returns the version that it makes.
pub(super) async fn apply(
    mut session: Session<'_>,
    changes: &ChangeSet,
    by: &str,
    at: i64,
) -> Result<i64, sqlx::Error> {
    start_change(&mut session).await?;
    for account in &changes.put_accounts {
        put_account(&mut session, account, by, at).await?;
    }
    for role in &changes.put_roles {
        put_role(&mut session, role, by, at).await?;
    }
    for grant in &changes.put_grants {
        put_grant(&mut session, grant, by, at).await?;
    }
    for id in &changes.drop_grants {
        let id = id.to_string();
        session.execute(DROP_GRANT, &[Value::Text(&id)]).await?;
    }
    for name in &changes.drop_roles {
        session
            .execute(DROP_ROLE, &[Value::Text(name.as_str())])
            .await?;
    }
    for name in &changes.drop_accounts {
        session
            .execute(DROP_ACCOUNT, &[Value::Text(name.as_str())])
            .await?;
    }
    end_change(&mut session).await
}

/// Raises the version, and holds off the triggers that would raise it again.
pub(super) async fn start_change(session: &mut Session<'_>) -> Result<(), sqlx::Error> {
    session.execute(START_CHANGE, &[]).await.map(drop)
}

/// Sets the triggers going again; returns the version.
pub(super) async fn end_change(session: &mut Session<'_>) -> Result<i64, sqlx::Error> {
    session.fetch_int(END_CHANGE, &[]).await
}

async fn put_account(
    session: &mut Session<'_>,
    account: &Account,
    by: &str,
    at: i64,
) -> Result<(), sqlx::Error> {
    let tenant_id = account.tenant_id.to_string();
    let manager = account.management_identity.as_ref();
    let rotation = account.rotation.as_ref().map(rotation_text);
    let values = [
        Value::Text(account.name.as_str()),
        Value::MaybeText(account.resource_id.as_deref()),
        Value::Text(&tenant_id),
        Value::Text(account.blob_endpoint.as_str()),
        Value::MaybeText(account.dfs_endpoint.as_ref().map(Url::as_str)),
        Value::Int(account.hierarchical_namespace.into()),
        Value::Text(account.signing_identity.as_str()),
        Value::Int(account.correlation_id_supported.into()),
        Value::MaybeInt(account.sas_period_seconds_max.map(Into::into)),
        Value::Int(account.issuance_enabled.into()),
        Value::MaybeText(manager.map(SigningIdentity::as_str)),
        Value::MaybeText(rotation.as_deref()),
        Value::Int(at),
        Value::Text(by),
    ];
    session.execute(PUT_ACCOUNT, &values).await.map(drop)
}

async fn put_role(
    session: &mut Session<'_>,
    role: &Role,
    by: &str,
    at: i64,
) -> Result<(), sqlx::Error> {
    let permissions = role.permissions.to_string();
    let values = [
        Value::Text(role.name.as_str()),
        Value::Text(&permissions),
        Value::MaybeInt(role.lifetime_seconds_max.map(Into::into)),
        Value::Int(role.bind_to_caller.into()),
        Value::Int(role.require_ip.into()),
        Value::Int(at),
        Value::Text(by),
    ];
    session.execute(PUT_ROLE, &values).await.map(drop)
}

async fn put_grant(
    session: &mut Session<'_>,
    grant: &Grant,
    by: &str,
    at: i64,
) -> Result<(), sqlx::Error> {
    let (id, tenant_id) = (
        grant.id.to_string(),
        grant.principal.tenant_id().to_string(),
    );
    let (kind, principal) = principal_columns(&grant.principal);
    let conditions = &grant.conditions;
    let caller_networks = networks_text(&conditions.caller_networks);
    let sip_within = networks_text(&conditions.sip_within);
    let values = [
        Value::Text(&id),
        Value::Int(grant.version),
        Value::Text(kind),
        Value::Text(&tenant_id),
        Value::Text(&principal),
        Value::Text(grant.role.as_str()),
        Value::Text(grant.scope.account.as_str()),
        Value::Text(grant.scope.container.as_str()),
        Value::MaybeText(grant.scope.prefix.as_ref().map(BlobPath::as_str)),
        Value::Text(match grant.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        }),
        Value::MaybeInt(conditions.not_before.map(time_text::to_micros)),
        Value::MaybeInt(conditions.expires.map(time_text::to_micros)),
        Value::Text(&caller_networks),
        Value::Text(&sip_within),
        Value::MaybeInt(conditions.lifetime_seconds_max.map(Into::into)),
        Value::MaybeText(grant.provenance.ticket.as_deref()),
        Value::MaybeText(grant.provenance.reason.as_deref()),
        Value::Int(at),
        Value::Text(by),
    ];
    session.execute(PUT_GRANT, &values).await.map(drop)
}

fn networks_text(networks: &[IpNet]) -> String {
    serde_json::to_string(networks).expect("networks are plain text")
}

fn rotation_text(policy: &RotationPolicy) -> String {
    serde_json::to_string(policy).expect("a policy has text keys and plain values")
}
