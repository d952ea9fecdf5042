//! The commands of the example: one JSON object a line, told apart by `do`. They reach the same
//! methods that the Rust tests use, and are answered by `{"ok":true}`, by what was asked for, or by
//! `{"error":…}`.

use std::sync::atomic::Ordering;

use actix_web::http::StatusCode;
use sas_broker::simulator::{
    ArmRole, Effect, Endpoint, Fault, Lock, Seen, VaultRole, VaultRoleAssignment,
};
use serde::Deserialize;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::Scene;

/// `{"do":"…", …}`.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Command {
    /// Makes the next calls of an endpoint fail.
    Fail {
        endpoint: String,
        #[serde(default = "one")]
        calls: u32,
        fault: String,
        /// For a status or a limit: the `Retry-After` header.
        retry_after_seconds: Option<u32>,
        /// For an effect that comes late: when, from now.
        after_seconds: Option<u32>,
    },
    /// How many calls an endpoint has received.
    Calls { endpoint: String },
    /// Sets the simulated clock forward.
    Advance { seconds: u32 },
    /// `ReadOnly`, `CanNotDelete`, or null to unlock.
    Lock { lock: Option<String> },
    /// Lets another operation hold the account.
    InProgress { on: bool },
    /// `allowSharedKeyAccess`; null takes the property away.
    AllowSharedKeyAccess { allowed: Option<bool> },
    /// The account's network rules.
    NetworkDenies { on: bool },
    /// The vault's firewall.
    VaultFirewall { on: bool },
    /// The client's roles on the account as a resource, in place of those it has.
    ArmRoles { roles: Vec<String> },
    /// The client's roles on the vault, in place of those it has.
    VaultRoles { roles: Vec<String> },
}

const fn one() -> u32 {
    1
}

impl Command {
    /// Carries it out; the answer, or why it could not be.
    pub(crate) fn carry_out(self, scene: &Scene) -> Result<Value, String> {
        let (azure, account) = (&scene.azure, scene.wishes.account.as_str());
        let vault = scene.wishes.vault.as_str();
        let done = match self {
            Self::Fail {
                endpoint,
                calls,
                fault: name,
                retry_after_seconds,
                after_seconds,
            } => {
                let late = Duration::seconds(after_seconds.unwrap_or_default().into());
                let fault = fault(&name, retry_after_seconds, scene.now() + late);
                azure.fail_calls(known(&endpoint, ENDPOINTS)?, 0..calls, fault?);
                Ok(())
            }
            Self::Calls { endpoint } => {
                return Ok(json!({ "calls": azure.calls(known(&endpoint, ENDPOINTS)?) }));
            }
            Self::Advance { seconds } => {
                let seconds = i64::from(seconds);
                scene.seconds_ahead.fetch_add(seconds, Ordering::SeqCst);
                Ok(())
            }
            Self::Lock { lock } => {
                let lock = lock.map(|name| known(&name, LOCKS)).transpose()?;
                azure.set_lock(account, lock)
            }
            Self::InProgress { on } => azure.set_in_progress(account, on),
            Self::AllowSharedKeyAccess { allowed } => {
                azure.set_allow_shared_key_access(account, allowed)
            }
            Self::NetworkDenies { on } => azure.set_network_denies(account, on),
            Self::VaultFirewall { on } => azure.set_vault_firewall(vault, on),
            Self::ArmRoles { roles } => return set_arm_roles(scene, &roles),
            Self::VaultRoles { roles } => return set_vault_roles(scene, &roles),
        };
        done.map_err(|error| error.to_string())?;
        Ok(json!({ "ok": true }))
    }
}

const ENDPOINTS: &[(&str, Endpoint)] = &[
    ("token", Endpoint::Token),
    ("delegation_key", Endpoint::DelegationKey),
    ("shared_key", Endpoint::SharedKey),
    ("data", Endpoint::Data),
    ("arm_read", Endpoint::ArmRead),
    ("arm_list_keys", Endpoint::ArmListKeys),
    ("arm_regenerate_key", Endpoint::ArmRegenerateKey),
    (
        "arm_revoke_delegation_keys",
        Endpoint::ArmRevokeDelegationKeys,
    ),
    ("vault_challenge", Endpoint::VaultChallenge),
    ("vault_set", Endpoint::VaultSet),
    ("vault_get", Endpoint::VaultGet),
    ("vault_list", Endpoint::VaultList),
    ("vault_update", Endpoint::VaultUpdate),
    ("vault_delete", Endpoint::VaultDelete),
];

const LOCKS: &[(&str, Lock)] = &[
    ("ReadOnly", Lock::ReadOnly),
    ("CanNotDelete", Lock::CanNotDelete),
];

const ARM_ROLES: &[(&str, ArmRole)] = &[
    ("contributor", ArmRole::Contributor),
    ("reader", ArmRole::Reader),
    ("key_operator", ArmRole::KeyOperator),
    ("delegation_key_revoker", ArmRole::DelegationKeyRevoker),
];

const VAULT_ROLES: &[(&str, VaultRole)] = &[
    ("secrets_officer", VaultRole::SecretsOfficer),
    ("secrets_user", VaultRole::SecretsUser),
    ("reader", VaultRole::Reader),
];

/// The thing of this name, or the names there are.
fn known<T: Copy>(name: &str, names: &[(&str, T)]) -> Result<T, String> {
    let found = names.iter().find(|(known, _)| *known == name);
    found.map(|(_, thing)| *thing).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(known, _)| *known).collect();
        format!("{name} is none of {}", names.join(", "))
    })
}

fn fault(
    name: &str,
    retry_after_seconds: Option<u32>,
    late: OffsetDateTime,
) -> Result<Fault, String> {
    let lost = |effect, seen| Fault::Lost { effect, seen };
    let faults = [
        (
            "server_error",
            Fault::Status {
                code: StatusCode::INTERNAL_SERVER_ERROR,
                retry_after_seconds,
            },
        ),
        (
            "throttled",
            Fault::Throttled {
                retry_after_seconds,
            },
        ),
        (
            "subscription_throttled",
            Fault::SubscriptionThrottled {
                retry_after_seconds,
            },
        ),
        ("cut_before", lost(Effect::Never, Seen::Cut)),
        ("cut_after", lost(Effect::Now, Seen::Cut)),
        ("cut_and_late", lost(Effect::At(late), Seen::Cut)),
        (
            "gateway_timeout_after",
            lost(Effect::Now, Seen::GatewayTimeout),
        ),
        ("silence_after", lost(Effect::Now, Seen::Silence)),
    ];
    known(name, &faults)
}

fn set_arm_roles(scene: &Scene, roles: &[String]) -> Result<Value, String> {
    let (account, client) = (&scene.wishes.account, scene.client.object_id);
    let given = |role: &String| {
        let given = scene
            .azure
            .assign_arm_role(account, client, known(role, ARM_ROLES)?);
        given.map_err(|error| error.to_string())
    };
    let removed = scene.azure.remove_arm_roles(account, client);
    removed.map_err(|error| error.to_string())?;
    roles.iter().try_for_each(given)?;
    Ok(json!({ "ok": true }))
}

fn set_vault_roles(scene: &Scene, roles: &[String]) -> Result<Value, String> {
    let (vault, principal) = (&scene.wishes.vault, scene.client.object_id);
    let given = |role: &String| {
        let given = VaultRoleAssignment {
            principal,
            role: known(role, VAULT_ROLES)?,
            secret: None,
        };
        let given = scene.azure.assign_vault_role(vault, given);
        given.map_err(|error| error.to_string())
    };
    let removed = scene.azure.remove_vault_roles(vault, principal);
    removed.map_err(|error| error.to_string())?;
    roles.iter().try_for_each(given)?;
    Ok(json!({ "ok": true }))
}
